//! Calls that we take (RFC 3261 §13.3): ringing, reliably or not, and the final answer until its ACK.

use super::answer::{check_required, description_of, start, timer_fields, write_response};
use super::negotiation::{Negotiation, has_description, is_description};
use super::reliable::FIRST_RSEQ_BELOW;
use super::session::{Phase, Ringing, Session, Unacknowledged};
use super::session_timer::{self, MIN_SE, lists};
use super::{Acceptance, Agent, Answer, DialogId, Reliability, SUPPORTED, Stack, allow, key};
use crate::agent::dialog::Dialog;
use crate::message::{Header, Message, Method};
use crate::server::Event;
use crate::transaction::{Backoff, TransactionId};
use crate::transport::Flow;

/// Why an INVITE cannot be taken.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) extra: Vec<(Header, String)>,
}

impl Refusal {
    pub(crate) fn plain(status: u16) -> Refusal {
        Refusal { status, extra: Vec::new() }
    }
}

/// A request that the node was asked about.
pub(crate) struct Asked<'a> {
    pub(crate) server: TransactionId,
    pub(crate) request: &'a Message,
    pub(crate) flow: &'a Flow,
    /// The To tag that our responses to it carry.
    pub(crate) tag: &'a str,
    /// The dialog it belongs to already.
    pub(crate) dialog: Option<DialogId>,
}

impl<'a> Asked<'a> {
    /// The same with the To tag that the answer names.
    fn tagged(&self, answer: &'a Acceptance) -> Asked<'a> {
        Asked { tag: answer.tag.as_deref().unwrap_or(self.tag), ..*self }
    }
}

impl Agent {
    /// Rings: a provisional response that makes an early dialog.
    pub(crate) fn ring(
        &mut self,
        stack: &mut Stack<'_>,
        asked: &Asked<'_>,
        status: u16,
        answer: &Acceptance,
        wish: Reliability,
    ) -> Result<DialogId, Refusal> {
        let asked = &asked.tagged(answer);
        let requires = lists(asked.request, Header::Require, "100rel");
        let can = requires || lists(asked.request, Header::Supported, "100rel");
        let is_reliable = match wish {
            Reliability::Off => requires,
            Reliability::Supported => can,
            Reliability::Required if !can => {
                return Err(Refusal { status: 421, extra: vec![(Header::Require, "100rel".to_owned())] });
            }
            Reliability::Required => true,
        };
        let id = self.early(asked, answer)?;
        let Some(session) = self.sessions.get_mut(&id) else { return Err(Refusal::plain(500)) };
        let Phase::Ringing(ringing) = &mut session.phase else { return Err(Refusal::plain(481)) };
        let mut headers = Vec::new();
        if is_reliable {
            let first = stack.below(FIRST_RSEQ_BELOW);
            headers.push((Header::Require, "100rel".to_owned()));
            headers.push((Header::RSeq, ringing.reliable.next_rseq(first).to_string()));
        }
        // Whoever was sent no offer must not get one in a response that may be lost (RFC 3261 §13.2.1).
        let answers = matches!(session.negotiation, Negotiation::OfferReceived { .. });
        let is_agreed = session.negotiation == Negotiation::Quiet { agreed: true };
        let body = answer
            .body
            .as_ref()
            .filter(|body| !is_description(&body.content_type) || (!is_agreed && (answers || is_reliable)));
        let response = write_response(stack, asked, status, answer, &session.dialog.contact, &headers, body);
        if is_reliable {
            if has_description(&response) {
                session.negotiation.sent();
                session.description = body.cloned();
            }
            if let Some(response) = ringing.reliable.push(stack.now, &self.settings, response) {
                stack.answers.push((asked.server, Answer::Whole(response)));
            }
        } else {
            stack.answers.push((asked.server, Answer::Whole(response)));
        }
        self.rearm_session(id);
        Ok(id)
    }

    /// Accepts: 200, which waits for the PRACK of a reliable response before it.
    pub(crate) fn accept(
        &mut self,
        stack: &mut Stack<'_>,
        asked: &Asked<'_>,
        answer: &Acceptance,
    ) -> Result<DialogId, Refusal> {
        let asked = &asked.tagged(answer);
        let wish =
            answer.session_timer.and_then(|wish| u32::try_from(wish.as_secs()).ok()).map(|wish| wish.max(MIN_SE));
        let agreed = session_timer::grant(asked.request, wish)
            .map_err(|()| Refusal { status: 422, extra: vec![(Header::MinSe, MIN_SE.to_string())] })?;
        let id = self.early(asked, answer)?;
        let Some(session) = self.sessions.get_mut(&id) else { return Err(Refusal::plain(500)) };
        let mut headers = vec![(Header::Supported, SUPPORTED.to_owned())];
        headers.extend(timer_fields(agreed));
        // What a reliable response described stands: the same again would be an offer of its own (RFC 3262 §5).
        let is_agreed = session.negotiation == Negotiation::Quiet { agreed: true };
        let offers_already = matches!(session.negotiation, Negotiation::OfferSent { .. });
        let body =
            answer.body.as_ref().filter(|body| !is_description(&body.content_type) || !(is_agreed || offers_already));
        let response = write_response(stack, asked, 200, answer, &session.dialog.contact, &headers, body);
        if body.is_some() {
            session.description = body.cloned();
        }
        session.handles.clone_from(&answer.handles);
        let Phase::Ringing(ringing) = &mut session.phase else { return Err(Refusal::plain(481)) };
        ringing.agreed = agreed;
        ringing.replaces = answer.replaces;
        if ringing.reliable.is_waiting() {
            ringing.held = Some(response);
        } else {
            stack.answers.push((asked.server, Answer::Whole(response)));
        }
        Ok(id)
    }

