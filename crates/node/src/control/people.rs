//! Requests about people with addresses of their own: their keys here, and which nodes may speak for them.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use meshtone_identity::NodeId;

use super::Control;
use super::api::{Card, Delegation, Enrolment, KeyList, KeyRow, Mailed, NewKey, Passphrase};
use super::nodes::node_id;
use super::routes::{Failed, blocking, credentials, parse};
use crate::authority::holder::Holder;
use crate::authority::{AskError, Asked};
use crate::member::{EnrolmentError, MemberError, PersonStatus};

pub(super) async fn list(State(control): State<Control>) -> Response {
    let keys = control.members.people().into_iter().map(KeyRow::of).collect();
    Json(KeyList { node: control.node.to_string(), keys }).into_response()
}

/// Makes a key for an address, and asks the authority to mail a code there.
pub(super) async fn enroll(State(control): State<Control>, body: Bytes) -> Result<Response, Failed> {
    control.check_serves_phones()?;
    let Enrolment { address, code, foreign } = parse(&body)?;
    if let Some(code) = code {
        return prove(&control, &address, &code).await;
    }
    if let Some(foreign) = foreign {
        // Before a key is made for nothing.
        let holder = Holder::read(&foreign.certificate, &foreign.key)?;
        let added = control.enrolments.show(&address, &holder).await?;
        return Ok((StatusCode::CREATED, Json(credentials(&control, added))).into_response());
    }
    let asked = control.enrolments.ask(&address).await?;
    let only_if_enrolled = asked == Asked::MailedIfEnrolled;
    Ok((StatusCode::ACCEPTED, Json(Mailed { address, only_if_enrolled })).into_response())
}

/// Shows the code that came by mail; what it gets makes this node speak for the address.
async fn prove(control: &Control, address: &str, code: &str) -> Result<Response, Failed> {
    let added = control.enrolments.prove(address, code).await?;
    Ok((StatusCode::CREATED, Json(credentials(control, added))).into_response())
}

pub(super) async fn delegate(
    State(control): State<Control>,
    Path(address): Path<String>,
    body: Bytes,
) -> Result<Response, Failed> {
    let Delegation { node, may } = parse(&body)?;
    let node = node_id(&node)?;
    control.members.delegate(&address, node, may).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn export(
    State(control): State<Control>,
    Path(address): Path<String>,
    body: Bytes,
) -> Result<Response, Failed> {
    let Passphrase { passphrase } = parse(&body)?;
    let members = control.members.clone();
    let card = blocking(move || members.export(&address, &passphrase)).await??;
    Ok(Json(Card { card }).into_response())
}

pub(super) async fn import(State(control): State<Control>, body: Bytes) -> Result<Response, Failed> {
    let NewKey { card, passphrase } = parse(&body)?;
    let members = control.members.clone();
    let (certificate, key) = blocking(move || members.open_card(&card, &passphrase)).await??;
    let address = certificate.address().to_owned();
    control.members.import(certificate, &key).await?;
    let added = control.enrolments.account(address).await?;
    Ok((StatusCode::CREATED, Json(credentials(&control, added))).into_response())
}

impl KeyRow {
    fn of(person: PersonStatus) -> KeyRow {
        let PersonStatus { address, certified_until, nodes, superseded } = person;
        KeyRow { address, certified_until, nodes: nodes.iter().map(NodeId::to_string).collect(), superseded }
    }
}

impl From<EnrolmentError> for Failed {
    fn from(error: EnrolmentError) -> Failed {
        match error {
            EnrolmentError::Ask(error) => error.into(),
            EnrolmentError::Member(error) => error.into(),
            EnrolmentError::Account(error) => error.into(),
            EnrolmentError::Failed => {
                Failed { status: StatusCode::INTERNAL_SERVER_ERROR, hint: error.hint(), error: error.to_string() }
            }
        }
    }
}

impl From<AskError> for Failed {
    fn from(error: AskError) -> Failed {
        let status = match &error {
            AskError::Request(_) | AskError::Foreign(_) => StatusCode::BAD_REQUEST,
            AskError::Refused(_) => StatusCode::FORBIDDEN,
            AskError::Overlay { .. } | AskError::NoAuthority { .. } | AskError::Unreachable { .. } => {
                StatusCode::GATEWAY_TIMEOUT
            }
            AskError::Misbehaved { .. } | AskError::WrongCertificate { .. } => StatusCode::BAD_GATEWAY,
        };
        Failed { status, hint: error.hint(), error: error.to_string() }
    }
}

impl From<MemberError> for Failed {
    fn from(error: MemberError) -> Failed {
        let status = match &error {
            MemberError::Identity(_) => StatusCode::BAD_REQUEST,
            MemberError::NoKey(_) | MemberError::NotBegun(_) => StatusCode::NOT_FOUND,
            MemberError::NotCertified(_) | MemberError::Superseded(_) => StatusCode::CONFLICT,
            MemberError::NotSaid(_) => StatusCode::GATEWAY_TIMEOUT,
            MemberError::Store(_) | MemberError::Randomness(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failed { status, hint: error.hint(), error: error.to_string() }
    }
}
