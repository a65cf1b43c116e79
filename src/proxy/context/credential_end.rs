//! Ends an open stream when the credential of its caller is revoked or expires.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::auth::{Authenticator, Permit};
use crate::config::OpenStreams;
use crate::proxy::snapshot::RouteContext;
use crate::types::{Principal, unix_now};

/// Watches the credential behind one stream.
#[derive(Debug)]
pub(crate) struct CredentialEnd {
    authenticator: Authenticator,
    principal: Arc<Principal>,
    /// The generation of revocations that the credential was checked against.
    checked: u64,
    revocations: watch::Receiver<u64>,
    expires: Option<Instant>,
}

impl CredentialEnd {
    /// For a stream of a request that `permit` allows on `route`; its credential was checked against the revocations up to
    /// generation `checked`. `None` when nothing can end the stream.
    ///
    /// A stream that answers one request may outlive its credential. A stream without an end (`endless`), which clients open
    /// again by themselves, ends when its credential expires.
    pub(crate) fn of(permit: Option<&Permit>, checked: u64, route: &RouteContext, endless: bool) -> Option<Self> {
        route.settings.auth.as_ref().filter(|auth| auth.open_streams == OpenStreams::Close)?;
        let authenticator = route.authenticator.clone()?;
        let principal = Arc::clone(permit?.principal()?);
        let left = |end: u64| Instant::now() + Duration::from_secs(end.saturating_sub(unix_now()));
        let expires = principal.expires_at().filter(|_| endless).map(left);
        let revocations = authenticator.revocations().subscribe();
        Some(Self { authenticator, principal, checked, revocations, expires })
    }

    /// Waits until the stream has to end.
    pub(crate) async fn comes(&mut self) {
        loop {
            let now = *self.revocations.borrow_and_update();
            if self.authenticator.revocations().revoked_since(self.checked, &self.principal) {
                return;
            }
            self.checked = now;
            let expiry = async {
                match self.expires {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.revocations.changed() => if changed.is_err() {
                    // The token cache is gone: the process ends.
                    return;
                },
                () = expiry => return,
            }
        }
    }
}
