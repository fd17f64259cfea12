//! From the far side's first ringing to the near side's ACK.

use std::time::Instant;

use meshtone_sip::agent::{Body, DialogId, Reliability};
use meshtone_sip::message::{Header, Message};
use meshtone_sip::server::Server;

use super::description::{Role, Uncarried, passed};
use super::{BridgeEvent, BridgeId, Bridges, Side, description, lists};

impl Bridges {
    /// The far side rings, or lets its network be heard: so does the near side. Several early dialogs of a fork are one to it.
    pub(super) fn on_progress(
        &mut self,
        server: &mut Server,
        now: Instant,
        (call, dialog): (DialogId, DialogId),
        status: u16,
        response: &Message,
    ) {
        let Some((id, _)) = self.of_dialog(call) else { return };
        self.attach(id, dialog, Side::Far);
        let Some(bridge) = self.bridges.get_mut(&id) else { return };
        let Some(open) = bridge.open else { return };
        bridge.rang = true;
        bridge.far.learn(response);
        let described = description::of(response);
        let is_reliable = lists(response, Header::Require);
        let mut answer = bridge.answer.clone();
        let role = if bridge.near.said.is_some() { Role::Answer } else { Role::Offer };
        let told = described.as_ref().map(|body| passed(bridge.media.as_mut(), Side::Far, role, body));
        // What cannot be carried is told when the call is answered so.
        answer.body = told.and_then(Result::ok);
        if let Some(described) = described.filter(|_| answer.body.is_some()) {
            bridge.early.insert(dialog, described);
            bridge.near.told.clone_from(&answer.body);
            if bridge.near.said.is_none() && is_reliable {
                bridge.offering = Some(dialog);
            }
        }
        // Each side has its own way; but what must not be lost on one must not be lost on the other.
        let wish = if is_reliable { Reliability::Supported } else { Reliability::Off };
        let near = server.ring(now, open, status, &answer, wish);
        bridge.near.dialog = Some(near);
        self.attach(id, near, Side::Near);
    }

    /// The near side answers an offer of the far side's that came while it rang.
    pub(super) fn on_prack(&mut self, server: &mut Server, now: Instant, dialog: DialogId, prack: &Message) {
        let Some((bridge, Side::Near)) = self.bridge_of(dialog) else { return };
        let (Some(answer), Some(offering)) = (description::of(prack), bridge.offering) else { return };
        bridge.offering = None;
        let Ok(towards) = passed(bridge.media.as_mut(), Side::Near, Role::Answer, &answer) else {
            tracing::debug!("the near side's answer cannot be carried");
            return;
        };
        bridge.near.said = Some(answer);
        bridge.far.told = Some(towards.clone());
        if server.acknowledge(now, offering, Some(&towards)).is_err() {
            tracing::debug!("the far side does not wait for an answer");
        }
    }

    /// The far side answers: so does the near side, with what was described last.
    pub(super) fn on_answered(
        &mut self,
        server: &mut Server,
        now: Instant,
        (call, dialog): (DialogId, DialogId),
        response: &Message,
        wants_answer: bool,
    ) {
        let Some((id, _)) = self.of_dialog(call) else { return };
        self.detach_far(id, Some(dialog));
        self.attach(id, dialog, Side::Far);
        let Some(bridge) = self.bridges.get_mut(&id) else { return };
        bridge.far.dialog = Some(dialog);
        bridge.far.learn(response);
        let described = description::of(response).or_else(|| bridge.early.remove(&dialog));
        bridge.early.clear();
        if bridge.open.is_none() {
            return;
        }
        let is_asked_more = match described.as_ref().filter(|_| !wants_answer) {
            Some(body) => description::more(bridge.media.as_mut(), Side::Far, body),
            None => Ok(None),
        };
        match is_asked_more {
            Ok(Some(offer)) => {
                // It takes the call, but not its sound: the near side is answered when it has been asked for that once more.
                bridge.far.said = described;
                bridge.far.told = Some(offer.clone());
                bridge.far.is_told_anew = server.reinvite(now, dialog, Some(offer)).is_ok();
                if !bridge.far.is_told_anew {
                    self.end_unheard(server, now, dialog);
                }
            }
            Ok(None) => self.answer_near(server, now, (id, dialog), described, wants_answer),
            Err(uncarried) => self.give_up(id, uncarried),
        }
    }

