//! What runs while a link is up: messages both ways, the liveness check, and the streams that the peer opens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use iroh::endpoint::{Connection, VarInt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, trace};

use super::frame::Frame;
use super::limits::{
    DEAD_AFTER, MAX_FRAME, MAX_QUEUED, MAX_QUEUED_BYTES, MAX_UNTAGGED, OPEN_TIMEOUT, PING_INTERVAL, TAG_TIMEOUT,
};
use super::relay::client::RelayClient;
use super::table::{Link, LinkInput, Shared, unix_ms};
use super::{IncomingStream, LinkError, Protocol, RecvStream, SendStream, code, endpoint};

/// The queue of what is to be written on the link's own stream. When it is full, messages are dropped and counted.
#[derive(Clone)]
pub(super) struct Outbound {
    sender: mpsc::Sender<Frame>,
    load: Arc<Load>,
}

/// The reading end of an [`Outbound`].
pub(super) struct Queue {
    receiver: mpsc::Receiver<Frame>,
    load: Arc<Load>,
}

#[derive(Default)]
struct Load {
    bytes: AtomicUsize,
    dropped: AtomicUsize,
}

impl Outbound {
    pub(super) fn new() -> (Self, Queue) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let load = Arc::new(Load::default());
        (Self { sender, load: Arc::clone(&load) }, Queue { receiver, load })
    }

    /// Queues a message; `false` when it had to be dropped.
    pub(super) fn message(&self, message: Bytes) -> bool {
        let length = message.len();
        let room = self.load.bytes.fetch_add(length, Ordering::Relaxed) + length <= MAX_QUEUED_BYTES;
        if room && self.sender.try_send(Frame::Message(message)).is_ok() {
            return true;
        }
        self.load.bytes.fetch_sub(length, Ordering::Relaxed);
        let dropped = self.load.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        trace!(dropped, "a message was dropped, its link is too slow");
        false
    }

    /// Queues a ping or a pong; when there is no room, whatever is before it serves as well.
    fn signal(&self, frame: Frame) {
        let _ = self.sender.try_send(frame);
    }
}

/// When the peer was heard last, and whether we are the ones who do not listen.
struct Hearing {
    last: Mutex<Instant>,
    delivering: AtomicBool,
}

