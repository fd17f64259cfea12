//! The thread that relays: it waits for the listeners and all relayed addresses at once, so that a packet on its way wakes nobody else and
//! passes no lock. Clients that came over a connection have a task each, which hands over what it has read.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use meshtone_media::turn::{
    CHANNEL_HEADER_LEN, Client, ConnectionId, Host, Outcome, RelayId, Server, Standing, ToClient, channel_header,
    data_indication,
};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::fd::OwnedFd;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::sockets::Sockets;

/// What wakes the thread when a task has something for it.
const WAKE: u64 = 0;
/// Listeners are numbered from here on, relayed addresses from there on.
const FIRST_LISTENER: u64 = 1;
pub(super) const FIRST_RELAY: u64 = 1 << 32;
/// Events learned of at once.
const LOT: usize = 128;
/// Datagrams taken from a listener in one go: all clients share it, and relayed addresses shall have their turn.
const BURST: usize = 64;
/// Datagrams taken from a relayed address in one go where much passes.
const BURST_OF_PEER: usize = 8;
/// The largest datagram there is.
const MAX_DATAGRAM: usize = 65_535;
/// Where more than this passes in a look, the thread waits a moment before it looks again: to be woken for each packet costs more than the
/// packet. That is 5,000 packets a second, which fifty calls both ways are.
const DENSE: usize = 50;
const LOOK: Duration = Duration::from_millis(10);
/// What that adds to a packet's way at most; a jitter buffer holds a hundred times as much.
const MOMENT: Duration = Duration::from_micros(300);
/// How long what is shown may lag behind.
const SHOWN_AFTER: Duration = Duration::from_millis(200);
/// What tasks may have handed over and is not taken up: they wait then, and so do their clients.
const INBOX: usize = 1024;
/// What a client on a connection is behind with at most; beyond that what comes for him is lost, as on any full way. Ten seconds of sound.
pub(super) const QUEUE: usize = 512;

/// What tasks tell the thread.
pub(super) enum Command {
    /// A connection began; what is for it goes there.
    Opened(u64, mpsc::Sender<ToConnection>),
    /// A message from it.
    Message(Client, Vec<u8>),
    /// It ended.
    Closed(Client),
    /// A peer has connected to a relayed address.
    Incoming(RelayId, TcpStream, SocketAddr),
    /// A connection to a peer was made, or was not.
    Connected(ConnectionId, Option<TcpStream>),
    /// So many bytes came over a connection with a peer: how many of them may pass.
    Stream(ConnectionId, usize, oneshot::Sender<Option<usize>>),
    /// A user's password is another one, or he is a user no longer: allocations that do not bear this stamp are over.
    Revoke(String, Option<u64>),
    /// It is over.
    End,
}

/// What goes to the task of a client's connection.
pub(super) enum ToConnection {
    /// A message for the client.
    Message(Vec<u8>),
    /// The last message, after which the connection is one with that of a peer (RFC 6062).
    Join(Vec<u8>, Joined),
}

/// The other half of a connection.
pub(super) struct Joined {
    pub(super) id: ConnectionId,
    pub(super) peer: TcpStream,
    /// Ends when it is to be hung up on.
    pub(super) stays: oneshot::Receiver<()>,
}

/// The way to the thread. Clones are the same.
#[derive(Clone)]
pub(super) struct Way {
    inbox: mpsc::Sender<Command>,
    wake: Arc<OwnedFd>,
}

impl Way {
    /// Hands over; false when the thread has ended.
    pub(super) async fn send(&self, command: Command) -> bool {
        let is_sent = self.inbox.send(command).await.is_ok();
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        is_sent
    }

    /// How many of so many bytes that came over a connection with a peer may pass; `None` when that is over.
    pub(super) async fn ask(&self, connection: ConnectionId, len: usize) -> Option<usize> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Stream(connection, len, reply)).await.then_some(())?;
        answer.await.ok()?
    }
}

/// The thread's own.
pub(super) struct Worker {
    server: Server,
    sockets: Sockets,
    listeners: Vec<Listener>,
    wake: Arc<OwnedFd>,
    inbox: mpsc::Receiver<Command>,
    connections: HashMap<u64, mpsc::Sender<ToConnection>>,
    shown: Shown,
}

/// How the server stood a moment ago, for whoever wants to know.
#[derive(Clone, Default)]
pub(super) struct Shown(Arc<Mutex<Standing>>);

