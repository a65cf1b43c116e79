//! `auth.outbound` as written: where the requests of authentication may go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Cidr;

/// Section `auth.outbound`: where servers of providers, and those that give tokens for upstreams, may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outbound {
    /// The networks, such as `[10.0.0.0/8, "fd00::/8"]`; nothing outside them is connected to. What counts is the address
    /// that a name stands for when a connection is made, so names are not written here. Default: any address, but
    /// link-local ones (169.254.0.0/16, fe80::/10), where clouds give credentials away, only if a URL of a provider or
    /// a `token_url` has the address itself.
    pub allow: Option<Vec<Cidr>>,
}
