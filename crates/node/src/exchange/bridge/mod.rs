//! Bridges: two dialogs of our own agent that make one call (a back-to-back user agent, RFC 7092 §3).
//!
//! The *near* side called us; the *far* side we call on its behalf. Each dialog is its own: challenges, session timers, reliable
//! provisional responses and routes of one side never show on the other. What passes is what the call means: ringing, offers and
//! answers, digits, the end and its reason. Everything a description says goes through [`description`], where a bridge that carries
//! the media ([`NearCall::media`]) writes it anew.
//!
//! Inside: `setup` (from ringing to the answer), `within` (changes and requests during the call), `transfer`, `ending`. Which calls to bridge,
//! and where to, is others' business: they place the far call ([`Bridges::call`]) and hear of it by [`BridgeEvent`]. No clock and
//! no socket here: the time and the [`Server`] are handed in. The agent bounds the dialogs, and with them the bridges.

mod description;
mod ending;
mod setup;
#[cfg(test)]
mod tests;
mod transfer;
mod within;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use meshtone_media::io::AnchoredCall;
use meshtone_sip::agent::{
    Acceptance, AgentEvent, AgentRequestId, Body, DialogId, OutgoingCall, Reliability, SubscriptionId,
};
use meshtone_sip::message::{Header, Message, Method};
use meshtone_sip::server::{Event, RequestId, Server};

use description::{Role, Uncarried, passed};
use transfer::Referral;

pub(crate) use transfer::Replacements;

/// The session timer asked of both sides (RFC 4028 §4 recommends half an hour): so long may a side that lost power go unnoticed.
pub(crate) const SESSION_TIMER: Duration = Duration::from_secs(1800);

/// Number of a bridge, never used again within one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BridgeId(u64);

/// The call that a bridge takes.
#[derive(Debug)]
pub(crate) struct NearCall {
    /// To answer with.
    pub(crate) id: RequestId,
    /// The INVITE.
    pub(crate) invite: Message,
    /// Our Contact towards the caller, a URI.
    pub(crate) contact: String,
    /// Whether MESSAGE passes during the call; INFO always does.
    pub(crate) messages: bool,
    /// What carries the call's media; without it that goes from phone to phone.
    pub(crate) media: Option<AnchoredCall>,
    /// The To tag of our answers, where this is one of several branches of a call that end here.
    pub(crate) tag: Option<String>,
}

/// What becomes of a bridge.
#[derive(Debug)]
pub(crate) enum BridgeEvent {
    /// The far call failed: place another one, or refuse the caller.
    Unanswered {
        /// The bridge.
        bridge: BridgeId,
        /// Status; 408 for silence, 503 when nothing could be sent.
        status: u16,
        /// The response, if there was one.
        response: Option<Message>,
        /// Whether the caller has heard it ring, so that nobody else may be tried.
        rang: bool,
        /// What of this node's media is used up, where nothing was sent for that.
        limit: Option<String>,
    },
    /// The call stands.
    Answered {
        /// The bridge.
        bridge: BridgeId,
    },
    /// It is over; its number means nothing any more.
    Ended {
        /// The bridge.
        bridge: BridgeId,
    },
}

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Near,
    Far,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Near => Side::Far,
            Side::Far => Side::Near,
        }
    }
}

/// One dialog of a bridge.
#[derive(Debug, Default)]
struct Leg {
    dialog: Option<DialogId>,
    /// Ours towards it.
    contact: String,
    /// Whether its Allow names UPDATE.
    updates: bool,
    /// What it last described, and what was described to it.
    said: Option<Body>,
    told: Option<Body>,
    /// A change of its own that waits for the other side's answer.
    asks: Option<Ask>,
    /// It was sent the other side's offer in a 2xx; its ACK brings the answer.
    acknowledges_offer: bool,
    /// It is being told anew where we are, as it describes itself elsewhere than it was expected.
    is_told_anew: bool,
}

impl Leg {
    fn learn(&mut self, message: &Message) {
        if message.header(Header::Allow).is_some() {
            self.updates = message.values(Header::Allow).any(|method| method == "UPDATE");
        }
    }
}

/// A re-INVITE, UPDATE or PRACK under way to the other side.
#[derive(Debug)]
struct Ask {
    id: RequestId,
    request: Message,
    offer: Option<Body>,
    /// That offer as the other side was told it.
    told: Option<Body>,
}

