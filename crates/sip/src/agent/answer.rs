//! What our responses say, and what of a request they refuse.

use super::called::{Asked, Refusal};
use super::session_timer::{Agreed, Refresher, SessionTimer};
use super::{Acceptance, Agent, Body, DialogId, SUPPORTED, Stack, allow};
use crate::message::{Builder, Header, Message, Method};
use crate::transaction::TransactionId;

impl Agent {
    /// What a 2xx of the node's own within a dialog still lacks: Contact, Allow, the session timer.
    pub(crate) fn complete(&self, id: DialogId, server: TransactionId, response: &Message) -> Option<Message> {
        let session = self.sessions.get(&id)?;
        let status = response.status();
        let refreshes =
            matches!(response.method(), Method::Invite | Method::Update | Method::Subscribe | Method::Refer);
        if !(200..300).contains(&status) || !refreshes || response.header(Header::Contact).is_some() {
            return None;
        }
        let mut editor = response.edit();
        editor.set(Header::Contact, &session.dialog.contact);
        if response.header(Header::Allow).is_none() {
            editor.set(Header::Allow, &allow(&session.handles));
        }
        let agreed = session.incoming.as_ref().filter(|incoming| incoming.server == server);
        for (header, value) in timer_fields(agreed.and_then(|incoming| incoming.agreed)) {
            editor.set(header, &value);
        }
        Some(editor.finish())
    }
}

/// Refuses what asks for an extension that we do not know (RFC 3261 §8.2.2.3).
pub(super) fn check_required(request: &Message) -> Result<(), Refusal> {
    let is_known = |wanted: &&str| !SUPPORTED.split(", ").any(|known| known.eq_ignore_ascii_case(wanted.trim()));
    let unknown: Vec<&str> = request.values(Header::Require).filter(is_known).collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(Refusal { status: 420, extra: vec![(Header::Unsupported, unknown.join(", "))] })
    }
}

/// The fields of a 2xx that say what was agreed on session timers (RFC 4028 §9).
pub(super) fn timer_fields(agreed: Option<Agreed>) -> Vec<(Header, String)> {
    let Some(agreed) = agreed else { return Vec::new() };
    let mut fields = vec![(Header::SessionExpires, agreed.value())];
    if agreed.refresher == Refresher::Uac {
        fields.push((Header::Require, "timer".to_owned()));
    }
    fields
}

/// The timer of a session whose request we answered.
pub(super) fn start(stack: &Stack<'_>, agreed: Option<Agreed>) -> Option<SessionTimer> {
    agreed.map(|agreed| SessionTimer::start(stack.now, agreed, agreed.refresher == Refresher::Uas))
}

/// What a message of ours describes.
pub(super) fn description_of(message: &Message) -> Option<Body> {
    Some(Body::new(message.header(Header::ContentType)?, message.body()))
}

/// A response to an INVITE of ours to answer.
pub(super) fn write_response(
    stack: &Stack<'_>,
    asked: &Asked<'_>,
    status: u16,
    answer: &Acceptance,
    contact: &str,
    headers: &[(Header, String)],
    body: Option<&Body>,
) -> Message {
    let mut builder = Builder::response(asked.request, status, "").to_tag(asked.tag);
    for route in asked.request.fields(Header::RecordRoute) {
        builder = builder.header(Header::RecordRoute, route);
    }
    if !stack.user_agent.is_empty() {
        builder = builder.header(Header::Server, stack.user_agent);
    }
    builder = builder.header(Header::Contact, contact).header(Header::Allow, &allow(&answer.handles));
    for (header, value) in headers.iter().chain(&answer.headers) {
        builder = builder.header(*header, value);
    }
    match body {
        Some(body) => builder.body(&body.content_type, &body.content).finish(),
        None => builder.finish(),
    }
}
