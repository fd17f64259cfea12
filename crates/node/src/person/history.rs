//! The calls of accounts, whichever phones had them. While a call goes on it is in the memory of the node that has it; when it is over it
//! belongs to the account at all home nodes ([`super::belongings`]). A call that rang at several of them is shown as one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use utoipa::ToSchema;

use super::belongings::{Belongings, Kind};
use super::contacts::{self, MAX_ADDRESS_LEN};
use crate::store::cbor::to_cbor;
use crate::store::{Store, StoreError, Table};
use crate::text::harmless;

/// Calls remembered of one account.
pub(crate) const MAX_OF_ACCOUNT: usize = 200;
/// Calls that go on, of all accounts; more than a node can carry. The oldest of them makes room.
const MAX_GOING_ON: usize = 20_000;
/// Between the moments of two calls in their numbers; below that is what tells calls of one moment at several nodes apart.
const NUMBERS_OF_MS: u64 = 1_000_000;
/// Within this time of each other, calls with the same person that two nodes have had are one: the caller's node rang at both.
const SAME_WITHIN_MS: u64 = 5_000;
/// Longest name of a caller, in characters.
const MAX_NAME: usize = 64;
/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 120;
/// Changes that a slow listener may lag behind before it reads everything anew.
const CHANGES_KEPT: usize = 256;

/// Which way a call went, as the account's owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// She was called.
    In,
    /// She called.
    Out,
}

/// How a call stands or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It is being made.
    Ringing,
    /// It was answered; it goes on where it has no end.
    Answered,
    /// She did not take it.
    Missed,
    /// Whoever was called was busy.
    Busy,
    /// Whoever was called did not want it.
    Refused,
    /// Whoever called gave up.
    Cancelled,
    /// It did not come about.
    Failed,
    /// Another phone or node took it.
    Elsewhere,
    /// The caller is on her block list.
    Blocked,
    /// She does not want to be disturbed.
    NotDisturbed,
}

/// A call of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Grows with time; of calls at one moment the node that had it decides.
    pub(crate) id: u64,
    pub(crate) direction: Direction,
    /// Whom the call was with.
    pub(crate) address: String,
    /// How he calls himself.
    pub(crate) name: Option<String>,
    /// Whether it was proven that he is who he says.
    pub(crate) verified: bool,
    pub(crate) started_ms: u64,
    pub(crate) answered_ms: Option<u64>,
    pub(crate) ended_ms: Option<u64>,
    pub(crate) outcome: Outcome,
    /// The last answer's status, and its words, where it was not answered.
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<String>,
    pub(crate) seen: bool,
}

/// A call that begins.
#[derive(Debug, Clone)]
pub(crate) struct NewCall<'a> {
    pub(crate) direction: Direction,
    pub(crate) address: &'a str,
    pub(crate) name: Option<&'a str>,
    pub(crate) verified: bool,
}

/// What has become of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    Answered,
    /// It was not: by this answer; `elsewhere` where the caller's side said that another phone took it.
    Failed {
        status: u16,
        reason: &'a str,
        elsewhere: bool,
    },
    /// It was answered, and is over.
    Ended,
    /// It does not ring, by the wish of who was called.
    Unwanted(Outcome),
}

/// Which call is meant; whoever made it keeps this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) user: String,
    id: u64,
}

/// (direction is out, address, name, verified, started, answered, ended, outcome, status, reason, seen)
#[derive(Serialize, Deserialize)]
struct Kept(
    bool,
    String,
    Option<String>,
    bool,
    u64,
    Option<u64>,
    Option<u64>,
    Outcome,
    Option<u16>,
    Option<String>,
    bool,
);

#[derive(Default)]
struct State {
    /// Those that go on.
    going_on: HashMap<String, BTreeMap<u64, Entry>>,
    order: BTreeSet<(u64, String)>,
    last_ms: u64,
}

/// The calls of all accounts.
pub(crate) struct History {
    state: Mutex<State>,
    belongings: Arc<Belongings>,
    /// What the numbers of this node's calls end with.
    tag: u64,
    changes: broadcast::Sender<(String, Entry)>,
}

