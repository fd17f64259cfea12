//! Requests within a dialog of ours (RFC 3261 §12.2.2, §14.2, §15.1.2; RFC 3262, 3311, 4028): judged, or put to the node.

use super::answer::{check_required, start, timer_fields};
use super::negotiation::{Negotiation, has_description};
use super::session::{Incoming, Phase};
use super::session_timer::{self, MIN_SE};
use super::{Agent, AgentEvent, Answer, DialogId, Refusal, SUPPORTED, Stack, allow};
use crate::message::{Header, Message, Method, NameAddr};
use crate::transaction::TransactionId;
use crate::transport::Flow;

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Answer with this status and these fields.
    Answer(u16, Vec<(Header, String)>),
    /// Let the node answer.
    Ask(DialogId, Question),
}

/// What the node is asked.
#[derive(Debug)]
pub(crate) enum Question {
    /// An INVITE, UPDATE or PRACK with an offer, or an INVITE that wants one.
    Change,
    /// REFER to this URI.
    Refer(String),
    /// Another request that the node handles itself.
    Other,
}

fn plain(status: u16) -> Verdict {
    Verdict::Answer(status, Vec::new())
}

impl Agent {
    /// Judges a request; `None` when it belongs to no dialog of ours.
    pub(crate) fn handle_request(
        &mut self,
        stack: &mut Stack<'_>,
        server: TransactionId,
        request: &Message,
        flow: &Flow,
    ) -> Option<Verdict> {
        let Some(id) = self.find(request, flow) else {
            let is_notify = request.method() == Method::Notify;
            return is_notify.then(|| self.handle_first_notify(stack, request, flow)).flatten().map(plain);
        };
        let session = self.sessions.get_mut(&id)?;
        let number = request.cseq().ok()?.number;
        if session.dialog.remote_cseq.is_some_and(|last| number <= last) {
            // Out of order, or a replay of what was dealt with (RFC 3261 §12.2.2).
            return Some(plain(500));
        }
        session.dialog.remote_cseq = Some(number);
        Some(self.judge(stack, id, server, request, flow).unwrap_or_else(|refusal| refusal))
    }

    /// The verdict on a request; an error is one as well, reached early.
    fn judge(
        &mut self,
        stack: &mut Stack<'_>,
        id: DialogId,
        server: TransactionId,
        request: &Message,
        flow: &Flow,
    ) -> Result<Verdict, Verdict> {
        check_required(request).map_err(|Refusal { status, extra }| Verdict::Answer(status, extra))?;
        let Some(session) = self.sessions.get(&id) else { return Ok(plain(481)) };
        let is_over = matches!(session.phase, Phase::Over);
        let method = request.method();
        let handled = session.handles.contains(&method);
        let with_allow = |status| Verdict::Answer(status, vec![(Header::Allow, allow(&session.handles))]);
        let verdict = match method {
            Method::Notify => plain(self.handle_notify(stack, id, request, flow)),
            Method::Subscribe if !handled => self.handle_resubscribe(stack, id, request),
            Method::Options => {
                let fields = vec![
                    (Header::Allow, allow(&session.handles)),
                    (Header::Accept, "application/sdp".to_owned()),
                    (Header::Supported, SUPPORTED.to_owned()),
                ];
                Verdict::Answer(200, fields)
            }
            Method::Invite
            | Method::Update
            | Method::Bye
            | Method::Info
            | Method::Prack
            | Method::Subscribe
            | Method::Message
            | Method::Refer
            | Method::Publish
            | Method::Other
                if is_over =>
            {
                // Only a subscription is left here.
                plain(481)
            }
            Method::Bye => self.handle_bye(stack, id, request),
            Method::Invite => self.handle_reinvite(id, server, request, flow, stack)?,
            Method::Update => self.handle_update(stack, id, server, request, flow)?,
            Method::Prack => self.handle_prack(stack, id, server, request),
            Method::Refer if handled => match refer_to(request) {
                Some(uri) => Verdict::Ask(id, Question::Refer(uri)),
                None => plain(400),
            },
            Method::Info | Method::Message | Method::Subscribe | Method::Publish | Method::Other if handled => {
                Verdict::Ask(id, Question::Other)
            }
            Method::Info => with_allow(200),
            Method::Other => with_allow(501),
            Method::Ack
            | Method::Cancel
            | Method::Register
            | Method::Subscribe
            | Method::Publish
            | Method::Message
            | Method::Refer => with_allow(405),
        };
        Ok(verdict)
    }

    fn handle_bye(&mut self, stack: &mut Stack<'_>, id: DialogId, bye: &Message) -> Verdict {
        tell_reason(stack, id, bye);
        let ringing = self.sessions.get(&id).and_then(|session| match &session.phase {
            Phase::Ringing(ringing) => Some(ringing.server),
            Phase::Calling { .. } | Phase::AnswerWanted { .. } | Phase::Confirmed | Phase::Over => None,
        });
        match ringing {
            // The failure of the INVITE ends the session (§15.1.2).
            Some(server) => stack.answers.push((server, Answer::Status(487, Vec::new()))),
            None => self.end_session(stack, id, true),
        }
        plain(200)
    }

