//! What belongs to the person whose session it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::asker::{Asked, Named, Person, Sent};
use super::events::Notice;
use super::failure::Failure;
use crate::clock::unix_ms;
use crate::exchange::reported::{Measured, NotTaken};
use crate::person::contacts::{self, MAX_CONTACTS, NotKept};
use crate::person::history::{Direction, Entry, MAX_OF_ACCOUNT, Outcome};
use crate::person::rules::{BadRules, MAX_BLOCKED, Rules};
use crate::text::harmless;
use crate::web::Site;

/// Calls that are told at once, where nobody says how many.
const PAGE: usize = 50;
const MAX_PAGE: usize = 100;

/// Somebody whom a person calls.
#[derive(Serialize, ToSchema)]
pub(super) struct Contact {
    id: String,
    name: String,
    address: String,
    favourite: bool,
}

/// The same, as it is to be kept.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewContact {
    /// 1 to 64 characters.
    name: String,
    /// An address or a number.
    address: String,
    #[serde(default)]
    favourite: bool,
}

/// A call of an account at this node.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct PastCall {
    id: String,
    direction: Direction,
    /// Whom it was with.
    address: String,
    /// How he calls himself.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Whether it is proven that he is who he says.
    verified: bool,
    /// In unix seconds.
    started: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    answered: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<u64>,
    outcome: Outcome,
    /// The SIP status, where it was not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    seen: bool,
}

impl From<Entry> for PastCall {
    fn from(entry: Entry) -> PastCall {
        PastCall {
            id: entry.id.to_string(),
            direction: entry.direction,
            address: entry.address,
            name: entry.name,
            verified: entry.verified,
            started: entry.started_ms / 1000,
            answered: entry.answered_ms.map(|at_ms| at_ms / 1000),
            ended: entry.ended_ms.map(|at_ms| at_ms / 1000),
            outcome: entry.outcome,
            status: entry.status,
            reason: entry.reason,
            seen: entry.seen,
        }
    }
}

/// Which calls are meant.
#[derive(Deserialize, IntoParams)]
pub(super) struct Calls {
    /// Those before the call of this id.
    before: Option<String>,
    /// How many at most: 1 to 100.
    limit: Option<usize>,
}

/// Whom a person does not want to be rung by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Settings {
    /// By nobody now: callers hear that she is busy.
    do_not_disturb: bool,
    /// By these never: addresses or numbers.
    blocked: Vec<String>,
}

impl From<Rules> for Settings {
    fn from(Rules { do_not_disturb, blocked }: Rules) -> Settings {
        Settings { do_not_disturb, blocked }
    }
}

impl From<NotKept> for Failure {
    fn from(error: NotKept) -> Failure {
        match error {
            NotKept::BadName => Failure::bad_request("a contact has a name of 1 to 64 characters"),
            NotKept::BadAddress => Failure::bad_request("a contact has an address like bob@example.net, or a number"),
            NotKept::BadId => Failure::bad_request("the id of a contact has 1 to 36 letters, digits and hyphens"),
            NotKept::Full => Failure::full(format!("there are {MAX_CONTACTS} contacts already")),
        }
    }
}

fn store_failed(error: &dyn std::fmt::Display) -> Failure {
    tracing::error!(%error, "what a person keeps cannot be read or written");
    let hint = "tell whoever runs the node: its log says more";
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "this node's disk does not do what it should", hint)
}

/// Her contacts, by name.
#[utoipa::path(get, path = "/me/contacts", tag = "me", responses((status = 200, body = [Contact]), (status = 401, body = Failure)))]
pub(super) async fn contacts(
    State(site): State<Arc<Site>>,
    Person { user }: Person,
) -> Result<Json<Vec<Contact>>, Failure> {
    Ok(Json(contacts::of(&site.belongings, &user).into_iter().map(shown).collect()))
}

fn shown(contacts::Contact { id, name, address, favourite }: contacts::Contact) -> Contact {
    Contact { id, name, address, favourite }
}

/// Adds a contact, or changes the one of this id.
#[utoipa::path(put, path = "/me/contacts/{id}", tag = "me", params(("id" = String, Path)), request_body = NewContact, responses(
    (status = 200, body = Contact), (status = 400, body = Failure), (status = 401, body = Failure), (status = 403, body = Failure),
    (status = 413, body = Failure, description = "`full`"),
))]
pub(super) async fn put_contact(
    State(site): State<Arc<Site>>,
    Person { user }: Person,
    Named(id): Named,
    Sent(NewContact { name, address, favourite }): Sent<NewContact>,
) -> Result<Json<Contact>, Failure> {
    let kept = contacts::put(&site.belongings, &user, contacts::Contact { id, name, address, favourite })?;
    site.notices.tell(&user, Notice::Contacts);
    Ok(Json(shown(kept)))
}

/// Removes a contact.
#[utoipa::path(delete, path = "/me/contacts/{id}", tag = "me", params(("id" = String, Path)), responses(
    (status = 204), (status = 401, body = Failure), (status = 403, body = Failure), (status = 404, body = Failure),
))]
pub(super) async fn remove_contact(
    State(site): State<Arc<Site>>,
    Person { user }: Person,
    Named(id): Named,
) -> Result<StatusCode, Failure> {
    if !contacts::remove(&site.belongings, &user, &id) {
        return Err(Failure::not_found("there is no such contact"));
    }
    site.notices.tell(&user, Notice::Contacts);
    Ok(StatusCode::NO_CONTENT)
}

