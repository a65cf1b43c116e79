//! The checked policy of a route: which operations callers may do, and which web pages may call.

use std::time::Duration;

use crate::types::{NamePattern, OriginPattern, Scope, ScopeSet};

/// Which operations callers may do, by kind. A list that is not written (`None`) allows all operations of its kind. A
/// list that is written denies every operation that none of its rules matches, so an empty list denies all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Rules for the name of the MCP method, such as `tools/call`.
    pub methods: Option<Vec<Rule>>,
    /// Rules for the name of the tool.
    pub tools: Option<Vec<Rule>>,
    /// Rules for the name of the prompt.
    pub prompts: Option<Vec<Rule>>,
    /// Rules for the URI of the resource.
    pub resources: Option<Vec<Rule>>,
}

/// One rule of a list. The first rule that matches decides. No rule is covered by an earlier rule of its list.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The names that the rule matches.
    pub pattern: NamePattern,
    /// Who may use what the rule matches.
    pub access: Access,
    /// The deadline of the response, in place of the upstream's `timeouts.response`. Only rules of tools have one; it
    /// is not zero.
    pub timeout: Option<Duration>,
}

/// Which of the callers that the route's `auth` accepts may use what a rule matches. On an open route no scope is
/// needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Callers with all of these scopes; with an empty set, every caller.
    All(ScopeSet),
    /// Callers with at least one of these scopes. The list is not empty.
    Any(Vec<Scope>),
    /// Nobody.
    Deny,
}

/// How a route handles MCP sessions, up to revision 2025-11-25.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteSessions {
    /// Whether a session that its replica has lost is opened again on another replica.
    pub resume: bool,
}

/// Cross-origin requests (the Fetch standard, section 3.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// The origins of the web pages that may read responses; at least one.
    pub origins: Vec<OriginPattern>,
    /// How long a browser may cache the response to a preflight, at most
    /// [`CORS_MAX_AGE`](crate::config::limits::CORS_MAX_AGE).
    pub max_age: Duration,
}
