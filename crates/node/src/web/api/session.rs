//! Logging in and out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asker::{self, Guest, Member, Sent};
use super::failure::Failure;
use crate::account::name;
use crate::clock::unix_ms;
use crate::control::Trust;
use crate::exchange::guard::Source;
use crate::login::Found;
use crate::turn::IceServer;
use crate::web::visitor::Visitor;
use crate::web::{EnrolHere, Site};

/// Longest password that is looked at; what this node makes has 24 digits.
const MAX_PASSWORD_LEN: usize = 1024;

/// What somebody logs in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSession {
    /// An address, or the name or number alone.
    #[schema(max_length = 320)]
    address: String,
    /// Its password.
    #[schema(max_length = 1024)]
    password: String,
}

/// What an administrator's session is opened with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    /// What `meshtone page` has printed.
    key: String,
}

/// Somebody is logged in.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// Her address; empty of an administrator.
    address: String,
    /// The name of her account; empty of an administrator.
    user: String,
    /// The domain that this node serves.
    domain: String,
    /// Her number.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<String>,
    /// What has to come as `X-Meshtone-Csrf` with whatever changes something.
    csrf: String,
    /// For how many seconds the session lasts when nobody uses it.
    expires_s: u64,
    /// Whether it may administer the node.
    administers: bool,
    /// By what the page registers and calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    sip: Option<Sip>,
    /// STUN and TURN with a login for her, as `RTCPeerConnection` wants them; none where the node has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    ice: Vec<IceServer>,
}

/// A SIP credential that is good for as long as its session.
#[derive(Serialize, ToSchema)]
struct Sip {
    /// The address-of-record, for From and To.
    uri: String,
    /// What authenticates.
    username: String,
    /// Its password.
    password: String,
    /// The realm of the challenges.
    realm: String,
    /// Where SIP over WebSocket is spoken, at this very host.
    ws: &'static str,
    /// For how many seconds it lasts when nobody uses the session.
    expires_s: u64,
}

/// What anybody may know of this page.
#[derive(Serialize, ToSchema)]
pub(super) struct Page {
    /// The domain that this node serves.
    domain: String,
    /// The program's version.
    version: &'static str,
    /// Whether this visitor may enrol at `/enroll`.
    enrol: bool,
    /// Whether nobody on the way can listen.
    secure: bool,
    /// Whether he is at this very machine.
    loopback: bool,
    /// Whether he may log in as administrator from there.
    administration: bool,
}

/// Logs in with an address and its password.
#[utoipa::path(post, path = "/session", tag = "session", request_body = NewSession, responses(
    (status = 200, body = Session, description = "The session; its cookie is set"),
    (status = 401, body = Failure, description = "`wrong_password`"),
    (status = 403, body = Failure, description = "`unprotected`, `origin`, `no_phones`, `not_served`"),
    (status = 429, body = Failure, description = "`too_often`"),
))]
pub(super) async fn begin(
    State(site): State<Arc<Site>>,
    Guest(visitor): Guest,
    Sent(NewSession { address, password }): Sent<NewSession>,
) -> Result<Response, Failure> {
    if !visitor.is_protected {
        return Err(asker::unprotected());
    }
    if !site.exchange.rights.may_speak() {
        let error = "this node only stores for others, and serves nobody's phones";
        return Err(Failure::new(StatusCode::FORBIDDEN, "no_phones", error, "use the page of a home node"));
    }
    let wanted = account_of(&site, &address);
    // By whichever name somebody guesses, it is one account.
    let wanted = site.exchange.accounts.resolve(&wanted).unwrap_or(wanted);
    let (now_ms, guard) = (unix_ms(), &site.exchange.guard);
    if !guard.may_try(now_ms, visitor.remote, &wanted) {
        return Err(Failure::too_often(600));
    }
    let checked = Some(password).filter(|password| password.len() <= MAX_PASSWORD_LEN);
    let user = checked.and_then(|password| site.exchange.accounts.check_password(&wanted, &password));
    let Some(user) = user else {
        guard.failed(now_ms, visitor.remote, Some(&wanted));
        let error = "this address and this password do not belong together";
        let hint = "look at both again; whoever runs the node can give you a new password with `meshtone user passwd`";
        return Err(Failure::new(StatusCode::UNAUTHORIZED, "wrong_password", error, hint));
    };
    guard.succeeded(now_ms, visitor.remote, &user);
    if !site.exchange.may_serve(&user) {
        let error = "you have taken from this node the right to speak for your address";
        let hint = "use the page of a node that has it, or give it back with `meshtone key`";
        return Err(Failure::new(StatusCode::FORBIDDEN, "not_served", error, hint));
    }
    opened(&site, &visitor, Some(&user))
}

