//! The account table: a map from user to the newest change made to that user. Pure.
//!
//! A table is a join-semilattice: [`Table::merge`] is commutative, associative and idempotent, so home nodes that saw
//! the same changes in any order, any number of times, hold the same table. A removal is a change like any other and
//! is kept, or a node that was away would bring the user back.
//!
//! Two nodes that cannot see each other may give one number to two users. Both claims are kept; the account that was
//! created first has the number, which every node finds out for itself without another change.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use aws_lc_rs::digest::{SHA256, digest};
use meshtone_identity::NodeId;

use super::clock::{Ahead, Clock, Stamp};
use super::ha1::Ha1Set;
use super::name;
use super::wire;

/// How many users a table may hold, removed ones included: some 50 MB, and more than the one process should carry.
pub const MAX_ENTRIES: usize = 100_000;

/// Settings of one account, and the sizes of one: an entry stays far below a replication frame.
pub const MAX_SETTINGS: usize = 16;
/// The longest name of a setting, in bytes.
pub const MAX_SETTING_NAME_LEN: usize = 32;
/// The longest value of a setting, in bytes.
pub const MAX_SETTING_LEN: usize = 512;

/// A user's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The canonical name, see [`name::is_user`].
    pub user: String,
    /// The number under which the user can be called too.
    pub number: Option<String>,
    /// What is kept of the password.
    pub ha1: Ha1Set,
    /// When the account was made, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Whatever else is set for the user.
    pub settings: BTreeMap<String, String>,
}

/// The newest change made to a user: what replicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub user: String,
    /// When the change was made and by whom.
    pub stamp: Stamp,
    /// The account since then; `None` when it was removed.
    pub account: Option<Account>,
}

impl Entry {
    /// Newest first by stamp. Honest nodes never stamp twice alike; if it happens all the same, a removal wins, then
    /// the larger encoding, so that the outcome does not depend on the order.
    fn wins_over(&self, other: &Entry) -> bool {
        let rank = |entry: &Entry| (entry.stamp, entry.account.is_none(), wire::encode(entry));
        if self.stamp == other.stamp { rank(self) > rank(other) } else { self.stamp > other.stamp }
    }
}

/// A table that cannot take another user; see [`MAX_ENTRIES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the account table is full")]
pub struct Full;

/// All accounts of a domain.
#[derive(Debug, Clone, Default)]
pub struct Table {
    entries: BTreeMap<String, Entry>,
    /// Who claims a number, the oldest account first: the first one has it.
    claims: BTreeMap<String, BTreeSet<(u64, String)>>,
    users: usize,
    /// The exclusive or of the hashes of all (user, stamp): equal tables have equal ones, in whatever order they grew.
    fingerprint: [u8; 32],
}

impl Table {
    /// Takes in a change, if it is newer than what is known of the user.
    ///
    /// Returns whether the table changed.
    ///
    /// # Errors
    /// [`Full`] for a new user in a full table.
    pub fn merge(&mut self, entry: Entry) -> Result<bool, Full> {
        match self.entries.get(&entry.user) {
            Some(known) if !entry.wins_over(known) => return Ok(false),
            Some(_) => {}
            None if self.entries.len() >= MAX_ENTRIES => return Err(Full),
            None => {}
        }
        if let Some(old) = self.entries.remove(&entry.user) {
            self.unindex(&old);
        }
        self.index(&entry);
        self.entries.insert(entry.user.clone(), entry);
        Ok(true)
    }

    /// The account of a user. Its number is `None` where an older account has it.
    pub fn account(&self, user: &str) -> Option<Account> {
        self.entries.get(user).and_then(|entry| self.effective(entry))
    }

    /// A user's HA1, without copying the rest.
    pub fn ha1(&self, user: &str) -> Option<&Ha1Set> {
        Some(&self.entries.get(user)?.account.as_ref()?.ha1)
    }

    /// Who has the number.
    pub fn owner(&self, number: &str) -> Option<&str> {
        Some(self.claims.get(number)?.first()?.1.as_str())
    }

    /// The user that a dialled name or number means: a user's name first, then a number.
    pub fn resolve(&self, dialled: &str) -> Option<&str> {
        match self.entries.get(dialled) {
            Some(Entry { user, account: Some(_), .. }) => Some(user),
            Some(Entry { account: None, .. }) | None => self.owner(dialled),
        }
    }

    /// All accounts, by user.
    pub fn accounts(&self) -> impl Iterator<Item = Account> {
        self.entries.values().filter_map(|entry| self.effective(entry))
    }

