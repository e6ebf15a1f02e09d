//! The dialect of OpenAI's API, for any client of it: chat completions, embeddings and models, over HTTP on the gateway's port.
//!
//! 1. A request goes the same way as an rpc: the same caches, limits, budgets and tenants. What came of it stands in headers `x-athena-*`.
//! 2. Parameters nobody here knows reach the upstream, and unknown fields of its message the client.
//! 3. A stream's status is settled by its first piece: what fails before it is an error of HTTP, what fails later one of the stream.

mod answer;
mod embeddings;
mod events;
mod fault;
mod question;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{FromRequestParts, Path, State, rejection::BytesRejection},
    response::{IntoResponse as _, Response},
    routing::{any, get, post},
};
use http::{HeaderMap, StatusCode, request::Parts};
use rpc::{Api, Caller};
use serde_json::json;

use self::{fault::Refusal, question::Question};
use crate::gateway::Gateway;

const PATHS: [&str; 2] = ["/v1/chat/completions", "/v1/embeddings"];

/// The dialect, as the host sees it.
pub(crate) const API: Api =
    Api { prefix: "/v1/", limited: &PATHS, refuse: |fault| Refusal::of(fault).into_response() };

type Shared = Arc<Gateway>;

/// Returns the routes of the dialect.
pub(crate) fn routes(gateway: Shared) -> Router {
    Router::new()
        .route(PATHS[0], post(complete))
        .route(PATHS[1], post(embeddings::embed))
        .route("/v1/models", get(models))
        .route("/v1/models/{*model}", get(model))
        .route("/v1/{*unknown}", any(unknown))
        .with_state(gateway)
}

/// A caller that is let in; any other is told so in the dialect.
struct Known(Caller);

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get().cloned().map(Self).ok_or_else(Refusal::unauthenticated)
    }
}

async fn complete(
    State(gateway): State<Shared>,
    Known(caller): Known,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let request = question::object(&headers, body)?;
    let Question { terms, conversation, stream } = question::read(caller, &headers, request)?;
    if let Some(with_usage) = stream {
        return events::answer(&gateway, terms, conversation, with_usage).await;
    }
    let generated = gateway.generate(&terms, &conversation).await.map_err(Refusal::from)?;
    Ok(answer::whole(&generated, gateway.clock.now()))
}

async fn models(State(gateway): State<Shared>, _: Known) -> Result<Response, Refusal> {
    let mut data: Vec<_> = gateway.models.names().iter().map(|name| described(name, false)).collect();
    data.push(described(gateway.embedder.name(), true));
    Ok(Json(json!({"object": "list", "data": data})).into_response())
}

async fn model(
    State(gateway): State<Shared>,
    _: Known,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let is_own = name == gateway.embedder.name();
    if is_own || gateway.models.resolve(&name).is_ok() {
        Ok(Json(described(&name, is_own)).into_response())
    } else {
        Err(Refusal::model(StatusCode::NOT_FOUND))
    }
}

async fn unknown() -> Refusal {
    Refusal::path()
}

/// Describes a model. When it was made is not known here.
fn described(name: &str, is_own: bool) -> serde_json::Value {
    let owner =
        if is_own { "athena" } else { name.split_once('/').map_or("upstream", |(provider, _)| provider) };
    json!({"id": name, "object": "model", "created": 0, "owned_by": owner})
}
