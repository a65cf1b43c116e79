//! A client's request and its answer, whichever way it has come: MCP over HTTP/1 is read and written by the edge itself,
//! everything else by Pingora.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pingora::ErrorType;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::tls::SslDigest;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::http1_session::Http1Session;

/// What those see who decide about a request.
pub(crate) enum ClientSession<'a> {
    Http1(Http1Session<'a>),
    Pingora(&'a mut Session, Option<Alarm>),
}

/// What comes behind the head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// No body.
    Nothing,
    /// A piece of the body that is there already, so that both can go in one packet.
    AtOnce,
    /// A body that is still to come.
    Later,
}

/// What a client does while it should only wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// It has closed its side.
    Left,
    /// It has sent something that is lost.
    Spoke,
    /// It has sent more than is read ahead.
    Full,
    /// Nothing for too long.
    Late,
}

impl<'a> ClientSession<'a> {
    /// One that Pingora has read.
    pub(crate) fn of_pingora(session: &'a mut Session) -> Self {
        Self::Pingora(session, None)
    }

    /// The head of the request.
    pub(crate) fn req_header(&self) -> &RequestHeader {
        match self {
            Self::Http1(session) => session.head(),
            Self::Pingora(session, _) => session.req_header(),
        }
    }

    /// What TLS knows of the client.
    pub(crate) fn tls(&self) -> Option<&SslDigest> {
        match self {
            Self::Http1(session) => session.tls(),
            Self::Pingora(session, _) => session.digest()?.ssl_digest.as_deref(),
        }
    }

    /// The other end of the connection.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Http1(session) => session.peer(),
            Self::Pingora(session, _) => session.client_addr()?.as_inet().copied(),
        }
    }

    /// The edge's end of the connection.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Http1(session) => session.local(),
            Self::Pingora(session, _) => session.server_addr()?.as_inet().copied(),
        }
    }

    pub(crate) fn is_upgrade_req(&self) -> bool {
        match self {
            // Such requests are handed to Pingora.
            Self::Http1(_) => false,
            Self::Pingora(session, _) => session.is_upgrade_req(),
        }
    }

    /// For how long a client may not read, how long it may pause within a body, and how long it may wait between two
    /// requests.
    pub(crate) fn set_timeouts(&mut self, write: Duration, read: Duration, keepalive: Duration) {
        match self {
            // Those who read the body have limits of their own, and so has the connection between two requests.
            Self::Http1(session) => session.set_write_timeout(write),
            Self::Pingora(session, _) => {
                // An HTTP/1.0 client may wait for the connection's end.
                if session.get_keepalive().is_some() {
                    session.set_keepalive(Some(keepalive.as_secs().max(1)));
                }
                session.set_read_timeout(Some(read));
                session.set_write_timeout(Some(write));
            }
        }
    }

    /// The connection ends with this answer.
    pub(crate) fn close_after(&mut self) {
        match self {
            Self::Http1(session) => session.close_after(),
            Self::Pingora(session, _) => session.set_keepalive(None),
        }
    }

    /// True when an answer can be written although the request was not read whole.
    pub(crate) fn can_answer_early(&self) -> bool {
        matches!(self, Self::Pingora(session, _) if session.is_http2())
    }

    /// True when the request has no body.
    pub(crate) fn is_body_empty(&mut self) -> bool {
        match self {
            Self::Http1(session) => session.is_bodiless(),
            Self::Pingora(session, _) => session.is_body_empty(),
        }
    }

    /// True when the whole body was read.
    pub(crate) fn is_body_done(&mut self) -> bool {
        match self {
            Self::Http1(session) => session.is_body_done(),
            Self::Pingora(session, _) => session.is_body_done(),
        }
    }

    /// The next piece of the body.
    pub(crate) async fn read_body(&mut self) -> pingora::Result<Option<Bytes>> {
        match self {
            Self::Http1(session) => session.read_body().await,
            Self::Pingora(session, _) => session.read_request_body().await,
        }
    }

    /// Reads the body to its end, for nobody.
    pub(crate) async fn drain_body(&mut self) -> pingora::Result<()> {
        match self {
            Self::Http1(session) => session.drain_body().await,
            Self::Pingora(session, _) => session.drain_request_body().await,
        }
    }

    /// Waits until `deadline`; where it `listens`, until the client does something although it should wait for its answer.
    pub(crate) async fn idle(&mut self, deadline: Instant, listens: bool) -> pingora::Result<Idle> {
        match self {
            Self::Http1(session) => session.idle(deadline, listens).await,
            Self::Pingora(session, alarm) => tokio::select! {
                biased;
                read = session.read_body_or_idle(true), if listens => match read {
                    Ok(_) => Ok(Idle::Left),
                    Err(error) if *error.etype() == ErrorType::ConnectError => Ok(Idle::Spoke),
                    Err(error) => Err(error.into_down()),
                },
                () = alarm.get_or_insert_with(|| Alarm::new(deadline)).comes(deadline) => Ok(Idle::Late),
            },
        }
    }

    /// Tells the client to send its body (RFC 9110 section 10.1.1).
    pub(crate) async fn write_continue(&mut self) -> pingora::Result<()> {
        match self {
            Self::Http1(session) => session.write_continue().await,
            Self::Pingora(session, _) => {
                let keepalive = session.get_keepalive();
                session.write_continue_response().await.map_err(|error| error.into_down())?;
                // Pingora would close the connection after it.
                session.set_keepalive(keepalive);
                Ok(())
            }
        }
    }

    /// Writes the head of the answer.
    pub(crate) async fn write_head(&mut self, head: Box<ResponseHeader>, follows: Follows) -> pingora::Result<()> {
        match self {
            Self::Http1(session) => session.write_head(head, follows).await,
            Self::Pingora(session, _) => session.write_response_header(head, follows == Follows::Nothing).await,
        }
    }

    /// Writes a piece of the answer's body; `end` when it is the last.
    pub(crate) async fn write_body(&mut self, piece: Bytes, end: bool) -> pingora::Result<()> {
        match self {
            Self::Http1(session) => session.write_body(&piece, end).await,
            Self::Pingora(session, _) => session.write_response_body(Some(piece), end).await,
        }
    }

    /// The status of the answer, if its head was sent: 1xx but 101 is not the answer yet.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Http1(session) => session.status(),
            Self::Pingora(session, _) => session
                .response_written()
                .map(|head| head.status)
                .filter(|status| !status.is_informational() || *status == StatusCode::SWITCHING_PROTOCOLS),
        }
    }

    /// True when not even 100 was sent.
    pub(crate) fn is_unanswered(&self) -> bool {
        match self {
            Self::Http1(session) => session.is_untouched(),
            Self::Pingora(session, _) => session.response_written().is_none(),
        }
    }

    /// How many bytes of the request's body were read.
    pub(crate) fn bytes_in(&self) -> u64 {
        match self {
            Self::Http1(session) => session.received() as u64,
            Self::Pingora(session, _) => session.body_bytes_read() as u64,
        }
    }

    /// How many bytes of the answer's body were written.
    pub(crate) fn bytes_out(&self) -> u64 {
        match self {
            Self::Http1(session) => session.sent() as u64,
            Self::Pingora(session, _) => session.as_ref().body_bytes_sent() as u64,
        }
    }
}
