//! Ports on 127.0.0.1 that no other test uses at the same time, in this process or in another.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;

/// Ports in one block. A phone takes two for SIP (baresip listens for TLS on the next one), one for its remote control
/// and the rest for RTP; a node takes one each for SIP, links, TLS, WS and WSS, and the rest for RTP.
pub const BLOCK_SIZE: u16 = 20;

/// The blocks lie below the range from which Linux picks ports for outgoing connections (32768 and up), so that nothing
/// else is handed one of ours between two starts of a node.
const FIRST_PORT: u16 = 10_000;
const BLOCKS: u16 = 1_100;

/// A block of free ports, ours until it is dropped.
#[derive(Debug)]
pub struct PortBlock {
    base: u16,
    /// An abstract socket whose name says which block is taken: unlike a lock file it disappears with its process.
    _reservation: UnixListener,
}

impl PortBlock {
    /// Reserves the next free block.
    pub fn reserve() -> PortBlock {
        let start = (std::process::id() % u32::from(BLOCKS)) as u16;
        (0..BLOCKS)
            .map(|n| FIRST_PORT + ((start + n * 7) % BLOCKS) * BLOCK_SIZE)
            .find_map(Self::try_reserve)
            .expect("a free block of ports on 127.0.0.1")
    }

    fn try_reserve(base: u16) -> Option<PortBlock> {
        let name = std::os::unix::net::SocketAddr::from_abstract_name(format!("meshtone-tests/{base}")).ok()?;
        let reservation = UnixListener::bind_addr(&name).ok()?;
        (base..base + BLOCK_SIZE).all(is_free).then_some(PortBlock { base, _reservation: reservation })
    }

    /// The port at `offset` in the block.
    pub fn port(&self, offset: u16) -> u16 {
        assert!(offset < BLOCK_SIZE, "a block has {BLOCK_SIZE} ports");
        self.base + offset
    }

    /// The loopback address with the port at `offset`.
    pub fn address(&self, offset: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port(offset)))
    }
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::PortBlock;

    #[test]
    fn two_blocks_never_overlap() {
        let (one, other) = (PortBlock::reserve(), PortBlock::reserve());
        assert_ne!(one.port(0), other.port(0));
    }
}
