//! A user agent, client and server, for services, gateways and trunks inside the node.
//!
//! Dialogs (RFC 3261 §12, §13, §15), offers and answers (RFC 3264, 3311), reliable provisional responses (RFC 3262),
//! session timers (RFC 4028), references and replacements (RFC 3515, 3891), subscriptions (RFC 6665), digest as a client
//! (RFC 3261 §22). Which calls to place or accept, what descriptions say, and all media, are the node's business.
//!
//! Inside: `calling` and `called` (the two sides of an INVITE), `acknowledge` (ACK and PRACK), `within` (what arrives in a
//! dialog), `change` (our own re-INVITE and UPDATE), `request` (what we send, and challenges to it: `login`, `nonces`), `answer`
//! (what our responses say), `subscriber` with `notified`, `notifier`, `replaces`. A `Session` is a dialog with all that it carries.

mod acknowledge;
mod answer;
mod called;
mod calling;
mod change;
mod command;
mod dialog;
mod event;
mod login;
mod negotiation;
mod nonces;
mod notified;
mod notifier;
mod reliable;
mod replaces;
mod request;
mod session;
mod session_timer;
mod stack;
mod subscriber;
mod subscription_state;
mod within;

use std::collections::HashMap;
use std::time::Instant;

use crate::message::{Message, Method};
use crate::short::Short;
use crate::transaction::{TimerQueue, TimerReason, TimerSettings, TransactionId};
use crate::transport::{Flow, Transport};
pub(crate) use called::{Asked, Refusal};
pub use command::{
    Acceptance, AgentError, Body, Credentials, OutgoingCall, OutgoingRequest, OutgoingSubscription, Reliability,
    Secret, SubscriptionAnswer,
};
pub use event::{AgentEvent, SubscriptionState, Termination};
pub use replaces::{Replaced, with_replaces_mapped};
pub(crate) use stack::{Answer, Stack};
pub(crate) use within::{Question, Verdict, tell_reason};

use calling::Attempt;
use nonces::Nonces;
use notifier::Serving;
use request::Pending;
use session::Session;
use subscriber::Watching;

/// Methods that the agent understands in every dialog, as Allow says them.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE, NOTIFY";

/// Extensions that the agent understands, as Supported says them.
const SUPPORTED: &str = "100rel, timer, replaces, norefersub, from-change";

/// Most dialogs at a time: each is a call with media, which costs far more than this table. Subscriptions count too.
const DIALOGS_MAX: usize = 10_000;

/// Most requests of our own under way at a time: two for each dialog.
const PENDING_MAX: usize = 20_000;

/// Number of a dialog of our own agent, never used again within one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId(pub(crate) u64);

/// Number of a request of our own agent that makes no dialog, never used again within one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentRequestId(pub(crate) u64);

/// Number of a subscription, ours or with us, never used again within one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub(crate) u64);

/// Whose timer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum TimerKey {
    Attempt(DialogId),
    Session(DialogId),
    Watching(SubscriptionId),
    Serving(SubscriptionId),
}

/// All dialogs, requests and subscriptions of one worker.
pub(crate) struct Agent {
    settings: TimerSettings,
    last_id: u64,
    sessions: HashMap<DialogId, Session>,
    /// By Call-ID and both tags.
    keys: HashMap<String, DialogId>,
    attempts: HashMap<DialogId, Attempt>,
    pending: HashMap<TransactionId, Pending>,
    nonces: Nonces,
    watching: HashMap<SubscriptionId, Watching>,
    /// Subscriptions that a NOTIFY may make a dialog for, by Call-ID and our tag.
    awaited: HashMap<String, SubscriptionId>,
    serving: HashMap<SubscriptionId, Serving>,
    /// Subscriptions to tell of once the answer under way is out.
    due: Vec<SubscriptionId>,
    timers: TimerQueue<TimerKey>,
}

impl Agent {
    pub(crate) fn new(settings: TimerSettings) -> Agent {
        Agent {
            settings,
            last_id: 0,
            sessions: HashMap::new(),
            keys: HashMap::new(),
            attempts: HashMap::new(),
            pending: HashMap::new(),
            nonces: Nonces::default(),
            watching: HashMap::new(),
            awaited: HashMap::new(),
            serving: HashMap::new(),
            due: Vec::new(),
            timers: TimerQueue::new(),
        }
    }

