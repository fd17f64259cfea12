//! Transports, flows and destinations as the engine names them (RFC 3261 §18, RFC 5626 §3.2).
//!
//! Types only: sockets and links belong to whoever drives the engine. A *flow* is where a message came from and
//! the way back to it; a *destination* is where a message shall go, which may still have to be connected.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::message::Message;
use crate::text::{push_address, push_number};
use crate::transaction::TransactionId;

/// Ending of every peer host name (RFC 9476 reserves `.alt` for names that are not in the DNS).
const PEER_SUFFIX: &str = ".peer.alt";

/// Longest peer host accepted: one DNS label and the suffix, so that a name can never bloat a table.
const PEER_HOST_MAX: usize = 63 + PEER_SUFFIX.len();

/// How SIP is carried on one hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams over UDP.
    Udp,
    /// A TCP connection.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// WebSocket over TLS (RFC 7118).
    Wss,
    /// A protected link to another node.
    Peer,
}

impl Transport {
    /// The token of the Via header field: `SIP/2.0/<token>`.
    pub fn via_token(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
            Transport::Peer => "PEER",
        }
    }

    /// The value of the URI parameter `transport`. WebSocket has one, with or without TLS (RFC 7118 §5.2.4).
    pub fn uri_param(self) -> &'static str {
        match self {
            Transport::Wss => Transport::Ws.name(),
            Transport::Udp | Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Peer => self.name(),
        }
    }

    /// The Via token in small letters.
    fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
            Transport::Peer => "peer",
        }
    }

    /// Whether the transport itself retransmits, so that transactions need not (RFC 3261 §17).
    pub fn is_reliable(self) -> bool {
        match self {
            Transport::Udp => false,
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss | Transport::Peer => true,
        }
    }

    /// The port that a URI or Via without one means (RFC 3261 §19.1.2).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp | Transport::Peer => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
    }
}

/// Why a transport could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown transport")]
pub struct UnknownTransport;

impl FromStr for Transport {
    type Err = UnknownTransport;

    /// Reads a Via token or a `transport` parameter, in any case of letters.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ALL: [Transport; 6] =
            [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss, Transport::Peer];
        ALL.into_iter().find(|transport| transport.name().eq_ignore_ascii_case(text)).ok_or(UnknownTransport)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Host name of another node: `<node id>.peer.alt`. The engine does not look inside beyond the suffix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerHost(Arc<str>);

impl PeerHost {
    /// Reads a peer host, in any case of letters; `None` unless it is one label followed by `.peer.alt`.
    pub fn parse(host: &str) -> Option<PeerHost> {
        if host.len() > PEER_HOST_MAX {
            return None;
        }
        let host = host.to_ascii_lowercase();
        let label = host.strip_suffix(PEER_SUFFIX)?;
        let is_label = !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        is_label.then(|| PeerHost(host.into()))
    }

