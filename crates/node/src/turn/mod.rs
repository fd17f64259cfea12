//! The node's STUN and TURN server (RFC 8489, RFC 8656, RFC 6062), for phones and browsers that nothing reaches directly: listeners over UDP, TCP
//! and TLS, logins, and the sockets around [`meshtone_media::turn`], which is the protocol.
//!
//! Not built upon `turn-server-proto` 0.7: its users are names with passwords (no HA1, no logins that end), it remembers a nonce
//! for every address that ever asked, has no say over peers nor over who may allocate, and brings a second provider of hashes.

mod abroad;
mod credentials;
mod reach;
mod sockets;
mod stream;
mod streams;
mod worker;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meshtone_media::turn::{Limits, Server};
use meshtone_overlay::record::Revoked;
use rustix::event::epoll;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::account::Accounts;
use crate::control::{TurnListener, TurnStatus, TurnUser};
use crate::node::{SystemRandomness, random_key};
use crate::transport::tls::Tls;
use crate::transport::{bind_tcp, bind_udp};
use reach::{Facing, Peers};
use sockets::Sockets;
use stream::Connections;
use streams::Streams;
use worker::{Command, FIRST_RELAY, Shown, Way, Worker};

pub use abroad::IceServers;
pub(crate) use abroad::{Abroad, serve};
pub use credentials::{Credentials, IceServer};
pub use sockets::RelayAddress;

/// What the TURN server is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses for STUN and TURN, each over UDP and TCP; none: there is no TURN server.
    pub listen: Vec<SocketAddr>,
    /// Addresses for TURN over TLS.
    pub tls: Vec<SocketAddr>,
    /// First and last port of relayed addresses.
    pub ports: (u16, u16),
    /// The addresses of relays; where there are none, those listened at, or those that face the Internet.
    pub relay: Vec<RelayAddress>,
    /// Whether data may go to private networks and to this machine.
    pub allow_private: bool,
    /// Whether users of other nodes are served too, once this node is known to be reached; those of one node together as one user.
    pub shared: bool,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Settings {
        let (listen, tls, relay) = (Vec::new(), Vec::new(), Vec::new());
        Settings {
            listen,
            tls,
            ports: (49_152, 65_535),
            relay,
            allow_private: false,
            shared: true,
            limits: Limits::default(),
        }
    }
}

/// What the server needs of the node.
pub(crate) struct Surroundings<'a> {
    pub(crate) accounts: &'a Accounts,
    /// The node's secret for logins.
    pub(crate) secret: [u8; 32],
    /// The nodes whose users are served no longer.
    pub(crate) revoked: Revoked,
    /// What TLS shows; needed where there is a listener for it.
    pub(crate) certificate: Option<Tls>,
    /// Whether browsers believe that certificate.
    pub(crate) is_certified: bool,
    /// The name that clients find this machine by, where it has one.
    pub(crate) name: Option<String>,
    /// First and last port of calls that the node carries.
    pub(crate) media: (u16, u16),
    /// Addresses of this machine: one of them where there is no way to the Internet.
    pub(crate) addresses: Vec<IpAddr>,
}

/// The server while it runs.
pub(crate) struct Turn {
    way: Way,
    shown: Shown,
    thread: JoinHandle<()>,
    listeners: Vec<TurnListener>,
    credentials: Credentials,
    /// They end with it.
    _tasks: JoinSet<()>,
}

