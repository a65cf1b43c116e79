//! The tokens that upstreams are shown, by a keyed hash of whom and what they are for, and, apart from them, recent refusals.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use moka::Expiry;
use moka::future::Cache;
use ring::hmac;
use ring::rand::SystemRandom;

use super::super::revocation::Revocation;
use super::endpoint::Issued;
use super::error::UpstreamTokenError;
use crate::config::limits;
use crate::types::{Principal, unix_now};

/// What an entry is found by. The hash is keyed with a key of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct UpstreamTokenKey([u8; 32]);

/// All tokens for upstreams. One per process; it outlives reloads, because keys hold the identity of the credentials.
#[derive(Debug)]
pub struct UpstreamTokens {
    hash_key: hmac::Key,
    tokens: Cache<UpstreamTokenKey, Outcome>,
    refusals: Cache<UpstreamTokenKey, UpstreamTokenError>,
    purges: AtomicU64,
}

/// A token that can be shown.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// The whole value of the field, marked as sensitive.
    pub(super) value: HeaderValue,
    /// Whose own token it was exchanged for.
    owner: Option<Arc<Principal>>,
    /// From then on it is replaced.
    renew_at: Instant,
    /// From then on it is not used, whatever happens.
    ends_at: Instant,
    /// The upstream has refused it.
    spent: Arc<AtomicBool>,
}

/// What came of a question; a failure is for those who waited for it only.
#[derive(Clone, Debug)]
enum Outcome {
    Token(Token),
    Failed(UpstreamTokenError),
}

impl Outcome {
    /// About how many bytes it takes. An owner has its subject and scopes several times over, and may be in no other cache.
    fn weight(&self) -> u32 {
        const ENTRY: usize = 512;
        let Self::Token(token) = self else { return ENTRY as u32 };
        let owner = token.owner.as_ref().map_or(0, |owner| {
            let audiences: usize = owner.audiences().into_iter().flatten().map(|audience| audience.len() + 24).sum();
            4 * (owner.subject_header().len() + owner.scopes_header().len()) + audiences
        });
        u32::try_from(ENTRY + token.value.len() + owner).unwrap_or(u32::MAX)
    }
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
        Self { value, owner: owner.cloned(), renew_at, ends_at, spent: Arc::default() }
    }

    /// The upstream has refused it: it is shown to no further request.
    pub(super) fn spend(&self) {
        self.spent.store(true, Ordering::Relaxed);
    }

    fn is_fresh(&self) -> bool {
        self.is_good() && Instant::now() < self.renew_at
    }

    fn is_good(&self) -> bool {
        !self.spent.load(Ordering::Relaxed) && Instant::now() < self.ends_at
    }
}

/// Each entry brings its own lifetime.
struct OwnLifetime;

