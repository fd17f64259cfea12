//! Address discovery: where nodes learn which address their packets come from, as somebody outside their network sees it
//! (draft-ietf-quic-address-discovery). Without that no two nodes behind boxes find a direct way to each other.
//!
//! A QUIC server that carries no streams: a connection is kept as long as the node wants it, and says again when its address changes.
//! Whoever asks need not be known, since all that he learns is his own address; what one network and what all hold is bounded.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use noq::crypto::rustls::QuicServerConfig;
use noq::{Endpoint, IdleTimeout, Incoming, ServerConfig, VarInt};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use crate::link::pace::network;

/// What iroh calls the protocol.
const ALPN: &[u8] = b"/iroh-qad/0";

/// Nodes that keep a connection at once, some 20 KiB each.
const MAX_ASKING: usize = 1024;

/// Of one network: an office behind one box fits.
const MAX_ASKING_OF_ONE: usize = 64;

/// From so many connections on, whoever comes has to prove his address first (RFC 9000 §8.1.2).
const VALIDATE_FROM: usize = 256;

/// How long a handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// Clients say every 25 s that they are there.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Handshakes that wait to be looked at.
const MAX_INCOMING: usize = 128;

/// The server. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Discovery {
    port: u16,
    endpoints: Vec<Endpoint>,
    _tasks: JoinSet<()>,
}

impl Discovery {
    /// Binds and serves; where the addresses name port 0, the first one's choice is that of all.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn start(addresses: &[SocketAddr], mut tls: rustls::ServerConfig) -> io::Result<Self> {
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let mut config = ServerConfig::with_crypto(Arc::new(tls));
        config.max_incoming(MAX_INCOMING).incoming_buffer_size(16 * 1024).incoming_buffer_size_total(1024 * 1024);
        let mut transport = noq::TransportConfig::default();
        transport
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok())
            .send_observed_address_reports(true);
        config.transport_config(Arc::new(transport));
        let (asking, mut tasks) = (Asking::default(), JoinSet::new());
        let mut server = Self { port: 0, endpoints: Vec::new(), _tasks: JoinSet::new() };
        for address in addresses {
            let port = if address.port() == 0 { server.port } else { address.port() };
            let endpoint = Endpoint::server(config.clone(), SocketAddr::new(address.ip(), port))?;
            server.port = endpoint.local_addr()?.port();
            tasks.spawn(serve(endpoint.clone(), asking.clone()));
            server.endpoints.push(endpoint);
        }
        server._tasks = tasks;
        Ok(server)
    }

    /// Returns the port; 0 where it does not listen.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        for endpoint in &self.endpoints {
            endpoint.close(VarInt::from_u32(1), b"finished");
        }
    }
}

async fn serve(endpoint: Endpoint, asking: Asking) {
    let mut connections = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        while connections.try_join_next().is_some() {}
        if connections.len() >= VALIDATE_FROM && !incoming.remote_address_validated() {
            // It fails only for addresses that are validated already.
            let _ = incoming.retry();
            continue;
        }
        match asking.enter(incoming.remote_address().ip()) {
            Some(place) => drop(connections.spawn(keep(incoming, place))),
            None => {
                debug!("a node was turned away that asked for its address, too many do");
                incoming.refuse();
            }
        }
    }
}

async fn keep(incoming: Incoming, _place: Place) {
    if let Ok(Ok(connection)) = timeout(HANDSHAKE_WITHIN, incoming).await {
        connection.closed().await;
    }
}

/// Who asks now, by network. Clones are the same.
#[derive(Debug, Clone, Default)]
struct Asking(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One who asks, for as long as it is held.
struct Place {
    asking: Asking,
    network: IpAddr,
}

impl Asking {
    fn enter(&self, source: IpAddr) -> Option<Place> {
        let network = network(source);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = all.get(&network).copied().unwrap_or_default();
        if of_one >= MAX_ASKING_OF_ONE || all.values().sum::<usize>() >= MAX_ASKING {
            return None;
        }
        all.insert(network, of_one + 1);
        Some(Place { asking: self.clone(), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.asking.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_network_leaves_room_for_the_others_and_places_are_given_back() {
        let asking = Asking::default();
        let one = "192.0.2.1".parse().unwrap();
        let mut places: Vec<Place> = std::iter::from_fn(|| asking.enter(one)).collect();
        assert_eq!(places.len(), MAX_ASKING_OF_ONE);
        assert!(asking.enter("192.0.2.2".parse().unwrap()).is_some());
        assert!(asking.enter("2001:db8::1".parse().unwrap()).is_some());
        places.pop();
        assert!(asking.enter(one).is_some());
        drop(places);
        assert!(asking.0.lock().unwrap().is_empty());
    }

    #[test]
    fn there_is_a_bound_for_all() {
        let asking = Asking::default();
        let places: Vec<Place> =
            (0..100_000_u32).map_while(|number| asking.enter(IpAddr::from(number.to_be_bytes()))).collect();
        assert_eq!(places.len(), MAX_ASKING);
    }
}
