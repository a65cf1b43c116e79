//! Waits for what ends an event stream or a tunnel before its client or its upstream does.

use tokio::sync::watch;

use crate::proxy::context::credential_end::CredentialEnd;

/// Waits for what ends an answer that lasts: the end of the caller's credential, or a move of the session.
pub(super) async fn waits_for(end: Option<CredentialEnd>, moved: Option<watch::Receiver<bool>>) {
    let end = async {
        match end {
            Some(mut end) => end.comes().await,
            None => std::future::pending().await,
        }
    };
    let Some(mut moved) = moved else { return end.await };
    tokio::select! {
        () = end => {}
        _ = moved.wait_for(|is_over| *is_over) => {}
    }
}
