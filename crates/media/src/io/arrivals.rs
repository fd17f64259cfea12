//! Brings what arrives at the ports of carried calls to their calls.
//!
//! A task for each port would cost a packet two system calls more, and a way through the runtime: it reads until nothing is there, and is
//! woken by another thread. So threads of their own wait for all ports, each for its share, and take one datagram of each port that has
//! any in turn: a port where much arrives keeps none waiting.

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::OwnedFd;

use super::session::{MAX_RECEIVE_ERRORS, lock};
use crate::relay::MAX_DATAGRAM_LEN;

/// Threads at most: each moves a hundred thousand packets a second, which is a thousand calls.
const MAX_THREADS: usize = 4;

/// Ports that have something are learned in lots of this many.
const LOT: usize = 64;

/// Datagrams in a tenth of a second from which on a thread lets some more arrive before it looks again: to be woken for each costs more than to
/// take it. A hundred calls are as many.
const BUSY_FROM: usize = 1000;
const BUSY_WINDOW: Duration = Duration::from_millis(100);

/// For how long it does: nothing that is heard, and a hundredth of what a packet of sound lasts.
const PAUSE: Duration = Duration::from_micros(200);

/// What wakes a thread that has to end.
const WAKE: u64 = 0;

/// Who takes what arrives at a port: from where, and the datagram.
type Take = Box<dyn Fn(SocketAddr, &[u8]) + Send + Sync>;

/// The threads. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Arrivals {
    threads: Vec<Arc<Share>>,
    next: AtomicUsize,
}

/// The ports of one thread.
#[derive(Debug)]
struct Share {
    epoll: OwnedFd,
    wake: OwnedFd,
    ports: Mutex<Ports>,
    is_over: AtomicBool,
}

#[derive(Debug, Default)]
struct Ports {
    last: u64,
    open: HashMap<u64, Arc<Listening>>,
}

struct Listening {
    socket: Arc<UdpSocket>,
    take: Take,
    /// Failures in a row.
    errors: AtomicUsize,
}

/// A port that is listened at, until this is dropped.
#[derive(Debug)]
pub(super) struct Arrival {
    share: Arc<Share>,
    number: u64,
}

impl Arrivals {
    /// Starts the threads; must be called within a tokio runtime, by whose clock time is told there, too.
    pub(super) fn start() -> io::Result<Arrivals> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let runtime = tokio::runtime::Handle::current();
        let start = |index: usize| {
            let share = Arc::new(Share {
                epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
                wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
                ports: Mutex::default(),
                is_over: AtomicBool::new(false),
            });
            epoll::add(&share.epoll, &share.wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
            let (of_thread, runtime) = (Arc::clone(&share), runtime.clone());
            std::thread::Builder::new().name(format!("media-{index}")).spawn(move || {
                let _entered = runtime.enter();
                of_thread.run();
            })?;
            Ok(share)
        };
        let threads = (0..count).map(start).collect::<io::Result<Vec<_>>>()?;
        Ok(Arrivals { threads, next: AtomicUsize::new(0) })
    }

