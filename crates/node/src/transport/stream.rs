//! SIP over TCP (RFC 3261 §18): connections are used both ways, by whoever opened them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshtone_sip::stream::{StreamDecoder, StreamItem};
use meshtone_sip::transport::{Flow, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::Transports;
use super::dispatch::Outgoing;

/// Messages that may wait for one slow reader before its connection is given up.
pub(super) const STREAM_QUEUE: usize = 256;
/// A connection that has not brought one whole message by then is closed (slow loris).
const FIRST_MESSAGE_WITHIN: Duration = Duration::from_secs(30);
/// A connection that says nothing for this long is closed: twice the longest registration.
const IDLE: Duration = Duration::from_secs(4 * 3600);
/// A message begun must be complete within this time.
const MESSAGE_WITHIN: Duration = Duration::from_secs(30);
/// A reader that takes nothing for this long has gone.
const WRITE_WITHIN: Duration = Duration::from_secs(20);
/// A connection whose framing is lost stays this long for the answer that says so.
const LAST_ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// How long opening a connection may take; the transaction layer has its own, longer, limit.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Accepts until the task is dropped.
pub(super) async fn accept(transports: Arc<Transports>, listener: u16, socket: TcpListener) {
    loop {
        match socket.accept().await {
            Ok((stream, remote)) => {
                let _ = stream.set_nodelay(true);
                let (queue, outgoing) = mpsc::channel(STREAM_QUEUE);
                match transports.add_connection(remote, queue) {
                    Some(connection) => spawn(&transports, listener, connection, remote, stream, outgoing),
                    None => tracing::warn!(%remote, "too many SIP connections: closed"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "TCP accept");
                // Out of descriptors, most likely: let others close theirs.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Opens a connection whose entry and queue exist already, then serves it.
pub(super) async fn connect(
    transports: Arc<Transports>,
    listener: u16,
    connection: u64,
    remote: SocketAddr,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    match timeout(CONNECT_WITHIN, TcpStream::connect(remote)).await {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            spawn(&transports, listener, connection, remote, stream, outgoing);
        }
        Ok(Err(_)) | Err(_) => {
            tracing::debug!(%remote, "TCP connection failed");
            transports.remove_connection(connection);
            transports.fail_all(&mut outgoing);
        }
    }
}

fn spawn(
    transports: &Arc<Transports>,
    listener: u16,
    connection: u64,
    remote: SocketAddr,
    stream: TcpStream,
    outgoing: mpsc::Receiver<Outgoing>,
) {
    let (read, write) = stream.into_split();
    let writing = tokio::spawn(write_all(transports.clone(), connection, write, outgoing));
    let transports = transports.clone();
    tokio::spawn(async move {
        let flow = Flow::Stream { transport: Transport::Tcp, listener, connection, remote };
        read_all(&transports, flow, connection, read).await;
        transports.remove_connection(connection);
        // Its queue's sender went with the entry: the writer ends once what waits is written.
        let _ = timeout(WRITE_WITHIN, writing).await;
    });
}

async fn read_all(transports: &Arc<Transports>, flow: Flow, connection: u64, mut read: OwnedReadHalf) {
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
                    transports.dispatch.stream(flow.clone(), message).await;
                    proven = true;
                    progressed = true;
                }
                Ok(Some(StreamItem::Bad(error, partial))) => transports.dispatch.bad(flow.clone(), error, partial),
                // RFC 5626 §4.4.1: a double CRLF is answered by a single one.
                Ok(Some(StreamItem::KeepAlivePing)) => transports.pong(connection),
                Ok(Some(StreamItem::KeepAlivePong)) => {}
                Ok(None) => break,
                Err(lost) => {
                    tracing::debug!(error = %lost.error, "framing lost, connection closed");
                    if lost.partial.is_some() {
                        transports.dispatch.bad(flow, lost.error, lost.partial);
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

async fn write_all(
    transports: Arc<Transports>,
    connection: u64,
    mut write: OwnedWriteHalf,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    while let Some(next) = outgoing.recv().await {
        let written = timeout(WRITE_WITHIN, write.write_all(&next.bytes)).await;
        if !matches!(written, Ok(Ok(()))) {
            transports.remove_connection(connection);
            transports.dispatch.failed(next.report);
            transports.fail_all(&mut outgoing);
            return;
        }
    }
}
