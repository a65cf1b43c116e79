use super::*;
use crate::config::Span;
use crate::types::ScopeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

fn cache() -> TokenCache {
    TokenCache::new(100, &Metrics::new().expect("the families are consistent"))
}

fn never() -> Validation {
    unreachable!("nothing is due")
}

fn alice(expires_at: Option<u64>) -> Principal {
    Principal::new("alice", ScopeSet::default(), "test".into(), expires_at).expect("legal")
}

#[test]
fn keys_differ_in_every_part() {
    let cache = cache();
    let key = |provider, parts: &[&'static str]| cache.key(provider, parts.iter().map(|part| part.as_bytes()));
    assert_eq!(key(1, &["a", "b"]), key(1, &["a", "b"]));
    assert_ne!(key(1, &["a", "b"]), key(2, &["a", "b"]));
    assert_ne!(key(1, &["ab", "c"]), key(1, &["a", "bc"]));
    assert_ne!(cache.key(1, ["a".as_bytes()]), self::cache().key(1, ["a".as_bytes()]), "each cache has its secret");
}

#[tokio::test]
async fn a_thousand_requests_cause_one_validation_and_a_cancelled_leader_fails_no_other_request() {
    let cache = Arc::new(cache());
    let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let ask = || {
        let (cache, runs, gate) = (Arc::clone(&cache), Arc::clone(&runs), Arc::clone(&gate));
        tokio::spawn(async move {
            let validate = async || {
                runs.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                Ok(alice(None))
            };
            cache.get_or_validate(cache.key(1, ["t".as_bytes()]), &Settings::default(), validate, never).await
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
        assert!(waiter.await.expect("no panic").is_ok());
    }
    assert_eq!(runs.load(Ordering::SeqCst), 2, "the cancelled request, and one that took over");
}

#[tokio::test]
async fn outages_are_not_cached_and_denials_are() {
    let cache = cache();
    let runs = AtomicUsize::new(0);
    for (key, error, expected) in [(1, AuthError::Unavailable("down"), 2), (2, AuthError::Denied("no"), 1)] {
        runs.store(0, Ordering::SeqCst);
        for _ in 0..2 {
            let validate = async || {
                runs.fetch_add(1, Ordering::SeqCst);
                Err(error.clone())
            };
            let answer = cache.get_or_validate(cache.key(key, []), &Settings::default(), validate, never).await;
            assert_eq!(answer.err(), Some(error.clone()));
        }
        assert_eq!(runs.load(Ordering::SeqCst), expected, "{error:?}");
    }
}

/// No request waits for a refresh. The entry is replaced when it is due, and removed when the credential is refused.
#[tokio::test]
async fn entries_that_are_due_are_validated_in_the_background() {
    let settings = Settings {
        ttl: Span(Duration::from_millis(200)),
        refresh_ahead: Some(Span(Duration::from_millis(200))),
        ..Settings::default()
    };
    let cache = Arc::new(cache());
    let worker = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.refresh().await }
    });
    let key = cache.key(1, []);
    let bob = || -> Validation {
        Box::pin(async { Ok(Principal::new("bob", ScopeSet::default(), "test".into(), None).expect("legal")) })
    };
    let refused = || -> Validation { Box::pin(async { Err(AuthError::Denied("no")) }) };
    let first = cache.get_or_validate(key, &settings, async || Ok(alice(None)), never).await.expect("allowed");
    assert_eq!(first.subject(), "alice");
    // Half of the time before the end is random.
    let ask = async |again: fn() -> Validation| {
        cache.get_or_validate(key, &settings, async || Err(AuthError::Unavailable("a miss")), again).await
    };
    while ask(bob).await.expect("no request waits for the provider").subject() == "alice" {
        tokio::task::yield_now().await;
    }
    while ask(refused).await.err() != Some(AuthError::Denied("no")) {
        tokio::task::yield_now().await;
    }
    worker.abort();
}

#[tokio::test]
async fn an_earlier_entry_is_used_during_an_outage_if_that_is_configured() {
    let short = Settings { ttl: Span(Duration::from_millis(1)), ..Settings::default() };
    let patient = Settings { stale_if_error: Some(Span(Duration::from_secs(60))), ..short.clone() };
    let cache = cache();
    let down = async || Err(AuthError::Unavailable("down"));
    for (number, settings, is_used) in [(1, &short, false), (2, &patient, true)] {
        let key = cache.key(number, []);
        let allowed = cache.get_or_validate(key, settings, async || Ok(alice(None)), never).await;
        assert!(allowed.is_ok());
        tokio::time::sleep(Duration::from_millis(5)).await;
        let answer = cache.get_or_validate(key, settings, down, never).await;
        assert_eq!(answer.is_ok(), is_used);
    }
    let key = cache.key(2, []);
    let again = cache.get_or_validate(key, &patient, async || unreachable!("the provider can wait"), never).await;
    assert!(again.is_ok());
    assert_eq!(cache.counters.stale_hits.get(), 2);
    cache.purge(Revocation::All, None).await.expect("there is room");
    let answer = cache.get_or_validate(key, &patient, down, never).await;
    assert_eq!(answer.err(), Some(AuthError::Unavailable("down")), "purged entries are not used during an outage");
}

