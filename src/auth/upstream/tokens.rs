//! The cache of tokens for upstreams. Its keys are keyed hashes of the route's credential and the caller's token.
//! Recent refusals are cached separately.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use ring::hmac;
use ring::rand::SystemRandom;

use super::error::UpstreamTokenError;
use super::token::Token;
use crate::auth::revocation::Revocation;
use crate::config::limits;

/// The key of a cache entry: a hash that is keyed with a secret of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct UpstreamTokenKey([u8; 32]);

/// All tokens for upstreams. There is one instance per process. It survives reloads, because its keys contain the
/// number of the [`UpstreamCredential`](super::UpstreamCredential) instance.
#[derive(Debug)]
pub struct UpstreamTokens {
    hash_key: hmac::Key,
    tokens: Cache<UpstreamTokenKey, Outcome>,
    refusals: Cache<UpstreamTokenKey, UpstreamTokenError>,
    purges: AtomicU64,
}

/// The outcome of a token request. A failure is only for the requests that waited for it.
#[derive(Clone, Debug)]
enum Outcome {
    Token(Token),
    Failed(UpstreamTokenError),
}

impl Outcome {
    /// About how many bytes of memory the outcome takes.
    fn weight(&self) -> u32 {
        const ENTRY: usize = 512;
        let Self::Token(token) = self else { return ENTRY as u32 };
        u32::try_from(ENTRY + token.bytes()).unwrap_or(u32::MAX)
    }
}

/// Each entry has its own lifetime.
struct OwnLifetime;

impl OwnLifetime {
    fn of(outcome: &Outcome) -> Option<Duration> {
        Some(match outcome {
            Outcome::Token(token) => token.left(),
            Outcome::Failed(_) => Duration::ZERO,
        })
    }
}

impl Expiry<UpstreamTokenKey, Outcome> for OwnLifetime {
    fn expire_after_create(&self, _: &UpstreamTokenKey, outcome: &Outcome, _: Instant) -> Option<Duration> {
        Self::of(outcome)
    }

    fn expire_after_update(
        &self,
        _: &UpstreamTokenKey,
        outcome: &Outcome,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Self::of(outcome)
    }
}

impl UpstreamTokens {
    /// An empty cache.
    ///
    /// # Panics
    /// The operating system gives no random numbers.
    pub fn new() -> Self {
        let hash_key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self {
            hash_key: hash_key.expect("the operating system gives random numbers"),
            tokens: Cache::builder()
                .max_capacity(limits::UPSTREAM_TOKENS)
                .weigher(|_, outcome: &Outcome| outcome.weight())
                .expire_after(OwnLifetime)
                .build(),
            refusals: Cache::builder()
                .max_capacity(limits::NEGATIVE_ENTRIES)
                .time_to_live(limits::NEGATIVE_TTL)
                .build(),
            purges: AtomicU64::new(0),
        }
    }

    /// The key of a token of the credential `instance`. `caller` is the digest of the caller's token; `None` for a
    /// token of the edge itself.
    pub(super) fn key(&self, instance: u64, caller: Option<&[u8; 32]>) -> UpstreamTokenKey {
        let mut context = hmac::Context::with_key(&self.hash_key);
        context.update(&instance.to_le_bytes());
        context.update(caller.map_or(&[], |digest| digest.as_slice()));
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        UpstreamTokenKey(key)
    }

    /// The token for `key`, from the cache or from `fetch`. When several requests need the same token at the same time,
    /// `fetch` runs once for all of them. A token near its end is renewed first. If an outage prevents that, the old
    /// token is used until shortly before its end.
    ///
    /// # Errors
    /// The error of `fetch`. Refusals are cached for a short time, outages never.
    pub(super) async fn get<F>(
        &self,
        key: UpstreamTokenKey,
        fetch: impl FnOnce() -> F + Send,
    ) -> Result<Token, UpstreamTokenError>
    where
        F: Future<Output = Result<Token, UpstreamTokenError>> + Send,
    {
        let known = match self.tokens.get(&key).await {
            Some(Outcome::Token(token)) if token.is_fresh() => return Ok(token),
            Some(Outcome::Token(token)) => Some(token),
            Some(Outcome::Failed(_)) | None => None,
        };
        // Boxed, because this future is large and rarely needed. Without the box, the future of every request would
        // have to contain it.
        Box::pin(self.renew(key, known, fetch)).await
    }

