//! When an open stream has to end although neither side wants to: its caller's credential was revoked, or has ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::RequestContext;
use crate::auth::Authenticator;
use crate::config::OpenStreams;
use crate::proxy::snapshot::RouteContext;
use crate::types::{Principal, unix_now};
use crate::upstream::Connection;

/// Watches over the credential behind one stream.
#[derive(Debug)]
pub(crate) struct Ending {
    authenticator: Authenticator,
    principal: Arc<Principal>,
    /// The revocations that the credential was checked against.
    checked: u64,
    revocations: watch::Receiver<u64>,
    expires: Option<Instant>,
}

impl Ending {
    /// For a stream of this request. A stream that is the answer to one question may outlive its credential: only
    /// `endless` ones, which clients open again by themselves, end with it. `None` where nothing can end it.
    pub(crate) fn of(context: &RequestContext, route: &RouteContext, endless: bool) -> Option<Self> {
        route.settings.auth.as_ref().filter(|auth| auth.open_streams == OpenStreams::Close)?;
        let authenticator = route.authenticator.clone()?;
        let principal = Arc::clone(context.permit.as_ref()?.principal()?);
        let left = |end: u64| Instant::now() + Duration::from_secs(end.saturating_sub(unix_now()));
        let expires = principal.expires_at().filter(|_| endless).map(left);
        let revocations = authenticator.revocations().subscribe();
        Some(Self { authenticator, principal, checked: context.revocations_checked, revocations, expires })
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
                    // The cache is gone, and the process with it.
                    return;
                },
                () = expiry => return,
            }
        }
    }

    /// Ends `connection` when the time has come, unless the guard is dropped before: for streams that Pingora passes on.
    pub(crate) fn guard(mut self, connection: std::sync::Weak<Connection>) -> EndingGuard {
        let task = tokio::spawn(async move {
            self.comes().await;
            if let Some(connection) = connection.upgrade() {
                connection.abort();
            }
        });
        EndingGuard(task.abort_handle())
    }
}

/// Watches until it is dropped.
#[derive(Debug)]
pub(crate) struct EndingGuard(AbortHandle);

impl Drop for EndingGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}