    /// Lets `take` have what arrives at a socket, which must not block.
    pub(super) fn listen(
        &self,
        socket: Arc<UdpSocket>,
        take: impl Fn(SocketAddr, &[u8]) + Send + Sync + 'static,
    ) -> io::Result<Arrival> {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.threads.len().max(1);
        let share = self.threads.get(index).map(Arc::clone).ok_or(io::ErrorKind::NotConnected)?;
        let listening = Listening { socket: Arc::clone(&socket), take: Box::new(take), errors: AtomicUsize::new(0) };
        let mut ports = lock(&share.ports);
        ports.last += 1;
        let number = ports.last;
        ports.open.insert(number, Arc::new(listening));
        drop(ports);
        let arrival = Arrival { share: Arc::clone(&share), number };
        epoll::add(&share.epoll, &socket, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
        Ok(arrival)
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        for share in &self.threads {
            share.is_over.store(true, Ordering::Release);
            let _ = rustix::io::write(&share.wake, &1_u64.to_ne_bytes());
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.share.forget(self.number);
    }
}

impl Share {
    fn run(&self) {
        let mut events = Vec::with_capacity(LOT);
        let mut lot = Vec::with_capacity(LOT);
        let mut load = Load { since: Instant::now(), count: 0, is_busy: false };
        // One byte more than may be carried shows that a datagram is too long.
        let mut buffer = [0_u8; MAX_DATAGRAM_LEN + 1];
        while !self.is_over.load(Ordering::Acquire) {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "no media arrives any more");
                    return;
                }
            }
            {
                let ports = lock(&self.ports);
                let known = |number: u64| Some((number, ports.open.get(&number).map(Arc::clone)?));
                lot.extend(events.iter().filter_map(|event: &epoll::Event| known(event.data.u64())));
            }
            let count = lot.len();
            for (number, listening) in lot.drain(..) {
                if !listening.receive(&mut buffer) {
                    self.forget(number);
                }
            }
            // Where a lot is full more wait already.
            let is_busy = load.is_busy_after(count);
            if is_busy && count < LOT {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn forget(&self, number: u64) {
        let listening = lock(&self.ports).open.remove(&number);
        if let Some(listening) = listening {
            let _ = epoll::delete(&self.epoll, &listening.socket);
        }
    }
}

/// How much arrives.
struct Load {
    since: Instant,
    count: usize,
    is_busy: bool,
}

impl Load {
    /// Whether much does, after so many more.
    fn is_busy_after(&mut self, count: usize) -> bool {
        self.count = self.count.saturating_add(count);
        let now = Instant::now();
        if now.saturating_duration_since(self.since) >= BUSY_WINDOW {
            self.is_busy = self.count >= BUSY_FROM;
            (self.since, self.count) = (now, 0);
        }
        self.is_busy
    }
}

impl Listening {
    /// Takes one datagram; false when the port is of no use any more.
    fn receive(&self, buffer: &mut [u8]) -> bool {
        match self.socket.recv_from(buffer) {
            Ok((len, source)) => {
                self.errors.store(0, Ordering::Relaxed);
                let datagram = buffer.get(..len).unwrap_or_default();
                // A mistake of ours must not silence the other calls of this thread.
                catch_unwind(AssertUnwindSafe(|| (self.take)(source, datagram))).is_ok()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Err(error) => {
                tracing::debug!(%error, "receiving media failed");
                self.errors.fetch_add(1, Ordering::Relaxed) < MAX_RECEIVE_ERRORS
            }
        }
    }
}

impl Debug for Listening {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("socket", &self.socket).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;

    fn socket() -> (Arc<UdpSocket>, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        (Arc::new(socket), address)
    }

    #[tokio::test]
    async fn each_port_gets_its_own_datagrams_and_one_that_fails_silences_no_other() {
        let arrivals = Arrivals::start().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (heard, next) = mpsc::channel();
        let mut open = Vec::new();
        for number in 0..4_u8 {
            let (socket, address) = socket();
            let heard = heard.clone();
            let take = move |_: SocketAddr, datagram: &[u8]| {
                heard.send((number, datagram.to_vec())).unwrap();
                assert!(number != 2, "a mistake");
            };
            open.push((arrivals.listen(socket, take).unwrap(), address));
        }
        let sends = |number: u8| sender.send_to(&[number], open[usize::from(number)].1).unwrap();
        for number in [0, 2, 1, 3, 0, 1, 3] {
            sends(number);
            assert_eq!(next.recv().unwrap(), (number, vec![number]));
        }
    }

    #[tokio::test]
    async fn a_port_that_is_given_up_is_heard_no_more_and_can_be_bound_again() {
        let arrivals = Arrivals::start().unwrap();
        let (socket, address) = socket();
        let arrival = arrivals.listen(socket, |_, _| {}).unwrap();
        assert!(UdpSocket::bind(address).is_err());
        drop(arrival);
        // A thread may still hold it for the moment in which it looks.
        while UdpSocket::bind(address).is_err() {
            std::thread::yield_now();
        }
    }
}
