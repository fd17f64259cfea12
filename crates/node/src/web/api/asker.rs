//! Who asks, and whether he may: what handlers take as arguments, so that none can forget to look.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use std::sync::Arc;

use super::Administration;
use super::failure::Failure;
use crate::clock::unix_ms;
use crate::login::tokens::Scope;
use crate::login::{Found, is_same};
use crate::web::Site;
use crate::web::visitor::{Arrival, Visitor};

/// The header that has to come with whatever changes something.
pub(super) const CSRF: &str = "x-meshtone-csrf";

/// Anybody, whose request came from a page of ours or from a program.
pub(super) struct Guest(pub(super) Visitor);

/// Somebody with a session of either kind.
pub(super) struct Member {
    pub(super) visitor: Visitor,
    pub(super) session: Found,
}

/// Somebody whose session is that of an account.
pub(super) struct Person {
    pub(super) user: String,
}

/// Whoever runs the node: a session that administers, or a token.
pub(super) struct Administrator;

/// Whoever may read the counters.
pub(in crate::web) struct Watcher;

pub(super) fn visitor(extensions: &Extensions, fields: &HeaderMap, site: &Site) -> Result<Visitor, Failure> {
    let arrival = extensions.get::<Arrival>().copied();
    let arrival = arrival.ok_or_else(|| Failure::bad_request("nothing is known of where this comes from"))?;
    Ok(Visitor::read(arrival, fields, &site.domain, site.certificates.public())?)
}

/// Whether a request changes nothing.
fn only_looks(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

impl FromRequestParts<Arc<Site>> for Guest {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Guest, Failure> {
        let visitor = visitor(&parts.extensions, &parts.headers, site)?;
        if !only_looks(&parts.method) {
            visitor.check_script(&parts.headers)?;
        }
        Ok(Guest(visitor))
    }
}

impl FromRequestParts<Arc<Site>> for Member {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Member, Failure> {
        let visitor = visitor(&parts.extensions, &parts.headers, site)?;
        let session = session(&visitor, site)?;
        check_change(parts, &visitor, &session)?;
        Ok(Member { visitor, session })
    }
}

impl FromRequestParts<Arc<Site>> for Person {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Person, Failure> {
        let Member { session, .. } = Member::from_request_parts(parts, site).await?;
        let user = session.user.ok_or_else(|| {
            let error = "an administrator's session is nobody's account";
            Failure::new(StatusCode::FORBIDDEN, "no_account", error, "log in with an address and its password")
        })?;
        Ok(Person { user })
    }
}

impl FromRequestParts<Arc<Site>> for Administrator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Administrator, Failure> {
        let visitor = visitor(&parts.extensions, &parts.headers, site)?;
        check_place(&visitor, site)?;
        if let Some(text) = bearer(&parts.headers) {
            let wanted = if only_looks(&parts.method) { Scope::Read } else { Scope::Admin };
            check_token(&visitor, site, text, wanted)?;
            return Ok(Administrator);
        }
        let session = session(&visitor, site)?;
        if !session.administers() {
            let error = "this is for whoever runs the node, and your session is that of an account";
            let hint = "type `meshtone page` on the node's machine, and open what it prints";
            return Err(Failure::new(StatusCode::FORBIDDEN, "not_administrator", error, hint));
        }
        check_change(parts, &visitor, &session)?;
        Ok(Administrator)
    }
}

impl FromRequestParts<Arc<Site>> for Watcher {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Watcher, Failure> {
        let visitor = visitor(&parts.extensions, &parts.headers, site)?;
        match bearer(&parts.headers) {
            Some(text) => check_token(&visitor, site, text, Scope::Metrics)?,
            None if visitor.is_local => {}
            None => {
                let error = "the counters are for this machine, and for whoever shows a token";
                let hint = "send `Authorization: Bearer mt_…` with a token of the scope `metrics`";
                return Err(Failure::new(StatusCode::UNAUTHORIZED, "no_session", error, hint));
            }
        }
        Ok(Watcher)
    }
}

