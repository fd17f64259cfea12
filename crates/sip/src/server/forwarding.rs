//! Forwarding: the copies of a request that go to its targets (RFC 3261 §16.3, §16.6).

use std::time::Instant;

use super::Server;
use crate::agent::ALLOW;
use crate::message::{Header, Method};
use crate::proxy::context::Action;
use crate::proxy::outgoing::Leg;
use crate::proxy::plan::Planned;
use crate::proxy::session_timer::{self, Judged};
use crate::proxy::{Target, branch, history, outgoing};
use crate::transaction::{Owner, TransactionId};
use crate::transport::Transport;

/// Largest request sent in a datagram where a connection will do: it must fit through every path unbroken
/// (RFC 3261 §18.1.1).
const DATAGRAM_MAX: usize = 1300;

impl Server {
    pub(super) fn forward_to(&mut self, now: Instant, id: TransactionId, targets: Vec<Target>, more: bool) {
        let Some(open) = self.requests.get(&id) else { return };
        if open.context.is_answered() {
            return;
        }
        if !open.is_forwarded && !self.may_forward(now, id) {
            return;
        }
        let Some(open) = self.requests.get_mut(&id) else { return };
        open.is_forwarded = true;
        // Peers wait but 2 s for any sign of life, so they get 100 for other requests than INVITE too, which RFC 4320
        // §4.1 allows over a reliable transport.
        let is_from_peer = open.flow.transport() == Transport::Peer;
        if is_from_peer || open.request.method() == Method::Invite {
            self.send_trying(now, id);
        }
        let mut actions = std::mem::take(&mut self.spare_actions);
        if let Some(open) = self.requests.get_mut(&id) {
            open.context.offer(targets, more, &mut actions);
        }
        self.carry_out(now, id, actions);
    }

    pub(super) fn follow_to(&mut self, now: Instant, id: TransactionId, branch: usize, targets: Vec<Target>) {
        let mut actions = std::mem::take(&mut self.spare_actions);
        if let Some(open) = self.requests.get_mut(&id) {
            open.context.follow(branch, targets, &mut actions);
        }
        self.carry_out(now, id, actions);
    }

    pub(super) fn pass_redirection_on(&mut self, now: Instant, id: TransactionId, branch: usize) {
        let mut actions = std::mem::take(&mut self.spare_actions);
        if let Some(open) = self.requests.get_mut(&id) {
            open.context.pass_on(branch, &mut actions);
        }
        self.carry_out(now, id, actions);
    }

    /// Whether a request may be forwarded at all (RFC 3261 §16.3); it is answered when not.
    fn may_forward(&mut self, now: Instant, id: TransactionId) -> bool {
        let Some(open) = self.requests.get_mut(&id) else { return false };
        let request = &open.request;
        let refusal: (u16, Vec<(Header, String)>) = if outgoing::next_max_forwards(request).is_none() {
            // OPTIONS counts the hops on its way, and this is the last: answered as if it were for us (§11).
            let counts_hops = request.method() == Method::Options;
            if counts_hops { (200, vec![(Header::Allow, ALLOW.to_owned())]) } else { (483, Vec::new()) }
        } else if request.header(Header::ProxyRequire).is_some() {
            // We know no extension that a proxy must support (§16.3 item 5).
            let wanted: Vec<&str> = request.values(Header::ProxyRequire).collect();
            (420, vec![(Header::Unsupported, wanted.join(", "))])
        } else {
            match session_timer::judge(request, &self.config.forwarding.session_timers) {
                Judged::TooSmall(least_s) => (422, vec![(Header::MinSe, least_s.to_string())]),
                judged @ (Judged::Changed(_) | Judged::Unchanged) => {
                    if let Judged::Changed(request) = judged {
                        open.request = request;
                    }
                    open.session_timer = session_timer::asked(&open.request);
                    if let Some(breadth) = open.request.header(Header::MaxBreadth) {
                        // One that cannot be read is no leave to fork.
                        open.context.limit_breadth(breadth.parse().unwrap_or(1));
                    }
                    return true;
                }
            }
        };
        let (status, extra) = refusal;
        if let Some(open) = self.requests.get(&id) {
            let response = self.make_response(&open.request, status, "", &extra);
            self.answer(now, id, response);
        }
        false
    }

    /// Sends the copy for one target.
    pub(super) fn start_branch(
        &mut self,
        now: Instant,
        id: TransactionId,
        mut planned: Box<Planned>,
        actions: &mut Vec<Action>,
    ) {
        let Some(open) = self.requests.get_mut(&id) else { return };
        // What has no hop left is never forwarded (`may_forward`).
        let max_forwards = outgoing::next_max_forwards(&open.request).unwrap_or_default();
        let hash = branch::loop_hash(&open.request, self.locals.as_ref());
        let branch = branch::fresh(hash, self.randomness.as_mut());
        let history = history::entries(&open.request, &planned.target.uri, planned.number, planned.former.as_ref());
        let leg = Leg {
            upstream: &open.flow,
            branch: branch.as_str(),
            max_forwards,
            max_breadth: Some(planned.breadth),
            history: &history,
        };
        let locals = self.locals.as_ref();
        let mut copy = outgoing::copy_for(&open.request, &planned.target, &leg, locals, &self.tokens);
        if copy.bytes().len() > DATAGRAM_MAX && planned.prefer_connection() {
            copy = outgoing::copy_for(&open.request, &planned.target, &leg, locals, &self.tokens);
        }
        let owner = Owner::Branch { request: id, index: open.context.branch_count() };
        match self.layer.send_request(now, planned.target.destination.clone(), copy, owner) {
            Some(client) => open.context.add_branch(now, client, planned),
            None => open.context.handle_unsent(500, actions),
        }
    }
}
