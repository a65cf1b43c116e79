//! The head of an MCP request as its upstream may see it.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, EXPECT, HOST};
use http::{HeaderName, HeaderValue, Method, Version};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use crate::http1::encode_field;
use crate::proxy::context::RequestContext;
use crate::proxy::headers;
use crate::proxy::mcp_session::SESSION_HEADER;
use crate::proxy::snapshot::RouteContext;

/// Made from a client's request that is permitted.
#[derive(Clone, Copy)]
pub(crate) struct UpstreamHead<'a> {
    header: &'a RequestHeader,
    context: &'a RequestContext,
    route: &'a RouteContext,
    session_id: Option<&'a str>,
}

/// The fields of a client that its upstream gets, in the form of HTTP/1.1. Some may be secret.
pub(crate) struct ClientFields(Bytes);

impl std::fmt::Debug for ClientFields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientFields").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}

impl<'a> UpstreamHead<'a> {
    /// Without a session.
    pub(crate) fn new(header: &'a RequestHeader, context: &'a RequestContext, route: &'a RouteContext) -> Self {
        Self { header, context, route, session_id: None }
    }

    /// With the session's own id, where there is one.
    pub(crate) fn with_session(self, session_id: Option<&'a str>) -> Self {
        Self { session_id, ..self }
    }

    /// The client's method.
    pub(crate) fn method(&self) -> &Method {
        &self.header.method
    }

    /// In Pingora's form. `length` is that of the body of a POST.
    pub(crate) fn to_header(self, length: usize) -> pingora::Result<RequestHeader> {
        let method = self.method().clone();
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

    /// In the form of HTTP/1.1, with the body behind it.
    pub(crate) fn to_wire(self, body: &Bytes) -> pingora::Result<BytesMut> {
        let mut wire = self.to_wire_head(body.len())?;
        wire.put_slice(body);
        Ok(wire)
    }

    /// In the form of HTTP/1.1, for a body of this length.
    pub(crate) fn to_wire_head(self, length: usize) -> pingora::Result<BytesMut> {
        let target = self.context.target.as_bytes();
        if !target.iter().all(u8::is_ascii_graphic) {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "the target has no form in HTTP/1"));
        }
        let mut wire = BytesMut::with_capacity(2048);
        wire.put_slice(self.method().as_str().as_bytes());
        wire.put_u8(b' ');
        wire.put_slice(target);
        wire.put_slice(b" HTTP/1.1\r\n");
        match &self.context.passed_on {
            Some(ClientFields(fields)) => wire.put_slice(fields),
            None => self.of_the_client(|name, value| encode_field(name, value, &mut wire)),
        }
        self.of_the_edge(length, |name, value| encode_field(name, value, &mut wire))?;
        wire.put_slice(b"\r\n");
        Ok(wire)
    }

    /// The fields of the client. They follow from the request's head and its route alone.
    pub(crate) fn client_fields(self) -> ClientFields {
        let mut wire = BytesMut::with_capacity(512);
        self.of_the_client(|name, value| encode_field(name, value, &mut wire));
        // As large as they are: they may be kept.
        ClientFields(Bytes::copy_from_slice(&wire))
    }

    /// Hands on the fields of the client that the upstream may see.
    fn of_the_client(self, mut add: impl FnMut(&HeaderName, &[u8])) {
        let Self { header, context, route, .. } = self;
        let named: Vec<HeaderName> = headers::named_in_connection(&header.headers).collect();
        for (name, value) in &header.headers {
            let is_left_out = *name == HOST
                || is_of_exchange(name)
                || headers::is_of_connection(name)
                || named.contains(name)
                || headers::misleads(name)
                || headers::stays_at_edge(name, context, route);
            if !is_left_out {
                add(name, value.as_bytes());
            }
        }
    }

    /// Hands on those that the edge sets.
    fn of_the_edge(self, length: usize, mut add: impl FnMut(&HeaderName, &[u8])) -> pingora::Result<()> {
        let Self { header, context, route, session_id } = self;
        let permit = context.permit.as_ref();
        let permit = permit.ok_or_else(|| Error::explain(ErrorType::InternalError, "the request has no permit"))?;
        headers::of_the_edge(context, route, permit, |name, value| {
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

/// True for what neither a client nor a route says to an MCP upstream: what is compressed could not be looked at, the edge
/// has answered `Expect` itself, and it knows the length and the session.
fn is_of_exchange(name: &HeaderName) -> bool {
    [ACCEPT_ENCODING, EXPECT, CONTENT_LENGTH].contains(name) || *name == SESSION_HEADER
}
