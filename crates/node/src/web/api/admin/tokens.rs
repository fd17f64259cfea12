//! Tokens for programs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::unix_ms;
use crate::login::tokens::{MAX_NAME_LEN, MAX_TOKENS, Scope, Token, TooMany};
use crate::text::is_harmless;
use crate::web::Site;
use crate::web::api::Failure;
use crate::web::api::asker::{Administrator, Named, Sent};

/// A token in the list.
#[derive(Serialize, ToSchema)]
pub(in crate::web::api) struct TokenRow {
    id: String,
    name: String,
    scopes: Vec<Scope>,
    /// In unix seconds.
    created: u64,
    /// In unix seconds, to within ten minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<u64>,
    /// Its text, shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web::api) struct NewToken {
    /// What it is for: 1 to 64 characters.
    name: String,
    /// What it is good for.
    scopes: Vec<Scope>,
}

/// All tokens, the oldest first.
#[utoipa::path(get, path = "/admin/tokens", tag = "admin", responses(
    (status = 200, body = [TokenRow]), (status = 401, body = Failure), (status = 403, body = Failure),
))]
pub(in crate::web::api) async fn list(_: Administrator, State(site): State<Arc<Site>>) -> Json<Vec<TokenRow>> {
    Json(site.tokens.all().into_iter().map(|token| row(token, None)).collect())
}

/// Makes a token.
#[utoipa::path(post, path = "/admin/tokens", tag = "admin", request_body = NewToken, responses(
    (status = 201, body = TokenRow), (status = 400, body = Failure), (status = 401, body = Failure),
    (status = 403, body = Failure), (status = 413, body = Failure, description = "`full`"),
))]
pub(in crate::web::api) async fn make(
    _: Administrator,
    State(site): State<Arc<Site>>,
    Sent(NewToken { name, mut scopes }): Sent<NewToken>,
) -> Result<(StatusCode, Json<TokenRow>), Failure> {
    let name = name.trim();
    if name.is_empty() || name.len() > MAX_NAME_LEN || !is_harmless(name) {
        return Err(Failure::bad_request("a token has a name of 1 to 64 characters, which says what it is for"));
    }
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(Failure::bad_request("a token has at least one scope: metrics, read or admin"));
    }
    let made = site.tokens.make(unix_ms(), name, scopes);
    let (text, token) = made.map_err(|TooMany| Failure::full(format!("there are {MAX_TOKENS} tokens already")))?;
    Ok((StatusCode::CREATED, Json(row(token, Some(text)))))
}

/// Takes a token back.
#[utoipa::path(delete, path = "/admin/tokens/{id}", tag = "admin", params(("id" = String, Path)), responses(
    (status = 204), (status = 401, body = Failure), (status = 403, body = Failure), (status = 404, body = Failure),
))]
pub(in crate::web::api) async fn remove(
    _: Administrator,
    State(site): State<Arc<Site>>,
    Named(id): Named,
) -> Result<StatusCode, Failure> {
    if site.tokens.remove(&id) { Ok(StatusCode::NO_CONTENT) } else { Err(Failure::not_found("there is no such token")) }
}

fn row(token: Token, text: Option<String>) -> TokenRow {
    TokenRow {
        id: token.id,
        name: token.name,
        scopes: token.scopes,
        created: token.created_ms / 1000,
        last_used: token.used_ms.map(|used_ms| used_ms / 1000),
        token: text,
    }
}