    /// The early dialog of an INVITE; made when it is asked for first.
    fn early(&mut self, asked: &Asked<'_>, answer: &Acceptance) -> Result<DialogId, Refusal> {
        if let Some(known) = asked.dialog {
            return Ok(known);
        }
        let request = asked.request;
        if request.method() != Method::Invite {
            return Err(Refusal { status: 405, extra: vec![(Header::Allow, allow(&answer.handles))] });
        }
        check_required(request)?;
        if request.to_tag().is_some() {
            return Err(Refusal::plain(481));
        }
        let remote = request.from_tag();
        if self.keys.contains_key(key(request.call_id(), asked.tag, remote).as_str()) {
            // It came by another way before (RFC 3261 §8.2.2.2).
            return Err(Refusal::plain(482));
        }
        if !self.has_room() {
            return Err(Refusal::plain(486));
        }
        let dialog = Dialog::called(request, asked.flow.clone(), asked.tag.to_owned(), &answer.contact)
            .map_err(|error| Refusal::plain(error.status()))?;
        let ringing = Ringing {
            server: asked.server,
            reliable: super::reliable::ReliableResponses::default(),
            held: None,
            agreed: None,
            replaces: None,
        };
        let mut session = Session::new(dialog, Phase::Ringing(Box::new(ringing)), false, answer.handles.clone());
        session.learn(request);
        if has_description(request) {
            session.negotiation.received();
        }
        let id = self.fresh_id();
        self.insert(id, session);
        Ok(id)
    }

    /// Sends the 200 that waited for a PRACK, and the next reliable response before it.
    pub(super) fn go_on_ringing(&mut self, stack: &mut Stack<'_>, id: DialogId, next: Option<Message>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Phase::Ringing(ringing) = &mut session.phase else { return };
        if let Some(next) = next {
            stack.answers.push((ringing.server, Answer::Whole(next)));
        } else if !ringing.reliable.is_waiting()
            && let Some(held) = ringing.held.take()
        {
            stack.answers.push((ringing.server, Answer::Whole(held)));
        }
        self.rearm_session(id);
    }

    /// Takes the final response that an INVITE or another request of the other side's gets.
    pub(crate) fn handle_answer(
        &mut self,
        stack: &mut Stack<'_>,
        id: DialogId,
        server: TransactionId,
        response: &Message,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let is_success = response.status() < 300;
        if let Phase::Ringing(ringing) = &mut session.phase
            && ringing.server == server
        {
            if !is_success {
                self.end_session(stack, id, true);
                return;
            }
            let (agreed, replaces) = (ringing.agreed, ringing.replaces);
            session.phase = Phase::Confirmed;
            session.timer = start(stack, agreed);
            self.await_ack(stack, id, server, response);
            if let Some(replaced) = replaces {
                self.hang_up(stack, replaced);
            }
            return;
        }
        let Some(incoming) = session.incoming.take_if(|incoming| incoming.server == server) else { return };
        if !is_success {
            if incoming.has_offer {
                session.negotiation.refused();
            }
            return;
        }
        let (method, agreed) = (response.method(), incoming.agreed);
        if method == Method::Invite {
            session.timer = start(stack, agreed);
            self.await_ack(stack, id, server, response);
            return;
        }
        if has_description(response) {
            session.negotiation.sent();
            session.description = description_of(response);
        } else if incoming.has_offer {
            session.negotiation.refused();
        }
        if method == Method::Update {
            session.timer = start(stack, agreed);
        }
        self.rearm_session(id);
    }

    fn await_ack(&mut self, stack: &mut Stack<'_>, id: DialogId, server: TransactionId, response: &Message) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if has_description(response) {
            session.negotiation.sent();
            session.description = description_of(response);
        } else if matches!(session.negotiation, Negotiation::OfferReceived { .. }) {
            session.negotiation.refused();
        }
        session.unacknowledged = Some(Unacknowledged {
            server,
            cseq: response.cseq().map_or(0, |cseq| cseq.number),
            response: response.clone(),
            retransmit: Backoff::start(stack.now, &self.settings),
            until: stack.now + self.settings.patience(),
        });
        self.rearm_session(id);
    }

    /// Takes an ACK; false when it belongs to no dialog of ours.
    pub(crate) fn handle_ack(&mut self, stack: &mut Stack<'_>, ack: &Message, flow: &Flow) -> bool {
        let Some(id) = self.find(ack, flow) else { return false };
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let number = ack.cseq().map(|cseq| cseq.number).ok();
        if session.unacknowledged.take_if(|answer| Some(answer.cseq) == number).is_none() {
            return true;
        }
        match session.negotiation {
            Negotiation::OfferSent { .. } if has_description(ack) => session.negotiation.received(),
            // An offer of ours that was not answered here never will be.
            Negotiation::OfferSent { .. } if !session.change.is_inviting() => session.negotiation.refused(),
            Negotiation::OfferSent { .. } | Negotiation::OfferReceived { .. } | Negotiation::Quiet { .. } => {}
        }
        let hang_up = session.hang_up_wanted;
        stack.events.push_back(Event::Acknowledged { dialog: id, ack: ack.clone() });
        if hang_up {
            self.send_bye(stack, id);
        }
        self.rearm_session(id);
        true
    }
}