    fn handle_reinvite(
        &mut self,
        id: DialogId,
        server: TransactionId,
        request: &Message,
        flow: &Flow,
        stack: &mut Stack<'_>,
    ) -> Result<Verdict, Verdict> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(plain(481)) };
        let is_open = session.incoming.is_some() || session.unacknowledged.is_some();
        if is_open || matches!(session.phase, Phase::Ringing(_)) {
            return Err(busy(stack));
        }
        let is_ours_open = session.change.is_inviting() || !session.is_confirmed() || !session.negotiation.is_quiet();
        if is_ours_open {
            return Err(plain(491));
        }
        self.take_incoming(id, server, request, flow)
    }

    fn handle_update(
        &mut self,
        stack: &mut Stack<'_>,
        id: DialogId,
        server: TransactionId,
        request: &Message,
        flow: &Flow,
    ) -> Result<Verdict, Verdict> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(plain(481)) };
        if session.incoming.is_some() {
            return Err(busy(stack));
        }
        if has_description(request) {
            match session.negotiation {
                Negotiation::OfferSent { .. } => return Err(plain(491)),
                Negotiation::OfferReceived { .. } => return Err(busy(stack)),
                // No offer before the first answer (RFC 3311 §5.1).
                Negotiation::Quiet { agreed: false } if !session.is_confirmed() => return Err(busy(stack)),
                Negotiation::Quiet { .. } => {}
            }
            return self.take_incoming(id, server, request, flow);
        }
        // It describes nothing, so it only refreshes target and timer, and needs no decision.
        let agreed = session_timer::grant(request, None).map_err(|()| too_brief())?;
        session.learn(request);
        session.dialog.refresh(request, flow);
        session.timer = start(stack, agreed);
        let mut fields =
            vec![(Header::Contact, session.dialog.contact.clone()), (Header::Allow, allow(&session.handles))];
        fields.extend(timer_fields(agreed));
        self.rearm_session(id);
        Ok(Verdict::Answer(200, fields))
    }

    /// Puts a request that may change the session to the node.
    fn take_incoming(
        &mut self,
        id: DialogId,
        server: TransactionId,
        request: &Message,
        flow: &Flow,
    ) -> Result<Verdict, Verdict> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(plain(481)) };
        let agreed = session_timer::grant(request, None).map_err(|()| too_brief())?;
        let has_offer = has_description(request);
        if has_offer {
            session.negotiation.received();
        }
        session.learn(request);
        if request.method() != Method::Prack {
            session.dialog.refresh(request, flow);
        }
        session.incoming = Some(Incoming { server, agreed, has_offer });
        Ok(Verdict::Ask(id, Question::Change))
    }

    fn handle_prack(&mut self, stack: &mut Stack<'_>, id: DialogId, server: TransactionId, prack: &Message) -> Verdict {
        let Some(session) = self.sessions.get_mut(&id) else { return plain(481) };
        let Phase::Ringing(ringing) = &mut session.phase else { return plain(481) };
        let Some(next) = ringing.reliable.acknowledge(stack.now, &self.settings, prack) else { return plain(481) };
        let mut verdict = plain(200);
        if has_description(prack) {
            session.negotiation.received();
            if matches!(session.negotiation, Negotiation::OfferReceived { .. }) {
                session.incoming = Some(Incoming { server, agreed: None, has_offer: true });
                verdict = Verdict::Ask(id, Question::Change);
            }
        }
        stack.tell(AgentEvent::Prack { dialog: id, prack: prack.clone() });
        self.go_on_ringing(stack, id, next);
        verdict
    }
}

/// Passes the Reason on that a BYE or CANCEL gives.
pub(crate) fn tell_reason(stack: &mut Stack<'_>, dialog: DialogId, request: &Message) {
    let reasons: Vec<&str> = request.fields(Header::Reason).collect();
    if !reasons.is_empty() {
        stack.tell(AgentEvent::EndReason { dialog, reason: reasons.join(", ") });
    }
}

/// Another offer of the other side's own is still open (RFC 3261 §14.2).
fn busy(stack: &mut Stack<'_>) -> Verdict {
    // Between 0 and 10 seconds, by chance.
    Verdict::Answer(500, vec![(Header::RetryAfter, stack.below(11).to_string())])
}

fn too_brief() -> Verdict {
    Verdict::Answer(422, vec![(Header::MinSe, MIN_SE.to_string())])
}

/// The one URI of Refer-To (RFC 3515 §2.4.2).
fn refer_to(request: &Message) -> Option<String> {
    let mut values = request.values(Header::ReferTo);
    let first = NameAddr::parse(values.next()?).ok()?.uri.to_owned();
    values.next().is_none().then_some(first)
}
