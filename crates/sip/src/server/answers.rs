//! What the node answers: responses of its own.

use std::time::Instant;

use super::Server;
use crate::message::{Builder, Header, Message};
use crate::transaction::TransactionId;

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
            builder.put_to_tag(self.tokens.tag_for(request).as_str());
        }
        if !self.config.server_name.is_empty() {
            builder.put(Header::Server, &self.config.server_name);
        }
        for (header, value) in extra {
            builder.put(*header, value);
        }
        builder.finish()
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
        self.layer.respond_to(now, id, request, response);
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
    pub(super) fn answer(&mut self, now: Instant, id: TransactionId, mut response: Message) {
        let Some(open) = self.requests.get(&id) else { return };
        if open.context.is_answered() {
            return;
        }
        let dialog = open.dialog;
        self.complete(id, &mut response);
        let status = response.status();
        let mut actions = std::mem::take(&mut self.spare_actions);
        if let Some(open) = self.requests.get_mut(&id) {
            open.is_trying = true;
            if status >= 200 {
                open.context.handle_own_answer(now, status, &mut actions);
            }
        }
        if let Some(dialog) = dialog.filter(|_| status >= 200) {
            self.tell_agent_of_answer(now, dialog, id, &response);
        }
        if let Some(open) = self.requests.get(&id) {
            self.layer.respond_to(now, id, &open.request, response);
        }
        self.carry_out(now, id, actions);
    }

    /// Adds what a response of the node's own still lacks: a To tag, and within a dialog Contact and Allow.
    fn complete(&self, id: TransactionId, response: &mut Message) {
        let Some(open) = self.requests.get(&id) else { return };
        if response.status() > 100 && response.to().is_ok_and(|to| to.tag().is_none()) {
            *response = response.with_to_tag(self.tokens.tag_for(&open.request).as_str());
        }
        if let Some(completed) = open.dialog.and_then(|dialog| self.agent.complete(dialog, id, response)) {
            *response = completed;
        }
    }
}