#[derive(Debug)]
struct Bridge {
    invite: Message,
    /// The INVITE, until it has its final response.
    open: Option<RequestId>,
    answer: Acceptance,
    media: Option<AnchoredCall>,
    near: Leg,
    far: Leg,
    /// All its dialogs, early ones of a fork too.
    dialogs: Vec<(DialogId, Side)>,
    /// What the early dialogs of the far call have described: their 2xx need not say it again.
    early: HashMap<DialogId, Body>,
    /// An early dialog of the far call whose reliable response brought an offer.
    offering: Option<DialogId>,
    rang: bool,
    longest: Option<Duration>,
    ends_at: Option<Instant>,
    end_reason: Option<String>,
    /// What its dialogs are named by in transfers.
    names: Vec<String>,
}

impl Bridge {
    fn leg(&mut self, side: Side) -> &mut Leg {
        match side {
            Side::Near => &mut self.near,
            Side::Far => &mut self.far,
        }
    }
}

/// The bridges of one worker.
#[derive(Debug, Default)]
pub(crate) struct Bridges {
    last: u64,
    bridges: HashMap<BridgeId, Bridge>,
    by_invite: HashMap<RequestId, BridgeId>,
    by_dialog: HashMap<DialogId, (BridgeId, Side)>,
    /// Requests passed on within a call, and what they answer.
    passed: HashMap<AgentRequestId, RequestId>,
    /// Transfers under way, by what the other side tells of them.
    referrals: HashMap<SubscriptionId, Referral>,
    replacements: Replacements,
    deadlines: BTreeSet<(Instant, BridgeId)>,
    events: VecDeque<BridgeEvent>,
}

impl Bridges {
    /// Takes a call, whose far side follows by [`Bridges::call`].
    pub(crate) fn begin(&mut self, call: NearCall) -> BridgeId {
        self.last += 1;
        let id = BridgeId(self.last);
        let contact = call.contact.clone();
        let mut near = Leg { said: description::of(&call.invite), contact, ..Leg::default() };
        near.learn(&call.invite);
        let mut answer = Acceptance::new(&call.contact);
        answer.handles = handled(call.messages, call.media.is_some());
        answer.session_timer = Some(SESSION_TIMER);
        answer.tag = call.tag;
        let bridge = Bridge {
            invite: call.invite,
            open: Some(call.id),
            answer,
            media: call.media,
            near,
            far: Leg::default(),
            dialogs: Vec::new(),
            early: HashMap::new(),
            offering: None,
            rang: false,
            longest: None,
            ends_at: None,
            end_reason: None,
            names: Vec::new(),
        };
        self.by_invite.insert(call.id, id);
        self.bridges.insert(id, bridge);
        id
    }

    /// Places the far call, again after [`BridgeEvent::Unanswered`]. Offer, reliability, session timer and methods are the
    /// bridge's; all else is `order`'s. Once it is answered it may last for `longest`.
    pub(crate) fn call(
        &mut self,
        server: &mut Server,
        now: Instant,
        id: BridgeId,
        mut order: OutgoingCall,
        longest: Option<Duration>,
    ) {
        let Some(bridge) = self.bridges.get_mut(&id) else { return };
        bridge.longest = longest;
        let offer =
            bridge.near.said.as_ref().map(|offer| passed(bridge.media.as_mut(), Side::Near, Role::Offer, offer));
        let offer = match offer.transpose() {
            Ok(offer) => offer,
            Err(Uncarried { status, limit }) => {
                self.events.push_back(BridgeEvent::Unanswered {
                    bridge: id,
                    status,
                    response: None,
                    rang: true,
                    limit,
                });
                return;
            }
        };
        // An offer in a provisional response could not be passed on to who does not acknowledge those.
        let acknowledges = lists(&bridge.invite, Header::Supported) || lists(&bridge.invite, Header::Require);
        order.reliable = if offer.is_some() || acknowledges { Reliability::Supported } else { Reliability::Off };
        order.body.clone_from(&offer);
        order.session_timer = Some(SESSION_TIMER);
        order.handles.clone_from(&bridge.answer.handles);
        bridge.far = Leg { told: offer, contact: order.contact.clone(), ..Leg::default() };
        let call = server.place_call(now, order);
        bridge.far.dialog = Some(call);
        self.attach(id, call, Side::Far);
    }

