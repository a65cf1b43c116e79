//! The policy of a route as written: rules of MCP operations, sessions and CORS.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::units::{Name, ScopeName, Span, WebOrigin};

/// One rule of `methods`, `tools`, `prompts` or `resources`. The first rule that matches decides; what no rule of a list
/// matches is denied, so `{match: "*"}` at the end allows the rest. `scopes`, `any_scope` and `deny` exclude each other;
/// without any of them, everybody whom the route's `auth` lets pass is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The names: one, or a pattern in quotes in which `*` stands for any run of characters, also `/`; nothing else is
    /// special.
    #[serde(rename = "match")]
    pub pattern: Name,
    /// All of these scopes are needed.
    #[serde(default, deserialize_with = "scopes")]
    pub scopes: Option<Vec<ScopeName>>,
    /// One of these scopes is needed.
    #[serde(default, deserialize_with = "scopes")]
    pub any_scope: Option<Vec<ScopeName>>,
    /// Whether nobody is allowed (default false).
    #[serde(default)]
    pub deny: bool,
    /// Rules of `tools` only: how long the tool may take for its response; default: the upstream's `timeouts.response`.
    pub timeout: Option<Span>,
}

/// `sessions` of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSessions {
    /// Whether a session that its replica lost is opened again on another one (default false). For servers that keep
    /// nothing in a session.
    pub resume: bool,
}

/// `cors` of a route: the answers to web pages of other origins.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// The pages that may use the route.
    pub origins: Vec<WebOrigin>,
    /// How long a browser may remember the answer to a preflight (default 10m, at most 1d).
    #[serde(default = "ten_minutes")]
    pub max_age: Span,
}

fn ten_minutes() -> Span {
    Span(Duration::from_secs(600))
}

/// A list of rules. What it allows hangs on whether it is there, so a key without a value is no empty list.
pub(crate) fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Rule>>, D::Error> {
    let expecting = "a list of rules such as `[{match: \"get_*\", scopes: [SCOPE]}]`, or `[]` to deny all";
    deserializer.deserialize_any(List { expecting, item: PhantomData }).map(Some)
}

/// A list of scopes; a key without a value is not one that anybody has.
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
