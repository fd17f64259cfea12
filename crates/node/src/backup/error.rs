//! What can go wrong with a backup, and what to do.

use std::io;
use std::path::PathBuf;

use meshtone_identity::Error as IdentityError;

use crate::account::password::NoRandomness;
use crate::enrol::EnrolError;
use crate::member::MemberError;
use crate::store::StoreError;

/// Why a backup was not made, or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The passphrase, the file's form, or a key in it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node's keys and certificates.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The keys of people.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The system gives no randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// Nothing to back up.
    #[error("there is no node in the data folder")]
    NoNode,
    /// The authority is at another node.
    #[error("this node does not have the overlay's authority")]
    NoAuthority,
    /// The file cannot be written.
    #[error("the backup cannot be written: {0}")]
    Output(#[source] io::Error),
    /// The file cannot be read.
    #[error("the backup cannot be read: {0}")]
    Input(#[source] io::Error),
    /// The file opens, but does not hold what it should.
    #[error("the backup is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// The file holds something that this program does not know.
    #[error("the backup holds {what:?}, which this program does not know")]
    Unknown {
        /// Its name.
        what: String,
    },
    /// There is something where the node should be restored.
    #[error("there is something in {} already", .0.display())]
    Taken(PathBuf),
}

impl BackupError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            BackupError::Identity(IdentityError::NotPermitted { what: "passphrase", .. }) => {
                "choose a longer passphrase, such as four words that do not belong together"
            }
            BackupError::Identity(IdentityError::NotPermitted { .. }) => {
                "type the passphrase that the backup was made with, or take another copy of the file"
            }
            BackupError::Identity(IdentityError::Unsupported { .. }) | BackupError::Unknown { .. } => {
                "a later meshtone wrote it: restore it with that one"
            }
            BackupError::Identity(_) | BackupError::Damaged { .. } => {
                "name the file that `meshtone backup` wrote, or take another copy of it"
            }
            BackupError::Store(error) => error.hint(),
            BackupError::Enrol(error) => error.hint(),
            BackupError::Member(error) => error.hint(),
            BackupError::Randomness(_) => "the machine's random number generator fails; restart the machine",
            BackupError::NoNode => "start one with `meshtone run`, or name its folder with --data",
            BackupError::NoAuthority => "leave --authority out, or run it at the node that founded the overlay",
            BackupError::Output(_) => "is there room on the disk?",
            BackupError::Input(_) => "name the file that `meshtone backup` wrote",
            BackupError::Taken(_) => {
                "name a folder with --data that is not there yet or is empty; a node that is there is never overwritten"
            }
        }
    }
}
