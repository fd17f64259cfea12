//! SIP over the links between nodes: one more reliable, protected transport (`SIP/2.0/PEER`).
//!
//! A node is addressed as `<base36 node id>.peer.alt`. Each Call-ID has a QUIC stream of its own between two nodes,
//! used both ways, so that calls do not block each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshtone_identity::{HomeCertificate, NodeCertificate, NodeId, PublicKey};
use meshtone_overlay::link::{IncomingStream, Neighbour, Protocol, RecvStream, SendStream};
use meshtone_overlay::node::Overlay;
use meshtone_sip::stream::{StreamDecoder, StreamItem};
use meshtone_sip::transport::{Flow, PeerHost};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Transports;
use super::dispatch::Outgoing;

/// Streams to all peers together: one a call in progress, and a little each.
const MAX_STREAMS: usize = 16_384;
/// Messages that may wait on one call's stream.
const STREAM_QUEUE: usize = 64;
/// Opening a stream may include finding and dialling the node. A caller waits for it, so no longer than this.
const OPEN_WITHIN: Duration = Duration::from_secs(4);
/// A write the peer does not take in this time: the link is dead, even where its timers have not run out.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// A stream without a message for this long is closed by the side that opened it; the next message opens another.
const IDLE: Duration = Duration::from_secs(600);
/// The pseudo top-level domain of names that DNS never sees (RFC 9476).
const SUFFIX: &str = ".peer.alt";

/// From this version of the link protocol on, a node signs the requests that it sends.
const SIGNING_VERSION: u16 = 2;

/// From this version of the link protocol on, a node verifies what others diverted.
pub(crate) const DIVERTING_VERSION: u16 = 5;

/// From the same version on, it understands how well a caller is said to be known.
pub(crate) const ATTESTING_VERSION: u16 = DIVERTING_VERSION;

/// What a node has proven over its link.
#[derive(Debug, Clone)]
pub(crate) struct Proven {
    /// Who it is.
    pub(crate) certificate: NodeCertificate,
    /// Which domains it may speak for.
    pub(crate) homes: Vec<HomeCertificate>,
    /// The newest version of the link protocol that it and we speak.
    pub(crate) version: u16,
}

impl From<Neighbour> for Proven {
    fn from(Neighbour { certificate, homes, version }: Neighbour) -> Self {
        Self { certificate, homes, version }
    }
}

impl Proven {
    /// The key that it signs with.
    pub(crate) fn key(&self) -> &PublicKey {
        self.certificate.public_key()
    }

    /// Its certificate for a domain, if it may speak for that.
    pub(crate) fn home(&self, domain: &str) -> Option<&HomeCertificate> {
        self.homes.iter().find(|home| home.domain().eq_ignore_ascii_case(domain))
    }

    /// Whether its program signs requests. One that does not is believed by its link alone.
    pub(crate) fn signs(&self) -> bool {
        self.version >= SIGNING_VERSION
    }
}

/// The streams in use, and what each peer has proven.
pub(super) struct PeerTransport {
    overlay: Overlay,
    own_host: String,
    streams: Mutex<HashMap<(NodeId, String), mpsc::Sender<Outgoing>>>,
    proven: Mutex<HashMap<NodeId, Arc<Proven>>>,
}

/// The SIP host name of a node.
pub(crate) fn host_of(node: NodeId) -> Option<PeerHost> {
    PeerHost::parse(&format!("{node}{SUFFIX}"))
}

/// The node a SIP host name stands for.
pub(crate) fn node_of(host: &PeerHost) -> Option<NodeId> {
    host.label().parse().ok()
}

impl PeerTransport {
    pub(super) fn new(overlay: Overlay) -> Self {
        let own_host = format!("{}{SUFFIX}", overlay.node_id());
        Self { overlay, own_host, streams: Mutex::default(), proven: Mutex::default() }
    }

    pub(super) fn own_host(&self) -> &str {
        &self.own_host
    }

    pub(super) fn proven(&self, node: NodeId) -> Option<Arc<Proven>> {
        let known = self.proven.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned();
        // Who was but called over streams of ours may call over them, too.
        known.or_else(|| Some(Arc::new(Proven::from(self.overlay.neighbour(node)?))))
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<(NodeId, String), mpsc::Sender<Outgoing>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a stream, unless a newer one has taken its place.
    fn forget(&self, key: &(NodeId, String), queue: &mpsc::Sender<Outgoing>) {
        let mut streams = self.streams();
        if streams.get(key).is_some_and(|current| current.same_channel(queue)) {
            streams.remove(key);
        }
    }
}

/// Writes on the call's stream to `node`, opening it where there is none.
pub(super) fn send(transports: &Arc<Transports>, node: NodeId, call_id: &str, outgoing: Outgoing) {
    let key = (node, call_id.to_owned());
    let mut streams = transports.peers.streams();
    let outgoing = match streams.get(&key) {
        None => outgoing,
        Some(queue) => match queue.try_send(outgoing) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Closed(outgoing)) => outgoing,
            Err(mpsc::error::TrySendError::Full(outgoing)) => {
                drop(streams);
                transports.dispatch.failed(outgoing.report);
                return;
            }
        },
    };
    if streams.len() >= MAX_STREAMS {
        drop(streams);
        tracing::warn!("too many calls on peer links");
        transports.dispatch.failed(outgoing.report);
        return;
    }
    let (queue, waiting) = mpsc::channel(STREAM_QUEUE);
    // A fresh queue has room.
    let _ = queue.try_send(outgoing);
    streams.insert(key.clone(), queue.clone());
    drop(streams);
    tokio::spawn(open(transports.clone(), key, queue, waiting));
}

