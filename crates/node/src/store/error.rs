//! What can go wrong with the data folder, and what to do about it.

use std::io;
use std::path::PathBuf;

use super::DATA_VERSION;

/// Why the data folder cannot be used. Always a local trouble: nothing here comes from a peer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A later program wrote the folder.
    #[error("the data folder {} has version {found}, this program knows up to {DATA_VERSION}", folder.display())]
    Newer {
        /// The data folder.
        folder: PathBuf,
        /// The version it says.
        found: u32,
    },
    /// Another process has the folder open.
    #[error("the data folder {} is in use by another process", folder.display())]
    Busy {
        /// The data folder.
        folder: PathBuf,
    },
    /// A file does not hold what this program writes.
    #[error("{} is damaged: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// What was put could not be made durable; it is kept in memory and tried again.
    #[error("{} cannot be written: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
}

impl StoreError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            StoreError::Newer { .. } => "run the newer meshtone that wrote it, or name another folder with --data",
            StoreError::Busy { .. } => "is a node already running there? stop it, or name another folder with --data",
            StoreError::Corrupt { .. } => "restore the data folder from a backup, or name a fresh one with --data",
            StoreError::Io { .. } => "check that the folder belongs to you and may be written to",
            StoreError::Write { .. } => "check that the disk is neither full nor failing",
        }
    }
}
