//! Checks what the header fields of a POST claim about its body.
//!
//! From 2026-07-28 on, `MCP-Protocol-Version`, `Mcp-Method` and `Mcp-Name` repeat values of the body. A server or proxy
//! that reads the body must refuse a request in which they differ (MCP 2026-07-28, "Standard headers"). In older
//! revisions only the body counts.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::message::{Message, Messages};

/// The header field with the protocol version of a request.
pub const VERSION_HEADER: &str = "mcp-protocol-version";
const METHOD_HEADER: &str = "mcp-method";
const NAME_HEADER: &str = "mcp-name";

// Parsed header names: a look-up by text would check the text each time.
static VERSION: HeaderName = HeaderName::from_static(VERSION_HEADER);
static METHOD: HeaderName = HeaderName::from_static(METHOD_HEADER);
static NAME: HeaderName = HeaderName::from_static(NAME_HEADER);

/// The last revision with sessions.
const LAST_WITH_SESSIONS: &str = "2025-11-25";
/// The only revision with batches. A request without a version counts as a request of this revision or an older one.
const WITH_BATCHES: &str = "2025-03-26";
const NO_BATCHES: Misfit = Misfit::Form("this protocol version does not allow batches: send one message per request");

/// The rules that a request follows, depending on its protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Up to 2025-11-25: `initialize` opens a session, and a client that disconnects does not cancel its request.
    Sessions,
    /// From 2026-07-28 on: requests are independent of each other, and a client that disconnects cancels its request.
    Stateless,
}

/// Why the header fields and the body of a request do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// A header field differs from the body, is missing, or is repeated: JSON-RPC error -32020.
    Mismatch(&'static str),
    /// The request has a form that its protocol version does not allow.
    Form(&'static str),
}

impl Era {
    /// The era according to the header fields alone, for requests without a body.
    ///
    /// # Errors
    /// `MCP-Protocol-Version` is sent more than once, or is not visible ASCII.
    pub fn of_headers(headers: &HeaderMap) -> Result<Self, Misfit> {
        Ok(Self::of_version(version(headers)?))
    }

    /// Versions are dates, so they compare as text. A version that is not a date is left for the upstream to refuse.
    fn of_version(version: Option<&str>) -> Self {
        let is_date = |text: &str| {
            let fits = |(at, byte): (usize, u8)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
            text.len() == 10 && text.bytes().enumerate().all(fits)
        };
        match version {
            Some(version) if is_date(version) && version > LAST_WITH_SESSIONS => Self::Stateless,
            _ => Self::Sessions,
        }
    }

    /// The era of a request with `headers` and `messages`, after a check that the two agree.
    ///
    /// # Errors
    /// `headers` and `messages` do not agree, or the protocol version does not allow batches.
    pub fn check(headers: &HeaderMap, messages: &Messages<'_>) -> Result<Self, Misfit> {
        let claimed = version(headers)?;
        let by_header = Self::of_version(claimed);
        let meta = messages.iter().find_map(|message| message.meta_version.as_deref());
        if by_header == Self::Sessions && Self::of_version(meta) == Self::Sessions {
            let batches = claimed.is_none_or(|version| version <= WITH_BATCHES);
            if messages.single().is_none() && !batches {
                return Err(NO_BATCHES);
            }
            return Ok(Self::Sessions);
        }
        let Some(message) = messages.single() else {
            return Err(NO_BATCHES);
        };
        if message.method().is_some() {
            stateless(headers, claimed, message)?;
        }
        Ok(Self::Stateless)
    }
}

fn stateless(headers: &HeaderMap, version: Option<&str>, message: &Message<'_>) -> Result<(), Misfit> {
    let meta = message.meta_version.as_deref();
    // A body without a version cannot differ from the header field. The upstream decides whether to refuse such a body.
    if version.is_none() || (meta.is_some() && version != meta) {
        return Err(Misfit::Mismatch(
            "MCP-Protocol-Version must be the same as the protocol version in the body's `_meta`",
        ));
    }
    let method = single(headers, &METHOD, "Mcp-Method is sent more than once: send it once")?;
    if method.and_then(|method| method.to_str().ok()) != message.method() {
        return Err(Misfit::Mismatch("Mcp-Method must be the same as the body's `method`"));
    }
    let claimed = single(headers, &NAME, "Mcp-Name is sent more than once: send it once")?;
    match (claimed.map(decoded), message.name()) {
        (None, None) => Ok(()),
        (None, Some(_)) if !needs_name(message) => Ok(()),
        (Some(Some(claimed)), Some(name)) if claimed == name => Ok(()),
        // The message has no name that `Mcp-Name` could differ from.
        (Some(Some(_)), None) if !needs_name(message) => Ok(()),
        _ => Err(Misfit::Mismatch("Mcp-Name must be the same as the name, URI or task id in the body's `params`")),
    }
}

/// Whether 2026-07-28 requires `Mcp-Name` for the method of `message`.
fn needs_name(message: &Message<'_>) -> bool {
    message.method().is_some_and(|method| {
        matches!(
            method,
            "tools/call" | "prompts/get" | "resources/read" | "tasks/get" | "tasks/update" | "tasks/cancel"
        )
    })
}

fn version(headers: &HeaderMap) -> Result<Option<&str>, Misfit> {
    let version = single(headers, &VERSION, "MCP-Protocol-Version is sent more than once: send it once")?;
    version
        .map(|value| value.to_str().map_err(|_| Misfit::Form("MCP-Protocol-Version must be visible ASCII")))
        .transpose()
}

fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    repeated: &'static str,
) -> Result<Option<&'h HeaderValue>, Misfit> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(Misfit::Mismatch(repeated)) } else { Ok(first) }
}

