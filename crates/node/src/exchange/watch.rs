//! What is remembered of the messages of calls, for people who look: how each call went, for the histories of accounts, and its *ladder*, the
//! messages themselves, for whoever runs the node.
//!
//! Each worker has a watch of its own, since all messages of a Call-ID pass through one. It keeps what is there anyway: a pointer to the
//! parsed message. Text is made of it when somebody looks, and secrets are left out then ([`text_of`]). Of few calls a second ladders are kept,
//! so that a busy node does not turn its caches over for nobody: the others go on unwatched but for their histories.

use std::collections::VecDeque;
use std::collections::hash_map::Entry as Slot;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meshtone_sip::message::{Header, Message, Method, Uri};
use meshtone_sip::transport::{Destination, Flow};
use rustc_hash::{FxHashMap, FxHasher};

use super::guard::{Bucket, Rate};
use crate::person::history::{Change, History, Place};
use crate::text::is_harmful;

/// Calls of one worker that are watched at a time; with eight workers as many as a small machine carries.
const MAX_CALLS: usize = 4096;
/// Calls of one worker whose ladders are kept, over ones among them.
const MAX_LADDERS: usize = 32;
/// Messages of one ladder: some thirty of a call with every trimming, and hours of session timers.
const MAX_MESSAGES: usize = 200;
/// Bytes of all messages in the ladders of one worker.
const MAX_BYTES: usize = 2 << 20;
/// Messages of one worker that may turn out to be the beginning of a call: its first INVITE, the challenge and the ACK, while the caller's
/// phone answers the challenge. Under a flood the oldest go, and ladders begin later.
const MAX_BEGINNINGS: usize = 64;
/// A message that is longer is none of them; together they have no more bytes than a few ladders.
const MAX_BEGINNING: usize = 8 << 10;
/// A phone that was challenged comes back within that time.
const BEGINS_WITHIN_MS: u64 = 32_000;
/// How many calls begin a ladder at one worker.
const LADDERS: Rate = Rate { burst: 20, per_hour: 7200 };
/// A call whose end nobody told is not watched for longer.
const LONGEST_MS: u64 = 24 * 3600 * 1000;

/// The watches of all workers.
pub(crate) struct Watches {
    workers: Vec<Mutex<Watch>>,
    history: Arc<History>,
}

/// The calls of one worker.
#[derive(Default)]
struct Watch {
    calls: FxHashMap<u64, Watched>,
    /// Calls that belong to another one: those that this node itself makes for it.
    legs: FxHashMap<u64, u64>,
    /// Calls with ladders, as they began.
    ladders: VecDeque<u64>,
    bytes: usize,
    rate: Bucket,
    /// What came and went of calls that nobody has begun yet.
    beginnings: VecDeque<(u64, Step)>,
    hasher: BuildHasherDefault<FxHasher>,
}

/// A call that is watched.
struct Watched {
    began_ms: u64,
    call_id: String,
    /// Whose calls it is.
    places: Vec<Place>,
    /// This node itself makes it.
    is_own: bool,
    /// Another phone took it, as the caller's side says.
    is_elsewhere: bool,
    state: State,
    ladder: Option<Ladder>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ringing,
    Answered { at_ms: u64 },
    Over { answered_ms: Option<u64>, at_ms: u64, status: u16 },
}

#[derive(Default)]
struct Ladder {
    from: String,
    to: String,
    messages: Vec<Step>,
    /// Messages that were not kept.
    left_out: usize,
    bytes: usize,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
    /// From this node to itself: where its agent takes part in a call.
    Within,
}

/// Where the INVITE of a call came from.
#[derive(Debug, Clone, Copy)]
pub(super) enum From<'a> {
    /// This flow.
    Flow(&'a Flow),
    /// It is known already, or does not matter.
    Anywhere,
    /// This node itself, for somebody outside.
    Itself,
}

/// An end of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallEnd {
    /// What the call is known by here.
    pub(crate) call_id: String,
    pub(crate) is_caller: bool,
}

/// A message on its way.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) at_ms: u64,
    /// The other side.
    pub(crate) with: With,
    /// Whether it was sent from here.
    pub(crate) is_sent: bool,
    pub(crate) message: Message,
}

