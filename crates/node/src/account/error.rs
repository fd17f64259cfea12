//! What can be wrong with a request to change the account table.

use super::password::NoRandomness;
use super::table::MAX_ENTRIES;
use crate::store::StoreError;

/// Why an account was not added, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Not a user name.
    #[error("{user:?} is no user name")]
    BadUser {
        /// What was given.
        user: String,
    },
    /// A service answers to that name.
    #[error("the name {user} is reserved for a service of the node")]
    Reserved {
        /// The name.
        user: String,
    },
    /// Not a number.
    #[error("{number:?} is no telephone number")]
    BadNumber {
        /// What was given.
        number: String,
    },
    /// There is such a user already.
    #[error("there is a user {user} already")]
    UserTaken {
        /// The user.
        user: String,
    },
    /// Another user has the number, or is called by it.
    #[error("{user} has the number {number} already")]
    NumberTaken {
        /// The number.
        number: String,
        /// Whose it is.
        user: String,
    },
    /// There is no such user.
    #[error("there is no user {user}")]
    Unknown {
        /// The name looked for.
        user: String,
    },
    /// The table is full, removals of the past included.
    #[error("the account table holds {MAX_ENTRIES} entries and can take no more")]
    Full,
    /// No password could be made.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The change is not on disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AccountError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            AccountError::BadUser { .. } => "use letters, digits and - _ . without spaces, 64 at most",
            AccountError::Reserved { .. } => "choose another name",
            AccountError::BadNumber { .. } => "use digits, with a + before them if you like, 20 at most",
            AccountError::UserTaken { .. } => "`meshtone user passwd` gives the user a new password",
            AccountError::NumberTaken { .. } => "choose another number; `meshtone user list` shows them",
            AccountError::Unknown { .. } => "`meshtone user list` shows who there is",
            AccountError::Full => "run a second domain on nodes of its own",
            AccountError::Randomness(_) => "the machine's random number generator fails; restart the machine",
            AccountError::Store(error) => error.hint(),
        }
    }
}
