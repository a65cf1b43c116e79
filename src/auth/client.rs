//! The HTTP client for authentication servers and key sets.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use thiserror::Error;

use crate::config::limits;

/// Pooled, time-limited, without redirects and proxies, and with a bound on what it reads.
#[derive(Clone, Debug)]
pub struct OutboundClient(reqwest::Client);

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer. The texts name no URL and no header.
#[derive(Debug, Error)]
pub(super) enum OutboundError {
    #[error("the server did not answer in time")]
    Timeout,
    #[error("the server cannot be reached")]
    Unreachable,
    #[error("the answer is larger than {} KiB", limits::AUTH_RESPONSE_BYTES >> 10)]
    TooLarge,
    #[error("the answer broke off")]
    BrokenOff,
}

impl OutboundClient {
    /// A client with an empty pool.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(limits::AUTH_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(4))
            .user_agent(concat!("mcp-edge/", env!("CARGO_PKG_VERSION")));
        client.build().map(Self)
    }

    /// One GET, all of it within `timeout`.
    pub(super) async fn get(
        &self,
        url: &reqwest::Url,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<Answer, OutboundError> {
        bounded(self.0.get(url.clone()).headers(headers).timeout(timeout)).await
    }

    /// One POST of a form, all of it within `timeout`.
    pub(super) async fn post(
        &self,
        url: &reqwest::Url,
        headers: HeaderMap,
        form: String,
        timeout: Duration,
    ) -> Result<Answer, OutboundError> {
        bounded(self.0.post(url.clone()).headers(headers).body(form).timeout(timeout)).await
    }
}

/// Sends `request` and reads what comes back, up to the bound.
async fn bounded(request: reqwest::RequestBuilder) -> Result<Answer, OutboundError> {
    let mut response = request
        .send()
        .await
        .map_err(|error| if error.is_timeout() { OutboundError::Timeout } else { OutboundError::Unreachable })?;
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(Answer { status, headers, body }),
            Ok(Some(chunk)) if body.len() + chunk.len() <= limits::AUTH_RESPONSE_BYTES => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => return Err(OutboundError::TooLarge),
            Err(error) if error.is_timeout() => return Err(OutboundError::Timeout),
            Err(_) => return Err(OutboundError::BrokenOff),
        }
    }
}