    /// Answers the near side as the far side has answered.
    pub(super) fn answer_near(
        &mut self,
        server: &mut Server,
        now: Instant,
        (id, dialog): (BridgeId, DialogId),
        described: Option<Body>,
        wants_answer: bool,
    ) {
        let Some(bridge) = self.bridges.get_mut(&id) else { return };
        let Some(open) = bridge.open else { return };
        let role = if wants_answer { Role::Offer } else { Role::Answer };
        let moved = described.as_ref().is_some_and(|body| description::follow(bridge.media.as_mut(), Side::Far, body));
        let told = described.as_ref().map(|body| passed(bridge.media.as_mut(), Side::Far, role, body));
        let told = match told {
            Some(Err(uncarried)) if uncarried.limit.is_some() => return self.give_up(id, uncarried),
            told => told,
        };
        bridge.open = None;
        self.by_invite.remove(&open);
        let Some(Ok(told)) = told else {
            server.reject(now, open, 502, "The other side describes no session that can be had", &[]);
            self.end(server, now, id, None);
            return;
        };
        bridge.far.said.clone_from(&described);
        let mut answer = bridge.answer.clone();
        answer.body = Some(told);
        bridge.near.told.clone_from(&answer.body);
        bridge.near.acknowledges_offer = wants_answer;
        let near = server.accept_with(now, open, &answer);
        bridge.near.dialog = Some(near);
        if let Some(ends_at) = bridge.longest.and_then(|longest| now.checked_add(longest)) {
            bridge.ends_at = Some(ends_at);
            self.deadlines.insert((ends_at, id));
        }
        self.attach(id, near, Side::Near);
        self.events.push_back(BridgeEvent::Answered { bridge: id });
        self.remember_names(server, id);
        if moved && !wants_answer {
            self.tell_anew(server, now, dialog);
        }
    }

    /// The far side answers, and the call cannot be for what is used up here: whoever placed it says so, and ends it.
    fn give_up(&mut self, id: BridgeId, Uncarried { status, limit }: Uncarried) {
        self.events.push_back(BridgeEvent::Unanswered { bridge: id, status, response: None, rang: true, limit });
    }

    /// A side was offered an address that it cannot send to, and has described one of its own nonetheless.
    fn tell_anew(&mut self, server: &mut Server, now: Instant, dialog: DialogId) {
        let Some((bridge, side)) = self.bridge_of(dialog) else { return };
        let offer = description::offer_again(bridge.media.as_mut());
        bridge.leg(side).told.clone_from(&offer);
        bridge.leg(side).is_told_anew = offer.is_some() && server.reinvite(now, dialog, offer).is_ok();
    }

    /// An ACK: where our 2xx brought the other side's offer, it brings the answer.
    pub(super) fn on_acknowledged(&mut self, server: &mut Server, now: Instant, dialog: DialogId, ack: &Message) {
        let Some((bridge, side)) = self.bridge_of(dialog) else { return };
        if !std::mem::take(&mut bridge.leg(side).acknowledges_offer) {
            return;
        }
        let said = description::of(ack);
        let answer = said.as_ref().map(|body| passed(bridge.media.as_mut(), side, Role::Answer, body));
        let Ok(answer) = answer.transpose() else {
            // Each side believes something else by now: there is no call any more.
            if let Some((id, _)) = self.of_dialog(dialog) {
                self.end(server, now, id, None);
            }
            return;
        };
        bridge.leg(side).said = said;
        bridge.leg(side.other()).told.clone_from(&answer);
        if let Some(other) = bridge.leg(side.other()).dialog
            && server.acknowledge(now, other, answer.as_ref()).is_err()
        {
            tracing::debug!("the other side does not wait for an answer");
        }
    }
}
