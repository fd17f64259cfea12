//! Drives one session over a stream: framing, timers, and the changes that are to be passed on.
//!
//! A message travels as its length (four bytes, big-endian) and its bytes. One task reads, writes and listens in turn; what waits to be
//! written is bounded, and a peer that does not read is left to the next comparison.

use std::error::Error;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use meshtone_identity::NodeId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

/// Our side of what is said in a session.
pub(crate) trait Dialogue {
    /// What happened here, or was told by a peer, that others are to hear.
    type Change: Clone;
    /// How a peer breaks the rules.
    type Misbehaved: Error;

    /// The longest message, in bytes.
    const LONGEST: usize;
    /// Bytes that may wait to be written before changes are dropped.
    const BACKLOG: usize;
    /// A peer from whom nothing came for that long is gone, whatever the link says.
    const SILENT_AFTER: Duration;

    /// Our first message.
    fn opening(&self) -> Vec<u8>;
    /// All is compared this often, though every change is told: one may get lost with a link.
    fn compare_every(&self) -> Duration;
    /// What begins a comparison, where that is ours.
    fn compare(&self) -> Option<Vec<u8>>;
    /// The message about a change.
    fn tell(&self, change: Self::Change) -> Vec<u8>;
    /// The peer that told a change; `None` for what happened here.
    fn source(change: &Self::Change) -> Option<NodeId>;
    /// What is said to a message.
    fn answer(&mut self, message: &[u8]) -> Result<Vec<Vec<u8>>, Self::Misbehaved>;
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended<M: Error> {
    /// The stream or the link under it.
    #[error("the stream broke: {0}")]
    Stream(#[from] std::io::Error),
    /// The peer broke the rules.
    #[error("{0}")]
    Peer(M),
    /// The peer sent a message of so many bytes, and of how many it may at most.
    #[error("the peer sent a message of {0} bytes, {1} are allowed")]
    TooLong(usize, usize),
    /// The peer said nothing for too long.
    #[error("the peer fell silent")]
    Silent,
    /// The peer does not read what we write.
    #[error("the peer reads nothing")]
    Stuck,
}

/// Speaks with a peer until one side ends it.
///
/// # Errors
/// [`Ended`]; an orderly end of the stream is none.
pub(crate) async fn carry<D: Dialogue>(
    mut ours: D,
    peer: NodeId,
    mut changes: Receiver<D::Change>,
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> Result<(), Ended<D::Misbehaved>> {
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    put(&mut output, &ours.opening());
    let mut compare_at = Instant::now() + ours.compare_every();
    let mut silent_at = Instant::now() + D::SILENT_AFTER;
    loop {
        tokio::select! {
            read = read.read_buf(&mut input) => {
                if read? == 0 {
                    return Ok(());
                }
                silent_at = Instant::now() + D::SILENT_AFTER;
                while let Some(message) = take::<D>(&mut input)? {
                    for said in ours.answer(&message).map_err(Ended::Peer)? {
                        put(&mut output, &said);
                    }
                    if output.len() > D::BACKLOG {
                        return Err(Ended::Stuck);
                    }
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
                Ok(change) if D::source(&change) == Some(peer) || output.len() > D::BACKLOG / 2 => {}
                Ok(change) => put(&mut output, &ours.tell(change)),
                // The next comparison finds out what was missed, so it comes at once.
                Err(RecvError::Lagged(_)) => compare_at = Instant::now(),
                Err(RecvError::Closed) => return Ok(()),
            },
            () = sleep_until(compare_at) => {
                compare_at = Instant::now() + ours.compare_every();
                if let Some(said) = ours.compare() {
                    put(&mut output, &said);
                }
            }
            () = sleep_until(silent_at) => return Err(Ended::Silent),
        }
    }
}

fn put(output: &mut BytesMut, message: &[u8]) {
    // A message is at most `LONGEST` by construction.
    output.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    output.put_slice(message);
}

/// Takes the next whole message off the input.
fn take<D: Dialogue>(input: &mut BytesMut) -> Result<Option<BytesMut>, Ended<D::Misbehaved>> {
    let Some(length) = input.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > D::LONGEST {
        return Err(Ended::TooLong(length, D::LONGEST));
    }
    if input.len() < 4 + length {
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(length)))
}