impl History {
    /// The calls among what belongs to accounts; those that an earlier release has kept at this node alone are taken over.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub(crate) fn open(store: &Store, belongings: Arc<Belongings>) -> Result<History, StoreError> {
        contacts::take_over(store, &belongings)?;
        for (key, bytes) in store.load(Table::History)? {
            if let Some((user, id)) = key.split_once('\u{1}') {
                belongings.put(user, Kind::Call, id, Some(bytes));
            }
            store.put(Table::History, &key, None);
        }
        let tag = belongings
            .node()
            .as_bytes()
            .iter()
            .fold(0, |sum: u64, byte| (sum * 257 + u64::from(*byte)) % NUMBERS_OF_MS);
        let last_ms = belongings.newest_call().unwrap_or_default() / NUMBERS_OF_MS;
        let state = State { last_ms, ..State::default() };
        Ok(History { state: Mutex::new(state), belongings, tag, changes: broadcast::channel(CHANGES_KEPT).0 })
    }

    /// A call begins that an account has part in.
    pub(crate) fn begin(&self, now_ms: u64, user: &str, call: &NewCall<'_>) -> Place {
        let mut state = self.state();
        state.last_ms = now_ms.max(state.last_ms.saturating_add(1));
        let id = state.last_ms.saturating_mul(NUMBERS_OF_MS).saturating_add(self.tag);
        let entry = Entry {
            id,
            direction: call.direction,
            address: call.address.to_owned(),
            name: call.name.and_then(|name| shown(name, MAX_NAME)),
            verified: call.verified,
            started_ms: now_ms,
            answered_ms: None,
            ended_ms: None,
            outcome: Outcome::Ringing,
            status: None,
            reason: None,
            // What she did herself she knows.
            seen: call.direction == Direction::Out,
        };
        self.tell(user, &entry);
        let of_user = state.going_on.entry(user.to_owned()).or_default();
        let crowded = (of_user.len() >= MAX_OF_ACCOUNT).then(|| of_user.keys().next().copied()).flatten();
        of_user.insert(id, entry);
        state.order.insert((id, user.to_owned()));
        if let Some(oldest) = crowded {
            state.forget(user, oldest);
        }
        while state.order.len() > MAX_GOING_ON {
            let Some((id, user)) = state.order.first().cloned() else { break };
            state.forget(&user, id);
        }
        Place { user: user.to_owned(), id }
    }

    /// Takes note of what has become of a call.
    pub(crate) fn change(&self, now_ms: u64, place: &Place, change: Change<'_>) {
        let mut state = self.state();
        let entry = state.going_on.get_mut(&place.user).and_then(|all| all.get_mut(&place.id));
        let Some(entry) = entry else { return };
        if !entry.apply(now_ms, change) {
            return;
        }
        self.tell(&place.user, entry);
        if entry.ended_ms.is_some() {
            let written = written(entry);
            state.forget(&place.user, place.id);
            self.belongings.put(&place.user, Kind::Call, &id_text(place.id), Some(written));
        }
    }

    /// The calls of an account before one of them, or all, newest first.
    pub(crate) fn of(&self, user: &str, before: Option<u64>, limit: usize) -> Vec<Entry> {
        let mut all: Vec<Entry> = {
            let state = self.state();
            state.going_on.get(user).map(|all| all.values().cloned().collect()).unwrap_or_default()
        };
        let seen = self.belongings.marked(user, Kind::Seen).unwrap_or_default();
        all.extend(self.belongings.of(user, Kind::Call).into_iter().filter_map(|(id, bytes)| {
            let mut entry = read(&id, &bytes)?;
            entry.seen |= entry.id <= seen;
            Some(entry)
        }));
        all.sort_by_key(|entry| std::cmp::Reverse(entry.id));
        // What was written down as the node ends goes on here still.
        all.dedup_by_key(|entry| entry.id);
        let all = as_one(all).into_iter();
        all.filter(|entry| before.is_none_or(|before| entry.id < before)).take(limit).collect()
    }

    /// She has seen them all.
    pub(crate) fn see(&self, user: &str) {
        let all = self.of(user, None, usize::MAX);
        if let Some(newest) = all.first().filter(|_| all.iter().any(|entry| !entry.seen)) {
            self.state()
                .going_on
                .get_mut(user)
                .into_iter()
                .flat_map(BTreeMap::values_mut)
                .for_each(|entry| entry.seen = true);
            self.belongings.mark(user, Kind::Seen, newest.id);
        }
    }

    /// Clears all calls of an account away.
    pub(crate) fn clear(&self, user: &str) {
        let newest = self.of(user, None, 1).first().map(|entry| entry.id);
        self.state().forget_user(user);
        if let Some(newest) = newest {
            self.belongings.mark(user, Kind::Cleared, newest);
        }
    }

    /// Forgets all that belonged to an account that is gone, or, where there is another one of that name, to the one before.
    pub(crate) fn forget_before(&self, user: &str, since_ms: Option<u64>) {
        if since_ms.is_none() {
            self.state().forget_user(user);
        }
        self.belongings.forget_before(user, since_ms);
    }

    /// Writes down the calls that go on, before the node ends.
    pub(crate) fn write_all(&self) {
        let state = self.state();
        for (user, all) in &state.going_on {
            for entry in all.values().filter(|entry| entry.answered_ms.is_some()) {
                self.belongings.put(user, Kind::Call, &id_text(entry.id), Some(written(entry)));
            }
        }
    }

    /// Says what changes from now on of the calls at this node.
    pub(crate) fn changes(&self) -> broadcast::Receiver<(String, Entry)> {
        self.changes.subscribe()
    }

    fn tell(&self, user: &str, entry: &Entry) {
        if self.changes.receiver_count() > 0 {
            let _ = self.changes.send((user.to_owned(), entry.clone()));
        }
    }

    /// A panic elsewhere leaves whole entries behind.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, user: &str, id: u64) {
        self.order.remove(&(id, user.to_owned()));
        if let Some(all) = self.going_on.get_mut(user) {
            all.remove(&id);
            if all.is_empty() {
                self.going_on.remove(user);
            }
        }
    }

    fn forget_user(&mut self, user: &str) {
        for id in self.going_on.remove(user).unwrap_or_default().into_keys() {
            self.order.remove(&(id, user.to_owned()));
        }
    }
}

