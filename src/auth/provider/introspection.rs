//! Asks the issuer of opaque tokens what they are worth (RFC 7662).

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

/// Asks one server.
#[derive(Debug)]
pub(crate) struct IntrospectionValidator {
    settings: IntrospectionProvider,
    client: OutboundClient,
}

impl IntrospectionValidator {
    pub(crate) fn new(settings: &IntrospectionProvider, client: &OutboundClient) -> Self {
        Self { settings: settings.clone(), client: client.clone() }
    }

    /// One question. Only an answer of 200 with a JSON object that says `active` decides, or one of 400 that the server does
    /// not issue such tokens (RFC 7009 section 2.2.1). Anything else is an outage: so is a refusal of the edge's own
    /// credentials, which says nothing about the token.
    pub(crate) async fn validate(&self, provider: &str, token: &str) -> Result<Claims, AuthError> {
        let outage = |what: &str| {
            warn!("provider {provider}: {what}");
            AuthError::Unavailable("the authorization server does not answer as it should")
        };
        let (headers, body) = self.question(token).ok_or_else(|| outage("the edge cannot say who it is"))?;
        let answer = self.client.post(&self.settings.url, headers, body, self.settings.timeout).await;
        let answer = answer.map_err(|error| outage(&error.to_string()))?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST if is_unsupported(&answer.body) => {
                return Err(AuthError::Denied("the authorization server does not issue such tokens"));
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(outage(&format!(
                    "the introspection endpoint refuses the edge itself with status {}: check `client_id` and what proves it",
                    answer.status.as_u16()
                )));
            }
            status => {
                let status = status.as_u16();
                return Err(outage(&format!("the introspection endpoint answered with status {status}")));
            }
        }
        let answer: Map<String, Value> = serde_json::from_slice(&answer.body)
            .map_err(|_| outage("the answer of the introspection endpoint is no JSON object"))?;
        self.judge(&answer).map_err(|refusal| match refusal {
            Refusal::Denied(why) => AuthError::Denied(why),
            Refusal::Junk(what) => outage(&format!("the answer of the introspection endpoint {what}")),
        })
    }

    /// The header fields and the form of a question (RFC 7662 section 2.1).
    fn question(&self, token: &str) -> Option<(HeaderMap, String)> {
        let mut form = Serializer::new(String::new());
        form.append_pair("token", token).append_pair("token_type_hint", "access_token");
        authenticated(form, &self.settings.client_id, &self.settings.proof)
    }

    /// What an answer says (RFC 7662 section 2.2).
    fn judge(&self, answer: &Map<String, Value>) -> Result<Claims, Refusal> {
        match answer.get("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err(Refusal::Denied("the token is not active")),
            _ => return Err(Refusal::Junk("does not say whether the token is `active`")),
        }
        let is_bearer = |kind: &Value| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        if member(answer, "token_type").is_some_and(|kind| !is_bearer(kind)) {
            return Err(Refusal::Denied("the token is of another type than Bearer"));
        }
        let date = |name| match member(answer, name) {
            None => Ok(None),
            Some(date) => numeric_date(date).map(Some).ok_or(Refusal::Junk("has a date that is no number")),
        };
        let (now, leeway) = (unix_now(), self.settings.leeway.as_secs());
        if date("exp")?.is_some_and(|end| end.saturating_add(leeway) <= now) {
            return Err(Refusal::Denied("the token has expired"));
        }
        if date("nbf")?.is_some_and(|start| start > now.saturating_add(leeway)) {
            return Err(Refusal::Denied("the token is not valid yet"));
        }
        let issuer = self.settings.issuer.as_deref();
        if issuer.is_some() && member(answer, "iss").is_some_and(|iss| iss.as_str() != issuer) {
            return Err(Refusal::Denied("the token is from another issuer"));
        }
        let mut claims = Claims::read(answer, &self.settings.claims)
            .map_err(|_| Refusal::Denied("the authorization server does not name the token's subject"))?;
        if member(answer, "aud").is_none() {
            if !self.settings.audience_optional {
                return Err(Refusal::Denied("the token does not say whom it is meant for"));
            }
            claims.audiences = None;
        } else if let Some(ours) = &self.settings.audiences
            && !claims.audiences.iter().flatten().any(|audience| ours.contains(audience))
        {
            return Err(Refusal::Denied("the token is for another audience"));
        }
        Ok(claims)
    }
}

/// Why an answer does not let the caller in.
enum Refusal {
    /// It says no.
    Denied(&'static str),
    /// It is not what it should be.
    Junk(&'static str),
}

/// Whether an error is about the kind of token: servers that introspect opaque ones only refuse JWTs so.
fn is_unsupported(body: &[u8]) -> bool {
    let error: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
    error.is_some_and(|error| error.get("error").is_some_and(|error| error == "unsupported_token_type"))
}

/// A member that is there; some servers write `null` for those that are not.
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

    /// `ok`, `denied` or `junk`.
    fn judge(validator: &IntrospectionValidator, answer: &Value) -> &'static str {
        match validator.judge(answer.as_object().expect("an object")) {
            Ok(_) => "ok",
            Err(Refusal::Denied(_)) => "denied",
            Err(Refusal::Junk(_)) => "junk",
        }
    }

    #[test]
    fn what_an_answer_says() {
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
            (json!({"active": "true"}), "junk"),
            (json!({"active": 1}), "junk"),
            (json!({"active": null}), "junk"),
            (json!({"token_type": "DPoP"}), "denied"),
            (json!({"token_type": 1}), "denied"),
            (json!({"exp": now - 10}), "denied"),
            (json!({"exp": now.to_string()}), "junk"),
            (json!({"exp": -1}), "junk"),
            (json!({"nbf": now + 60}), "denied"),
            (json!({"nbf": "soon"}), "junk"),
            (json!({"sub": null}), "denied"),
            (json!({"sub": 7}), "denied"),
            (json!({"aud": null}), "denied"),
        ] {
            assert_eq!(judge(&any, &answer(more.clone())), expected, "{more}");
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
            assert_eq!(judge(&strict, &answer(more.clone())), expected, "{more}");
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
            assert_eq!(judge(&lenient, &answer(json!({"aud": aud.clone()}))), expected, "{aud}");
        }
    }

    /// What the route compares with its own: `None` passes everywhere, so nothing but silence may become it.
    #[test]
    fn only_an_answer_without_aud_says_nothing_of_its_audience() {
        let optional = validator(|settings| settings.audience_optional = true);
        let audiences = |aud: Value| {
            let answer = json!({"active": true, "sub": "alice", "aud": aud});
            optional.judge(answer.as_object().expect("an object")).ok().expect("it is good").audiences
        };
        assert_eq!(audiences(json!(null)), None);
        for (aud, expected) in [(json!("a"), vec!["a"]), (json!(["a", 1, "b"]), vec!["a", "b"]), (json!([]), vec![])] {
            assert_eq!(audiences(aud), Some(expected.into_iter().map(str::to_owned).collect()));
        }
        for aud in [json!(1), json!({}), json!(false)] {
            assert_eq!(audiences(aud), Some(Vec::new()));
        }
    }
}
