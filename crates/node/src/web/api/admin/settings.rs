//! What the node was started with, for people to read. It is changed in the configuration file, where comments say why.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::web::api::asker::Administrator;
use crate::web::api::{Administration, Failure};
use crate::web::{EnrolHere, Site};

/// A setting.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::web::api) struct Setting {
    /// What it is called in the configuration.
    name: &'static str,
    value: String,
    /// Where it is changed.
    #[serde(rename = "where")]
    place: &'static str,
}

/// What the node was started with.
#[utoipa::path(get, path = "/admin/settings", tag = "admin", responses(
    (status = 200, body = [Setting]), (status = 401, body = Failure), (status = 403, body = Failure),
))]
pub(in crate::web::api) async fn show(_: Administrator, State(site): State<Arc<Site>>) -> Json<Vec<Setting>> {
    const FILE: &str = "the configuration file, or the flag of the same name";
    const FIXED: &str = "chosen at the first start";
    const TABLE: &str = "[page] in the configuration file";
    let addresses = site.exchange.transports.addresses();
    let list = |all: &[std::net::SocketAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let role = site.overlay.role();
    let enrol = match site.enrol {
        EnrolHere::Local => "local",
        EnrolHere::Anybody => "anybody",
        EnrolHere::Nobody => "nobody",
    };
    let administration = match site.administration {
        Administration::Local => "local",
        Administration::Anywhere => "anywhere",
    };
    let public = site.certificates.public().map_or_else(|| "none".to_owned(), ToString::to_string);
    let setting = |name, value: String, place| Setting { name, value, place };
    Json(vec![
        setting("domain", site.domain.clone(), FIXED),
        setting("data", site.store.folder().display().to_string(), FILE),
        setting("sip", list(&addresses.sip), FILE),
        setting("tls", list(&addresses.tls), FILE),
        setting("ws", list(&addresses.ws), FILE),
        setting("wss", list(&addresses.wss), FILE),
        setting("link", list(&site.overlay.addresses()), FILE),
        setting("public_url", public, FILE),
        setting("role", if role.serves { "serves others" } else { "uses what others store" }.to_owned(), FILE),
        setting("enroll", enrol.to_owned(), FILE),
        setting("page.administration", administration.to_owned(), TABLE),
    ])
}
