//! Requests, checked and carried out.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use meshtone_identity::Role;
use meshtone_sip::digest::Algorithm;

use super::api::{
    CertificateList, Failure, Invite, NewInvite, NewUser, PageKey, UserChanges, UserCredentials, UserList, UserLogin,
    UserRow,
};
use super::{Control, backup, nodes, people, with_key};
use crate::account::{AccountError, Accounts, Changes, Credentials};
use crate::clock::unix_ms;
use crate::enrol::{InviteError, Inviter};
use crate::login::keys::GOOD_FOR_MS;

/// The largest request brings the certificates of another authority, and a key.
const MAX_BODY_LEN: usize = 64 << 10;

pub(super) fn router(control: Control) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/netcheck", get(netcheck))
        .route("/traces", post(trace))
        .route("/users", get(list_users).post(add_user))
        .route("/users/{name}", patch(change_user).delete(remove_user))
        .route("/users/{name}/password", post(change_password))
        .route("/users/{name}/login", get(user_login))
        .route("/users/{name}/turn", post(turn_credentials))
        .route("/invites", post(invite))
        .route("/page/key", post(page_key))
        .route("/backup", post(backup::make))
        .route("/authority/certificates", get(list_certificates))
        .route("/authority/nodes", get(nodes::list))
        .route("/authority/nodes/{id}/revocation", post(nodes::revoke))
        .route("/enrolments", post(people::enroll))
        .route("/keys", get(people::list).post(people::import))
        .route("/keys/{address}/nodes", post(people::delegate))
        .route("/keys/{address}/export", post(people::export))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is nothing of that name"))
        .method_not_allowed_fallback(async || refuse(StatusCode::METHOD_NOT_ALLOWED, "that cannot be done with it"))
        .layer(DefaultBodyLimit::max(MAX_BODY_LEN))
        .with_state(control)
}

async fn status(State(control): State<Control>) -> Response {
    Json(control.status.status()).into_response()
}

async fn netcheck(State(control): State<Control>) -> Response {
    Json(control.status.netcheck()).into_response()
}

async fn trace(State(control): State<Control>, body: Bytes) -> Result<Response, Failed> {
    let target: String = parse(&body)?;
    Ok(Json(control.status.trace(target).await).into_response())
}

async fn list_users(State(control): State<Control>) -> Response {
    Json(UserList { domain: control.accounts.domain().to_owned(), users: control.users() }).into_response()
}

pub(crate) async fn add_user(State(control): State<Control>, body: Bytes) -> Result<Response, Failed> {
    control.check_serves_phones()?;
    let NewUser { user, number, digest } = parse(&body)?;
    let algorithms = algorithms(&digest)?;
    let added = change(&control, move |accounts| accounts.add_with(&user, number.as_deref(), &algorithms)).await?;
    Ok((StatusCode::CREATED, Json(credentials(&control, added))).into_response())
}

pub(crate) async fn change_user(
    State(control): State<Control>,
    Path(user): Path<String>,
    body: Bytes,
) -> Result<Response, Failed> {
    let UserChanges { number, digest } = parse(&body)?;
    let number = number.map(|number| Some(number).filter(|number| !number.is_empty()));
    let digest = digest.map(|tokens| algorithms(&tokens)).transpose()?;
    let changed = change(&control, move |accounts| accounts.set(&user, &Changes { number, digest })).await?;
    let warning = control.warning(&changed);
    Ok(Json(UserRow::of(changed, warning)).into_response())
}

fn algorithms(tokens: &[String]) -> Result<Vec<Algorithm>, Failed> {
    let known = |token: &String| {
        Algorithm::from_token(token).ok_or_else(|| Failed {
            status: StatusCode::BAD_REQUEST,
            error: format!("there is no digest algorithm {token:?}"),
            hint: "the algorithms are md5, sha-256 and sha-512-256",
        })
    };
    tokens.iter().map(known).collect()
}