/// Makes one of what several nodes have of a call; the entries come newest first, and so they go.
fn as_one(all: Vec<Entry>) -> Vec<Entry> {
    let mut told: Vec<Entry> = Vec::new();
    for entry in all {
        let is_same = |other: &&mut Entry| {
            other.id % NUMBERS_OF_MS != entry.id % NUMBERS_OF_MS
                && (other.direction, &other.address) == (entry.direction, &entry.address)
                && other.started_ms.abs_diff(entry.started_ms) <= SAME_WITHIN_MS
        };
        let near = told
            .iter_mut()
            .rev()
            .take_while(|other| other.started_ms.saturating_sub(entry.started_ms) <= SAME_WITHIN_MS);
        match near.into_iter().find(is_same) {
            Some(other) => {
                let seen = other.seen || entry.seen;
                if entry.outcome.rank() < other.outcome.rank() {
                    *other = entry;
                }
                other.seen = seen;
            }
            None => told.push(entry),
        }
    }
    told
}

impl Outcome {
    /// Which of several nodes' words about a call counts: the lowest.
    fn rank(self) -> u8 {
        match self {
            Outcome::Answered => 0,
            Outcome::Ringing => 1,
            Outcome::Blocked | Outcome::NotDisturbed => 2,
            Outcome::Busy | Outcome::Refused => 3,
            Outcome::Missed | Outcome::Cancelled => 4,
            Outcome::Failed => 5,
            Outcome::Elsewhere => 6,
        }
    }
}

impl Entry {
    /// Whether it is another one by that.
    fn apply(&mut self, now_ms: u64, change: Change<'_>) -> bool {
        let is_ringing = self.outcome == Outcome::Ringing;
        match change {
            Change::Answered if is_ringing => {
                self.outcome = Outcome::Answered;
                self.answered_ms = Some(now_ms);
                self.seen = true;
            }
            Change::Failed { status, reason, elsewhere } if is_ringing => {
                self.outcome = outcome_of(self.direction, status, elsewhere);
                self.status = Some(status);
                self.reason = shown(reason, MAX_REASON);
                self.ended_ms = Some(now_ms);
                // That another phone of hers took it is no news.
                self.seen |= elsewhere;
            }
            Change::Unwanted(outcome) if is_ringing => {
                self.outcome = outcome;
                self.ended_ms = Some(now_ms);
                self.seen |= outcome == Outcome::Blocked;
            }
            Change::Ended if self.outcome == Outcome::Answered && self.ended_ms.is_none() => {
                self.ended_ms = Some(now_ms);
            }
            Change::Answered | Change::Failed { .. } | Change::Unwanted(_) | Change::Ended => return false,
        }
        true
    }
}

fn outcome_of(direction: Direction, status: u16, elsewhere: bool) -> Outcome {
    match (direction, status) {
        (Direction::In, _) if elsewhere => Outcome::Elsewhere,
        (_, 486 | 600) => Outcome::Busy,
        (Direction::In, 408 | 480 | 487) => Outcome::Missed,
        (Direction::Out, 487) => Outcome::Cancelled,
        (_, 403 | 433 | 603 | 607 | 608) => Outcome::Refused,
        (_, _) => Outcome::Failed,
    }
}

