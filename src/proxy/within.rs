//! A time limit for work that is mostly done without waiting.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::error::Elapsed;

/// Runs `work` for at most `limit`. No timer is set when the work is done at the first poll.
///
/// # Errors
/// The work took longer.
pub(super) async fn within<F: Future>(limit: Duration, work: F) -> Result<F::Output, Elapsed> {
    let mut work = pin!(work);
    match at_once(work.as_mut()).await {
        Some(done) => Ok(done),
        None => tokio::time::timeout(limit, work).await,
    }
}

/// Polls `work` once, and gives its result if it is done. Otherwise `work` can be awaited afterwards.
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
    async fn only_work_that_waits_is_limited() {
        assert_eq!(within(Duration::ZERO, async { 1 }).await.ok(), Some(1));
        assert!(within(Duration::from_secs(1), std::future::pending::<()>()).await.is_err());
        let slow = tokio::time::sleep(Duration::from_millis(900));
        assert!(within(Duration::from_secs(1), slow).await.is_ok());
    }
}
