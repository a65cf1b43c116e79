//! Revocations by operators. They affect the token cache, requests and open streams.

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

/// Which credentials a revocation covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// All credentials.
    All,
    /// All credentials of a subject, from one provider or from all.
    Subject {
        /// The subject, as the provider names it.
        subject: String,
        /// The provider's name. `None` for all providers.
        provider: Option<String>,
    },
    /// The credential with this `jti`.
    TokenId(String),
    /// The credential with this SHA-256 digest.
    Token([u8; 32]),
}

/// [`limits::REFUSALS`] refusals are already in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRefusals;

/// All revocations of a process.
#[derive(Debug)]
pub struct Revocations {
    log: Mutex<Log>,
    /// Revocations with `refuse_for`: until this time, the credentials are refused even if their provider allows them.
    refused: ArcSwap<Vec<(Revocation, Instant)>>,
    generation: AtomicU64,
    /// The generation again, for tasks that wait for the next one.
    changes: watch::Sender<u64>,
}

/// The last revocations. Each has the number of the generation that it started.
#[derive(Debug, Default)]
struct Log(VecDeque<(u64, Revocation)>);

impl Default for Revocations {
    fn default() -> Self {
        Self {
            log: Mutex::default(),
            refused: ArcSwap::default(),
            generation: AtomicU64::new(0),
            changes: watch::Sender::new(0),
        }
    }
}

impl Revocation {
    /// True if the revocation covers the credential of `principal`.
    pub fn matches(&self, principal: &Principal) -> bool {
        match self {
            Self::All => true,
            Self::Subject { subject, provider } => {
                principal.subject() == &**subject
                    && provider.as_ref().is_none_or(|provider| **principal.provider() == **provider)
            }
            Self::TokenId(id) => principal.token_id() == Some(id),
            Self::Token(digest) => principal.has_credential(digest),
        }
    }
}

/// The SHA-256 digest of a credential. It identifies the credential without revealing it.
pub fn credential_digest(credential: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, credential).as_ref());
    bytes
}

impl Revocations {
    /// The current generation: the number of revocations so far.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Subscribes to new generations.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Records a revocation. With `refuse_for`, the credentials are refused for this time, even if their provider
    /// allows them.
    ///
    /// # Errors
    /// `refuse_for` is given, and [`limits::REFUSALS`] refusals are already in force. The revocation is then not
    /// recorded.
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
        self.changes.send_replace(generation);
        Ok(())
    }

    /// True if a revocation after `generation` covers `principal`. Also true if some of these revocations are no longer
    /// remembered, because one of them may cover `principal`.
    pub fn revoked_since(&self, generation: u64, principal: &Principal) -> bool {
        if self.generation() == generation {
            return false;
        }
        let log = self.log();
        let forgotten = log.0.front().is_some_and(|(oldest, _)| *oldest > generation + 1);
        forgotten || log.0.iter().any(|(at, revocation)| *at > generation && revocation.matches(principal))
    }

    /// True while a revocation with `refuse_for` refuses `principal`.
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
    fn revocations_cover_only_the_credentials_that_they_name() {
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
    fn later_revocations_count_and_forgotten_ones_may_count() {
        let revocations = Revocations::default();
        assert!(!revocations.revoked_since(0, &alice()));
        revocations.add(subject("alice", None), None).expect("there is room");
        let after = revocations.generation();
        assert!(revocations.revoked_since(0, &alice()));
        assert!(!revocations.revoked_since(after, &alice()), "the revocation was before this generation");
        for _ in 0..limits::REVOCATIONS {
            revocations.add(subject("bob", None), None).expect("there is room");
        }
        assert!(!revocations.revoked_since(after, &alice()), "all later revocations are still remembered");
        revocations.add(subject("bob", None), None).expect("there is room");
        assert!(revocations.revoked_since(after, &alice()), "one later revocation is forgotten");
        assert!(!revocations.refuses(&alice()));
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_end_and_are_bounded() {
        let revocations = Revocations::default();
        revocations.add(subject("alice", None), Some(Duration::from_secs(60))).expect("there is room");
        assert!(revocations.refuses(&alice()));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(!revocations.refuses(&alice()));
        for _ in 0..limits::REFUSALS {
            revocations.add(subject("bob", None), Some(Duration::from_secs(60))).expect("there is room");
        }
        let one_more = revocations.add(subject("bob", None), Some(Duration::from_secs(60)));
        assert_eq!(one_more, Err(TooManyRefusals));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(revocations.add(subject("bob", None), Some(Duration::from_secs(60))).is_ok());
    }
}
