//! The bindings of the phones registered at this node: memory, written behind to the store, so that a restart
//! forgets nobody. A new or changed binding is written at once; that one was refreshed, within 16 s where there is time, and
//! when the node stops.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meshtone_sip::message::Message;
use meshtone_sip::registrar::reg_info::Removal;
use meshtone_sip::registrar::{self, Binding, Grants, Limits, Rejection};
use meshtone_sip::transport::Flow;
use rustc_hash::FxBuildHasher;

use super::compact;
use super::persist;
use super::publisher::{Announcement, Publisher};
use super::watchers::Watchers;
use crate::store::Store;

/// Locks the bindings are spread over, so that registrations of different addresses do not wait for each other.
pub(crate) const SHARDS: usize = 64;

/// Refreshed addresses written in one turn of [`Registrations::sweep`]: 512 a second, which cost less than one percent of a processor
/// and commits that are over in a moment. 10,000 phones that refresh every ten minutes are 17 a second, half a million every hour 139.
const WRITTEN_AT_ONCE: usize = 128;

/// Where more is refreshed than that, what waits in a shard is written in so many turns, so that nothing waits for ever.
const WRITTEN_IN_TURNS: usize = 8;

/// One part of the bindings, by address.
#[derive(Default)]
struct Shard {
    kept: HashMap<Box<str>, Kept>,
    /// What the last REGISTER was worked out with: the next one needs as much memory.
    work: Work,
}

#[derive(Default)]
struct Work {
    bindings: Vec<Binding>,
    encoded: Vec<u8>,
}

/// The bindings of one address, in the form of [`compact`]: there may be half a million of them, and each is looked at once in
/// minutes.
struct Kept {
    bindings: Box<[u8]>,
    /// Phones have refreshed what the store holds, and it does not know yet.
    is_refreshed: bool,
}

impl Kept {
    /// What the store is told at once.
    fn new(bindings: &[Binding]) -> Kept {
        Kept { bindings: compact::encode(bindings), is_refreshed: false }
    }

    /// Takes what phones have refreshed.
    fn refresh(&mut self, encoded: &[u8]) {
        // Nearly always it is as long as before.
        if self.bindings.len() == encoded.len() {
            self.bindings.copy_from_slice(encoded);
        } else {
            self.bindings = encoded.into();
        }
        self.is_refreshed = true;
    }

    /// The bindings that have not expired.
    fn bindings(&self, now_ms: u64) -> Vec<Binding> {
        let mut bindings = self.all();
        bindings.retain(|binding| binding.expires_ms > now_ms);
        bindings
    }

    /// The bindings, those that have expired too.
    fn all(&self) -> Vec<Binding> {
        compact::decode(&self.bindings).unwrap_or_default()
    }
}

/// The bindings of every address registered here.
pub(crate) struct Registrations {
    shards: Vec<Mutex<Shard>>,
    limits: Limits,
    store: Store,
    publisher: Publisher,
    /// Who wants to know of changes.
    pub(crate) watchers: Watchers,
}

