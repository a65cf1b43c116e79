//! Header fields that belong to one connection.

use http::HeaderName;

/// True for the fields that belong to one connection and must not be forwarded: the fields of RFC 9110 section 7.6.1,
/// the fields for authentication at a proxy (RFC 9110 section 11.7), and the fields of old proxies.
pub fn is_connection_field(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "close"
            | "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_message_are_not_connection_fields() {
        for name in ["connection", "keep-alive", "te", "transfer-encoding", "upgrade", "proxy-connection"] {
            assert!(is_connection_field(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["authorization", "content-length", "cookie", "host", "mcp-session-id", "x-upgrade"] {
            assert!(!is_connection_field(&HeaderName::from_static(name)), "{name}");
        }
    }
}
