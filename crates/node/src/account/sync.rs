//! What a replication [`Session`] says over a stream, and what it does to the table here.

use std::time::Duration;

use meshtone_identity::NodeId;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Accounts;
use super::handle::Change;
use super::session::{MAX_MESSAGE_LEN, Message, PeerMisbehaved, Session};
use crate::homes::{Dialogue, Ended, Role, carry};

/// Tables are compared at least this often.
const COMPARE_EVERY: Duration = Duration::from_secs(30);

/// Why a session ended.
pub type SyncError = Ended<PeerMisbehaved>;

/// Replicates the accounts over one stream until it ends.
///
/// `stagger` (0 to 1) shifts our comparisons, so that those of many nodes do not fall together.
///
/// # Errors
/// [`SyncError`]; an orderly end of the stream is none.
pub async fn run(
    accounts: Accounts,
    peer: NodeId,
    role: Role,
    stagger: f64,
    read: impl AsyncRead + Unpin,
    write: impl AsyncWrite + Unpin,
) -> Result<(), SyncError> {
    let changes = accounts.subscribe();
    let session = Session::new(role, accounts.domain());
    let compare_every = COMPARE_EVERY.mul_f64(0.75 + 0.25 * stagger.clamp(0.0, 1.0));
    carry(Replication { accounts, session, peer, compare_every }, peer, changes, read, write).await
}

struct Replication {
    accounts: Accounts,
    session: Session,
    peer: NodeId,
    compare_every: Duration,
}

impl Dialogue for Replication {
    type Change = Change;
    type Misbehaved = PeerMisbehaved;

    const LONGEST: usize = MAX_MESSAGE_LEN;
    // A page of the largest entries takes 2.3 MB.
    const BACKLOG: usize = 4 << 20;
    // Three comparisons.
    const SILENT_AFTER: Duration = Duration::from_secs(90);

    fn opening(&self) -> Vec<u8> {
        self.session.hello().encode()
    }

    fn compare_every(&self) -> Duration {
        self.compare_every
    }

    fn compare(&self) -> Option<Vec<u8>> {
        self.accounts.summary(&self.session).map(|summary| summary.encode())
    }

    fn tell(&self, change: Change) -> Vec<u8> {
        self.session.push(&change.entry).encode()
    }

    fn source(change: &Change) -> Option<NodeId> {
        change.from
    }

    fn answer(&mut self, message: &[u8]) -> Result<Vec<Vec<u8>>, PeerMisbehaved> {
        let outcome = self.accounts.handle(&mut self.session, self.peer, Message::decode(message)?)?;
        if let Some((user, refused)) = outcome.refused.first() {
            let (peer, count) = (self.peer, outcome.refused.len());
            tracing::warn!(%peer, user, count, %refused, "a home node's account changes were not taken");
        }
        Ok(outcome.replies.iter().map(Message::encode).collect())
    }
}

#[cfg(test)]
mod tests;