impl Shown {
    pub(super) fn standing(&self) -> Standing {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Listener {
    socket: UdpSocket,
    /// As many are taken in the next go: a single one costs no second look.
    burst: usize,
}

impl Worker {
    /// Everything ready to run, and the way to it.
    pub(super) fn new(
        server: Server,
        mut sockets: Sockets,
        listeners: Vec<UdpSocket>,
    ) -> Result<(Worker, Way, Shown), rustix::io::Errno> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        epoll::add(&*sockets.epoll, &*wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        for (number, socket) in (FIRST_LISTENER..).zip(&listeners) {
            epoll::add(&*sockets.epoll, socket, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
        }
        let listeners = listeners.into_iter().map(|socket| Listener { socket, burst: 1 }).collect();
        let (sender, inbox) = mpsc::channel(INBOX);
        let way = Way { inbox: sender, wake: wake.clone() };
        sockets.way = Some(way.clone());
        let shown = Shown::default();
        let connections = HashMap::new();
        Ok((Worker { server, sockets, listeners, wake, inbox, connections, shown: shown.clone() }, way, shown))
    }

    /// Relays until it is told to end.
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(LOT);
        // Before a datagram there is room for ChannelData's header, after it for padding.
        let mut buffer = vec![0; CHANNEL_HEADER_LEN + MAX_DATAGRAM + CHANNEL_HEADER_LEN];
        let mut show_at = None;
        let (mut look_ends, mut passed, mut is_dense) = (Instant::now() + LOOK, 0, false);
        loop {
            events.clear();
            if is_dense {
                std::thread::sleep(MOMENT);
            }
            let next = self.server.poll_timeout().into_iter().chain(show_at).min();
            let wait = next.map(|at| timespec(at.saturating_duration_since(Instant::now())));
            match epoll::wait(&*self.sockets.epoll, rustix::buffer::spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the TURN server relays nothing any more");
                    return;
                }
            }
            let now = Instant::now();
            passed += events.len();
            if now >= look_ends {
                (look_ends, is_dense, passed) = (now + LOOK, passed > DENSE, 0);
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => {
                        if self.take_commands(now) {
                            return;
                        }
                    }
                    relay if relay >= FIRST_RELAY => {
                        let relay = RelayId(relay - FIRST_RELAY);
                        // What has come while nobody looked; otherwise one look more for each packet would be in vain.
                        let most = if is_dense { BURST_OF_PEER } else { 1 };
                        let _ = (0..most).all(|_| self.on_peer(now, relay, &mut buffer));
                    }
                    listener => self.on_clients(now, listener - FIRST_LISTENER, &mut buffer),
                }
            }
            self.server.handle_timeout(now, &mut self.sockets);
            if show_at.is_some_and(|at| at <= now) {
                *self.shown.0.lock().unwrap_or_else(PoisonError::into_inner) = self.server.standing();
                show_at = None;
            } else if show_at.is_none() && !events.is_empty() {
                show_at = Some(now + SHOWN_AFTER);
            }
        }
    }

