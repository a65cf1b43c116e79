//! Serves one request: decides on it, and answers it where the edge does that itself.

use super::admit::{self, Admission, Located};
use super::client::downstream::Downstream;
use super::context::RequestContext;
use super::context::rejection::{Rejection, Stop};
use super::edge::Edge;
use super::{credential, exchange, respond};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// The client has its answer.
    Answered,
    /// The request is permitted, and Pingora's proxy has to pass it on.
    Permitted,
}

/// Decides on a request, and answers it if that is possible here.
///
/// # Errors
/// The exchange broke off.
pub(super) async fn serve(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    located: Result<Located<'_>, Rejection>,
) -> pingora::Result<Served> {
    match decide_and_exchange(edge, downstream, context, located).await {
        Ok(served) => Ok(served),
        Err(Stop::Broken(error)) => Err(error),
        Err(Stop::Rejected(rejection)) => {
            let told = respond::reject(downstream, context, &rejection).await;
            // Also noted when the client did not wait for the answer.
            context.rejection = Some(rejection);
            told.map(|()| Served::Answered).map_err(|error| error.into_down())
        }
    }
}

async fn decide_and_exchange(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    located: Result<Located<'_>, Rejection>,
) -> Result<Served, Stop> {
    match admit::decide(edge, downstream, context, located?).await? {
        Admission::Answered => Ok(Served::Answered),
        Admission::Exchange(route, call) => {
            exchange::run(edge, downstream, context, &route, call).await.map(|()| Served::Answered)
        }
        Admission::Opaque(route) => {
            credential::acquire(downstream.req_header(), &mut context.access, &route).await?;
            Ok(Served::Permitted)
        }
    }
}
