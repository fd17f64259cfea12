//! The socket of a scripted phone.

use std::io::Result;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::Sip;
use crate::phone::Transport;
use crate::web_socket::{self, WebSocket, opcode};
use crate::wire::Wire;

const READ_SLICE: Duration = Duration::from_millis(20);
const LARGEST_READ: usize = 128 * 1024;

/// A datagram socket, or a connection with what of it has not been read as messages yet.
#[derive(Debug)]
pub(super) enum Line {
    Udp(UdpSocket),
    Stream { transport: Transport, wire: Wire, received: Vec<u8>, closed: bool },
    Web { transport: Transport, socket: WebSocket },
}

impl Line {
    /// Opens a port of its own, connected to `server` where the transport connects.
    #[track_caller]
    pub(super) fn open(transport: Transport, server: SocketAddr) -> Line {
        match transport {
            Transport::Udp if server.is_ipv6() => Line::udp_from(Ipv6Addr::LOCALHOST.into()),
            Transport::Udp => Line::udp_from(Ipv4Addr::LOCALHOST.into()),
            Transport::Tcp | Transport::Tls => {
                let wire = Wire::open(server, transport == Transport::Tls);
                let wire = wire.unwrap_or_else(|error| panic!("connect to {server}: {error}"));
                Line::Stream { transport, wire, received: Vec::new(), closed: false }
            }
            Transport::Ws | Transport::Wss => {
                Line::Web { transport, socket: WebSocket::open(server, transport == Transport::Wss) }
            }
        }
    }

    /// A datagram socket at this address of the machine.
    pub(super) fn udp_from(source: IpAddr) -> Line {
        Line::Udp(UdpSocket::bind((source, 0)).expect("a UDP socket"))
    }

    pub(super) fn transport(&self) -> Transport {
        match self {
            Line::Udp(_) => Transport::Udp,
            Line::Stream { transport, .. } | Line::Web { transport, .. } => *transport,
        }
    }

    pub(super) fn local(&self) -> SocketAddr {
        match self {
            Line::Udp(socket) => socket.local_addr().expect("our own address"),
            Line::Stream { wire, .. } => wire.local(),
            Line::Web { socket, .. } => socket.local(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Line::Udp(_) => false,
            Line::Stream { closed, .. } => *closed,
            Line::Web { socket, .. } => socket.is_closed(),
        }
    }

    pub(super) fn send(&mut self, server: SocketAddr, bytes: &[u8]) -> Result<()> {
        match self {
            Line::Udp(socket) => socket.send_to(bytes, server).map(drop),
            Line::Stream { wire, .. } => wire.send(bytes),
            Line::Web { socket, .. } if socket.is_closed() => Err(web_socket::closed()),
            Line::Web { socket, .. } => socket.send(bytes),
        }
    }

    /// What comes within a short while.
    pub(super) fn receive(&mut self) -> Vec<Sip> {
        match self {
            Line::Udp(socket) => {
                let mut buffer = vec![0; LARGEST_READ];
                socket.set_read_timeout(Some(READ_SLICE)).expect("a read timeout");
                let length = socket.recv(&mut buffer).unwrap_or(0);
                Sip::parse(&buffer[..length]).into_iter().collect()
            }
            Line::Stream { wire, received, closed, .. } => {
                if *closed {
                    // Whoever waits here waits for a deadline; a closed socket would return at once.
                    std::thread::sleep(READ_SLICE);
                } else if !wire.receive(received, READ_SLICE) {
                    *closed = true;
                }
                std::iter::from_fn(|| Sip::take_from_stream(received)).collect()
            }
            Line::Web { socket, .. } => {
                let frame = socket.next_frame(READ_SLICE).filter(|(opcode, _)| *opcode <= opcode::TEXT + 1);
                frame.and_then(|(_, payload)| Sip::parse(&payload)).into_iter().collect()
            }
        }
    }
}