impl Hearing {
    fn heard(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silence(&self) -> Duration {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Runs a link until it ends, for whatever reason, then takes it out of the table.
pub(super) async fn run(
    shared: Arc<Shared>,
    link: Arc<Link>,
    (send, recv): (iroh::endpoint::SendStream, iroh::endpoint::RecvStream),
    queue: Queue,
) {
    let hearing = Hearing { last: Mutex::new(Instant::now()), delivering: AtomicBool::new(false) };
    tokio::spawn(hear_datagrams(Arc::clone(&shared), Arc::clone(&link)));
    let reason = tokio::select! {
        reason = write(send, queue) => reason,
        reason = read(&shared, &link, recv, &hearing) => reason,
        reason = watch(&shared, &link, &hearing) => reason,
        reason = accept(&shared, &link) => reason,
        _ = link.connection.closed() => code::GOODBYE,
    };
    let why = endpoint::why_closed(&link.connection);
    endpoint::close(&link.connection, reason);
    debug!(node = %link.peer.node.short(), %why, reason, "link down");
    let silent = reason == code::SILENT || is_silence(&why);
    if reason == code::SILENT
        && let Some(relay) = RelayClient::relay_of(&link.connection)
    {
        shared.relays.doubt(relay);
    }
    shared.leave(&link, silent).await;
}

/// Whether a link has ended since one side did not hear the other, and not because somebody wanted that.
fn is_silence(why: &LinkError) -> bool {
    match why {
        LinkError::ClosedByPeer(why) => why.0 == u64::from(code::SILENT),
        LinkError::Unreachable(_) | LinkError::Timeout => true,
        LinkError::Local(_)
        | LinkError::Stopped
        | LinkError::Busy(_)
        | LinkError::Peer(_)
        | LinkError::Misbehaved(_)
        | LinkError::NoLink => false,
    }
}

/// Writes what is queued, as much at once as there is.
async fn write(mut send: iroh::endpoint::SendStream, mut queue: Queue) -> u32 {
    let mut buffer = BytesMut::new();
    while let Some(frame) = queue.receiver.recv().await {
        let mut next = Some(frame);
        while let Some(frame) = next {
            if let Frame::Message(message) = &frame {
                queue.load.bytes.fetch_sub(message.len(), Ordering::Relaxed);
            }
            frame.encode(&mut buffer);
            next = if buffer.len() < MAX_FRAME { queue.receiver.try_recv().ok() } else { None };
        }
        if send.write_all(&buffer).await.is_err() {
            break;
        }
        buffer.clear();
    }
    code::GOODBYE
}

/// Reads what the peer says, answers its pings and passes its messages on.
async fn read(shared: &Shared, link: &Link, mut recv: iroh::endpoint::RecvStream, hearing: &Hearing) -> u32 {
    let mut buffer = BytesMut::new();
    loop {
        match Frame::decode(&mut buffer) {
            Ok(Some(Frame::Ping)) => link.outbound.signal(Frame::Pong),
            Ok(Some(Frame::Pong)) => {}
            Ok(Some(Frame::Message(bytes))) => {
                hearing.delivering.store(true, Ordering::Relaxed);
                shared.tell(LinkInput::Message { from: link.peer.node, bytes }).await;
                hearing.heard();
                hearing.delivering.store(false, Ordering::Relaxed);
            }
            Ok(None) => match recv.read_chunk(MAX_FRAME).await {
                Ok(Some(chunk)) => {
                    hearing.heard();
                    buffer.extend_from_slice(&chunk);
                }
                Ok(None) | Err(_) => return code::GOODBYE,
            },
            Err(why) => {
                debug!(node = %link.peer.node.short(), why, "the peer misbehaves");
                return code::MALFORMED;
            }
        }
    }
}

/// Pings the peer, and gives it up when nothing is heard for too long, or its certificate runs out or is taken back.
async fn watch(shared: &Shared, link: &Link, hearing: &Hearing) -> u32 {
    let mut ticks = interval(PING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if hearing.silence() > DEAD_AFTER && !hearing.delivering.load(Ordering::Relaxed) {
            return code::SILENT;
        }
        if link.peer.certificate.check_time(unix_ms() / 1000).is_err() {
            return code::CERTIFICATE;
        }
        if shared.revoked.contains(&link.peer.node) {
            return code::REVOKED;
        }
        link.outbound.signal(Frame::Ping);
    }
}

/// Hands over the peer's datagrams until the connection ends, in a task of its own: a flood of them keeps no message and no stream
/// waiting.
async fn hear_datagrams(shared: Arc<Shared>, link: Arc<Link>) {
    while let Ok(datagram) = link.connection.read_datagram().await {
        if let Some(handler) = shared.datagrams.get() {
            handler(link.peer.node, datagram);
        }
        tokio::task::consume_budget().await;
    }
}

/// Takes the streams that the peer opens and hands them to their users.
async fn accept(shared: &Arc<Shared>, link: &Arc<Link>) -> u32 {
    let untagged = Arc::new(Semaphore::new(MAX_UNTAGGED));
    loop {
        // More untagged streams wait in QUIC, and at last the peer may not open any more.
        let Ok(permit) = Arc::clone(&untagged).acquire_owned().await else { return code::GOODBYE };
        let Ok((send, recv)) = link.connection.accept_bi().await else { return code::GOODBYE };
        let (shared, link) = (Arc::clone(shared), Arc::clone(link));
        tokio::spawn(async move {
            sort(&shared, &link, send, recv).await;
            drop(permit);
        });
    }
}

/// Reads a new stream's first byte and hands the stream to the user of that protocol.
async fn sort(
    shared: &Shared,
    link: &Link,
    mut send: iroh::endpoint::SendStream,
    mut recv: iroh::endpoint::RecvStream,
) {
    let mut tag = [0];
    let protocol = match timeout(TAG_TIMEOUT, recv.read_exact(&mut tag)).await {
        Ok(Ok(())) => Protocol::from_number(tag[0]).filter(|protocol| Protocol::FOR_USERS.contains(protocol)),
        Ok(Err(_)) | Err(_) => None,
    };
    let Some(protocol) = protocol else {
        // An error says that the peer has given the stream up itself.
        let _ = send.reset(VarInt::from_u32(code::PROTOCOL));
        let _ = recv.stop(VarInt::from_u32(code::PROTOCOL));
        return;
    };
    let stream = IncomingStream {
        from: link.peer.node,
        domains: link.peer.domains.clone(),
        neighbour: link.peer.neighbour(),
        send: SendStream::new(send),
        recv: RecvStream::new(recv),
    };
    if let Err(refusal) = shared.arrive(protocol, stream) {
        debug!(node = %link.peer.node.short(), ?protocol, refusal, "a stream was refused");
    }
}

/// Opens a stream and writes the byte that names its protocol.
pub(super) async fn open_stream(
    connection: &Connection,
    protocol: Protocol,
) -> Result<(SendStream, RecvStream), LinkError> {
    let open = async {
        let (mut send, recv) = connection.open_bi().await.map_err(|_| endpoint::why_closed(connection))?;
        send.write_all(&[protocol.number()]).await.map_err(|_| endpoint::why_closed(connection))?;
        Ok((SendStream::new(send), RecvStream::new(recv)))
    };
    timeout(OPEN_TIMEOUT, open).await.map_err(|_| LinkError::Busy("streams to that node"))?
}
