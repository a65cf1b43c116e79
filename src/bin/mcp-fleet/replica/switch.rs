//! The switch page, which lists the replicas and breaks them on purpose.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;

use super::Replica;
use crate::mode::Mode;

type Replicas = Arc<[Replica]>;

/// The switch page's routes.
pub(crate) fn pages(replicas: Replicas) -> Router {
    Router::new().route("/", get(list)).route("/{replica}/{mode}", post(switch)).with_state(replicas)
}

async fn list(State(replicas): State<Replicas>) -> Json<Vec<Value>> {
    Json(replicas.iter().map(|replica| replica.vitals.report(replica.address)).collect())
}

async fn switch(
    State(replicas): State<Replicas>,
    Path((name, mode)): Path<(String, String)>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let replica = replicas.iter().find(|replica| replica.vitals.name == name).ok_or_else(|| {
        let known: Vec<_> = replicas.iter().map(|replica| replica.vitals.name.as_str()).collect();
        (StatusCode::NOT_FOUND, format!("there is no replica {name:?}: use one of {}\n", known.join(", ")))
    })?;
    let mode: Mode = mode.parse().map_err(|error| (StatusCode::NOT_FOUND, format!("{error}\n")))?;
    replica.switch(mode).await.map_err(|error| {
        let text = format!("{name} cannot listen on {} again: {error}\n", replica.address);
        (StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    Ok(Json(replica.vitals.report(replica.address)))
}
