//! A plain HTTP/1.1 client, as simple as a program can be: one request a connection, and what comes back until it is closed.

use std::net::SocketAddr;
use std::time::Instant;

use crate::SOON;
use crate::wire::Wire;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status, 0 where there was no answer.
    pub status: u16,
    /// Names in lower case, in their order.
    pub fields: Vec<(String, String)>,
    /// What follows the head.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first field of this name, written in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Where a node's pages are, and over what.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// The listener.
    pub server: SocketAddr,
    /// Whether over TLS.
    pub tls: bool,
}

impl Site {
    /// Fetches a page.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    /// Fetches a page with these fields besides.
    #[track_caller]
    pub fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, fields, "")
    }

    /// Sends a request. A field of the name `Host` takes the place of the usual one.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !fields.iter().any(|(name, _)| *name == "Host") {
            head.push_str(&format!("Host: {}\r\n", self.server));
        }
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.send(format!("{head}\r\n{body}").as_bytes())
    }

    /// Sends these bytes, and reads until the other side closes.
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) -> Answer {
        let mut wire = Wire::open(self.server, self.tls).unwrap_or_else(|error| panic!("{}: {error}", self.server));
        let _ = wire.send(bytes);
        let (mut received, start) = (Vec::new(), Instant::now());
        while start.elapsed() < SOON * 2 && wire.receive(&mut received, SOON) {}
        parse(&received)
    }
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_default();
    let field =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let fields: Vec<(String, String)> = lines.filter_map(field).collect();
    Answer { status, fields, body: bytes.get(end + 4..).unwrap_or_default().to_vec() }
}