    async fn renew<F>(
        &self,
        key: UpstreamTokenKey,
        known: Option<Token>,
        fetch: impl FnOnce() -> F + Send,
    ) -> Result<Token, UpstreamTokenError>
    where
        F: Future<Output = Result<Token, UpstreamTokenError>> + Send,
    {
        if let Some(error) = self.refusals.get(&key).await {
            return Err(error);
        }
        let request = async {
            let purges = self.purges.load(Ordering::SeqCst);
            match fetch().await {
                // A token that was requested before a purge is not kept.
                Ok(token) if self.purges.load(Ordering::SeqCst) != purges => Outcome::Token(token.ended()),
                Ok(token) => Outcome::Token(token),
                Err(error @ UpstreamTokenError::Unavailable(_)) => match known {
                    Some(known) if known.is_good() && self.purges.load(Ordering::SeqCst) == purges => {
                        Outcome::Token(known.renewed_after(limits::UPSTREAM_TOKEN_RETRY))
                    }
                    _ => Outcome::Failed(error),
                },
                Err(error @ UpstreamTokenError::Refused(_)) => {
                    self.refusals.insert(key, error).await;
                    Outcome::Failed(error)
                }
            }
        };
        let is_old = |outcome: &Outcome| !matches!(outcome, Outcome::Token(token) if token.is_fresh());
        match self.tokens.entry(key).or_insert_with_if(request, is_old).await.into_value() {
            Outcome::Token(token) => Ok(token),
            Outcome::Failed(error) => Err(error),
        }
    }

    /// Removes the tokens that were exchanged for credentials that `revocation` covers. [`Revocation::All`] also
    /// removes the tokens of the edge itself and the cached refusals.
    pub async fn purge(&self, revocation: &Revocation) {
        self.purges.fetch_add(1, Ordering::SeqCst);
        for (key, outcome) in &self.tokens {
            let Outcome::Token(token) = &outcome else { continue };
            let is_revoked = match token.owner() {
                Some(owner) => revocation.matches(owner),
                None => *revocation == Revocation::All,
            };
            if is_revoked {
                self.tokens.invalidate(key.as_ref()).await;
            }
        }
        if *revocation == Revocation::All {
            self.refusals.invalidate_all();
        }
    }
}

