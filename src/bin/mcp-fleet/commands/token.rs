//! `mcp-fleet token`: fetches a token from an issuer.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use reqwest::Url;
use serde::Deserialize;

use crate::failure::Failure;

const PATIENCE: Duration = Duration::from_secs(10);

/// What token to fetch, and from where.
#[derive(Args)]
pub(crate) struct Token {
    /// The issuer's URL, as `serve` printed it.
    #[arg(long, value_name = "URL")]
    issuer: Url,
    /// The subject of the token.
    #[arg(long)]
    sub: String,
    /// The scopes, separated by spaces.
    #[arg(long, default_value = "")]
    scope: String,
    /// The audience.
    #[arg(long, default_value = "mcp-edge")]
    aud: String,
    /// How many seconds the token is valid. With a value below zero, the token has already expired.
    #[arg(long, default_value_t = 3_600, allow_negative_numbers = true)]
    ttl: i64,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
}

impl Token {
    /// Fetches the token and prints it.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut url = self.issuer.join("/token")?;
        url.query_pairs_mut()
            .append_pair("sub", &self.sub)
            .append_pair("scope", &self.scope)
            .append_pair("aud", &self.aud)
            .append_pair("ttl", &self.ttl.to_string());
        let request = http_client()?.post(url).timeout(PATIENCE);
        let answer = request.send().await?.error_for_status()?.bytes().await?;
        let Answer { access_token } = serde_json::from_slice(&answer)?;
        writeln!(io::stdout(), "{access_token}")?;
        Ok(())
    }
}

/// An HTTP client for the fleet's own addresses. It uses no proxy, because a proxy could not reach these addresses.
pub(crate) fn http_client() -> Result<reqwest::Client, Failure> {
    // An error only means that there is already a crypto provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().no_proxy().build()?)
}
