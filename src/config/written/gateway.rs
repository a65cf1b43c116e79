//! `gateway` of a route as written: one MCP endpoint for the tools, prompts and resources of several servers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::units::Name;

/// `gateway` of a route. The route offers the tools, prompts and resources of several servers at one MCP endpoint. Each server is
/// a route of its own, and the rules, timeouts, upstream and credential of that route hold for it here too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// The servers, at least one, in the order in which lists show them.
    pub servers: Vec<GatewayServer>,
    /// What stands between the prefix of a server and the name of its tool or prompt (default `_`): at most 4 of letters, digits,
    /// `_`, `-` and `.`.
    #[serde(default = "underscore")]
    pub separator: String,
    /// Whether the tool list is whole, or has only the tools with which clients find the others (default `off`).
    #[serde(default)]
    pub discovery: Discovery,
    /// The tools that the list shows with `discovery: search`, beside the two that search: names or patterns, as clients see them.
    #[serde(default)]
    pub always_listed: Vec<Name>,
    /// What a list shows while a server cannot be reached (default `partial`).
    #[serde(default)]
    pub when_server_down: WhenServerDown,
}

fn underscore() -> String {
    "_".to_owned()
}

/// Whether the tool list of a gateway is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discovery {
    /// It has all tools that the caller may use.
    #[default]
    Off,
    /// It has `find_tools`, `describe_tool` and the tools of `always_listed`. All others can be called too.
    Search,
}

/// What a list of a gateway shows while a server cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenServerDown {
    /// What the other servers have. `_meta` of the result names the servers that are missing.
    #[default]
    Partial,
    /// An error that names the server.
    Fail,
}

/// One of the servers of a gateway: the name of a route, or the name with settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum GatewayServer {
    /// The name of the route, or its path without slashes at both ends.
    Route(String),
    /// The route and how the gateway offers it.
    Settings(ServerSettings),
}

/// How a gateway offers a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// The name of the route, or its path without slashes at both ends.
    pub route: String,
    /// What stands before the names of its tools and prompts (default: the name of the route, with `-` for other characters than
    /// letters, digits, `_`, `-` and `.`). Empty: the names stay as they are.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The path of the MCP endpoint below the path of the route (default `/mcp`, or none if the route's path ends with `/mcp`).
    #[serde(default)]
    pub path: Option<String>,
    /// Which of its tools the gateway offers, and under which names.
    #[serde(default)]
    pub tools: ToolSelection,
    /// Whether changed definitions of tools are held back until an operator accepts them (default false): see `/catalog` of the
    /// admin listener.
    #[serde(default)]
    pub pin: bool,
}

/// `tools` of a server in a gateway. A tool that is left out cannot be called either.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ToolSelection {
    /// The tools that are offered: names or patterns, as the server calls them (default: all).
    pub include: Option<Vec<Name>>,
    /// The tools that are left out, also if `include` matches them.
    pub exclude: Vec<Name>,
    /// Other names for tools: the name at the server, and the name that the gateway gives it. The prefix stands before that.
    pub rename: BTreeMap<String, String>,
}

impl GatewayServer {
    /// The settings, with their defaults where only the name is written.
    pub(crate) fn settings(&self) -> ServerSettings {
        match self {
            Self::Route(route) => ServerSettings { route: route.clone(), ..ServerSettings::default() },
            Self::Settings(settings) => settings.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for GatewayServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = GatewayServer;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a route, or `{route: NAME, prefix: TEXT}`")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<GatewayServer, E> {
                Ok(GatewayServer::Route(name.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GatewayServer, A::Error> {
                ServerSettings::deserialize(MapAccessDeserializer::new(map)).map(GatewayServer::Settings)
            }
        }
        deserializer.deserialize_any(Choice)
    }
}
