//! What belongs to an account and is the same at all home nodes of the domain: the people its owner calls, and the calls that were. Pure but
//! for the store, in which every row is written as it changes.
//!
//! A map from kind and id to the newest change made there (see [`Stamp`](crate::account::clock::Stamp)): whoever has seen the same changes, in
//! any order and any number of times, has the same. What is removed leaves a mark for as long as there is room, or a node that was away
//! would bring it back. Calls are removed all at once, or when newer ones take their place: both are said by bounds, not by marks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use meshtone_identity::NodeId;
use meshtone_identity::id::sha256;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::contacts::MAX_CONTACTS;
use super::history::MAX_OF_ACCOUNT;
use crate::account::clock::{Clock, Stamp};
use crate::store::cbor::{Blob, Octets, to_cbor};
use crate::store::{Store, StoreError, Table};

/// Contacts that were removed and are remembered as such, for one account.
const MAX_REMOVED: usize = 500;
/// Calls remembered in all, some 300 bytes each; the oldest makes room.
const MAX_CALLS: usize = 100_000;
/// Longest id: a UUID, or the number of a call.
pub(super) const MAX_ID_LEN: usize = 36;
/// Longest value: a contact or a call with the longest names.
pub(super) const MAX_VALUE_LEN: usize = 2048;
/// Changes that a slow listener may lag behind; it compares or reads anew then.
const CHANGES_KEPT: usize = 1024;
/// Between the parts of a row's key.
const SEPARATOR: char = '\u{1}';
/// Clocks of home nodes differ by so much at most ([`crate::account::clock::MAX_AHEAD_MS`]): what was changed at one of them just after an
/// account was made at another may bear an earlier time.
const SKEW_MS: u64 = crate::account::clock::MAX_AHEAD_MS;
/// Parts that the accounts are compared in.
pub(super) const BUCKETS: usize = 64;

/// What something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Contact = 1,
    /// A call that is over; its id is its number in 16 hexadecimal digits, so that later ones come after.
    Call = 2,
    /// The last call that she has seen.
    Seen = 3,
    /// The last call that she has cleared away.
    Cleared = 4,
}

impl Kind {
    pub(super) fn number(self) -> u8 {
        match self {
            Kind::Contact => 1,
            Kind::Call => 2,
            Kind::Seen => 3,
            Kind::Cleared => 4,
        }
    }

    pub(super) fn of_number(number: u8) -> Option<Kind> {
        [Kind::Contact, Kind::Call, Kind::Seen, Kind::Cleared].into_iter().find(|kind| kind.number() == number)
    }
}

/// The newest change to one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) stamp: Stamp,
    /// None where it was removed.
    pub(crate) value: Option<Vec<u8>>,
}

impl Item {
    /// Whether it is within its bounds: what is asked of one that comes from elsewhere.
    pub(super) fn is_sound(&self) -> bool {
        let is_id = (1..=MAX_ID_LEN).contains(&self.id.len())
            && self.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_number = |text: &[u8]| text.len() == 16 && text.iter().all(u8::is_ascii_hexdigit);
        let value = self.value.as_deref();
        is_id
            && value.is_none_or(|value| value.len() <= MAX_VALUE_LEN)
            && match self.kind {
                Kind::Contact => true,
                Kind::Call => is_number(self.id.as_bytes()) && value.is_some(),
                Kind::Seen | Kind::Cleared => self.id == MARK && value.is_some_and(is_number),
            }
    }

    /// Of two marks the farther one, else the later change.
    fn wins_over(&self, other: &Item) -> bool {
        match self.kind {
            Kind::Seen | Kind::Cleared => (&self.value, self.stamp) > (&other.value, other.stamp),
            Kind::Contact | Kind::Call => (self.stamp, &self.value) > (other.stamp, &other.value),
        }
    }

    fn mark(&self) -> [u8; 16] {
        let Stamp { wall_ms, counter, node } = self.stamp;
        let text =
            to_cbor(&(self.kind.number(), &self.id, wall_ms, counter, Octets(*node.as_bytes()), self.value.is_some()));
        sha256(&text).first_chunk().copied().unwrap_or_default()
    }
}

/// The id of what there is one of.
const MARK: &str = "-";