    /// The whole host name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The label before the suffix.
    pub fn label(&self) -> &str {
        self.0.strip_suffix(PEER_SUFFIX).unwrap_or(&self.0)
    }
}

impl fmt::Display for PeerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a message came from, and the way back (RFC 5626 §3.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flow {
    /// Datagrams between one of our UDP sockets and a remote address.
    Udp {
        /// Which of our sockets.
        listener: u16,
        /// The other side.
        remote: SocketAddr,
    },
    /// One connection; it is gone for good once closed.
    Stream {
        /// What runs on the connection.
        transport: Transport,
        /// The listener that accepted it, or whose address we used to connect.
        listener: u16,
        /// Number of the connection, never used again: flow tokens outlive a restart, so a number that comes again must
        /// at least not pass for open ([`Locals::flow_is_open`] compares the whole flow).
        connection: u64,
        /// The other side.
        remote: SocketAddr,
    },
    /// A link to another node.
    Peer {
        /// The other node, as the link proved it.
        host: PeerHost,
    },
}

impl Flow {
    /// The transport of this flow.
    pub fn transport(&self) -> Transport {
        match self {
            Flow::Udp { .. } => Transport::Udp,
            Flow::Stream { transport, .. } => *transport,
            Flow::Peer { .. } => Transport::Peer,
        }
    }

    /// The remote address; none for a peer link, whose paths change.
    pub fn remote(&self) -> Option<SocketAddr> {
        match self {
            Flow::Udp { remote, .. } | Flow::Stream { remote, .. } => Some(*remote),
            Flow::Peer { .. } => None,
        }
    }
}

/// Where a message shall go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Over a flow that exists.
    Flow(Flow),
    /// To an address, over a connection to be opened or found.
    Address {
        /// What to speak.
        transport: Transport,
        /// Where to.
        addr: SocketAddr,
        /// From which of our listeners.
        listener: u16,
    },
    /// To another node, over a link to be opened or found.
    Peer(PeerHost),
}

impl Destination {
    /// The transport of this destination.
    pub fn transport(&self) -> Transport {
        match self {
            Destination::Flow(flow) => flow.transport(),
            Destination::Address { transport, .. } => *transport,
            Destination::Peer(_) => Transport::Peer,
        }
    }
}

/// One message to send.
#[derive(Debug, Clone)]
pub struct Transmit {
    /// Where to.
    pub destination: Destination,
    /// What.
    pub message: Message,
    /// The transaction to tell when it cannot be sent ([`crate::server::Server::handle_transport_error`]); none for a
    /// message that nobody waits for.
    pub origin: Option<TransactionId>,
}

/// What the engine must know about the addresses of the node that drives it.
pub trait Locals: Send {
    /// `host:port` that Via and Record-Route shall say for what leaves towards `destination`.
    fn sent_by(&self, destination: &Destination) -> String;

    /// Whether a host and port (of a URI, Route or Via) name this node itself.
    fn is_local(&self, host: &str, port: Option<u16>) -> bool;

    /// Whether a message could still be sent over `flow`: over the very connection, between the very addresses.
    fn flow_is_open(&self, flow: &Flow) -> bool;
}

/// Where unpredictable bytes come from; the core makes none of its own.
pub trait Randomness: Send {
    /// Fills the buffer with unpredictable bytes.
    fn fill(&mut self, buffer: &mut [u8]);
}

/// An address and port as they stand in a Via, and in a URI: an IPv6 address in brackets (RFC 3261 §18.1.1, §25.1).
pub fn host_port(address: SocketAddr) -> String {
    let mut text = String::with_capacity("[]:65535".len() + 39);
    if address.is_ipv6() {
        text.push('[');
    }
    push_address(&mut text, address.ip());
    if address.is_ipv6() {
        text.push(']');
    }
    text.push(':');
    push_number(&mut text, address.port());
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn an_address_is_written_as_in_a_uri() {
        for address in ["192.0.2.1:5060", "[2001:db8::1]:65535"] {
            assert_eq!(host_port(address.parse().unwrap()), address);
        }
    }

    #[test]
    fn a_peer_host_is_one_label_under_peer_alt() {
        assert_eq!(PeerHost::parse("4F2.PEER.ALT").unwrap().as_str(), "4f2.peer.alt");
        assert_eq!(PeerHost::parse("4f2.peer.alt").unwrap().label(), "4f2");
        for wrong in ["", ".peer.alt", "a.b.peer.alt", "peer.alt", "x.peer.alt.example", "x y.peer.alt"] {
            assert_eq!(PeerHost::parse(wrong), None, "{wrong}");
        }
        assert_eq!(PeerHost::parse(&format!("{}.peer.alt", "a".repeat(64))), None);
    }

    #[test]
    fn a_uri_says_ws_for_websocket_over_tls_too() {
        assert_eq!((Transport::Wss.uri_param(), Transport::Wss.to_string().as_str()), ("ws", "wss"));
        assert_eq!(Transport::Wss.via_token(), "WSS");
    }

    #[test]
    fn transports_are_read_in_any_case() {
        assert_eq!("UDP".parse(), Ok(Transport::Udp));
        assert_eq!("peer".parse(), Ok(Transport::Peer));
        assert_eq!("WSS".parse(), Ok(Transport::Wss));
        assert_eq!("sctp".parse::<Transport>(), Err(UnknownTransport));
    }
}
