//! A client's connection over HTTP/1, between its requests.

use super::last_request::LastRequest;
use crate::proxy::client::http1_connection::Http1Connection;
use crate::proxy::context::opened_session::LastOpened;

/// A connection, with what its requests leave to each other.
pub(super) struct ClientConnection {
    pub(super) http1: Http1Connection,
    /// True until the first request was read.
    pub(super) is_new: bool,
    /// Set while the next request is awaited.
    pub(super) last: Option<LastRequest>,
    /// The MCP session that was opened last.
    pub(super) last_session: Option<Box<LastOpened>>,
}
