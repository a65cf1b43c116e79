//! What one request leaves to the next on its connection. Most clients send the same head again and again, except for the
//! length of the body, and what follows from the head alone is then known already.

use bytes::BytesMut;

use crate::auth::CachedLookup;
use crate::config::limits;
use crate::http1::RequestHead;
use crate::proxy::context::client_fields::ClientFields;
use crate::proxy::context::opened_session::LastOpened;
use crate::proxy::context::{Client, Memo, RequestContext};

/// A request that was answered, and what followed from its head.
pub(crate) struct LastRequest {
    head: RequestHead,
    findings: Box<Findings>,
}

/// What follows from a head, the connection and the snapshot alone. It holds no part of the snapshot, because that would then
/// stay in memory as long as an idle connection.
pub(crate) struct Findings {
    /// The generation of the snapshot.
    pub(crate) generation: u64,
    pub(crate) client: Client,
    pub(crate) client_fields: Option<ClientFields>,
    pub(crate) cached_lookup: Option<CachedLookup>,
    pub(crate) is_plain: bool,
}

impl Findings {
    /// What `context` knows at the end of its request, and the MCP session that was opened last.
    pub(crate) fn of(context: RequestContext) -> (Self, Option<Box<LastOpened>>) {
        let RequestContext { snapshot, client, memo, .. } = context;
        let Memo { client_fields, cached_lookup, last_session, is_plain, .. } = memo;
        (Self { generation: snapshot.generation, client, client_fields, cached_lookup, is_plain }, last_session)
    }
}

impl LastRequest {
    /// `None` for a large head: a connection that waits should take little memory.
    pub(crate) fn new(head: RequestHead, findings: Findings) -> Option<Self> {
        (head.raw.len() <= limits::KEPT_HEAD_BYTES).then(|| Self { head, findings: Box::new(findings) })
    }

    /// Takes the same head out of `input`, if that begins with it.
    pub(crate) fn repeated(self, input: &mut BytesMut) -> Option<(RequestHead, Option<Box<Findings>>)> {
        let Self { head, findings } = self;
        let bytes = head.raw.len();
        let head = head.repeated(input)?;
        // A longer head was not checked against the limits.
        let findings = (head.raw.len() <= bytes).then_some(findings);
        Some((head, findings))
    }
}