    fn on_clients(&mut self, now: Instant, number: u64, buffer: &mut [u8]) {
        let Some(index) = usize::try_from(number).ok().filter(|index| *index < self.listeners.len()) else { return };
        let wanted = self.listeners.get(index).map_or(0, |listener| listener.burst);
        let mut taken = 0;
        while taken < wanted {
            let Some(listener) = self.listeners.get(index) else { return };
            let Some((len, remote)) = receive(&listener.socket, buffer) else { break };
            taken += 1;
            let client = Client::Datagrams { listener: u16::try_from(index).unwrap_or(u16::MAX), remote };
            let bytes = buffer.get(..len).unwrap_or_default();
            match self.server.handle_client(now, client, bytes, &mut self.sockets) {
                Outcome::Nothing => {}
                Outcome::Answer(answer) => send(&listener.socket, remote, &answer),
                Outcome::AnswerFrom { listener, answer } => {
                    if let Some(other) = self.listeners.get(usize::from(listener)) {
                        send(&other.socket, remote, &answer);
                    }
                }
                Outcome::ToPeer { relay, peer, data } => {
                    self.to_peer(relay, peer, bytes.get(data).unwrap_or_default());
                }
                // Whoever asks by datagrams is refused.
                Outcome::Connect { .. } | Outcome::Join { .. } => {}
            }
        }
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.burst = if taken == wanted { (wanted * 2).min(BURST) } else { taken.max(1) };
        }
    }

    fn to_peer(&self, relay: RelayId, peer: SocketAddr, data: &[u8]) {
        if let Some(relay) = self.sockets.open.get(&relay) {
            // What cannot be sent is lost, and says nothing of what goes to others.
            send(&relay.socket, peer, data);
        }
    }

    /// Takes one datagram that came to a relayed address; false where there was none.
    fn on_peer(&mut self, now: Instant, relay: RelayId, buffer: &mut [u8]) -> bool {
        let Some(open) = self.sockets.open.get(&relay) else { return false };
        let Some(room) = buffer.get_mut(CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + MAX_DATAGRAM) else { return false };
        let Some((len, peer)) = receive(&open.socket, room) else { return false };
        if let Some(to) = self.server.handle_peer(now, relay, peer, len) {
            self.pass_on(to, peer, len, buffer);
        }
        true
    }

    /// Passes on what a peer sent, which lies in the buffer behind the room for a header.
    fn pass_on(&mut self, ToClient { client, channel }: ToClient, peer: SocketAddr, len: usize, buffer: &mut [u8]) {
        let Some(number) = channel else {
            let mut transaction = [0; 12];
            self.sockets.fill(&mut transaction);
            let data = buffer.get(CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + len).unwrap_or_default();
            return self.to_client(client, &data_indication(peer, data, transaction));
        };
        if let Some(place) = buffer.first_chunk_mut() {
            *place = channel_header(number, len);
        }
        // In a stream the next message begins at a multiple of four (RFC 8656 §12.5).
        let padded = match client {
            Client::Datagrams { .. } => len,
            Client::Connection { .. } => len.next_multiple_of(4),
        };
        if let Some(padding) = buffer.get_mut(CHANNEL_HEADER_LEN + len..CHANNEL_HEADER_LEN + padded) {
            padding.fill(0);
        }
        self.to_client(client, buffer.get(..CHANNEL_HEADER_LEN + padded).unwrap_or_default());
    }

    fn to_client(&self, client: Client, bytes: &[u8]) {
        match client {
            Client::Datagrams { listener, remote } => {
                if let Some(listener) = self.listeners.get(usize::from(listener)) {
                    send(&listener.socket, remote, bytes);
                }
            }
            Client::Connection { number, .. } => {
                if let Some(queue) = self.connections.get(&number) {
                    let _ = queue.try_send(ToConnection::Message(bytes.to_vec()));
                }
            }
        }
    }

    /// Hands the connection of a peer to the task of the client's.
    fn join(&mut self, client: Client, id: ConnectionId, answer: Vec<u8>) {
        let queue = match client {
            Client::Connection { number, .. } => self.connections.get(&number),
            Client::Datagrams { .. } => None,
        };
        let joined = self.sockets.join(id).zip(queue);
        let is_handed_over = joined.is_some_and(|((peer, stays), queue)| {
            queue.try_send(ToConnection::Join(answer, Joined { id, peer, stays })).is_ok()
        });
        if !is_handed_over {
            self.server.handle_closed(client, &mut self.sockets);
        }
    }

    /// Takes up what tasks have handed over; true when it is over.
    fn take_commands(&mut self, now: Instant) -> bool {
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.wake, &mut count);
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Opened(number, queue)) => {
                    self.connections.insert(number, queue);
                }
                Ok(Command::Message(client, bytes)) => {
                    match self.server.handle_client(now, client, &bytes, &mut self.sockets) {
                        Outcome::Nothing => {}
                        Outcome::Answer(answer) => self.to_client(client, &answer),
                        // From a connection there is no other way back.
                        Outcome::AnswerFrom { .. } => {}
                        Outcome::ToPeer { relay, peer, data } => {
                            self.to_peer(relay, peer, bytes.get(data).unwrap_or_default());
                        }
                        Outcome::Connect { connection, relay, peer } => self.sockets.connect(connection, relay, peer),
                        Outcome::Join { connection, answer } => self.join(client, connection, answer),
                    }
                }
                Ok(Command::Incoming(relay, stream, peer)) => {
                    let told = self.server.handle_incoming(now, relay, peer, &mut self.sockets);
                    if let Some((connection, client, indication)) = told {
                        self.sockets.keep(connection, stream);
                        self.to_client(client, &indication);
                    }
                }
                Ok(Command::Connected(connection, stream)) => {
                    if let Some((client, answer)) = self.server.handle_connected(now, connection, stream.is_some()) {
                        match stream {
                            Some(stream) => self.sockets.keep(connection, stream),
                            None => self.sockets.hang_up(connection),
                        }
                        self.to_client(client, &answer);
                    }
                }
                Ok(Command::Stream(connection, len, reply)) => {
                    let _ = reply.send(self.server.handle_stream(now, connection, len));
                }
                Ok(Command::Closed(client)) => {
                    if let Client::Connection { number, .. } = client {
                        self.connections.remove(&number);
                    }
                    self.server.handle_closed(client, &mut self.sockets);
                }
                Ok(Command::Revoke(user, stamp)) => self.server.revoke(&user, stamp, &mut self.sockets),
                Ok(Command::End) | Err(mpsc::error::TryRecvError::Disconnected) => return true,
                Err(mpsc::error::TryRecvError::Empty) => return false,
            }
        }
    }
}

/// Takes a datagram, if there is one. Errors are ICMP's answers to something that was sent: they say nothing of this socket.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    let (_, len, remote) = recvfrom(socket, buffer, RecvFlags::DONTWAIT).ok()?;
    Some((len, SocketAddr::try_from(remote?).ok()?))
}

fn send(socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) {
    let _ = sendto(socket, bytes, SendFlags::DONTWAIT, &to);
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
