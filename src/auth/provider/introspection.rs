//! Validates opaque tokens by introspection: their authorization server answers whether a token is active (RFC 7662).

use form_urlencoded::Serializer;
use http::{HeaderMap, StatusCode};
use log::warn;
use serde_json::{Map, Value};

use super::claims::{Claims, numeric_date};
use crate::auth::error::AuthError;
use crate::auth::outbound::client::OutboundClient;
use crate::auth::outbound::client_authentication::authenticated;
use crate::config::IntrospectionProvider;
use crate::types::unix_now;

/// Validates tokens with one introspection endpoint.
#[derive(Debug)]
pub(crate) struct IntrospectionValidator {
    settings: IntrospectionProvider,
    client: OutboundClient,
}

impl IntrospectionValidator {
    pub(crate) fn new(settings: &IntrospectionProvider, client: &OutboundClient) -> Self {
        Self { settings: settings.clone(), client: client.clone() }
    }

    /// Sends one introspection request. Two kinds of answer decide: a 200 with a JSON object that contains `active`,
    /// and a 400 that says that the server does not issue such tokens (RFC 7009 section 2.2.1). Any other answer is an
    /// outage. This includes a refusal of the edge's own credentials, because that says nothing about the token.
    pub(crate) async fn validate(&self, provider: &str, token: &str) -> Result<Claims, AuthError> {
        let outage = |what: &str| {
            warn!("provider {provider}: {what}");
            AuthError::Unavailable("the authorization server is not reachable, or its answer is not valid")
        };
        let (headers, body) =
            self.request(token).ok_or_else(|| outage("the edge cannot create its own client authentication"))?;
        let answer = self.client.post(&self.settings.url, headers, body, self.settings.timeout).await;
        let answer = answer.map_err(|error| outage(&error.to_string()))?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST if is_unsupported(&answer.body) => {
                return Err(AuthError::Denied("the authorization server does not issue such tokens"));
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(outage(&format!(
                    "the introspection endpoint refuses the edge's own credentials with status {}: \
                     check `client_id` and its secret or key",
                    answer.status.as_u16()
                )));
            }
            status => {
                let status = status.as_u16();
                return Err(outage(&format!("the introspection endpoint answered with status {status}")));
            }
        }
        let answer: Map<String, Value> = serde_json::from_slice(&answer.body)
            .map_err(|_| outage("the answer of the introspection endpoint is not a JSON object"))?;
        self.decide(&answer).map_err(|failure| match failure {
            Failure::Denied(why) => AuthError::Denied(why),
            Failure::Invalid(what) => outage(&format!("the answer of the introspection endpoint {what}")),
        })
    }

    /// The header fields and the form of an introspection request (RFC 7662 section 2.1).
    fn request(&self, token: &str) -> Option<(HeaderMap, String)> {
        let mut form = Serializer::new(String::new());
        form.append_pair("token", token).append_pair("token_type_hint", "access_token");
        authenticated(form, &self.settings.client_id, &self.settings.proof)
    }

    /// Decides by an answer with status 200 (RFC 7662 section 2.2).
    fn decide(&self, answer: &Map<String, Value>) -> Result<Claims, Failure> {
        match answer.get("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err(Failure::Denied("the token is not active")),
            _ => return Err(Failure::Invalid("has no `active` that is `true` or `false`")),
        }
        let is_bearer = |kind: &Value| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        if member(answer, "token_type").is_some_and(|kind| !is_bearer(kind)) {
            return Err(Failure::Denied("the token is not a Bearer token"));
        }
        let date = |name| match member(answer, name) {
            None => Ok(None),
            Some(date) => numeric_date(date).map(Some).ok_or(Failure::Invalid("has a date that is not a valid number")),
        };
        let (now, leeway) = (unix_now(), self.settings.leeway.as_secs());
        if date("exp")?.is_some_and(|end| end.saturating_add(leeway) <= now) {
            return Err(Failure::Denied("the token has expired"));
        }
        if date("nbf")?.is_some_and(|start| start > now.saturating_add(leeway)) {
            return Err(Failure::Denied("the token is not valid yet"));
        }
        let issuer = self.settings.issuer.as_deref();
        if issuer.is_some() && member(answer, "iss").is_some_and(|iss| iss.as_str() != issuer) {
            return Err(Failure::Denied("the token is from another issuer"));
        }
        let mut claims = Claims::read(answer, &self.settings.claims).map_err(|error| match error {
            AuthError::Denied(why) => Failure::Denied(why),
            _ => Failure::Denied("the token is not valid"),
        })?;
        if member(answer, "aud").is_none() {
            if !self.settings.audience_optional {
                return Err(Failure::Denied("the token does not name its audience"));
            }
            claims.audiences = None;
        } else if let Some(ours) = &self.settings.audiences
            && !claims.audiences.iter().flatten().any(|audience| ours.contains(audience))
        {
            return Err(Failure::Denied("the token is for another audience"));
        }
        Ok(claims)
    }
}

