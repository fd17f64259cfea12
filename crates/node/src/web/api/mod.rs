//! The interface that the page uses, and nothing else does it use: HTTP and JSON below `/api/v1`, described by OpenAPI. What it promises is in
//! `docs/api.md`. Every route is described where it is made, so none can be left out of the description.

mod admin;
mod asker;
mod events;
mod failure;
mod me;
mod session;

use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(in crate::web) use admin::health::{Severity, health};
pub(in crate::web) use asker::Watcher;
pub(crate) use events::Notices;
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
        (name = "me", description = "What belongs to the person whose session it is"),
        (name = "events", description = "What happens, as it does"),
        (name = "admin", description = "For whoever runs the node: a session that administers, or a token with the scope `read` or `admin`"),
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
        .routes(routes!(session::page))
        .routes(routes!(session::authority))
        .routes(routes!(me::contacts))
        .routes(routes!(me::put_contact, me::remove_contact))
        .routes(routes!(me::calls, me::forget_calls))
        .routes(routes!(me::see_calls))
        .routes(routes!(me::hear))
        .routes(routes!(me::settings, me::put_settings))
        .routes(routes!(events::open))
        .routes(routes!(admin::status::show))
        .routes(routes!(admin::overlay::show))
        .routes(routes!(admin::overlay::place))
        .routes(routes!(admin::calls::list))
        .routes(routes!(admin::calls::show))
        .routes(routes!(admin::log::show))
        .routes(routes!(admin::users::list, admin::users::add))
        .routes(routes!(admin::users::change, admin::users::remove))
        .routes(routes!(admin::users::change_password))
        .routes(routes!(admin::invites::list, admin::invites::make))
        .routes(routes!(admin::invites::remove))
        .routes(routes!(admin::settings::show, admin::settings::change))
        .routes(routes!(admin::tokens::list, admin::tokens::make))
        .routes(routes!(admin::tokens::remove));
    let (router, mut description) =
        OpenApiRouter::with_openapi(Description::openapi()).nest(PREFIX, interface).split_for_parts();
    add_what_all_refuse(&mut description);
    (router, description)
}

/// Says of every operation what it may be refused with whatever it is: by whom it is asked for, how, and when.
fn add_what_all_refuse(description: &mut utoipa::openapi::OpenApi) {
    for item in description.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let has_body = operation.request_body.is_some();
            let refusals = [
                (has_body || operation.parameters.is_some(), "400", "`bad_request`"),
                (has_body, "413", "`too_large`, `full`"),
                (has_body, "415", "`media_type`"),
                (true, "421", "`wrong_host`"),
                (true, "429", "`too_often`"),
                (true, "503", "`timeout`, `busy`"),
            ];
            for (_, status, codes) in refusals.into_iter().filter(|(may_be, ..)| *may_be) {
                let known = &mut operation.responses.responses;
                known.entry(status.to_owned()).or_insert_with(|| refusal(codes));
            }
        }
    }
}

fn refusal(codes: &str) -> RefOr<utoipa::openapi::Response> {
    let content = Content::new(Some(Ref::from_schema_name("Failure")));
    ResponseBuilder::new().description(codes).content("application/json", content).into()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_route_says_what_it_does_and_what_it_refuses() {
        let description = serde_json::to_value(described().1).unwrap();
        let mut operations = 0;
        for (path, methods) in description["paths"].as_object().unwrap() {
            assert!(path.starts_with(PREFIX), "{path}");
            for (method, operation) in methods.as_object().unwrap() {
                operations += 1;
                assert!(operation["summary"].as_str().is_some_and(|said| said.len() > 8), "{method} {path}");
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.keys().any(|status| status.starts_with(['1', '2'])), "{method} {path}");
                assert!(
                    responses.contains_key("401") || path.ends_with("/page") || path.ends_with("/authority"),
                    "{method} {path}"
                );
                let needs_csrf = method != "get";
                assert!(!needs_csrf || responses.contains_key("403"), "{method} {path}");
                let names: Vec<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
                let described = operation["parameters"].as_array().cloned().unwrap_or_default();
                for name in names {
                    assert!(described.iter().any(|parameter| parameter["name"] == name), "{method} {path}: {name}");
                }
            }
        }
        assert!(operations >= 32, "{operations}");
    }

    #[test]
    fn every_type_that_is_named_is_described() {
        let description = serde_json::to_value(described().1).unwrap();
        let mut named = Vec::new();
        references(&description, &mut named);
        assert!(named.len() > 50);
        for name in named {
            let pointer = name.strip_prefix('#').unwrap();
            assert!(description.pointer(pointer).is_some(), "{name}");
        }
    }
}
