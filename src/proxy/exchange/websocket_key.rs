//! The key of a WebSocket handshake (RFC 6455 section 4.1), where the edge makes it itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Carries the key to the server.
pub(crate) const KEY_FIELD: HeaderName = HeaderName::from_static("sec-websocket-key");

/// Carries the server's answer to the key.
pub(crate) const ACCEPT_FIELD: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// What a server appends to the key before it hashes it (RFC 6455 section 1.3).
const SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key that a server has to answer.
#[derive(Debug)]
pub(crate) struct WebSocketKey(String);

impl WebSocketKey {
    /// A new key. It need not be secret: the server's answer to it shows that it speaks WebSocket.
    pub(crate) fn generate() -> Self {
        let mut bytes = [0; 16];
        fastrand::fill(&mut bytes);
        Self(STANDARD.encode(bytes))
    }

    /// The key as it stands in its field.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// True when a server has accepted the key.
    pub(crate) fn is_accepted(&self, answer: &HeaderMap) -> bool {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{}{SUFFIX}", self.0).as_bytes());
        answer.get(ACCEPT_FIELD).is_some_and(|accepted| accepted.as_bytes() == STANDARD.encode(hash).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_example_of_rfc_6455_is_accepted() {
        let key = WebSocketKey("dGhlIHNhbXBsZSBub25jZQ==".to_owned());
        let answer = |value| HeaderMap::from_iter([(ACCEPT_FIELD, HeaderValue::from_static(value))]);
        assert!(key.is_accepted(&answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
        assert!(!key.is_accepted(&answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOp=")) && !key.is_accepted(&HeaderMap::new()));
        let (one, other) = (WebSocketKey::generate(), WebSocketKey::generate());
        assert!(one.as_str() != other.as_str() && one.as_str().len() == 24);
    }
}