/// Who is at the other side.
#[derive(Debug, Clone)]
pub(crate) enum With {
    Flow(Flow),
    Destination(Destination),
}

/// A call, as people are shown it.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) call_id: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) began_ms: u64,
    pub(crate) answered_ms: Option<u64>,
    pub(crate) ended_ms: Option<u64>,
    /// The last status, once it is over.
    pub(crate) status: Option<u16>,
    pub(crate) messages: Vec<Step>,
    pub(crate) left_out: usize,
}

impl Watches {
    pub(crate) fn new(workers: usize, history: Arc<History>) -> Watches {
        Watches { workers: (0..workers).map(|_| Mutex::default()).collect(), history }
    }

    /// A call begins that came in as this INVITE; `place` is whose history it stands in.
    pub(super) fn begin(&self, worker: usize, now_ms: u64, invite: &Message, from: From<'_>, place: Option<Place>) {
        let Some(mut watch) = self.watch(worker) else { return };
        watch.begin(now_ms, invite, from, place);
    }

    /// The call of `far` is one that this node makes for that of `near`.
    pub(super) fn belongs(&self, worker: usize, near: &str, far: &str) {
        let Some(mut watch) = self.watch(worker) else { return };
        let (near, far) = (watch.hash(near), watch.hash(far));
        if watch.calls.contains_key(&near) {
            watch.legs.insert(far, near);
        }
    }

    /// A message came.
    pub(super) fn received(&self, worker: usize, now_ms: u64, flow: &Flow, message: &Message) {
        if !is_of_call(message) {
            return;
        }
        let Some(mut watch) = self.watch(worker) else { return };
        watch.on_message(now_ms, message, || With::Flow(flow.clone()), Way::In, &self.history);
    }

    /// A message goes, maybe to this node itself.
    pub(super) fn sent(
        &self,
        worker: usize,
        now_ms: u64,
        destination: &Destination,
        is_to_itself: bool,
        message: &Message,
    ) {
        if !is_of_call(message) {
            return;
        }
        let Some(mut watch) = self.watch(worker) else { return };
        let way = if is_to_itself { Way::Within } else { Way::Out };
        watch.on_message(now_ms, message, || With::Destination(destination.clone()), way, &self.history);
    }

    /// Forgets what nobody ends.
    pub(super) fn tidy(&self, worker: usize, now_ms: u64) {
        let Some(mut watch) = self.watch(worker) else { return };
        watch.tidy(now_ms);
    }

    /// The calls whose ladders are kept, newest first.
    pub(crate) fn all(&self) -> Vec<Shown> {
        let of = |worker: usize| -> Vec<Shown> {
            let Some(watch) = self.watch(worker) else { return Vec::new() };
            watch.calls.values().filter_map(|call| call.shown(false)).collect()
        };
        let mut all: Vec<Shown> = (0..self.workers.len()).flat_map(of).collect();
        all.sort_by(|left, right| (right.began_ms, &right.call_id).cmp(&(left.began_ms, &left.call_id)));
        all
    }

    /// One of them, with its messages.
    pub(crate) fn find(&self, call_id: &str) -> Option<Shown> {
        (0..self.workers.len()).find_map(|worker| {
            let watch = self.watch(worker)?;
            let hash = watch.hash(call_id);
            let near = watch.legs.get(&hash).copied().unwrap_or(hash);
            watch.calls.get(&near)?.shown(true)
        })
    }

    /// What the newest message that came over this flow says, of those that say something.
    pub(crate) fn last_said<T>(&self, flow: &Flow, says: impl Fn(&Message) -> Option<T>) -> Option<T> {
        let is_from_there = |step: &&Step| !step.is_sent && matches!(&step.with, With::Flow(from) if from == flow);
        let of = |worker: usize| {
            let watch = self.watch(worker)?;
            let steps =
                watch.calls.values().filter_map(|call| call.ladder.as_ref()).flat_map(|ladder| &ladder.messages);
            let said = steps.filter(is_from_there).filter_map(|step| Some((step.at_ms, says(&step.message)?)));
            said.max_by_key(|(at_ms, _)| *at_ms)
        };
        let newest = (0..self.workers.len()).filter_map(of).max_by_key(|(at_ms, _)| *at_ms);
        newest.map(|(_, said)| said)
    }

