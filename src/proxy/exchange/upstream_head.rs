//! The head of an MCP request as its upstream may see it.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, EXPECT, HOST};
use http::{HeaderName, HeaderValue, Method, Version};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use crate::http1::encode_field;
use crate::proxy::context::RequestContext;
use crate::proxy::context::client_fields::ClientFields;
use crate::proxy::headers;
use crate::proxy::mcp_session::SESSION_HEADER;
use crate::proxy::snapshot::RouteContext;
use crate::types::is_connection_field;

/// Made from a permitted request of a client.
#[derive(Clone, Copy)]
pub(crate) struct UpstreamHead<'a> {
    header: &'a RequestHeader,
    context: &'a RequestContext,
    route: &'a RouteContext,
    session_id: Option<&'a str>,
}

impl<'a> UpstreamHead<'a> {
    /// Without a session.
    pub(crate) fn new(header: &'a RequestHeader, context: &'a RequestContext, route: &'a RouteContext) -> Self {
        Self { header, context, route, session_id: None }
    }

    /// With the id that the session has at its replica.
    pub(crate) fn with_session(self, session_id: Option<&'a str>) -> Self {
        Self { session_id, ..self }
    }

    /// In Pingora's form. `length`: that of the body of a POST.
    pub(crate) fn to_header(self, length: usize) -> pingora::Result<RequestHeader> {
        let method = self.header.method.clone();
        let mut request = RequestHeader::build_no_case(method, self.context.target.as_bytes(), Some(24))?;
        request.set_version(Version::HTTP_11);
        let mut added = Ok(());
        let mut add = |name: &HeaderName, value: &[u8]| {
            let appended = match HeaderValue::from_bytes(value) {
                Ok(value) => request.append_header(name.clone(), value).map(drop),
                Err(error) => Err(Error::because(ErrorType::InvalidHTTPHeader, "a field for the upstream", error)),
            };
            added = std::mem::replace(&mut added, Ok(())).and(appended);
        };
        self.of_the_client(&mut add);
        self.of_the_edge(length, &mut add)?;
        added.map(|()| request)
    }

    /// In the form of HTTP/1.1, with the body after it.
    pub(crate) fn to_wire(self, body: &Bytes) -> pingora::Result<BytesMut> {
        let mut wire = self.to_wire_head(body.len())?;
        wire.put_slice(body);
        Ok(wire)
    }

    /// In the form of HTTP/1.1, for a body of this length.
    pub(crate) fn to_wire_head(self, length: usize) -> pingora::Result<BytesMut> {
        let target = self.context.target.as_bytes();
        if !target.iter().all(u8::is_ascii_graphic) {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "the target cannot be written in HTTP/1"));
        }
        let mut wire = BytesMut::with_capacity(2048);
        wire.put_slice(self.header.method.as_str().as_bytes());
        wire.put_u8(b' ');
        wire.put_slice(target);
        wire.put_slice(b" HTTP/1.1\r\n");
        match &self.context.memo.client_fields {
            Some(ClientFields(fields)) => wire.put_slice(fields),
            None => self.of_the_client(|name, value| encode_field(name, value, &mut wire)),
        }
        self.of_the_edge(length, |name, value| encode_field(name, value, &mut wire))?;
        wire.put_slice(b"\r\n");
        Ok(wire)
    }

    /// The client's fields that the upstream gets. They depend on the head of the request and its route only.
    pub(crate) fn client_fields(self) -> ClientFields {
        let mut wire = BytesMut::with_capacity(512);
        self.of_the_client(|name, value| encode_field(name, value, &mut wire));
        // Copied into memory of exactly their size, because they may be kept for long.
        ClientFields(Bytes::copy_from_slice(&wire))
    }

    /// Hands the client's fields that the upstream may see to `add`.
    fn of_the_client(self, mut add: impl FnMut(&HeaderName, &[u8])) {
        let Self { header, context, route, .. } = self;
        let named: Vec<HeaderName> = headers::named_in_connection(&header.headers).collect();
        for (name, value) in &header.headers {
            let is_left_out = *name == HOST
                || is_of_exchange(name)
                || is_connection_field(name)
                || named.contains(name)
                || headers::misleads(name)
                || headers::stays_at_edge(name, &context.snapshot, route);
            if !is_left_out {
                add(name, value.as_bytes());
            }
        }
    }

    /// Hands the fields that the edge sets to `add`.
    fn of_the_edge(self, length: usize, mut add: impl FnMut(&HeaderName, &[u8])) -> pingora::Result<()> {
        let Self { header, context, route, session_id } = self;
        headers::of_the_edge(context, route, |name, value| {
            if !is_of_exchange(name) {
                add(name, value);
            }
        })?;
        if let Some(id) = session_id {
            add(&SESSION_HEADER, id.as_bytes());
        }
        if header.method == Method::POST {
            add(&CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes());
        }
        Ok(())
    }
}

/// True for fields that neither a client nor a route can set for an MCP upstream. The edge asks for answers that are not
/// compressed, because it has to read them; it answers `Expect` itself; and it writes the length and the session id.
fn is_of_exchange(name: &HeaderName) -> bool {
    [ACCEPT_ENCODING, EXPECT, CONTENT_LENGTH].contains(name) || *name == SESSION_HEADER
}
