//! SIP over UDP (RFC 3261 §18): one socket a listener, one datagram a message.
//!
//! Threads of their own wait in the kernel for datagrams, and run the worker that a message belongs to themselves: between the
//! network and the engine nobody else has to wake up. What the kernel holds is taken over as soon as it is there, so that a
//! burst finds room, and so that it is known how far behind this node is.
//!
//! As long as one thread keeps up, it is alone: threads that take turns find each other's caches cold, and each message wakes one.
//! Whoever finds more waiting than one go takes from the kernel wakes the next one, which works until nothing waits any more. Where
//! there is one processor a second thread would only take turns with the first: there it stands in for one that is held up, and no more.
//!
//! The kernel's way of a packet and the engine's way of a message each fill the processor's nearest caches. So a thread takes over
//! what there is, then reads and handles several messages, then sends what came of them: each way once in a go, not for each message.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_sip::message::Message;
use meshtone_sip::server::opens_something;
use meshtone_sip::transport::Flow;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};

use super::dispatch::ARRIVED_MAX;
use super::outbox::Outbox;
use super::{Transports, reached_from_here, stun};
use crate::clock::unix_ms;
use crate::exchange::overload::Load;

/// The largest datagram there is.
const MAX_DATAGRAM: usize = 65_535;

/// Bytes that may have arrived and wait for their turn: [`ARRIVED_MAX`] messages of usual phones, or 256 of the largest.
const ARRIVED_BYTES_MAX: usize = 16 << 20;

/// Room that is left for what is established: nothing gets it that would open something new.
const ESTABLISHED_RESERVE: usize = ARRIVED_MAX / 4;

/// Datagrams taken over from the kernel in one go, and handled in one go: more are taken than handled, so that what the kernel
/// cannot hold is held here.
const TAKEN: usize = 64;
const HANDLED: usize = 16;

/// A thread with no more than this waiting keeps up: it is half a millisecond of work, which takes longer where two threads take turns
/// than where one is alone.
const ALONE: usize = 64;

/// How often the second thread looks whether the first one is held up: soon enough that no phone asks again,
/// which it does after half a second, and too seldom to matter.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Binds with large kernel buffers, so that a burst of registrations is not lost while a worker is busy.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Best effort: the kernel caps it at its own limit.
    let _ = socket.set_recv_buffer_size(4 << 20);
    let _ = socket.set_send_buffer_size(4 << 20);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Sends without waiting: a full queue of the kernel loses a datagram like any network.
pub(super) fn send(socket: &UdpSocket, remote: SocketAddr, bytes: &[u8]) -> Result<(), Errno> {
    match sendto(socket, bytes, SendFlags::DONTWAIT, &remote) {
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Starts the threads that receive until the dispatch is closed.
pub(super) fn receive(listener: u16, socket: &Arc<UdpSocket>, transports: &Arc<Transports>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Handle::current();
    let beat = Arc::new(AtomicU32::new(0));
    let can_help = std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1);
    let mut next: Option<Helper> = None;
    for index in (0..transports.receivers).rev() {
        let receiver = Receiver {
            listener,
            socket: socket.clone(),
            transports: transports.clone(),
            turn: Turn::of(index),
            beat: beat.clone(),
            seen: 0,
            is_wanted: Arc::default(),
            finds_much: false,
            can_help,
            next: next.take(),
            arrived: VecDeque::new(),
            arrived_bytes: 0,
            outbox: Outbox::default(),
            keep_alives: stun::Budget::default(),
        };
        let runtime = runtime.clone();
        let is_wanted = receiver.is_wanted.clone();
        let thread = std::thread::Builder::new().name(format!("udp-{listener}-{index}")).spawn(move || {
            // Workers start look-ups.
            let _entered = runtime.enter();
            receiver.run();
        })?;
        next = Some(Helper { thread: thread.thread().clone(), is_wanted });
    }
    Ok(())
}

/// When a thread works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Whenever something arrives.
    Always,
    /// When it is wanted, and when the first thread does nothing.
    Watching,
    /// When it is wanted.
    Wanted,
}

impl Turn {
    fn of(index: usize) -> Turn {
        match index {
            0 => Turn::Always,
            1 => Turn::Watching,
            _ => Turn::Wanted,
        }
    }
}

/// Wakes the thread that waits for datagrams, so that it sees that the dispatch is closed, and tells the others.
pub(super) fn wake(socket: &UdpSocket, address: SocketAddr) {
    let _ = send(socket, reached_from_here(address), b"\0");
}

/// One thread, with what it has taken over from the kernel.
struct Receiver {
    listener: u16,
    socket: Arc<UdpSocket>,
    transports: Arc<Transports>,
    turn: Turn,
    /// How often the first thread has gone round.
    beat: Arc<AtomicU32>,
    /// The beat at the last look.
    seen: u32,
    is_wanted: Arc<AtomicBool>,
    /// Whether the last go found more than one thread alone would leave.
    finds_much: bool,
    /// Whether another thread has a processor to work on.
    can_help: bool,
    /// Who helps when there is more than this one keeps up with.
    next: Option<Helper>,
    arrived: VecDeque<Arrived>,
    arrived_bytes: usize,
    /// What came of the messages of this go.
    outbox: Outbox,
    keep_alives: stun::Budget,
}

