//! A token that an upstream is shown, and how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::endpoint::Issued;
use super::error::UpstreamTokenError;
use crate::config::limits;
use crate::types::{Principal, unix_now};

/// A token that can be shown.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// The whole value of the field, marked as sensitive.
    pub(super) value: HeaderValue,
    /// Whose own token it was exchanged for.
    owner: Option<Arc<Principal>>,
    asked_at: Instant,
    /// From then on it is replaced.
    renew_at: Instant,
    /// From then on it is not used, whatever happens.
    ends_at: Instant,
    /// The upstream has refused it.
    spent: Arc<AtomicBool>,
}

impl Token {
    /// `asked_at` is when the question was sent: its answer counts from there at the earliest.
    pub(super) fn new(
        value: HeaderValue,
        lifetime: Duration,
        owner: Option<&Arc<Principal>>,
        asked_at: Instant,
    ) -> Self {
        let margin = limits::UPSTREAM_TOKEN_MARGIN.min(lifetime / 5);
        let early = margin.mul_f64(1.0 + fastrand::f64() / 2.0);
        let (mut renew_at, mut ends_at) = (asked_at + (lifetime - early), asked_at + (lifetime - margin / 4));
        if let Some(end) = owner.and_then(|owner| owner.expires_at()) {
            // A new one would end then, too.
            let left = Duration::from_secs(end.saturating_sub(unix_now())).min(lifetime);
            (renew_at, ends_at) = (renew_at.min(asked_at + left), ends_at.min(asked_at + left));
        }
        Self { value, owner: owner.cloned(), asked_at, renew_at, ends_at, spent: Arc::default() }
    }

    /// The upstream has refused it: it is shown to no further request. A token of the edge itself is shown for many callers,
    /// of whom one may be the reason: it stays for a while.
    pub(super) fn spend(&self) {
        if self.owner.is_some() || self.asked_at.elapsed() >= limits::UPSTREAM_TOKEN_SPEND {
            self.spent.store(true, Ordering::Relaxed);
        }
    }

    /// True until it is to be replaced.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_good() && Instant::now() < self.renew_at
    }

    /// True as long as it may be shown.
    pub(super) fn is_good(&self) -> bool {
        !self.spent.load(Ordering::Relaxed) && Instant::now() < self.ends_at
    }

    /// Whose own token it was exchanged for; `None` when it is the edge's.
    pub(super) fn owner(&self) -> Option<&Principal> {
        self.owner.as_deref()
    }

    /// How long it may still be shown.
    pub(super) fn left(&self) -> Duration {
        self.ends_at.saturating_duration_since(Instant::now())
    }

    /// For those who have waited for it, and nobody else.
    pub(super) fn ended(self) -> Self {
        Self { ends_at: Instant::now(), ..self }
    }

    /// The same, to be replaced after `wait`.
    pub(super) fn renewed_after(self, wait: Duration) -> Self {
        Self { renew_at: Instant::now() + wait, ..self }
    }

    /// About how many bytes it takes. An owner has its subject and scopes several times over, and may be in no other cache.
    pub(super) fn bytes(&self) -> usize {
        let owner = self.owner.as_ref().map_or(0, |owner| {
            let audiences: usize =
                owner.grant().audiences().into_iter().flatten().map(|audience| audience.len() + 24).sum();
            4 * (owner.subject().len() + owner.grant().scopes_text().len()) + audiences
        });
        self.value.len() + owner
    }
}

/// `scheme` and a token as the value of a field.
pub(super) fn field(scheme: &str, token: &str) -> Option<HeaderValue> {
    let space = if scheme.is_empty() { "" } else { " " };
    let mut value = HeaderValue::try_from(format!("{scheme}{space}{token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Issued {
    /// Ready to be shown.
    pub(super) fn into_token(
        self,
        scheme: &str,
        owner: Option<&Arc<Principal>>,
        asked_at: Instant,
    ) -> Result<Token, UpstreamTokenError> {
        let value = field(scheme, &self.token);
        let value =
            value.ok_or(UpstreamTokenError::Unavailable("the token for the upstream fits in no header field"))?;
        Ok(Token::new(value, self.lifetime, owner, asked_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ScopeSet;

    #[test]
    fn times_of_a_token() {
        let now = Instant::now();
        let times = |lifetime: u64, token: Token| {
            let left = |at: Instant| at.saturating_duration_since(now).as_millis() as u64;
            assert!(left(token.renew_at) <= left(token.ends_at) && left(token.ends_at) < lifetime * 1000);
            (left(token.renew_at), left(token.ends_at))
        };
        let value = || HeaderValue::from_static("t");
        for _ in 0..100 {
            let (renew, end) = times(3600, Token::new(value(), Duration::from_secs(3600), None, now));
            assert!((3_570_000..=3_580_000).contains(&renew) && end == 3_595_000, "{renew} {end}");
            let (renew, end) = times(10, Token::new(value(), Duration::from_secs(10), None, now));
            assert!((7_000..=8_000).contains(&renew) && end == 9_500, "{renew} {end}");
        }
        let owned = |end| {
            let owner = Principal::new("alice", ScopeSet::default(), "corp".into(), Some(end)).expect("legal");
            Token::new(value(), Duration::from_secs(600), Some(&Arc::new(owner)), now)
        };
        // A caller's own end is the end, with nothing to be gained before it.
        let (renew, end) = times(600, owned(unix_now() + 100));
        assert!((90_000..=101_000).contains(&renew) && renew.abs_diff(end) < 2, "{renew} {end}");
        assert_eq!(times(600, owned(unix_now() - 5)).1 / 1000, 0, "within its leeway");
    }
}
