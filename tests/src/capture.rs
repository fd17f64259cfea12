//! What goes over a network of the test's own (see [`lan`](crate::lan)), as somebody sees it who listens there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Packets of every protocol (`ETH_P_ALL` of packet(7)), in the order of the network.
const EVERY_PROTOCOL: i32 = 0x0003_u16.to_be() as i32;

/// An Ethernet header, which loopback has too.
const ETHERNET_LEN: usize = 14;

/// UDP in the header of IPv4.
const UDP: u8 = 17;

/// TCP in the header of IPv4.
const TCP: u8 = 6;

/// What passes over IPv4.
#[derive(Debug, Default)]
struct Passed {
    /// Datagrams, by each of their two ports.
    datagrams: BTreeMap<u16, Vec<Vec<u8>>>,
    /// How many packets, by who sent them and to whom.
    packets: BTreeMap<(Ipv4Addr, Ipv4Addr), usize>,
    /// To which ports of UDP and TCP something went.
    ports: BTreeSet<u16>,
}

/// Listens from its beginning until it is dropped.
#[derive(Debug)]
pub struct Capture {
    seen: Arc<Mutex<Passed>>,
    is_over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    /// Begins to listen at all interfaces.
    #[track_caller]
    pub fn start() -> Capture {
        let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_PROTOCOL)))
            .expect("a packet socket, in a network of the test's own");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a read timeout");
        let (seen, is_over) = (Arc::<Mutex<Passed>>::default(), Arc::<AtomicBool>::default());
        let (noted, over) = (seen.clone(), is_over.clone());
        let reader = std::thread::spawn(move || {
            let mut frame = vec![0; 65_536];
            while !over.load(Ordering::Relaxed) {
                match socket.read(&mut frame) {
                    Ok(len) => note(&frame[..len], &mut noted.lock().unwrap_or_else(PoisonError::into_inner)),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    Err(error) => panic!("a packet socket that cannot be read: {error}"),
                }
            }
        });
        Capture { seen, is_over, reader: Some(reader) }
    }

    /// How many bytes have passed from and to a port.
    pub fn len(&self, port: u16) -> usize {
        self.with(port, |datagrams| datagrams.iter().map(Vec::len).sum())
    }

    /// Whether a text has passed from or to a port.
    pub fn holds(&self, port: u16, text: &str) -> bool {
        let has = |datagram: &Vec<u8>| datagram.windows(text.len()).any(|window| window == text.as_bytes());
        self.with(port, |datagrams| datagrams.iter().any(has))
    }

    /// How many packets have passed from one host to another.
    pub fn packets(&self, from: Ipv4Addr, to: Ipv4Addr) -> usize {
        self.passed().packets.get(&(from, to)).copied().unwrap_or_default()
    }

    /// All hosts that something was sent to.
    pub fn destinations(&self) -> BTreeSet<Ipv4Addr> {
        self.passed().packets.keys().map(|(_, to)| *to).collect()
    }

    /// Whether anything went to this port of anybody.
    pub fn reached_port(&self, port: u16) -> bool {
        self.passed().ports.contains(&port)
    }

    fn with<R>(&self, port: u16, look: impl FnOnce(&[Vec<u8>]) -> R) -> R {
        look(self.passed().datagrams.get(&port).map_or(&[], Vec::as_slice))
    }

    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn note(frame: &[u8], seen: &mut Passed) {
    let Some(packet) = frame.get(ETHERNET_LEN..).filter(|packet| packet.first().is_some_and(|first| first >> 4 == 4))
    else {
        return;
    };
    let host = |at: usize| packet.get(at..at + 4).map(|host| Ipv4Addr::new(host[0], host[1], host[2], host[3]));
    let (Some(from), Some(to)) = (host(12), host(16)) else { return };
    *seen.packets.entry((from, to)).or_default() += 1;
    let header_len = usize::from(packet[0] & 15) * 4;
    if let Some(ports) = packet.get(header_len..header_len + 4).filter(|_| matches!(packet[9], UDP | TCP)) {
        seen.ports.insert(u16::from_be_bytes([ports[2], ports[3]]));
    }
    let Some(datagram) = packet.get(header_len..).filter(|datagram| packet[9] == UDP && datagram.len() >= 8) else {
        return;
    };
    for port in [[datagram[0], datagram[1]], [datagram[2], datagram[3]]] {
        seen.datagrams.entry(u16::from_be_bytes(port)).or_default().push(datagram[8..].to_vec());
    }
}
