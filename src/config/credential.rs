//! What a route shows its upstream: `credential` as written, and its checks.

use http::HeaderValue;
use http::header::AUTHORIZATION;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checked::Credential;
use super::problems::Place;
use super::resolve::{Resolver, belongs_to_connection};
use super::server::Identity;
use super::units::{Header, SecretSource};

/// A secret that the upstream knows, in place of the client's credential.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// The secret. It is read again with every reload.
    pub secret: SecretSource,
    /// The field that carries it (default `Authorization`).
    #[serde(default = "authorization")]
    pub header: Header,
    /// What stands before it, with a space between the two (default `Bearer` in `Authorization`, else nothing).
    pub scheme: Option<String>,
}

fn authorization() -> Header {
    Header(AUTHORIZATION)
}

impl Resolver<'_> {
    /// `forwards_token`: the client's own `Authorization` is sent on.
    pub(super) fn credential(
        &mut self,
        written: &Written,
        forwards_token: bool,
        place: &Place,
        identity: &Identity,
    ) -> Option<Credential> {
        let header = &written.header.0;
        let reserved = [&identity.subject_header.0, &identity.scopes_header.0].contains(&header)
            || belongs_to_connection(header)
            || ["host", "cookie", "mcp-session-id"].contains(&header.as_str());
        if reserved {
            let message =
                format!("`{header}` has another meaning: write a name such as `Authorization` or `X-Api-Key`");
            self.problems.add(&place.key("header"), message);
        }
        if forwards_token && *header == AUTHORIZATION {
            let message = "`forward_token` sends the client's `Authorization`, and this would take its place: take one of \
                           the two out, or write another `header`";
            self.problems.add(place, message);
        }
        let default = if *header == AUTHORIZATION { "Bearer" } else { "" };
        let scheme = written.scheme.as_deref().unwrap_or(default);
        if !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            self.problems.add(&place.key("scheme"), "is no scheme: write one word such as `Bearer` or `Basic`");
            return None;
        }
        let folder = self.folder(place.file);
        let place = place.key("secret");
        let secret = self.materials.secret(&folder, &written.secret, &place, &mut self.problems)?;
        let space: &[u8] = if scheme.is_empty() { b"" } else { b" " };
        let Ok(mut value) = HeaderValue::from_bytes(&[scheme.as_bytes(), space, secret.expose()].concat()) else {
            self.problems.add(&place, "holds what no header field can: it must be one line of visible characters");
            return None;
        };
        value.set_sensitive(true);
        Some(Credential { header: header.clone(), value })
    }
}
