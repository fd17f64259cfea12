//! The table of sessions.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use meshtone_sip::digest::{Algorithm, Ha1, ha1};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::{Hash, derived, fresh_secret, hash_of};
use crate::account::Accounts;
use crate::store::cbor::to_cbor;
use crate::store::{Store, StoreError, Table};

/// How long a session lasts that nobody uses: a working day, so that nobody types his password twice in one.
const IDLE_MS: u64 = 12 * 3_600_000;
/// How long it lasts at all: whoever stole one has it no longer than that.
const LONGEST_MS: u64 = 30 * 24 * 3_600_000;
/// Sessions of one account: the browsers of a person, and those she has forgotten to leave.
const MAX_OF_ACCOUNT: usize = 20;
/// Sessions in all, some 500 bytes each; the one that was unused the longest makes room.
const MAX_SESSIONS: usize = 20_000;
/// That a session was used is written down this often, no more.
const WRITTEN_EVERY_MS: u64 = 10 * 60_000;
/// Ends that a slow listener may lag behind before it looks at all of its own again.
const ENDS_KEPT: usize = 64;

/// Between an account's name and what makes it the name of a session's credential.
const MARK: char = '~';
/// Digits after that.
const NAME_LEN: usize = 32;

/// What a session is, for whoever showed its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Which one, for whoever waits for its end.
    pub(crate) id: Hash,
    /// Whose; `None` of an administrator.
    pub(crate) user: Option<String>,
    /// What has to come with whatever changes something.
    pub(crate) csrf: String,
    /// For how many seconds it lasts when nobody uses it again.
    pub(crate) expires_s: u64,
    /// By what the session registers and calls.
    pub(crate) sip: Option<SipCredential>,
}

impl Found {
    pub(crate) fn administers(&self) -> bool {
        self.user.is_none()
    }
}

/// A credential that is good for as long as its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SipCredential {
    pub(crate) username: String,
    pub(crate) password: String,
}

/// A session as it is kept.
#[derive(Debug, Clone)]
struct Session {
    user: Option<String>,
    /// What the account's password was when it was opened.
    opened_by: Option<Ha1>,
    opened_ms: u64,
    used_ms: u64,
    written_ms: u64,
    /// The digits of its credential's name, and what verifies the password.
    name: String,
    ha1: [Ha1; 3],
}

impl Session {
    fn ends_ms(&self) -> u64 {
        self.used_ms.saturating_add(IDLE_MS).min(self.opened_ms.saturating_add(LONGEST_MS))
    }
}

/// (user, opened by, opened, used, name, hashes by algorithm as in [`Algorithm::ALL`])
#[derive(Serialize, Deserialize)]
struct Kept(Option<String>, Option<String>, u64, u64, String, [String; 3]);

#[derive(Default)]
struct State {
    sessions: HashMap<Hash, Session>,
    /// By the digits of their credentials' names.
    names: HashMap<String, Hash>,
    /// Of accounts, by when they were opened.
    of_user: BTreeMap<String, Vec<Hash>>,
}

/// All sessions at this node.
pub(crate) struct Sessions {
    state: Mutex<State>,
    accounts: Accounts,
    store: Store,
    ends: broadcast::Sender<Hash>,
}