    /// How many accounts there are.
    pub fn users(&self) -> usize {
        self.users
    }

    /// What equal tables have in common, see [`Table::merge`].
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The newest change made to a user.
    pub fn entry(&self, user: &str) -> Option<&Entry> {
        self.entries.get(user)
    }

    /// The entries of the users after `after` and up to `upto` (to the end with `None`), by user.
    pub fn range<'a>(&'a self, after: &str, upto: Option<&str>) -> impl Iterator<Item = &'a Entry> + use<'a> {
        // A range whose end lies before its start panics in the standard library; a peer may send one.
        let upto = upto.map(|upto| upto.max(after));
        let upper = match upto {
            Some(upto) if upto == after => Bound::Excluded("\u{10ffff}"),
            Some(upto) => Bound::Included(upto),
            None => Bound::Unbounded,
        };
        let nothing = upto == Some(after);
        self.entries.range::<str, _>((Bound::Excluded(after), upper)).map(|(_, entry)| entry).take(if nothing {
            0
        } else {
            usize::MAX
        })
    }

    fn effective(&self, entry: &Entry) -> Option<Account> {
        let mut account = entry.account.clone()?;
        if let Some(number) = &account.number
            && self.owner(number) != Some(account.user.as_str())
        {
            account.number = None;
        }
        Some(account)
    }

    fn index(&mut self, entry: &Entry) {
        self.stir(entry);
        let Some(account) = &entry.account else { return };
        self.users += 1;
        if let Some(number) = &account.number {
            self.claims.entry(number.clone()).or_default().insert((account.created_ms, entry.user.clone()));
        }
    }

    fn unindex(&mut self, entry: &Entry) {
        self.stir(entry);
        let Some(account) = &entry.account else { return };
        self.users -= 1;
        if let Some(number) = &account.number
            && let Some(claims) = self.claims.get_mut(number)
        {
            claims.remove(&(account.created_ms, entry.user.clone()));
            if claims.is_empty() {
                self.claims.remove(number);
            }
        }
    }

    /// Takes an entry into the fingerprint, or out of it again.
    fn stir(&mut self, entry: &Entry) {
        let hash = digest(&SHA256, &wire::encode_key(&entry.user, &entry.stamp));
        for (byte, with) in self.fingerprint.iter_mut().zip(hash.as_ref()) {
            *byte ^= with;
        }
    }
}

/// Why a peer's change was not taken. The peer may be honest: it is tried again at the next exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its stamp lies in the future.
    #[error(transparent)]
    Ahead(#[from] Ahead),
    /// There is no room.
    #[error(transparent)]
    Full(#[from] Full),
}

/// One node's copy of the table with the clock that stamps its changes.
#[derive(Debug, Clone)]
pub struct Replica {
    /// The table.
    pub table: Table,
    clock: Clock,
}

impl Replica {
    /// An empty copy.
    pub fn new(node: NodeId) -> Replica {
        Replica { table: Table::default(), clock: Clock::new(node) }
    }

    /// Takes back what an earlier life of this node had accepted.
    ///
    /// # Errors
    /// [`Full`].
    pub fn restore(&mut self, entry: Entry) -> Result<(), Full> {
        self.clock.resume(&entry.stamp);
        self.table.merge(entry).map(|_| ())
    }

    /// Makes a change of our own; returns what to keep and to pass on.
    ///
    /// # Errors
    /// [`Full`].
    pub fn change(&mut self, now_ms: u64, user: &str, account: Option<Account>) -> Result<Entry, Full> {
        let entry = Entry { user: user.to_owned(), stamp: self.clock.tick(now_ms), account };
        self.table.merge(entry.clone())?;
        Ok(entry)
    }

    /// Takes in a peer's change; returns whether it was news.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn apply(&mut self, now_ms: u64, entry: Entry) -> Result<bool, Refused> {
        self.clock.observe(now_ms, &entry.stamp)?;
        Ok(self.table.merge(entry)?)
    }
}

impl Account {
    /// Whether every part is within its bounds: what is asked of an account that comes from elsewhere.
    pub(crate) fn is_sound(&self) -> bool {
        name::is_account(&self.user)
            && self.number.as_deref().is_none_or(name::is_number)
            && self.settings.len() <= MAX_SETTINGS
            && self
                .settings
                .iter()
                .all(|(name, value)| (1..=MAX_SETTING_NAME_LEN).contains(&name.len()) && value.len() <= MAX_SETTING_LEN)
    }
}

#[cfg(test)]
mod tests;