pub(crate) async fn change_password(
    State(control): State<Control>,
    Path(user): Path<String>,
) -> Result<Response, Failed> {
    let changed = change(&control, move |accounts| accounts.passwd(&user)).await?;
    Ok(Json(credentials(&control, changed)).into_response())
}

async fn user_login(State(control): State<Control>, Path(user): Path<String>) -> Result<Response, Failed> {
    let accounts = &control.accounts;
    if accounts.find(&user).is_none() {
        return Err(AccountError::Unknown { user }.into());
    }
    let known = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256].into_iter().filter_map(|algorithm| {
        Some((algorithm.as_str().to_owned(), accounts.ha1(&user, algorithm)?.as_str().to_owned()))
    });
    let server = control.near_server().ok_or(Failed {
        status: StatusCode::CONFLICT,
        error: "the node listens for SIP nowhere".to_owned(),
        hint: "name an address with `run --sip`",
    })?;
    let domain = accounts.domain().to_owned();
    Ok(Json(UserLogin { ha1: known.collect(), user, domain, server }).into_response())
}

async fn turn_credentials(State(control): State<Control>, Path(user): Path<String>) -> Result<Response, Failed> {
    if control.accounts.find(&user).is_none() {
        return Err(AccountError::Unknown { user }.into());
    }
    let login = control.turn.as_ref().and_then(|turn| turn.for_user(&user).into_iter().next()).ok_or(Failed {
        status: StatusCode::CONFLICT,
        error: "this node has no TURN server that others could find, and knows none of another node".to_owned(),
        hint: "name an address with `run --turn`, here or at a node that is reached from outside",
    })?;
    Ok(Json(login).into_response())
}