/// From when on what belongs to an account may be that of its owner, by when it was made.
pub(crate) fn since_ms(created_ms: u64) -> u64 {
    created_ms.saturating_sub(SKEW_MS)
}

/// Something has changed, here or at another home node.
#[derive(Debug, Clone)]
pub(crate) struct Changed {
    pub(crate) user: String,
    pub(crate) item: Item,
    /// The home node that told us; `None` for a change made here.
    pub(crate) from: Option<NodeId>,
}

/// What belongs to one account.
#[derive(Default)]
struct Owned {
    items: BTreeMap<(Kind, String), Item>,
    /// The exclusive or of the marks of all.
    fingerprint: [u8; 16],
}

struct State {
    clock: Clock,
    of_user: HashMap<String, Owned>,
    /// All calls, as they began.
    calls: BTreeSet<(String, String)>,
}

/// What belongs to all accounts.
pub(crate) struct Belongings {
    state: Mutex<State>,
    store: Store,
    node: NodeId,
    now_ms: fn() -> u64,
    changes: broadcast::Sender<Changed>,
}

/// (wall_ms, counter, node, value)
#[derive(Serialize, Deserialize)]
struct Kept(u64, u32, Octets<32>, Option<Blob>);

impl Belongings {
    /// What the store has.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub(crate) fn open(store: Store, node: NodeId, now_ms: fn() -> u64) -> Result<Belongings, StoreError> {
        let state = State { clock: Clock::new(node), of_user: HashMap::new(), calls: BTreeSet::new() };
        let changes = broadcast::channel(CHANGES_KEPT).0;
        let belongings = Belongings { state: Mutex::new(state), store, node, now_ms, changes };
        for (key, bytes) in belongings.store.load(Table::Belongings)? {
            match read(&key, &bytes) {
                Some((user, item)) => {
                    let mut state = belongings.state();
                    state.clock.resume(&item.stamp);
                    state.insert(user, item);
                }
                None => belongings.store.put(Table::Belongings, &key, None),
            }
        }
        Ok(belongings)
    }

    /// The node whose changes are made here.
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// Those of a kind that an account has, by id.
    pub(crate) fn of(&self, user: &str, kind: Kind) -> Vec<(String, Vec<u8>)> {
        let state = self.state();
        let Some(owned) = state.of_user.get(user) else { return Vec::new() };
        let of_kind = owned.items.range((kind, String::new())..).take_while(|((of, _), _)| *of == kind);
        of_kind.filter_map(|((_, id), item)| Some((id.clone(), item.value.clone()?))).collect()
    }

    /// The number of the last call that was marked so.
    pub(crate) fn marked(&self, user: &str, kind: Kind) -> Option<u64> {
        number(self.state().of_user.get(user)?.items.get(&(kind, MARK.to_owned()))?)
    }

    /// The number of the latest call of all.
    pub(super) fn newest_call(&self) -> Option<u64> {
        u64::from_str_radix(&self.state().calls.last()?.0, 16).ok()
    }

    /// Makes a change.
    pub(crate) fn put(&self, user: &str, kind: Kind, id: &str, value: Option<Vec<u8>>) {
        let mut state = self.state();
        let stamp = state.clock.tick((self.now_ms)());
        self.take(&mut state, user, Item { kind, id: id.to_owned(), stamp, value }, None);
    }

    /// Marks all calls up to this one.
    pub(crate) fn mark(&self, user: &str, kind: Kind, upto: u64) {
        self.put(user, kind, MARK, Some(format!("{upto:016x}").into_bytes()));
    }

    /// Takes what another home node has; returns how much of it was news. What an earlier owner of that name had, who was there before
    /// `since_ms`, is nobody's.
    pub(super) fn merge(&self, from: NodeId, user: &str, since_ms: u64, items: Vec<Item>) -> usize {
        let mut state = self.state();
        let now_ms = (self.now_ms)();
        let mut news = 0;
        for item in items {
            let is_fine = item.is_sound() && item.stamp.wall_ms >= since_ms;
            // Whoever's clock is ahead has to wait until ours is there.
            if is_fine && state.clock.observe(now_ms, &item.stamp).is_ok() {
                news += usize::from(self.take(&mut state, user, item, Some(from)));
            }
        }
        news
    }

    /// Forgets what an account of this name had before that moment; all of it where there is none any more.
    pub(crate) fn forget_before(&self, user: &str, since_ms: Option<u64>) {
        let mut state = self.state();
        let Some(owned) = state.of_user.get(user) else { return };
        let is_old = |item: &&Item| since_ms.is_none_or(|since_ms| item.stamp.wall_ms < since_ms);
        let old: Vec<(Kind, String)> =
            owned.items.values().filter(is_old).map(|item| (item.kind, item.id.clone())).collect();
        for key in old {
            self.drop_item(&mut state, user, &key);
        }
    }

    /// Tells of every change from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Changed> {
        self.changes.subscribe()
    }

    /// What all accounts of each part amount to.
    pub(super) fn buckets(&self) -> Vec<[u8; 16]> {
        let state = self.state();
        let mut buckets = vec![[0; 16]; BUCKETS];
        for (user, owned) in &state.of_user {
            if let Some(bucket) = buckets.get_mut(bucket_of(user)) {
                let mark = sha256(&[user.as_bytes(), &owned.fingerprint].concat());
                stir(bucket, mark.first_chunk().unwrap_or(&[0; 16]));
            }
        }
        buckets
    }

    /// What the accounts of one part amount to.
    pub(super) fn users(&self, bucket: usize) -> Vec<(String, [u8; 16])> {
        let state = self.state();
        let within = state.of_user.iter().filter(|(user, _)| bucket_of(user) == bucket);
        let mut users: Vec<_> = within.map(|(user, owned)| (user.clone(), owned.fingerprint)).collect();
        users.sort();
        users
    }

    /// All that an account has.
    pub(super) fn items(&self, user: &str) -> Vec<Item> {
        let state = self.state();
        state.of_user.get(user).map(|owned| owned.items.values().cloned().collect()).unwrap_or_default()
    }

    fn take(&self, state: &mut State, user: &str, item: Item, from: Option<NodeId>) -> bool {
        let cleared = state.of_user.get(user).and_then(|owned| owned.items.get(&(Kind::Cleared, MARK.to_owned())));
        let is_cleared = item.kind == Kind::Call
            && cleared.and_then(|mark| mark.value.as_deref()).is_some_and(|upto| item.id.as_bytes() <= upto);
        let key = (item.kind, item.id.clone());
        let known = state.of_user.get(user).and_then(|owned| owned.items.get(&key));
        if is_cleared || known.is_some_and(|known| !item.wins_over(known)) || !state.has_room(user, &item) {
            return false;
        }
        self.store.put(Table::Belongings, &row(user, &item), Some(written(&item)));
        state.insert(user.to_owned(), item.clone());
        if item.kind == Kind::Cleared {
            let upto = item.value.clone().unwrap_or_default();
            let calls = state.of_user.get(user).map(|owned| owned.calls_upto(&upto)).unwrap_or_default();
            calls.into_iter().for_each(|id| self.drop_item(state, user, &(Kind::Call, id)));
        }
        for (of, key) in state.crowded(user) {
            self.drop_item(state, &of, &key);
        }
        // No listener is no failure.
        let _ = self.changes.send(Changed { user: user.to_owned(), item, from });
        true
    }

    fn drop_item(&self, state: &mut State, user: &str, key: &(Kind, String)) {
        if let Some(item) = state.remove(user, key) {
            self.store.put(Table::Belongings, &row(user, &item), None);
        }
    }

    /// A panic elsewhere leaves whole items behind.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owned {
    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Item> {
        self.items.range((kind, String::new())..).take_while(move |((of, _), _)| *of == kind).map(|(_, item)| item)
    }

    fn calls_upto(&self, upto: &[u8]) -> Vec<String> {
        self.of_kind(Kind::Call).map(|item| item.id.clone()).take_while(|id| id.as_bytes() <= upto).collect()
    }
}

