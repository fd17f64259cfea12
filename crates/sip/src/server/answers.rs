//! What the node answers: responses of its own, and forwarding.

use std::time::Instant;

use super::Server;
use crate::message::{Builder, Header, Message, Method};
use crate::proxy::{Target, branch, outgoing};
use crate::transaction::{Owner, TransactionId};

/// Most branches of one request. An address has at most ten contacts at each of a few nodes.
const BRANCHES_MAX: usize = 64;

impl Server {
    /// A response of our own to a request, with a To tag and our name.
    pub(super) fn make_response(
        &self,
        request: &Message,
        status: u16,
        reason: &str,
        extra: &[(Header, String)],
    ) -> Message {
        let mut builder = Builder::response(request, status, reason);
        if status > 100 {
            builder = builder.to_tag(&self.to_tag(request));
        }
        if !self.config.server_name.is_empty() {
            builder = builder.header(Header::Server, &self.config.server_name);
        }
        for (header, value) in extra {
            builder = builder.header(*header, value);
        }
        builder.finish()
    }

    /// The To tag of every response of ours to this request, to its retransmissions, and to its CANCEL.
    pub(super) fn to_tag(&self, request: &Message) -> String {
        let from_tag = request.from().ok().and_then(|from| from.tag()).unwrap_or_default();
        let number = request.cseq().map_or(0, |cseq| cseq.number).to_string();
        self.tokens.to_tag(&[request.call_id(), from_tag, &number])
    }

    /// Answers a request that the node never sees.
    pub(super) fn answer_at_once(
        &mut self,
        now: Instant,
        id: TransactionId,
        request: &Message,
        status: u16,
        extra: &[(Header, String)],
    ) {
        let response = self.make_response(request, status, "", extra);
        self.layer.respond(now, id, response);
    }

    /// Sends 100, unless there was a response before.
    pub(super) fn send_trying(&mut self, now: Instant, id: TransactionId) {
        let Some(open) = self.requests.get_mut(&id) else { return };
        if open.is_trying || open.context.is_answered() {
            return;
        }
        open.is_trying = true;
        let trying = Builder::response(&open.request, 100, "").finish();
        self.layer.respond(now, id, trying);
    }

    /// Sends a response of the node's own.
    pub(super) fn answer(&mut self, now: Instant, id: TransactionId, response: Message) {
        let Some(open) = self.requests.get(&id) else { return };
        if open.context.is_answered() {
            return;
        }
        let dialog = open.dialog;
        let response = self.complete(id, response);
        let status = response.status();
        let mut actions = Vec::new();
        if let Some(open) = self.requests.get_mut(&id) {
            open.is_trying = true;
            if status >= 200 {
                open.context.handle_own_answer(now, status, &mut actions);
            }
        }
        if let Some(dialog) = dialog.filter(|_| status >= 200) {
            self.agent.handle_reinvite_answer(now, dialog, id, &response);
        }
        self.layer.respond(now, id, response);
        self.carry_out(now, id, actions);
    }

    /// Adds what a response of the node's own still lacks: a To tag, and within a dialog Contact and Allow.
    fn complete(&mut self, id: TransactionId, response: Message) -> Message {
        let lacks_tag = response.status() > 100 && response.to().is_ok_and(|to| to.tag().is_none());
        let dialog = self.requests.get(&id).and_then(|open| open.dialog);
        let contact = dialog
            .filter(|_| (200..300).contains(&response.status()) && response.header(Header::Contact).is_none())
            .and_then(|dialog| self.agent.dialog(dialog))
            .map(|dialog| dialog.contact.clone());
        if !lacks_tag && contact.is_none() {
            return response;
        }
        let mut editor = response.edit();
        if lacks_tag && let Some(open) = self.requests.get(&id) {
            let to = response.header(Header::To).unwrap_or_default();
            editor.set(Header::To, &format!("{to};tag={}", self.to_tag(&open.request)));
        }
        if let Some(contact) = contact {
            editor.set(Header::Contact, &contact);
            if response.header(Header::Allow).is_none() {
                editor.set(Header::Allow, crate::agent::ALLOW);
            }
        }
        editor.finish()
    }

    pub(super) fn forward_to(&mut self, now: Instant, id: TransactionId, targets: &[Target], more: bool) {
        let Some(open) = self.requests.get(&id) else { return };
        if open.context.is_answered() {
            return;
        }
        let Some(hops) = outgoing::next_max_forwards(&open.request) else {
            let refusal = self.make_response(&open.request, 483, "", &[]);
            self.answer(now, id, refusal);
            return;
        };
        if open.request.header(Header::ProxyRequire).is_some() {
            // We know no extension that a proxy must support (RFC 3261 §16.3 item 5).
            let wanted: Vec<&str> = open.request.values(Header::ProxyRequire).collect();
            let refusal = self.make_response(&open.request, 420, "", &[(Header::Unsupported, wanted.join(", "))]);
            self.answer(now, id, refusal);
            return;
        }
        // Peers wait but 2 s for any sign of life, so they get 100 for other requests than INVITE too, which RFC 4320
        // §4.1 allows over a reliable transport.
        let is_from_peer = open.flow.transport() == crate::transport::Transport::Peer;
        if is_from_peer || open.request.method() == Method::Invite {
            self.send_trying(now, id);
        }
        let mut actions = Vec::new();
        for target in targets {
            self.add_branch(now, id, target, hops);
        }
        if let Some(open) = self.requests.get_mut(&id) {
            open.is_forwarded = true;
            open.context.set_more(more, &mut actions);
        }
        self.carry_out(now, id, actions);
    }

    fn add_branch(&mut self, now: Instant, id: TransactionId, target: &Target, hops: u8) {
        let Some(open) = self.requests.get_mut(&id) else { return };
        if !open.context.takes_branches() || open.context.branch_count() >= BRANCHES_MAX {
            return;
        }
        let branch = branch::fresh(open.loop_hash, self.randomness.as_mut());
        let locals = self.locals.as_ref();
        let copy = outgoing::copy_for(&open.request, &open.flow, target, &branch, hops, locals, &self.tokens);
        let owner = Owner::Branch { request: id, index: open.context.branch_count() };
        match self.layer.send_request(now, target.destination.clone(), copy, owner) {
            Some(client) => open.context.add_branch(now, client, target.answer_within),
            None => open.context.add_failure(500),
        }
    }
}
