//! Requests of our own under way: what each is for, and its second try after a challenge (RFC 3261 §8.1.3.5, §22).

use super::dialog::MAX_FORWARDS;
use super::login::Login;
use super::{
    Agent, AgentError, AgentEvent, AgentRequestId, Body, DialogId, OutgoingRequest, Stack, SubscriptionId,
    session_timer,
};
use crate::message::{Builder, Header, Message, Method};
use crate::transaction::TransactionId;
use crate::transport::Destination;

/// Most times that a request is sent again with a longer interval, as 422 or 423 asked for.
const RAISES_MAX: u8 = 2;

/// What a request of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The INVITE of this call.
    Call(DialogId),
    /// A re-INVITE or UPDATE of this dialog.
    Change(DialogId),
    /// Nobody waits for the outcome, but a challenge to it is answered.
    Bye,
    /// PRACK, likewise.
    Prack,
    /// A request of the node's, perhaps within a dialog.
    Request(AgentRequestId, Option<DialogId>),
    /// SUBSCRIBE or REFER.
    Subscribe(SubscriptionId),
    /// NOTIFY.
    Notify(SubscriptionId),
}

/// A request of ours, until its final response; an INVITE answered by 2xx, as long as that may repeat.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) purpose: Purpose,
    pub(super) request: Message,
    destination: Destination,
    pub(super) login: Option<Login>,
    raises: u8,
}

/// How a request of ours ended.
pub(super) struct Outcome<'a> {
    pub(super) status: u16,
    pub(super) response: Option<&'a Message>,
    pub(super) request: &'a Message,
    pub(super) login: Option<&'a Login>,
}

/// A request of ours outside of any dialog, before it is written.
pub(super) struct Draft<'a> {
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
    pub(super) destination: &'a Destination,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) call_id: Option<&'a str>,
    pub(super) cseq: u32,
    pub(super) own: Vec<(Header, String)>,
    pub(super) headers: &'a [(Header, String)],
    pub(super) body: Option<&'a Body>,
}

impl Draft<'_> {
    pub(super) fn write(&self, stack: &mut Stack<'_>) -> Message {
        let (via, tag) = (stack.via(self.destination), stack.token());
        let call_id = self.call_id.map_or_else(|| stack.token(), str::to_owned);
        let mut builder = Builder::request(self.method, self.uri)
            .header(Header::Via, &via)
            .header(Header::MaxForwards, MAX_FORWARDS)
            .header(Header::From, &format!("{};tag={tag}", self.from))
            .header(Header::To, self.to)
            .header(Header::CallId, &call_id)
            .header(Header::CSeq, &format!("{} {}", self.cseq, self.method));
        if !stack.user_agent.is_empty() {
            builder = builder.header(Header::UserAgent, stack.user_agent);
        }
        for (header, value) in self.own.iter().chain(self.headers) {
            builder = builder.header(*header, value);
        }
        match self.body {
            Some(body) => builder.body(&body.content_type, &body.content).finish(),
            None => builder.finish(),
        }
    }
}

impl Agent {
    pub(crate) fn send_request(&mut self, stack: &mut Stack<'_>, order: OutgoingRequest) -> AgentRequestId {
        let id = AgentRequestId(self.fresh_id().0);
        let draft = Draft {
            method: &order.method,
            uri: &order.uri,
            destination: &order.destination,
            from: &order.from,
            to: &order.to,
            call_id: order.call_id.as_deref(),
            cseq: order.cseq,
            own: Vec::new(),
            headers: &order.headers,
            body: order.body.as_ref(),
        };
        let request = draft.write(stack);
        let login = order.credentials.map(Login::new);
        let sent = self.has_room()
            && self.transmit(stack, Purpose::Request(id, None), &order.destination, &request, login).is_some();
        if !sent {
            stack.tell(AgentEvent::Response { id, status: 503, response: None, realm: None });
        }
        id
    }

