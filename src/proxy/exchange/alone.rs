//! What happens when a client leaves whose request goes on.

use std::sync::Arc;

use crate::proxy::abandoned::Caller;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::client::watch::ClientWatch;
use crate::proxy::context::RequestContext;
use crate::proxy::context::rejection::Stop;
use crate::proxy::edge::Edge;
use crate::types::client_network;

/// The client has left, and the exchange goes on without it. Its connection makes room for others.
///
/// # Errors
/// Too many exchanges go on like this, of this caller or of all: this one is cancelled.
pub(super) fn go_on_alone(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
) -> Result<(), Stop> {
    let caller = match context.access.principal() {
        Some(principal) => Caller::Principal(Arc::clone(principal.provider()), principal.subject().to_owned()),
        None => Caller::Address(client_network(context.client.address)),
    };
    let abandonment = edge.abandoned.enter(caller).ok_or_else(ClientWatch::has_left)?;
    context.attempt.abandoned = Some(abandonment);
    downstream.makes_room();
    Ok(())
}
