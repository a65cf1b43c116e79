//! `auth.outbound` as written: the networks that the edge may connect to for authentication.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Cidr;

/// Section `auth.outbound`: where the edge may connect to validate credentials, and to get tokens for upstreams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outbound {
    /// The allowed networks, at most 1000, such as `[10.0.0.0/8, "fd00::/8"]`. The edge checks the address that a name
    /// resolves to with every connection, so names cannot be written here. Default: all addresses except link-local
    /// ones (169.254.0.0/16, fe80::/10), where clouds serve credentials. A link-local address is then allowed only if a
    /// URL of a provider or a `token_url` contains it.
    pub allow: Option<Vec<Cidr>>,
}