    /// Which end of a call somebody is, by the account that the call stands in the history of, or by what its INVITE says; `None` where that is
    /// nobody's call of hers.
    pub(crate) fn end_of(&self, call_id: &str, user: &str, address: &str) -> Option<CallEnd> {
        (0..self.workers.len()).find_map(|worker| {
            let watch = self.watch(worker)?;
            let hash = watch.hash(call_id);
            let near = watch.legs.get(&hash).copied().unwrap_or(hash);
            watch.calls.get(&near)?.end_of(user, address)
        })
    }

    /// A panic elsewhere leaves a watch that may lack a message.
    fn watch(&self, worker: usize) -> Option<MutexGuard<'_, Watch>> {
        Some(self.workers.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether a message may be of a call: registrations, which are most of what there is, are not.
fn is_of_call(message: &Message) -> bool {
    let method =
        if message.is_request() { message.method_name() } else { message.cseq().map_or("", |cseq| cseq.method) };
    !matches!(method, "" | "REGISTER" | "OPTIONS" | "SUBSCRIBE" | "PUBLISH" | "MESSAGE")
}

/// Whether a message may be of the beginning of a call: an INVITE outside of dialogs that comes, a challenge to one that goes, or the ACK to
/// that.
fn may_begin(way: Way, message: &Message) -> bool {
    let is_first = match (way, message.is_request()) {
        (Way::In, true) if message.method() == Method::Invite => message.to_tag().is_none(),
        (Way::In, true) => message.method() == Method::Ack,
        (Way::Out, false) => {
            matches!(message.status(), 401 | 407) && message.cseq().is_ok_and(|cseq| cseq.method == "INVITE")
        }
        (Way::In, false) | (Way::Out, true) | (Way::Within, _) => false,
    };
    is_first && message.bytes().len() <= MAX_BEGINNING
}

impl Watch {
    fn hash(&self, call_id: &str) -> u64 {
        self.hasher.hash_one(call_id)
    }

    fn begin(&mut self, now_ms: u64, invite: &Message, from: From<'_>, place: Option<Place>) {
        let hash = self.hash(invite.call_id());
        if let Some(call) = self.calls.get_mut(&hash) {
            if call.is_over() {
                // A phone tries once more under the same name.
                call.places.clear();
                (call.state, call.is_elsewhere) = (State::Ringing, false);
            }
            // Or the other end of it is an account here as well.
            call.places.extend(place);
            return;
        }
        if self.calls.len() >= MAX_CALLS {
            self.tidy(now_ms);
        }
        // One that belongs to another stands in that one's ladder.
        let wants_ladder = !self.legs.contains_key(&hash) && self.rate.take(now_ms, LADDERS);
        if self.calls.len() >= MAX_CALLS || (place.is_none() && !wants_ladder) {
            return;
        }
        let ladder = wants_ladder.then(|| {
            let address = |name: Result<meshtone_sip::message::NameAddr<'_>, _>| {
                name.map_or_else(|_| String::new(), |name| name.uri.to_owned())
            };
            Ladder { from: address(invite.from()), to: address(invite.to()), ..Ladder::default() }
        });
        let call = Watched {
            began_ms: now_ms,
            call_id: invite.call_id().to_owned(),
            places: place.into_iter().collect(),
            is_own: matches!(from, From::Itself),
            is_elsewhere: false,
            state: State::Ringing,
            ladder,
        };
        let has_ladder = call.ladder.is_some();
        self.calls.insert(hash, call);
        if has_ladder {
            self.ladders.push_back(hash);
            self.make_room();
            // They passed before anybody knew that they begin a call.
            let mut knows_invite = false;
            for step in self.take_beginning(now_ms, hash) {
                knows_invite |= step.message.bytes() == invite.bytes();
                self.keep(hash, step);
            }
            if let From::Flow(flow) = from
                && !knows_invite
            {
                self.keep(
                    hash,
                    Step { at_ms: now_ms, with: With::Flow(flow.clone()), is_sent: false, message: invite.clone() },
                );
            }
        }
    }

    fn on_message(&mut self, now_ms: u64, message: &Message, with: impl FnOnce() -> With, way: Way, history: &History) {
        let may_begin = may_begin(way, message);
        if self.calls.is_empty() && !may_begin {
            return;
        }
        let hash = self.hash(message.call_id());
        if may_begin && !self.calls.contains_key(&hash) && !self.legs.contains_key(&hash) {
            if self.beginnings.len() >= MAX_BEGINNINGS {
                self.beginnings.pop_front();
            }
            let step = Step { at_ms: now_ms, with: with(), is_sent: way == Way::Out, message: message.clone() };
            self.beginnings.push_back((hash, step));
            return;
        }
        // What is said on another leg is part of the ladder, and decides nothing: that is told to the near side.
        if let Some(call) = self.calls.get_mut(&hash) {
            call.follow(now_ms, message, way, history);
            if call.ladder.is_none() && call.is_over() {
                self.calls.remove(&hash);
            }
        }
        if way == Way::Within {
            return;
        }
        let near = self.legs.get(&hash).copied().unwrap_or(hash);
        if self.calls.get(&near).is_some_and(|call| call.ladder.is_some()) {
            let step = Step { at_ms: now_ms, with: with(), is_sent: way == Way::Out, message: message.clone() };
            self.keep(near, step);
        }
    }

    /// What has passed of a call before it began.
    fn take_beginning(&mut self, now_ms: u64, hash: u64) -> Vec<Step> {
        let mut found = Vec::new();
        self.beginnings.retain(|(of, step)| {
            let is_recent = now_ms.saturating_sub(step.at_ms) <= BEGINS_WITHIN_MS;
            if *of == hash && is_recent {
                found.push(step.clone());
            }
            *of != hash && is_recent
        });
        found
    }

    fn keep(&mut self, hash: u64, step: Step) {
        let Some(ladder) = self.calls.get_mut(&hash).and_then(|call| call.ladder.as_mut()) else { return };
        if ladder.messages.len() >= MAX_MESSAGES {
            ladder.left_out += 1;
            return;
        }
        let len = step.message.bytes().len();
        ladder.bytes += len;
        ladder.messages.push(step);
        self.bytes += len;
        self.make_room();
    }

    /// The oldest ladders go; a call whose ladder goes while it stands is watched on for its history.
    fn make_room(&mut self) {
        while self.ladders.len() > MAX_LADDERS || (self.bytes > MAX_BYTES && self.ladders.len() > 1) {
            let Some(oldest) = self.ladders.pop_front() else { return };
            let Some(call) = self.calls.get_mut(&oldest) else { continue };
            self.bytes = self.bytes.saturating_sub(call.ladder.take().map_or(0, |ladder| ladder.bytes));
            if call.is_over() || call.places.is_empty() {
                self.forget(oldest);
            }
        }
    }

    fn forget(&mut self, hash: u64) {
        if let Slot::Occupied(slot) = self.calls.entry(hash) {
            let call = slot.remove();
            self.bytes = self.bytes.saturating_sub(call.ladder.map_or(0, |ladder| ladder.bytes));
        }
        self.ladders.retain(|other| *other != hash);
        self.legs.retain(|_, near| *near != hash);
    }

    fn tidy(&mut self, now_ms: u64) {
        let lost: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| now_ms.saturating_sub(call.began_ms) > LONGEST_MS)
            .map(|(hash, _)| *hash)
            .collect();
        lost.into_iter().for_each(|hash| self.forget(hash));
        let calls = &self.calls;
        self.legs.retain(|_, near| calls.contains_key(near));
    }
}

