//! Requests about the nodes that the authority here has certified.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use meshtone_identity::NodeId;

use super::Control;
use super::api::{NewRevocation, NodeList};
use super::routes::{Failed, blocking, parse};
use crate::enrol::RevokeError;

pub(super) async fn list(State(control): State<Control>) -> Result<Response, Failed> {
    let nodes = blocking(move || control.inviter.nodes()).await??;
    Ok(Json(NodeList { nodes }).into_response())
}

pub(super) async fn revoke(
    State(control): State<Control>,
    Path(node): Path<String>,
    body: Bytes,
) -> Result<Response, Failed> {
    let NewRevocation { because } = parse(&body)?;
    let node = node_id(&node)?;
    blocking(move || control.inviter.revoke(node, &because)).await??;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A node's id as people copy it.
pub(super) fn node_id(text: &str) -> Result<NodeId, Failed> {
    text.parse().map_err(|error: meshtone_identity::Error| Failed {
        status: StatusCode::BAD_REQUEST,
        error: error.to_string(),
        hint: "the id of a node is what `meshtone status` says there",
    })
}

impl From<RevokeError> for Failed {
    fn from(error: RevokeError) -> Failed {
        let status = match &error {
            RevokeError::NoAuthority | RevokeError::Own | RevokeError::TooMany => StatusCode::CONFLICT,
            RevokeError::Identity(_) | RevokeError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failed { status, hint: error.hint(), error: error.to_string() }
    }
}
