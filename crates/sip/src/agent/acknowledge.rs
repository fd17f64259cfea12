//! What the calling side acknowledges: reliable provisional responses by PRACK (RFC 3262 §4), 2xx by ACK (RFC 3261
//! §13.2.2.4), each with an answer where the other side offered.

use super::negotiation::{Negotiation, has_description};
use super::request::Purpose;
use super::session::Phase;
use super::session_timer::lists;
use super::{Agent, AgentError, Body, DialogId, Stack};
use crate::message::{Header, Message};

impl Agent {
    /// Acknowledges a reliable provisional response by PRACK (RFC 3262 §4); false when it is a repetition, or out of order.
    pub(super) fn take_reliable(&mut self, stack: &mut Stack<'_>, id: DialogId, response: &Message) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return true };
        session.learn(response);
        let rseq = response.header(Header::RSeq).and_then(|value| value.trim().parse::<u32>().ok());
        let Some(rseq) = rseq.filter(|_| lists(response, Header::Require, "100rel")) else { return true };
        if session.last_rseq != 0 && Some(rseq) != session.last_rseq.checked_add(1) {
            return false;
        }
        session.last_rseq = rseq;
        let Ok(number) = response.cseq().map(|cseq| cseq.number) else { return true };
        if has_description(response) {
            session.negotiation.received();
        }
        if matches!(session.negotiation, Negotiation::OfferReceived { .. }) && has_description(response) {
            session.phase = Phase::Calling { prack: Some((rseq, number)) };
        } else {
            self.send_prack(stack, id, rseq, number, None);
        }
        true
    }

    fn send_prack(&mut self, stack: &mut Stack<'_>, id: DialogId, rseq: u32, number: u32, body: Option<&Body>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let rack = [(Header::RAck, format!("{rseq} {number} INVITE"))];
        let prack = session.dialog.request(stack, "PRACK", &rack, body);
        self.send_in_dialog_as(stack, id, Purpose::Prack, &prack);
    }

    /// Answers an offer that came in a reliable provisional response (by PRACK) or in a 2xx (by ACK).
    pub(crate) fn acknowledge(
        &mut self,
        stack: &mut Stack<'_>,
        id: DialogId,
        body: Option<&Body>,
    ) -> Result<(), AgentError> {
        let session = self.sessions.get_mut(&id).ok_or(AgentError::NoSuchDialog)?;
        match &mut session.phase {
            Phase::AnswerWanted { .. } => {
                session.negotiation.sent();
                session.description = body.cloned();
                self.send_ack(stack, id, body);
                Ok(())
            }
            Phase::Calling { prack } => {
                let (rseq, number) = prack.take().ok_or(AgentError::NotNow)?;
                session.negotiation.sent();
                session.description = body.cloned();
                self.send_prack(stack, id, rseq, number, body);
                Ok(())
            }
            Phase::Ringing(_) | Phase::Confirmed | Phase::Over => Err(AgentError::NotNow),
        }
    }

    /// Sends the ACK that waited for an answer.
    pub(super) fn send_ack(&mut self, stack: &mut Stack<'_>, id: DialogId, body: Option<&Body>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let phase = std::mem::replace(&mut session.phase, Phase::Confirmed);
        if let Phase::AnswerWanted { cseq, credentials, .. } = phase {
            let ack = session.dialog.ack(stack, cseq, &credentials, body);
            stack.layer.send_statelessly(session.dialog.destination.clone(), ack.clone());
            session.acknowledged = Some((cseq, ack));
        } else {
            session.phase = phase;
        }
        self.rearm_session(id);
    }

    /// Sends the ACK of a 2xx again when that repeats; false when it is new.
    pub(super) fn repeat_ack(&mut self, stack: &mut Stack<'_>, id: DialogId, number: u32) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        match (&session.acknowledged, &session.phase) {
            (Some((known, ack)), _) if *known == number => {
                stack.layer.send_statelessly(session.dialog.destination.clone(), ack.clone());
                true
            }
            (_, Phase::AnswerWanted { cseq, .. }) => *cseq == number,
            (_, Phase::Ringing(_) | Phase::Calling { .. } | Phase::Confirmed | Phase::Over) => false,
        }
    }
}
