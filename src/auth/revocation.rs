//! Revocations: what an operator has taken back, for the cache, for requests, and for streams that are open.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ring::digest::{SHA256, digest};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::limits;
use crate::types::Principal;

/// Whom or what a revocation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Everybody.
    All,
    /// All credentials of a subject, of one provider or of any.
    Subject {
        /// As the provider gives it.
        subject: String,
        /// The provider's name.
        provider: Option<String>,
    },
    /// The credential with this `jti`.
    TokenId(String),
    /// The credential with this SHA-256 digest.
    Token([u8; 32]),
}

/// There are as many refusals in force as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRefusals;

/// All revocations of a process.
#[derive(Debug)]
pub struct Revocations {
    log: Mutex<Log>,
    /// Credentials that are refused although they may be valid, until then.
    refused: ArcSwap<Vec<(Revocation, Instant)>>,
    generation: AtomicU64,
    /// The same, for those who wait for it.
    told: watch::Sender<u64>,
}

/// The last revocations, with the generation that each began.
#[derive(Debug, Default)]
struct Log(VecDeque<(u64, Revocation)>);

impl Default for Revocations {
    fn default() -> Self {
        Self {
            log: Mutex::default(),
            refused: ArcSwap::default(),
            generation: AtomicU64::new(0),
            told: watch::Sender::new(0),
        }
    }
}

impl Revocation {
    /// True when it is about `principal`.
    pub fn matches(&self, principal: &Principal) -> bool {
        match self {
            Self::All => true,
            Self::Subject { subject, provider } => {
                principal.subject() == &**subject
                    && provider.as_ref().is_none_or(|provider| **principal.provider() == **provider)
            }
            Self::TokenId(id) => principal.token_id() == Some(id),
            Self::Token(digest) => principal.credential() == Some(digest),
        }
    }
}

/// The digest by which a credential is known, without being known.
pub fn credential_digest(credential: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, credential).as_ref());
    bytes
}

impl Revocations {
    /// Which revocations there have been: one more with each.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Tells of new generations.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// Takes note of a revocation; for `refuse_for` what it is about stays refused, even if its provider allows it.
    ///
    /// # Errors
    /// [`limits::REFUSALS`] are in force; nothing is noted then.
    pub fn add(&self, revocation: Revocation, refuse_for: Option<Duration>) -> Result<(), TooManyRefusals> {
        let mut log = self.log();
        if let Some(refuse_for) = refuse_for {
            let now = Instant::now();
            let mut refused: Vec<_> = self.refused.load().iter().filter(|(_, until)| *until > now).cloned().collect();
            if refused.len() >= limits::REFUSALS {
                return Err(TooManyRefusals);
            }
            refused.push((revocation.clone(), now + refuse_for));
            self.refused.store(Arc::new(refused));
        }
        let generation = self.generation() + 1;
        log.0.push_back((generation, revocation));
        if log.0.len() > limits::REVOCATIONS {
            log.0.pop_front();
        }
        self.generation.store(generation, Ordering::Release);
        drop(log);
        self.told.send_replace(generation);
        Ok(())
    }

    /// True when a revocation after `generation` is, or may be, about `principal`: one that is not remembered any more may.
    pub fn revoked_since(&self, generation: u64, principal: &Principal) -> bool {
        if self.generation() == generation {
            return false;
        }
        let log = self.log();
        let forgotten = log.0.front().is_some_and(|(oldest, _)| *oldest > generation + 1);
        forgotten || log.0.iter().any(|(at, revocation)| *at > generation && revocation.matches(principal))
    }

    /// True while `principal` is refused.
    pub fn refuses(&self, principal: &Principal) -> bool {
        let refused = self.refused.load();
        !refused.is_empty() && {
            let now = Instant::now();
            refused.iter().any(|(revocation, until)| *until > now && revocation.matches(principal))
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ScopeSet;

    fn alice() -> Principal {
        Principal::new("alice", ScopeSet::default(), "corp".into(), None)
            .expect("legal")
            .with_token_id(Some("t1".to_owned()))
            .with_credential(credential_digest(b"token"))
    }

    fn subject(subject: &str, provider: Option<&str>) -> Revocation {
        Revocation::Subject { subject: subject.to_owned(), provider: provider.map(str::to_owned) }
    }

    #[test]
    fn revocations_are_about_whom_they_name() {
        let token = |text: &[u8]| Revocation::Token(credential_digest(text));
        for revocation in [
            Revocation::All,
            subject("alice", None),
            subject("alice", Some("corp")),
            Revocation::TokenId("t1".into()),
            token(b"token"),
        ] {
            assert!(revocation.matches(&alice()), "{revocation:?}");
        }
        for revocation in
            [subject("bob", None), subject("alice", Some("other")), Revocation::TokenId("t2".into()), token(b"Token")]
        {
            assert!(!revocation.matches(&alice()), "{revocation:?}");
        }
    }

    #[test]
    fn what_came_after_a_generation_counts_and_what_is_forgotten_may() {
        let revocations = Revocations::default();
        assert!(!revocations.revoked_since(0, &alice()));
        revocations.add(subject("alice", None), None).expect("noted");
        let after = revocations.generation();
        assert!(revocations.revoked_since(0, &alice()));
        assert!(!revocations.revoked_since(after, &alice()), "it came before");
        for _ in 0..limits::REVOCATIONS {
            revocations.add(subject("bob", None), None).expect("noted");
        }
        assert!(!revocations.revoked_since(after, &alice()), "all since then are remembered");
        revocations.add(subject("bob", None), None).expect("noted");
        assert!(revocations.revoked_since(after, &alice()), "one is forgotten");
        assert!(!revocations.refuses(&alice()));
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_end_and_are_bounded() {
        let revocations = Revocations::default();
        revocations.add(subject("alice", None), Some(Duration::from_secs(60))).expect("noted");
        assert!(revocations.refuses(&alice()));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(!revocations.refuses(&alice()));
        for _ in 0..limits::REFUSALS {
            revocations.add(subject("bob", None), Some(Duration::from_secs(60))).expect("noted");
        }
        let one_more = revocations.add(subject("bob", None), Some(Duration::from_secs(60)));
        assert_eq!(one_more, Err(TooManyRefusals));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(revocations.add(subject("bob", None), Some(Duration::from_secs(60))).is_ok());
    }
}
