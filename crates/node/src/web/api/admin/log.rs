//! The last lines of the log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::journal::{Level, Line, Wanted};
use crate::web::Site;
use crate::web::api::Failure;
use crate::web::api::asker::{Administrator, Asked};

/// Lines that are told at once, where nobody says how many.
const PAGE: usize = 100;
const MAX_PAGE: usize = 500;

/// Which lines are meant.
#[derive(Deserialize, IntoParams)]
pub(in crate::web::api) struct Filter {
    /// This level and worse.
    level: Option<Level>,
    /// Those that name this Call-ID.
    call: Option<String>,
    /// Those with this text in them, in any case.
    text: Option<String>,
    /// Those before the line of this id.
    before: Option<u64>,
    /// How many at most: 1 to 500.
    limit: Option<usize>,
}

/// The last lines, newest first.
#[utoipa::path(get, path = "/admin/log", tag = "admin", params(Filter), responses(
    (status = 200, body = [Line]), (status = 400, body = Failure), (status = 401, body = Failure), (status = 403, body = Failure),
))]
pub(in crate::web::api) async fn show(
    _: Administrator,
    State(site): State<Arc<Site>>,
    Asked(Filter { level, call, text, before, limit }): Asked<Filter>,
) -> Json<Vec<Line>> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let wanted = Wanted { level, call: given(call), text: given(text), before };
    let lines = site.journal.find(&wanted, limit.unwrap_or(PAGE).clamp(1, MAX_PAGE));
    Json(lines.into_iter().map(|line| (*line).clone()).collect())
}
