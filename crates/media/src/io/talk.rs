//! A person's end of a call, running on a pair of ports until it is dropped.

use std::net::{IpAddr, UdpSocket as StdUdpSocket};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::session::{MAX_RECEIVE_ERRORS, lock, now, numbers, random};
use super::{MediaError, PortPair, PortRange};
use crate::echo::MAX_PACKET_LEN;
use crate::sdp::{Agreement, Local, Session, accept, answer, offer};
use crate::sound::Player;
use crate::talk::Talk;

/// An end of a call. Dropping it frees its ports.
#[derive(Debug)]
pub struct TalkSession {
    local: Local,
    /// Until it is known where to speak to.
    waiting: Option<(PortPair, Player)>,
    running: Option<(Arc<Mutex<Talk>>, JoinHandle<()>)>,
}

impl TalkSession {
    /// Binds ports at an address of this machine.
    ///
    /// # Errors
    ///
    /// [`MediaError`].
    pub fn open(ports: &PortRange, address: IpAddr, player: Player) -> Result<TalkSession, MediaError> {
        let pair = ports.bind(address)?;
        let local = Local { address, port: pair.port, session_id: random() >> 1, version: 1 };
        Ok(TalkSession { local, waiting: Some((pair, player)), running: None })
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

    /// Returns what was heard so far, in samples of telephony.
    pub fn recorded(&self) -> Vec<i16> {
        self.running.as_ref().map(|(talk, _)| lock(talk).recorded().to_vec()).unwrap_or_default()
    }

    fn agree(&mut self, agreement: Agreement) -> Result<(), MediaError> {
        if let Some((talk, _)) = &self.running {
            return Ok(lock(talk).handle_agreement(agreement)?);
        }
        let Some((PortPair { rtp, rtcp, .. }, player)) = self.waiting.take() else { return Ok(()) };
        let socket = UdpSocket::from_std(rtp).map_err(|error| MediaError::NoPort(Some(error)))?;
        let talk = Arc::new(Mutex::new(Talk::new(now(), agreement, player, numbers())?));
        self.running = Some((Arc::clone(&talk), tokio::spawn(drive(socket, rtcp, talk))));
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

/// Feeds the machine until it is dropped. RTCP is not spoken: its port is only kept, so that nobody else gets it.
async fn drive(socket: UdpSocket, _rtcp: StdUdpSocket, talk: Arc<Mutex<Talk>>) {
    let mut buffer = [0_u8; MAX_PACKET_LEN];
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
            () = tokio::time::sleep_until(deadline.into()) => lock(&talk).handle_timeout(now()),
        }
        loop {
            let Some(transmit) = lock(&talk).poll_transmit() else { break };
            // A full buffer loses the packet, as the network might.
            if let Err(error) = socket.try_send_to(&transmit.packet, transmit.destination) {
                tracing::trace!(%error, "sending RTP failed");
            }
        }
    }
}
