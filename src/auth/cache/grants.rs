//! Shares equal grants between the principals in the token cache.

use std::sync::Arc;

use moka::future::Cache;

use crate::config::limits;
use crate::types::{Grant, Principal};

/// Keeps one copy of each grant, for all principals with an equal grant.
#[derive(Debug)]
pub(super) struct Grants(Cache<Arc<Grant>, Arc<Grant>>);

impl Grants {
    pub(super) fn new() -> Self {
        Self(Cache::new(limits::SHARED_GRANTS))
    }

    /// The same principal, with the shared copy of its grant.
    pub(super) async fn share(&self, principal: Principal) -> Principal {
        let grant = Arc::clone(principal.grant());
        let shared = self.0.get_with(Arc::clone(&grant), std::future::ready(grant)).await;
        principal.with_grant(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(subject: &str, scopes: &str, audience: Option<&str>) -> Principal {
        let scopes = scopes.split(' ').map(|scope| scope.parse().expect("legal")).collect();
        let grant = Grant::new(scopes, audience.map(|audience| vec![audience.to_owned()]));
        Principal::new(subject, grant, "corp".into(), None).expect("legal")
    }

    #[tokio::test]
    async fn only_equal_grants_are_shared() {
        let grants = Grants::new();
        let alice = grants.share(principal("alice", "a b", Some("x"))).await;
        let bob = grants.share(principal("bob", "b a", Some("x"))).await;
        assert!(Arc::ptr_eq(alice.grant(), bob.grant()));
        assert_eq!((bob.subject(), bob.grant().scopes_text()), ("bob", "a b"));
        for (scopes, audience) in [("a", Some("x")), ("a b", Some("y")), ("a b", None)] {
            let other = principal("carol", scopes, audience);
            let own = Arc::clone(other.grant());
            assert_eq!(*grants.share(other).await.grant(), own);
            assert_ne!(own, *alice.grant());
        }
    }
}
