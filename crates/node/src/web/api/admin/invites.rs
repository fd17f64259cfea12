//! Tickets for other machines: what `meshtone invite` does, with a QR code, a list, and a way to take them back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::{NewInvite, routes};
use crate::enrol::Open;
use crate::web::Site;
use crate::web::api::Failure;
use crate::web::api::asker::{Administrator, Named, Sent};

/// Pixels of a QR code's side at least; it grows without loss.
const QR_SIDE: u32 = 240;

/// A ticket that is shown this once. Whoever has it can join once.
#[derive(Serialize, ToSchema)]
pub(in crate::web::api) struct Invited {
    /// By which it is taken back; empty of one that is open to whoever comes.
    id: String,
    ticket: String,
    role: String,
    domain: String,
    overlay: String,
    /// Its end, in unix seconds.
    expires: u64,
    /// What to type on the new machine.
    command: String,
    /// The ticket as a QR code, an SVG picture.
    qr: String,
}

/// A ticket in the list.
#[derive(Serialize, ToSchema)]
pub(in crate::web::api) struct InviteRow {
    id: String,
    role: String,
    /// Its end, in unix seconds.
    expires: u64,
    /// Whose the machine will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<String>,
    /// Whether a machine has joined with it.
    used: bool,
}

/// The tickets that have not ended.
#[utoipa::path(get, path = "/admin/invites", tag = "admin", responses(
    (status = 200, body = [InviteRow]), (status = 401, body = Failure), (status = 403, body = Failure),
))]
pub(in crate::web::api) async fn list(_: Administrator, State(site): State<Arc<Site>>) -> Json<Vec<InviteRow>> {
    let row = |Open { id, role, expires, person, used }: Open| {
        let person = Some(person).filter(|person| !person.is_empty());
        InviteRow { id, role: role.name().to_owned(), expires, person, used }
    };
    Json(site.control.open_invites().into_iter().map(row).collect())
}

/// Makes a ticket.
#[utoipa::path(post, path = "/admin/invites", tag = "admin", request_body = NewInvite, responses(
    (status = 201, body = Invited), (status = 400, body = Failure), (status = 401, body = Failure), (status = 403, body = Failure),
    (status = 409, body = Failure, description = "This node has no authority, or nobody may join so"),
    (status = 429, body = Failure),
))]
pub(in crate::web::api) async fn make(
    _: Administrator,
    State(site): State<Arc<Site>>,
    Sent(wanted): Sent<NewInvite>,
) -> Result<(StatusCode, Json<Invited>), Failure> {
    let (id, invite) = routes::make_invite(&site.control, wanted).await?;
    let command = format!("meshtone run --join {}", invite.ticket);
    let qr = picture(&invite.ticket).ok_or_else(|| {
        let hint = "make one with `meshtone invite`";
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "this ticket is too long for a QR code", hint)
    })?;
    let (ticket, role, domain) = (invite.ticket, invite.role, invite.domain);
    let invited = Invited { id, ticket, role, domain, overlay: invite.overlay, expires: invite.expires, command, qr };
    Ok((StatusCode::CREATED, Json(invited)))
}

/// Takes a ticket back: nobody joins with it any more. Who has joined stays.
#[utoipa::path(delete, path = "/admin/invites/{id}", tag = "admin", params(("id" = String, Path)), responses(
    (status = 204), (status = 401, body = Failure), (status = 403, body = Failure), (status = 404, body = Failure),
))]
pub(in crate::web::api) async fn remove(
    _: Administrator,
    State(site): State<Arc<Site>>,
    Named(id): Named,
) -> Result<StatusCode, Failure> {
    if site.control.withdraw_invite(&id) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Failure::not_found("there is no such ticket: it was taken back, or has ended"))
    }
}

/// A QR code, black on white whatever the page's colours are: some readers want it so. It is drawn by attributes alone, which the page's
/// policy allows.
fn picture(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let drawn = code.render::<svg::Color<'_>>().min_dimensions(QR_SIDE, QR_SIDE).quiet_zone(true).build();
    // What stands before the picture is for files.
    let start = drawn.find("<svg")?;
    drawn.get(start..).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_ticket_is_drawn_without_anything_that_a_strict_page_refuses() {
        let drawn = picture(&"m1".repeat(200)).unwrap();
        assert!(drawn.starts_with("<svg") && drawn.ends_with("</svg>"));
        assert!(!drawn.contains("style=") && !drawn.contains("<script") && !drawn.contains("href"), "{drawn}");
        assert_eq!(picture(&"x".repeat(5000)), None);
    }
}
