//! The time limits of one answer while it passes.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::limits;
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::Call;
use crate::proxy::snapshot::RouteContext;

/// Silence, the deadline of a tool, and when a silent stream wants a comment.
#[derive(Debug)]
pub(crate) struct Clock {
    /// When the call began, or last told of progress.
    begun: Instant,
    /// When the last piece came.
    last: Instant,
    /// When a comment was last due.
    commented: Instant,
    deadline: Option<Duration>,
    idle: Duration,
    comment: Option<Duration>,
    /// When nobody was left to read the answer.
    abandoned: Option<Instant>,
}

impl Clock {
    /// From now on, for the answer to `call`; only event streams get comments.
    pub(crate) fn start(context: &RequestContext, route: &RouteContext, call: &Call, is_stream: bool) -> Self {
        let now = Instant::now();
        let idle = route.settings.idle.unwrap_or(route.upstream.settings().timeouts.idle.0);
        Self {
            begun: context.started.into(),
            last: now,
            commented: now,
            deadline: call.deadline,
            // A tool that may take long may also be silent for as long.
            idle: call.deadline.map_or(idle, |deadline| idle.max(deadline)),
            comment: route.settings.sse_keepalive.filter(|_| is_stream),
            abandoned: None,
        }
    }

    /// A piece has come, maybe with word of progress, and maybe nobody reads it any more.
    pub(crate) fn piece(&mut self, progressed: bool, abandoned: bool) {
        self.last = Instant::now();
        if abandoned {
            self.abandoned.get_or_insert(self.last);
        }
        if progressed {
            self.begun = self.last;
        }
    }

    /// True when the answer has taken too long at the time of the last piece: an upstream that never pauses leaves no
    /// other moment to ask.
    pub(crate) fn is_overdue(&self, grace: Duration) -> bool {
        self.is_late(self.last, grace)
    }

    /// True when it has taken longer than it may, and `grace`: it took too long, was silent for too long, or goes on for
    /// nobody.
    pub(crate) fn is_late(&self, now: Instant, grace: Duration) -> bool {
        let now = now - grace;
        now >= self.last + self.idle
            || self.deadline.is_some_and(|deadline| now >= self.begun + deadline)
            || self.abandoned.is_some_and(|at| now >= at + limits::ABANDONED_TIME)
    }

    /// True when a comment is due; the next one is due a whole period later.
    pub(crate) fn wants_comment(&mut self, now: Instant) -> bool {
        let wanted = self.comment.is_some_and(|comment| now >= self.last.max(self.commented) + comment);
        if wanted {
            self.commented = now;
        }
        wanted
    }

    /// When to look again, if the answer has `grace`.
    pub(crate) fn next(&self, grace: Duration) -> Instant {
        let ends = self.deadline.map(|deadline| self.begun + deadline + grace);
        let comment = self.comment.map(|comment| self.last.max(self.commented) + comment);
        [ends, comment].into_iter().flatten().fold(self.last + self.idle + grace, Instant::min)
    }
}
