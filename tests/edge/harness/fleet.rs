//! The fleet of real MCP servers, as a separate process.

use std::net::SocketAddr;
use std::process::Stdio;

use serde::Deserialize;
use std::collections::BTreeMap;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::PATIENCE;

/// A running `mcp-fleet serve`. The process ends when this value is dropped, because its standard input is then closed.
pub struct Fleet {
    pub servers: BTreeMap<String, Vec<SocketAddr>>,
    pub issuer: String,
    pub switch: String,
    _child: Child,
    _stdin: ChildStdin,
}

#[derive(Deserialize)]
struct Announced {
    servers: BTreeMap<String, Vec<SocketAddr>>,
    issuer: String,
    switch: String,
}

impl Fleet {
    /// Starts one replica for each name in `servers`. A name that is repeated gets several replicas.
    pub async fn start(servers: &[&str]) -> Self {
        // The HTTP client of the tests uses the same TLS as the edge.
        mcp_edge::auth::install_crypto();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-fleet"));
        command.args(["serve", "--issuer", "127.0.0.1:0", "--switch", "127.0.0.1:0", "--until-stdin-closes"]);
        for server in servers {
            command.args(["--server", &format!("{server}=127.0.0.1:0")]);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the fleet starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("the fleet is ready in time");
        let line = line.expect("its output is UTF-8").expect("the fleet prints its addresses");
        let announced: Announced = serde_json::from_str(&line).expect("one line of JSON");
        let stdin = child.stdin.take().expect("it is piped");
        Self {
            servers: announced.servers,
            issuer: announced.issuer,
            switch: announced.switch,
            _child: child,
            _stdin: stdin,
        }
    }

    /// The `{address: ...}` items for all replicas of a server, for a configuration.
    pub fn endpoints(&self, server: &str) -> String {
        let items = self.servers[server].iter().map(|address| format!("{{address: '{address}'}}"));
        items.collect::<Vec<_>>().join(", ")
    }

    /// Puts a replica, such as `fininfo-0`, into a mode: `ok`, `slow`, `failing`, `dead`.
    pub async fn switch(&self, replica: &str, mode: &str) {
        let response = reqwest::Client::new().post(format!("{}/{replica}/{mode}", self.switch)).send().await;
        assert!(response.expect("the switch page answers").status().is_success(), "{replica} to {mode}");
    }

    /// A token of the fleet's own issuer.
    pub async fn token(&self, subject: &str, scopes: &str) -> String {
        let url = reqwest::Url::parse_with_params(
            &format!("{}/token", self.issuer),
            [("sub", subject), ("scope", scopes), ("aud", "mcp-edge")],
        );
        let answer = reqwest::Client::new().get(url.expect("a URL")).send().await.expect("the issuer answers");
        let answer = answer.text().await.expect("a body");
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    /// The provider `fleet` of a configuration.
    pub fn provider(&self) -> String {
        let issuer = &self.issuer;
        format!(
            "fleet: {{jwt: {{issuer: '{issuer}', audiences: [mcp-edge], algorithms: [ES256], jwks: {{url: '{issuer}/jwks'}}}}}}"
        )
    }
}
