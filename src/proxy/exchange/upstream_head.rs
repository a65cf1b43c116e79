//! The head of a request as its upstream may see it.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, ORIGIN, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, Method};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use super::websocket_key::{KEY_FIELD, WebSocketKey};
use crate::config::Protocol;
use crate::http1::{BodyLength, encode_field};
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::MessageFields;
use crate::proxy::context::client_fields::ClientFields;
use crate::proxy::headers;
use crate::proxy::mcp_session::SESSION_HEADER;
use crate::proxy::snapshot::ServerContext;
use crate::types::is_connection_field;

/// Made from a permitted request of a client.
#[derive(Clone, Copy)]
pub(crate) struct UpstreamHead<'a> {
    header: &'a RequestHeader,
    context: &'a RequestContext,
    route: &'a ServerContext,
    length: BodyLength,
    /// The client's fields, if they are known from an earlier request with the same head.
    known: Option<&'a ClientFields>,
    session_id: Option<&'a str>,
    upgrade: Option<&'a Upgrade>,
    /// What stands in the place of the client's own fields about its message.
    message: Option<&'a MessageFields>,
}

/// What a request for a WebSocket needs.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// The client speaks HTTP/2, where a WebSocket has no key (RFC 8441 section 5).
    pub(crate) key: Option<WebSocketKey>,
}

impl<'a> UpstreamHead<'a> {
    /// Without a session. `length`: that of the body.
    pub(crate) fn new(
        header: &'a RequestHeader,
        context: &'a RequestContext,
        route: &'a ServerContext,
        length: BodyLength,
    ) -> Self {
        let known = context.memo.client_fields.as_ref();
        Self { header, context, route, length, known, session_id: None, upgrade: None, message: None }
    }

    /// Its header is not that of the client's request.
    pub(crate) fn of_its_own(self) -> Self {
        Self { known: None, ..self }
    }

    /// With the id that the session has at its replica.
    pub(crate) fn with_session(self, session_id: Option<&'a str>) -> Self {
        Self { session_id, ..self }
    }

    /// With these fields about the message, if there are any, in the place of the client's own.
    pub(crate) fn with_message(self, message: Option<&'a MessageFields>) -> Self {
        let known = self.known.filter(|_| message.is_none());
        Self { message, known, ..self }
    }

    /// Asks for a WebSocket.
    pub(crate) fn with_upgrade(self, upgrade: Option<&'a Upgrade>) -> Self {
        Self { upgrade, ..self }
    }