pub(crate) async fn remove_user(State(control): State<Control>, Path(user): Path<String>) -> Result<Response, Failed> {
    change(&control, move |accounts| accounts.remove(&user)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn invite(State(control): State<Control>, body: Bytes) -> Result<Response, Failed> {
    let (_, invite) = make_invite(&control, parse(&body)?).await?;
    Ok((StatusCode::CREATED, Json(invite)).into_response())
}

/// Makes a ticket, and says by which id it is taken back.
pub(crate) async fn make_invite(control: &Control, wanted: NewInvite) -> Result<(String, Invite), Failed> {
    let NewInvite { role, valid_s, person } = wanted;
    let wanted = Role::named(&role).ok_or_else(|| Failed {
        status: StatusCode::BAD_REQUEST,
        error: format!("there is no role {role:?}"),
        hint: "the roles are `home`, `member`, `store-only` and `open`",
    })?;
    let (mut addresses, relay) = (control.entrances)();
    let links = (control.links)();
    addresses.extend(links.into_iter().filter(|link| !addresses.contains(link)).collect::<Vec<_>>());
    let inviter = control.inviter.clone();
    let valid = Duration::from_secs(valid_s);
    let make = move || Inviter::invite_for(&inviter, wanted, person.as_deref(), valid, &addresses);
    let mut ticket = blocking(make).await?.map_err(Failed::from)?;
    // For who gets no UDP out of his network.
    ticket.relay = relay;
    let invite = Invite {
        ticket: ticket.to_string(),
        role,
        domain: ticket.domain.clone(),
        overlay: ticket.overlay.to_string(),
        expires: ticket.expires,
    };
    Ok((Inviter::id_of(&ticket), invite))
}

async fn page_key(State(control): State<Control>) -> Result<Response, Failed> {
    let page = control.page.as_ref().and_then(|page| Some((page, page.url.as_deref()?)));
    let (page, url) = page.ok_or(Failed {
        status: StatusCode::CONFLICT,
        error: "this node has no page: it listens for no browsers".to_owned(),
        hint: "start it with `--ws 127.0.0.1:8080`, or without --sip",
    })?;
    let url = with_key(url, &page.keys.make(unix_ms()));
    Ok((StatusCode::CREATED, Json(PageKey { url, valid_s: GOOD_FOR_MS / 1000, trust: control.status.trust() }))
        .into_response())
}

async fn list_certificates(State(control): State<Control>) -> Result<Response, Failed> {
    let authority = control.authority.as_ref().ok_or(Failed {
        status: StatusCode::CONFLICT,
        error: "this node does not have the overlay's authority".to_owned(),
        hint: "ask at the node that founded the overlay",
    })?;
    Ok(Json(CertificateList { certificates: authority.issued() }).into_response())
}

pub(super) fn credentials(control: &Control, credentials: Credentials) -> UserCredentials {
    let Credentials { user, domain, number, password } = credentials;
    let warning = control.accounts.find(&user).and_then(|account| control.warning(&account));
    let password = password.reveal().to_owned();
    UserCredentials { user, domain, password, number, server: Some(control.server()), warning }
}

/// Changes accounts on a thread that may wait for the disk.
async fn change<T: Send + 'static>(
    control: &Control,
    change: impl FnOnce(&Accounts) -> Result<T, AccountError> + Send + 'static,
) -> Result<T, Failed> {
    let accounts = control.accounts.clone();
    Ok(blocking(move || change(&accounts)).await??)
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failed> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Failed {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        error: "the node failed to do it".to_owned(),
        hint: "look at the node's log",
    })
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failed> {
    serde_json::from_slice(body).map_err(|error| Failed {
        status: StatusCode::BAD_REQUEST,
        error: format!("the request cannot be read: {error}"),
        hint: "run the same version of meshtone as the node",
    })
}

fn refuse(status: StatusCode, error: &str) -> Failed {
    Failed { status, error: error.to_owned(), hint: "run the same version of meshtone as the node" }
}

impl Control {
    /// A node that only stores has nobody's phones.
    pub(super) fn check_serves_phones(&self) -> Result<(), Failed> {
        if self.rights.may_speak() {
            return Ok(());
        }
        Err(Failed {
            status: StatusCode::CONFLICT,
            error: "this node only stores for the overlay, and serves nobody's phones".to_owned(),
            hint: "add users at a home node; a machine that shall have some joins with a ticket of the role `home` or `member`",
        })
    }
}

/// A failure on its way to becoming an answer.
pub(crate) struct Failed {
    pub(crate) status: StatusCode,
    pub(crate) error: String,
    pub(crate) hint: &'static str,
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.status, Json(Failure { error: self.error, hint: self.hint.to_owned() })).into_response()
    }
}

impl From<AccountError> for Failed {
    fn from(error: AccountError) -> Failed {
        let status = match &error {
            AccountError::BadUser { .. } | AccountError::Reserved { .. } | AccountError::BadNumber { .. } => {
                StatusCode::BAD_REQUEST
            }
            AccountError::UserTaken { .. } | AccountError::NumberTaken { .. } => StatusCode::CONFLICT,
            AccountError::Unknown { .. } => StatusCode::NOT_FOUND,
            AccountError::Full => StatusCode::INSUFFICIENT_STORAGE,
            AccountError::Randomness(_) | AccountError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failed { status, hint: error.hint(), error: error.to_string() }
    }
}

impl From<InviteError> for Failed {
    fn from(error: InviteError) -> Failed {
        let status = match &error {
            InviteError::NoAuthority
            | InviteError::NoAddress
            | InviteError::TooManyNodes
            | InviteError::NotOpen
            | InviteError::TooManyOfPerson(_) => StatusCode::CONFLICT,
            InviteError::BadValidity | InviteError::NoPerson(_) => StatusCode::BAD_REQUEST,
            InviteError::TooMany => StatusCode::TOO_MANY_REQUESTS,
            InviteError::Randomness(_) | InviteError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failed { status, hint: error.hint(), error: error.to_string() }
    }
}
