//! Why a request was not done, as JSON.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::Failed;
use crate::web::visitor::Suspect;

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Failure {
    /// What happened, why, and whose side it is on.
    error: String,
    /// What to do about it.
    hint: String,
    /// The same for programs.
    code: &'static str,
    /// Which field of the request it is about, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip)]
    #[schema(ignore)]
    status: StatusCode,
    /// After how many seconds it may be tried again.
    #[serde(skip)]
    #[schema(ignore)]
    retry_after_s: Option<u32>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: &'static str, error: impl Into<String>, hint: &str) -> Failure {
        Failure { error: error.into(), hint: hint.to_owned(), code, field: None, status, retry_after_s: None }
    }

    /// The same, about this field of the request.
    pub(crate) fn about(self, field: String) -> Failure {
        Failure { field: Some(field), ..self }
    }

    pub(crate) fn bad_request(error: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "bad_request", error, "reload the page, or look at /api/v1/openapi.json")
    }

    pub(crate) fn not_found(error: impl Into<String>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "not_found", error, "reload the page: it may be gone by now")
    }

    pub(crate) fn no_session() -> Failure {
        let error = "you are not logged in, or your session is over";
        Failure::new(StatusCode::UNAUTHORIZED, "no_session", error, "log in")
    }

    pub(crate) fn full(error: impl Into<String>) -> Failure {
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "full", error, "remove some first")
    }

    pub(crate) fn too_often(retry_after_s: u32) -> Failure {
        let error = "that was tried too often from where you are, and this node does not look at it for a while";
        let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_often", error, "wait some minutes");
        Failure { retry_after_s: Some(retry_after_s), ..failure }
    }
}

impl From<Suspect> for Failure {
    fn from(suspect: Suspect) -> Failure {
        match suspect {
            Suspect::Host => Failure::new(
                StatusCode::MISDIRECTED_REQUEST,
                "wrong_host",
                "this node does not have that name",
                "open the page by the node's domain or address, or set `public_url` in its configuration",
            ),
            Suspect::Elsewhere => Failure::new(
                StatusCode::FORBIDDEN,
                "origin",
                "this was not asked by a page of this node",
                "open the page anew, and do what you wanted there",
            ),
        }
    }
}

/// What administration over the socket says, said here.
impl From<Failed> for Failure {
    fn from(failed: Failed) -> Failure {
        let code = match failed.status {
            StatusCode::BAD_REQUEST => "bad_request",
            StatusCode::NOT_FOUND => "not_found",
            StatusCode::CONFLICT => "conflict",
            StatusCode::TOO_MANY_REQUESTS => "too_often",
            StatusCode::INSUFFICIENT_STORAGE | StatusCode::PAYLOAD_TOO_LARGE => "full",
            StatusCode::GATEWAY_TIMEOUT => "timeout",
            _ => "failed",
        };
        Failure::new(failed.status, code, failed.error, failed.hint)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, retry_after_s) = (self.status, self.retry_after_s);
        let mut response = (status, Json(self)).into_response();
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
