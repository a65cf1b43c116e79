//! `mtls` of a provider as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::ScopeName;

/// `mtls` of a provider: the certificates that clients show on listeners with `client_ca`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mtls {
    /// Which name in the certificate says who the caller is; there must be exactly one of the kind.
    pub subject: CertificateName,
    /// What every caller with a certificate may do.
    #[serde(default)]
    pub scopes: Vec<ScopeName>,
    /// What single callers may do beyond that, by their names.
    #[serde(default)]
    pub subjects: BTreeMap<String, Vec<ScopeName>>,
    /// Whether callers that are not in `subjects` get in (default: `deny` when there are `subjects`, else `allow`).
    pub unlisted: Option<Unlisted>,
}

/// A kind of name in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateName {
    /// The URI among the alternative names, such as a SPIFFE id.
    SanUri,
    /// The DNS name among the alternative names.
    SanDns,
    /// The common name of the subject.
    CommonName,
}

/// What becomes of callers that are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// They are refused.
    Deny,
    /// They have the `scopes` of all.
    Allow,
}
