//! From one codec to another, where two ends have none in common: one direction of a stream.
//!
//! Pure. What comes waits in a jitter buffer ([`jitter`]) and is played when it is its time, a piece each 20 ms; so what is late, out of order
//! or missing is seen to here, and what leaves is as even as a phone's own. It is a stream of the node's own, with its source and numbers.
//! Digits (RFC 4733) pass at once, where they stand between the sounds.

mod coder;
mod conceal;
mod jitter;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::codec::Codec;
use crate::digit::{Digit, Sounding};
use crate::echo::Start;
use crate::resample::Resampler;
use crate::rtcp::SenderInfo;
use crate::rtp::Packet;
use coder::{Decoder, Encoder};
use jitter::{Jitter, Played};

/// Frames that leave are this long.
const FRAME_MS: u32 = 20;

/// As the time between two of them.
const FRAME: Duration = Duration::from_millis(20);

/// Frames that are made up for at once where time went by without their being asked for; what is missing beyond is a pause.
const MAX_BEHIND: u32 = 5;

/// The most packets looked at in a second. Phones send 50, those with 5 ms frames 200.
const MAX_PACKETS_PER_SECOND: u32 = 250;

/// The most bytes of a packet that are sound.
const MAX_PAYLOAD_LEN: usize = 1300;

/// Digits that wait to be sent, at most: a card's number with its code.
const MAX_DIGITS: usize = 32;

/// Frames between two digits, so that they are two (ITU-T Q.24).
const FRAMES_BETWEEN_DIGITS: u32 = 3;

/// What one end speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speech {
    /// The codec, one that [`Codec::is_converted`].
    pub codec: Codec,
    /// Its payload type.
    pub payload_type: u8,
    /// The payload type of telephone events, and the rate of their timestamps.
    pub events: Option<(u8, u32)>,
}

/// The machine.
#[derive(Debug)]
pub struct Transcoder {
    from: Speech,
    to: Speech,
    decoder: Decoder,
    encoder: Encoder,
    resampler: Option<Resampler>,
    /// Samples a second on either side of the resampler.
    rates: (u32, u32),
    jitter: Jitter,
    source: Option<u32>,
    /// When the next frame is due; none as long as nothing comes.
    due: Option<Instant>,
    /// When the stream stood still, so that its clock goes on when it does.
    stopped: Option<Instant>,
    /// The timestamp of the digit that passes, there and here.
    digit: Option<(u32, u32)>,
    dialled: VecDeque<Digit>,
    /// The digit that is sent on behalf of an end that says it otherwise, since when, and its timestamp.
    sounding: Option<(Sounding, Instant, u32)>,
    /// Frames until there may be another.
    between_digits: u32,
    pending: Vec<i16>,
    numbers: Start,
    is_first: bool,
    /// Packets that left, and the bytes of their payload.
    sent: (u32, u32),
    /// The second that is counted, and the packets in it.
    counted: (Option<Instant>, u32),
}

impl Transcoder {
    /// Makes one; `None` where one of the codecs is none that is converted.
    pub fn new(from: Speech, to: Speech, numbers: Start) -> Option<Transcoder> {
        let rates = (from.codec.sample_rate(to.codec)?, to.codec.sample_rate(from.codec)?);
        let resampler = if rates.0 == rates.1 { None } else { Some(Resampler::new(rates.0, rates.1)?) };
        Some(Transcoder {
            from,
            to,
            decoder: Decoder::new(from.codec, rates.0)?,
            encoder: Encoder::new(to.codec, rates.1)?,
            resampler,
            rates,
            jitter: Jitter::new(from.codec.clock_rate(), rates.0),
            source: None,
            due: None,
            stopped: None,
            digit: None,
            dialled: VecDeque::new(),
            sounding: None,
            between_digits: 0,
            pending: Vec::new(),
            numbers,
            is_first: true,
            sent: (0, 0),
            counted: (None, 0),
        })
    }

