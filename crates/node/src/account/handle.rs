//! The handle by which the node uses the account table: changes it, asks it, is told of changes.

mod settings;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::HEXLOWER;
use meshtone_identity::NodeId;
use meshtone_sip::digest::{Algorithm, Ha1, ha1};
use tokio::sync::broadcast;

use super::ha1::Ha1Set;
use super::session::{Message, Outcome, PeerMisbehaved, Session};
use super::table::{Account, Entry, Full, Replica};
use super::{AccountError, Password, Random, name, wire};
use crate::store::{Store, StoreError, Table as StoreTable};

pub use settings::Changes;

/// Changes that a slow listener may lag behind before it has to look at the whole table instead.
const CHANGES_KEPT: usize = 1024;

/// Somebody's account was added, changed or removed, here or at another home node.
#[derive(Debug, Clone)]
pub struct Change {
    /// The entry as it is now.
    pub(crate) entry: Entry,
    /// The home node that told us; `None` for a change made here.
    pub from: Option<NodeId>,
}

impl Change {
    /// Whose account it is.
    pub fn user(&self) -> &str {
        &self.entry.user
    }

    /// Whether the account is gone.
    pub fn is_removal(&self) -> bool {
        self.entry.account.is_none()
    }
}

/// A user with a fresh password, to be shown to the user once.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The domain, which is the digest realm as well.
    pub domain: String,
    /// The number, if there is one.
    pub number: Option<String>,
    /// The password; only its hashes are kept.
    pub password: Password,
}

/// The account table of this node's domain. Clones share it.
#[derive(Clone)]
pub struct Accounts {
    inner: Arc<Inner>,
}

struct Inner {
    domain: String,
    replica: Mutex<Replica>,
    store: Store,
    changes: broadcast::Sender<Change>,
    random: Box<dyn Random>,
    now_ms: fn() -> u64,
    /// What stands for a user who does not exist.
    nobody: Account,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Accounts").field("domain", &self.inner.domain).finish_non_exhaustive()
    }
}

