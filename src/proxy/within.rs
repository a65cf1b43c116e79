//! A limit on time for what is mostly done at once.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::error::Elapsed;

/// What `work` gives within `limit`. No timer is set for what is ready at the first look.
///
/// # Errors
/// It took longer.
pub(super) async fn within<F: Future>(limit: Duration, work: F) -> Result<F::Output, Elapsed> {
    let mut work = pin!(work);
    match at_once(work.as_mut()).await {
        Some(done) => Ok(done),
        None => tokio::time::timeout(limit, work).await,
    }
}

/// What `work` gives without waiting; else it can be waited for afterwards.
pub(super) async fn at_once<F: Future + Unpin>(mut work: F) -> Option<F::Output> {
    poll_fn(|cx| match std::pin::Pin::new(&mut work).poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_has_no_limit_and_what_is_not_has() {
        assert_eq!(within(Duration::ZERO, async { 1 }).await.ok(), Some(1));
        assert!(within(Duration::from_secs(1), std::future::pending::<()>()).await.is_err());
        let slow = tokio::time::sleep(Duration::from_millis(900));
        assert!(within(Duration::from_secs(1), slow).await.is_ok());
    }
}