    /// Takes a packet; returns what leaves for it at once. Its sound leaves by [`Transcoder::handle_timeout`].
    pub fn handle_input(&mut self, now: Instant, datagram: &[u8]) -> Option<Vec<u8>> {
        let packet = Packet::parse(datagram).ok()?;
        if !self.is_within_rate(now) || packet.payload.len() > MAX_PAYLOAD_LEN {
            return None;
        }
        if self.source != Some(packet.ssrc) {
            self.source = Some(packet.ssrc);
            (self.jitter, self.digit) = (Jitter::new(self.from.codec.clock_rate(), self.rates.0), None);
        }
        if packet.payload_type == self.from.payload_type {
            self.digit = None;
            self.jitter.take(now, packet.sequence_number, packet.timestamp, packet.payload);
            self.begin(now);
            None
        } else if self.from.events.is_some_and(|(events, _)| events == packet.payload_type) {
            self.jitter.pass(packet.sequence_number);
            self.begin(now);
            self.pass_digit(&packet)
        } else {
            self.jitter.pass(packet.sequence_number);
            None
        }
    }

    /// What our stream says of itself, at this time of our clock.
    pub fn sender(&self, ntp: u64) -> SenderInfo {
        let Start { ssrc, timestamp, .. } = self.numbers;
        SenderInfo { ssrc, ntp, timestamp, packets: self.sent.0, octets: self.sent.1 }
    }

    /// How many packets came too late, and how long the jitter buffer waits for one now and at most, in ms.
    pub fn standing(&self) -> (u64, [u16; 2]) {
        self.jitter.standing()
    }

    /// Takes how much of what left does not arrive, as its receiver says.
    pub fn expect_loss(&mut self, share: f64) {
        // Whole percents, up to a quarter: more help nobody.
        let percent = (1..=25).rev().find(|percent| share * 100.0 >= f64::from(*percent)).unwrap_or_default();
        self.encoder.expect_loss(percent);
    }

    /// Sends a digit as a telephone event; false if too many wait, or that end takes none.
    pub fn press(&mut self, now: Instant, digit: Digit) -> bool {
        let has_room = self.to.events.is_some() && self.dialled.len() < MAX_DIGITS;
        if has_room {
            self.dialled.push_back(digit);
            self.begin(now);
        }
        has_room
    }

