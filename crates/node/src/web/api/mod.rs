//! The interface that the page uses, and nothing else does it use: HTTP and JSON below `/api/v1`, described by OpenAPI. What it promises is in
//! `docs/api.md`. Every route is described where it is made, so none can be left out of the description.

#[allow(dead_code, reason = "administration takes them")]
mod asker;
#[allow(dead_code, reason = "administration says them")]
mod failure;
mod session;

use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[allow(unused_imports, reason = "taken by the counters")]
pub(in crate::web) use asker::Watcher;
pub(super) use failure::Failure;

use super::Site;

/// Below what the interface is.
pub(super) const PREFIX: &str = "/api/v1";

/// From where whoever runs the node may administer it by its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Administration {
    /// From its own machine.
    #[default]
    Local,
    /// From wherever the page is reached over TLS.
    Anywhere,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Meshtone",
        description = "The interface of a node's page. Browsers show the cookie of a session, and its CSRF token with whatever changes something; \
                       programs show a token. What fails says why in words, what to do, and a code."
    ),
    tags(
        (name = "session", description = "Logging in and out"),
    )
)]
struct Description;

/// The routes, and what describes them.
pub(super) fn router() -> Router<Arc<Site>> {
    let (router, description) = described();
    let description = Json(description);
    router.route(&format!("{PREFIX}/openapi.json"), get(async move || description.clone()))
}

fn described() -> (Router<Arc<Site>>, utoipa::openapi::OpenApi) {
    let interface = OpenApiRouter::new()
        .routes(routes!(session::begin, session::show, session::end))
        .routes(routes!(session::begin_by_key))
        .routes(routes!(session::page));
    OpenApiRouter::with_openapi(Description::openapi()).nest(PREFIX, interface).split_for_parts()
}

/// Whether a path is the interface's, so that what fails there is told as JSON.
pub(super) fn is_within(path: &str) -> bool {
    path.starts_with("/api/")
}

pub(super) fn unknown() -> Response {
    Failure::not_found("this interface has nothing of that name").into_response()
}

pub(super) fn not_allowed() -> Response {
    let error = "that cannot be done with what is there";
    let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, "not_found", error, "look at /api/v1/openapi.json");
    let mut response = failure.into_response();
    response.headers_mut().remove(header::ALLOW);
    response
}

pub(super) fn too_slow() -> Response {
    let error = "this took longer than this node waits";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", error, "try again").into_response()
}
