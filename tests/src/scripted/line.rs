//! The socket of a scripted phone.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::Sip;
use crate::SOON;
use crate::phone::Transport;

const READ_SLICE: Duration = Duration::from_millis(20);
const LARGEST_READ: usize = 128 * 1024;

/// A datagram socket, or a connection with what of it has not been read as messages yet.
#[derive(Debug)]
pub(super) enum Line {
    Udp(UdpSocket),
    Tcp { stream: TcpStream, received: Vec<u8>, closed: bool },
}

impl Line {
    /// Opens a port of its own, connected to `server` where the transport connects.
    #[track_caller]
    pub(super) fn open(transport: Transport, server: SocketAddr) -> Line {
        match transport {
            Transport::Udp => Line::Udp(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a UDP socket")),
            Transport::Tcp => {
                let stream = TcpStream::connect(server).unwrap_or_else(|error| panic!("connect to {server}: {error}"));
                stream.set_nodelay(true).expect("no delay");
                Line::Tcp { stream, received: Vec::new(), closed: false }
            }
        }
    }

    pub(super) fn transport(&self) -> Transport {
        match self {
            Line::Udp(_) => Transport::Udp,
            Line::Tcp { .. } => Transport::Tcp,
        }
    }

    pub(super) fn local(&self) -> SocketAddr {
        let local = match self {
            Line::Udp(socket) => socket.local_addr(),
            Line::Tcp { stream, .. } => stream.local_addr(),
        };
        local.expect("our own address")
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Line::Tcp { closed: true, .. })
    }

    pub(super) fn send(&mut self, server: SocketAddr, bytes: &[u8]) -> Result<()> {
        match self {
            Line::Udp(socket) => socket.send_to(bytes, server).map(drop),
            Line::Tcp { stream, .. } => {
                stream.set_write_timeout(Some(SOON))?;
                stream.write_all(bytes)
            }
        }
    }

    /// What comes within a short while.
    pub(super) fn receive(&mut self) -> Vec<Sip> {
        let mut buffer = vec![0; LARGEST_READ];
        match self {
            Line::Udp(socket) => {
                socket.set_read_timeout(Some(READ_SLICE)).expect("a read timeout");
                let length = socket.recv(&mut buffer).unwrap_or(0);
                Sip::parse(&buffer[..length]).into_iter().collect()
            }
            Line::Tcp { stream, received, closed } => {
                if *closed {
                    // Whoever waits here waits for a deadline; a closed socket would return at once.
                    std::thread::sleep(READ_SLICE);
                }
                stream.set_read_timeout(Some(READ_SLICE)).expect("a read timeout");
                match stream.read(&mut buffer) {
                    Ok(0) => *closed = true,
                    Ok(length) => received.extend_from_slice(&buffer[..length]),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => *closed = true,
                }
                std::iter::from_fn(|| Sip::take_from_stream(received)).collect()
            }
        }
    }
}
