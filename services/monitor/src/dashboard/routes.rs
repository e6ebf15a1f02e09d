//! HTTP routes of the dashboard.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use http::{
    HeaderName, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS,
    },
};
use rpc::Caller;
use serde::{Deserialize, Serialize};

use super::view;
use crate::{
    observer::Observer,
    trace::{Filter, TraceId},
};

/// Most entries of a list where the page names no number.
const DEFAULT_LIMIT: usize = 100;

/// Most entries of a list.
const MAX_LIMIT: usize = 1_000;

/// Nothing but what is in the page, and the JSON beside it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const GUARDS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

type Shared = State<Arc<Observer>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Targets {
    window_seconds: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Traces {
    service: String,
    root_name: String,
    min_ms: f64,
    failed_only: bool,
    limit: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Slow {
    service: String,
    limit: Option<usize>,
}

/// What is wrong with a request.
#[derive(Debug)]
struct Refusal(StatusCode, String);

#[derive(Serialize)]
struct Problem {
    error: String,
}

/// Returns the routes over `observer`.
pub(crate) fn routes(observer: Arc<Observer>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/api/targets", get(targets))
        .route("/api/traces", get(traces))
        .route("/api/traces/{id}", get(trace))
        .route("/api/slow", get(slow))
        .with_state(observer)
}

async fn page() -> Response {
    let page = include_str!("page.html")
        .replace("/* page.css */", include_str!("page.css"))
        .replace("/* page.js */", include_str!("page.js"));
    (GUARDS, Html(page)).into_response()
}

async fn targets(
    _: Caller,
    State(observer): Shared,
    query: Result<Query<Targets>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let window = query.window_seconds.map(|seconds| positive(seconds, "window_seconds")).transpose()?;
    Ok(json(StatusCode::OK, &view::targets(&observer.targets(window), observer.intake())))
}

async fn traces(
    _: Caller,
    State(observer): Shared,
    query: Result<Query<Traces>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let shortest = Duration::try_from_secs_f64(query.min_ms / 1_000.0);
    let filter = Filter {
        service: query.service,
        root_name: query.root_name,
        min_duration: shortest.map_err(|_| bad("min_ms must be a number of milliseconds from 0"))?,
        failed_only: query.failed_only,
        limit: limit(query.limit)?,
    };
    Ok(json(StatusCode::OK, &view::listing(&observer.traces(&filter))))
}

async fn trace(_: Caller, State(observer): Shared, Path(id): Path<String>) -> Result<Response, Refusal> {
    let id = TraceId::from_hex(&id).ok_or_else(|| bad("the trace id must be 32 hexadecimal digits"))?;
    let trace = observer
        .trace(id)
        .ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("trace {id} is not held")))?;
    Ok(json(StatusCode::OK, &view::trace(&trace)))
}

async fn slow(
    _: Caller,
    State(observer): Shared,
    query: Result<Query<Slow>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    Ok(json(StatusCode::OK, &view::slow(&observer.slow(&query.service, limit(query.limit)?))))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        json(self.0, &Problem { error: self.1 })
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

fn bad(message: &str) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, message.to_owned())
}

fn limit(limit: Option<usize>) -> Result<usize, Refusal> {
    let limit = limit.filter(|limit| *limit > 0).unwrap_or(DEFAULT_LIMIT);
    if limit > MAX_LIMIT { Err(bad("limit must be at most 1000")) } else { Ok(limit) }
}

fn positive(seconds: f64, field: &str) -> Result<Duration, Refusal> {
    let duration = Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| bad(&format!("{field} must be above zero")))
}

fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => (status, GUARDS, [(CONTENT_TYPE, "application/json")], escaped(&text)).into_response(),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "an answer could not be written as json"
            );
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Returns JSON in which no character means anything to HTML or to a script, should it ever end up in one. Outside of
/// its strings JSON has none of them.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            character => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn escaped_json_means_the_same_and_holds_no_markup() {
        let nasty = "</script><img src=x onerror=alert(1)>&\u{2028}\"\\";
        let text = escaped(&serde_json::to_string(nasty).unwrap());
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), nasty);
    }

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere() {
        for file in [include_str!("page.html"), include_str!("page.css"), include_str!("page.js")] {
            for foreign in
                ["http:", "https:", "src=", "@import", "url(", "innerHTML", "insertAdjacentHTML", "eval("]
            {
                let svg = "http://www.w3.org/2000/svg";
                assert!(!file.replace(svg, "").contains(foreign), "{foreign}");
            }
        }
    }
}