#[tokio::test]
async fn after_a_denial_the_earlier_entry_is_not_used_during_an_outage() {
    let settings = Settings {
        ttl: Span(Duration::from_millis(1)),
        negative_ttl: Span(Duration::from_millis(1)),
        stale_if_error: Some(Span(Duration::from_secs(60))),
        ..Settings::default()
    };
    let cache = cache();
    let key = cache.key(1, []);
    for (answer, expected) in [
        (Ok(()), Ok(())),
        (Err(AuthError::Denied("no")), Err(AuthError::Denied("no"))),
        (Err(AuthError::Unavailable("down")), Err(AuthError::Unavailable("down"))),
    ] {
        let validate = async || answer.clone().map(|()| alice(None));
        let got = cache.get_or_validate(key, &settings, validate, never).await;
        assert_eq!(got.map(drop), expected);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An entry that is made while a revocation is being recorded is not used afterwards.
#[tokio::test]
async fn an_entry_from_before_a_revocation_is_validated_again() {
    let cache = cache();
    let runs = AtomicUsize::new(0);
    let validate = async || {
        runs.fetch_add(1, Ordering::SeqCst);
        Ok(alice(None))
    };
    let settings = Settings::default();
    let ask = || cache.get_or_validate(cache.key(1, []), &settings, validate, never);
    let bob = Revocation::Subject { subject: "bob".to_owned(), provider: None };
    for (revocation, expected) in [(None, 1), (None, 1), (Some(bob), 1), (Some(Revocation::All), 2), (None, 2)] {
        if let Some(revocation) = revocation {
            // Records the revocation, but does not remove the entry.
            cache.revocations.add(revocation, None).expect("there is room");
        }
        assert!(ask().await.is_ok());
        assert_eq!(runs.load(Ordering::SeqCst), expected);
    }
}

/// Requests that wait for a validation from before a revocation do not get its result.
#[tokio::test]
async fn a_revocation_covers_requests_that_wait_for_an_older_validation() {
    let (cache, gate) = (Arc::new(cache()), Arc::new(Notify::new()));
    let runs = Arc::new(AtomicUsize::new(0));
    let ask = || {
        let (cache, gate, runs) = (Arc::clone(&cache), Arc::clone(&gate), Arc::clone(&runs));
        tokio::spawn(async move {
            let validate = async || {
                runs.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                Ok(alice(None))
            };
            let again = || -> Validation { Box::pin(async { Err(AuthError::Denied("it was revoked")) }) };
            cache.get_or_validate(cache.key(1, []), &Settings::default(), validate, again).await
        })
    };
    let leader = ask();
    while runs.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let waiter = ask();
    let alice = Revocation::Subject { subject: "alice".to_owned(), provider: None };
    cache.purge(alice, None).await.expect("there is room");
    gate.notify_one();
    for request in [leader, waiter] {
        assert_eq!(request.await.expect("no panic").err(), Some(AuthError::Denied("it was revoked")));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// One caller with very many good credentials, each used once, does not displace active callers.
#[tokio::test]
async fn credentials_that_are_used_once_do_not_displace_those_that_are_used_again() {
    const CALLERS: u64 = 500;
    let cache = TokenCache::new(1_000, &Metrics::new().expect("the families are consistent"));
    let settings = Settings::default();
    let validated = AtomicUsize::new(0);
    for round in 0..20 {
        let once = (0..CALLERS).map(|number| (2, round * CALLERS + number));
        for (kind, number) in (0..CALLERS).map(|number| (1, number)).chain(once) {
            let validate = async || {
                validated.fetch_add(usize::from(kind == 1), Ordering::Relaxed);
                Ok(alice(None))
            };
            let key = cache.key(kind, [&number.to_le_bytes()[..]]);
            assert!(cache.get_or_validate(key, &settings, validate, never).await.is_ok());
        }
    }
    let validated = validated.into_inner() as u64;
    assert!(validated < CALLERS + CALLERS / 10, "{validated}");
}

/// `get` cannot refresh an entry, so it does not return one that is due.
#[tokio::test]
async fn an_entry_that_is_due_is_not_returned_without_a_refresh() {
    let ahead = Settings {
        ttl: Span(Duration::from_secs(2)),
        refresh_ahead: Some(Span(Duration::from_secs(2))),
        ..Settings::default()
    };
    let cache = cache();
    let key = cache.key(1, []);
    assert!(cache.get(key).await.is_none());
    let made = cache.get_or_validate(key, &ahead, async || Ok(alice(None)), never).await.expect("allowed");
    // The entry becomes due within the first second, at a random moment.
    while let Some(known) = cache.get(key).await {
        assert!(Arc::ptr_eq(&known, &made));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let renewals = AtomicUsize::new(0);
    let again = || -> Validation {
        renewals.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(alice(None)) })
    };
    let known = cache.get_or_validate(key, &ahead, async || unreachable!("it is cached"), again).await.expect("a hit");
    assert!(Arc::ptr_eq(&known, &made));
    assert_eq!(renewals.into_inner(), 1);
}

#[tokio::test]
async fn each_hit_counts_once_and_a_purge_removes_the_entry() {
    let cache = cache();
    let key = cache.key(1, []);
    let settings = Settings::default();
    let made = cache.get_or_validate(key, &settings, async || Ok(alice(None)), never).await.expect("allowed");
    for _ in 0..10 {
        assert!(cache.get(key).await.is_some_and(|known| Arc::ptr_eq(&known, &made)));
        let known = cache.get_or_validate(key, &settings, async || unreachable!("it is cached"), never).await;
        assert!(known.is_ok_and(|known| Arc::ptr_eq(&known, &made)));
    }
    assert_eq!((cache.counters.hits.get(), cache.counters.misses.get()), (20, 1));
    cache.purge(Revocation::All, None).await.expect("there is room");
    assert!(cache.get(key).await.is_none());
}
