//! How the edge authenticates itself to an authorization server (RFC 6749 section 2.3, RFC 7523).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use form_urlencoded::{Serializer, byte_serialize};
use http::{HeaderMap, HeaderValue, header};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::config::{ClientKey, ClientProof, limits};
use crate::types::{Secret, unix_now};

/// The header fields and the body of a POST of `form`, authenticated as the client `client_id` with `proof`. `None` if
/// the secret cannot be written as a header field, the assertion cannot be signed, or the operating system gives no
/// random numbers.
pub(crate) fn authenticated(
    mut form: Serializer<'_, String>,
    client_id: &str,
    proof: &ClientProof,
) -> Option<(HeaderMap, String)> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    match proof {
        ClientProof::Secret(secret) => {
            headers.insert(header::AUTHORIZATION, basic(client_id, secret)?);
        }
        ClientProof::Key(key) => {
            form.append_pair("client_id", client_id)
                .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
                .append_pair("client_assertion", &assertion(client_id, key)?);
        }
    }
    Some((headers, form.finish()))
}

/// `client_secret_basic`: the id and the secret are each encoded as in a form, and then joined (RFC 6749 section
/// 2.3.1).
fn basic(client_id: &str, secret: &Secret) -> Option<HeaderValue> {
    let encode = |bytes: &[u8]| byte_serialize(bytes).collect::<String>();
    let pair = format!("{}:{}", encode(client_id.as_bytes()), encode(secret.expose()));
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `private_key_jwt` (RFC 7523 section 3): an assertion for one use, for this server only, valid for less than a
/// minute.
fn assertion(client_id: &str, key: &ClientKey) -> Option<String> {
    let mut header = json!({"typ": "JWT"});
    if let Some(id) = &key.id {
        header["kid"] = id.as_str().into();
    }
    let now = unix_now();
    let claims = json!({
        "iss": client_id, "sub": client_id, "aud": key.audience, "jti": random_id()?,
        "iat": now, "exp": now + limits::CLIENT_ASSERTION.as_secs(),
    });
    key.key.sign_jwt(header, &claims).ok()
}

/// A value for `jti` that nobody can guess.
pub(crate) fn random_id() -> Option<String> {
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).ok()?;
    Some(URL_SAFE_NO_PAD.encode(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basic_header_holds_encoded_parts() {
        let value = basic("my edge:1", &Secret::new("pä%+&=/ ")).expect("a header");
        let encoded = value.to_str().expect("ASCII").strip_prefix("Basic ").expect("Basic");
        let pair = String::from_utf8(STANDARD.decode(encoded).expect("base64")).expect("ASCII");
        assert_eq!(pair, "my+edge%3A1:p%C3%A4%25%2B%26%3D%2F+");
        assert!(value.is_sensitive() && !format!("{value:?}").contains(encoded));
    }
}