impl Watched {
    fn is_over(&self) -> bool {
        matches!(self.state, State::Over { .. })
    }

    /// Takes from a message what has become of the call.
    fn follow(&mut self, now_ms: u64, message: &Message, way: Way, history: &History) {
        // A branch that this node takes itself answers within; whoever made the call is answered where he is.
        let is_answer = way == if self.is_own { Way::Within } else { Way::Out };
        let is_invite = || message.cseq().is_ok_and(|cseq| cseq.method == "INVITE");
        match self.state {
            State::Ringing if !message.is_request() && is_answer && is_invite() => match message.status() {
                100..=199 | 401 | 407 => {}
                200..=299 => {
                    self.state = State::Answered { at_ms: now_ms };
                    self.tell(now_ms, Change::Answered, history);
                }
                status => {
                    self.state = State::Over { answered_ms: None, at_ms: now_ms, status };
                    let (reason, elsewhere) = (message.reason(), self.is_elsewhere);
                    self.tell(now_ms, Change::Failed { status, reason, elsewhere }, history);
                }
            },
            State::Ringing if way == Way::In && message.is_request() && message.method() == Method::Cancel => {
                // RFC 3326: another branch of the caller's node was answered.
                let mut reasons = message.fields(Header::Reason);
                self.is_elsewhere = reasons.any(|reason| reason.contains("cause=200"));
            }
            State::Answered { at_ms } if message.is_request() && message.method() == Method::Bye => {
                self.state = State::Over { answered_ms: Some(at_ms), at_ms: now_ms, status: 200 };
                self.tell(now_ms, Change::Ended, history);
            }
            State::Ringing | State::Answered { .. } | State::Over { .. } => {}
        }
    }

