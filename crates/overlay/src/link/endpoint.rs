//! Sockets and QUIC settings.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use iroh::endpoint::{Connection, ConnectionError, IdleTimeout, QuicTransportConfig, VarInt, presets};
use iroh::tls::CaTlsConfig;
use iroh::{Endpoint, EndpointAddr, EndpointId, NetReportConfig, RelayMap, RelayMode, RelayUrl, SecretKey};
use meshtone_identity::LinkKey;

use super::limits::{DATAGRAM_BUFFER, LINK_WINDOW, MAX_STREAMS, STREAM_WINDOW};
use super::relay::book::Book;
use super::relay::provider;
use super::relay::trust::Trust;
use super::relay::tunnel;
use super::{LinkError, LinkQuality, Path, PeerAddress, code};
use tokio::sync::oneshot;

/// QUIC's own idle time-out, behind our liveness check: it also ends connections whose hello never came.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What an endpoint knows of relays.
pub(crate) struct RelayUse {
    /// Those that it may use; more are put in while it runs.
    pub(crate) map: RelayMap,
    /// Where they are.
    pub(crate) book: Book,
    /// What they have to prove.
    pub(crate) trust: Trust,
}

/// Binds an endpoint that asks no third party for anything: no DNS, no publishing of our address, no relay but those that it is told of.
pub(crate) async fn bind(
    bind: &[SocketAddr],
    secret: [u8; 32],
    alpns: &[&[u8]],
    relays: RelayUse,
) -> Result<Endpoint, LinkError> {
    let local = |error: &dyn std::fmt::Display| LinkError::Local(error.to_string());
    let trust = relays.trust;
    // It ends with the endpoint, or without one when that cannot be bound.
    let (over, is_over) = oneshot::channel::<()>();
    let ends = async move {
        let _ = is_over.await;
    };
    let tunnel = tunnel::start(relays.book.clone(), ends).await.map_err(|error| local(&error))?;
    let tunnel = format!("http://{tunnel}").parse().map_err(|_| local(&"no proxy"))?;
    // Whether there is a web page in between that wants money is asked of port 80 of a relay, where nobody of us listens.
    let mut net_report = NetReportConfig::default();
    net_report.captive_portal_check = false;
    let mut builder = Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&secret))
        .alpns(alpns.iter().map(|alpn| alpn.to_vec()).collect())
        .crypto_provider(provider())
        .relay_mode(RelayMode::Custom(relays.map))
        .dns_resolver(relays.book.resolver())
        .proxy_url(tunnel)
        .ca_tls_config(CaTlsConfig::custom_server_cert_verifier(std::sync::Arc::new(move |provider| {
            Ok(trust.clone().verifier(provider))
        })))
        .net_report_config(net_report)
        .transport_config(transport())
        .clear_ip_transports();
    for addr in bind {
        builder = builder.bind_addr(*addr).map_err(|error| local(&error))?;
    }
    let endpoint = builder.bind().await.map_err(|error| LinkError::Local(format!("{error:#}")))?;
    let closed = endpoint.closed();
    tokio::spawn(async move {
        closed.await;
        drop(over);
    });
    Ok(endpoint)
}

fn transport() -> QuicTransportConfig {
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).ok();
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(LINK_WINDOW))
        .send_window(u64::from(LINK_WINDOW))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .max_idle_timeout(idle)
        .build()
}

/// Returns where an endpoint is reached: its sockets, and for those bound to all addresses what iroh finds on the
/// machine's interfaces (loopback only where there is nothing else).
pub(crate) fn addresses(endpoint: &Endpoint) -> Vec<SocketAddr> {
    let (wild, mut addrs): (Vec<_>, Vec<_>) =
        endpoint.bound_sockets().into_iter().partition(|addr| addr.ip().is_unspecified());
    let before = addrs.len();
    for addr in endpoint.addr().ip_addrs() {
        let bound = wild.iter().any(|wild| wild.port() == addr.port() && wild.is_ipv4() == addr.is_ipv4());
        if bound && is_own(addr.ip()) && !addrs.contains(addr) {
            addrs.push(*addr);
        }
    }
    if addrs.len() == before {
        // Nothing was found yet, such as in the first moment or without any network.
        addrs.extend(wild.iter().map(|addr| match addr {
            SocketAddr::V4(addr) => SocketAddr::from(([127, 0, 0, 1], addr.port())),
            SocketAddr::V6(addr) => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], addr.port())),
        }));
    }
    addrs
}

/// Whether an address is one of this machine's, and not one that others call it by: routers like to keep the port.
fn is_own(ip: IpAddr) -> bool {
    std::net::UdpSocket::bind((ip, 0)).is_ok()
}

/// Returns the key that the other side has proved.
pub(crate) fn remote_key(connection: &Connection) -> LinkKey {
    LinkKey::from_bytes(*connection.remote_id().as_bytes())
}

/// Returns what iroh dials, through these relays as well.
pub(crate) fn dial_address(peer: &PeerAddress, relays: &[RelayUrl]) -> Result<EndpointAddr, LinkError> {
    let id = EndpointId::from_bytes(peer.link_key.as_bytes())
        .map_err(|_| LinkError::Unreachable("its link key is no Ed25519 key".to_owned()))?;
    let mut address = EndpointAddr::new(id);
    for addr in &peer.addrs {
        address = address.with_ip_addr(*addr);
    }
    for relay in relays {
        address = address.with_relay_url(relay.clone());
    }
    Ok(address)
}

/// Returns how packets travel now, and the round trip in milliseconds.
pub(crate) fn path(connection: &Connection) -> (Path, f64) {
    let paths = connection.paths();
    let Some(path) = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next()) else {
        return (Path::Relayed, 0.0);
    };
    let rtt_ms = path.rtt().as_secs_f64() * 1000.0;
    // The enum may grow.
    #[allow(clippy::wildcard_enum_match_arm, clippy::wildcard_in_or_patterns)]
    match path.remote_addr() {
        iroh::TransportAddr::Ip(addr) => (Path::Direct(*addr), rtt_ms),
        iroh::TransportAddr::Relay(_) | _ => (Path::Relayed, rtt_ms),
    }
}

/// Returns what is known of the way that packets travel now.
pub(crate) fn quality(connection: &Connection) -> Option<LinkQuality> {
    let paths = connection.paths();
    let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next())?;
    let stats = path.stats();
    Some(LinkQuality { round_trip: stats.rtt, sent: stats.sent_packets, lost: stats.lost_packets })
}

/// Closes a connection for a reason of [`code`].
pub(crate) fn close(connection: &Connection, code: u32) {
    connection.close(VarInt::from_u32(code), b"");
}

/// Returns why a connection has ended, as far as it has.
pub(crate) fn why_closed(connection: &Connection) -> LinkError {
    match connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(close)) => {
            LinkError::ClosedByPeer(code::Code(close.error_code.into_inner()))
        }
        Some(error) => LinkError::Unreachable(error.to_string()),
        None => LinkError::Misbehaved("it ended the link's own stream"),
    }
}