impl Turn {
    /// Listens, and relays from then on.
    ///
    /// # Errors
    /// The address that could not be listened at, with the system's reason.
    pub(crate) fn start(settings: &Settings, around: Surroundings<'_>) -> Result<Turn, (SocketAddr, io::Error)> {
        let (mut udp, mut tcp, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
        let listening = |over: &str, at: SocketAddr| TurnListener { over: over.to_owned(), at };
        for &wanted in &settings.listen {
            let socket = bind_udp(wanted).map_err(|error| (wanted, error))?;
            let address = socket.local_addr().map_err(|error| (wanted, error))?;
            tcp.push((bind_tcp(address).map_err(|error| (address, error))?, None));
            listeners.extend([listening("udp", address), listening("tcp", address)]);
            udp.push(socket);
        }
        let tls = around.certificate.map(Arc::new);
        for &wanted in &settings.tls {
            let socket = bind_tcp(wanted).map_err(|error| (wanted, error))?;
            let address = socket.local_addr().map_err(|error| (wanted, error))?;
            tcp.push((socket, tls.clone()));
            listeners.push(listening("tls", address));
        }
        let relay_addresses = relay_addresses(settings, &listeners);
        let facing = Facing(around.addresses);
        let urls = urls(&listeners, &relay_addresses, &facing, around.name.as_deref(), around.is_certified);
        let credentials = Credentials::new(around.accounts.clone(), &around.secret, around.revoked, urls);
        let public = settings.relay.iter().map(|address| address.public).collect();
        let first = settings.listen.first().or(settings.tls.first()).copied();
        let first = first.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        let broken = |error: rustix::io::Errno| (first, error.into());
        let sockets = Sockets {
            epoll: Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC).map_err(broken)?),
            credentials: credentials.clone(),
            ports: settings.ports.0..=settings.ports.1,
            relay_addresses,
            facing,
            peers: RefCell::new(Peers::new(around.media, public, settings.allow_private)),
            open: BTreeMap::new(),
            addresses: BTreeSet::new(),
            streams: Streams::new(Handle::current()),
            way: None,
            random: SystemRandomness::default(),
            first_token: FIRST_RELAY,
        };
        let places = udp.iter().map(|socket| socket.local_addr()).collect::<Result<Vec<_>, _>>();
        let server = Server::new(Instant::now(), around.accounts.domain(), random_key(), settings.limits)
            .listening_at(places.map_err(|error| (first, error))?);
        let (worker, way, shown) = Worker::new(server, sockets, udp).map_err(broken)?;
        let thread = std::thread::Builder::new().name("turn".to_owned()).spawn(move || worker.run());
        let thread = thread.map_err(|error| (first, error))?;
        let mut tasks = JoinSet::new();
        let connections = Connections::default();
        for (listener, tls) in tcp {
            tasks.spawn(stream::accept(listener, tls, connections.clone(), way.clone()));
        }
        tasks.spawn(follow(around.accounts.clone(), credentials.clone(), way.clone(), shown.clone()));
        Ok(Turn { way, shown, thread, listeners, credentials, _tasks: tasks })
    }

    /// Makes logins for users.
    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The port that users of other nodes are told, UDP and TCP.
    pub(crate) fn plain_port(&self) -> Option<u16> {
        self.listeners.iter().find(|listener| listener.over == "udp").map(|listener| listener.at.port())
    }

    /// Where it listens.
    pub(crate) fn listeners(&self) -> &[TurnListener] {
        &self.listeners
    }

    /// How it stands.
    pub(crate) fn status(&self) -> TurnStatus {
        let standing = self.shown.standing();
        let users = standing.by_user.into_iter().map(|(user, allocations)| TurnUser { user, allocations });
        let users: Vec<TurnUser> = users.collect();
        TurnStatus {
            state: if self.thread.is_finished() { "ended" } else { "relaying" }.to_owned(),
            listeners: self.listeners.clone(),
            allocations: users.iter().map(|user| user.allocations).sum(),
            over_connections: standing.by_connection,
            peer_connections: standing.joined,
            users,
            relayed_bytes: standing.relayed_bytes,
            held_back_bytes: standing.held_back_bytes,
            refused: standing.refused,
        }
    }

    /// Ends it.
    pub(crate) async fn shutdown(&self) {
        self.way.send(Command::End).await;
    }
}

/// How often it is looked whether a node was revoked whose users have something.
const LOOK_AT_NODES: Duration = Duration::from_secs(10);

/// Who is removed, or gets another password, or whose node is revoked, loses what was allocated to him.
async fn follow(accounts: Accounts, credentials: Credentials, way: Way, shown: Shown) {
    use tokio::sync::broadcast::error::RecvError;
    let mut changes = accounts.subscribe();
    let mut ticks = interval(LOOK_AT_NODES);
    let all = || shown.standing().by_user.into_iter().map(|(user, _)| user);
    loop {
        let users: Vec<String> = tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => vec![change.user().to_owned()],
                // So many at once that not all were heard: whoever has something is looked at.
                Err(RecvError::Lagged(_)) => all().collect(),
                Err(RecvError::Closed) => return,
            },
            _ = ticks.tick() => {
                let is_over = |owner: &String| abroad::node_of_owner(owner).is_some() && credentials.stamp(owner).is_none();
                all().filter(is_over).collect()
            }
        };
        for user in users {
            let stamp = credentials.stamp(&user);
            if !way.send(Command::Revoke(user, stamp)).await {
                return;
            }
        }
    }
}

/// Where relays are: as it was said, or where clients are listened for, unless that is everywhere.
fn relay_addresses(settings: &Settings, listeners: &[TurnListener]) -> Vec<RelayAddress> {
    if !settings.relay.is_empty() {
        return settings.relay.clone();
    }
    let named = listeners.iter().map(|listener| listener.at.ip()).filter(|ip| !ip.is_unspecified());
    named.map(|ip| RelayAddress { public: ip, local: ip }).collect()
}

/// What clients are told: by name where the node has one, since a name outlasts an address and a certificate is for names; otherwise by
/// the addresses that are known. Over TLS only where the certificate is one that browsers believe.
fn urls(
    listeners: &[TurnListener],
    relays: &[RelayAddress],
    facing: &Facing,
    name: Option<&str>,
    is_certified: bool,
) -> Vec<String> {
    let hosts = |at: SocketAddr| -> Vec<String> {
        let bracketed = |ip: IpAddr| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        match name {
            Some(name) => vec![name.to_owned()],
            None if !at.ip().is_unspecified() => vec![bracketed(at.ip())],
            None if !relays.is_empty() => relays.iter().map(|relay| bracketed(relay.public)).collect(),
            None => facing.outside(at.is_ipv4()).map(bracketed).into_iter().collect(),
        }
    };
    let mut urls = Vec::new();
    for TurnListener { over, at } in listeners {
        let port = at.port();
        for host in hosts(*at) {
            match over.as_str() {
                "tls" if is_certified => urls.push(format!("turns:{host}:{port}?transport=tcp")),
                "tls" => {}
                over => urls.push(format!("turn:{host}:{port}?transport={over}")),
            }
        }
    }
    urls
}

#[cfg(test)]
mod tests;
