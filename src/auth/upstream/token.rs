//! A token for an upstream, and how long it may be used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::endpoint::Issued;
use super::error::UpstreamTokenError;
use crate::config::limits;
use crate::types::{Principal, unix_now};

/// A token that can be sent to an upstream.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// The whole value of the header field, marked as sensitive.
    pub(super) value: HeaderValue,
    /// The caller whose own token was exchanged for this one. `None` for a token of the edge itself.
    owner: Option<Arc<Principal>>,
    requested_at: Instant,
    /// From this moment on, a request that needs the token renews it first.
    renew_at: Instant,
    /// From this moment on, the token is never used.
    ends_at: Instant,
    /// True when the upstream has refused the token.
    spent: Arc<AtomicBool>,
}

impl Token {
    /// `requested_at` is when the token request was sent. The lifetime counts from then, because the server cannot have
    /// issued the token earlier.
    pub(super) fn new(
        value: HeaderValue,
        lifetime: Duration,
        owner: Option<&Arc<Principal>>,
        requested_at: Instant,
    ) -> Self {
        let margin = limits::UPSTREAM_TOKEN_MARGIN.min(lifetime / 5);
        let early = margin.mul_f64(1.0 + fastrand::f64() / 2.0);
        let (mut renew_at, mut ends_at) = (requested_at + (lifetime - early), requested_at + (lifetime - margin / 4));
        if let Some(end) = owner.and_then(|owner| owner.expires_at()) {
            // The token ends with the caller's credential. To renew it earlier gains nothing: a new token would end at
            // the same time.
            let left = Duration::from_secs(end.saturating_sub(unix_now())).min(lifetime);
            (renew_at, ends_at) = (renew_at.min(requested_at + left), ends_at.min(requested_at + left));
        }
        Self { value, owner: owner.cloned(), requested_at, renew_at, ends_at, spent: Arc::default() }
    }

    /// Must be called when the upstream has refused the token, so that no further request uses it. A token of the edge
    /// itself serves many callers, and one of them may be the reason for the refusal. So a refusal is ignored until
    /// such a token is [`limits::UPSTREAM_TOKEN_SPEND`] old.
    pub(super) fn spend(&self) {
        if self.owner.is_some() || self.requested_at.elapsed() >= limits::UPSTREAM_TOKEN_SPEND {
            self.spent.store(true, Ordering::Relaxed);
        }
    }

    /// True while the token may be used and need not be renewed.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_good() && Instant::now() < self.renew_at
    }

    /// True while the token may be used.
    pub(super) fn is_good(&self) -> bool {
        !self.spent.load(Ordering::Relaxed) && Instant::now() < self.ends_at
    }

    /// The caller whose own token was exchanged for this one. `None` for a token of the edge itself.
    pub(super) fn owner(&self) -> Option<&Principal> {
        self.owner.as_deref()
    }

    /// How much longer the token may be used.
    pub(super) fn left(&self) -> Duration {
        self.ends_at.saturating_duration_since(Instant::now())
    }

    /// The same token, but already ended: only the requests that are waiting for it now use it.
    pub(super) fn ended(self) -> Self {
        Self { ends_at: Instant::now(), ..self }
    }

    /// The same token, to be renewed after `wait`.
    pub(super) fn renewed_after(self, wait: Duration) -> Self {
        Self { renew_at: Instant::now() + wait, ..self }
    }

    /// About how many bytes of memory the token takes. The owner is included, because it may be in no other cache. It
    /// stores its subject and scopes several times.
    pub(super) fn bytes(&self) -> usize {
        let owner = self.owner.as_ref().map_or(0, |owner| {
            let audiences: usize =
                owner.grant().audiences().into_iter().flatten().map(|audience| audience.len() + 24).sum();
            4 * (owner.subject().len() + owner.grant().scopes_text().len()) + audiences
        });
        self.value.len() + owner
    }
}

/// The value of a header field with `scheme` and `token`.
pub(super) fn field(scheme: &str, token: &str) -> Option<HeaderValue> {
    let space = if scheme.is_empty() { "" } else { " " };
    let mut value = HeaderValue::try_from(format!("{scheme}{space}{token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Issued {
    /// The same token, in the form in which it is sent to the upstream.
    pub(super) fn into_token(
        self,
        scheme: &str,
        owner: Option<&Arc<Principal>>,
        requested_at: Instant,
    ) -> Result<Token, UpstreamTokenError> {
        let value = field(scheme, &self.token);
        let value = value
            .ok_or(UpstreamTokenError::Unavailable("the token for the upstream cannot be written as a header field"))?;
        Ok(Token::new(value, self.lifetime, owner, requested_at))
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
        // The token ends with the caller's credential, and is not renewed before.
        let (renew, end) = times(600, owned(unix_now() + 100));
        assert!((90_000..=101_000).contains(&renew) && renew.abs_diff(end) < 2, "{renew} {end}");
        assert_eq!(times(600, owned(unix_now() - 5)).1 / 1000, 0, "the credential has ended");
    }
}