impl Sessions {
    /// The sessions that the store has.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub(crate) fn open(store: Store, accounts: Accounts, now_ms: u64) -> Result<Sessions, StoreError> {
        let mut state = State::default();
        for (key, bytes) in store.load(Table::Sessions)? {
            match read(&key, &bytes).filter(|(_, session)| session.ends_ms() > now_ms) {
                Some((id, session)) => state.insert(id, session),
                // Over, or of another release: whoever had it logs in again.
                None => store.put(Table::Sessions, &key, None),
            }
        }
        Ok(Sessions { state: Mutex::new(state), accounts, store, ends: broadcast::channel(ENDS_KEPT).0 })
    }

    /// Opens a session of an account, or of an administrator; returns its secret, which goes into the cookie and is kept nowhere.
    pub(crate) fn begin(&self, now_ms: u64, user: Option<&str>) -> String {
        let secret = fresh_secret();
        let id = hash_of(&secret);
        let name = derived(&secret, "sip username");
        let username = user.map(|user| username(user, &name)).unwrap_or_default();
        let (realm, password) = (self.accounts.domain(), derived(&secret, "sip password"));
        let session = Session {
            user: user.map(str::to_owned),
            opened_by: user.and_then(|user| self.accounts.password_mark(user)),
            opened_ms: now_ms,
            used_ms: now_ms,
            written_ms: now_ms,
            name,
            ha1: Algorithm::ALL.map(|algorithm| ha1(algorithm, &username, realm, &password)),
        };
        let mut state = self.state();
        while user.is_some_and(|user| state.of_user.get(user).is_some_and(|all| all.len() >= MAX_OF_ACCOUNT)) {
            let oldest = user.and_then(|user| state.of_user.get(user)?.first().copied());
            oldest.iter().for_each(|id| self.forget(&mut state, id));
        }
        if state.sessions.len() >= MAX_SESSIONS {
            let oldest = state.sessions.iter().min_by_key(|(_, session)| session.used_ms).map(|(id, _)| *id);
            oldest.iter().for_each(|id| self.forget(&mut state, id));
        }
        self.store.put(Table::Sessions, &HEXLOWER.encode(&id), Some(written(&session)));
        state.insert(id, session);
        secret
    }

    /// The session of a secret, which is used by that.
    pub(crate) fn find(&self, now_ms: u64, secret: &str) -> Option<Found> {
        let id = hash_of(secret);
        let mut state = self.state();
        if !self.is_alive(&mut state, now_ms, &id) {
            return None;
        }
        let session = state.sessions.get_mut(&id)?;
        session.used_ms = session.used_ms.max(now_ms);
        if now_ms.saturating_sub(session.written_ms) >= WRITTEN_EVERY_MS {
            session.written_ms = now_ms;
            self.store.put(Table::Sessions, &HEXLOWER.encode(&id), Some(written(session)));
        }
        let sip = session.user.as_ref().map(|user| SipCredential {
            username: username(user, &session.name),
            password: derived(secret, "sip password"),
        });
        let expires_s = session.ends_ms().saturating_sub(now_ms) / 1000;
        Some(Found { id, user: session.user.clone(), csrf: derived(secret, "csrf"), expires_s, sip })
    }

    /// Whether a session goes on; looking does not use it.
    pub(crate) fn is_open(&self, now_ms: u64, id: &Hash) -> bool {
        self.is_alive(&mut self.state(), now_ms, id)
    }

    /// How many there are, those that have ended and were not missed yet among them.
    pub(crate) fn count(&self) -> usize {
        self.state().sessions.len()
    }

    /// Ends one.
    pub(crate) fn end(&self, id: &Hash) {
        self.forget(&mut self.state(), id);
    }

    /// Ends those of an account whose password is not the one any more by which they were opened.
    pub(crate) fn check_account(&self, user: &str) {
        let mut state = self.state();
        for id in state.of_user.get(user).cloned().unwrap_or_default() {
            self.is_alive(&mut state, 0, &id);
        }
    }

    /// Says which ones end from now on.
    pub(crate) fn ends(&self) -> broadcast::Receiver<Hash> {
        self.ends.subscribe()
    }

    /// What verifies the digest of a session's credential, and whose it is; `None` where that session is over.
    pub(crate) fn credential(&self, now_ms: u64, name: &str, algorithm: Algorithm) -> Option<(String, Ha1)> {
        let (user, digits) = name.rsplit_once(MARK)?;
        let mut state = self.state();
        let id = *state.names.get(digits)?;
        if !self.is_alive(&mut state, now_ms, &id) {
            return None;
        }
        let session = state.sessions.get(&id).filter(|session| session.user.as_deref() == Some(user))?;
        let index = Algorithm::ALL.iter().position(|known| *known == algorithm)?;
        Some((user.to_owned(), session.ha1.get(index)?.clone()))
    }

    /// Which session has a credential of this name.
    pub(crate) fn of_name(&self, name: &str) -> Option<Hash> {
        self.state().names.get(name.rsplit_once(MARK)?.1).copied()
    }

    /// Whether it goes on; one that does not is forgotten.
    fn is_alive(&self, state: &mut State, now_ms: u64, id: &Hash) -> bool {
        let Some(session) = state.sessions.get(id) else { return false };
        let is_of_account = match &session.user {
            Some(user) => session.opened_by.is_some() && self.accounts.password_mark(user) == session.opened_by,
            None => true,
        };
        let is_alive = is_of_account && session.ends_ms() > now_ms;
        if !is_alive {
            self.forget(state, id);
        }
        is_alive
    }

    fn forget(&self, state: &mut State, id: &Hash) {
        if state.remove(id) {
            self.store.put(Table::Sessions, &HEXLOWER.encode(id), None);
            // Nobody waits, maybe.
            let _ = self.ends.send(*id);
        }
    }

    /// A panic elsewhere leaves a whole table behind.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, id: Hash, session: Session) {
        if let Some(user) = &session.user {
            let all = self.of_user.entry(user.clone()).or_default();
            all.push(id);
            // Those of the store come in the order of their hashes.
            let sessions = &self.sessions;
            let opened = |id: &Hash| sessions.get(id).map_or(session.opened_ms, |session| session.opened_ms);
            all.sort_by_key(opened);
            self.names.insert(session.name.clone(), id);
        }
        self.sessions.insert(id, session);
    }

    fn remove(&mut self, id: &Hash) -> bool {
        let Some(session) = self.sessions.remove(id) else { return false };
        self.names.remove(&session.name);
        if let Some(user) = session.user
            && let Some(all) = self.of_user.get_mut(&user)
        {
            all.retain(|other| other != id);
            if all.is_empty() {
                self.of_user.remove(&user);
            }
        }
        true
    }
}

/// The name that a session's credential has in digests.
fn username(user: &str, name: &str) -> String {
    format!("{user}{MARK}{name}")
}

/// Whether a name in a digest is, or was, that of a session's credential: of those nobody guesses one.
pub(crate) fn is_session_name(name: &str) -> bool {
    name.rsplit_once(MARK).is_some_and(|(_, digits)| {
        digits.len() == NAME_LEN && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn written(session: &Session) -> Vec<u8> {
    let hex = |ha1: &Ha1| ha1.as_str().to_owned();
    let [first, second, third] = &session.ha1;
    to_cbor(&Kept(
        session.user.clone(),
        session.opened_by.as_ref().map(hex),
        session.opened_ms,
        session.used_ms,
        session.name.clone(),
        [hex(first), hex(second), hex(third)],
    ))
}

fn read(key: &str, bytes: &[u8]) -> Option<(Hash, Session)> {
    let id: Hash = HEXLOWER.decode(key.as_bytes()).ok()?.try_into().ok()?;
    let Kept(user, opened_by, opened_ms, used_ms, name, [first, second, third]) = ciborium::from_reader(bytes).ok()?;
    let opened_by = match opened_by {
        Some(hex) => Some(Ha1::from_hex(&hex)?),
        None => None,
    };
    let ha1 = [Ha1::from_hex(&first)?, Ha1::from_hex(&second)?, Ha1::from_hex(&third)?];
    Some((id, Session { user, opened_by, opened_ms, used_ms, written_ms: used_ms, name, ha1 }))
}

#[cfg(test)]
mod tests;
