//! The checked policy of a route: which operations callers may do, and which web pages may be callers.

use std::time::Duration;

use crate::types::{NamePattern, OriginPattern, Scope, ScopeSet};

/// Which operations callers may do, by kind. `None`: the list is not written, and all of the kind are allowed. A list that
/// is written denies what no rule of it matches; an empty one denies all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// By the name of the MCP method, such as `tools/call`.
    pub methods: Option<Vec<Rule>>,
    /// By the name of the tool.
    pub tools: Option<Vec<Rule>>,
    /// By the name of the prompt.
    pub prompts: Option<Vec<Rule>>,
    /// By the URI of the resource.
    pub resources: Option<Vec<Rule>>,
}

/// One rule of a list; the first that matches decides, and none is covered by an earlier one.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which names.
    pub pattern: NamePattern,
    /// Who may use them.
    pub access: Access,
    /// The deadline of the response in place of the upstream's `timeouts.response`; of tools only, and not zero.
    pub timeout: Option<Duration>,
}

/// Who may do what a rule matches, among those whom the route's `auth` lets pass. On an open route no scope is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Callers with all of these scopes; an empty set is everybody.
    All(ScopeSet),
    /// Callers with one of these scopes; at least one.
    Any(Vec<Scope>),
    /// Nobody.
    Deny,
}

/// What becomes of the MCP sessions of a route, up to revision 2025-11-25.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteSessions {
    /// Whether a session that its replica lost is opened again on another one.
    pub resume: bool,
}

/// Cross-origin requests (the Fetch standard, section 3.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// The pages that may read answers; at least one.
    pub origins: Vec<OriginPattern>,
    /// How long a browser may remember the answer to a preflight, at most
    /// [`CORS_MAX_AGE`](crate::config::limits::CORS_MAX_AGE).
    pub max_age: Duration,
}
