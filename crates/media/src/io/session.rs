//! The echo of one call, running on a pair of ports until it is dropped.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::{MediaError, PortPair, PortRange};
use crate::echo::{Echo, Event, MAX_PACKET_LEN, Start};
use crate::sdp::{Agreement, Local, Session, accept, answer, offer};

/// Failed receptions in a row after which a socket is given up. Single ones come from ICMP and mean nothing.
pub(super) const MAX_RECEIVE_ERRORS: usize = 64;

/// An echo that runs. Dropping it frees its ports.
#[derive(Debug)]
pub struct EchoSession {
    /// The description to be sent with the 200: the answer, or an offer where the INVITE brought none.
    pub answer: Vec<u8>,
    local: Local,
    signalling_source: IpAddr,
    running: Option<Running>,
    ended: watch::Sender<bool>,
    /// Held until the peer's answer to our offer says where to listen; then the task has it.
    waiting: Option<PortPair>,
}

#[derive(Debug)]
struct Running {
    echo: Arc<Mutex<Echo>>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl EchoSession {
    /// Binds ports and starts; must be called within a tokio runtime.
    ///
    /// `advertise_ip` goes into the description: where peers reach `bind_ip`. Audio is accepted from the address in the offer or
    /// from `signalling_source`, the address that the INVITE came from. Without an offer the session waits for
    /// [`EchoSession::accept_answer`].
    ///
    /// # Errors
    ///
    /// [`MediaError`], whose status answers the INVITE.
    pub fn start(
        ports: &PortRange,
        bind_ip: IpAddr,
        advertise_ip: IpAddr,
        offer: Option<&[u8]>,
        signalling_source: IpAddr,
    ) -> Result<EchoSession, MediaError> {
        let offer = offer.map(Session::parse).transpose()?;
        let pair = ports.bind(bind_ip)?;
        // Positive in 64 bits with a sign, as some peers read it.
        let session_id = random() >> 1;
        let local = Local { address: advertise_ip.to_canonical(), port: pair.port, session_id, version: 1 };
        let mut session = EchoSession {
            answer: Vec::new(),
            local,
            signalling_source,
            running: None,
            ended: watch::Sender::new(false),
            waiting: None,
        };
        match offer {
            Some(offer) => {
                let (text, agreement) = answer(&offer, &local)?;
                session.answer = text.into_bytes();
                session.run(pair, agreement)?;
            }
            None => {
                session.answer = self::offer(&local).into_bytes();
                session.waiting = Some(pair);
            }
        }
        Ok(session)
    }

    /// Takes the peer's answer to our offer, which comes with the ACK (RFC 3264, RFC 3261 §13.2.1).
    ///
    /// # Errors
    ///
    /// [`MediaError::Sdp`]: the call cannot go on.
    pub fn accept_answer(&mut self, answer: &[u8]) -> Result<(), MediaError> {
        let agreement = accept(&Session::parse(answer)?, &self.local)?;
        self.agree(agreement)
    }

    /// Answers the offer of a re-INVITE; the same offer gets the same answer, another one a new version (RFC 3264 §8).
    ///
    /// # Errors
    ///
    /// [`MediaError::Sdp`]: the session goes on as it was.
    pub fn update(&mut self, offer: &[u8]) -> Result<Vec<u8>, MediaError> {
        let offer = Session::parse(offer)?;
        let (mut text, agreement) = answer(&offer, &self.local)?;
        if text.as_bytes() != self.answer {
            self.local.version += 1;
            text = answer(&offer, &self.local)?.0;
        }
        self.agree(agreement)?;
        self.answer = text.into_bytes();
        Ok(self.answer.clone())
    }

    /// Expects the caller at another address, where his signalling has proved to come from now: it holds from his next
    /// description on.
    pub fn move_to(&mut self, signalling_source: IpAddr) {
        self.signalling_source = signalling_source;
    }

    /// Tells whether the session ended by itself: nothing was heard for too long. The call should be hung up.
    pub fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Returns what becomes true when the session ends by itself, to be awaited elsewhere.
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    fn agree(&mut self, agreement: Agreement) -> Result<(), MediaError> {
        if let Some(pair) = self.waiting.take() {
            return self.run(pair, agreement);
        }
        if let Some(running) = &self.running {
            lock(&running.echo).handle_agreement(now(), agreement, self.signalling_source);
            running.changed.notify_one();
        }
        Ok(())
    }

    fn run(&mut self, pair: PortPair, agreement: Agreement) -> Result<(), MediaError> {
        let PortPair { rtp, rtcp, permit, .. } = pair;
        let socket = |std| UdpSocket::from_std(std).map_err(|error| MediaError::NoPort(Some(error)));
        let (rtp, rtcp) = (socket(rtp)?, socket(rtcp)?);
        let echo = Arc::new(Mutex::new(Echo::new(now(), agreement, self.signalling_source, numbers())));
        let changed = Arc::new(Notify::new());
        let (task_echo, task_changed, ended) = (Arc::clone(&echo), Arc::clone(&changed), self.ended.clone());
        let task = tokio::spawn(async move {
            drive(&rtp, &rtcp, &task_echo, &task_changed).await;
            drop(permit);
            ended.send_replace(true);
        });
        self.running = Some(Running { echo, changed, task });
        Ok(())
    }
}

/// Feeds the machine until it ends.
async fn drive(socket: &UdpSocket, rtcp: &UdpSocket, echo: &Mutex<Echo>, changed: &Notify) {
    // One byte more than may be echoed shows that a packet is too long.
    let (mut buffer, mut report) = ([0_u8; MAX_PACKET_LEN + 1], [0_u8; MAX_PACKET_LEN]);
    let mut errors = 0;
    loop {
        let Some((deadline, _)) = lock(echo).poll_timeout() else { return };
        tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((len, source)) => {
                    errors = 0;
                    lock(echo).handle_input(now(), source, buffer.get(..len).unwrap_or_default());
                }
                Err(error) => {
                    errors += 1;
                    tracing::debug!(%error, "receiving RTP failed");
                    if errors >= MAX_RECEIVE_ERRORS {
                        return;
                    }
                }
            },
            received = rtcp.recv_from(&mut report) => match received {
                Ok((len, source)) => {
                    errors = 0;
                    lock(echo).handle_report(now(), source, report.get(..len).unwrap_or_default());
                }
                Err(error) => {
                    errors += 1;
                    tracing::debug!(%error, "receiving RTCP failed");
                    if errors >= MAX_RECEIVE_ERRORS {
                        return;
                    }
                }
            },
            () = tokio::time::sleep_until(deadline.into()) => lock(echo).handle_timeout(now()),
            () = changed.notified() => {}
        }
        loop {
            let Some(transmit) = lock(echo).poll_transmit() else { break };
            // A full buffer loses the packet, as the network might.
            if let Err(error) = socket.try_send_to(&transmit.packet, transmit.destination) {
                tracing::trace!(%error, "sending RTP failed");
            }
        }
        let reply = lock(echo).poll_report();
        if let Some(Err(error)) = reply.map(|reply| rtcp.try_send_to(&reply.packet, reply.destination)) {
            tracing::trace!(%error, "sending RTCP failed");
        }
        let event = lock(echo).poll_event();
        if let Some(Event::Idle) = event {
            return;
        }
    }
}

/// The machine stays consistent between calls, so a panic elsewhere while it was locked is no reason to stop.
pub(super) fn lock<T>(machine: &Mutex<T>) -> MutexGuard<'_, T> {
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The runtime's clock, which tests may stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What a stream of our own begins with (RFC 3550 §5.1).
pub(super) fn numbers() -> Start {
    let [s0, s1, s2, s3, q0, q1, ..] = random().to_be_bytes();
    let [t0, t1, t2, t3, ..] = random().to_be_bytes();
    Start {
        ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
        sequence_number: u16::from_be_bytes([q0, q1]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
    }
}

/// Numbers that a stranger cannot guess: the standard library seeds its hashers from the system. Not for keys.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