impl State {
    /// Whether something new may be kept: a contact while there are not too many, a call that is not older than all that are kept.
    fn has_room(&self, user: &str, item: &Item) -> bool {
        let owned = self.of_user.get(user);
        let is_known = owned.is_some_and(|owned| owned.items.contains_key(&(item.kind, item.id.clone())));
        match item.kind {
            _ if is_known => true,
            Kind::Contact => {
                let there =
                    owned.map_or(0, |owned| owned.of_kind(Kind::Contact).filter(|one| one.value.is_some()).count());
                // Two nodes that have not met may each have filled it.
                item.value.is_none() || there < 2 * MAX_CONTACTS
            }
            Kind::Call => {
                let count = owned.map_or(0, |owned| owned.of_kind(Kind::Call).count());
                let oldest = owned.and_then(|owned| owned.of_kind(Kind::Call).next());
                let is_old = |oldest: &str| item.id.as_str() < oldest;
                let fits_own = count < MAX_OF_ACCOUNT || !oldest.is_some_and(|oldest| is_old(&oldest.id));
                let fits_all =
                    self.calls.len() < MAX_CALLS || !self.calls.first().is_some_and(|(oldest, _)| is_old(oldest));
                fits_own && fits_all
            }
            Kind::Seen | Kind::Cleared => true,
        }
    }

