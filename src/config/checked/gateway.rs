//! A checked gateway: which servers it offers, and under which names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::written::gateway::{Discovery, WhenServerDown};
use crate::types::NamePattern;

/// The gateway of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// The servers; at least one. No prefix begins another one.
    pub servers: Vec<Arc<GatewayServer>>,
    /// Whether the tool list is whole.
    pub discovery: Discovery,
    /// The tools that are listed whatever `discovery` says.
    pub always_listed: Vec<NamePattern>,
    /// What a list shows while a server cannot be reached.
    pub when_server_down: WhenServerDown,
}

/// One of the servers of a gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayServer {
    /// The name of its route, which has an upstream and carries MCP.
    pub route: Arc<str>,
    /// The name in errors, in `_meta` and in `/status`: the prefix, or the name of the route if the prefix is empty.
    pub name: Arc<str>,
    /// Prefix and separator; empty if the names stay as they are.
    pub mark: String,
    /// The path of the MCP endpoint as clients would call it: the path of the route, and what is below it.
    pub path: String,
    /// Which tools are offered.
    pub tools: ToolSelection,
    /// Whether changed definitions of tools are held back until an operator accepts them.
    pub pin: bool,
}

/// Which tools of a server are offered, and under which names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolSelection {
    /// `None`: all.
    pub include: Option<Vec<NamePattern>>,
    /// These are left out.
    pub exclude: Vec<NamePattern>,
    /// The gateway's name (without the prefix) of a tool, by the server's name.
    pub rename: BTreeMap<String, String>,
}

impl ToolSelection {
    /// True when the gateway offers the server's tool `name`.
    pub fn offers(&self, name: &str) -> bool {
        let is_in = |patterns: &[NamePattern]| patterns.iter().any(|pattern| pattern.matches(name));
        self.include.as_deref().is_none_or(is_in) && !is_in(&self.exclude)
    }

    /// The gateway's name, without the prefix, of the server's tool `name`.
    pub fn given_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.rename.get(name).map_or(name, String::as_str)
    }

    /// The server's name of the tool that the gateway calls `given`, without the prefix. `None`: no tool has that name, because
    /// it was given another one.
    pub fn own_name<'a>(&'a self, given: &'a str) -> Option<&'a str> {
        match self.rename.iter().find(|(_, to)| *to == given) {
            Some((from, _)) => Some(from),
            None => (!self.rename.contains_key(given)).then_some(given),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_given_away_leads_nowhere() {
        let rename = [("get_now", "now"), ("a", "b"), ("b", "a")].map(|(from, to)| (from.to_owned(), to.to_owned()));
        let tools = ToolSelection { rename: rename.into(), ..ToolSelection::default() };
        assert_eq!((tools.given_name("get_now"), tools.given_name("other")), ("now", "other"));
        assert_eq!((tools.own_name("now"), tools.own_name("get_now")), (Some("get_now"), None));
        assert_eq!((tools.own_name("a"), tools.own_name("b"), tools.own_name("c")), (Some("b"), Some("a"), Some("c")));
    }

    #[test]
    fn what_is_excluded_is_not_offered() {
        let pattern = |text: &str| text.parse().expect("legal");
        let tools = ToolSelection {
            include: Some(vec![pattern("get_*")]),
            exclude: vec![pattern("get_secret")],
            ..ToolSelection::default()
        };
        assert!(tools.offers("get_time") && !tools.offers("get_secret") && !tools.offers("set_time"));
    }
}