    /// Returns when [`Transcoder::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Takes the passing of time; returns the packets that leave now.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut left = Vec::new();
        for _ in 0..MAX_BEHIND {
            let Some(due) = self.due.filter(|due| *due <= now) else { return left };
            self.due = due.checked_add(FRAME);
            left.extend(self.frame(due));
        }
        if let Some(due) = self.due.filter(|due| *due <= now) {
            // Whoever drives this was away.
            self.stopped = Some(due);
            self.due = None;
            self.begin(now);
        }
        left
    }

    /// Has frames made from now on, if none are.
    fn begin(&mut self, now: Instant) {
        if self.due.is_some() {
            return;
        }
        if let Some(stopped) = self.stopped.take() {
            let ms = u32::try_from(now.saturating_duration_since(stopped).as_millis()).unwrap_or(u32::MAX);
            self.advance(scaled(ms, self.to.codec.clock_rate(), 1000));
            (self.is_first, self.digit) = (true, None);
            self.pending.clear();
        }
        self.due = Some(now);
    }

    /// What is said in the 20 ms that begin at `at`.
    fn frame(&mut self, at: Instant) -> Vec<Vec<u8>> {
        let samples = usize::try_from(self.rates.0 / 1000 * FRAME_MS).unwrap_or_default();
        let played = self.jitter.play(at, samples, &mut self.decoder);
        if let Some(digit) = self.dial(at) {
            self.advance(self.ticks_of_frame());
            (self.is_first, self.pending) = (true, Vec::new());
            return vec![digit];
        }
        match played {
            Played::Sound(sound) => self.say(&sound),
            Played::Silence => {
                self.advance(self.ticks_of_frame());
                (self.is_first, self.pending) = (true, Vec::new());
                Vec::new()
            }
            Played::Stopped => {
                if self.dialled.is_empty() && self.between_digits == 0 {
                    (self.stopped, self.due) = (Some(at), None);
                } else {
                    self.advance(self.ticks_of_frame());
                }
                Vec::new()
            }
        }
    }

    /// Codes samples, as soon as there are enough for a frame.
    fn say(&mut self, sound: &[i16]) -> Vec<Vec<u8>> {
        match &mut self.resampler {
            Some(resampler) => self.pending.extend(resampler.convert(sound)),
            None => self.pending.extend_from_slice(sound),
        }
        let frame_len = usize::try_from(self.rates.1 / 1000 * FRAME_MS).unwrap_or(usize::MAX);
        let mut left = Vec::new();
        while let Some(frame) = self.pending.get(..frame_len) {
            let payload = self.encoder.encode(frame);
            self.pending.drain(..frame_len);
            if let Some(payload) = payload {
                let (payload_type, marker) = (self.to.payload_type, std::mem::take(&mut self.is_first));
                left.push(self.packet(marker, payload_type, self.numbers.timestamp, &payload));
            }
            self.advance(self.ticks_of_frame());
        }
        left
    }

    /// The packet of a digit that is sent at this time.
    fn dial(&mut self, at: Instant) -> Option<Vec<u8>> {
        let (payload_type, rate) = self.to.events?;
        if self.sounding.is_none() {
            self.between_digits = self.between_digits.saturating_sub(1);
            if self.between_digits > 0 {
                return None;
            }
            let digit = self.dialled.pop_front()?;
            self.sounding = Some((Sounding::new(digit), at, self.numbers.timestamp));
        }
        let (sounding, began, timestamp) = self.sounding.as_mut()?;
        let (marker, payload) = sounding.next(at.saturating_duration_since(*began) + FRAME, rate);
        let (timestamp, is_said) = (*timestamp, sounding.is_said());
        if is_said {
            (self.sounding, self.between_digits) = (None, FRAMES_BETWEEN_DIGITS);
        }
        Some(self.packet(marker, payload_type, timestamp, &payload))
    }

    /// A digit has the timestamp of its beginning in all its packets, and says for how long it lasts (RFC 4733 §2.3).
    fn pass_digit(&mut self, packet: &Packet<'_>) -> Option<Vec<u8>> {
        let ((_, from_rate), (events, to_rate)) = (self.from.events?, self.to.events?);
        let (&[event, volume, high, low], _) = packet.payload.split_first_chunk::<4>()?;
        let here = match self.digit {
            Some((there, here)) if there == packet.timestamp => here,
            Some(_) | None => {
                let here = self.numbers.timestamp;
                self.digit = Some((packet.timestamp, here));
                here
            }
        };
        let duration = scaled(u32::from(u16::from_be_bytes([high, low])), to_rate, from_rate);
        let [high, low] = u16::try_from(duration).unwrap_or(u16::MAX).to_be_bytes();
        Some(self.packet(packet.marker, events, here, &[event, volume, high, low]))
    }

    fn packet(&mut self, marker: bool, payload_type: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let Start { ssrc, sequence_number, .. } = self.numbers;
        self.numbers.sequence_number = sequence_number.wrapping_add(1);
        let (packets, octets) = self.sent;
        let len = u32::try_from(payload.len()).unwrap_or_default();
        self.sent = (packets.wrapping_add(1), octets.wrapping_add(len));
        Packet { marker, payload_type, sequence_number, timestamp, ssrc, payload }.to_bytes()
    }

    fn ticks_of_frame(&self) -> u32 {
        self.to.codec.clock_rate() / 1000 * FRAME_MS
    }

    fn advance(&mut self, ticks: u32) {
        self.numbers.timestamp = self.numbers.timestamp.wrapping_add(ticks);
    }

    fn is_within_rate(&mut self, now: Instant) -> bool {
        let (since, packets) = &mut self.counted;
        if since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            (*since, *packets) = (Some(now), 0);
        }
        *packets += 1;
        *packets <= MAX_PACKETS_PER_SECOND
    }
}

/// So many ticks of one clock in those of another.
fn scaled(ticks: u32, to: u32, from: u32) -> u32 {
    let scaled = u64::from(ticks) * u64::from(to) / u64::from(from.max(1));
    u32::try_from(scaled).unwrap_or(u32::MAX)
}
