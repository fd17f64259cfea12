//! baresip's remote control: the `ctrl_tcp` module, JSON in netstrings.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wait::eventually_some;

/// baresip loads its modules for seconds on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// The connection to baresip's `ctrl_tcp`.
#[derive(Debug)]
pub(super) struct Control {
    address: SocketAddr,
    stream: Option<TcpStream>,
    received: Vec<u8>,
    events: VecDeque<Value>,
}

impl Control {
    /// Not connected yet.
    pub(super) fn new(address: SocketAddr) -> Control {
        Control { address, stream: None, received: Vec::new(), events: VecDeque::new() }
    }

    /// Waits until baresip listens.
    #[track_caller]
    pub(super) fn connect(&mut self) {
        let address = self.address;
        let stream = eventually_some(START_DEADLINE, "baresip to take commands", || TcpStream::connect(address).ok());
        stream.set_nonblocking(true).expect("a non-blocking socket");
        self.stream = Some(stream);
    }

    /// Sends one command.
    #[track_caller]
    pub(super) fn send(&mut self, command: &str, parameters: &str) {
        let text = json!({ "command": command, "params": parameters, "token": "test" }).to_string();
        let stream = self.stream.as_mut().expect("a connected control");
        let start = Instant::now();
        let framed = format!("{}:{text},", text.len());
        stream
            .write_all(framed.as_bytes())
            .unwrap_or_else(|error| panic!("baresip is gone after {:?}: {error}", start.elapsed()));
    }

    /// The first event that `wanted` accepts; those before it are dropped.
    pub(super) fn next_event(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        self.receive();
        let position = self.events.iter().position(wanted)?;
        self.events.drain(..=position).next_back()
    }

    /// Drops what has happened so far.
    pub(super) fn forget_events(&mut self) {
        self.receive();
        self.events.clear();
    }

    /// Whether an event of this type has come and was not looked at.
    pub(super) fn has_event(&mut self, kind: &str) -> bool {
        self.receive();
        self.events.iter().any(|event| event["type"] == kind)
    }

    fn receive(&mut self) {
        let Some(stream) = self.stream.as_mut() else {
            return;
        };
        let mut buffer = [0; 4096];
        while let Ok(length) = stream.read(&mut buffer) {
            if length == 0 {
                break;
            }
            self.received.extend_from_slice(&buffer[..length]);
        }
        while let Some(text) = take_netstring(&mut self.received) {
            if let Ok(value) = serde_json::from_slice::<Value>(&text)
                && value["event"] == true
            {
                self.events.push_back(value);
            }
        }
    }
}

/// Takes one `LENGTH:BYTES,` off the front, once it is complete.
fn take_netstring(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let colon = received.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&received[..colon]).ok()?.parse().ok()?;
    let end = colon + 1 + length;
    if received.len() <= end {
        return None;
    }
    let text = received[colon + 1..end].to_vec();
    received.drain(..=end);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::take_netstring;

    #[test]
    fn a_netstring_is_taken_only_when_complete() {
        let mut received = b"3:abc,2:d".to_vec();
        assert_eq!(take_netstring(&mut received), Some(b"abc".to_vec()));
        assert_eq!(take_netstring(&mut received), None);
        received.extend_from_slice(b"e,");
        assert_eq!(take_netstring(&mut received), Some(b"de".to_vec()));
    }
}
