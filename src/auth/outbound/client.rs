//! The HTTP client for requests to authentication servers, token endpoints and key sets.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, StatusCode};
use thiserror::Error;

use super::guard::{Guard, Refused};
use crate::config::{Outbound, limits};

/// An HTTP client with a pool of connections. It limits the time of a request and the size of an answer, and connects
/// only to addresses that its guard allows. It follows no redirects and uses no proxy. All clones follow the same
/// [`Outbound`].
#[derive(Clone, Debug)]
pub struct OutboundClient(Arc<ArcSwap<Guarded>>);

/// A pool of connections, and the guard that has allowed them.
#[derive(Debug)]
struct Guarded {
    client: reqwest::Client,
    guard: Guard,
}

/// The answer of a server.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer. The texts contain no URL and no header. An address is named only if it is not allowed.
#[derive(Debug, Error)]
pub(crate) enum OutboundError {
    #[error("the server did not answer in time")]
    Timeout,
    #[error("the server cannot be reached")]
    Unreachable,
    #[error("the edge does not connect to the server: {0}")]
    Refused(#[from] Refused),
    #[error("the answer is larger than {} KiB", limits::AUTH_RESPONSE_BYTES >> 10)]
    TooLarge,
    #[error("the answer broke off")]
    BrokenOff,
}

impl OutboundClient {
    /// A client with an empty pool that may connect to the addresses that are allowed by default.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(Guarded::new(&Outbound::default())?))))
    }

    /// From now on, connects only to addresses that `outbound` allows. If `outbound` has changed, connections from
    /// before are not used for new requests. Requests that are already running on them continue.
    ///
    /// # Errors
    /// TLS cannot be set up. The client then works as before.
    pub fn follow(&self, outbound: &Outbound) -> Result<(), reqwest::Error> {
        if self.0.load().guard.outbound() != outbound {
            self.0.store(Arc::new(Guarded::new(outbound)?));
        }
        Ok(())
    }

    /// Sends one GET request. `timeout` includes reading the answer.
    pub(crate) async fn get(
        &self,
        url: &reqwest::Url,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<Answer, OutboundError> {
        bounded(self.client(url)?.get(url.clone()).headers(headers).timeout(timeout)).await
    }

    /// Sends one POST request with a form. `timeout` includes reading the answer.
    pub(crate) async fn post(
        &self,
        url: &reqwest::Url,
        headers: HeaderMap,
        form: String,
        timeout: Duration,
    ) -> Result<Answer, OutboundError> {
        bounded(self.client(url)?.post(url.clone()).headers(headers).body(form).timeout(timeout)).await
    }

    /// The HTTP client for a request to `url`. Its guard checks addresses when it resolves a name. An address in the
    /// URL is never resolved, so it is checked here.
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

/// Sends `request` and reads the answer, up to [`limits::AUTH_RESPONSE_BYTES`].
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

/// The guard's error, if it is among the causes of `error`.
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

    /// A server is reached only while its address is allowed, however the URL writes its host. Otherwise the client
    /// neither opens a connection nor uses one that is still open.
    #[tokio::test]
    async fn addresses_that_are_not_allowed_are_not_connected_to() {
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
            client.follow(&only("127.0.0.0/8")).expect("TLS can be set up");
            assert!(matches!(get(&clone, &url).await, Ok(204)), "{host}");
            let connected = seen.load(SeqCst);
            assert!(connected >= 2, "a connection and a request");
            client.follow(&only("192.0.2.0/24")).expect("TLS can be set up");
            let error = get(&clone, &url).await.expect_err("the address is not allowed");
            let OutboundError::Refused(Refused::Outside(address)) = error else { panic!("{host}: {error}") };
            assert!(address.to_canonical() == home || host == "localhost", "{host}: {address}");
            assert_eq!(seen.load(SeqCst), connected, "{host}");
        }
    }

    /// Most machines have no route to these addresses: without the guard, the requests would time out.
    #[tokio::test]
    async fn link_local_addresses_are_not_connected_to_by_default() {
        crate::auth::install_crypto();
        let client = OutboundClient::new().expect("a client needs no network");
        for host in ["169.254.169.254", "0xa9fea9fe", "[fe80::1]", "[::ffff:a9fe:a9fe]"] {
            let error = get(&client, &format!("http://{host}/latest/meta-data/"))
                .await
                .expect_err("the address is not allowed");
            assert!(matches!(error, OutboundError::Refused(Refused::LinkLocal(_))), "{host}: {error}");
            assert!(!error.to_string().contains("meta-data"), "{error}");
        }
    }
}