    /// The method. A WebSocket is asked for with a GET, also when the client used CONNECT.
    pub(crate) fn method(&self) -> &'a Method {
        if self.upgrade.is_some() { &Method::GET } else { &self.header.method }
    }

    /// The length of the body.
    pub(crate) fn length(&self) -> BodyLength {
        self.length
    }

    /// True when it asks for a WebSocket.
    pub(crate) fn upgrades(&self) -> bool {
        self.upgrade.is_some()
    }

    /// In Pingora's form, for HTTP/2.
    pub(crate) fn to_header(self) -> pingora::Result<RequestHeader> {
        let mut request =
            RequestHeader::build_no_case(self.method().clone(), self.context.target.as_bytes(), Some(24))?;
        let mut added = Ok(());
        let mut add = |name: &HeaderName, value: &[u8]| {
            let appended = match HeaderValue::from_bytes(value) {
                Ok(value) => request.append_header(name.clone(), value).map(drop),
                Err(error) => Err(Error::because(ErrorType::InvalidHTTPHeader, "a field for the upstream", error)),
            };
            added = std::mem::replace(&mut added, Ok(())).and(appended);
        };
        self.of_the_client(|name, value| {
            // Informational answers over HTTP/2 are not shown by `h2`. The edge has told the client to continue.
            if *name != EXPECT {
                add(name, value);
            }
        });
        self.of_the_edge(&mut add)?;
        self.of_the_body(&mut add);
        if self.header.headers.get_all(TE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
            add(&TE, b"trailers");
        }
        added.map(|()| request)
    }

    /// In the form of HTTP/1.1.
    pub(crate) fn to_wire(self, wire: &mut BytesMut) -> pingora::Result<()> {
        let target = self.context.target.as_bytes();
        if !target.iter().all(u8::is_ascii_graphic) {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "the target cannot be written in HTTP/1"));
        }
        wire.reserve(2048);
        wire.put_slice(self.method().as_str().as_bytes());
        wire.put_u8(b' ');
        wire.put_slice(target);
        wire.put_slice(b" HTTP/1.1\r\n");
        match self.known {
            Some(ClientFields(fields)) => wire.put_slice(fields),
            None => self.of_the_client(|name, value| encode_field(name, value, wire)),
        }
        self.of_the_edge(|name, value| encode_field(name, value, wire))?;
        match self.upgrade {
            Some(Upgrade { key }) => {
                encode_field(&CONNECTION, b"Upgrade", wire);
                encode_field(&UPGRADE, b"websocket", wire);
                if let Some(key) = key {
                    encode_field(&KEY_FIELD, key.as_str().as_bytes(), wire);
                }
            }
            None if self.length == BodyLength::Chunked => encode_field(&TRANSFER_ENCODING, b"chunked", wire),
            None => self.of_the_body(|name, value| encode_field(name, value, wire)),
        }
        wire.put_slice(b"\r\n");
        Ok(())
    }

    /// The client's fields that the upstream gets. They depend on the head of the request and its route only.
    pub(crate) fn client_fields(self) -> ClientFields {
        let mut wire = BytesMut::with_capacity(512);
        self.of_the_client(|name, value| encode_field(name, value, &mut wire));
        // Copied into memory of exactly their size, because they may be kept for long.
        ClientFields(Bytes::copy_from_slice(&wire))
    }

    fn is_mcp(&self) -> bool {
        self.route.settings.protocol == Protocol::Mcp
    }

    /// Hands the client's fields that the upstream may see to `add`.
    fn of_the_client(self, mut add: impl FnMut(&HeaderName, &[u8])) {
        let Self { header, context, route, .. } = self;
        let is_mcp = self.is_mcp();
        let named: Vec<HeaderName> = headers::named_in_connection(&header.headers).collect();
        for (name, value) in &header.headers {
            let is_left_out = *name == HOST
                || *name == CONTENT_LENGTH
                || is_connection_field(name)
                || named.contains(name)
                || (is_mcp && (*name == ORIGIN || is_of_mcp_exchange(name) || headers::misleads(name)))
                || (self.message.is_some() && MessageFields::NAMES.contains(&name.as_str()))
                || headers::stays_at_edge(name, context, route);
            if !is_left_out {
                add(name, value.as_bytes());
            }
        }
    }

    /// Hands the fields that the edge sets to `add`.
    fn of_the_edge(self, mut add: impl FnMut(&HeaderName, &[u8])) -> pingora::Result<()> {
        let Self { context, route, session_id, .. } = self;
        let is_mcp = self.is_mcp();
        headers::of_the_edge(context, route, |name, value| {
            if !(is_mcp && is_of_mcp_exchange(name)) {
                add(name, value);
            }
        })?;
        if let Some(id) = session_id {
            add(&SESSION_HEADER, id.as_bytes());
        }
        for (name, value) in self.message.into_iter().flat_map(MessageFields::iter) {
            add(name, value.as_bytes());
        }
        Ok(())
    }

    /// Hands the declared length of the body to `add`.
    fn of_the_body(self, mut add: impl FnMut(&HeaderName, &[u8])) {
        // Servers expect a length, also of an empty body, with the methods that give a body a meaning (RFC 9110 section 8.6).
        let is_expected = [Method::POST, Method::PUT, Method::PATCH].contains(&self.header.method);
        match self.length {
            BodyLength::Exact(0) if !is_expected && !self.header.headers.contains_key(CONTENT_LENGTH) => {}
            BodyLength::Exact(length) => add(&CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes()),
            BodyLength::Chunked | BodyLength::UntilClose => {}
        }
    }
}

/// True for fields that neither a client nor a route can set for an MCP upstream. The edge asks for answers that are not
/// compressed, because it has to read them; it answers `Expect` itself; and it writes the session id.
fn is_of_mcp_exchange(name: &HeaderName) -> bool {
    [ACCEPT_ENCODING, EXPECT].contains(name) || *name == SESSION_HEADER
}
