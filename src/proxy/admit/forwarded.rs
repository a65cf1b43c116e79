//! What a proxy in front of the edge says of a request: `X-Forwarded-*`, or `Forwarded` (RFC 7239).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;

use crate::config::TrustedField;
use crate::types::RequestId;

/// What trusted proxies say, as far as they say it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Forwarded {
    /// The addresses of client and proxies as they are written. The last one is that of the proxy before the trusted one.
    pub(crate) chain: Vec<String>,
    /// `http` or `https`.
    pub(crate) scheme: Option<&'static str>,
    /// The host that the client asked for. It is not checked.
    pub(crate) host: Option<String>,
}

impl Forwarded {
    /// Reads the fields in `trusted`. What `Forwarded` says comes before what the others say.
    pub(crate) fn read(headers: &HeaderMap, trusted: &[TrustedField]) -> Self {
        let items = |field: TrustedField| {
            let is_trusted = trusted.contains(&field);
            let values = headers.get_all(field.name()).iter().filter(move |_| is_trusted);
            // Each item is read by itself. A client can send bytes that are not text, and the items after them, which trusted
            // proxies have added, still count.
            let items = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
            let items = items.filter_map(|item| std::str::from_utf8(item).ok()).filter(|item| item.is_ascii());
            items.map(str::trim).filter(|item| !item.is_empty())
        };
        let mut found = Self {
            chain: items(TrustedField::XForwardedFor).map(str::to_owned).collect(),
            scheme: items(TrustedField::XForwardedProto).next().and_then(scheme),
            host: items(TrustedField::XForwardedHost).next().map(str::to_owned),
        };
        if trusted.contains(&TrustedField::Forwarded) {
            found.read_rfc_7239(headers);
        }
        found
    }

    fn read_rfc_7239(&mut self, headers: &HeaderMap) {
        let values = headers.get_all(TrustedField::Forwarded.name()).iter().filter_map(|value| value.to_str().ok());
        let (mut chain, mut is_first) = (Vec::new(), true);
        for element in values.flat_map(|value| split(value, ',')) {
            for pair in split(element, ';') {
                let Some((name, value)) = pair.split_once('=') else { continue };
                let value = unquoted(value.trim());
                match name.trim().to_ascii_lowercase().as_str() {
                    "for" => chain.push(value),
                    "proto" if is_first => self.scheme = scheme(&value).or(self.scheme),
                    "host" if is_first => self.host = Some(value),
                    _ => {}
                }
            }
            is_first = false;
        }
        if !chain.is_empty() {
            self.chain = chain;
        }
    }

    /// The address of the client: from the right, the first one that is not of a trusted proxy. An item that is not an
    /// address ends the search, because the client may have made up the items before it.
    pub(crate) fn client(&self, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        self.chain.iter().rev().map_while(|hop| address(hop)).find(|hop| !is_trusted(*hop))
    }
}

/// What a trusted proxy has called the request.
pub(crate) fn request_id(headers: &HeaderMap, trusted: &[TrustedField]) -> Option<RequestId> {
    let field = TrustedField::XRequestId;
    let mut values = headers.get_all(field.name()).iter().filter(|_| trusted.contains(&field));
    match (values.next(), values.next()) {
        (Some(value), None) => RequestId::given(value.as_bytes()),
        _ => None,
    }
}

fn scheme(value: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|scheme| scheme.eq_ignore_ascii_case(value))
}

/// An address, with or without a port: `203.0.113.9`, `203.0.113.9:51234`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:51234`.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port).or_else(bracketed)
}

/// The parts of `text` between separators that are not in quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(move |character| {
        let is_separator = character == separator && !quoted;
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        is_separator
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

/// The value of a token or of a quoted string (RFC 9110 section 5.6.4).
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut characters = inner.chars();
    let mut text = String::with_capacity(inner.len());
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    const X_FIELDS: [TrustedField; 3] =
        [TrustedField::XForwardedFor, TrustedField::XForwardedProto, TrustedField::XForwardedHost];

    #[test]
    fn an_item_that_is_no_text_does_not_hide_the_others() {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"\xff, 203.0.113.9").expect("a value");
        headers.insert("x-forwarded-for", value);
        assert_eq!(Forwarded::read(&headers, &X_FIELDS).chain, ["203.0.113.9"]);
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value")))
            .collect()
    }

    /// The client, if 10.0.0.0/8 is trusted.
    fn client(read: &Forwarded) -> Option<String> {
        let is_trusted = |address: IpAddr| matches!(address, IpAddr::V4(four) if four.octets()[0] == 10);
        read.client(is_trusted).map(|address| address.to_string())
    }

    #[test]
    fn the_first_item_of_a_list_is_the_clients_and_the_address_comes_from_the_right() {
        for (chain, expected) in [
            ("203.0.113.9", Some("203.0.113.9")),
            ("203.0.113.9:51234", Some("203.0.113.9")),
            ("[2001:db8::1]:51234, 10.0.0.1:80", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("1.1.1.1, 203.0.113.9, 10.0.0.1", Some("203.0.113.9")),
            ("1.1.1.1, unknown, 10.0.0.1", None),
            ("", None),
        ] {
            let read = Forwarded::read(&headers(&[("x-forwarded-for", chain)]), &X_FIELDS);
            assert_eq!(client(&read).as_deref(), expected, "{chain}");
        }
        for (value, expected) in
            [("https,http", Some("https")), ("HTTPS", Some("https")), ("http, https", Some("http")), ("ws", None)]
        {
            let read = Forwarded::read(&headers(&[("x-forwarded-proto", value)]), &X_FIELDS);
            assert_eq!(read.scheme, expected, "{value}");
        }
        let read = Forwarded::read(&headers(&[("x-forwarded-host", "a.example, b.example")]), &X_FIELDS);
        assert_eq!(read.host.as_deref(), Some("a.example"));
    }

    #[test]
    fn only_the_fields_that_the_listener_names_are_read() {
        let all = headers(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example"),
            ("forwarded", "for=2.2.2.2;proto=http;host=b.example"),
        ]);
        let read = Forwarded::read(&all, &[TrustedField::XForwardedFor]);
        assert_eq!((client(&read).as_deref(), read.scheme, read.host), (Some("1.1.1.1"), None, None));
        let read = Forwarded::read(&all, &[TrustedField::Forwarded]);
        assert_eq!((client(&read).as_deref(), read.scheme), (Some("2.2.2.2"), Some("http")));
        assert_eq!(read.host.as_deref(), Some("b.example"));
        assert_eq!(Forwarded::read(&all, &[]), Forwarded::default());
    }

    #[test]
    fn the_field_of_rfc_7239_may_have_quotes_and_several_elements() {
        let field = r#"For="[2001:db8::1]:4711";Host="a.example:8443";proto=HTTPS, for=10.0.0.1;host="x,y;z""#;
        let read = Forwarded::read(&headers(&[("forwarded", field)]), &[TrustedField::Forwarded]);
        assert_eq!((client(&read).as_deref(), read.scheme), (Some("2001:db8::1"), Some("https")));
        assert_eq!(read.host.as_deref(), Some("a.example:8443"));
        for hidden in ["for=_hidden, for=10.0.0.1", "for=unknown"] {
            let read = Forwarded::read(&headers(&[("forwarded", hidden)]), &[TrustedField::Forwarded]);
            assert_eq!(client(&read), None, "{hidden}");
        }
    }
}