/// A thread that can be woken.
struct Helper {
    thread: Thread,
    is_wanted: Arc<AtomicBool>,
}

/// A datagram that waits for its turn.
struct Arrived {
    remote: SocketAddr,
    datagram: Bytes,
    at: Instant,
}

impl Receiver {
    fn run(mut self) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        while !self.transports.dispatch.is_closed() {
            if self.turn == Turn::Always {
                self.beat.fetch_add(1, Ordering::Relaxed);
            }
            if self.arrived.is_empty() && !self.wait(&mut buffer) {
                continue;
            }
            let mut taken = 0;
            while taken < TAKEN {
                let is_full = self.arrived.len() >= ARRIVED_MAX || self.arrived_bytes >= ARRIVED_BYTES_MAX;
                if is_full || !self.take(&mut buffer, RecvFlags::DONTWAIT) {
                    break;
                }
                taken += 1;
            }
            self.finds_much = self.can_help && taken > HANDLED;
            if self.can_help && self.arrived.len() > ALONE {
                self.wake_next();
            }
            for _ in 0..HANDLED {
                let Some(arrived) = self.arrived.pop_front() else { break };
                self.handle(arrived);
            }
            self.transports.send_all(&mut self.outbox);
        }
        self.wake_next();
    }

    /// Waits until there may be something to take, or took it; false where that is not this thread's business.
    fn wait(&mut self, buffer: &mut [u8]) -> bool {
        match self.turn {
            Turn::Always => self.take(buffer, RecvFlags::empty()),
            // Who helps goes on as long as that is needed: one who leaves is soon called again.
            Turn::Watching | Turn::Wanted if self.finds_much => true,
            Turn::Watching => {
                std::thread::park_timeout(LOOK_EVERY);
                let beat = self.beat.load(Ordering::Relaxed);
                let is_held_up = std::mem::replace(&mut self.seen, beat) == beat;
                self.is_wanted.swap(false, Ordering::Relaxed) || is_held_up
            }
            Turn::Wanted => {
                std::thread::park();
                self.is_wanted.swap(false, Ordering::Relaxed)
            }
        }
    }

    fn wake_next(&self) {
        if let Some(next) = &self.next {
            next.is_wanted.store(true, Ordering::Relaxed);
            next.thread.unpark();
        }
    }

    /// Takes one datagram over; false when there was none.
    fn take(&mut self, buffer: &mut [u8], flags: RecvFlags) -> bool {
        match recvfrom(&self.socket, &mut *buffer, flags) {
            Ok((_, len, Some(remote))) => {
                if let Ok(remote) = SocketAddr::try_from(remote) {
                    self.on_datagram(remote, buffer.get(..len).unwrap_or_default());
                }
                true
            }
            Ok((_, _, None)) => true,
            Err(Errno::AGAIN) => false,
            // A port-unreachable answer to something sent earlier: it says nothing of this socket.
            Err(error) => {
                tracing::debug!(%error, "UDP receive");
                std::thread::yield_now();
                false
            }
        }
    }

    fn on_datagram(&mut self, remote: SocketAddr, datagram: &[u8]) {
        if stun::is_stun(datagram) {
            if let Some(answer) = stun::answer(datagram, remote)
                && self.keep_alives.allows(unix_ms(), remote.ip())
            {
                // The phone asks again if it is lost.
                let _ = send(&self.socket, remote, &answer);
            }
            return;
        }
        // RFC 5626 §4.4.1 keep-alives and bare line ends that phones send to keep a NAT binding open.
        if datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return;
        }
        let datagram = Bytes::copy_from_slice(datagram);
        let is_crowded = self.arrived.len() >= ARRIVED_MAX - ESTABLISHED_RESERVE;
        if is_crowded && !Message::parse(datagram.clone()).is_ok_and(|message| !opens_something(&message)) {
            tracing::debug!("too far behind, datagram dropped");
            return;
        }
        self.arrived_bytes += datagram.len();
        self.arrived.push_back(Arrived { remote, datagram, at: Instant::now() });
    }

    fn handle(&mut self, arrived: Arrived) {
        let Arrived { remote, datagram, at } = arrived;
        self.arrived_bytes = self.arrived_bytes.saturating_sub(datagram.len());
        let flow = Flow::Udp { listener: self.listener, remote };
        let dispatch = &self.transports.dispatch;
        match Message::parse_or_partial(datagram) {
            Ok(message) => {
                let load = Load { waiting: self.arrived.len(), age: at.elapsed() };
                dispatch.datagram(flow, message, load, &mut self.outbox);
            }
            Err((error, partial)) => {
                tracing::debug!(%remote, %error, "bad datagram");
                dispatch.bad(flow, &error, partial, &mut self.outbox);
            }
        }
    }
}
