//! Requests tokens from a token endpoint (RFC 6749 sections 4.4 and 5, RFC 8693).

use std::sync::Arc;
use std::time::Duration;

use form_urlencoded::Serializer;
use http::{HeaderMap, HeaderName, StatusCode, header};
use log::warn;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::error::UpstreamTokenError;
use crate::auth::outbound::client::OutboundClient;
use crate::auth::outbound::client_authentication::authenticated;
use crate::config::{SubjectTokenType, TokenGrant, limits};

/// A token endpoint, and what one route requests from it.
#[derive(Debug)]
pub(super) struct TokenEndpoint {
    route: Arc<str>,
    grant: TokenGrant,
    /// For an exchange: the type of the caller's token.
    subject: Option<SubjectTokenType>,
    /// Only Bearer tokens are accepted, because the token goes into `Authorization`.
    bearer_only: bool,
    client: OutboundClient,
    /// Limits how many token requests run at the same time.
    permits: Semaphore,
}

/// A token that a token endpoint has issued.
pub(super) struct Issued {
    /// Visible ASCII characters, at most [`limits::TOKEN_BYTES`].
    pub(super) token: String,
    /// How long the token is valid.
    pub(super) lifetime: Duration,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Error codes that are about the edge or the server, and not about the caller's token (RFC 6749 sections 4.1.2.1 and
/// 5.2, RFC 8628 section 3.5).
const NOT_ABOUT_THE_CALLER: &[&str] = &[
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "server_error",
    "temporarily_unavailable",
    "slow_down",
];

impl TokenEndpoint {
    /// `subject` is given for an exchange; `header` is the field that will carry the token.
    pub(super) fn new(
        route: &Arc<str>,
        header: &HeaderName,
        grant: &TokenGrant,
        subject: Option<SubjectTokenType>,
        client: &OutboundClient,
    ) -> Self {
        Self {
            route: Arc::clone(route),
            grant: grant.clone(),
            subject,
            bearer_only: *header == header::AUTHORIZATION,
            client: client.clone(),
            permits: Semaphore::new(limits::LOOKUPS),
        }
    }

    /// Sends one token request. In an exchange, `subject_token` is the caller's token. If the server refuses the
    /// caller's token, the error is `Refused`. Every other failure is `Unavailable`.
    pub(super) async fn ask(&self, subject_token: &str) -> Result<Issued, UpstreamTokenError> {
        let Ok(Ok(_permit)) = tokio::time::timeout(limits::LOOKUP_WAIT, self.permits.acquire()).await else {
            return Err(UpstreamTokenError::Unavailable("too many requests are waiting for the token endpoint"));
        };
        let (headers, body) = self
            .request(subject_token)
            .ok_or_else(|| self.outage("the edge cannot create its own client authentication"))?;
        let answer = self.client.post(&self.grant.url, headers, body, self.grant.timeout).await;
        let answer = answer.map_err(|error| self.outage(&error.to_string()))?;
        let members = serde_json::from_slice::<Map<String, Value>>(&answer.body).ok();
        if answer.status != StatusCode::OK {
            return Err(self.refusal(answer.status, members.as_ref()));
        }
        let members = members.ok_or_else(|| self.outage("the answer of the token endpoint is not a JSON object"))?;
        self.read(&members).map_err(|what| self.outage(&format!("the answer of the token endpoint {what}")))
    }

    fn outage(&self, what: &str) -> UpstreamTokenError {
        warn!("route {}: {what}", self.route);
        UpstreamTokenError::Unavailable("the authorization server cannot issue a token for the upstream at the moment")
    }

