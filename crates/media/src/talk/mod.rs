//! One end of a call that is a person's: what a [`Player`] plays is sent, what comes is kept by a [`Recorder`]. G.711 over RTP.
//!
//! Pure: packets go in with the time, packets come out. It sends to where the other side said that it receives, and once that was
//! heard to where it speaks from; nobody else is heard.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::codec::Codec;
use crate::echo::{Start, Transmit};
use crate::g711;
use crate::rtp::Packet;
use crate::sdp::{Agreement, SdpError};
use crate::sound::{FRAME, Player, Recorder};

/// How long a packet's sound lasts.
const PACKET: Duration = Duration::from_millis(20);

/// Whoever was not woken for so long goes on with what is due now: nobody wants to hear it all at once.
const MAX_BEHIND: Duration = Duration::from_millis(200);

/// How long the other side must have been silent before another source of its place is taken for it.
const SOURCE_CHANGE_AFTER: Duration = Duration::from_secs(1);

/// The largest packet looked at: 160 ms of sound.
const MAX_PAYLOAD_LEN: usize = 1280;

/// The end of a call.
#[derive(Debug)]
pub struct Talk {
    agreement: Agreement,
    codec: Codec,
    player: Player,
    recorder: Recorder,
    numbers: Start,
    is_first: bool,
    next_at: Instant,
    /// Where the other side speaks from, as which source, and when it did last.
    heard: Option<(SocketAddr, u32, Instant)>,
    transmits: VecDeque<Transmit>,
}

impl Talk {
    /// Begins to speak and to listen as agreed.
    ///
    /// # Errors
    ///
    /// [`SdpError::NoAudio`] where that is no codec spoken here.
    pub fn new(now: Instant, agreement: Agreement, player: Player, numbers: Start) -> Result<Talk, SdpError> {
        let codec = codec_of(&agreement)?;
        Ok(Talk {
            agreement,
            codec,
            player,
            recorder: Recorder::default(),
            numbers,
            is_first: true,
            next_at: now,
            heard: None,
            transmits: VecDeque::new(),
        })
    }

    /// Takes what a new exchange of descriptions agreed upon.
    ///
    /// # Errors
    ///
    /// As for [`Talk::new`]; all stays as it was.
    pub fn handle_agreement(&mut self, agreement: Agreement) -> Result<(), SdpError> {
        self.codec = codec_of(&agreement)?;
        if (agreement.remote_address, agreement.remote_port)
            != (self.agreement.remote_address, self.agreement.remote_port)
        {
            self.heard = None;
        }
        self.agreement = agreement;
        Ok(())
    }

    /// Takes a datagram.
    pub fn handle_input(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let Ok(packet) = Packet::parse(datagram) else { return };
        let is_sound = packet.payload_type == self.agreement.payload_type && packet.payload.len() <= MAX_PAYLOAD_LEN;
        if !is_sound || !self.is_other_side(now, source, packet.ssrc) {
            return;
        }
        if self.heard.is_none_or(|(_, ssrc, _)| ssrc != packet.ssrc) {
            self.recorder.begin_anew();
        }
        self.heard = Some((source, packet.ssrc, now));
        let from_code = match self.codec {
            Codec::Pcma => g711::from_alaw,
            Codec::Pcmu | Codec::G722 | Codec::Opus | Codec::G729 | Codec::G723 | Codec::Gsm => g711::from_ulaw,
        };
        let samples: Vec<i16> = packet.payload.iter().map(|code| from_code(*code)).collect();
        self.recorder.hear(packet.timestamp, &samples);
    }

    /// Takes the passing of time: what is due is sent.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now.saturating_duration_since(self.next_at) > MAX_BEHIND {
            self.next_at = now;
        }
        while self.next_at <= now {
            self.next_at += PACKET;
            self.speak();
        }
    }

    /// Returns when [`Talk::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Instant {
        self.next_at
    }

    /// Returns the next packet to be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Tells whether everything was played.
    pub fn is_played(&self) -> bool {
        self.player.is_over()
    }

    /// Returns what was heard so far.
    pub fn recorded(&self) -> &[i16] {
        self.recorder.samples()
    }

    fn speak(&mut self) {
        let Start { ssrc, sequence_number, timestamp } = self.numbers;
        self.numbers.timestamp = timestamp.wrapping_add(u32::try_from(FRAME).unwrap_or_default());
        let described = self.agreement.remote_address.map(|ip| SocketAddr::new(ip, self.agreement.remote_port));
        let destination = self.heard.map(|(source, _, _)| source).or(described);
        let Some(destination) = destination.filter(|_| self.agreement.direction.sends()) else { return };
        let to_code = match self.codec {
            Codec::Pcma => g711::to_alaw,
            Codec::Pcmu | Codec::G722 | Codec::Opus | Codec::G729 | Codec::G723 | Codec::Gsm => g711::to_ulaw,
        };
        let payload = self.player.next_frame().map(to_code);
        let packet = Packet {
            marker: std::mem::take(&mut self.is_first),
            payload_type: self.agreement.payload_type,
            sequence_number,
            timestamp,
            ssrc,
            payload: &payload,
        };
        self.transmits.push_back(Transmit { destination, packet: packet.to_bytes() });
        self.numbers.sequence_number = sequence_number.wrapping_add(1);
    }

    /// Before anybody was heard, sound may come from the host described; afterwards from exactly where it came.
    fn is_other_side(&self, now: Instant, source: SocketAddr, ssrc: u32) -> bool {
        match self.heard {
            None => Some(source.ip()) == self.agreement.remote_address.map(|ip| ip.to_canonical()),
            Some((place, known, at)) => {
                place == source && (known == ssrc || now.saturating_duration_since(at) >= SOURCE_CHANGE_AFTER)
            }
        }
    }
}

/// Of what [`crate::sdp::offer`] offers one was taken.
fn codec_of(agreement: &Agreement) -> Result<Codec, SdpError> {
    let codec = Codec::of_static(agreement.payload_type);
    codec.filter(|codec| matches!(codec, Codec::Pcmu | Codec::Pcma)).ok_or(SdpError::NoAudio)
}