/// Serves the streams that peers open, until the overlay stops.
pub(super) async fn accept(transports: Arc<Transports>) {
    let mut incoming = transports.peers.overlay.accept_streams(Protocol::Sip);
    while let Some(IncomingStream { from, neighbour, send, recv, .. }) = incoming.recv().await {
        let proven = Arc::new(Proven::from(neighbour));
        transports.peers.proven.lock().unwrap_or_else(PoisonError::into_inner).insert(from, proven);
        let (queue, waiting) = mpsc::channel(STREAM_QUEUE);
        // The writer holds no sender of its own queue: it ends when the reader and the table have let go of it.
        tokio::spawn(write_all(transports.clone(), send, waiting, None));
        tokio::spawn(read_all(transports.clone(), from, queue, recv, None));
    }
}

async fn open(
    transports: Arc<Transports>,
    key: (NodeId, String),
    queue: mpsc::Sender<Outgoing>,
    mut waiting: mpsc::Receiver<Outgoing>,
) {
    let opened = timeout(OPEN_WITHIN, transports.peers.overlay.open_stream(key.0, Protocol::Sip)).await;
    match opened {
        Ok(Ok((send, recv))) => {
            tokio::spawn(read_all(transports.clone(), key.0, queue.clone(), recv, Some(key.clone())));
            write_all(transports, send, waiting, Some((key, queue))).await;
        }
        Ok(Err(error)) => {
            tracing::debug!(node = %key.0, %error, "peer stream not opened");
            transports.peers.forget(&key, &queue);
            transports.fail_all(&mut waiting);
        }
        Err(_) => {
            tracing::debug!(node = %key.0, "peer stream not opened in time");
            transports.peers.forget(&key, &queue);
            transports.fail_all(&mut waiting);
        }
    }
}

/// Writes until nobody can add to the queue; `opened` names the stream where this side opened it, which then also
/// closes it once it is idle.
async fn write_all(
    transports: Arc<Transports>,
    mut send: SendStream,
    mut waiting: mpsc::Receiver<Outgoing>,
    opened: Option<((NodeId, String), mpsc::Sender<Outgoing>)>,
) {
    loop {
        let next = match &opened {
            None => waiting.recv().await,
            Some((key, queue)) => match timeout(IDLE, waiting.recv()).await {
                Ok(next) => next,
                Err(_) => {
                    transports.peers.forget(key, queue);
                    waiting.close();
                    waiting.recv().await
                }
            },
        };
        let Some(next) = next else { break };
        if !matches!(timeout(WRITE_WITHIN, send.write_all(&next.bytes)).await, Ok(Ok(()))) {
            if let Some((key, queue)) = &opened {
                transports.peers.forget(key, queue);
            }
            transports.dispatch.failed(next.report);
            transports.fail_all(&mut waiting);
            return;
        }
    }
    let _ = send.shutdown().await;
}

/// Reads one stream to its end. What comes on it is answered on it: its queue stands in the table under the Call-ID
/// of the first message, unless that call has a stream already (`registered`: the opener's entry).
async fn read_all(
    transports: Arc<Transports>,
    node: NodeId,
    queue: mpsc::Sender<Outgoing>,
    mut recv: RecvStream,
    mut registered: Option<(NodeId, String)>,
) {
    let Some(host) = host_of(node) else { return };
    let flow = Flow::Peer { host };
    let mut decoder = StreamDecoder::default();
    let mut buffer = vec![0u8; 8 * 1024];
    'stream: while let Ok(count) = recv.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        decoder.push(buffer.get(..count).unwrap_or_default());
        loop {
            match decoder.next() {
                Ok(Some(StreamItem::Message(message))) => {
                    if registered.is_none() {
                        let key = (node, message.call_id().to_owned());
                        let mut streams = transports.peers.streams();
                        if streams.len() < MAX_STREAMS {
                            streams.entry(key.clone()).or_insert_with(|| queue.clone());
                        }
                        registered = Some(key);
                    }
                    transports.on_message(flow.clone(), message);
                }
                Ok(Some(StreamItem::Bad(error, partial))) => transports.on_bad(flow.clone(), &error, partial),
                Ok(Some(StreamItem::KeepAlivePing | StreamItem::KeepAlivePong)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%node, %error, "framing lost on a peer stream");
                    break 'stream;
                }
            }
        }
    }
    if let Some(key) = registered {
        transports.peers.forget(&key, &queue);
    }
}