    /// The header fields and the form of a token request (RFC 8693 section 2.1, RFC 6749 section 4.4.2, RFC 8707
    /// section 2.2).
    fn request(&self, subject_token: &str) -> Option<(HeaderMap, String)> {
        let grant = &self.grant;
        let mut form = Serializer::new(String::new());
        match self.subject {
            Some(subject) => {
                let subject_type = match subject {
                    SubjectTokenType::AccessToken => ACCESS_TOKEN,
                    SubjectTokenType::Jwt => JWT,
                };
                form.append_pair("grant_type", TOKEN_EXCHANGE)
                    .append_pair("subject_token", subject_token)
                    .append_pair("subject_token_type", subject_type)
                    .append_pair("requested_token_type", ACCESS_TOKEN);
            }
            None => {
                form.append_pair("grant_type", "client_credentials");
            }
        }
        for (name, value) in [("audience", &grant.audience), ("resource", &grant.resource)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        if !grant.scopes.is_empty() {
            form.append_pair("scope", &grant.scopes.to_string());
        }
        authenticated(form, &grant.client_id, &grant.proof)
    }

    /// The error for an answer without a token (RFC 6749 section 5.2, RFC 8693 section 2.2.2).
    fn refusal(&self, status: StatusCode, members: Option<&Map<String, Value>>) -> UpstreamTokenError {
        let code = members.and_then(|members| members.get("error")).and_then(Value::as_str);
        let code = code.filter(|code| is_error_code(code)).unwrap_or("no error code");
        let refused = matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let number = status.as_u16();
        if self.subject.is_some() && refused && !NOT_ABOUT_THE_CALLER.contains(&code) {
            warn!(
                "route {}: the token endpoint refuses to exchange a caller's token: {code} (status {number})",
                self.route
            );
            return UpstreamTokenError::Refused(
                "the authorization server does not issue a token for the upstream to this caller",
            );
        }
        let hint = if refused {
            ": check `client_id`, its secret or key, and the requested `audience`, `resource` and `scopes`"
        } else {
            ""
        };
        self.outage(&format!("the token endpoint issued no token: {code} (status {number}){hint}"))
    }

    /// Reads an answer with a token (RFC 6749 section 5.1, RFC 8693 section 2.2.1).
    fn read(&self, members: &Map<String, Value>) -> Result<Issued, &'static str> {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let token = text("access_token").filter(|token| !token.is_empty()).ok_or("has no `access_token`")?;
        if token.len() > limits::TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("has an `access_token` that is too long, or has characters that a header field cannot hold");
        }
        let kind = text("token_type").ok_or("has no `token_type`")?;
        let is_bearer = kind.eq_ignore_ascii_case("bearer");
        if !is_bearer && (self.bearer_only || !kind.eq_ignore_ascii_case("n_a")) {
            return Err("has a `token_type` other than `Bearer`");
        }
        if members.get("issued_token_type").is_some_and(|kind| *kind != ACCESS_TOKEN && *kind != JWT) {
            return Err("has an `issued_token_type` that is not an access token");
        }
        let lifetime = match members.get("expires_in") {
            None | Some(Value::Null) => limits::UPSTREAM_TOKEN_DEFAULT,
            Some(seconds) => lifetime(seconds).ok_or("has an `expires_in` that is not a number of seconds")?,
        };
        if lifetime.is_zero() {
            return Err("has a token that has already expired");
        }
        Ok(Issued { token: token.to_owned(), lifetime: lifetime.min(limits::UPSTREAM_TOKEN_MAX) })
    }
}