impl Accounts {
    /// The table as the store has it.
    ///
    /// `node` stamps the changes made here, `now_ms` gives milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub fn open(
        store: Store,
        domain: &str,
        node: NodeId,
        now_ms: fn() -> u64,
        random: Box<dyn Random>,
    ) -> Result<Accounts, StoreError> {
        let mut replica = Replica::new(node);
        for (user, bytes) in store.load(StoreTable::Accounts)? {
            let damaged = |reason: String| StoreError::Corrupt {
                path: store.folder().join("store.redb"),
                reason: format!("the account of {user:?}: {reason}"),
            };
            let entry = wire::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
            replica.restore(entry).map_err(|full| damaged(full.to_string()))?;
        }
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let replica = Mutex::new(replica);
        let nobody = Account {
            user: String::new(),
            number: None,
            ha1: Ha1Set::new("", domain, ""),
            created_ms: 0,
            settings: BTreeMap::new(),
        };
        let inner = Inner { domain: domain.to_owned(), replica, store, changes, random, now_ms, nobody };
        Ok(Accounts { inner: Arc::new(inner) })
    }

    /// The domain whose accounts these are.
    pub fn domain(&self) -> &str {
        &self.inner.domain
    }

    /// Adds a user with a generated password. Durable on return; blocks for an `fsync`.
    ///
    /// # Errors
    /// [`AccountError`]; nothing was added then, unless the store failed.
    pub fn add(&self, user: &str, number: Option<&str>) -> Result<Credentials, AccountError> {
        self.add_with(user, number, &[])
    }

    /// The same for a user who may authenticate by these algorithms only (RFC 8760); by none given, by all that a
    /// listener offers.
    ///
    /// # Errors
    /// [`AccountError`]; nothing was added then, unless the store failed.
    pub fn add_with(
        &self,
        user: &str,
        number: Option<&str>,
        algorithms: &[Algorithm],
    ) -> Result<Credentials, AccountError> {
        // An address of the served domain is a user of it.
        let own = user.rsplit_once('@').filter(|(_, domain)| domain.eq_ignore_ascii_case(&self.inner.domain));
        let user = name::new_user(own.map_or(user, |(user, _)| user))?;
        let number = number.map(name::new_number).transpose()?;
        let password = Password::generate(&*self.inner.random)?;
        {
            let mut replica = self.lock();
            if replica.table.account(&user).is_some() {
                return Err(AccountError::UserTaken { user });
            }
            if let Some(owner) = replica.table.owner(&user) {
                return Err(AccountError::NumberTaken { number: user.clone(), user: owner.to_owned() });
            }
            if let Some(number) = &number
                && let Some(owner) = replica.table.resolve(number)
            {
                return Err(AccountError::NumberTaken { number: number.clone(), user: owner.to_owned() });
            }
            let mut account = Account {
                user: user.clone(),
                number: number.clone(),
                ha1: self.hash(&user, &password),
                created_ms: (self.inner.now_ms)(),
                settings: BTreeMap::new(),
            };
            account.restrict(algorithms);
            self.change(&mut replica, &user, Some(account))?;
        }
        self.inner.store.flush()?;
        Ok(Credentials { user, domain: self.inner.domain.clone(), number, password })
    }

    /// Gives a user a new password; the old one is refused from now on. Durable on return; blocks for an `fsync`.
    ///
    /// # Errors
    /// [`AccountError::Unknown`], or what the store says.
    pub fn passwd(&self, user: &str) -> Result<Credentials, AccountError> {
        let user = user.to_ascii_lowercase();
        let password = Password::generate(&*self.inner.random)?;
        let number = {
            let mut replica = self.lock();
            // The account as it was claimed, not as it is seen: a number that another one has now is not given up.
            let known = replica.table.entry(&user).and_then(|entry| entry.account.clone());
            let Some(mut account) = known else { return Err(AccountError::Unknown { user }) };
            account.ha1 = self.hash(&user, &password);
            self.change(&mut replica, &user, Some(account))?;
            replica.table.account(&user).and_then(|account| account.number)
        };
        self.inner.store.flush()?;
        Ok(Credentials { user, domain: self.inner.domain.clone(), number, password })
    }

    /// Removes a user. Durable on return; blocks for an `fsync`.
    ///
    /// # Errors
    /// [`AccountError::Unknown`], or what the store says.
    pub fn remove(&self, user: &str) -> Result<(), AccountError> {
        let user = user.to_ascii_lowercase();
        {
            let mut replica = self.lock();
            if replica.table.account(&user).is_none() {
                return Err(AccountError::Unknown { user });
            }
            self.change(&mut replica, &user, None)?;
        }
        Ok(self.inner.store.flush()?)
    }

    /// All accounts, by user.
    pub fn list(&self) -> Vec<Account> {
        self.lock().table.accounts().collect()
    }

    /// The account that a dialled name or number means.
    pub fn find(&self, user_or_number: &str) -> Option<Account> {
        let replica = self.lock();
        let user = replica.table.resolve(user_or_number)?;
        replica.table.account(user)
    }

    /// The user that a dialled name or number means; cheaper than [`find`](Accounts::find).
    pub fn resolve(&self, user_or_number: &str) -> Option<String> {
        self.lock().table.resolve(user_or_number).map(str::to_owned)
    }

    /// What verifies a user's digest with that algorithm. The name is taken as it is: a digest is made over the name
    /// as the phone spelt it. `None` as well for an algorithm that the user may not use: whoever takes a stronger
    /// challenge away on the wire gains nothing (RFC 8760 §4).
    pub fn ha1(&self, user: &str, algorithm: Algorithm) -> Option<Ha1> {
        let replica = self.lock();
        let known = replica.table.entry(user).and_then(|entry| entry.account.as_ref());
        // Every step is taken for nobody as well: how long it takes must not tell who exists.
        let account = known.unwrap_or(&self.inner.nobody);
        let ha1 = account.ha1.of(algorithm).clone();
        let may_use = account.may_use(algorithm);
        (known.is_some() && may_use).then_some(ha1)
    }

    /// The user whom this name or number means, if that is the user's password. How long it takes says nothing of who exists.
    pub(crate) fn check_password(&self, user_or_number: &str, password: &str) -> Option<String> {
        let (user, kept) = {
            let replica = self.lock();
            let user = replica.table.resolve(user_or_number).map(str::to_owned);
            let account = user.as_deref().and_then(|user| replica.table.entry(user)?.account.as_ref());
            let kept = account.unwrap_or(&self.inner.nobody).ha1.of(Algorithm::Sha512_256).clone();
            (user, kept)
        };
        let named = user.as_deref().unwrap_or(user_or_number);
        let given = ha1(Algorithm::Sha512_256, named, &self.inner.domain, password);
        let is_right = verify_slices_are_equal(given.as_str().as_bytes(), kept.as_str().as_bytes()).is_ok();
        user.filter(|_| is_right)
    }

    /// What tells a user's password from another one: equal for as long as it is the same.
    pub(crate) fn password_mark(&self, user: &str) -> Option<Ha1> {
        let replica = self.lock();
        Some(replica.table.entry(user)?.account.as_ref()?.ha1.of(Algorithm::Sha512_256).clone())
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.lock().table.users()
    }

    /// What the table amounts to: home nodes that show the same text hold the same table.
    pub fn version(&self) -> String {
        let fingerprint = self.lock().table.fingerprint();
        HEXLOWER.encode(&fingerprint).chars().take(16).collect()
    }

    /// Tells of every change from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Lets a replication session handle a peer's message; what is news is kept and passed on.
    pub(super) fn handle(
        &self,
        session: &mut Session,
        from: NodeId,
        message: Message,
    ) -> Result<Outcome, PeerMisbehaved> {
        let mut replica = self.lock();
        let outcome = session.handle((self.inner.now_ms)(), message, &mut replica)?;
        for entry in &outcome.applied {
            self.keep(entry, Some(from));
        }
        Ok(outcome)
    }

    /// A session's summary of the table.
    pub(super) fn summary(&self, session: &Session) -> Option<Message> {
        session.summary(&self.lock())
    }

    /// Makes a change that seems to come from a peer, so that no session passes it back to that peer.
    #[cfg(test)]
    pub(super) fn slip_in(&self, user: &str, from: NodeId) {
        let mut replica = self.lock();
        let entry = replica.change((self.inner.now_ms)(), user, None).unwrap_or_else(|full| panic!("{full}"));
        self.keep(&entry, Some(from));
    }

    fn change(&self, replica: &mut Replica, user: &str, account: Option<Account>) -> Result<(), AccountError> {
        let entry = replica.change((self.inner.now_ms)(), user, account).map_err(|Full| AccountError::Full)?;
        self.keep(&entry, None);
        Ok(())
    }

    /// Called with the table locked, so that store and listeners see changes in the order they were made.
    fn keep(&self, entry: &Entry, from: Option<NodeId>) {
        self.inner.store.put(StoreTable::Accounts, &entry.user, Some(wire::encode(entry)));
        // No listener is no failure.
        let _ = self.inner.changes.send(Change { entry: entry.clone(), from });
    }

    fn hash(&self, user: &str, password: &Password) -> Ha1Set {
        Ha1Set::new(user, &self.inner.domain, password.reveal())
    }

    /// A panic elsewhere leaves a whole table behind: entries are merged in one go.
    fn lock(&self) -> MutexGuard<'_, Replica> {
        self.inner.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