    /// What has to make room.
    fn crowded(&self, user: &str) -> Vec<(String, (Kind, String))> {
        let mut crowded = Vec::new();
        if let Some(owned) = self.of_user.get(user) {
            let calls: Vec<&Item> = owned.of_kind(Kind::Call).collect();
            let too_many = calls.len().saturating_sub(MAX_OF_ACCOUNT);
            crowded.extend(calls.iter().take(too_many).map(|item| (user.to_owned(), (item.kind, item.id.clone()))));
            let mut removed: Vec<&Item> = owned.of_kind(Kind::Contact).filter(|item| item.value.is_none()).collect();
            removed.sort_by_key(|item| item.stamp);
            let too_many = removed.len().saturating_sub(MAX_REMOVED);
            crowded.extend(removed.iter().take(too_many).map(|item| (user.to_owned(), (item.kind, item.id.clone()))));
        }
        let too_many = self.calls.len().saturating_sub(MAX_CALLS);
        crowded.extend(self.calls.iter().take(too_many).map(|(id, of)| (of.clone(), (Kind::Call, id.clone()))));
        crowded
    }

    fn insert(&mut self, user: String, item: Item) {
        let key = (item.kind, item.id.clone());
        self.remove(&user, &key);
        if item.kind == Kind::Call {
            self.calls.insert((item.id.clone(), user.clone()));
        }
        let owned = self.of_user.entry(user).or_default();
        stir(&mut owned.fingerprint, &item.mark());
        owned.items.insert(key, item);
    }

    fn remove(&mut self, user: &str, key: &(Kind, String)) -> Option<Item> {
        let owned = self.of_user.get_mut(user)?;
        let item = owned.items.remove(key)?;
        stir(&mut owned.fingerprint, &item.mark());
        if owned.items.is_empty() {
            self.of_user.remove(user);
        }
        if item.kind == Kind::Call {
            self.calls.remove(&(item.id.clone(), user.to_owned()));
        }
        Some(item)
    }
}

fn number(item: &Item) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(item.value.as_deref()?).ok()?, 16).ok()
}

fn stir(fingerprint: &mut [u8; 16], with: &[u8; 16]) {
    for (byte, with) in fingerprint.iter_mut().zip(with) {
        *byte ^= with;
    }
}

fn bucket_of(user: &str) -> usize {
    usize::from(sha256(user.as_bytes()).first().copied().unwrap_or_default()) % BUCKETS
}

fn row(user: &str, item: &Item) -> String {
    format!("{user}{SEPARATOR}{}{SEPARATOR}{}", item.kind.number(), item.id)
}

fn written(item: &Item) -> Vec<u8> {
    let Stamp { wall_ms, counter, node } = item.stamp;
    to_cbor(&Kept(wall_ms, counter, Octets(*node.as_bytes()), item.value.clone().map(Blob)))
}

fn read(key: &str, bytes: &[u8]) -> Option<(String, Item)> {
    let mut parts = key.split(SEPARATOR);
    let (user, kind, id) = (parts.next()?, parts.next()?, parts.next()?);
    let Kept(wall_ms, counter, Octets(node), value) = ciborium::from_reader(bytes).ok()?;
    let stamp = Stamp { wall_ms, counter, node: NodeId::from_bytes(node) };
    let kind = Kind::of_number(kind.parse().ok()?)?;
    let item = Item { kind, id: id.to_owned(), stamp, value: value.map(|Blob(value)| value) };
    item.is_sound().then(|| (user.to_owned(), item))
}

#[cfg(test)]
mod tests;
