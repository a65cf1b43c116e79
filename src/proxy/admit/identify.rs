//! Reads the head of a request: limits, path, host, and the client behind trusted proxies.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderValue, Method, Version};
use pingora::http::RequestHeader;

use super::forwarded::Forwarded;
use crate::config::{Limits, limits};
use crate::metrics::RejectionReason as Reason;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::context::Client;
use crate::proxy::context::rejection::Rejection;
use crate::proxy::listener::ListenerContext;
use crate::proxy::text::push_address;
use crate::types::{Authority, canonical_path};

fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Rejection {
    Rejection::new(Reason::BadRequest, message)
}

/// Fills `client` from the head of a request and its connection.
///
/// # Errors
/// The head exceeds a limit or is malformed. What was read before is in `client`.
pub(crate) fn identify(
    downstream: &Downstream<'_>,
    listener: Option<&ListenerContext>,
    limits: &Limits,
    client: &mut Client,
) -> Result<(), Rejection> {
    let header = downstream.req_header();
    if header.method.as_str().len() > limits::METHOD_BYTES {
        return Err(bad("the method is too long"));
    }
    let target = header.raw_path();
    if target.len() as u64 > limits.uri_bytes.0 {
        return Err(Rejection::uri_too_long(limits));
    }
    let bytes: usize = header.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if header.headers.len() > limits.header_count || bytes as u64 > limits.header_bytes.0 {
        return Err(Rejection::head_too_large(limits));
    }
    // HTTP/2 can carry such values (RFC 9113 section 8.2.1 forbids them), and HTTP/1 strips the white space: the upstream would
    // read another value.
    if header.headers.values().map(HeaderValue::as_bytes).any(|value| value.trim_ascii() != value) {
        return Err(bad("the value of a header field begins or ends with white space"));
    }
    // CONNECT may only ask for a WebSocket, over HTTP/2 (RFC 8441).
    let is_tunnel = header.method == Method::CONNECT && !downstream.asks_for_websocket();
    if header.method == Method::TRACE || is_tunnel {
        return Err(Rejection::new(Reason::MethodNotAllowed, "this method is not supported"));
    }
    let (path, query) = match target.iter().position(|&byte| byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    };
    let path = canonical_path(path).map_err(|error| bad(error.to_string()))?.into_owned();
    let query: Option<Arc<str>> = match query {
        Some(query) if query.iter().all(u8::is_ascii_graphic) => Some(String::from_utf8_lossy(query).into()),
        Some(_) => return Err(bad("a query may contain only the characters of RFC 3986: encode others as `%XX`")),
        None => None,
    };
    (client.path, client.query) = (path, query);
    read_client(header, listener, downstream.peer(), client)
}

/// Notes what is known of a client whose head was refused, for the log: the address at the other end of the connection, and
/// what there is of path and host.
pub(crate) fn identify_refused(downstream: &Downstream<'_>, client: &mut Client) {
    if client.address.is_unspecified() {
        client.address = downstream.peer().map_or(client.address, |peer| peer.ip().to_canonical());
    }
    let header = downstream.req_header();
    if client.path.is_empty() {
        client.path = header.uri.path().chars().take(limits::LOGGED_PATH).collect();
    }
    if client.authority.is_empty() {
        client.authority = host(header).ok().filter(|host| Authority::parse(host).is_ok()).unwrap_or_default();
    }
}

/// Who the client is and which host it asks for, also behind trusted proxies.
fn read_client(
    header: &RequestHeader,
    listener: Option<&ListenerContext>,
    peer: Option<SocketAddr>,
    client: &mut Client,
) -> Result<(), Rejection> {
    let peer = peer.map_or(client.address, |peer| peer.ip().to_canonical());
    let trusted = listener.is_some_and(|listener| listener.trusts(peer));
    client.address = peer;
    client.behind_proxy = trusted;
    client.host_is_listed = listener.is_some_and(ListenerContext::names_hosts);
    client.keeps_underscores = listener.is_some_and(ListenerContext::keeps_underscores);
    client.scheme = if listener.is_some_and(|listener| listener.tls) { "https" } else { "http" };
    let written = host(header)?;
    let mut authority = Authority::parse(&written).map_err(|_| bad("the Host field is malformed"))?;
    client.authority.clone_from(&written);
    let mut forwarded = Forwarded::default();
    if let Some(listener) = listener.filter(|_| trusted) {
        forwarded = Forwarded::read(&header.headers, listener.trusted_fields());
        client.address = forwarded.client(|hop| listener.trusts(hop)).unwrap_or(peer).to_canonical();
        client.scheme = forwarded.scheme.unwrap_or(client.scheme);
        if let Some(host) = &forwarded.host {
            authority = Authority::parse(host).map_err(|_| bad("the forwarded host is malformed"))?;
            client.authority.clone_from(host);
        }
    }
    // The host that counts is held against the listener's, whoever has named it.
    if listener.is_some_and(|listener| !listener.serves(authority.host())) {
        return Err(Rejection::new(Reason::Misdirected, "this listener does not serve that host"));
    }
    let host = authority.host().to_owned();
    let mut forwarded_for = String::with_capacity(40);
    forwarded_for.push_str(&forwarded.chain.join(", "));
    if !forwarded_for.is_empty() {
        forwarded_for.push_str(", ");
    }
    push_address(&mut forwarded_for, peer);
    client.forwarded_for = forwarded_for;
    client.host = host;
    Ok(())
}

/// The one host of a request: `:authority`, the host of an absolute target, or the `Host` field. All that are present must
/// agree.
fn host(header: &RequestHeader) -> Result<String, Rejection> {
    let mut fields = header.headers.get_all(HOST).iter();
    let field =
        fields.next().map(|value| value.to_str().map_err(|_| bad("the Host field is malformed"))).transpose()?;
    if fields.next().is_some() {
        return Err(bad("there is more than one Host field"));
    }
    match (header.uri.authority().map(http::uri::Authority::as_str), field) {
        (Some(target), Some(field)) if !target.eq_ignore_ascii_case(field) => {
            Err(bad("the Host field and the request target name different hosts"))
        }
        // Only older versions may leave it out (RFC 9112 section 3.2). HTTP/2 has `:authority`.
        (Some(_), None) if header.version == Version::HTTP_11 => Err(bad("there is no Host field")),
        (Some(host), _) | (None, Some(host)) => Ok(host.to_owned()),
        (None, None) => Err(bad("there is no Host field")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, hosts: &[&'static str]) -> RequestHeader {
        let mut header = RequestHeader::build("GET", target.as_bytes(), None).expect("legal");
        for host in hosts {
            header.append_header(HOST, *host).expect("legal");
        }
        header
    }

    #[test]
    fn a_request_has_exactly_one_host() {
        assert_eq!(host(&request("/a", &["h.example:80"])).ok().as_deref(), Some("h.example:80"));
        for bad in [request("/a", &[]), request("/a", &["h", "h"])] {
            assert_eq!(host(&bad).expect_err("refused").reason, Reason::BadRequest);
        }
        let mut absolute = request("/a", &["h.example"]);
        absolute.set_uri("http://H.example/a".parse().expect("legal"));
        assert_eq!(host(&absolute).ok().as_deref(), Some("H.example"));
        absolute.set_uri("http://other.example/a".parse().expect("legal"));
        assert_eq!(host(&absolute).expect_err("refused").reason, Reason::BadRequest);
    }
}
