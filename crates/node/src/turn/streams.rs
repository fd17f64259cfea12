//! Connections with peers (RFC 6062): relayed addresses that take them, those that are made from there, and what passes once one is joined
//! with a client's own.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use meshtone_media::turn::{CONNECT_WITHIN, ConnectionId, RelayId, fair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::stream::READ;
use super::worker::{Command, Joined, Way};

/// Connections that wait to be accepted at one relayed address: strangers' are ended as soon as they are.
const BACKLOG: u32 = 16;
/// How long one side may go on after the other has said its last.
const LINGERS: Duration = Duration::from_secs(10);

/// The relayed addresses and the connections of a server.
pub(super) struct Streams {
    runtime: Handle,
    relays: HashMap<RelayId, Relay>,
    connections: HashMap<ConnectionId, Connection>,
}

struct Relay {
    /// As this machine has it, and as peers see it.
    local: SocketAddr,
    public: SocketAddr,
    accepts: AbortHandle,
}

/// A connection with a peer. What is dropped is hung up on, but for what is under way.
enum Connection {
    Connecting(AbortHandle),
    Waiting(TcpStream),
    Joined { _stays: oneshot::Sender<()> },
}

impl Streams {
    pub(super) fn new(runtime: Handle) -> Streams {
        Streams { runtime, relays: HashMap::new(), connections: HashMap::new() }
    }

    /// Whether connections are taken there, as this machine has it or as peers see it.
    pub(super) fn is_relay(&self, address: SocketAddr) -> bool {
        self.relays.values().any(|relay| relay.local == address || relay.public == address)
    }

    /// Takes connections there; false where the port is not free.
    pub(super) fn listen(&mut self, relay: RelayId, local: SocketAddr, public: SocketAddr, way: &Way) -> bool {
        let _runtime = self.runtime.enter();
        // Nobody else's: shared it is only with the connections that are made from there.
        let is_free = std::net::TcpListener::bind(local).is_ok();
        let listener = socket_at(local).and_then(|socket| socket.listen(BACKLOG));
        let Some(listener) = listener.ok().filter(|_| is_free) else { return false };
        let accepts = tokio::spawn(accept(listener, relay, way.clone())).abort_handle();
        self.relays.insert(relay, Relay { local, public, accepts });
        true
    }

    /// Takes no more there.
    pub(super) fn close(&mut self, relay: RelayId) {
        if let Some(relay) = self.relays.remove(&relay) {
            relay.accepts.abort();
        }
    }

    /// Connects to a peer from a relayed address.
    pub(super) fn connect(&mut self, connection: ConnectionId, relay: RelayId, peer: SocketAddr, way: Way) {
        let local = self.relays.get(&relay).map(|relay| relay.local);
        let connects = self.runtime.spawn(async move {
            let made = async { socket_at(local.ok_or(io::ErrorKind::NotFound)?)?.connect(peer).await };
            let stream = timeout(CONNECT_WITHIN, made).await.ok().and_then(Result::ok);
            way.send(Command::Connected(connection, stream)).await;
        });
        self.connections.insert(connection, Connection::Connecting(connects.abort_handle()));
    }

    /// Keeps a connection that stands.
    pub(super) fn keep(&mut self, connection: ConnectionId, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        self.connections.insert(connection, Connection::Waiting(stream));
    }

    /// Takes a connection that was kept, and what tells when it is to be hung up on.
    pub(super) fn join(&mut self, connection: ConnectionId) -> Option<(TcpStream, oneshot::Receiver<()>)> {
        match self.connections.remove(&connection)? {
            Connection::Waiting(stream) => {
                let (stays, ends) = oneshot::channel();
                self.connections.insert(connection, Connection::Joined { _stays: stays });
                Some((stream, ends))
            }
            Connection::Connecting(_) | Connection::Joined { .. } => None,
        }
    }

    /// Ends one.
    pub(super) fn hang_up(&mut self, connection: ConnectionId) {
        if let Some(Connection::Connecting(connects)) = self.connections.remove(&connection) {
            connects.abort();
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let relays = self.relays.values().map(|relay| &relay.accepts);
        let connecting = self.connections.values().filter_map(|connection| match connection {
            Connection::Connecting(connects) => Some(connects),
            Connection::Waiting(_) | Connection::Joined { .. } => None,
        });
        relays.chain(connecting).for_each(AbortHandle::abort);
    }
}

/// A socket of this address, which a relayed address shares with the connections that are made from there (RFC 6062 §5.2).
fn socket_at(local: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if local.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(local)?;
    Ok(socket)
}

/// Takes what comes to a relayed address until that is closed.
async fn accept(listener: TcpListener, relay: RelayId, way: Way) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                if !way.send(Command::Incoming(relay, stream, peer)).await {
                    return;
                }
            }
            // Out of descriptors, most likely: let others close theirs.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Passes on what comes over either of two connections that are one, until one of them ends. `begun` came before.
pub(super) async fn pass(
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
    begun: BytesMut,
    joined: Joined,
    way: &Way,
) {
    let Joined { id, peer, stays } = joined;
    let (peer_reader, peer_writer) = peer.into_split();
    let out = pump(reader, peer_writer, begun, id, way);
    let back = pump(peer_reader, writer, BytesMut::with_capacity(READ), id, way);
    tokio::pin!(out, back);
    let both = async {
        // Who has said his last may be answered still; who is gone may not.
        tokio::select! {
            said = &mut out => if said.is_some() { let _ = timeout(LINGERS, back).await; },
            said = &mut back => if said.is_some() { let _ = timeout(LINGERS, out).await; },
        }
    };
    tokio::select! {
        () = both => {}
        _ = stays => {}
    }
}

/// Passes on what comes over one side, as much at a time as the user may have; nothing is read that does not pass. `None`: it broke off.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut buffer: BytesMut,
    id: ConnectionId,
    way: &Way,
) -> Option<()> {
    loop {
        while !buffer.is_empty() {
            let some = way.ask(id, buffer.len()).await?;
            if some == 0 {
                tokio::time::sleep(fair::WINDOW).await;
                continue;
            }
            to.write_all(&buffer.split_to(some.min(buffer.len()))).await.ok()?;
        }
        to.flush().await.ok()?;
        buffer.reserve(READ);
        if from.read_buf(&mut buffer).await.ok()? == 0 {
            return to.shutdown().await.ok();
        }
    }
}