/// Her calls, newest first: those at all home nodes, and of those that go on the ones at this node.
#[utoipa::path(get, path = "/me/calls", tag = "me", params(Calls), responses(
    (status = 200, body = [PastCall]), (status = 400, body = Failure), (status = 401, body = Failure),
))]
pub(super) async fn calls(
    State(site): State<Arc<Site>>,
    Person { user }: Person,
    Asked(Calls { before, limit }): Asked<Calls>,
) -> Result<Json<Vec<PastCall>>, Failure> {
    let before =
        before.map(|id| id.parse().map_err(|_| Failure::bad_request("that is no id of a call"))).transpose()?;
    let limit = limit.unwrap_or(PAGE).clamp(1, MAX_PAGE.min(MAX_OF_ACCOUNT));
    let entries = site.exchange.history.of(&user, before, limit);
    Ok(Json(entries.into_iter().map(PastCall::from).collect()))
}

/// She has seen them all.
#[utoipa::path(post, path = "/me/calls/seen", tag = "me", responses((status = 204), (status = 401, body = Failure), (status = 403, body = Failure)))]
pub(super) async fn see_calls(State(site): State<Arc<Site>>, Person { user }: Person) -> StatusCode {
    site.exchange.history.see(&user);
    StatusCode::NO_CONTENT
}

/// Forgets them all.
#[utoipa::path(delete, path = "/me/calls", tag = "me", responses((status = 204), (status = 401, body = Failure), (status = 403, body = Failure)))]
pub(super) async fn forget_calls(State(site): State<Arc<Site>>, Person { user }: Person) -> StatusCode {
    site.exchange.history.clear(&user);
    StatusCode::NO_CONTENT
}

/// How a call sounds to her, as her browser has measured it.
#[derive(Deserialize, ToSchema)]
pub(super) struct Measurements {
    /// How much did not arrive, in percent.
    loss_percent: f64,
    jitter_ms: f64,
    rtt_ms: Option<f64>,
    /// A score that the browser estimates; without it the node does.
    mos: Option<f64>,
}

/// Tells how a call of hers sounds to her, for whoever looks after it. At most one each two seconds.
#[utoipa::path(post, path = "/calls/{call_id}/quality", tag = "me", params(("call_id" = String, Path)), request_body = Measurements, responses(
    (status = 204), (status = 400, body = Failure), (status = 401, body = Failure), (status = 403, body = Failure),
    (status = 404, body = Failure), (status = 429, body = Failure),
))]
pub(super) async fn hear(
    State(site): State<Arc<Site>>,
    Person { user }: Person,
    Named(call_id): Named,
    Sent(Measurements { loss_percent, jitter_ms, rtt_ms, mos }): Sent<Measurements>,
) -> Result<StatusCode, Failure> {
    let is_time = |time: &f64| (0.0..=60_000.0).contains(time);
    let is_sound = (0.0..=100.0).contains(&loss_percent)
        && is_time(&jitter_ms)
        && rtt_ms.as_ref().is_none_or(is_time)
        && mos.is_none_or(|mos| (1.0..=5.0).contains(&mos));
    if !is_sound {
        return Err(Failure::bad_request("those are no measurements of a call"));
    }
    let measured = Measured { loss_percent, jitter_ms, round_trip_ms: rtt_ms, mean_opinion: mos };
    match site.exchange.reported(unix_ms(), &user, &call_id, &measured) {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(NotTaken::TooOften) => Err(Failure::too_often(2)),
        Err(NotTaken::NoCall) => Err(Failure::not_found("this node knows of no such call of yours")),
    }
}

/// Whom she does not want to be rung by.
#[utoipa::path(get, path = "/me/settings", tag = "me", responses((status = 200, body = Settings), (status = 401, body = Failure)))]
pub(super) async fn settings(
    State(site): State<Arc<Site>>,
    Person { user }: Person,
) -> Result<Json<Settings>, Failure> {
    Ok(Json(settings_of(&site, &user)))
}

pub(super) fn settings_of(site: &Site, user: &str) -> Settings {
    site.exchange.accounts.find(user).map(|account| Rules::of(&account)).unwrap_or_default().into()
}

/// Changes that.
#[utoipa::path(put, path = "/me/settings", tag = "me", request_body = Settings, responses(
    (status = 200, body = Settings), (status = 400, body = Failure), (status = 401, body = Failure), (status = 403, body = Failure),
    (status = 413, body = Failure, description = "`full`"),
))]
pub(super) async fn put_settings(
    State(site): State<Arc<Site>>,
    Person { user }: Person,
    Sent(Settings { do_not_disturb, blocked }): Sent<Settings>,
) -> Result<Json<Settings>, Failure> {
    let rules = Rules { do_not_disturb, blocked }.checked().map_err(|error| match error {
        BadRules::NoAddress(text) => {
            Failure::bad_request(format!("`{}` is no address and no number", harmless(&text, 80)))
        }
        BadRules::TooMany => {
            Failure::full(format!("no more than {MAX_BLOCKED} can be blocked, and fewer if their addresses are long"))
        }
    })?;
    let (accounts, kept) = (site.exchange.accounts.clone(), rules.clone());
    let changing = tokio::task::spawn_blocking(move || accounts.set_rules(&user, &kept));
    changing.await.map_err(|error| store_failed(&error))?.map_err(|error| store_failed(&error))?;
    Ok(Json(rules.into()))
}