/// A text of somebody else's as it may be shown: without what is no character to see, and not endless.
fn shown(text: &str, most: usize) -> Option<String> {
    let text = harmless(text, most);
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Hexadecimal digits, so that later calls come after.
fn id_text(id: u64) -> String {
    format!("{id:016x}")
}

fn written(entry: &Entry) -> Vec<u8> {
    to_cbor(&Kept(
        entry.direction == Direction::Out,
        entry.address.clone(),
        entry.name.clone(),
        entry.verified,
        entry.started_ms,
        entry.answered_ms,
        entry.ended_ms,
        entry.outcome,
        entry.status,
        entry.reason.clone(),
        entry.seen,
    ))
}

/// A call as it was written, here or at another home node; what is text of others is made harmless again.
pub(crate) fn read(id: &str, bytes: &[u8]) -> Option<Entry> {
    let id = u64::from_str_radix(id, 16).ok()?;
    let Kept(is_out, address, name, verified, started_ms, answered_ms, ended_ms, outcome, status, reason, seen) =
        ciborium::from_reader(bytes).ok()?;
    let direction = if is_out { Direction::Out } else { Direction::In };
    Some(Entry {
        id,
        direction,
        address: harmless(&address, MAX_ADDRESS_LEN),
        name: name.and_then(|name| shown(&name, MAX_NAME)),
        verified,
        started_ms,
        answered_ms,
        ended_ms,
        outcome,
        status,
        reason: reason.and_then(|reason| shown(&reason, MAX_REASON)),
        seen,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use meshtone_identity::NodeId;
    use tempfile::TempDir;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn open(store: &Store, node: u8) -> History {
        let belongings = Belongings::open(store.clone(), NodeId::from_bytes([node; 32]), || NOW).unwrap();
        History::open(store, Arc::new(belongings)).unwrap()
    }

    fn opened() -> (TempDir, Store, History) {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let history = open(&store, 1);
        (folder, store, history)
    }

    #[test]
    fn a_call_that_rang_at_two_nodes_is_one_and_who_answered_it_says_what_became_of_it() {
        let (_folder, _store, here) = opened();
        let (_other_folder, other_store) = {
            let folder = TempDir::new().unwrap();
            let store = Store::open(folder.path()).unwrap();
            (folder, store)
        };
        let there = open(&other_store, 2);
        let ringing = there.begin(NOW + 400, "alice", &call(Direction::In, "bob@mesh.test"));
        there.change(NOW + 900, &ringing, failed(487, true));
        let taken = here.begin(NOW, "alice", &call(Direction::In, "bob@mesh.test"));
        here.change(NOW + 900, &taken, Change::Answered);
        here.change(NOW + 5000, &taken, Change::Ended);
        let missed = there.begin(NOW + 60_000, "alice", &call(Direction::In, "bob@mesh.test"));
        there.change(NOW + 70_000, &missed, failed(487, false));
        here.belongings.merge(there.belongings.node(), "alice", 0, there.belongings.items("alice"));
        there.belongings.merge(here.belongings.node(), "alice", 0, here.belongings.items("alice"));
        for node in [&here, &there] {
            let told: Vec<_> = node.of("alice", None, 9).iter().map(|entry| (entry.outcome, entry.seen)).collect();
            assert_eq!(told, [(Outcome::Missed, false), (Outcome::Answered, true)]);
        }
        // Two calls that one node had are two, however near.
        for _ in 0..2 {
            let place = here.begin(NOW + 80_000, "alice", &call(Direction::In, "carol@mesh.test"));
            here.change(NOW + 81_000, &place, failed(487, false));
        }
        assert_eq!(here.of("alice", None, 9).len(), 4);
        there.see("alice");
        here.belongings.merge(there.belongings.node(), "alice", 0, there.belongings.items("alice"));
        let unseen: Vec<_> =
            here.of("alice", None, 9).into_iter().filter(|entry| !entry.seen).map(|entry| entry.address).collect();
        assert_eq!(unseen, ["carol@mesh.test", "carol@mesh.test"], "those that the other node did not know");
    }

    #[test]
    fn what_an_earlier_release_has_kept_is_taken_over() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let entry = Entry {
            id: 1_800_000_000_000_000,
            direction: Direction::In,
            address: "bob@mesh.test".to_owned(),
            name: None,
            verified: true,
            started_ms: NOW,
            answered_ms: None,
            ended_ms: Some(NOW),
            outcome: Outcome::Missed,
            status: Some(487),
            reason: None,
            seen: false,
        };
        store.put(Table::History, &format!("alice\u{1}{:016x}", entry.id), Some(written(&entry)));
        store.flush().unwrap();
        let history = open(&store, 1);
        assert_eq!(history.of("alice", None, 9), std::slice::from_ref(&entry));
        assert!(history.begin(NOW, "alice", &call(Direction::Out, "bob@mesh.test")).id > entry.id);
        store.flush().unwrap();
        assert!(store.load(Table::History).unwrap().is_empty());
    }

    fn call(direction: Direction, address: &str) -> NewCall<'_> {
        NewCall { direction, address, name: Some("Bob"), verified: true }
    }

    fn failed(status: u16, elsewhere: bool) -> Change<'static> {
        Change::Failed { status, reason: "why", elsewhere }
    }

    #[test]
    fn what_became_of_a_call_is_told_in_the_words_of_whose_it_is() {
        let (_folder, _store, history) = opened();
        for (direction, change, outcome) in [
            (Direction::In, failed(487, false), Outcome::Missed),
            (Direction::In, failed(480, false), Outcome::Missed),
            (Direction::In, failed(487, true), Outcome::Elsewhere),
            (Direction::In, failed(603, false), Outcome::Refused),
            (Direction::In, Change::Unwanted(Outcome::Blocked), Outcome::Blocked),
            (Direction::Out, failed(487, false), Outcome::Cancelled),
            (Direction::Out, failed(486, false), Outcome::Busy),
            (Direction::Out, failed(404, false), Outcome::Failed),
        ] {
            let place = history.begin(NOW, "alice", &call(direction, "bob@mesh.test"));
            history.change(NOW + 1000, &place, change);
            history.change(NOW + 2000, &place, Change::Answered);
            history.change(NOW + 3000, &place, Change::Ended);
            let entry = &history.of("alice", None, 1)[0];
            assert_eq!((entry.outcome, entry.ended_ms), (outcome, Some(NOW + 1000)), "{change:?}");
            assert_eq!(entry.answered_ms, None, "it was over");
        }
    }

    #[test]
    fn calls_are_there_after_a_restart_newest_first_and_page_by_page() {
        let (_folder, store, history) = opened();
        for number in 0..5 {
            let place = history.begin(NOW + number, "alice", &call(Direction::In, &format!("{number}@mesh.test")));
            history.change(NOW + 10, &place, Change::Answered);
            history.change(NOW + 20, &place, Change::Ended);
        }
        let going_on = history.begin(NOW + 30, "alice", &call(Direction::Out, "echo@mesh.test"));
        history.change(NOW + 31, &going_on, Change::Answered);
        history.write_all();
        let before = history.of("alice", None, 100);
        drop(history);
        store.flush().unwrap();
        let history = open(&store, 1);
        assert_eq!(history.of("alice", None, 100), before);
        let addresses = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.address).collect::<Vec<_>>();
        let first = history.of("alice", None, 2);
        let next = history.of("alice", Some(first[1].id), 2);
        assert_eq!(addresses(first), ["echo@mesh.test", "4@mesh.test"]);
        assert_eq!(addresses(next), ["3@mesh.test", "2@mesh.test"]);
        let newer = history.begin(NOW - 5000, "alice", &call(Direction::Out, "x@mesh.test"));
        assert!(newer.id > before[0].id, "whatever the clock says");
        history.clear("alice");
        assert!(history.of("alice", None, 100).is_empty());
    }

    #[test]
    fn an_account_has_so_many_calls_and_the_oldest_go() {
        let (_folder, store, history) = opened();
        for number in 0..MAX_OF_ACCOUNT + 7 {
            let place = history.begin(NOW, "alice", &call(Direction::In, &format!("{number}@mesh.test")));
            history.change(NOW, &place, failed(487, false));
        }
        let all = history.of("alice", None, 1000);
        assert_eq!((all.len(), all.last().unwrap().address.as_str()), (MAX_OF_ACCOUNT, "7@mesh.test"));
        store.flush().unwrap();
        assert_eq!(store.load(Table::Belongings).unwrap().len(), MAX_OF_ACCOUNT);
        assert!(all.iter().all(|entry| !entry.seen));
        history.see("alice");
        assert!(history.of("alice", None, 1000).iter().all(|entry| entry.seen));
    }

    #[test]
    fn names_of_others_are_shown_as_text_and_not_endless() {
        let (_folder, _store, history) = opened();
        let name = format!("\u{1b}[31mEve\r\n{}", "x".repeat(1000));
        history.begin(NOW, "alice", &NewCall { name: Some(&name), ..call(Direction::In, "eve@mesh.test") });
        let kept = history.of("alice", None, 1)[0].name.clone().unwrap();
        assert!(kept.starts_with("[31mEve") && kept.chars().count() <= MAX_NAME);
        assert!(!kept.chars().any(char::is_control));
    }
}
