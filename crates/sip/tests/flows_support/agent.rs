//! Our element as a user agent: what its node would want at each step is read off the page.

use std::collections::HashMap;

use meshtone_sip::agent::{
    Acceptance, AgentEvent, Body, DialogId, OutgoingCall, OutgoingSubscription, Reliability, SubscriptionAnswer,
    SubscriptionId, SubscriptionState,
};
use meshtone_sip::message::{Builder, Header, Message, Method};
use meshtone_sip::server::{Event, RequestId};
use meshtone_sip::transport::Destination;

use super::stage::Stage;

/// What our agent has going on.
#[derive(Default)]
pub struct Wishes {
    /// Requests that await the node's answer, by method.
    open: HashMap<&'static str, (RequestId, Message)>,
    dialog: Option<DialogId>,
    subscription: Option<SubscriptionId>,
    wants_answer: bool,
}

impl Wishes {
    pub fn hear(&mut self, event: Event) {
        match event {
            Event::Request { id, request, .. }
            | Event::Reinvite { id, request, .. }
            | Event::Agent(AgentEvent::Refer { id, request, .. } | AgentEvent::Request { id, request, .. }) => {
                self.open.insert(request.method().as_str(), (id, request));
            }
            Event::Agent(AgentEvent::Answered { dialog, wants_answer, .. }) => {
                (self.dialog, self.wants_answer) = (Some(dialog), wants_answer);
            }
            Event::Agent(AgentEvent::Changed { wants_answer, .. }) => self.wants_answer = wants_answer,
            Event::Acknowledged { .. }
            | Event::DialogEnded { .. }
            | Event::Finished { .. }
            | Event::Agent(
                AgentEvent::Progress { .. }
                | AgentEvent::ReferProgress { .. }
                | AgentEvent::Notified { .. }
                | AgentEvent::SubscriptionEnded { .. },
            ) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The URI of the page's Contact.
fn contact(page: &Message) -> String {
    page.contacts()
        .next()
        .map_or_else(|| "sip:a@atlanta.example.com".to_owned(), |contact| contact.unwrap().uri.to_owned())
}

fn body(page: &Message) -> Option<Body> {
    (!page.body().is_empty())
        .then(|| Body::new(page.header(Header::ContentType).unwrap_or("application/sdp"), page.body()))
}

fn without_tag(value: &str) -> String {
    value.split(";tag=").next().unwrap().to_owned()
}

impl Stage<'_> {
    /// Lets our agent want what makes it send this message of the page's, unless it sends that by itself.
    pub(super) fn wish(&mut self, index: usize, to: char, page: &Message) {
        if page.is_request() {
            self.wish_request(to, page);
        } else {
            self.wish_answer(page);
        }
        self.work(index);
    }

    fn wish_request(&mut self, to: char, page: &Message) {
        let now = self.now;
        let is_new = page.to().unwrap().tag().is_none();
        let field = |header| page.header(header).unwrap_or_default().to_owned();
        let (from, to_value) = (without_tag(&field(Header::From)), field(Header::To));
        let destination = Destination::Flow(self.flows[&to].clone());
        match (page.method(), self.wishes.dialog) {
            (Method::Invite, _) if is_new => {
                let mut order = OutgoingCall::new(page.request_uri(), destination, &from, &to_value, &contact(page));
                (order.call_id, order.body) = (Some(page.call_id().to_owned()), body(page));
                order.handles = vec![Method::Refer];
                self.wishes.dialog = Some(self.server.place_call(now, order));
            }
            (Method::Refer, _) if is_new => {
                let order = OutgoingSubscription {
                    call_id: Some(page.call_id().to_owned()),
                    headers: vec![(Header::ReferTo, field(Header::ReferTo))],
                    ..OutgoingSubscription::new(
                        "refer",
                        page.request_uri(),
                        destination,
                        &from,
                        &to_value,
                        &contact(page),
                    )
                };
                self.wishes.subscription = Some(self.server.subscribe(now, order));
            }
            (Method::Refer, Some(dialog)) => {
                let refer_to = field(Header::ReferTo);
                let uri = refer_to.trim_matches(['<', '>']);
                self.wishes.subscription = Some(self.server.refer(now, dialog, uri, &[]).unwrap());
            }
            (Method::Bye, Some(dialog)) => self.server.hang_up(now, dialog),
            (Method::Update, Some(dialog)) => self.server.update(now, dialog, body(page)).unwrap(),
            (Method::Invite, Some(dialog)) => {
                self.server.identify(dialog, &from).unwrap();
                self.server.reinvite(now, dialog, body(page)).unwrap();
            }
            (Method::Ack, Some(dialog)) if self.wishes.wants_answer => {
                self.server.acknowledge(now, dialog, body(page).as_ref()).unwrap();
            }
            (Method::Notify, _) => {
                let text = String::from_utf8_lossy(page.body()).into_owned();
                let status = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
                if let (Some(status @ 200..), Some(subscription)) = (status, self.wishes.subscription) {
                    self.server.tell_refer(now, subscription, status);
                }
            }
            _ => {}
        }
    }

    fn wish_answer(&mut self, page: &Message) {
        let now = self.now;
        let Some((id, request)) = self.wishes.open.get(page.method().as_str()).cloned() else { return };
        let mut answer = Acceptance::new(&contact(page));
        (answer.body, answer.handles) = (body(page), vec![Method::Refer]);
        match (page.method(), page.status()) {
            (Method::Invite, 101..200) => {
                self.wishes.dialog = Some(self.server.ring(now, id, page.status(), &answer, Reliability::Off));
                return;
            }
            (Method::Invite, 200) if request.to().unwrap().tag().is_none() => {
                self.wishes.dialog = Some(self.server.accept_with(now, id, &answer));
            }
            (Method::Invite | Method::Update, _) => {
                let response = Builder::response(&request, page.status(), "");
                let response = match answer.body {
                    Some(body) => response.body(&body.content_type, &body.content).finish(),
                    None => response.finish(),
                };
                self.server.respond(now, id, response);
            }
            (Method::Refer, _) => self.wishes.subscription = self.server.accept_refer(now, id, &contact(page)),
            (Method::Subscribe, _) => {
                let answer = SubscriptionAnswer {
                    contact: contact(page),
                    longest: std::time::Duration::from_secs(3600),
                    state: SubscriptionState::Active,
                    body: None,
                };
                self.wishes.subscription = self.server.accept_subscription(now, id, answer);
            }
            _ => return,
        }
        self.wishes.open.remove(page.method().as_str());
    }
}