impl OwnLifetime {
    fn of(outcome: &Outcome) -> Option<Duration> {
        Some(match outcome {
            Outcome::Token(token) => token.ends_at.saturating_duration_since(Instant::now()),
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
    /// None yet.
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

    /// The key of a token of the credential `instance`, for the caller's token with this digest.
    pub(super) fn key(&self, instance: u64, caller: Option<&[u8; 32]>) -> UpstreamTokenKey {
        let mut context = hmac::Context::with_key(&self.hash_key);
        context.update(&instance.to_le_bytes());
        context.update(caller.map_or(&[], |digest| digest.as_slice()));
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        UpstreamTokenKey(key)
    }

    /// The token behind `key`: remembered, or from `fetch`, which runs once for all who ask at the same time. A token near
    /// its end is replaced first; when there is no other for now, it is used on until shortly before its end.
    ///
    /// # Errors
    /// What `fetch` said. Refusals are remembered for a short time, outages never.
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
        // Boxed, because it is large and rare: else every request would carry room for it to its end.
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
        let ask = async {
            let purges = self.purges.load(Ordering::SeqCst);
            match fetch().await {
                // What came for a question of before a purge is not kept.
                Ok(token) if self.purges.load(Ordering::SeqCst) != purges => {
                    Outcome::Token(Token { ends_at: Instant::now(), ..token })
                }
                Ok(token) => Outcome::Token(token),
                Err(error @ UpstreamTokenError::Unavailable(_)) => match known {
                    Some(known) if known.is_good() && self.purges.load(Ordering::SeqCst) == purges => {
                        Outcome::Token(Token { renew_at: Instant::now() + limits::UPSTREAM_TOKEN_RETRY, ..known })
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
        match self.tokens.entry(key).or_insert_with_if(ask, is_old).await.into_value() {
            Outcome::Token(token) => Ok(token),
            Outcome::Failed(error) => Err(error),
        }
    }

    /// Forgets the tokens that were exchanged for those that `revocation` is about; with all of them, those of the edge
    /// itself, too.
    pub async fn purge(&self, revocation: &Revocation) {
        self.purges.fetch_add(1, Ordering::SeqCst);
        for (key, outcome) in &self.tokens {
            let Outcome::Token(token) = &outcome else { continue };
            let is_meant = match &token.owner {
                Some(owner) => revocation.matches(owner),
                None => *revocation == Revocation::All,
            };
            if is_meant {
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
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::Notify;

    const REFUSED: UpstreamTokenError = UpstreamTokenError::Refused("no");
    const DOWN: UpstreamTokenError = UpstreamTokenError::Unavailable("down");

    fn token(text: &'static str) -> Token {
        Token::new(HeaderValue::from_static(text), Duration::from_secs(600), None, Instant::now())
    }

    fn owned(text: &'static str, subject: &str, end: Option<u64>) -> Token {
        let owner = Principal::new(subject, ScopeSet::default(), "corp".into(), end).expect("legal");
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
        assert_ne!(key, UpstreamTokens::new().key(1, Some(&[1; 32])), "the key is of this process");
    }

    #[tokio::test]
    async fn a_thousand_requests_ask_once_and_a_cancelled_leader_fails_nobody() {
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
        assert_eq!(runs.load(Ordering::SeqCst), 2, "the leader, and one successor");
    }

    #[tokio::test]
    async fn refusals_are_remembered_and_outages_are_not() {
        let tokens = UpstreamTokens::new();
        let key = |instance| tokens.key(instance, None);
        for error in [DOWN, DOWN] {
            assert_eq!(get(&tokens, key(1), Err(error)).await, Err(DOWN));
        }
        assert_eq!(get(&tokens, key(1), Ok(token("t"))).await, Ok(HeaderValue::from_static("t")));
        assert_eq!(get(&tokens, key(1), Err(DOWN)).await, Ok(HeaderValue::from_static("t")), "it is remembered");
        assert_eq!(get(&tokens, key(2), Err(REFUSED)).await, Err(REFUSED));
        assert_eq!(get(&tokens, key(2), Ok(token("t"))).await, Err(REFUSED), "it is remembered");
    }

    /// Near its end it is replaced; without another it is used on; after a refusal it is not.
    #[tokio::test]
    async fn a_token_near_its_end() {
        let tokens = UpstreamTokens::new();
        let key = tokens.key(1, None);
        let old = || Token { renew_at: Instant::now(), ..token("old") };
        let value = HeaderValue::from_static;
        assert_eq!(get(&tokens, key, Ok(old())).await, Ok(value("old")));
        assert_eq!(get(&tokens, key, Err(DOWN)).await, Ok(value("old")), "it is still good");
        assert_eq!(get(&tokens, key, Ok(token("new"))).await, Ok(value("old")), "the server is left alone for a while");
        let key = tokens.key(2, None);
        assert_eq!(get(&tokens, key, Ok(old())).await, Ok(value("old")));
        assert_eq!(get(&tokens, key, Ok(token("new"))).await, Ok(value("new")));
        assert_eq!(get(&tokens, key, Err(DOWN)).await, Ok(value("new")));
        let key = tokens.key(3, None);
        assert_eq!(get(&tokens, key, Ok(old())).await, Ok(value("old")));
        assert_eq!(get(&tokens, key, Err(REFUSED)).await, Err(REFUSED));
        let key = tokens.key(4, None);
        let ended = Token { ends_at: Instant::now(), ..token("old") };
        assert_eq!(get(&tokens, key, Ok(ended)).await, Ok(value("old")), "those who waited for it have it");
        assert_eq!(get(&tokens, key, Err(DOWN)).await, Err(DOWN), "nobody else");
    }

    #[tokio::test]
    async fn a_token_that_the_upstream_has_refused_is_shown_to_nobody_else() {
        let tokens = UpstreamTokens::new();
        let key = tokens.key(1, None);
        let shown = tokens.get(key, async || Ok(token("bad"))).await.expect("a token");
        shown.spend();
        assert_eq!(get(&tokens, key, Err(DOWN)).await, Err(DOWN));
        assert_eq!(get(&tokens, key, Ok(token("good"))).await, Ok(HeaderValue::from_static("good")));
        shown.spend();
        assert_eq!(get(&tokens, key, Err(DOWN)).await, Ok(HeaderValue::from_static("good")), "that was the other one");
    }

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
        // A caller's own end is the end, with nothing to be gained before it.
        let (renew, end) = times(600, owned("t", "alice", Some(unix_now() + 100)));
        assert!((90_000..=101_000).contains(&renew) && renew.abs_diff(end) < 2, "{renew} {end}");
        assert_eq!(times(600, owned("t", "alice", Some(unix_now() - 5))).1 / 1000, 0, "within its leeway");
    }

    #[test]
    fn an_entry_weighs_what_its_owner_weighs() {
        let light = Outcome::Token(token("t")).weight();
        let heavy = Outcome::Token(owned("t", &"x".repeat(10_000), None)).weight();
        assert!(heavy > light + 10_000, "{light} {heavy}");
    }

    #[tokio::test]
    async fn a_purge_forgets_what_was_given_for_a_revoked_token() {
        let tokens = UpstreamTokens::new();
        let (alice, bob, edge) = (tokens.key(1, Some(&[1; 32])), tokens.key(1, Some(&[2; 32])), tokens.key(2, None));
        assert!(get(&tokens, alice, Ok(owned("a", "alice", None))).await.is_ok());
        assert!(get(&tokens, bob, Ok(owned("b", "bob", None))).await.is_ok());
        assert!(get(&tokens, edge, Ok(token("e"))).await.is_ok());
        let subject = |subject: &str| Revocation::Subject { subject: subject.to_owned(), provider: None };
        tokens.purge(&subject("alice")).await;
        assert_eq!(get(&tokens, alice, Err(DOWN)).await, Err(DOWN));
        assert!(get(&tokens, bob, Err(DOWN)).await.is_ok() && get(&tokens, edge, Err(DOWN)).await.is_ok());
        let late = async || {
            tokens.purge(&subject("carol")).await;
            Ok(owned("a", "alice", None))
        };
        assert!(tokens.get(alice, late).await.is_ok());
        assert_eq!(get(&tokens, alice, Err(DOWN)).await, Err(DOWN), "it came for a question of before the purge");
        tokens.purge(&Revocation::All).await;
        for key in [bob, edge] {
            assert_eq!(get(&tokens, key, Err(DOWN)).await, Err(DOWN));
        }
    }
}
