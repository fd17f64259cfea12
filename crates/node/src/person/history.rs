//! The calls of accounts at this node, whichever phones had them. An entry is written to the store when its call is over, together with
//! whatever else is written then; while it goes on it is in memory alone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use utoipa::ToSchema;

use crate::store::cbor::to_cbor;
use crate::store::{Store, StoreError, Table};
use crate::text::harmless;

/// Calls remembered of one account.
pub(crate) const MAX_OF_ACCOUNT: usize = 200;
/// Calls remembered in all, some 300 bytes each; the oldest makes room.
const MAX_CALLS: usize = 100_000;
/// Longest name of a caller, in characters.
const MAX_NAME: usize = 64;
/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 120;
/// Changes that a slow listener may lag behind before it reads everything anew.
const CHANGES_KEPT: usize = 256;
/// Between an account and the number of its call in the key of a row.
const SEPARATOR: char = '\u{1}';

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
    /// Grows with time; unique within this node.
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
    of_user: HashMap<String, BTreeMap<u64, Entry>>,
    /// All of them, as they began.
    order: VecDeque<Place>,
    next: u64,
}

/// The calls of all accounts.
pub(crate) struct History {
    state: Mutex<State>,
    store: Store,
    changes: broadcast::Sender<(String, Entry)>,
}

impl History {
    /// The calls that the store has.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub(crate) fn open(store: Store, now_ms: u64) -> Result<History, StoreError> {
        let mut state = State::default();
        for (key, bytes) in store.load(Table::History)? {
            match read(&key, &bytes) {
                Some((user, entry)) => {
                    state.order.push_back(Place { user: user.to_owned(), id: entry.id });
                    state.of_user.entry(user.to_owned()).or_default().insert(entry.id, entry);
                }
                None => store.put(Table::History, &key, None),
            }
        }
        state.order.make_contiguous().sort_by_key(|place| place.id);
        // Ids begin with the time, so that they grow over restarts.
        let newest = state.order.back().map_or(0, |place| place.id);
        state.next = newest.saturating_add(1).max(now_ms.saturating_mul(1000));
        Ok(History { state: Mutex::new(state), store, changes: broadcast::channel(CHANGES_KEPT).0 })
    }

    /// A call begins that an account has part in.
    pub(crate) fn begin(&self, now_ms: u64, user: &str, call: &NewCall<'_>) -> Place {
        let mut state = self.state();
        let id = state.next;
        state.next = id.saturating_add(1);
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
        let place = Place { user: user.to_owned(), id };
        let of_user = state.of_user.entry(place.user.clone()).or_default();
        let crowded = (of_user.len() >= MAX_OF_ACCOUNT).then(|| of_user.keys().next().copied()).flatten();
        self.tell(user, &entry);
        of_user.insert(id, entry);
        state.order.push_back(place.clone());
        if let Some(oldest) = crowded {
            self.forget(&mut state, &Place { user: user.to_owned(), id: oldest });
        }
        // Those that made room for others of their account stand there still.
        while state.order.len() > MAX_CALLS {
            let Some(oldest) = state.order.pop_front() else { break };
            self.forget(&mut state, &oldest);
        }
        place
    }

    /// Takes note of what has become of a call.
    pub(crate) fn change(&self, now_ms: u64, place: &Place, change: Change<'_>) {
        let mut state = self.state();
        let entry = state.of_user.get_mut(&place.user).and_then(|all| all.get_mut(&place.id));
        let Some(entry) = entry else { return };
        if !entry.apply(now_ms, change) {
            return;
        }
        if entry.ended_ms.is_some() {
            self.store.put(Table::History, &key(place), Some(written(entry)));
        }
        self.tell(&place.user, entry);
    }

    /// The calls of an account before one of them, or all, newest first.
    pub(crate) fn of(&self, user: &str, before: Option<u64>, limit: usize) -> Vec<Entry> {
        let state = self.state();
        let Some(all) = state.of_user.get(user) else { return Vec::new() };
        all.range(..before.unwrap_or(u64::MAX)).rev().take(limit).map(|(_, entry)| entry.clone()).collect()
    }

    /// She has seen them all.
    pub(crate) fn see(&self, user: &str) {
        let mut state = self.state();
        let Some(all) = state.of_user.get_mut(user) else { return };
        for entry in all.values_mut().filter(|entry| !entry.seen) {
            entry.seen = true;
            if entry.ended_ms.is_some() {
                let place = Place { user: user.to_owned(), id: entry.id };
                self.store.put(Table::History, &key(&place), Some(written(entry)));
            }
        }
    }

    /// Forgets all calls of an account.
    pub(crate) fn clear(&self, user: &str) {
        let mut state = self.state();
        for id in state.of_user.remove(user).unwrap_or_default().into_keys() {
            self.store.put(Table::History, &key(&Place { user: user.to_owned(), id }), None);
        }
        state.order.retain(|place| place.user != user);
    }

    /// Writes down the calls that go on, before the node ends.
    pub(crate) fn write_all(&self) {
        let state = self.state();
        for (user, all) in &state.of_user {
            for entry in all.values().filter(|entry| entry.ended_ms.is_none() && entry.answered_ms.is_some()) {
                let place = Place { user: user.clone(), id: entry.id };
                self.store.put(Table::History, &key(&place), Some(written(entry)));
            }
        }
    }

    /// Says what changes from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<(String, Entry)> {
        self.changes.subscribe()
    }

    fn tell(&self, user: &str, entry: &Entry) {
        if self.changes.receiver_count() > 0 {
            let _ = self.changes.send((user.to_owned(), entry.clone()));
        }
    }

    fn forget(&self, state: &mut State, place: &Place) {
        let Some(all) = state.of_user.get_mut(&place.user) else { return };
        if all.remove(&place.id).is_some() {
            self.store.put(Table::History, &key(place), None);
        }
        if all.is_empty() {
            state.of_user.remove(&place.user);
        }
    }

    /// A panic elsewhere leaves whole entries behind.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Hexadecimal digits, so that rows are in the order of their calls.
fn key(place: &Place) -> String {
    format!("{}{SEPARATOR}{:016x}", place.user, place.id)
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

fn read<'a>(key: &'a str, bytes: &[u8]) -> Option<(&'a str, Entry)> {
    let (user, id) = key.split_once(SEPARATOR)?;
    let id = u64::from_str_radix(id, 16).ok()?;
    let Kept(is_out, address, name, verified, started_ms, answered_ms, ended_ms, outcome, status, reason, seen) =
        ciborium::from_reader(bytes).ok()?;
    let direction = if is_out { Direction::Out } else { Direction::In };
    let entry = Entry {
        id,
        direction,
        address,
        name,
        verified,
        started_ms,
        answered_ms,
        ended_ms,
        outcome,
        status,
        reason,
        seen,
    };
    Some((user, entry))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tempfile::TempDir;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn opened() -> (TempDir, Store, History) {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let history = History::open(store.clone(), NOW).unwrap();
        (folder, store, history)
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
        let history = History::open(store, NOW - 5000).unwrap();
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
        assert_eq!(store.load(Table::History).unwrap().len(), MAX_OF_ACCOUNT);
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
