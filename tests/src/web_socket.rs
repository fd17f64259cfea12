//! A WebSocket client that may break every rule (RFC 6455): frames are made by hand.

use std::io::{Error, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::SOON;
use crate::wire::Wire;

/// Opcodes of frames.
pub mod opcode {
    /// More of the message before it.
    pub const CONTINUATION: u8 = 0;
    /// A text message.
    pub const TEXT: u8 = 1;
    /// The end.
    pub const CLOSE: u8 = 8;
    /// Are you there?
    pub const PING: u8 = 9;
    /// I am.
    pub const PONG: u8 = 10;
}

const MASK: [u8; 4] = [0x1F, 0xA3, 0x00, 0x7C];

/// The handshake of a well-behaved client; tests change a line of it.
pub const HANDSHAKE: &str = "GET /sip HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n\
                             Sec-WebSocket-Version: 13\r\n\r\n";

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    wire: Wire,
    received: Vec<u8>,
    closed: bool,
    close_code: Option<u16>,
}

impl WebSocket {
    /// Connects as a well-behaved client does.
    #[track_caller]
    pub fn open(server: SocketAddr, tls: bool) -> WebSocket {
        WebSocket::handshake(server, tls, HANDSHAKE)
            .unwrap_or_else(|status| panic!("WebSocket refused with {status:?}"))
    }

    /// Sends this handshake; an answer other than 101 is given back, `None` when there was none.
    ///
    /// # Errors
    /// The status of the HTTP response.
    #[track_caller]
    pub fn handshake(server: SocketAddr, tls: bool, request: &str) -> std::result::Result<WebSocket, Option<u16>> {
        let mut wire = Wire::open(server, tls).unwrap_or_else(|error| panic!("connect to {server}: {error}"));
        wire.send(request.as_bytes()).map_err(|_| None)?;
        let mut received = Vec::new();
        let start = Instant::now();
        let end = loop {
            if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if !wire.receive(&mut received, SOON) || start.elapsed() > SOON {
                return Err(None);
            }
        };
        let head: Vec<u8> = received.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        match head.split(' ').nth(1).and_then(|status| status.parse().ok()) {
            Some(101) => Ok(WebSocket { wire, received, closed: false, close_code: None }),
            status => Err(status),
        }
    }

    /// Our own address.
    pub fn local(&self) -> SocketAddr {
        self.wire.local()
    }

    /// Whether the other side has closed, or said that it will.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Sends a text message in one frame.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.send_frame(opcode::TEXT, payload, true)
    }

    /// Sends one frame, masked as a client must.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send_frame(&mut self, opcode: u8, payload: &[u8], last: bool) -> Result<()> {
        let masked: Vec<u8> = payload.iter().zip(MASK.iter().cycle()).map(|(octet, mask)| octet ^ mask).collect();
        let mut frame = frame_head(opcode, payload.len(), last, true);
        frame.extend_from_slice(&MASK);
        frame.extend_from_slice(&masked);
        self.wire.send(&frame)
    }

    /// Sends bytes that need be no frame at all.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.send(bytes)
    }

    /// The next frame that comes within `patience`: opcode and payload. Pings are answered on the way.
    pub fn next_frame(&mut self, patience: Duration) -> Option<(u8, Vec<u8>)> {
        if self.closed {
            // Whoever waits here waits for a deadline; a closed socket would return at once.
            std::thread::sleep(patience.min(Duration::from_millis(20)));
            return None;
        }
        if let Some(frame) = self.take_frame() {
            return Some(frame);
        }
        if !self.wire.receive(&mut self.received, patience) {
            self.closed = true;
        }
        self.take_frame()
    }

    /// Reads until the other side closes and returns the code that it gives, if any.
    pub fn close_code(&mut self) -> Option<u16> {
        let start = Instant::now();
        while !self.closed && start.elapsed() < SOON {
            self.next_frame(Duration::from_millis(50));
        }
        self.close_code
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (&first, &second) = (self.received.first()?, self.received.get(1)?);
        let (length, start) = match second & 127 {
            126 => (usize::from(u16::from_be_bytes(self.received.get(2..4)?.try_into().ok()?)), 4),
            127 => (usize::try_from(u64::from_be_bytes(self.received.get(2..10)?.try_into().ok()?)).ok()?, 10),
            short => (usize::from(short), 2),
        };
        let payload = self.received.get(start..start + length)?.to_vec();
        self.received.drain(..start + length);
        let opcode = first & 15;
        if opcode == opcode::PING {
            let _ = self.send_frame(opcode::PONG, &payload, true);
        }
        if opcode == opcode::CLOSE {
            self.closed = true;
            self.close_code = payload.get(..2).and_then(|code| code.try_into().ok()).map(u16::from_be_bytes);
        }
        Some((opcode, payload))
    }
}

/// The head of a frame up to its mask.
pub fn frame_head(opcode: u8, length: usize, last: bool, masked: bool) -> Vec<u8> {
    let (first, mask) = (opcode | if last { 128 } else { 0 }, if masked { 128 } else { 0 });
    match length {
        0..126 => vec![first, mask | u8::try_from(length).expect("short")],
        126..65_536 => {
            let mut head = vec![first, mask | 126];
            head.extend_from_slice(&u16::try_from(length).expect("two octets").to_be_bytes());
            head
        }
        _ => {
            let mut head = vec![first, mask | 127];
            head.extend_from_slice(&u64::try_from(length).expect("eight octets").to_be_bytes());
            head
        }
    }
}

/// An error for a phone whose line is closed.
pub(crate) fn closed() -> Error {
    Error::from(std::io::ErrorKind::ConnectionAborted)
}