/// True if `code` may be written to a log. Registered error codes have this form, tokens do not.
fn is_error_code(code: &str) -> bool {
    (1..=40).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Reads `expires_in` in whole seconds. It should be a number, but some servers send a string.
fn lifetime(seconds: &Value) -> Option<Duration> {
    let seconds = match seconds {
        Value::String(text) => text.parse::<u64>().ok()? as f64,
        number => number.as_f64()?,
    };
    (seconds >= 0.0).then(|| Duration::from_secs(seconds as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientProof;
    use crate::types::{ScopeSet, Secret};
    use serde_json::json;

    fn endpoint(header: HeaderName, subject: Option<SubjectTokenType>) -> TokenEndpoint {
        super::super::super::install_crypto();
        let grant = TokenGrant {
            url: "https://idp.example/token".parse().expect("a URL"),
            client_id: "edge".into(),
            proof: ClientProof::Secret(Secret::new("secret")),
            audience: None,
            resource: None,
            scopes: ScopeSet::default(),
            timeout: Duration::from_secs(1),
        };
        let client = OutboundClient::new().expect("a client needs no network");
        TokenEndpoint::new(&"/a/".into(), &header, &grant, subject, &client)
    }

    #[test]
    fn answers_with_a_token() {
        let bearer = endpoint(header::AUTHORIZATION, None);
        let other = endpoint(HeaderName::from_static("x-api-key"), None);
        let answer = |more: Value| {
            let mut answer = json!({"access_token": "opaque~", "token_type": "Bearer", "expires_in": 600});
            let members = answer.as_object_mut().expect("an object");
            members.extend(more.as_object().expect("an object").clone());
            answer
        };
        let seconds = |endpoint: &TokenEndpoint, more: &Value| {
            let answer = answer(more.clone());
            let issued = endpoint.read(answer.as_object().expect("an object")).ok()?;
            assert!(!format!("{issued:?}").contains(&issued.token), "`Debug` does not show the token");
            Some(issued.lifetime.as_secs())
        };
        let long = "x".repeat(limits::TOKEN_BYTES + 1);
        for (more, expected) in [
            (json!({}), Some(600)),
            (json!({"token_type": "bEARER", "issued_token_type": ACCESS_TOKEN, "scope": "a"}), Some(600)),
            (json!({"issued_token_type": JWT}), Some(600)),
            (json!({"issued_token_type": "urn:ietf:params:oauth:token-type:id_token"}), None),
            (json!({"expires_in": null}), Some(60)),
            (json!({"expires_in": "90"}), Some(90)),
            (json!({"expires_in": 59.9}), Some(59)),
            (json!({"expires_in": 1e300}), Some(3_600)),
            (json!({"expires_in": 0}), None),
            (json!({"expires_in": -1}), None),
            (json!({"expires_in": "soon"}), None),
            (json!({"expires_in": [60]}), None),
            (json!({"access_token": ""}), None),
            (json!({"access_token": 7}), None),
            (json!({"access_token": "a b"}), None),
            (json!({"access_token": "a\r\nX-Admin: 1"}), None),
            (json!({"access_token": "tök"}), None),
            (json!({"access_token": long}), None),
            (json!({"token_type": null}), None),
            (json!({"token_type": "DPoP"}), None),
            (json!({"token_type": "N_A"}), None),
        ] {
            assert_eq!(seconds(&bearer, &more), expected, "{more}");
        }
        assert_eq!(seconds(&other, &json!({"token_type": "N_A"})), Some(600), "the field is not `Authorization`");
        assert_eq!(seconds(&other, &json!({"token_type": "DPoP"})), None);
    }

    #[test]
    fn answers_without_a_token() {
        let exchange = endpoint(header::AUTHORIZATION, Some(SubjectTokenType::AccessToken));
        let own = endpoint(header::AUTHORIZATION, None);
        let is_refused = |endpoint: &TokenEndpoint, status: u16, error: &Value| {
            let members = json!({"error": error});
            let status = StatusCode::from_u16(status).expect("a status");
            matches!(endpoint.refusal(status, members.as_object()), UpstreamTokenError::Refused(_))
        };
        for (status, error, expected) in [
            (400, json!("invalid_grant"), true),
            (400, json!("invalid_request"), true),
            (400, json!("invalid_target"), true),
            (401, json!(null), true),
            (403, json!({"a": 1}), true),
            (400, json!("invalid_client"), false),
            (401, json!("invalid_client"), false),
            (403, json!("unauthorized_client"), false),
            (400, json!("temporarily_unavailable"), false),
            (404, json!("invalid_grant"), false),
            (429, json!("invalid_grant"), false),
            (500, json!("invalid_grant"), false),
            (302, json!("invalid_grant"), false),
            (201, json!(null), false),
        ] {
            assert_eq!(is_refused(&exchange, status, &error), expected, "{status} {error}");
            assert!(
                !is_refused(&own, status, &error),
                "a token of the edge itself is never refused because of a caller: {status} {error}"
            );
        }
    }

    #[test]
    fn only_text_that_looks_like_an_error_code_is_logged() {
        for code in ["invalid_grant", "interaction_required"] {
            assert!(is_error_code(code), "{code}");
        }
        let long = "a".repeat(41);
        for code in ["", "Invalid", "eyJhbGciOiJub25lIn0", "a b", "a\nb", "b64=", long.as_str()] {
            assert!(!is_error_code(code), "{code}");
        }
    }
}
