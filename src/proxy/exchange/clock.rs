//! The time limits of one answer while it is passed on.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::limits;
use crate::proxy::snapshot::ServerContext;

/// The limit on silence, the deadline of a tool, and the time for a comment on a silent stream.
#[derive(Debug)]
pub(crate) struct Clock {
    /// When the call began, or when its last progress notification came.
    begun: Instant,
    /// When the last piece came.
    last: Instant,
    /// When the last comment was due.
    commented: Instant,
    deadline: Option<Duration>,
    idle: Duration,
    comment: Option<Duration>,
    /// When the client left, so that nobody reads the answer.
    abandoned: Option<Instant>,
    /// Since when the client is waited for: that is not the time of the upstream, so the deadline does not count.
    paused: Option<Instant>,
}

impl Clock {
    /// Starts now, for the answer to a request that began at `started`. `deadline`: the longest time that its tool may take.
    /// Only event streams get comments.
    pub(crate) fn start(
        started: std::time::Instant,
        route: &ServerContext,
        deadline: Option<Duration>,
        is_stream: bool,
    ) -> Self {
        let now = Instant::now();
        let idle = route.settings.idle.unwrap_or(route.upstream.settings().timeouts.idle.0);
        Self {
            begun: started.into(),
            last: now,
            commented: now,
            deadline,
            // A tool that may take long may be silent for as long.
            idle: deadline.map_or(idle, |deadline| idle.max(deadline)),
            comment: route.settings.sse_keepalive.filter(|_| is_stream),
            abandoned: None,
            paused: None,
        }
    }

    /// A piece has come. `progressed`: it contained a progress notification. `abandoned`: nobody reads the answer.
    pub(crate) fn piece(&mut self, progressed: bool, abandoned: bool) {
        self.last = Instant::now();
        if abandoned {
            self.abandoned.get_or_insert(self.last);
        }
        if progressed {
            self.begun = self.last;
        }
    }

    /// The client has to read before anything else happens.
    pub(crate) fn waits_for_client(&mut self) {
        self.paused = self.deadline.map(|_| Instant::now());
    }

    /// The client has read.
    pub(crate) fn goes_on(&mut self) {
        if let Some(since) = self.paused.take() {
            self.begun += since.elapsed();
        }
    }

    /// The deadline, unless the client is waited for.
    fn deadline(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.paused.is_none()).map(|deadline| self.begun + deadline)
    }

    /// The client has sent a piece of its request at `last`: the exchange is not idle.
    pub(crate) fn uploaded(&mut self, last: Instant) {
        self.last = self.last.max(last);
    }

    /// True when the answer had taken too long when its last piece came. An upstream that never pauses leaves no other moment
    /// to check that.
    pub(crate) fn is_overdue(&self, grace: Duration) -> bool {
        self.is_late(self.last, grace)
    }

    /// True when the answer is later than allowed, by more than `grace`: it took too long, was silent for too long, or went on
    /// for too long after its client had left.
    pub(crate) fn is_late(&self, now: Instant, grace: Duration) -> bool {
        let now = now - grace;
        now >= self.last + self.idle
            || self.deadline().is_some_and(|deadline| now >= deadline)
            || self.abandoned.is_some_and(|at| now >= at + limits::ABANDONED_TIME)
    }

    /// True when a comment is due. The next one is due a whole period later.
    pub(crate) fn wants_comment(&mut self, now: Instant) -> bool {
        let wanted = self.comment.is_some_and(|comment| now >= self.last.max(self.commented) + comment);
        if wanted {
            self.commented = now;
        }
        wanted
    }

    /// The next moment at which something may be due, if the answer has `grace`.
    pub(crate) fn next(&self, grace: Duration) -> Instant {
        let ends = self.deadline().map(|deadline| deadline + grace);
        let comment = self.comment.map(|comment| self.last.max(self.commented) + comment);
        [ends, comment].into_iter().flatten().fold(self.last + self.idle + grace, Instant::min)
    }
}