/// Why an answer gives no claims.
enum Failure {
    /// The answer decides against the token.
    Denied(&'static str),
    /// The answer is not valid.
    Invalid(&'static str),
}

/// True for the error that the server does not handle this kind of token. Servers that introspect only opaque tokens
/// answer so for JWTs.
fn is_unsupported(body: &[u8]) -> bool {
    let error: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
    error.is_some_and(|error| error.get("error").is_some_and(|error| error == "unsupported_token_type"))
}

/// A member of the answer. `null` counts as absent, because some servers write it for absent members.
fn member<'a>(answer: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    answer.get(name).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClaimNames, ClientProof};
    use crate::types::Secret;
    use serde_json::json;
    use std::time::Duration;

    fn validator(change: impl FnOnce(&mut IntrospectionProvider)) -> IntrospectionValidator {
        crate::auth::install_crypto();
        let mut settings = IntrospectionProvider {
            url: "https://idp.example/introspect".parse().expect("a URL"),
            client_id: "edge".into(),
            proof: ClientProof::Secret(Secret::new("secret")),
            issuer: None,
            audiences: None,
            audience_optional: false,
            leeway: Duration::from_secs(10),
            claims: ClaimNames { subject: "sub".into(), scopes: None, groups: "groups".into() },
            timeout: Duration::from_secs(1),
        };
        change(&mut settings);
        IntrospectionValidator::new(&settings, &OutboundClient::new().expect("a client needs no network"))
    }

    /// `ok`, `denied` or `invalid`.
    fn decide(validator: &IntrospectionValidator, answer: &Value) -> &'static str {
        match validator.decide(answer.as_object().expect("an object")) {
            Ok(_) => "ok",
            Err(Failure::Denied(_)) => "denied",
            Err(Failure::Invalid(_)) => "invalid",
        }
    }

    #[test]
    fn answers() {
        let now = unix_now();
        let any = validator(|_| ());
        let answer = |more: Value| {
            let mut answer = json!({"active": true, "sub": "alice", "aud": "mcp-edge"});
            let members = answer.as_object_mut().expect("an object");
            members.extend(more.as_object().expect("an object").clone());
            answer
        };
        for (more, expected) in [
            (json!({}), "ok"),
            (json!({"token_type": "bearer", "exp": now + 60, "nbf": now, "aud": "any", "iss": "any"}), "ok"),
            (json!({"token_type": null, "exp": null, "nbf": null}), "ok"),
            (json!({"exp": now - 5, "nbf": now + 5}), "ok"),
            (json!({"active": false}), "denied"),
            (json!({"active": "true"}), "invalid"),
            (json!({"active": 1}), "invalid"),
            (json!({"active": null}), "invalid"),
            (json!({"token_type": "DPoP"}), "denied"),
            (json!({"token_type": 1}), "denied"),
            (json!({"exp": now - 10}), "denied"),
            (json!({"exp": now.to_string()}), "invalid"),
            (json!({"exp": -1}), "invalid"),
            (json!({"nbf": now + 60}), "denied"),
            (json!({"nbf": "soon"}), "invalid"),
            (json!({"sub": null}), "denied"),
            (json!({"sub": 7}), "denied"),
            (json!({"aud": null}), "denied"),
        ] {
            assert_eq!(decide(&any, &answer(more.clone())), expected, "{more}");
        }
        let strict = validator(|settings| {
            settings.issuer = Some("https://idp.example".into());
            settings.audiences = Some(vec!["a".into(), "b".into()]);
        });
        for (more, expected) in [
            (json!({"aud": "a"}), "ok"),
            (json!({"aud": ["x", "b"], "iss": "https://idp.example"}), "ok"),
            (json!({}), "denied"),
            (json!({"aud": null}), "denied"),
            (json!({"aud": ["x", {"a": "a"}]}), "denied"),
            (json!({"aud": "a", "iss": "https://evil.example"}), "denied"),
            (json!({"aud": "a", "iss": 1}), "denied"),
        ] {
            assert_eq!(decide(&strict, &answer(more.clone())), expected, "{more}");
        }
        let lenient = validator(|settings| {
            settings.audiences = Some(vec!["a".into()]);
            settings.audience_optional = true;
        });
        for (aud, expected) in [
            (json!(null), "ok"),
            (json!("a"), "ok"),
            (json!("b"), "denied"),
            (json!([]), "denied"),
            (json!(""), "denied"),
            (json!(false), "denied"),
        ] {
            assert_eq!(decide(&lenient, &answer(json!({"aud": aud.clone()}))), expected, "{aud}");
        }
    }

    /// A route compares these audiences with its own. Every route accepts `None`, so only an answer without `aud` may
    /// give `None`.
    #[test]
    fn only_an_answer_without_aud_gives_no_audiences() {
        let optional = validator(|settings| settings.audience_optional = true);
        let audiences = |aud: Value| {
            let answer = json!({"active": true, "sub": "alice", "aud": aud});
            optional.decide(answer.as_object().expect("an object")).ok().expect("the token is active").audiences
        };
        assert_eq!(audiences(json!(null)), None);
        for (aud, expected) in [
            (json!("a"), vec!["a"]),
            (json!(["a", "b"]), vec!["a", "b"]),
            (json!(["a", 1]), vec![]),
            (json!([]), vec![]),
        ] {
            assert_eq!(audiences(aud), Some(expected.into_iter().map(str::to_owned).collect()));
        }
        for aud in [json!(1), json!({}), json!(false)] {
            assert_eq!(audiences(aud), Some(Vec::new()));
        }
    }
}
