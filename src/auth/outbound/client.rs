//! The HTTP client for authentication servers and key sets.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, StatusCode};
use thiserror::Error;

use super::guard::{Guard, Refused};
use crate::config::{Outbound, limits};

/// Pooled, time-limited, without redirects and proxies, with a bound on what it reads and a guard of where it connects to.
/// All clones follow the same [`Outbound`].
#[derive(Clone, Debug)]
pub struct OutboundClient(Arc<ArcSwap<Guarded>>);

/// A pool of connections, all of which its guard has allowed.
#[derive(Debug)]
struct Guarded {
    client: reqwest::Client,
    guard: Guard,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer. The texts name no URL and no header, but the address that was refused.
#[derive(Debug, Error)]
pub(crate) enum OutboundError {
    #[error("the server did not answer in time")]
    Timeout,
    #[error("the server cannot be reached")]
    Unreachable,
    #[error("the server is not connected to: {0}")]
    Refused(#[from] Refused),
    #[error("the answer is larger than {} KiB", limits::AUTH_RESPONSE_BYTES >> 10)]
    TooLarge,
    #[error("the answer broke off")]
    BrokenOff,
}

impl OutboundClient {
    /// A client with an empty pool that may connect to what is allowed by default.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(Guarded::new(&Outbound::default())?))))
    }

    /// From now on only connects to what `outbound` allows. Connections to what another one allowed are not used again;
    /// requests that are under way on them end.
    ///
    /// # Errors
    /// TLS cannot be set up; nothing has changed.
    pub fn follow(&self, outbound: &Outbound) -> Result<(), reqwest::Error> {
        if self.0.load().guard.outbound() != outbound {
            self.0.store(Arc::new(Guarded::new(outbound)?));
        }
        Ok(())
    }

    /// One GET, all of it within `timeout`.
    pub(crate) async fn get(
        &self,
        url: &reqwest::Url,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<Answer, OutboundError> {
        bounded(self.client(url)?.get(url.clone()).headers(headers).timeout(timeout)).await
    }

    /// One POST of a form, all of it within `timeout`.
    pub(crate) async fn post(
        &self,
        url: &reqwest::Url,
        headers: HeaderMap,
        form: String,
        timeout: Duration,
    ) -> Result<Answer, OutboundError> {
        bounded(self.client(url)?.post(url.clone()).headers(headers).body(form).timeout(timeout)).await
    }

    /// A client that may be used for `url`: its guard sees the addresses of names, and here one in the place of a name.
    fn client(&self, url: &reqwest::Url) -> Result<reqwest::Client, Refused> {
        let guarded = self.0.load();
        guarded.guard.check(url)?;
        Ok(guarded.client.clone())
    }
}

impl Guarded {
    fn new(outbound: &Outbound) -> Result<Self, reqwest::Error> {
        let guard = Guard::new(outbound);
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .dns_resolver(guard.clone())
            .connect_timeout(limits::AUTH_TIMEOUT)
            .pool_idle_timeout(limits::OUTBOUND_IDLE)
            .user_agent(concat!("mcp-edge/", env!("CARGO_PKG_VERSION")));
        Ok(Self { client: client.build()?, guard })
    }
}

/// Sends `request` and reads what comes back, up to the bound.
async fn bounded(request: reqwest::RequestBuilder) -> Result<Answer, OutboundError> {
    let mut response = request.send().await.map_err(|error| match refused(&error) {
        Some(refused) => refused.into(),
        None if error.is_timeout() => OutboundError::Timeout,
        None => OutboundError::Unreachable,
    })?;
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

/// What the guard said, somewhere within what the client says.
fn refused(error: &reqwest::Error) -> Option<Refused> {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.filter_map(|cause| cause.downcast_ref::<Refused>()).next().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn only(network: &str) -> Outbound {
        Outbound { allow: Some(vec![network.parse().expect("a network")]), named: Vec::new() }
    }

    async fn get(client: &OutboundClient, url: &str) -> Result<u16, OutboundError> {
        let answer = client.get(&url.parse().expect("a URL"), HeaderMap::new(), limits::AUTH_TIMEOUT).await;
        answer.map(|answer| answer.status.as_u16())
    }

    /// Whatever URL leads to it, by name or by address, the server is asked while it is allowed and never else: neither by a
    /// new connection nor by one that is still open.
    #[tokio::test]
    async fn what_is_not_allowed_is_not_connected_to() {
        crate::auth::install_crypto();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, SeqCst);
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    let mut bytes = [0; 1 << 10];
                    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                        counter.fetch_add(1, SeqCst);
                        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                    }
                });
            }
        });
        let client = OutboundClient::new().expect("a client needs no network");
        let clone = client.clone();
        let home = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for host in ["127.0.0.1", "localhost", "127.1", "0x7f000001", "[::ffff:127.0.0.1]"] {
            let url = format!("http://{host}:{port}/");
            client.follow(&only("127.0.0.0/8")).expect("TLS is there");
            assert!(matches!(get(&clone, &url).await, Ok(204)), "{host}");
            let connected = seen.load(SeqCst);
            assert!(connected >= 2, "a connection and a request");
            client.follow(&only("192.0.2.0/24")).expect("TLS is there");
            let error = get(&clone, &url).await.expect_err("it may not be asked");
            let OutboundError::Refused(Refused::Outside(address)) = error else { panic!("{host}: {error}") };
            assert!(address.to_canonical() == home || host == "localhost", "{host}: {address}");
            assert_eq!(seen.load(SeqCst), connected, "{host}");
        }
    }

    /// No route leads there on most machines: without the guard these would be time-outs.
    #[tokio::test]
    async fn link_local_addresses_are_not_connected_to_by_default() {
        crate::auth::install_crypto();
        let client = OutboundClient::new().expect("a client needs no network");
        for host in ["169.254.169.254", "0xa9fea9fe", "[fe80::1]", "[::ffff:a9fe:a9fe]"] {
            let error = get(&client, &format!("http://{host}/latest/meta-data/")).await.expect_err("it is refused");
            assert!(matches!(error, OutboundError::Refused(Refused::LinkLocal(_))), "{host}: {error}");
            assert!(!error.to_string().contains("meta-data"), "{error}");
        }
    }
}
