//! SIP on byte streams, TCP and TLS (RFC 3261 §18): connections are used both ways, by whoever opened them.

use std::sync::Arc;
use std::time::Duration;

use meshtone_sip::stream::{StreamDecoder, StreamItem};
use meshtone_sip::transport::Flow;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use super::Transports;
use super::dispatch::Outgoing;

/// Messages that may wait for one slow reader before its connection is given up.
pub(super) const STREAM_QUEUE: usize = 256;
/// Messages that wait are written together, so many at most: 16 KiB of usual ones.
const WRITTEN_AT_ONCE: usize = 32;
/// A connection that has not brought one whole message by then is closed (slow loris).
pub(super) const FIRST_MESSAGE_WITHIN: Duration = Duration::from_secs(30);
/// A connection that says nothing for this long is closed: twice the longest registration.
pub(super) const IDLE: Duration = Duration::from_secs(4 * 3600);
/// A message begun must be complete within this time.
const MESSAGE_WITHIN: Duration = Duration::from_secs(30);
/// A reader that takes nothing for this long has gone.
pub(super) const WRITE_WITHIN: Duration = Duration::from_secs(20);
/// A connection whose framing is lost stays this long for the answer that says so.
const LAST_ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Serves a connection that is entered in the table, until either side ends it.
pub(super) async fn serve<S>(
    transports: Arc<Transports>,
    flow: Flow,
    connection: u64,
    closed: Arc<Notify>,
    stream: S,
    outgoing: mpsc::Receiver<Outgoing>,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let writing = tokio::spawn(write_all(transports.clone(), connection, write, outgoing));
    tokio::select! {
        () = read_all(&transports, flow, connection, read) => {}
        () = closed.notified() => {}
    }
    transports.remove_connection(connection);
    // Its queue's sender went with the entry: the writer ends once what waits is written.
    let _ = timeout(WRITE_WITHIN, writing).await;
}

async fn read_all<S: AsyncRead>(transports: &Arc<Transports>, flow: Flow, connection: u64, mut read: ReadHalf<S>) {
    let mut decoder = StreamDecoder::default();
    let mut buffer = vec![0u8; 16 * 1024];
    let mut deadline = Instant::now() + FIRST_MESSAGE_WITHIN;
    let mut proven = false;
    loop {
        let count = match timeout_at(deadline, read.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => count,
            Ok(Ok(_) | Err(_)) | Err(_) => return,
        };
        let was_mid_message = decoder.pending() > 0;
        decoder.push(buffer.get(..count).unwrap_or_default());
        let mut progressed = false;
        loop {
            match decoder.next() {
                Ok(Some(StreamItem::Message(message))) => {
                    if !proven {
                        transports.prove_connection(connection);
                    }
                    transports.on_message(flow.clone(), message);
                    proven = true;
                    progressed = true;
                }
                Ok(Some(StreamItem::Bad(error, partial))) => transports.on_bad(flow.clone(), &error, partial),
                // RFC 5626 §4.4.1: a double CRLF is answered by a single one.
                Ok(Some(StreamItem::KeepAlivePing)) => transports.pong(connection),
                Ok(Some(StreamItem::KeepAlivePong)) => {}
                Ok(None) => break,
                Err(lost) => {
                    tracing::debug!(error = %lost.error, "framing lost, connection closed");
                    if lost.partial.is_some() {
                        transports.on_bad(flow, &lost.error, lost.partial);
                        tokio::time::sleep(LAST_ANSWER_WITHIN).await;
                    }
                    return;
                }
            }
        }
        // A message begun has a deadline that further bytes of it do not move.
        if !proven {
            continue;
        } else if decoder.pending() == 0 {
            deadline = Instant::now() + IDLE;
        } else if progressed || !was_mid_message {
            deadline = Instant::now() + MESSAGE_WITHIN;
        }
    }
}

async fn write_all<S: AsyncWrite>(
    transports: Arc<Transports>,
    connection: u64,
    mut write: WriteHalf<S>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    let mut batch = Vec::new();
    let mut joined = Vec::new();
    while outgoing.recv_many(&mut batch, WRITTEN_AT_ONCE).await > 0 {
        let bytes = match batch.as_slice() {
            [only] => only.bytes.as_ref(),
            _ => {
                joined.clear();
                for next in &batch {
                    joined.extend_from_slice(&next.bytes);
                }
                joined.as_slice()
            }
        };
        let writing = async {
            write.write_all(bytes).await?;
            // TLS holds back what it has not been told to send.
            write.flush().await
        };
        if !matches!(timeout(WRITE_WITHIN, writing).await, Ok(Ok(()))) {
            transports.remove_connection(connection);
            for unwritten in batch {
                transports.dispatch.failed(unwritten.report);
            }
            transports.fail_all(&mut outgoing);
            return;
        }
        batch.clear();
    }
    let _ = timeout(WRITE_WITHIN, write.shutdown()).await;
}
