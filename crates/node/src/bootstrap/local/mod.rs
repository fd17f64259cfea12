//! The local network: nodes say there by multicast DNS that they are here, and hear each other (RFC 6762, RFC 6763).
//!
//! | module | what |
//! | --- | --- |
//! | `service` | what is said; pure |
//! | `conversation` | when, and what is listened to; pure |
//!
//! Here are the sockets: one each private IPv4 network that the node has an address in. They are bound to the group's address,
//! which no router forwards to: so whatever arrives was sent in that network (RFC 6762 §11), and whoever else speaks multicast
//! DNS on this machine loses nothing to us. What is heard is a hint, and the overlay sees to the pace.

mod conversation;
mod service;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use meshtone_identity::LinkKey;
use meshtone_overlay::Overlay;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::tried::{Local, Tried};
use conversation::{Conversation, PORT};
use service::{Announced, Messages};

/// Where multicast DNS is spoken.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// The hops that a message may take, as RFC 6762 §11 wants it; routers do not forward to the group anyway.
const HOPS: u32 = 255;

/// The largest message there is (§17).
const MAX_MESSAGE: usize = 9000;

/// How often it is looked whether our addresses have changed or the last link was lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The pause after a failure, such as a network that is just going down.
const PAUSE: Duration = Duration::from_secs(15);

/// Networks that are spoken in: a machine with more is a router, and its neighbours know each other anyway.
const MAX_NETWORKS: usize = 8;

/// Nodes that are counted for people; of more, so many are as good as all.
const MAX_COUNTED: usize = 64;

/// Announces this node and listens for others until it is dropped.
pub(super) async fn listen(overlay: Overlay, tried: Arc<Tried>) {
    loop {
        let own = networks(&overlay.addresses());
        if own.is_empty() {
            tried.local(Local::NoNetwork);
            sleep(PAUSE).await;
            continue;
        }
        let heard = Arc::new(Heard { keys: Mutex::default(), tried: tried.clone() });
        heard.tell();
        let mut talks = JoinSet::new();
        for address in &own {
            talks.spawn(talk(*address, overlay.clone(), heard.clone()));
        }
        // A change of addresses ends all talks, which begin anew with the new ones.
        while networks(&overlay.addresses()) == own {
            tokio::select! {
                Some(ended) = talks.join_next() => {
                    if let Ok(Err(error)) = ended {
                        tracing::debug!(%error, "multicast DNS");
                        tried.local(Local::Failed(error.to_string()));
                    }
                    if talks.is_empty() {
                        sleep(PAUSE).await;
                        break;
                    }
                }
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }
}

/// Speaks and listens in the network of this address until it fails.
async fn talk(address: SocketAddrV4, overlay: Overlay, heard: Arc<Heard>) -> io::Result<()> {
    let socket = open(*address.ip())?;
    let key = overlay.own_address().link_key;
    let own = Announced { overlay: overlay.overlay_id().short(), key, port: address.port() };
    let messages = Messages::new(&own, *address.ip()).map_err(io::Error::other)?;
    let mut talk = Talk { socket, conversation: Conversation::new(Instant::now(), own, messages) };
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut searched = overlay.search().is_some();
    loop {
        tokio::select! {
            received = talk.socket.recv_from(&mut buffer) => {
                let (length, source) = received?;
                if let Some(bytes) = buffer.get(..length) {
                    talk.conversation.handle_input(Instant::now(), source, bytes);
                }
            }
            () = sleep_until(talk.conversation.poll_timeout().into()) => {
                talk.conversation.handle_timeout(Instant::now());
            }
            _ = looks.tick() => {
                let searches = overlay.search().is_some();
                if searches && !std::mem::replace(&mut searched, searches) {
                    talk.conversation.ask_again(Instant::now());
                }
                searched = searches;
            }
        }
        while let Some(datagram) = talk.conversation.poll_transmit() {
            // Lost like any datagram; a network that is gone shows in our addresses.
            if let Err(error) = talk.socket.send_to(&datagram, (GROUP, PORT)).await {
                tracing::debug!(%error, %address, "multicast DNS");
            }
        }
        while let Some((key, place)) = talk.conversation.poll_event() {
            heard.note(key);
            if overlay.heard_of(key, place).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// A socket and what is said there; dropped, it says goodbye.
struct Talk {
    socket: UdpSocket,
    conversation: Conversation,
}

impl Drop for Talk {
    fn drop(&mut self) {
        // Best effort: the network may be gone.
        let _ = self.socket.try_send_to(self.conversation.goodbye(), SocketAddr::from((GROUP, PORT)));
    }
}

/// Whom we have heard, for people.
struct Heard {
    keys: Mutex<BTreeSet<LinkKey>>,
    tried: Arc<Tried>,
}

impl Heard {
    fn note(&self, key: LinkKey) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < MAX_COUNTED && keys.insert(key) {
            drop(keys);
            tracing::debug!(key = %key.short(), "a node is heard on the local network");
            self.tell();
        }
    }

    fn tell(&self) {
        let heard = self.keys.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.tried.local(Local::Heard(heard));
    }
}

/// Binds to the group in the network of this address, beside others on this machine that do the same.
fn open(address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(not(target_os = "linux"))]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV4::new(GROUP, PORT).into())?;
    // Without it, Linux hands over what arrives in networks that only others on this machine have joined.
    #[cfg(target_os = "linux")]
    socket.set_multicast_all_v4(false)?;
    socket.join_multicast_v4(&GROUP, &address)?;
    socket.set_multicast_if_v4(&address)?;
    socket.set_multicast_ttl_v4(HOPS)?;
    UdpSocket::from_std(socket.into())
}

/// Our addresses in private IPv4 networks.
fn networks(addresses: &[SocketAddr]) -> Vec<SocketAddrV4> {
    let private = addresses.iter().filter_map(|address| match address {
        SocketAddr::V4(address) => is_local(IpAddr::V4(*address.ip())).then_some(*address),
        SocketAddr::V6(_) => None,
    });
    let networks: BTreeSet<_> = private.collect();
    networks.into_iter().take(MAX_NETWORKS).collect()
}

/// Whether an address is in a private network, where who is there was let in by somebody.
fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn nothing_is_said_but_in_private_networks() {
        let all =
            ["198.51.100.1:1", "192.168.1.7:6084", "127.0.0.1:1", "[fd00::7]:6084", "10.0.0.1:9", "169.254.1.1:9"];
        let all: Vec<SocketAddr> = all.iter().map(|text| text.parse().unwrap()).collect();
        let said: Vec<String> = networks(&all).iter().map(SocketAddrV4::to_string).collect();
        assert_eq!(said, ["10.0.0.1:9", "169.254.1.1:9", "192.168.1.7:6084"]);
        let many: Vec<SocketAddr> = (1..100).map(|host| SocketAddr::from(([10, 0, host, 1], 6084))).collect();
        assert_eq!(networks(&many).len(), MAX_NETWORKS);
    }
}
