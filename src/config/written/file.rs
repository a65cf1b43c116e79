//! One configuration file as written, with all its sections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::assertions::Assertions;
use super::auth::{Cache, Provider};
use super::outbound::Outbound;
use super::route::Route;
use super::server::{Admin, Identity, Listener, Log, Server, Sessions};
use super::upstream::Upstream;
use crate::config::limits::Limits;

/// One file of an mcp-edge configuration. `server`, `admin`, `limits`, `identity`, `sessions`, `assertions`, `log`,
/// `auth.cache` and `auth.outbound` may be in one file only. The entries of `listeners`, `auth.providers`, `upstreams`
/// and `routes` of all files are combined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Settings of the process. A change needs a restart.
    pub server: Option<Server>,
    /// The addresses that the edge listens on. A change needs a restart.
    pub listeners: Vec<Listener>,
    /// The admin listener. A change needs a restart.
    pub admin: Option<Admin>,
    /// Further files to read, at most 1000 in all: paths or globs, relative to this file. Globs do not match hidden
    /// files.
    pub include: Vec<String>,
    /// Limits on what clients may send, and on how long they may take.
    pub limits: Option<Limits>,
    /// The header fields that tell upstreams who the caller is.
    pub identity: Option<Identity>,
    /// The keys that protect MCP session ids.
    pub sessions: Option<Sessions>,
    /// The keys with which the edge signs JWTs that tell upstreams who the caller is.
    pub assertions: Option<Assertions>,
    /// Log lines: their format, and which requests are logged.
    pub log: Option<Log>,
    /// The providers that validate credentials, and their token cache.
    pub auth: Option<Auth>,
    /// The upstreams, by name. An upstream is a pool of replicas.
    pub upstreams: BTreeMap<String, Upstream>,
    /// The routes: which requests go to which upstream.
    pub routes: Vec<Route>,
}

/// Section `auth` of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The token cache.
    pub cache: Option<Cache>,
    /// The networks that the edge may connect to for authentication.
    pub outbound: Option<Outbound>,
    /// The providers that validate credentials, by name.
    pub providers: BTreeMap<String, Provider>,
}
