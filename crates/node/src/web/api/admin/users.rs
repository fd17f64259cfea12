//! Users: what `meshtone user` does.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::unix_ms;
use crate::control::{NewUser, UserChanges, UserCredentials, UserRow, routes};
use crate::web::Site;
use crate::web::api::Failure;
use crate::web::api::asker::{Administrator, Named, SentBytes};

/// All users.
#[derive(Serialize, ToSchema)]
pub(in crate::web::api) struct Users {
    domain: String,
    /// By name.
    users: Vec<User>,
}

/// A user.
#[derive(Serialize, ToSchema)]
struct User {
    #[serde(flatten)]
    row: UserRow,
    /// How many phones are registered here now.
    phones: usize,
}

/// All users.
#[utoipa::path(get, path = "/admin/users", tag = "admin", responses(
    (status = 200, body = Users), (status = 401, body = Failure), (status = 403, body = Failure),
))]
pub(in crate::web::api) async fn list(_: Administrator, State(site): State<Arc<Site>>) -> Json<Users> {
    let now_ms = unix_ms();
    let exchange = &site.exchange;
    let users = site.control.users().into_iter().map(|row| {
        let phones = exchange.registrations.bindings(now_ms, &exchange.address_of(&row.user)).len();
        User { row, phones }
    });
    Json(Users { domain: site.domain.clone(), users: users.collect() })
}

/// Adds a user; the password is shown this once.
#[utoipa::path(post, path = "/admin/users", tag = "admin", request_body = NewUser, responses(
    (status = 201, body = UserCredentials), (status = 400, body = Failure), (status = 401, body = Failure),
    (status = 403, body = Failure), (status = 409, body = Failure),
))]
pub(in crate::web::api) async fn add(
    _: Administrator,
    State(site): State<Arc<Site>>,
    SentBytes(body): SentBytes,
) -> Result<Response, Failure> {
    Ok(routes::add_user(State(site.control.clone()), body).await?)
}

/// Changes a user.
#[utoipa::path(patch, path = "/admin/users/{name}", tag = "admin", params(("name" = String, Path)), request_body = UserChanges, responses(
    (status = 200, body = UserRow), (status = 400, body = Failure), (status = 401, body = Failure),
    (status = 403, body = Failure), (status = 404, body = Failure), (status = 409, body = Failure),
))]
pub(in crate::web::api) async fn change(
    _: Administrator,
    State(site): State<Arc<Site>>,
    Named(name): Named,
    SentBytes(body): SentBytes,
) -> Result<Response, Failure> {
    Ok(routes::change_user(State(site.control.clone()), Path(name), body).await?)
}

/// Removes a user.
#[utoipa::path(delete, path = "/admin/users/{name}", tag = "admin", params(("name" = String, Path)), responses(
    (status = 204), (status = 401, body = Failure), (status = 403, body = Failure), (status = 404, body = Failure),
))]
pub(in crate::web::api) async fn remove(
    _: Administrator,
    State(site): State<Arc<Site>>,
    Named(name): Named,
) -> Result<Response, Failure> {
    Ok(routes::remove_user(State(site.control.clone()), Path(name)).await?)
}

/// Gives a user another password, which is shown this once; sessions and phones with the old one are refused from now on.
#[utoipa::path(post, path = "/admin/users/{name}/password", tag = "admin", params(("name" = String, Path)), responses(
    (status = 200, body = UserCredentials), (status = 401, body = Failure), (status = 403, body = Failure), (status = 404, body = Failure),
))]
pub(in crate::web::api) async fn change_password(
    _: Administrator,
    State(site): State<Arc<Site>>,
    Named(name): Named,
) -> Result<Response, Failure> {
    Ok(routes::change_password(State(site.control.clone()), Path(name)).await?)
}
