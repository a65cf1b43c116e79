//! A timer for deadlines that are set for every request and hardly ever reached.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// The timer of the runtime is set again only when it goes off, or for an earlier deadline. A connection that serves a
/// thousand requests in a minute sets it once or twice.
#[derive(Debug)]
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    /// Set for `deadline`.
    pub(crate) fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(deadline)) }
    }

    /// Ready at `deadline`, which may change from call to call.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if self.sleep.deadline() > deadline {
            self.sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.sleep.deadline() >= deadline || Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn wait(alarm: &mut Alarm, deadline: Instant) {
        std::future::poll_fn(|cx| alarm.poll(cx, deadline)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_at_each_deadline_whatever_the_earlier_ones_were() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut alarm = Alarm::new(at(10));
        for deadline in [5, 30, 31, 31, 90, 60] {
            let expected = at(deadline).max(Instant::now());
            wait(&mut alarm, at(deadline)).await;
            assert_eq!(Instant::now(), expected, "{deadline}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_was_given_up_does_not_make_the_next_one_early() {
        let begun = Instant::now();
        let mut alarm = Alarm::new(begun + Duration::from_secs(1));
        let early = tokio::time::timeout(Duration::from_millis(500), wait(&mut alarm, begun + Duration::from_secs(3)));
        assert!(early.await.is_err());
        wait(&mut alarm, begun + Duration::from_secs(3)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
    }
}
