//! What a request leaves to the next one on its connection: most clients send the same head again and again, but for the
//! length of the body, and what follows from a head alone is then known.

use bytes::BytesMut;

use super::context::{Client, RequestContext};
use super::session::LastOpened;
use super::upstream_head::ClientFields;
use crate::auth::Asked;
use crate::config::limits;
use crate::http1::RequestHead;

/// A request that was answered, and what followed from its head.
pub(super) struct LastRequest {
    head: RequestHead,
    findings: Box<Findings>,
}

/// What follows from a head, the connection and the snapshot alone. It holds no part of the snapshot, which would live on
/// with an idle connection.
pub(super) struct Findings {
    /// Of the snapshot.
    pub(super) generation: u64,
    pub(super) client: Client,
    /// These are as in the context of a request.
    pub(super) passed_on: Option<ClientFields>,
    pub(super) asked: Option<Asked>,
}

impl Findings {
    /// What `context` has learnt, and the session that was opened last. The request ends with that.
    pub(super) fn of(context: RequestContext) -> (Self, Option<Box<LastOpened>>) {
        let RequestContext { snapshot, client, passed_on, asked, last_session, .. } = context;
        (Self { generation: snapshot.generation, client, passed_on, asked }, last_session)
    }
}

impl LastRequest {
    /// Nothing is kept of a large head: a connection that waits needs little room.
    pub(super) fn new(head: RequestHead, findings: Findings) -> Option<Self> {
        (head.raw.len() <= limits::KEPT_HEAD_BYTES).then(|| Self { head, findings: Box::new(findings) })
    }

    /// Takes the same head out of `input`, if that begins with it.
    pub(super) fn repeated(self, input: &mut BytesMut) -> Option<(RequestHead, Option<Box<Findings>>)> {
        let Self { head, findings } = self;
        let bytes = head.raw.len();
        let head = head.repeated(input)?;
        // A longer one has not been held against the bounds.
        let findings = (head.raw.len() <= bytes).then_some(findings);
        Some((head, findings))
    }
}