    fn tell(&self, now_ms: u64, change: Change<'_>, history: &History) {
        self.places.iter().for_each(|place| history.change(now_ms, place, change));
    }

    fn end_of(&self, user: &str, address: &str) -> Option<CallEnd> {
        let ladder = self.ladder.as_ref()?;
        let is_she = |uri: &str| Uri::parse(uri).is_ok_and(|uri| uri.address_of_record() == address);
        let (is_caller, is_callee) = (is_she(&ladder.from), is_she(&ladder.to));
        let has_part = is_caller || is_callee || self.places.iter().any(|place| place.user == user);
        has_part.then(|| CallEnd { call_id: self.call_id.clone(), is_caller })
    }

    fn shown(&self, with_messages: bool) -> Option<Shown> {
        let ladder = self.ladder.as_ref()?;
        let (answered_ms, ended_ms, status) = match self.state {
            State::Ringing => (None, None, None),
            State::Answered { at_ms } => (Some(at_ms), None, None),
            State::Over { answered_ms, at_ms, status } => (answered_ms, Some(at_ms), Some(status)),
        };
        Some(Shown {
            call_id: self.call_id.clone(),
            from: ladder.from.clone(),
            to: ladder.to.clone(),
            began_ms: self.began_ms,
            answered_ms,
            ended_ms,
            status,
            messages: if with_messages { ladder.messages.clone() } else { Vec::new() },
            left_out: ladder.left_out,
        })
    }
}

/// Fields that say a secret, or what is as good as one for a while.
const SECRET_FIELDS: [&str; 4] = ["authorization", "proxy-authorization", "authentication-info", "flow-timer"];
/// Lines of a description that say one (RFC 4568, RFC 8839 §5.4, RFC 4567).
const SECRET_LINES: [&str; 4] = ["a=crypto:", "a=ice-pwd:", "a=key-mgmt:", "k="];
/// In place of a secret.
const REDACTED: &str = "[redacted]";

/// A message as people may see it: without credentials and media keys, and without what would do something to a terminal or a page.
pub(crate) fn text_of(message: &Message) -> String {
    let text = String::from_utf8_lossy(message.bytes());
    let mut shown = String::with_capacity(text.len());
    // A field that is folded goes on in the next line.
    let mut hides = false;
    let mut is_body = false;
    for line in text.split("\r\n").flat_map(|line| line.split('\n')) {
        let folded = line.starts_with([' ', '\t']) && !is_body;
        is_body |= line.is_empty();
        if !folded {
            hides = false;
        }
        let lower = line.to_ascii_lowercase();
        let name = lower.split_once(':').map_or("", |(name, _)| name.trim());
        let secret = SECRET_LINES.iter().find(|start| lower.starts_with(*start));
        if folded && hides {
            continue;
        } else if !is_body && SECRET_FIELDS.contains(&name) {
            hides = true;
            let name = line.split_once(':').map_or("", |(name, _)| name);
            shown.push_str(&format!("{name}: {REDACTED}"));
        } else if let Some(start) = secret {
            shown.push_str(start);
            shown.push_str(REDACTED);
        } else {
            shown.extend(line.chars().map(|character| if is_harmful(character) { '\u{fffd}' } else { character }));
        }
        shown.push('\n');
    }
    shown.truncate(shown.trim_end().len());
    shown
}

#[cfg(test)]
mod tests;
