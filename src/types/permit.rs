//! The proof that an operation was authorized.

use std::sync::Arc;

use super::{Principal, ScopeSet};

/// What a request wants to do: the unit that policy decides on. On an opaque route that is the request itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One HTTP request, whatever it carries.
    Request,
}

/// Proof that [`authorize`](Permit::authorize) said yes. It cannot be made in any other way, and nothing is sent to an
/// upstream without one.
#[derive(Clone, Debug)]
pub struct Permit {
    principal: Option<Arc<Principal>>,
}

impl Permit {
    /// The one decision: `needed` is what the route asks of `operation`, `None` when the route is open.
    ///
    /// # Errors
    /// The scopes that the operation needs, when the principal lacks any of them or there is no principal.
    pub fn authorize(
        principal: Option<Arc<Principal>>,
        operation: Operation,
        needed: Option<&ScopeSet>,
    ) -> Result<Self, &ScopeSet> {
        let Operation::Request = operation;
        match (needed, &principal) {
            (None, _) => Ok(Self { principal }),
            (Some(needed), Some(caller)) if caller.scopes().covers(needed) => Ok(Self { principal }),
            (Some(needed), _) => Err(needed),
        }
    }

    /// Who was permitted; `None` on an open route.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> ScopeSet {
        text.split_whitespace().map(|scope| scope.parse().expect("legal")).collect()
    }

    fn caller(text: &str) -> Option<Arc<Principal>> {
        Some(Arc::new(Principal::new("alice", scopes(text), "test".into(), None).expect("legal")))
    }

    #[test]
    fn all_needed_scopes_are_needed() {
        let needed = scopes("a b");
        assert!(Permit::authorize(caller("a b c"), Operation::Request, Some(&needed)).is_ok());
        assert_eq!(Permit::authorize(caller("a"), Operation::Request, Some(&needed)).err(), Some(&needed));
    }

    #[test]
    fn without_a_principal_only_an_open_route_permits() {
        let none = ScopeSet::default();
        assert!(Permit::authorize(None, Operation::Request, None).is_ok());
        assert!(Permit::authorize(None, Operation::Request, Some(&none)).is_err());
    }
}