    /// Has the media of the call that is placed next carried, or not. What carried it before, towards who did not answer, ends.
    pub(crate) fn carry(&mut self, id: BridgeId, media: Option<AnchoredCall>) {
        if let Some(bridge) = self.bridges.get_mut(&id).filter(|bridge| bridge.near.dialog.is_none()) {
            bridge.media = media;
        }
    }

    /// The INVITE that a bridge took.
    pub(crate) fn invite(&self, id: BridgeId) -> Option<&Message> {
        self.bridges.get(&id).map(|bridge| &bridge.invite)
    }

    /// What carries a bridge's media.
    pub(crate) fn media(&mut self, id: BridgeId) -> Option<&mut AnchoredCall> {
        self.bridges.get_mut(&id)?.media.as_mut()
    }

    /// Ends the calls of which nothing was heard for too long.
    pub(crate) fn end_silent(&mut self, server: &mut Server, now: Instant) {
        let is_silent = |bridge: &Bridge| bridge.media.as_ref().is_some_and(AnchoredCall::has_ended);
        let silent: Vec<BridgeId> =
            self.bridges.iter().filter(|(_, bridge)| is_silent(bridge)).map(|(id, _)| *id).collect();
        for id in silent {
            self.end(server, now, id, Some(ending::SILENCE_REASON));
        }
    }

    /// Refuses the caller, and ends the bridge.
    pub(crate) fn refuse(
        &mut self,
        server: &mut Server,
        now: Instant,
        id: BridgeId,
        status: u16,
        reason: &str,
        extra: &[(Header, String)],
    ) {
        if let Some(open) = self.bridges.get_mut(&id).and_then(|bridge| bridge.open.take()) {
            self.by_invite.remove(&open);
            server.reject(now, open, status, reason, extra);
        }
        self.end(server, now, id, None);
    }

    /// Takes an event; gives it back when it is about no bridge.
    pub(crate) fn on_event(&mut self, server: &mut Server, now: Instant, event: Event) -> Option<Event> {
        match event {
            Event::Cancelled { id } if self.by_invite.contains_key(&id) => self.on_cancelled(server, now, id),
            Event::Reinvite { id, dialog, ref request } if self.by_dialog.contains_key(&dialog) => {
                self.on_change(server, now, id, dialog, request);
            }
            Event::Acknowledged { dialog, ref ack } if self.by_dialog.contains_key(&dialog) => {
                self.on_acknowledged(server, now, dialog, ack);
            }
            Event::DialogEnded { dialog } if self.by_dialog.contains_key(&dialog) => {
                self.on_dialog_ended(server, now, dialog);
            }
            Event::Agent(event) => return self.on_agent_event(server, now, event).map(Event::Agent),
            other @ (Event::Cancelled { .. }
            | Event::Reinvite { .. }
            | Event::Acknowledged { .. }
            | Event::DialogEnded { .. }
            | Event::Request { .. }
            | Event::TargetsExhausted { .. }
            | Event::Redirected { .. }
            | Event::Finished { .. }) => return Some(other),
        }
        None
    }

