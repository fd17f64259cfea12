//! From one codec to another, where two ends have none in common: one direction of a stream.
//!
//! Pure, and driven by the packets themselves: what is out of order is put in order, what is missing is concealed, and the receiver's
//! own jitter buffer evens out when they come. The packets that leave are a stream of the node's own, with its source and numbers;
//! digits (RFC 4733) stand in it where they stood between the sounds.

mod coder;
mod reorder;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::codec::Codec;
use crate::echo::Start;
use crate::resample::Resampler;
use crate::rtp::Packet;
use coder::{Decoder, Encoder};
use reorder::Reorder;

/// Frames that leave are this long.
const FRAME_MS: u32 = 20;

/// The longest gap that is filled; what is longer is silence.
const MAX_CONCEALED_MS: u32 = 120;

/// The most sound that is converted in a second: somewhat more than there can be, so that no phone has the node work for a hundred.
const MAX_SOUND_MS_A_SECOND: u32 = 1500;

/// The most packets looked at in a second. Phones send 50, those with 5 ms frames 200.
const MAX_PACKETS_PER_SECOND: u32 = 250;

/// The most bytes of a packet that are sound.
const MAX_PAYLOAD_LEN: usize = 1300;

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
    reorder: Reorder,
    source: Option<u32>,
    /// The timestamp that continues what came.
    expected: Option<u32>,
    /// The timestamp of the digit that is being sent, there and here.
    digit: Option<(u32, u32)>,
    pending: Vec<i16>,
    numbers: Start,
    is_first: bool,
    /// The second that is counted, the sound and the packets in it.
    counted: (Option<Instant>, u32, u32),
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
            reorder: Reorder::default(),
            source: None,
            expected: None,
            digit: None,
            pending: Vec::new(),
            numbers,
            is_first: true,
            counted: (None, 0, 0),
        })
    }

    /// Takes a packet; returns those that leave for it.
    pub fn convert(&mut self, now: Instant, datagram: &[u8]) -> Vec<Vec<u8>> {
        let Ok(packet) = Packet::parse(datagram) else { return Vec::new() };
        if !self.is_within_rate(now) || packet.payload.len() > MAX_PAYLOAD_LEN {
            return Vec::new();
        }
        if self.source != Some(packet.ssrc) {
            self.source = Some(packet.ssrc);
            (self.reorder, self.expected, self.digit) = (Reorder::default(), None, None);
        }
        let mut left = Vec::new();
        for (number_lost, datagram) in self.reorder.take(packet.sequence_number, datagram) {
            if let Ok(packet) = Packet::parse(&datagram) {
                self.take(number_lost, &packet, &mut left);
            }
        }
        left
    }

    /// Takes the next packet in order, so many after it that were lost.
    fn take(&mut self, lost: u16, packet: &Packet<'_>, left: &mut Vec<Vec<u8>>) {
        if packet.payload_type == self.from.payload_type {
            self.bridge_gap(lost, packet.timestamp, left);
            let sound = self.decoder.decode(packet.payload);
            self.expected = Some(packet.timestamp.wrapping_add(self.ticks_of(sound.len())));
            self.digit = None;
            self.say(&sound, left);
        } else if self.from.events.is_some_and(|(events, _)| events == packet.payload_type) {
            self.pass_digit(packet, left);
        }
    }

    /// Conceals what was lost before this timestamp, or leaves out what was not sent.
    fn bridge_gap(&mut self, lost: u16, timestamp: u32, left: &mut Vec<Vec<u8>>) {
        let Some(expected) = self.expected else { return };
        let missing = timestamp.wrapping_sub(expected);
        let clock_rate = self.from.codec.clock_rate();
        // Beyond half of the numbers it lies before what came: the sender's clock was set anew.
        if missing == 0 || missing > u32::MAX / 2 {
            return;
        }
        if lost > 0 && missing <= clock_rate / 1000 * MAX_CONCEALED_MS {
            let samples = scaled(missing, self.rates.0, clock_rate);
            let concealed = self.decoder.conceal(usize::try_from(samples).unwrap_or_default());
            self.say(&concealed, left);
        } else {
            self.pending.clear();
            let pause = scaled(missing, self.to.codec.clock_rate(), clock_rate);
            self.numbers.timestamp = self.numbers.timestamp.wrapping_add(pause);
            self.is_first = true;
        }
    }

    /// Codes samples, as soon as there are enough for a frame.
    fn say(&mut self, sound: &[i16], left: &mut Vec<Vec<u8>>) {
        let budget = MAX_SOUND_MS_A_SECOND.saturating_mul(self.rates.0 / 1000).saturating_sub(self.counted.1);
        let sound = sound.get(..usize::try_from(budget).unwrap_or_default().min(sound.len())).unwrap_or_default();
        self.counted.1 = self.counted.1.saturating_add(u32::try_from(sound.len()).unwrap_or(u32::MAX));
        match &mut self.resampler {
            Some(resampler) => self.pending.extend(resampler.convert(sound)),
            None => self.pending.extend_from_slice(sound),
        }
        let frame_len = usize::try_from(self.rates.1 / 1000 * FRAME_MS).unwrap_or(usize::MAX);
        while let Some(frame) = self.pending.get(..frame_len) {
            let payload = self.encoder.encode(frame);
            self.pending.drain(..frame_len);
            if let Some(payload) = payload {
                let (payload_type, marker) = (self.to.payload_type, std::mem::take(&mut self.is_first));
                left.push(self.packet(marker, payload_type, self.numbers.timestamp, &payload));
            }
            let ticks = self.to.codec.clock_rate() / 1000 * FRAME_MS;
            self.numbers.timestamp = self.numbers.timestamp.wrapping_add(ticks);
        }
    }

    /// A digit has the timestamp of its beginning in all its packets, and says for how long it lasts (RFC 4733 §2.3).
    fn pass_digit(&mut self, packet: &Packet<'_>, left: &mut Vec<Vec<u8>>) {
        let (Some((_, from_rate)), Some((events, to_rate))) = (self.from.events, self.to.events) else { return };
        let Some((&[event, volume, high, low], _)) = packet.payload.split_first_chunk::<4>() else { return };
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
        left.push(self.packet(packet.marker, events, here, &[event, volume, high, low]));
    }

    fn packet(&mut self, marker: bool, payload_type: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let Start { ssrc, sequence_number, .. } = self.numbers;
        self.numbers.sequence_number = sequence_number.wrapping_add(1);
        Packet { marker, payload_type, sequence_number, timestamp, ssrc, payload }.to_bytes()
    }

    fn ticks_of(&self, samples: usize) -> u32 {
        scaled(u32::try_from(samples).unwrap_or_default(), self.from.codec.clock_rate(), self.rates.0)
    }

    fn is_within_rate(&mut self, now: Instant) -> bool {
        let (since, sound, packets) = &mut self.counted;
        if since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            (*since, *sound, *packets) = (Some(now), 0, 0);
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
