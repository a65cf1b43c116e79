//! A token issuer for the demo and the tests. It issues every token that is requested, without any authentication.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::signer::{Signer, nonce};
use crate::failure::Failure;

/// The longest lifetime of a token, in seconds: one day.
const MAX_TTL: i64 = 86_400;

type Answer = Result<Json<Value>, (StatusCode, String)>;

/// The issuer: its URL and the key it signs with.
struct Issuer {
    url: String,
    signer: watch::Sender<Signer>,
}

/// The parameters of a request for a token.
#[derive(Deserialize)]
struct TokenRequest {
    sub: String,
    #[serde(default)]
    scope: String,
    #[serde(default = "TokenRequest::default_audience")]
    aud: String,
    #[serde(default = "TokenRequest::default_ttl")]
    ttl: i64,
}

impl TokenRequest {
    fn default_audience() -> String {
        "mcp-edge".to_owned()
    }

    fn default_ttl() -> i64 {
        3_600
    }
}

/// The routes of an issuer at `url`.
pub(crate) fn pages(url: String) -> Result<Router, Failure> {
    // Generating a key fails only when the system gives no random numbers.
    let signer = Signer::generate().map_err(|error| error.to_string())?;
    let issuer = Issuer { url, signer: watch::Sender::new(signer) };
    Ok(Router::new()
        .route("/jwks", get(jwks))
        .route("/.well-known/openid-configuration", get(configuration))
        .route("/token", get(token).post(token))
        .route("/rotate", post(rotate))
        .with_state(Arc::new(issuer)))
}

async fn jwks(State(issuer): State<Arc<Issuer>>) -> Json<Value> {
    Json(json!({ "keys": [issuer.signer.borrow().jwk()] }))
}

async fn configuration(State(issuer): State<Arc<Issuer>>) -> Json<Value> {
    let url = &issuer.url;
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{url}/jwks"),
        "token_endpoint": format!("{url}/token"),
    }))
}

async fn token(State(issuer): State<Arc<Issuer>>, Query(request): Query<TokenRequest>) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(internal_error)?.as_secs().cast_signed();
    // A ttl below zero makes a token that has already expired.
    let ttl = request.ttl.clamp(-MAX_TTL, MAX_TTL);
    let claims = json!({
        "iss": issuer.url,
        "sub": request.sub,
        "aud": request.aud,
        "scope": request.scope,
        "iat": now,
        "exp": now + ttl,
        "jti": nonce().map_err(internal_error)?,
    });
    let signer = issuer.signer.borrow().clone();
    let token = signer.sign(&claims).map_err(internal_error)?;
    Ok(Json(json!({ "access_token": token, "token_type": "Bearer", "expires_in": ttl })))
}

/// Replaces the key. Tokens that were signed with the previous key are invalid as soon as the JWK set is fetched again.
async fn rotate(State(issuer): State<Arc<Issuer>>) -> Answer {
    let signer = Signer::generate().map_err(internal_error)?;
    let jwk = signer.jwk();
    issuer.signer.send_replace(signer);
    Ok(Json(json!({ "keys": [jwk] })))
}

fn internal_error(error: impl ToString) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
