//! `mtls` of a provider as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::ScopeName;

/// `mtls` of a provider: identifies clients by the certificates that they present to listeners with `client_ca`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mtls {
    /// The kind of name in the certificate that is the caller's subject. The certificate must have exactly one of this
    /// kind.
    pub subject: CertificateName,
    /// The scopes of all callers that this provider accepts.
    #[serde(default)]
    pub scopes: Vec<ScopeName>,
    /// Additional scopes of single callers, by subject.
    #[serde(default)]
    pub subjects: BTreeMap<String, Vec<ScopeName>>,
    /// Whether callers that are not in `subjects` are accepted (default: `deny` when there are `subjects`, else
    /// `allow`).
    pub unlisted: Option<Unlisted>,
}

/// A kind of name in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateName {
    /// A URI among the subject alternative names, such as a SPIFFE id.
    SanUri,
    /// A DNS name among the subject alternative names.
    SanDns,
    /// A common name of the certificate's subject.
    CommonName,
}

/// What happens to callers that are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// They are refused.
    Deny,
    /// They get the `scopes` of the provider.
    Allow,
}