impl Default for UpstreamTokens {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Principal, ScopeSet};
    use http::HeaderValue;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::Notify;

    const REFUSED: UpstreamTokenError = UpstreamTokenError::Refused("no");
    const DOWN: UpstreamTokenError = UpstreamTokenError::Unavailable("down");

    fn token(text: &'static str) -> Token {
        Token::new(HeaderValue::from_static(text), Duration::from_secs(600), None, Instant::now())
    }

    fn owned(text: &'static str, subject: &str) -> Token {
        let owner = Principal::new(subject, ScopeSet::default(), "corp".into(), None).expect("legal");
        Token::new(HeaderValue::from_static(text), Duration::from_secs(600), Some(&Arc::new(owner)), Instant::now())
    }

    async fn get(
        tokens: &UpstreamTokens,
        key: UpstreamTokenKey,
        answer: Result<Token, UpstreamTokenError>,
    ) -> Result<HeaderValue, UpstreamTokenError> {
        tokens.get(key, async || answer).await.map(|token| token.value)
    }

    #[test]
    fn keys_differ_in_every_part() {
        let tokens = UpstreamTokens::new();
        let key = tokens.key(1, Some(&[1; 32]));
        assert_eq!(key, tokens.key(1, Some(&[1; 32])));
        for other in [tokens.key(2, Some(&[1; 32])), tokens.key(1, Some(&[2; 32])), tokens.key(1, None)] {
            assert_ne!(key, other);
        }
        assert_ne!(key, UpstreamTokens::new().key(1, Some(&[1; 32])), "each process has its own secret");
    }

    #[tokio::test]
    async fn a_thousand_requests_fetch_once_and_a_cancelled_leader_fails_no_other_request() {
        let tokens = Arc::new(UpstreamTokens::new());
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (tokens, runs, gate) = (Arc::clone(&tokens), Arc::clone(&runs), Arc::clone(&gate));
            tokio::spawn(async move {
                let fetch = async || {
                    runs.fetch_add(1, Ordering::SeqCst);
                    gate.notified().await;
                    Ok(token("t"))
                };
                tokens.get(tokens.key(1, None), fetch).await
            })
        };
        let leader = ask();
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let waiters: Vec<_> = (0..1000).map(|_| ask()).collect();
        leader.abort();
        while runs.load(Ordering::SeqCst) == 1 {
            tokio::task::yield_now().await;
        }
        gate.notify_one();
        for waiter in waiters {
            assert_eq!(waiter.await.expect("no panic").expect("a token").value, "t");
        }
        assert_eq!(runs.load(Ordering::SeqCst), 2, "the cancelled request, and one that took over");
    }

    #[tokio::test]
    async fn refusals_are_cached_and_outages_are_not() {
        let tokens = UpstreamTokens::new();
        let key = |instance| tokens.key(instance, None);
        for error in [DOWN, DOWN] {
            assert_eq!(get(&tokens, key(1), Err(error)).await, Err(DOWN));
        }
        assert_eq!(get(&tokens, key(1), Ok(token("t"))).await, Ok(HeaderValue::from_static("t")));
        assert_eq!(get(&tokens, key(1), Err(DOWN)).await, Ok(HeaderValue::from_static("t")), "it is cached");
        assert_eq!(get(&tokens, key(2), Err(REFUSED)).await, Err(REFUSED));
        assert_eq!(get(&tokens, key(2), Ok(token("t"))).await, Err(REFUSED), "it is cached");
    }

    /// A token near its end is renewed. During an outage the old token stays in use, after a refusal it does not.
    #[tokio::test]
    async fn a_token_near_its_end() {
        let tokens = UpstreamTokens::new();
        let key = tokens.key(1, None);
        let old = || token("old").renewed_after(Duration::ZERO);
        let value = HeaderValue::from_static;
        assert_eq!(get(&tokens, key, Ok(old())).await, Ok(value("old")));
        assert_eq!(get(&tokens, key, Err(DOWN)).await, Ok(value("old")), "the old token is still good");
        assert_eq!(get(&tokens, key, Ok(token("new"))).await, Ok(value("old")), "the server gets a pause");
        let key = tokens.key(2, None);
        assert_eq!(get(&tokens, key, Ok(old())).await, Ok(value("old")));
        assert_eq!(get(&tokens, key, Ok(token("new"))).await, Ok(value("new")));
        assert_eq!(get(&tokens, key, Err(DOWN)).await, Ok(value("new")));
        let key = tokens.key(3, None);
        assert_eq!(get(&tokens, key, Ok(old())).await, Ok(value("old")));
        assert_eq!(get(&tokens, key, Err(REFUSED)).await, Err(REFUSED));
        let key = tokens.key(4, None);
        assert_eq!(
            get(&tokens, key, Ok(token("old").ended())).await,
            Ok(value("old")),
            "the request that waited for the token gets it"
        );
        assert_eq!(get(&tokens, key, Err(DOWN)).await, Err(DOWN), "no other request gets it");
    }

    #[tokio::test]
    async fn a_token_that_the_upstream_has_refused_is_not_used_again() {
        let tokens = UpstreamTokens::new();
        let key = tokens.key(1, None);
        let shown = tokens.get(key, async || Ok(owned("bad", "alice"))).await.expect("a token");
        shown.spend();
        assert_eq!(get(&tokens, key, Err(DOWN)).await, Err(DOWN));
        assert_eq!(get(&tokens, key, Ok(token("good"))).await, Ok(HeaderValue::from_static("good")));
        shown.spend();
        assert_eq!(get(&tokens, key, Err(DOWN)).await, Ok(HeaderValue::from_static("good")), "it was not refused");
        let of_edge = token("young");
        of_edge.spend();
        assert!(of_edge.is_good(), "a caller may be the reason for the refusal");
        let requested_at =
            Instant::now().checked_sub(limits::UPSTREAM_TOKEN_SPEND).expect("the machine has run for so long");
        let of_edge = Token::new(HeaderValue::from_static("old"), Duration::from_secs(600), None, requested_at);
        of_edge.spend();
        assert!(!of_edge.is_good());
    }

    #[test]
    fn the_weight_of_an_entry_includes_its_owner() {
        let light = Outcome::Token(token("t")).weight();
        let heavy = Outcome::Token(owned("t", &"x".repeat(10_000))).weight();
        assert!(heavy > light + 10_000, "{light} {heavy}");
    }

    #[tokio::test]
    async fn a_purge_removes_tokens_that_were_exchanged_for_a_revoked_token() {
        let tokens = UpstreamTokens::new();
        let (alice, bob, edge) = (tokens.key(1, Some(&[1; 32])), tokens.key(1, Some(&[2; 32])), tokens.key(2, None));
        assert!(get(&tokens, alice, Ok(owned("a", "alice"))).await.is_ok());
        assert!(get(&tokens, bob, Ok(owned("b", "bob"))).await.is_ok());
        assert!(get(&tokens, edge, Ok(token("e"))).await.is_ok());
        let subject = |subject: &str| Revocation::Subject { subject: subject.to_owned(), provider: None };
        tokens.purge(&subject("alice")).await;
        assert_eq!(get(&tokens, alice, Err(DOWN)).await, Err(DOWN));
        assert!(get(&tokens, bob, Err(DOWN)).await.is_ok() && get(&tokens, edge, Err(DOWN)).await.is_ok());
        let late = async || {
            tokens.purge(&subject("carol")).await;
            Ok(owned("a", "alice"))
        };
        assert!(tokens.get(alice, late).await.is_ok());
        assert_eq!(get(&tokens, alice, Err(DOWN)).await, Err(DOWN), "it was requested before the purge");
        tokens.purge(&Revocation::All).await;
        for key in [bob, edge] {
            assert_eq!(get(&tokens, key, Err(DOWN)).await, Err(DOWN));
        }
    }
}
