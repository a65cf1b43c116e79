//! What the header fields of a POST say about its body, and whether that is true.
//!
//! From 2026-07-28 on `MCP-Protocol-Version`, `Mcp-Method` and `Mcp-Name` repeat what the body says, and whoever reads
//! the body must refuse a request in which they differ (MCP 2026-07-28, "Standard headers"). Before, the body alone decides.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::message::{Message, Messages};

/// The protocol version of a request.
pub const VERSION_HEADER: &str = "mcp-protocol-version";
const METHOD_HEADER: &str = "mcp-method";
const NAME_HEADER: &str = "mcp-name";

// A look-up by text would check the text anew each time.
static VERSION: HeaderName = HeaderName::from_static(VERSION_HEADER);
static METHOD: HeaderName = HeaderName::from_static(METHOD_HEADER);
static NAME: HeaderName = HeaderName::from_static(NAME_HEADER);

/// The last revision of the era of sessions.
const LAST_WITH_SESSIONS: &str = "2025-11-25";
/// The only revision with batches; requests without a version are of it, or older.
const WITH_BATCHES: &str = "2025-03-26";

/// Which rules a request follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Up to 2025-11-25: `initialize`, sessions, a client that leaves does not cancel.
    Sessions,
    /// From 2026-07-28 on: every request stands alone, and a client that leaves cancels.
    Stateless,
}

/// Why a header field and the body do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// They differ, or a field is missing: JSON-RPC error -32020.
    Mismatch(&'static str),
    /// The message has a form that its revision does not know.
    Form(&'static str),
}

impl Era {
    /// The era that the header fields alone tell, for requests without a body.
    ///
    /// # Errors
    /// There is more than one version.
    pub fn of_headers(headers: &HeaderMap) -> Result<Self, Misfit> {
        Ok(Self::of_version(version(headers)?))
    }

    /// Versions are dates, and compare as text. What is no date is left to the upstream to refuse.
    fn of_version(version: Option<&str>) -> Self {
        let is_date = |text: &str| text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        match version {
            Some(version) if is_date(version) && version > LAST_WITH_SESSIONS => Self::Stateless,
            _ => Self::Sessions,
        }
    }

    /// The era of a request with `headers` and `messages`, when the two agree.
    ///
    /// # Errors
    /// They do not.
    pub fn check(headers: &HeaderMap, messages: &Messages<'_>) -> Result<Self, Misfit> {
        let claimed = version(headers)?;
        let by_header = Self::of_version(claimed);
        let meta = messages.iter().find_map(|message| message.meta_version.as_deref());
        if by_header == Self::Sessions && Self::of_version(meta) == Self::Sessions {
            let batches = claimed.is_none_or(|version| version <= WITH_BATCHES);
            if messages.single().is_none() && !batches {
                return Err(Misfit::Form("this protocol version has no batches"));
            }
            return Ok(Self::Sessions);
        }
        let Some(message) = messages.single() else {
            return Err(Misfit::Form("this protocol version has no batches"));
        };
        if message.method().is_some() {
            stateless(headers, claimed, message)?;
        }
        Ok(Self::Stateless)
    }
}

fn stateless(headers: &HeaderMap, version: Option<&str>, message: &Message<'_>) -> Result<(), Misfit> {
    let meta = message.meta_version.as_deref();
    // A body that does not repeat the version is the upstream's to refuse: there is nothing to differ.
    if version.is_none() || (meta.is_some() && version != meta) {
        return Err(Misfit::Mismatch("MCP-Protocol-Version is not the version in the body's `_meta`"));
    }
    let method = single(headers, &METHOD, "there is more than one Mcp-Method")?;
    if method.and_then(|method| method.to_str().ok()) != message.method() {
        return Err(Misfit::Mismatch("Mcp-Method is not the body's `method`"));
    }
    let claimed = single(headers, &NAME, "there is more than one Mcp-Name")?;
    match (claimed.map(decoded), message.name()) {
        (None, None) => Ok(()),
        (None, Some(_)) if !needs_name(message) => Ok(()),
        (Some(Some(claimed)), Some(name)) if claimed == name => Ok(()),
        // A name beside a method that has none says nothing.
        (Some(Some(_)), None) if !needs_name(message) => Ok(()),
        _ => Err(Misfit::Mismatch("Mcp-Name is not the name that the body is about")),
    }
}

/// The methods for which 2026-07-28 demands `Mcp-Name`.
fn needs_name(message: &Message<'_>) -> bool {
    message.method().is_some_and(|method| {
        matches!(
            method,
            "tools/call" | "prompts/get" | "resources/read" | "tasks/get" | "tasks/update" | "tasks/cancel"
        )
    })
}

fn version(headers: &HeaderMap) -> Result<Option<&str>, Misfit> {
    let version = single(headers, &VERSION, "there is more than one MCP-Protocol-Version")?;
    version.map(|value| value.to_str().map_err(|_| Misfit::Form("MCP-Protocol-Version is no text"))).transpose()
}

fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    doubled: &'static str,
) -> Result<Option<&'h HeaderValue>, Misfit> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(Misfit::Mismatch(doubled)) } else { Ok(first) }
}

/// The text of a field; what a field cannot hold is written `=?base64?...?=`.
fn decoded(value: &HeaderValue) -> Option<Cow<'_, str>> {
    let text = value.to_str().ok()?;
    match text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(text)),
    }
}

/// `text` as the value of a field: what a field cannot hold, or what would be taken for something encoded, is written
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
    fn the_stateless_revision_wants_agreement() {
        let new = "2026-07-28";
        let all = [(VERSION_HEADER, new), (METHOD_HEADER, "tools/call"), (NAME_HEADER, "get")];
        assert_eq!(check(&all, &call(new, "get")), Ok(Era::Stateless));
        let coded = [(VERSION_HEADER, new), (METHOD_HEADER, "tools/call"), (NAME_HEADER, "=?base64?Z8O8dA==?=")];
        assert_eq!(check(&coded, &call(new, "güt")), Ok(Era::Stateless));
        assert_eq!(check(&coded, &call(new, "g\\u00fct")), Ok(Era::Stateless));
        let silent = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get"}}"#;
        assert_eq!(check(&all, silent), Ok(Era::Stateless));
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
    fn what_is_encoded_is_read_back() {
        for text in ["get", "a b", "", " a", "a ", "\u{9}", "güt", "a\r\nb: c", "=?base64?Z2V0?=", "=?base64?"] {
            assert_eq!(decoded(&encoded(text)).as_deref(), Some(text), "{text:?}");
        }
        assert_eq!(encoded("get_stock"), "get_stock");
    }

    #[test]
    fn before_it_the_body_decides() {
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
    fn batches_are_of_one_revision() {
        let body = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#;
        assert_eq!(check(&[], body), Ok(Era::Sessions));
        assert_eq!(check(&[(VERSION_HEADER, "2025-03-26")], body), Ok(Era::Sessions));
        for version in ["2025-06-18", "2025-11-25", "2026-07-28", "2099-01-01"] {
            assert!(matches!(check(&[(VERSION_HEADER, version)], body), Err(Misfit::Form(_))), "{version}");
        }
    }
}
