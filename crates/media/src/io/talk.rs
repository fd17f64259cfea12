//! A person's end of a call, running on a pair of ports until it is dropped.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::session::{MAX_RECEIVE_ERRORS, lock, now, numbers, random};
use super::{MediaError, PortPair, PortRange};
use crate::echo::MAX_PACKET_LEN;
use crate::relay::Heard;
use crate::sdp::{Agreement, Local, Session, accept, answer, offer};
use crate::sound::Player;
use crate::talk::Talk;

/// An end of a call. Dropping it frees its ports.
#[derive(Debug)]
pub struct TalkSession {
    local: Local,
    /// Until it is known where to speak to; with what is said before anything is recorded.
    waiting: Option<(PortPair, Player, Option<Player>)>,
    running: Option<(Arc<Mutex<Talk>>, JoinHandle<()>)>,
}

impl TalkSession {
    /// Binds ports at an address of this machine. What is heard is recorded once `announcement` was said, if there is one.
    ///
    /// # Errors
    ///
    /// [`MediaError`].
    pub fn open(
        ports: &PortRange,
        address: IpAddr,
        player: Player,
        announcement: Option<Player>,
    ) -> Result<TalkSession, MediaError> {
        let pair = ports.bind(address)?;
        let local = Local { address, port: pair.port, session_id: random() >> 1, version: 1 };
        Ok(TalkSession { local, waiting: Some((pair, player, announcement)), running: None })
    }

    /// The offer: G.711.
    pub fn offer(&self) -> Vec<u8> {
        offer(&self.local).into_bytes()
    }

    /// Takes the answer to it, from when on it speaks and listens; must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`MediaError`]: there is no sound.
    pub fn accept(&mut self, text: &[u8]) -> Result<(), MediaError> {
        let agreement = accept(&Session::parse(text)?, &self.local)?;
        self.agree(agreement)
    }

    /// Answers an offer of the other side's during the call.
    ///
    /// # Errors
    ///
    /// [`MediaError`], whose status answers it; all goes on as before.
    pub fn answer(&mut self, text: &[u8]) -> Result<Vec<u8>, MediaError> {
        self.local.version += 1;
        let (written, agreement) = answer(&Session::parse(text)?, &self.local)?;
        self.agree(agreement)?;
        Ok(written.into_bytes())
    }

    /// Tells whether everything was played.
    pub fn is_played(&self) -> bool {
        self.running.as_ref().is_some_and(|(talk, _)| lock(talk).is_played())
    }

    /// Returns how the other side sounds, if it does, and for how long it was heard.
    pub fn hears(&self) -> (Option<Heard>, Duration) {
        self.running.as_ref().map_or((None, Duration::ZERO), |(talk, _)| {
            let talk = lock(talk);
            (talk.hears(), talk.heard_for())
        })
    }

    /// Returns what was recorded so far, in samples of telephony.
    pub fn recorded(&self) -> Vec<i16> {
        self.running.as_ref().map(|(talk, _)| lock(talk).recorded().to_vec()).unwrap_or_default()
    }

    fn agree(&mut self, agreement: Agreement) -> Result<(), MediaError> {
        if let Some((talk, _)) = &self.running {
            return Ok(lock(talk).handle_agreement(agreement)?);
        }
        let Some((PortPair { rtp, rtcp, .. }, player, announcement)) = self.waiting.take() else { return Ok(()) };
        let socket = |std| UdpSocket::from_std(std).map_err(|error| MediaError::NoPort(Some(error)));
        let (rtp, rtcp) = (socket(rtp)?, socket(rtcp)?);
        let mut talk = Talk::new(now(), agreement, player, numbers())?;
        if let Some(announcement) = announcement {
            talk.record(announcement);
        }
        let talk = Arc::new(Mutex::new(talk));
        self.running = Some((Arc::clone(&talk), tokio::spawn(drive(rtp, rtcp, talk))));
        Ok(())
    }
}

impl Drop for TalkSession {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.running {
            task.abort();
        }
    }
}

/// Feeds the machine until it is dropped.
async fn drive(socket: UdpSocket, rtcp: UdpSocket, talk: Arc<Mutex<Talk>>) {
    let (mut buffer, mut report) = ([0_u8; MAX_PACKET_LEN], [0_u8; MAX_PACKET_LEN]);
    let mut errors = 0;
    while errors < MAX_RECEIVE_ERRORS {
        let deadline = lock(&talk).poll_timeout();
        tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((len, source)) => {
                    errors = 0;
                    lock(&talk).handle_input(now(), source, buffer.get(..len).unwrap_or_default());
                }
                // Single ones come from ICMP and mean nothing.
                Err(_) => errors += 1,
            },
            received = rtcp.recv_from(&mut report) => match received {
                Ok((len, source)) => {
                    lock(&talk).handle_report(now(), source, report.get(..len).unwrap_or_default());
                }
                Err(_) => errors += 1,
            },
            () = tokio::time::sleep_until(deadline.into()) => lock(&talk).handle_timeout(now()),
        }
        loop {
            let Some(transmit) = lock(&talk).poll_transmit() else { break };
            // A full buffer loses the packet, as the network might.
            if let Err(error) = socket.try_send_to(&transmit.packet, transmit.destination) {
                tracing::trace!(%error, "sending RTP failed");
            }
        }
        let transmit = lock(&talk).poll_report();
        if let Some(Err(error)) = transmit.map(|report| rtcp.try_send_to(&report.packet, report.destination)) {
            tracing::trace!(%error, "sending RTCP failed");
        }
    }
}