    /// Sends a request of the node's within a dialog.
    pub(crate) fn send_in_dialog(
        &mut self,
        stack: &mut Stack<'_>,
        dialog: DialogId,
        method: Method,
        headers: &[(Header, String)],
        body: Option<&Body>,
    ) -> Result<AgentRequestId, AgentError> {
        if !self.has_room() {
            return Err(AgentError::Full);
        }
        let id = AgentRequestId(self.fresh_id().0);
        let session = self.sessions.get_mut(&dialog).ok_or(AgentError::NoSuchDialog)?;
        let request = session.dialog.request(stack, method.as_str(), headers, body);
        let purpose = Purpose::Request(id, Some(dialog));
        self.send_in_dialog_as(stack, dialog, purpose, &request).map(|_| id).ok_or(AgentError::NotNow)
    }

    /// Sends a request made by a dialog, with the account that its first request was asked for.
    pub(super) fn send_in_dialog_as(
        &mut self,
        stack: &mut Stack<'_>,
        dialog: DialogId,
        purpose: Purpose,
        request: &Message,
    ) -> Option<TransactionId> {
        let session = self.sessions.get(&dialog)?;
        let (destination, login) = (session.dialog.destination.clone(), session.dialog.login.clone());
        self.transmit(stack, purpose, &destination, request, login)
    }

    pub(super) fn transmit(
        &mut self,
        stack: &mut Stack<'_>,
        purpose: Purpose,
        destination: &Destination,
        request: &Message,
        login: Option<Login>,
    ) -> Option<TransactionId> {
        let mut login = login;
        let request = match &mut login {
            Some(login) => {
                let cnonce = stack.token();
                set_all(request, &login.authorize(&mut self.nonces, request, &cnonce))
            }
            None => request.clone(),
        };
        let transaction = stack.send(destination, &request)?;
        let pending = Pending { purpose, request, destination: destination.clone(), login, raises: 0 };
        self.pending.insert(transaction, pending);
        Some(transaction)
    }

    /// Takes a response to a request of ours.
    pub(crate) fn handle_response(&mut self, stack: &mut Stack<'_>, id: TransactionId, response: &Message) {
        let Some(pending) = self.pending.get(&id) else { return };
        let (purpose, status) = (pending.purpose, response.status());
        if let Some(login) = &pending.login {
            login.renew(&mut self.nonces, &pending.request, response);
        }
        if status < 200 {
            if let Purpose::Call(call) = purpose {
                let request = pending.request.clone();
                self.handle_call_progress(stack, call, &request, response);
            }
            return;
        }
        if status < 300 && pending.request.method() == Method::Invite {
            let (request, login) = (pending.request.clone(), pending.login.clone());
            let outcome = Outcome { status, response: Some(response), request: &request, login: login.as_ref() };
            self.conclude(stack, purpose, &outcome);
            return;
        }
        let Some(mut pending) = self.pending.remove(&id) else { return };
        if let Some(again) = self.second_try(stack, &mut pending, response) {
            pending.request = again;
            self.send_again(stack, pending);
            return;
        }
        let outcome =
            Outcome { status, response: Some(response), request: &pending.request, login: pending.login.as_ref() };
        self.conclude(stack, purpose, &outcome);
    }

    /// Takes the news that a request of ours met with silence (408) or could not be sent (503).
    pub(crate) fn handle_failure(&mut self, stack: &mut Stack<'_>, id: TransactionId, status: u16) {
        let Some(pending) = self.pending.remove(&id) else { return };
        let outcome = Outcome { status, response: None, request: &pending.request, login: pending.login.as_ref() };
        self.conclude(stack, pending.purpose, &outcome);
    }

    fn conclude(&mut self, stack: &mut Stack<'_>, purpose: Purpose, outcome: &Outcome<'_>) {
        match purpose {
            Purpose::Call(call) => self.conclude_call(stack, call, outcome),
            Purpose::Change(dialog) => self.conclude_change(stack, dialog, outcome),
            Purpose::Bye | Purpose::Prack => {}
            Purpose::Request(id, dialog) => {
                let realm = outcome.login.and_then(Login::realm).map(str::to_owned);
                let response = outcome.response.cloned();
                stack.tell(AgentEvent::Response { id, status: outcome.status, response, realm });
                if let Some(dialog) = dialog
                    && matches!(outcome.status, 408 | 481)
                {
                    // The other side knows nothing of the dialog, or is gone (RFC 3261 §12.2.1.2).
                    self.hang_up(stack, dialog);
                }
            }
            Purpose::Subscribe(id) => self.conclude_subscribe(stack, id, outcome),
            Purpose::Notify(id) => self.conclude_notify(stack, id, outcome),
        }
    }