/// The account that somebody means: the name within the served domain, else the whole address.
fn account_of(site: &Site, address: &str) -> String {
    let lower = name::without_scheme(address).to_ascii_lowercase();
    let wanted = site.exchange.account_of(&lower);
    // As people write numbers.
    match name::new_number(wanted) {
        Ok(number) if !name::is_user(wanted) || site.exchange.accounts.resolve(wanted).is_none() => number,
        Ok(_) | Err(_) => wanted.to_owned(),
    }
}

/// The session of the cookie.
#[utoipa::path(get, path = "/session", tag = "session", responses(
    (status = 200, body = Session), (status = 401, body = Failure, description = "`no_session`"),
))]
pub(super) async fn show(
    State(site): State<Arc<Site>>,
    Member { session, .. }: Member,
) -> Result<Json<Session>, Failure> {
    Ok(Json(shown(&site, session)))
}

/// Logs out.
#[utoipa::path(delete, path = "/session", tag = "session", responses(
    (status = 204, description = "The session is over, and so is its SIP credential"), (status = 401, body = Failure),
    (status = 403, body = Failure, description = "`csrf`, `origin`"),
))]
pub(super) async fn end(State(site): State<Arc<Site>>, Member { visitor, session }: Member) -> Response {
    site.sessions.end(&session.id);
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, visitor.session_cookie(None))]).into_response()
}

/// Opens an administrator's session with a one-time key.
#[utoipa::path(post, path = "/session/key", tag = "session", request_body = Key, responses(
    (status = 200, body = Session), (status = 401, body = Failure, description = "`wrong_key`"),
    (status = 403, body = Failure, description = "`not_local`, `unprotected`, `origin`"),
    (status = 429, body = Failure, description = "`too_often`"),
))]
pub(super) async fn begin_by_key(
    State(site): State<Arc<Site>>,
    Guest(visitor): Guest,
    Sent(Key { key }): Sent<Key>,
) -> Result<Response, Failure> {
    asker::check_place(&visitor, &site)?;
    let now_ms = unix_ms();
    if !site.limits().may_prove(now_ms, Source::of(visitor.source)) {
        return Err(Failure::too_often(60));
    }
    if !site.keys.redeem(now_ms, &key) {
        let error = "this key was used already, or is older than an hour";
        let hint = "type `meshtone page` on the node's machine, and open what it prints";
        return Err(Failure::new(StatusCode::UNAUTHORIZED, "wrong_key", error, hint));
    }
    opened(&site, &visitor, None)
}

/// What anybody may know of this page.
#[utoipa::path(get, path = "/page", tag = "session", responses((status = 200, body = Page)))]
pub(super) async fn page(State(site): State<Arc<Site>>, Guest(visitor): Guest) -> Json<Page> {
    let enrol = match site.enrol() {
        EnrolHere::Nobody => false,
        EnrolHere::Local => visitor.is_local,
        EnrolHere::Anybody => visitor.is_protected,
    };
    Json(Page {
        domain: site.domain.clone(),
        version: env!("CARGO_PKG_VERSION"),
        enrol,
        secure: visitor.is_protected,
        loopback: visitor.is_local,
        administration: asker::check_place(&visitor, &site).is_ok(),
    })
}

/// The certificate of the overlay's authority, who vouches for this page, and what that means.
#[utoipa::path(get, path = "/authority", tag = "session", responses((status = 200, body = Trust)))]
pub(super) async fn authority(State(site): State<Arc<Site>>, _: Guest) -> Json<Trust> {
    Json(site.certificates.trust())
}

fn opened(site: &Site, visitor: &Visitor, user: Option<&str>) -> Result<Response, Failure> {
    let now_ms = unix_ms();
    // One browser has one session: who logs in again leaves the one before.
    if let Some(before) = visitor.session.as_deref().and_then(|secret| site.sessions.find(now_ms, secret)) {
        site.sessions.end(&before.id);
    }
    let secret = site.sessions.begin(now_ms, user);
    let found = site.sessions.find(now_ms, &secret).ok_or_else(Failure::no_session)?;
    let cookie = visitor.session_cookie(Some(&secret));
    Ok(([(header::SET_COOKIE, cookie)], Json(shown(site, found))).into_response())
}

fn shown(site: &Site, session: Found) -> Session {
    let administers = session.administers();
    let Found { user, csrf, expires_s, sip, .. } = session;
    let account = user.as_deref().and_then(|user| site.exchange.accounts.find(user));
    let address = user.as_deref().map(|user| site.exchange.address_of(user)).unwrap_or_default();
    let ice = user.as_deref().map(|user| site.turn.for_user(user)).unwrap_or_default();
    let sip = sip.map(|credential| Sip {
        uri: format!("sip:{address}"),
        username: credential.username,
        password: credential.password,
        realm: site.domain.clone(),
        ws: "/sip",
        expires_s,
    });
    Session {
        address,
        user: user.unwrap_or_default(),
        domain: site.domain.clone(),
        number: account.and_then(|account| account.number),
        csrf,
        expires_s,
        administers,
        sip,
        ice,
    }
}