impl Registrations {
    /// Reads back what the store holds.
    pub(crate) fn restore(store: Store, publisher: Publisher, limits: Limits, now_ms: u64) -> Arc<Self> {
        let registrations = Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            limits,
            store,
            publisher,
            watchers: Watchers::default(),
        };
        let mut restored = 0usize;
        for (address, stored) in registrations.store.load_bindings().unwrap_or_default() {
            let mut bindings = persist::decode(&stored).unwrap_or_default();
            // Connections have not outlived the restart, and some phones nobody can call back.
            bindings.retain(|binding| binding.expires_ms > now_ms && binding.destination(false).is_some());
            if bindings.is_empty() {
                registrations.store.put_bindings(&address, None);
                registrations.publisher.changed(&address, false);
                continue;
            }
            restored += bindings.len();
            registrations.shard(&address).kept.insert(address.into(), Kept::new(&bindings));
        }
        if restored > 0 {
            tracing::info!(restored, "registrations read back");
        }
        Arc::new(registrations)
    }

    /// Serves a REGISTER that was authenticated for `address` (RFC 3261 §10.3): the 200, or why not.
    pub(crate) fn register(
        &self,
        now_ms: u64,
        address: &str,
        request: &Message,
        flow: &Flow,
        grants: Grants<'_>,
    ) -> Result<Message, Rejection> {
        let mut shard = self.shard(address);
        let Shard { kept, work: Work { bindings, encoded } } = &mut *shard;
        let known = kept.get_mut(address);
        compact::decode_into(known.as_ref().map_or(&[], |known| &known.bindings), bindings);
        bindings.retain(|binding| binding.expires_ms > now_ms);
        let changed = registrar::register(now_ms, &self.limits, bindings, request, flow)?;
        let response = registrar::ok(now_ms, bindings, request, grants);
        if changed {
            compact::encode_into(bindings, encoded);
            match known.filter(|known| compact::is_refresh(&known.bindings, encoded)) {
                // The store may learn so later: it holds the same but for the times.
                Some(known) => known.refresh(encoded),
                None => {
                    let bindings = std::mem::take(bindings);
                    self.keep(&mut shard, address, bindings);
                }
            }
            drop(shard);
            self.watchers.tell(address, Removal::Usual);
        }
        Ok(response)
    }

    /// The bindings of `address` that have not expired.
    pub(crate) fn bindings(&self, now_ms: u64, address: &str) -> Vec<Binding> {
        self.shard(address).kept.get(address).map(|kept| kept.bindings(now_ms)).unwrap_or_default()
    }

    /// Drops every binding of an address, as when its user is removed.
    pub(crate) fn remove(&self, address: &str) {
        let mut shard = self.shard(address);
        if shard.kept.contains_key(address) {
            self.keep(&mut shard, address, Vec::new());
        }
        drop(shard);
        self.watchers.tell(address, Removal::Rejected);
    }

    /// Drops the bindings of an address that were made by this flow and lead nowhere without it, or with `all` every one of them. Returns
    /// their contacts.
    pub(crate) fn drop_flow(&self, address: &str, flow: &Flow, all: bool) -> Vec<String> {
        let mut shard = self.shard(address);
        let Some(mut bindings) = shard.kept.get(address).map(Kept::all) else { return Vec::new() };
        let goes = |binding: &Binding| binding.flow == *flow && (all || binding.destination(false).is_none());
        let gone: Vec<String> =
            bindings.extract_if(.., |binding| goes(binding)).map(|binding| binding.contact).collect();
        if !gone.is_empty() {
            self.keep(&mut shard, address, bindings);
            drop(shard);
            self.watchers.tell(address, Removal::Usual);
        }
        gone
    }

    /// Drops what has expired in one of the shards, and writes down what was refreshed; called in turn, all shards come round
    /// in 16 s.
    pub(crate) fn sweep(&self, now_ms: u64, turn: usize) {
        let Some(shard) = self.shards.get(turn % SHARDS) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let expired: Vec<Box<str>> = shard
            .kept
            .iter()
            .filter(|(_, kept)| compact::first_expiry_ms(&kept.bindings) <= now_ms)
            .map(|(address, _)| address.clone())
            .collect();
        for address in expired {
            let bindings = shard.kept.get(&address).map(|kept| kept.bindings(now_ms)).unwrap_or_default();
            self.keep(&mut shard, &address, bindings);
            self.watchers.tell(&address, Removal::Usual);
        }
        let waiting = shard.kept.values().filter(|kept| kept.is_refreshed).count();
        self.write_refreshed(&mut shard, WRITTEN_AT_ONCE.max(waiting / WRITTEN_IN_TURNS));
    }

    /// Writes down all that was refreshed.
    pub(crate) fn write_all(&self) {
        for shard in &self.shards {
            self.write_refreshed(&mut shard.lock().unwrap_or_else(PoisonError::into_inner), usize::MAX);
        }
    }

    fn write_refreshed(&self, shard: &mut Shard, most: usize) {
        for (address, kept) in shard.kept.iter_mut().filter(|(_, kept)| kept.is_refreshed).take(most) {
            self.store.put_bindings(address, Some(kept.bindings.to_vec()));
            kept.is_refreshed = false;
        }
    }

    /// Every address with its bindings, in order of address.
    pub(crate) fn all(&self, now_ms: u64) -> Vec<(String, Vec<Binding>)> {
        let mut all: Vec<(String, Vec<Binding>)> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.kept.iter().map(|(address, kept)| (address.to_string(), kept.bindings(now_ms))));
        }
        all.sort_by(|left, right| left.0.cmp(&right.0));
        all
    }

    /// The addresses in one of the [`SHARDS`] parts.
    pub(super) fn addresses(&self, part: usize) -> Vec<String> {
        let shard = self.shards.get(part).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        shard.iter().flat_map(|shard| shard.kept.keys()).map(|address| address.to_string()).collect()
    }

    /// What is to be said of an address in the overlay; `None` where nothing is registered.
    pub(crate) fn announcement(&self, address: &str) -> Option<Announcement> {
        announcement(&self.shard(address).kept.get(address)?.all())
    }

    fn keep(&self, shard: &mut Shard, address: &str, bindings: Vec<Binding>) {
        let said = shard.kept.get(address).and_then(|kept| announcement(&kept.all()));
        if bindings.is_empty() {
            self.store.put_bindings(address, None);
            shard.kept.remove(address);
        } else {
            let kept = Kept::new(&bindings);
            self.store.put_bindings(address, Some(kept.bindings.to_vec()));
            shard.kept.insert(address.into(), kept);
        }
        if announcement(&bindings) != said {
            self.publisher.changed(address, !bindings.is_empty());
        }
    }

    fn shard(&self, address: &str) -> MutexGuard<'_, Shard> {
        let count = u64::try_from(self.shards.len()).unwrap_or(1).max(1);
        // Which lock it is decides nothing but who waits for whom; the tables behind have keys of their own.
        let index = usize::try_from(FxBuildHasher.hash_one(address) % count).unwrap_or(0);
        #[allow(clippy::indexing_slicing, reason = "index < shards.len() by the remainder above")]
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn announcement(bindings: &[Binding]) -> Option<Announcement> {
    let q = bindings.iter().map(|binding| binding.q).max()?;
    Some(Announcement { contacts: bindings.len(), q })
}