/// The text of a field value, in which `=?base64?...?=` encodes text that a field value cannot hold. `None` when the
/// value is not valid.
fn decoded(value: &HeaderValue) -> Option<Cow<'_, str>> {
    let text = value.to_str().ok()?;
    match text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(text)),
    }
}

/// `text` as a field value. Text that a field value cannot hold, or that would be taken for encoded text, is written as
/// `=?base64?...?=`.
pub fn encoded(text: &str) -> HeaderValue {
    let is_plain = !text.starts_with("=?base64?")
        && text.trim() == text
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && !text.is_empty();
    let written =
        if is_plain { Cow::Borrowed(text) } else { Cow::Owned(format!("=?base64?{}?=", STANDARD.encode(text))) };
    HeaderValue::from_str(&written).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &str)], body: &str) -> Result<Era, Misfit> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_str(value).expect("a legal value"))
            })
            .collect();
        Era::check(&headers, &Messages::read(body.as_bytes()).expect("a message"))
    }

    fn call(version: &str, name: &str) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}"}}}}}}"#
        )
    }

    #[test]
    fn the_stateless_revision_requires_header_fields_that_match_the_body() {
        let new = "2026-07-28";
        let all = [(VERSION_HEADER, new), (METHOD_HEADER, "tools/call"), (NAME_HEADER, "get")];
        assert_eq!(check(&all, &call(new, "get")), Ok(Era::Stateless));
        let coded = [(VERSION_HEADER, new), (METHOD_HEADER, "tools/call"), (NAME_HEADER, "=?base64?Z8O8dA==?=")];
        assert_eq!(check(&coded, &call(new, "güt")), Ok(Era::Stateless));
        assert_eq!(check(&coded, &call(new, "g\\u00fct")), Ok(Era::Stateless));
        let without_meta = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get"}}"#;
        assert_eq!(check(&all, without_meta), Ok(Era::Stateless));
        for (headers, body) in [
            (&all[..1], call(new, "get")),
            (&all[..2], call(new, "get")),
            (&all[1..], call(new, "get")),
            (&all[..], call(new, "put")),
            (&all[..], call("2025-11-25", "get")),
            (&all[..], call(new, "get").replace("tools/call", "tools/list")),
            (&coded[..], call(new, "get")),
        ] {
            assert!(matches!(check(headers, &body), Err(Misfit::Mismatch(_))), "{headers:?} {body}");
        }
        let doubled = [all[0], all[1], all[2], (NAME_HEADER, "get")];
        assert!(matches!(check(&doubled, &call(new, "get")), Err(Misfit::Mismatch(_))));
        let broken = [all[0], all[1], (NAME_HEADER, "=?base64?%%?=")];
        assert!(matches!(check(&broken, &call(new, "get")), Err(Misfit::Mismatch(_))));
    }

    #[test]
    fn encoded_text_is_decoded_to_the_same_text() {
        for text in ["get", "a b", "", " a", "a ", "\u{9}", "güt", "a\r\nb: c", "=?base64?Z2V0?=", "=?base64?"] {
            assert_eq!(decoded(&encoded(text)).as_deref(), Some(text), "{text:?}");
        }
        assert_eq!(encoded("get_stock"), "get_stock");
    }

    #[test]
    fn in_older_revisions_only_the_body_counts() {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get"}}"#;
        for headers in [
            vec![],
            vec![(VERSION_HEADER, "2025-06-18"), (METHOD_HEADER, "ping"), (NAME_HEADER, "other")],
            vec![(VERSION_HEADER, "garbage")],
        ] {
            assert_eq!(check(&headers, body), Ok(Era::Sessions), "{headers:?}");
        }
    }

    #[test]
    fn only_one_revision_allows_batches() {
        let body = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#;
        assert_eq!(check(&[], body), Ok(Era::Sessions));
        assert_eq!(check(&[(VERSION_HEADER, "2025-03-26")], body), Ok(Era::Sessions));
        for version in ["2025-06-18", "2025-11-25", "2026-07-28", "2099-01-01"] {
            assert!(matches!(check(&[(VERSION_HEADER, version)], body), Err(Misfit::Form(_))), "{version}");
        }
    }
}
