//! What can be changed of an existing account: its number, and the digest algorithms that its phones may use.

use std::collections::BTreeMap;

use meshtone_sip::digest::Algorithm;

use super::{Account, AccountError, Accounts, name};

/// The setting that names the digest algorithms of a user, separated by commas.
const DIGEST: &str = "digest";

/// What to change of an account; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The number under which the user can be called too; `Some(None)` takes it away.
    pub number: Option<Option<String>>,
    /// The only digest algorithms that the user's phones may use; an empty list allows all that a listener offers.
    pub digest: Option<Vec<Algorithm>>,
}

impl Account {
    /// The only digest algorithms that the user's phones may use (RFC 8760); `None` for all that a listener offers.
    pub fn digest(&self) -> Option<Vec<Algorithm>> {
        let tokens = self.settings.get(DIGEST)?.split(',');
        Some(tokens.filter_map(|token| Algorithm::from_token(token.trim())).collect())
    }

    /// Whether the user's phones may use this algorithm.
    pub(super) fn may_use(&self, algorithm: Algorithm) -> bool {
        let is_meant = |token: &str| Algorithm::from_token(token.trim()) == Some(algorithm);
        self.settings.get(DIGEST).is_none_or(|allowed| allowed.split(',').any(is_meant))
    }

    /// Allows these algorithms only, or with none given all of them.
    pub(super) fn restrict(&mut self, algorithms: &[Algorithm]) {
        if algorithms.is_empty() {
            self.settings.remove(DIGEST);
        } else {
            let tokens: Vec<&str> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
            self.settings.insert(DIGEST.to_owned(), tokens.join(","));
        }
    }
}

impl Accounts {
    /// Changes what is set for a user. Durable on return; blocks for an `fsync`.
    ///
    /// # Errors
    /// [`AccountError::Unknown`], or what the store says.
    pub(crate) fn change_settings(
        &self,
        user: &str,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<(), AccountError> {
        {
            let mut replica = self.lock();
            // As it was claimed, not as it is seen: a number that an older account has now is not given up by the way.
            let known = replica.table.entry(user).and_then(|entry| entry.account.clone());
            let Some(mut account) = known else { return Err(AccountError::Unknown { user: user.to_owned() }) };
            change(&mut account.settings);
            self.change(&mut replica, user, Some(account))?;
        }
        Ok(self.inner.store.flush()?)
    }

    /// Asks what is set for a user; without making anything, since each call asks.
    pub(crate) fn of_settings<T>(&self, user: &str, ask: impl FnOnce(&BTreeMap<String, String>) -> T) -> Option<T> {
        let replica = self.lock();
        Some(ask(&replica.table.entry(user)?.account.as_ref()?.settings))
    }

    /// Changes an account; the password stays. Durable on return; blocks for an `fsync`.
    ///
    /// # Errors
    /// [`AccountError`]; nothing was changed then, unless the store failed.
    pub fn set(&self, user: &str, changes: &Changes) -> Result<Account, AccountError> {
        let user = user.to_ascii_lowercase();
        let number = match &changes.number {
            Some(Some(text)) => Some(Some(name::new_number(text)?)),
            Some(None) => Some(None),
            None => None,
        };
        let changed = {
            let mut replica = self.lock();
            // As it was claimed, not as it is seen: a number that an older account has now is not given up by the way.
            let known = replica.table.entry(&user).and_then(|entry| entry.account.clone());
            let Some(mut account) = known else { return Err(AccountError::Unknown { user }) };
            if let Some(number) = number {
                if let Some(number) = &number
                    && let Some(owner) = replica.table.resolve(number).filter(|owner| *owner != user)
                {
                    return Err(AccountError::NumberTaken { number: number.clone(), user: owner.to_owned() });
                }
                account.number = number;
            }
            if let Some(algorithms) = &changes.digest {
                account.restrict(algorithms);
            }
            self.change(&mut replica, &user, Some(account))?;
            replica.table.account(&user)
        };
        self.inner.store.flush()?;
        changed.ok_or(AccountError::Unknown { user })
    }
}
