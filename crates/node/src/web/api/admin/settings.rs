//! What the node was started with, and what of it is changed here.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::Value;

use crate::settings::{Kind, Refused, Setting, Source};
use crate::web::Site;
use crate::web::api::Failure;
use crate::web::api::asker::{Administrator, Sent};

/// What the node was started with, who has said so, and what may be changed here.
#[utoipa::path(get, path = "/admin/settings", tag = "admin", responses(
    (status = 200, body = [Setting]), (status = 401, body = Failure), (status = 403, body = Failure),
))]
pub(in crate::web::api) async fn show(_: Administrator, State(site): State<Arc<Site>>) -> Json<Vec<Setting>> {
    Json(settings(&site))
}

/// Changes settings: all that are named, or none.
#[utoipa::path(patch, path = "/admin/settings", tag = "admin", request_body = BTreeMap<String, Value>, responses(
    (status = 200, body = [Setting]), (status = 400, body = Failure, description = "`bad_setting`, with `field`"), (status = 401, body = Failure),
    (status = 403, body = Failure), (status = 409, body = Failure, description = "`overruled`, with `field`"),
))]
pub(in crate::web::api) async fn change(
    _: Administrator,
    State(site): State<Arc<Site>>,
    Sent(changes): Sent<BTreeMap<String, Value>>,
) -> Result<Json<Vec<Setting>>, Failure> {
    let Some(desk) = site.desk.clone() else {
        let error = "this node was started without a place for settings of its page";
        return Err(Failure::new(StatusCode::CONFLICT, "overruled", error, "change them where it is started"));
    };
    let names = changes.keys().cloned().collect::<Vec<_>>().join(", ");
    let changed = tokio::task::spawn_blocking(move || desk.change(&changes)).await;
    let changed = changed.unwrap_or_else(|error| Err(Refused::Failed(error.to_string())));
    let live = changed.map_err(refusal)?;
    site.take_up(live);
    tracing::info!(names, "settings were changed on the page");
    Ok(Json(settings(&site)))
}

fn refusal(refused: Refused) -> Failure {
    match refused {
        Refused::Bad { field, error, hint } => {
            Failure::new(StatusCode::BAD_REQUEST, "bad_setting", error, &hint).about(field)
        }
        Refused::Overruled { field, by } => {
            let (who, hint) = match by {
                Source::Flag => ("a flag of the command line", "start the node without that flag"),
                Source::Environment => {
                    ("a variable of the environment", "start the node without that variable, `MESHTONE_…`")
                }
                Source::File => ("the configuration file", "change it there, and restart the node"),
                Source::Fixed | Source::Default | Source::Page => ("its first start", "it cannot be changed"),
            };
            let error = format!("`{field}` is what {who} says, and that wins over the page");
            Failure::new(StatusCode::CONFLICT, "overruled", error, hint).about(field)
        }
        Refused::Failed(error) => Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "failed",
            format!("the settings could not be kept: {error}"),
            "look whether the disk is full and the data folder may be written",
        ),
    }
}

fn settings(site: &Site) -> Vec<Setting> {
    const FILE: &str = "the configuration file, or the flag of the same name";
    let addresses = site.exchange.transports.addresses();
    let list = |all: &[std::net::SocketAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let fixed = |name: &str, value: String, from: Option<Source>, help: &str| Setting {
        name: name.to_owned(),
        value,
        place: if from == Some(Source::Fixed) { "chosen at the first start" } else { FILE }.to_owned(),
        from: from.or_else(|| site.desk.as_ref().map(|desk| desk.source(name))).unwrap_or(Source::Default),
        changeable: false,
        restart: true,
        pending: None,
        kind: Kind::Text,
        choices: Vec::new(),
        help: help.to_owned(),
    };
    let mut all = vec![
        fixed("domain", site.domain.clone(), Some(Source::Fixed), "The domain that this node serves."),
        fixed("data", site.store.folder().display().to_string(), None, "The folder of all that the node keeps."),
        fixed("sip", list(&addresses.sip), None, "Where phones are listened for, over UDP and TCP."),
        fixed("tls", list(&addresses.tls), None, "Where phones are listened for, over TLS."),
        fixed("ws", list(&addresses.ws), None, "Where browsers are listened for, over HTTP."),
        fixed("wss", list(&addresses.wss), None, "Where browsers are listened for, over HTTPS."),
        fixed("link", list(&site.overlay.addresses()), None, "Where other nodes link to this one."),
    ];
    all.extend(site.desk.iter().flat_map(|desk| desk.settings()));
    all
}