    /// A number for a dialog that is about to begin.
    pub(crate) fn fresh_id(&mut self) -> DialogId {
        self.last_id += 1;
        DialogId(self.last_id)
    }

    /// How many dialogs, calls and subscriptions there are; for tests of its bounds.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len() + self.attempts.len() + self.watching.len() + self.serving.len() + self.pending.len()
    }

    fn has_room(&self) -> bool {
        self.sessions.len() + self.attempts.len() < DIALOGS_MAX && self.pending.len() < PENDING_MAX
    }

    /// Lets all timers due fire.
    pub(crate) fn handle_timeout(&mut self, stack: &mut Stack<'_>) {
        while let Some(key) = self.timers.pop_due(stack.now) {
            match key {
                TimerKey::Attempt(call) => self.handle_attempt_timeout(stack, call),
                TimerKey::Session(id) => self.handle_session_timeout(stack, id),
                TimerKey::Watching(id) => self.handle_watching_timeout(stack, id),
                TimerKey::Serving(id) => self.handle_serving_timeout(stack, id),
            }
        }
    }

    /// The next timer.
    pub(crate) fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        self.timers.next()
    }

    /// The dialog that a request belongs to.
    fn find(&self, request: &Message, flow: &Flow) -> Option<DialogId> {
        let local = request.to_tag()?;
        let remote = request.from_tag();
        let id = *self.keys.get(key(request.call_id(), local, remote).as_str())?;
        self.sessions.get(&id)?.dialog.is_from_peer(request, flow).then_some(id)
    }

    /// The dialog that a request names by its tags though it does not come from there, and whose it is.
    pub(crate) fn find_moved(&self, request: &Message, flow: &Flow) -> Option<(DialogId, String)> {
        let local = request.to_tag()?;
        let remote = request.from_tag()?;
        let id = *self.keys.get(key(request.call_id(), local, Some(remote)).as_str())?;
        let dialog = &self.sessions.get(&id)?.dialog;
        // What is at the other end of a peer link comes over it, wherever its phone is.
        let may_move = flow.remote().is_some() && dialog.destination.transport() != Transport::Peer;
        Some((id, dialog.peer().filter(|_| may_move)?))
    }

    /// Lets requests of a dialog come from where this one came from, too.
    pub(crate) fn admit(&mut self, id: DialogId, flow: &Flow) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.dialog.admit(flow);
        }
    }

    /// The dialog of a response to a request of ours.
    fn find_by_response(&self, response: &Message) -> Option<DialogId> {
        let local = response.from_tag()?;
        let remote = response.to_tag()?;
        self.keys.get(key(response.call_id(), local, Some(remote)).as_str()).copied()
    }

    fn insert(&mut self, id: DialogId, session: Session) {
        self.keys.insert(session.key().as_str().to_owned(), id);
        self.sessions.insert(id, session);
    }

    /// Forgets a dialog once neither a session nor a subscription needs it.
    fn sweep(&mut self, id: DialogId) {
        if !self.sessions.get(&id).is_some_and(Session::is_useless) {
            return;
        }
        if let Some(mut session) = self.sessions.remove(&id) {
            self.timers.rearm(TimerKey::Session(id), &mut session.armed, None);
            self.keys.remove(session.key().as_str());
        }
    }
}

fn key(call_id: &str, local_tag: &str, remote_tag: Option<&str>) -> Short {
    let mut key = Short::new(call_id);
    for tag in [local_tag, remote_tag.unwrap_or_default()] {
        key.push("\n");
        key.push(tag);
    }
    key
}

/// Value of Allow in a dialog where the node answers these methods itself.
fn allow(handles: &[Method]) -> String {
    let mut allow = ALLOW.to_owned();
    for method in handles {
        let name = method.as_str();
        if !name.is_empty() && !ALLOW.split(", ").any(|known| known == name) {
            allow.push_str(", ");
            allow.push_str(name);
        }
    }
    allow
}
