//! What can go wrong with people and their keys, whose side it is on, and what to do.

use meshtone_identity::Error as IdentityError;

use crate::account::password::NoRandomness;
use crate::store::StoreError;

/// Why something for a person was not done.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key, certificate, card, address or passphrase.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The system gives no randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// No key of that address is here.
    #[error("this node holds no key of {0}")]
    NoKey(String),
    /// A code, but nothing was asked for.
    #[error("no code was asked for here for {0}")]
    NotBegun(String),
    /// The mailbox was not proved.
    #[error("{0} is not enrolled yet: the code from the mail is missing")]
    NotCertified(String),
    /// There is a later certificate for another key.
    #[error("somebody has proved the mailbox of {0} anew since, with another key")]
    Superseded(String),
    /// It holds here, but others do not know.
    #[error("the overlay has not taken it yet: {0}")]
    NotSaid(String),
}

impl MemberError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            MemberError::Store(error) => error.hint(),
            MemberError::Identity(IdentityError::Text { .. } | IdentityError::Domain { .. }) => {
                "give an address such as alice@example.net"
            }
            MemberError::Identity(IdentityError::NotPermitted { .. }) => {
                "a passphrase has at least 10 characters; a card is opened with the one it was made with; a person has 16 nodes at most"
            }
            MemberError::Identity(IdentityError::Issuer { .. }) => "the card is of another overlay",
            MemberError::Identity(IdentityError::Expired { .. }) => "enrol again: `meshtone enroll` with the address",
            MemberError::Identity(_) => "give the whole text of the card, as `meshtone key export` wrote it",
            MemberError::Randomness(_) => "the machine's random number generator fails; restart the machine",
            MemberError::NoKey(_) => {
                "run it on the node where the address was enrolled, or bring the key here with `meshtone key import`"
            }
            MemberError::NotBegun(_) => "ask for a code first: `meshtone enroll` with the address alone",
            MemberError::NotCertified(_) => "`meshtone enroll` with the address and --code",
            MemberError::Superseded(_) => {
                "if that was you, use the machine that you enrolled on last; if not, enrol again and change the password of the mailbox"
            }
            MemberError::NotSaid(_) => {
                "this node tries again by itself; `meshtone status` shows whether it reaches others"
            }
        }
    }
}
