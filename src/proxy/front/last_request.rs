//! What a request leaves to the next one on its connection: most clients send the same head again and again, but for the
//! length of the body, and what follows from a head alone is then known.

use bytes::BytesMut;

use crate::auth::Asked;
use crate::config::limits;
use crate::http1::RequestHead;
use crate::proxy::context::{Client, RequestContext};
use crate::proxy::exchange::upstream_head::ClientFields;
use crate::proxy::mcp_session::LastOpened;

/// A request that was answered, and what followed from its head.
pub(crate) struct LastRequest {
    head: RequestHead,
    findings: Box<Findings>,
}

/// What follows from a head, the connection and the snapshot alone. It holds no part of the snapshot, which would live on
/// with an idle connection.
pub(crate) struct Findings {
    /// Of the snapshot.
    pub(crate) generation: u64,
    pub(crate) client: Client,
    /// These are as in the context of a request.
    pub(crate) passed_on: Option<ClientFields>,
    pub(crate) asked: Option<Asked>,
}

impl Findings {
    /// What `context` has learnt, and the session that was opened last. The request ends with that.
    pub(crate) fn of(context: RequestContext) -> (Self, Option<Box<LastOpened>>) {
        let RequestContext { snapshot, client, passed_on, asked, last_session, .. } = context;
        (Self { generation: snapshot.generation, client, passed_on, asked }, last_session)
    }
}

impl LastRequest {
    /// Nothing is kept of a large head: a connection that waits needs little room.
    pub(crate) fn new(head: RequestHead, findings: Findings) -> Option<Self> {
        (head.raw.len() <= limits::KEPT_HEAD_BYTES).then(|| Self { head, findings: Box::new(findings) })
    }

    /// Takes the same head out of `input`, if that begins with it.
    pub(crate) fn repeated(self, input: &mut BytesMut) -> Option<(RequestHead, Option<Box<Findings>>)> {
        let Self { head, findings } = self;
        let bytes = head.raw.len();
        let head = head.repeated(input)?;
        // A longer one has not been held against the bounds.
        let findings = (head.raw.len() <= bytes).then_some(findings);
        Some((head, findings))
    }
}