    /// The request with what its refusal asked for, if we have it: credentials, or a longer interval.
    fn second_try(&mut self, stack: &mut Stack<'_>, pending: &mut Pending, refusal: &Message) -> Option<Message> {
        if self.is_unwanted(pending.purpose) {
            return None;
        }
        let mut added: Vec<(Header, String)> = Vec::new();
        match refusal.status() {
            401 | 407 => {
                if !pending.login.as_mut()?.take_challenge(&mut self.nonces, &pending.request, refusal) {
                    return None;
                }
            }
            422 if pending.raises < RAISES_MAX && pending.request.header(Header::SessionExpires).is_some() => {
                pending.raises += 1;
                let least = session_timer::least(refusal).to_string();
                let expires = pending.request.header(Header::SessionExpires).unwrap_or_default();
                let rest = expires.split_once(';').map(|(_, rest)| format!(";{rest}")).unwrap_or_default();
                added.push((Header::SessionExpires, format!("{least}{rest}")));
                added.push((Header::MinSe, least));
            }
            423 if pending.raises < RAISES_MAX && pending.request.method() == Method::Subscribe => {
                pending.raises += 1;
                let least: u32 = refusal.header(Header::MinExpires)?.trim().parse().ok()?;
                added.push((Header::Expires, least.to_string()));
            }
            _ => return None,
        }
        let number = self.next_number(&pending.request)?;
        added.push((Header::Via, stack.via(&pending.destination)));
        added.push((Header::CSeq, format!("{number} {}", pending.request.method_name())));
        // A count that was used once is never used again, by whatever reason the request is.
        if let Some(login) = &mut pending.login {
            let cnonce = stack.token();
            added.extend(login.authorize(&mut self.nonces, &pending.request, &cnonce));
        }
        Some(set_all(&pending.request, &added))
    }

    /// The CSeq after that of a request, in its dialog where there is one.
    fn next_number(&mut self, request: &Message) -> Option<u32> {
        let dialog = request.to_tag().and_then(|remote| {
            let local = request.from_tag()?;
            self.keys.get(super::key(request.call_id(), local, Some(remote)).as_str()).copied()
        });
        let session = dialog.and_then(|id| self.sessions.get_mut(&id));
        match session {
            Some(session) => {
                session.dialog.local_cseq = session.dialog.local_cseq.saturating_add(1);
                Some(session.dialog.local_cseq)
            }
            None => request.cseq().ok()?.number.checked_add(1),
        }
    }

    /// Whether nobody wants the request any more that was refused.
    fn is_unwanted(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Call(call) => !self.is_calling(call),
            Purpose::Change(dialog) => !self.sessions.contains_key(&dialog),
            Purpose::Subscribe(id) => !self.watching.contains_key(&id),
            Purpose::Notify(id) => !self.serving.contains_key(&id),
            Purpose::Bye | Purpose::Prack | Purpose::Request(..) => false,
        }
    }

    fn send_again(&mut self, stack: &mut Stack<'_>, pending: Pending) {
        let Some(transaction) = stack.send(&pending.destination, &pending.request) else { return };
        match pending.purpose {
            Purpose::Call(call) => self.rebind_call(stack, call, transaction),
            Purpose::Change(dialog) => {
                if let Some(session) = self.sessions.get_mut(&dialog) {
                    session.change.rebind(transaction);
                }
            }
            Purpose::Subscribe(id) => self.rebind_subscribe(id, &pending.request),
            Purpose::Bye | Purpose::Prack | Purpose::Request(..) | Purpose::Notify(_) => {}
        }
        self.pending.insert(transaction, pending);
    }
}

fn set_all(request: &Message, fields: &[(Header, String)]) -> Message {
    let mut editor = request.edit();
    for (header, value) in fields {
        editor.set(*header, value);
    }
    if fields.is_empty() { request.clone() } else { editor.finish() }
}

/// The fields of an INVITE that its ACK repeats (RFC 3261 §22.1, last paragraph of §13.2.2.4).
pub(super) fn credentials_of(invite: &Message) -> Vec<(Header, String)> {
    let fields = |header| invite.fields(header).map(move |value| (header, value.to_owned()));
    fields(Header::Authorization).chain(fields(Header::ProxyAuthorization)).collect()
}
