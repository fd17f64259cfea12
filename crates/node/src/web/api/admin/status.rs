//! How the node stands.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::health::{Health, health};
use crate::clock::unix_s;
use crate::control::Status;
use crate::web::Site;
use crate::web::api::Failure;
use crate::web::api::asker::Administrator;

/// How the node stands, and what is not as it should be.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct AdminStatus {
    #[serde(flatten)]
    status: Status,
    /// Worst first; empty where all is well.
    health: Vec<Health>,
}

impl AdminStatus {
    pub(in crate::web) fn of(site: &Site) -> AdminStatus {
        let status = site.control.status();
        let health = health(&status, unix_s());
        AdminStatus { status, health }
    }
}

/// How the node stands.
#[utoipa::path(get, path = "/admin/status", tag = "admin", responses(
    (status = 200, body = AdminStatus), (status = 401, body = Failure), (status = 403, body = Failure),
))]
pub(in crate::web::api) async fn show(_: Administrator, State(site): State<Arc<Site>>) -> Json<AdminStatus> {
    Json(AdminStatus::of(&site))
}