/// Where administration may be done from.
pub(super) fn check_place(visitor: &Visitor, site: &Site) -> Result<(), Failure> {
    match site.administration() {
        Administration::Anywhere if visitor.is_protected => Ok(()),
        Administration::Anywhere => Err(unprotected()),
        Administration::Local if visitor.is_local => Ok(()),
        Administration::Local => Err(Failure::new(
            StatusCode::FORBIDDEN,
            "not_local",
            "this node is administered from its own machine alone",
            "open the page there, through an SSH tunnel say, or set `administration = \"anywhere\"` in `[page]` of its configuration",
        )),
    }
}

/// What is secret goes over TLS, or nowhere.
pub(super) fn unprotected() -> Failure {
    Failure::new(
        StatusCode::FORBIDDEN,
        "unprotected",
        "whoever is on the way could read what is typed here",
        "open this page by https",
    )
}

pub(super) fn check_token(visitor: &Visitor, site: &Site, text: &str, wanted: Scope) -> Result<(), Failure> {
    if !visitor.is_protected {
        return Err(unprotected());
    }
    let token = site.tokens.find(unix_ms(), text).ok_or_else(|| {
        let hint = "make a token on the page, or by POST /api/v1/admin/tokens";
        Failure::new(StatusCode::UNAUTHORIZED, "no_session", "there is no such token, or it was taken back", hint)
    })?;
    if token.may(wanted) {
        return Ok(());
    }
    let hint = "make one with the scope that is needed: `metrics`, `read` or `admin`";
    Err(Failure::new(StatusCode::FORBIDDEN, "scope", "this token is not for that", hint))
}

pub(super) fn bearer(fields: &HeaderMap) -> Option<&str> {
    fields.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

pub(super) fn session(visitor: &Visitor, site: &Site) -> Result<Found, Failure> {
    let secret = visitor.session.as_deref().ok_or_else(Failure::no_session)?;
    let session = site.sessions.find(unix_ms(), secret).ok_or_else(Failure::no_session)?;
    // It was opened here; now it is shown from elsewhere.
    if session.administers() {
        check_place(visitor, site)?;
    }
    Ok(session)
}

/// Judges a request that changes something: browsers make others' pages send such requests with our cookie.
fn check_change(parts: &Parts, visitor: &Visitor, session: &Found) -> Result<(), Failure> {
    if only_looks(&parts.method) {
        return Ok(());
    }
    visitor.check_script(&parts.headers)?;
    let shown = parts.headers.get(CSRF).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if is_same(shown, &session.csrf) {
        return Ok(());
    }
    let error = "this request did not bring the token of your session, so it may be another page's";
    Err(Failure::new(StatusCode::FORBIDDEN, "csrf", error, "reload the page"))
}

/// What the path names.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named, Failure> {
        let read = Path::from_request_parts(parts, state).await;
        let Path(name) = read.map_err(|rejection: PathRejection| Failure::bad_request(rejection.body_text()))?;
        Ok(Named(name))
    }
}

/// What is asked for behind the `?` of an address.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked<T>, Failure> {
        let read = Query::from_request_parts(parts, state).await;
        let Query(asked) = read.map_err(|rejection: QueryRejection| Failure::bad_request(rejection.body_text()))?;
        Ok(Asked(asked))
    }
}

/// What is sent as JSON. Other pages cannot send that kind without asking.
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Sent<T>, Failure> {
        let bytes = json(request, state).await?;
        let read = serde_json::from_slice(&bytes);
        read.map(Sent).map_err(|error| Failure::bad_request(format!("the request cannot be read: {error}")))
    }
}

/// The same, for whoever reads it himself.
pub(super) struct SentBytes(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for SentBytes {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<SentBytes, Failure> {
        json(request, state).await.map(SentBytes)
    }
}

async fn json<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Failure> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let error = "what was sent is not marked as JSON";
        let hint = "send `Content-Type: application/json`";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", error, hint));
    }
    Bytes::from_request(request, state).await.map_err(|rejection: BytesRejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "that is more than this node reads at once",
            "send less",
        ),
        _ => Failure::bad_request("the request did not arrive as a whole"),
    })
}
