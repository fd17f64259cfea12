//! Drives a replication [`Session`] over a stream: framing, timers, and the changes that are to be passed on.
//!
//! A message travels as its length (four bytes, big-endian) and its bytes. One task reads, writes and listens in turn;
//! what waits to be written is bounded, and a peer that does not read is left to the next comparison.

use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use meshtone_identity::NodeId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::Accounts;
use super::session::{MAX_MESSAGE_LEN, Message, PeerMisbehaved, Role, Session};

/// Tables are compared at least this often, although every change is pushed: a change may get lost with a link.
pub const COMPARE_EVERY: Duration = Duration::from_secs(30);

/// A peer from whom nothing came for three comparisons is gone, whatever the link says.
pub const SILENT_AFTER: Duration = Duration::from_secs(90);

/// Bytes that may wait to be written before pushed changes are dropped; a page of the largest entries takes 2.3 MB.
const MAX_BACKLOG: usize = 4 << 20;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The stream or the link under it.
    #[error("the stream broke: {0}")]
    Stream(#[from] std::io::Error),
    /// The peer broke the protocol.
    #[error(transparent)]
    Peer(#[from] PeerMisbehaved),
    /// The peer said nothing for [`SILENT_AFTER`].
    #[error("the peer fell silent")]
    Silent,
    /// The peer does not read what we write.
    #[error("the peer reads nothing")]
    Stuck,
}

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
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> Result<(), SyncError> {
    let mut changes = accounts.subscribe();
    let mut session = Session::new(role, accounts.domain());
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    put(&mut output, &session.hello());

    let period = COMPARE_EVERY.mul_f64(0.75 + 0.25 * stagger.clamp(0.0, 1.0));
    let mut compare_at = Instant::now() + period;
    let mut silent_at = Instant::now() + SILENT_AFTER;
    loop {
        tokio::select! {
            read = read.read_buf(&mut input) => {
                if read? == 0 {
                    return Ok(());
                }
                silent_at = Instant::now() + SILENT_AFTER;
                while let Some(message) = take(&mut input)? {
                    let outcome = accounts.handle(&mut session, peer, message)?;
                    for reply in &outcome.replies {
                        put(&mut output, reply);
                    }
                    if let Some((user, refused)) = outcome.refused.first() {
                        let count = outcome.refused.len();
                        tracing::warn!(%peer, user, count, %refused, "a home node's account changes were not taken");
                    }
                }
                if output.len() > MAX_BACKLOG {
                    return Err(SyncError::Stuck);
                }
            }
            written = write.write_buf(&mut output), if output.has_remaining() => {
                if written? == 0 {
                    return Ok(());
                }
                if output.is_empty() {
                    write.flush().await?;
                }
            }
            change = changes.recv() => match change {
                Ok(change) if change.from == Some(peer) || output.len() > MAX_BACKLOG / 2 => {}
                Ok(change) => put(&mut output, &session.push(&change.entry)),
                // The next summary finds out what was missed, so it comes at once.
                Err(RecvError::Lagged(_)) => compare_at = Instant::now(),
                Err(RecvError::Closed) => return Ok(()),
            },
            () = sleep_until(compare_at) => {
                compare_at = Instant::now() + period;
                if let Some(summary) = accounts.summary(&session) {
                    put(&mut output, &summary);
                }
            }
            () = sleep_until(silent_at) => return Err(SyncError::Silent),
        }
    }
}

fn put(output: &mut BytesMut, message: &Message) {
    let bytes = message.encode();
    // A message is at most MAX_MESSAGE_LEN by construction, see session.rs.
    output.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    output.put_slice(&bytes);
}

/// Takes the next whole message off the input.
fn take(input: &mut BytesMut) -> Result<Option<Message>, PeerMisbehaved> {
    let Some(length) = input.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE_LEN {
        return Err(PeerMisbehaved::TooLong(length));
    }
    if input.len() < 4 + length {
        return Ok(None);
    }
    input.advance(4);
    Message::decode(&input.split_to(length)).map(Some)
}

#[cfg(test)]
mod tests;
