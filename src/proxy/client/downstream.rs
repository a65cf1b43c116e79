//! A client's request and its answer, whichever way the request came: HTTP/1 of MCP routes is read and written by the edge
//! itself, everything else by Pingora.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderValue, StatusCode, Version};
use pingora::ErrorType;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::tls::SslDigest;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::http1_downstream::Http1Downstream;
use super::transfer::{Follows, Idle};
use crate::config::limits;

/// One request of a client, and the answer to it.
pub(crate) enum Downstream<'a> {
    /// Read and written by the edge.
    Http1(Http1Downstream<'a>),
    /// Read and written by Pingora. The alarm is made when it is first needed.
    Pingora(&'a mut Session, Option<Alarm>),
}

impl<'a> Downstream<'a> {
    /// A request that Pingora has read.
    pub(crate) fn of_pingora(session: &'a mut Session) -> Self {
        Self::Pingora(session, None)
    }

    /// The head of the request.
    pub(crate) fn req_header(&self) -> &RequestHeader {
        match self {
            Self::Http1(request) => request.head(),
            Self::Pingora(session, _) => session.req_header(),
        }
    }

    /// What the TLS handshake told about the client.
    pub(crate) fn tls(&self) -> Option<&SslDigest> {
        match self {
            Self::Http1(request) => request.tls(),
            Self::Pingora(session, _) => session.digest()?.ssl_digest.as_deref(),
        }
    }

    /// The client's address: the other end of the connection.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Http1(request) => request.peer(),
            Self::Pingora(session, _) => session.client_addr()?.as_inet().copied(),
        }
    }

    /// The edge's own address: this end of the connection.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Http1(request) => request.local(),
            Self::Pingora(session, _) => session.server_addr()?.as_inet().copied(),
        }
    }

    pub(crate) fn is_upgrade_req(&self) -> bool {
        match self {
            // Such requests go to Pingora.
            Self::Http1(_) => false,
            Self::Pingora(session, _) => session.is_upgrade_req(),
        }
    }

    /// `write`: how long the client may not read. `read`: how long it may pause within a body. `keepalive`: how long the
    /// connection may wait for the next request.
    pub(crate) fn set_timeouts(&mut self, write: Duration, read: Duration, keepalive: Duration) {
        match self {
            // Whoever reads the body sets a limit of their own, and the connection has its own limit between two requests.
            Self::Http1(request) => request.set_write_timeout(write),
            Self::Pingora(session, _) => {
                // `None`: the connection closes after this request, for which an HTTP/1.0 client may be waiting.
                if session.get_keepalive().is_some() {
                    session.set_keepalive(Some(keepalive.as_secs().max(1)));
                }
                session.set_read_timeout(Some(read));
                session.set_write_timeout(Some(write));
            }
        }
    }

    /// The connection closes after this answer.
    pub(crate) fn close_after(&mut self) {
        match self {
            Self::Http1(request) => request.close_after(),
            Self::Pingora(session, _) => session.set_keepalive(None),
        }
    }

    /// True when an answer can be written before the request was read to its end: each request is a stream of HTTP/2.
    pub(crate) fn can_answer_early(&self) -> bool {
        matches!(self, Self::Pingora(session, _) if session.is_http2())
    }

    /// True when the request has no body.
    pub(crate) fn is_body_empty(&mut self) -> bool {
        match self {
            Self::Http1(request) => request.is_bodiless(),
            Self::Pingora(session, _) => session.is_body_empty(),
        }
    }

    /// True when the whole body was read.
    pub(crate) fn is_body_done(&mut self) -> bool {
        match self {
            Self::Http1(request) => request.is_body_done(),
            Self::Pingora(session, _) => session.is_body_done(),
        }
    }

    /// The length that the request declares for its body.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.req_header().headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// True for a client that sends its body only after it was told to continue, and was not told yet (RFC 9110 section
    /// 10.1.1). HTTP/1.0 does not know that.
    pub(crate) fn waits_for_continue(&self) -> bool {
        let header = self.req_header();
        let mut expected = header.headers.get_all(EXPECT).iter().map(HeaderValue::as_bytes);
        header.version != Version::HTTP_10
            && expected.any(|expected| expected.eq_ignore_ascii_case(b"100-continue"))
            && self.is_unanswered()
    }

    /// The next piece of the body.
    pub(crate) async fn read_body(&mut self) -> pingora::Result<Option<Bytes>> {
        match self {
            Self::Http1(request) => request.read_body().await,
            Self::Pingora(session, _) => session.read_request_body().await,
        }
    }

    /// Reads the rest of the body and drops it, for at most [`limits::LINGER`]. True when the body was read to its end.
    ///
    /// A connection can serve another request only after that. And a connection that is closed with unread bytes is reset, so
    /// that the client may lose the answer.
    pub(crate) async fn discard_body(&mut self) -> bool {
        let discard = async {
            match self {
                Self::Http1(request) => request.discard_body().await,
                Self::Pingora(session, _) => session.drain_request_body().await,
            }
        };
        matches!(tokio::time::timeout(limits::LINGER, discard).await, Ok(Ok(())))
    }

    /// Waits until `deadline`. If it `listens`, it also returns when the client does something although it should wait for its
    /// answer.
    pub(crate) async fn idle(&mut self, deadline: Instant, listens: bool) -> pingora::Result<Idle> {
        match self {
            Self::Http1(request) => request.idle(deadline, listens).await,
            Self::Pingora(session, alarm) => tokio::select! {
                biased;
                read = session.read_body_or_idle(true), if listens => match read {
                    Ok(_) => Ok(Idle::Left),
                    Err(error) if *error.etype() == ErrorType::ConnectError => Ok(Idle::Spoke),
                    Err(error) => Err(error.into_down()),
                },
                () = alarm.get_or_insert_with(|| Alarm::new(deadline)).wait_until(deadline) => Ok(Idle::Late),
            },
        }
    }

    /// Tells the client to send its body (RFC 9110 section 10.1.1).
    pub(crate) async fn write_continue(&mut self) -> pingora::Result<()> {
        match self {
            Self::Http1(request) => request.write_continue().await,
            Self::Pingora(session, _) => {
                let keepalive = session.get_keepalive();
                session.write_continue_response().await.map_err(|error| error.into_down())?;
                // Pingora would close the connection after a 100.
                session.set_keepalive(keepalive);
                Ok(())
            }
        }
    }

    /// Writes the head of the answer.
    pub(crate) async fn write_head(&mut self, head: Box<ResponseHeader>, follows: Follows) -> pingora::Result<()> {
        match self {
            Self::Http1(request) => request.write_head(head, follows).await,
            Self::Pingora(session, _) => session.write_response_header(head, follows == Follows::Nothing).await,
        }
    }

    /// Writes a piece of the answer's body. `end`: it is the last one.
    pub(crate) async fn write_body(&mut self, piece: Bytes, end: bool) -> pingora::Result<()> {
        match self {
            Self::Http1(request) => request.write_body(&piece, end).await,
            Self::Pingora(session, _) => session.write_response_body(Some(piece), end).await,
        }
    }

    /// The status of the answer, if its head was sent. A 1xx is not the answer yet, except for 101.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Http1(request) => request.status(),
            Self::Pingora(session, _) => session
                .response_written()
                .map(|head| head.status)
                .filter(|status| !status.is_informational() || *status == StatusCode::SWITCHING_PROTOCOLS),
        }
    }

    /// True when nothing was sent to the client, not even 100.
    fn is_unanswered(&self) -> bool {
        match self {
            Self::Http1(request) => request.is_unanswered(),
            Self::Pingora(session, _) => session.response_written().is_none(),
        }
    }

    /// How many bytes of the request's body were read.
    pub(crate) fn bytes_in(&self) -> u64 {
        match self {
            Self::Http1(request) => request.received() as u64,
            Self::Pingora(session, _) => session.body_bytes_read() as u64,
        }
    }

    /// How many bytes of the answer's body were written.
    pub(crate) fn bytes_out(&self) -> u64 {
        match self {
            Self::Http1(request) => request.sent() as u64,
            Self::Pingora(session, _) => session.as_ref().body_bytes_sent() as u64,
        }
    }
}
