//! Our own agent: calls that end at this node.

use std::time::Instant;

use super::{Event, Server};
use crate::agent::{ALLOW, Action, Dialog, DialogId};
use crate::message::{Builder, Header, Message, Method};
use crate::proxy::branch;
use crate::transaction::{Owner, TransactionId};
use crate::transport::Destination;

/// Why an INVITE cannot be accepted.
struct Refusal {
    status: u16,
    extra: Vec<(Header, String)>,
}

impl Server {
    pub(super) fn accept_call(
        &mut self,
        now: Instant,
        id: TransactionId,
        contact: &str,
        body: (&str, &[u8]),
    ) -> DialogId {
        let dialog_id = self.agent.fresh_id();
        match self.make_dialog(id, contact) {
            Ok(dialog) => {
                let Some(open) = self.requests.get(&id) else { return dialog_id };
                let response = self.make_acceptance(&open.request, &dialog, body);
                self.agent.begin(now, dialog_id, dialog, id, response.clone());
                self.answer(now, id, response);
            }
            Err(refusal) => {
                if let Some(open) = self.requests.get(&id) {
                    let response = self.make_response(&open.request, refusal.status, "", &refusal.extra);
                    self.answer(now, id, response);
                }
                self.events.push_back(Event::DialogEnded { dialog: dialog_id });
            }
        }
        dialog_id
    }

    fn make_dialog(&self, id: TransactionId, contact: &str) -> Result<Dialog, Refusal> {
        let plain = |status| Refusal { status, extra: Vec::new() };
        let open = self.requests.get(&id).filter(|open| !open.context.is_answered()).ok_or(plain(481))?;
        let request = &open.request;
        if request.method() != Method::Invite {
            return Err(Refusal { status: 405, extra: vec![(Header::Allow, ALLOW.to_owned())] });
        }
        let required: Vec<&str> = request.values(Header::Require).collect();
        if !required.is_empty() {
            return Err(Refusal { status: 420, extra: vec![(Header::Unsupported, required.join(", "))] });
        }
        if request.to().is_ok_and(|to| to.tag().is_some()) {
            return Err(plain(481));
        }
        let tag = self.to_tag(request);
        if self.agent.is_merged(&tag, request) {
            return Err(plain(482));
        }
        if !self.agent.has_room() {
            return Err(plain(486));
        }
        Dialog::new(request, open.flow.clone(), tag, format!("<{contact}>")).map_err(|error| plain(error.status()))
    }

    fn make_acceptance(&self, request: &Message, dialog: &Dialog, body: (&str, &[u8])) -> Message {
        let mut builder = Builder::response(request, 200, "").to_tag(&dialog.local_tag);
        for route in request.fields(Header::RecordRoute) {
            builder = builder.header(Header::RecordRoute, route);
        }
        if !self.config.server_name.is_empty() {
            builder = builder.header(Header::Server, &self.config.server_name);
        }
        let (content_type, content) = body;
        builder
            .header(Header::Contact, &dialog.contact)
            .header(Header::Allow, ALLOW)
            .body(content_type, content)
            .finish()
    }

    pub(super) fn carry_out_for_agent(&mut self, now: Instant, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Repeat(server, response) => {
                    self.layer.respond(now, server, response);
                }
                Action::Acknowledged(dialog, ack) => self.events.push_back(Event::Acknowledged { dialog, ack }),
                Action::HangUp(dialog) => self.send_bye(now, dialog),
            }
        }
    }

    /// Sends BYE along the route set, whose first hop is where the other side's requests come from, and ends the dialog.
    pub(super) fn send_bye(&mut self, now: Instant, id: DialogId) {
        let Some(dialog) = self.agent.dialog(id) else { return };
        let destination = Destination::Flow(dialog.flow.clone());
        let branch = branch::fresh(0, self.randomness.as_mut());
        let transport = destination.transport().via_token();
        let via = format!("SIP/2.0/{transport} {};branch={branch}", self.locals.sent_by(&destination));
        let bye = dialog.request("BYE", &via);
        self.layer.send_request(now, destination, bye, Owner::Nobody);
        let open = self.agent.end(id);
        self.dialog_is_over(now, id, open);
    }

    /// Tells the node that a dialog is over; an INVITE still open within it ends with 487 (RFC 3261 §15.1.2).
    pub(super) fn dialog_is_over(&mut self, now: Instant, dialog: DialogId, open: Option<TransactionId>) {
        if let Some(id) = open
            && let Some(request) = self.requests.get(&id)
        {
            let response = self.make_response(&request.request, 487, "", &[]);
            self.answer(now, id, response);
        }
        self.events.push_back(Event::DialogEnded { dialog });
    }

    /// Takes a response to a request of our own agent.
    pub(super) fn handle_agent_response(&mut self, now: Instant, id: TransactionId, response: &Message) {
        let _ = (now, id, response);
    }

    /// Takes the news that a request of our own agent met with silence (408) or could not be sent (503).
    pub(super) fn handle_agent_failure(&mut self, now: Instant, id: TransactionId, status: u16) {
        let _ = (now, id, status);
    }
}
