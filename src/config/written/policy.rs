//! The policy of a route as written: rules for MCP operations, sessions and CORS.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::units::{Name, ScopeName, Span, WebOrigin};

/// One rule of `methods`, `tools`, `prompts` or `resources`. The first rule that matches a name decides. A name that no
/// rule of a list matches is denied, so `{match: "*"}` at the end allows the rest. A rule has at most one of `scopes`,
/// `any_scope` and `deny`. Without any of them, it allows every caller that `auth` of the route accepts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A name, or a pattern in quotes, of at most 256 characters. In a pattern, `*` stands for any characters, also for
    /// none and for `/`. No other character is special.
    #[serde(rename = "match")]
    pub pattern: Name,
    /// The scopes that a caller needs, all of them.
    #[serde(default, deserialize_with = "scopes")]
    pub scopes: Option<Vec<ScopeName>>,
    /// The scopes of which a caller needs one.
    #[serde(default, deserialize_with = "scopes")]
    pub any_scope: Option<Vec<ScopeName>>,
    /// Whether the rule denies all callers (default false).
    #[serde(default)]
    pub deny: bool,
    /// How long the tool may take to respond, in rules of `tools` only (default: `timeouts.response` of the upstream).
    /// A progress notification starts the time again.
    pub timeout: Option<Span>,
}

/// `sessions` of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSessions {
    /// Whether the edge opens a session on another replica when its replica is lost (default false). Only for servers
    /// that keep no state in a session.
    pub resume: bool,
}

/// `cors` of a route: which web pages of other origins may use it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// The origins of these pages, at least one.
    pub origins: Vec<WebOrigin>,
    /// How long a browser may remember the answer to a preflight (default 10m, at most 1d).
    #[serde(default = "ten_minutes")]
    pub max_age: Span,
}

fn ten_minutes() -> Span {
    Span(Duration::from_secs(600))
}

/// Reads a list of rules. An empty list denies all and a missing one allows all, so a key without a value is an error.
pub(crate) fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Rule>>, D::Error> {
    let expecting = "a list of rules such as `[{match: \"get_*\", scopes: [SCOPE]}]`, or `[]` to deny all";
    deserializer.deserialize_any(List { expecting, item: PhantomData }).map(Some)
}

/// Reads a list of scopes. A key without a value is an error: as an empty list, it would not require any scope.
fn scopes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<ScopeName>>, D::Error> {
    let expecting = "a list of scopes such as `[\"fininfo:read\"]`";
    deserializer.deserialize_any(List { expecting, item: PhantomData }).map(Some)
}

struct List<T> {
    expecting: &'static str,
    item: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(list)
    }
}
