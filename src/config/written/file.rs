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
/// `auth.cache` and `auth.outbound` may stand in one file only; `listeners`, `auth.providers`, `upstreams` and `routes` of
/// all files are put together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Process settings, read at start.
    pub server: Option<Server>,
    /// Where the edge listens, read at start.
    pub listeners: Vec<Listener>,
    /// The admin listener, read at start.
    pub admin: Option<Admin>,
    /// Further files: paths or globs, relative to this file.
    pub include: Vec<String>,
    /// What a client may ask of the edge.
    pub limits: Option<Limits>,
    /// What upstreams are told about the caller.
    pub identity: Option<Identity>,
    /// How MCP session ids are sealed.
    pub sessions: Option<Sessions>,
    /// With what the edge signs who is calling, for upstreams.
    pub assertions: Option<Assertions>,
    /// Log lines.
    pub log: Option<Log>,
    /// Who validates credentials.
    pub auth: Option<Auth>,
    /// Pools of replicas, by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Which request goes where.
    pub routes: Vec<Route>,
}

/// Section `auth` of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The token cache.
    pub cache: Option<Cache>,
    /// Where servers of providers may be.
    pub outbound: Option<Outbound>,
    /// Who validates credentials, by name.
    pub providers: BTreeMap<String, Provider>,
}