    fn on_agent_event(&mut self, server: &mut Server, now: Instant, event: AgentEvent) -> Option<AgentEvent> {
        match event {
            AgentEvent::Progress { call, dialog, status, ref response } if self.by_dialog.contains_key(&call) => {
                self.on_progress(server, now, (call, dialog), status, response);
            }
            AgentEvent::Answered { call, dialog, ref response, wants_answer } if self.by_dialog.contains_key(&call) => {
                self.on_answered(server, now, (call, dialog), response, wants_answer);
            }
            AgentEvent::Failed { dialog, status, response } if self.by_dialog.contains_key(&dialog) => {
                self.on_failed(dialog, status, response);
            }
            AgentEvent::Prack { dialog, ref prack } if self.by_dialog.contains_key(&dialog) => {
                self.on_prack(server, now, dialog, prack);
            }
            AgentEvent::Changed { dialog, ref response, wants_answer } if self.by_dialog.contains_key(&dialog) => {
                self.on_changed(server, now, dialog, response, wants_answer);
            }
            AgentEvent::ChangeFailed { dialog, status, .. } if self.by_dialog.contains_key(&dialog) => {
                self.on_change_failed(server, now, dialog, status);
            }
            AgentEvent::Request { id, dialog, ref request } if self.by_dialog.contains_key(&dialog) => {
                self.on_request(server, now, id, dialog, request);
            }
            AgentEvent::EndReason { dialog, reason } if self.by_dialog.contains_key(&dialog) => {
                if let Some((bridge, _)) = self.bridge_of(dialog) {
                    bridge.end_reason = Some(reason);
                }
            }
            AgentEvent::Response { id, status, .. } if self.passed.contains_key(&id) => {
                if let Some(asked) = self.passed.remove(&id) {
                    server.reject(now, asked, ending::within_status(status), "", &[]);
                }
            }
            AgentEvent::Refer { id, dialog, ref refer_to, ref request } if self.by_dialog.contains_key(&dialog) => {
                self.on_refer(server, now, (id, dialog), refer_to, request);
            }
            AgentEvent::ReferProgress { subscription, status, .. } if self.referrals.contains_key(&subscription) => {
                self.on_refer_progress(server, now, subscription, status);
            }
            AgentEvent::SubscriptionEnded { subscription, ref reason, .. }
                if self.referrals.contains_key(&subscription) =>
            {
                self.on_referral_ended(server, now, subscription, reason);
            }
            other @ (AgentEvent::Progress { .. }
            | AgentEvent::Answered { .. }
            | AgentEvent::Failed { .. }
            | AgentEvent::Prack { .. }
            | AgentEvent::Changed { .. }
            | AgentEvent::ChangeFailed { .. }
            | AgentEvent::Request { .. }
            | AgentEvent::EndReason { .. }
            | AgentEvent::Response { .. }
            | AgentEvent::Refer { .. }
            | AgentEvent::Notified { .. }
            | AgentEvent::ReferProgress { .. }
            | AgentEvent::SubscriptionRefreshed { .. }
            | AgentEvent::SubscriptionEnded { .. }
            | AgentEvent::Forked { .. }
            | AgentEvent::Moved { .. }) => return Some(other),
        }
        None
    }

    /// Answers a request with what becomes of another one, which was sent on its behalf outside of any call.
    pub(crate) fn pass(&mut self, sent: AgentRequestId, asked: RequestId) {
        self.passed.insert(sent, asked);
    }

    /// The next news of a bridge.
    pub(crate) fn poll_event(&mut self) -> Option<BridgeEvent> {
        self.events.pop_front()
    }

    /// When [`Bridges::handle_timeout`] wants to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    fn attach(&mut self, id: BridgeId, dialog: DialogId, side: Side) {
        let is_new = self.by_dialog.insert(dialog, (id, side)).is_none();
        if let Some(bridge) = self.bridges.get_mut(&id).filter(|_| is_new) {
            bridge.dialogs.push((dialog, side));
        }
    }

    /// Forgets the far dialogs, but for the one that stands.
    fn detach_far(&mut self, id: BridgeId, kept: Option<DialogId>) {
        let Some(bridge) = self.bridges.get_mut(&id) else { return };
        let is_kept = |(dialog, side): &(DialogId, Side)| *side == Side::Near || Some(*dialog) == kept;
        for (dialog, _) in bridge.dialogs.iter().filter(|known| !is_kept(known)) {
            self.by_dialog.remove(dialog);
        }
        bridge.dialogs.retain(is_kept);
    }

    fn of_dialog(&self, dialog: DialogId) -> Option<(BridgeId, Side)> {
        self.by_dialog.get(&dialog).copied()
    }

    fn bridge_of(&mut self, dialog: DialogId) -> Option<(&mut Bridge, Side)> {
        let (id, side) = self.of_dialog(dialog)?;
        Some((self.bridges.get_mut(&id)?, side))
    }
}

/// The methods that a bridge passes on within a call.
fn handled(messages: bool, transfers: bool) -> Vec<Method> {
    let optional = [(Method::Message, messages), (Method::Refer, transfers)];
    [(Method::Info, true)].into_iter().chain(optional).filter_map(|(method, passes)| passes.then_some(method)).collect()
}

fn lists(message: &Message, header: Header) -> bool {
    message.values(header).any(|value| value.trim().eq_ignore_ascii_case("100rel"))
}
