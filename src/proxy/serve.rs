//! Serves one request, from its head to its line in the log.

use futures_util::FutureExt;
use pingora::Error;

use super::admit::{self, Admission};
use super::client::downstream::Downstream;
use super::context::rejection::{Rejection, Stop};
use super::context::{Client, RequestContext};
use super::edge::Edge;
use super::{exchange, gateway, log, respond};
use crate::metrics::RejectionReason as Reason;

/// What became of a request.
#[derive(Debug)]
pub(super) struct Served {
    /// What belongs to the head of the request is known: it was not refused for its form.
    pub(super) is_located: bool,
    /// The exchange broke off, and the client was not told: its connection has to end.
    pub(super) broken: Option<Box<Error>>,
}

/// Serves a request, counts it and writes its line. `known`: what was found about the client of the same head before, under
/// the same snapshot.
pub(super) async fn serve(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    known: Option<Client>,
) -> Served {
    let mut is_located = true;
    let decided = match admit::locate(edge, downstream, context, known) {
        Ok(located) => match admit::decide(edge, downstream, context, located).await {
            Ok(Admission::Answered) => Ok(()),
            Ok(Admission::Exchange(route, outgoing)) => {
                exchange::run(edge, downstream, context, &route, outgoing).await
            }
            Ok(Admission::Gateway(gateway, body)) => {
                // Boxed, because the future is large: otherwise every request would carry room for it.
                gateway::serve(edge, downstream, context, &gateway, body).boxed().await
            }
            Err(stop) => Err(stop),
        },
        Err(rejection) => {
            is_located = false;
            // Who sends what is not HTTP, or asks for a tunnel (or TRACE), may mean something else by the bytes that follow.
            if matches!(
                rejection.reason,
                Reason::BadRequest | Reason::UriTooLong | Reason::HeadersTooLarge | Reason::MethodNotAllowed
            ) {
                downstream.close_after();
            }
            Err(rejection.into())
        }
    };
    let error = match decided {
        Ok(()) => None,
        Err(Stop::Broken(error)) => Some(error),
        Err(Stop::Rejected(rejection)) => reject(downstream, context, rejection).await.err(),
    };
    let is_told = match &error {
        Some(error) => respond::fail(downstream, context, error).await,
        None => true,
    };
    log::finish(edge, downstream, error.as_deref(), context);
    Served { is_located, broken: error.filter(|_| !is_told) }
}

/// Refuses a request whose head could not be read, counts it and writes its line.
pub(super) async fn refuse(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    rejection: Rejection,
) {
    admit::identify_refused(downstream, &mut context.client);
    let error = reject(downstream, context, rejection).await.err();
    log::finish(edge, downstream, error.as_deref(), context);
}

async fn reject(
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    rejection: Rejection,
) -> pingora::Result<()> {
    let told = respond::reject(downstream, context, &rejection).await;
    // Also noted when the client did not wait for the answer.
    context.rejection = Some(rejection);
    told.map_err(|error| error.into_down())
}
