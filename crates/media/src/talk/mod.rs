//! One end of a call that is a person's: what a [`Player`] plays is sent, what comes may be kept by a [`Recorder`]. G.711 over RTP, with RTCP.
//!
//! **Invariant:** nothing is kept before the other side was told that it will be, and is reminded of from then on ([`Talk::record`]).
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
use crate::relay::{Format, Heard, Meter, Quality};
use crate::rtcp::{self, Report, SenderInfo};
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

/// Who is recorded is reminded of it so often, in packets: each 15 s, as the FCC has it.
const REMINDED_AFTER: u32 = 750;

/// So often it is reported how the other side arrives (RFC 3550 §6.2: five seconds).
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// The end of a call.
#[derive(Debug)]
pub struct Talk {
    agreement: Agreement,
    codec: Codec,
    player: Player,
    recording: Option<Recording>,
    /// Samples that were heard, kept or not.
    heard_samples: u64,
    meter: Meter,
    began: Instant,
    report_at: Instant,
    /// Packets that were sent.
    sent: u32,
    numbers: Start,
    is_first: bool,
    next_at: Instant,
    /// Where the other side speaks from, as which source, and when it did last.
    heard: Option<(SocketAddr, u32, Instant)>,
    transmits: VecDeque<Transmit>,
    reports: VecDeque<Transmit>,
}

/// What is kept, and how that is said.
#[derive(Debug)]
struct Recording {
    announcement: Player,
    reminder: Player,
    /// Packets until the next one.
    reminded_in: u32,
    recorder: Recorder,
}

impl Recording {
    /// What has to be said about it now, instead of anything else.
    fn next_frame(&mut self) -> Option<[i16; FRAME]> {
        if !self.announcement.is_over() {
            return Some(self.announcement.next_frame());
        }
        self.reminded_in = self.reminded_in.saturating_sub(1);
        if self.reminded_in > 0 {
            return None;
        }
        let frame = self.reminder.next_frame();
        if self.reminder.is_over() {
            self.reminder.rewind();
            self.reminded_in = REMINDED_AFTER;
        }
        Some(frame)
    }
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
            recording: None,
            heard_samples: 0,
            meter: Meter::default(),
            began: now,
            report_at: now + REPORT_EVERY,
            sent: 0,
            numbers,
            is_first: true,
            next_at: now,
            heard: None,
            transmits: VecDeque::new(),
            reports: VecDeque::new(),
        })
    }

    /// Keeps what is heard once this was said to the other side, and reminds it by a beep now and then.
    pub fn record(&mut self, announcement: Player) {
        let recorder = Recorder::default();
        self.recording =
            Some(Recording { announcement, reminder: Player::beep(), reminded_in: REMINDED_AFTER, recorder });
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
        let is_new = self.heard.is_none_or(|(_, ssrc, _)| ssrc != packet.ssrc);
        let format = Format::new(packet.payload_type, self.agreement.clock_rate);
        self.meter.on_rtp(now, packet.ssrc, packet.sequence_number, packet.timestamp, format);
        self.heard_samples = self.heard_samples.saturating_add(u64::try_from(packet.payload.len()).unwrap_or_default());
        self.heard = Some((source, packet.ssrc, now));
        let from_code = match self.codec {
            Codec::Pcma => g711::from_alaw,
            Codec::Pcmu | Codec::G722 | Codec::Opus | Codec::G729 | Codec::G723 | Codec::Gsm => g711::from_ulaw,
        };
        let Some(recording) = &mut self.recording else { return };
        if is_new {
            recording.recorder.begin_anew();
        }
        if recording.announcement.is_over() {
            let samples: Vec<i16> = packet.payload.iter().map(|code| from_code(*code)).collect();
            recording.recorder.hear(packet.timestamp, &samples);
        }
    }

    /// Takes a datagram that came to the port for RTCP: whoever is there is believed if he is at the host that is talked to.
    pub fn handle_report(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let heard = self.heard.map(|(place, _, _)| place.ip()).or(self.agreement.remote_address);
        if heard.map(|heard| heard.to_canonical()) != Some(source.ip().to_canonical()) {
            return;
        }
        for report in rtcp::reports(datagram).iter().flatten() {
            match report {
                Report::Receiver(block) if block.ssrc == self.numbers.ssrc => self.meter.on_report(now, block),
                Report::Voip(metrics) if metrics.ssrc == self.numbers.ssrc => self.meter.on_metrics(*metrics),
                Report::Sender { sent } => self.meter.on_said(now, *sent),
                Report::Receiver(_) | Report::Voip(_) => {}
            }
        }
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
        if now >= self.report_at {
            self.report_at = now + REPORT_EVERY;
            self.report(now);
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

    /// Returns the next packet to be sent from the port for RTCP.
    pub fn poll_report(&mut self) -> Option<Transmit> {
        self.reports.pop_front()
    }

    /// Returns how the other side sounds here; `None` as long as it is silent.
    pub fn hears(&self) -> Option<Heard> {
        // What the other side reports is of what it hears.
        let here = Quality { round_trip: self.meter.quality.round_trip, ..Quality::default() };
        Heard::of(&Quality { round_trip: None, ..self.meter.quality }, &here)
    }

    /// Returns for how long sound was heard.
    pub fn heard_for(&self) -> Duration {
        Duration::from_millis(self.heard_samples / 8)
    }

    /// Tells whether everything was played.
    pub fn is_played(&self) -> bool {
        self.player.is_over()
    }

    /// Returns what was kept so far: nothing unless that was announced.
    pub fn recorded(&self) -> &[i16] {
        self.recording.as_ref().map(|recording| recording.recorder.samples()).unwrap_or_default()
    }

    /// Tells the other side how it arrives, and what it was sent.
    fn report(&mut self, now: Instant) {
        let Some(address) = self.agreement.remote_address else { return };
        let Some(port) = self.agreement.remote_port.checked_add(1) else { return };
        // In units of 2⁻³² s, and never zero, which would say that there was no report (RFC 3550 §6.4.1).
        let elapsed = now.saturating_duration_since(self.began);
        let ntp = ((elapsed.as_secs() + 1) << 32) | ((u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000);
        let octets = self.sent.wrapping_mul(u32::try_from(FRAME).unwrap_or_default());
        let Start { ssrc, timestamp, .. } = self.numbers;
        let sender = SenderInfo { ssrc, ntp, timestamp, packets: self.sent, octets };
        let heard = self.meter.report(now, 0, [0; 2]);
        let packet = rtcp::compound(&sender, heard.as_ref().map(|(reception, report)| (reception, report)));
        let middle = u32::try_from((ntp >> 16) & u64::from(u32::MAX)).unwrap_or_default();
        self.meter.on_passed(now, &Report::Sender { sent: middle });
        self.reports.push_back(Transmit { destination: SocketAddr::new(address, port), packet });
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
        let announced = self.recording.as_mut().and_then(Recording::next_frame);
        let payload = announced.unwrap_or_else(|| self.player.next_frame()).map(to_code);
        self.sent = self.sent.wrapping_add(1);
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
