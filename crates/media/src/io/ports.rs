//! Pairs of UDP ports for RTP and RTCP: an even one and the next (RFC 3550 §11).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::MediaError;
use super::arrivals::Arrivals;

/// A range of ports, and how many pairs of it may be in use at once. Cloning shares it.
#[derive(Debug, Clone)]
pub struct PortRange {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    first: u16,
    pairs: usize,
    /// Where the next search begins. Ports are taken in turn, so that late packets of a call that ended meet no new one.
    next: AtomicUsize,
    permits: Arc<Semaphore>,
    most: usize,
    /// Started with the first call that is carried over these ports.
    arrivals: OnceLock<Arrivals>,
}

impl PortRange {
    /// Takes a range, both ends included, and the most sessions to run at once.
    ///
    /// # Errors
    ///
    /// [`MediaError::EmptyRange`].
    pub fn new(ports: RangeInclusive<u16>, max_sessions: usize) -> Result<PortRange, MediaError> {
        // Port 0 would let the system choose, and not an even one.
        let first = (*ports.start()).max(2).checked_next_multiple_of(2).ok_or(MediaError::EmptyRange)?;
        let count = usize::from(*ports.end()).saturating_add(1).saturating_sub(usize::from(first));
        let pairs = count / 2;
        if pairs == 0 {
            return Err(MediaError::EmptyRange);
        }
        let (most, next) = (max_sessions.min(pairs), AtomicUsize::new(0));
        let permits = Arc::new(Semaphore::new(most));
        Ok(PortRange { shared: Arc::new(Shared { first, pairs, next, permits, most, arrivals: OnceLock::new() }) })
    }

    /// Returns how many pairs are in use, and how many may be.
    pub fn in_use(&self) -> (usize, usize) {
        let most = self.shared.most;
        (most.saturating_sub(self.shared.permits.available_permits()), most)
    }

    /// What brings the datagrams that arrive at these ports; must be called within a tokio runtime.
    pub(super) fn arrivals(&self) -> std::io::Result<&Arrivals> {
        if let Some(arrivals) = self.shared.arrivals.get() {
            return Ok(arrivals);
        }
        // Where two calls begin at once, the threads of one end again.
        let started = Arrivals::start()?;
        Ok(self.shared.arrivals.get_or_init(|| started))
    }

    /// Binds the next free pair; it is given back when the pair is dropped.
    ///
    /// # Errors
    ///
    /// [`MediaError::TooManySessions`] or [`MediaError::NoPort`].
    pub fn bind(&self, address: IpAddr) -> Result<PortPair, MediaError> {
        let shared = &self.shared;
        let permit = Arc::clone(&shared.permits).try_acquire_owned().map_err(|_| MediaError::TooManySessions)?;
        let mut last_error = None;
        for _ in 0..shared.pairs {
            let index = shared.next.fetch_add(1, Ordering::Relaxed) % shared.pairs;
            let Some(port) = u16::try_from(index * 2).ok().and_then(|offset| shared.first.checked_add(offset)) else {
                continue;
            };
            match bind_pair(address, port) {
                Ok((rtp, rtcp)) => return Ok(PortPair { port, rtp, rtcp, permit }),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => last_error = Some(error),
                // An address that is not ours will not be so on the next port either.
                Err(error) => return Err(MediaError::NoPort(Some(error))),
            }
        }
        Err(MediaError::NoPort(last_error))
    }
}

/// A bound pair of ports.
#[derive(Debug)]
pub struct PortPair {
    /// The even port.
    pub port: u16,
    /// The socket of that port, not blocking.
    pub rtp: UdpSocket,
    /// The socket of the next port, not blocking.
    pub rtcp: UdpSocket,
    /// Counts this pair among the sessions as long as it is held.
    pub permit: OwnedSemaphorePermit,
}

fn bind_pair(address: IpAddr, port: u16) -> std::io::Result<(UdpSocket, UdpSocket)> {
    let rtp = UdpSocket::bind(SocketAddr::new(address, port))?;
    let rtcp = UdpSocket::bind(SocketAddr::new(address, port | 1))?;
    rtp.set_nonblocking(true)?;
    rtcp.set_nonblocking(true)?;
    Ok((rtp, rtcp))
}
