//! Puts digits into a stream that passes through: a phone that says them in the signalling (INFO) is understood by one that waits for
//! telephone events (RFC 4733).
//!
//! While a digit is sent, what the sender says is left out, as where a phone sends it itself; the numbers of what follows are shifted by the
//! difference, so that the receiver sees one stream. Where nothing is said, digits are sent all the same.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::digit::{Digit, Sounding};
use crate::echo::Start;
use crate::rtp::Packet;

/// A packet of a digit leaves this often.
const PACKET: Duration = Duration::from_millis(20);

/// Between two digits there is this much else, so that they are two (ITU-T Q.24).
const PAUSE: Duration = Duration::from_millis(60);

/// Digits that wait, at most: a card's number with its code.
pub(super) const MAX_WAITING: usize = 32;

#[derive(Debug)]
pub(super) struct Dialer {
    waiting: VecDeque<Digit>,
    sounding: Option<(Sounding, Instant, u32)>,
    /// When the next packet, or digit, is due.
    due: Option<Instant>,
    /// What is added to the numbers of what passes.
    offset: u16,
    /// The number, as it came, of the newest packet when that changed last. What is older has lost its place.
    barrier: Option<u16>,
    /// The newest packet that came of the sender, or what a stream of our own begins with.
    last: Last,
}

/// A packet of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    pub(super) ssrc: u32,
    pub(super) sequence_number: u16,
    pub(super) timestamp: u32,
    pub(super) at: Instant,
    pub(super) clock_rate: u32,
}

impl Last {
    /// Where nothing came yet.
    pub(super) fn of_own(now: Instant, numbers: Start, clock_rate: u32) -> Last {
        let Start { ssrc, sequence_number, timestamp } = numbers;
        Last { ssrc, sequence_number, timestamp, at: now, clock_rate }
    }

    fn timestamp_at(&self, now: Instant) -> u32 {
        let ticks =
            now.saturating_duration_since(self.at).as_millis().saturating_mul(u128::from(self.clock_rate)) / 1000;
        self.timestamp.wrapping_add(u32::try_from(ticks).unwrap_or_default())
    }
}

impl Dialer {
    pub(super) fn new(last: Last) -> Dialer {
        Dialer { waiting: VecDeque::new(), sounding: None, due: None, offset: 0, barrier: None, last }
    }

    /// Takes a digit; false if too many wait.
    pub(super) fn press(&mut self, now: Instant, digit: Digit) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        self.waiting.push_back(digit);
        self.due.get_or_insert(now);
        true
    }

    /// Takes a packet that is on its way to the end; false if it is left out.
    pub(super) fn pass(&mut self, now: Instant, packet: &mut [u8]) -> bool {
        let Ok(Packet { ssrc, sequence_number, timestamp, .. }) = Packet::parse(packet) else { return false };
        if ssrc != self.last.ssrc {
            // Another source has numbers of its own.
            (self.offset, self.barrier) = (0, None);
            self.last = Last { ssrc, sequence_number, timestamp, at: now, clock_rate: self.last.clock_rate };
        } else if is_ahead(sequence_number, self.last.sequence_number) {
            self.last = Last { sequence_number, timestamp, at: now, ..self.last };
        }
        if self.barrier.is_some_and(|barrier| !is_ahead(sequence_number, barrier)) {
            return false;
        }
        if self.sounding.is_some() {
            self.shift(u16::MAX);
            return false;
        }
        if let Some(number) = packet.get_mut(2..4) {
            number.copy_from_slice(&sequence_number.wrapping_add(self.offset).to_be_bytes());
        }
        true
    }

    /// When [`Dialer::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Makes the packet that is due, for an end that takes events by this payload type and at this rate.
    pub(super) fn handle_timeout(&mut self, now: Instant, (payload_type, rate): (u8, u32)) -> Option<Vec<u8>> {
        self.due.filter(|due| *due <= now)?;
        if self.sounding.is_none() {
            let Some(digit) = self.waiting.pop_front() else {
                self.due = None;
                return None;
            };
            self.sounding = Some((Sounding::new(digit), now, self.last.timestamp_at(now)));
        }
        let (sounding, began, timestamp) = self.sounding.as_mut()?;
        let (marker, payload) = sounding.next(now.saturating_duration_since(*began) + PACKET, rate);
        let (timestamp, is_said) = (*timestamp, sounding.is_said());
        self.shift(1);
        if is_said {
            self.sounding = None;
        }
        self.due = now.checked_add(if is_said { PAUSE } else { PACKET });
        let (ssrc, sequence_number) = (self.last.ssrc, self.last.sequence_number.wrapping_add(self.offset));
        Some(Packet { marker, payload_type, sequence_number, timestamp, ssrc, payload: &payload }.to_bytes())
    }

    fn shift(&mut self, by: u16) {
        self.offset = self.offset.wrapping_add(by);
        self.barrier = Some(self.last.sequence_number);
    }
}

/// Whether a number comes after another one.
fn is_ahead(number: u16, other: u16) -> bool {
    (1..0x8000).contains(&number.wrapping_sub(other))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn sound(number: u16) -> Vec<u8> {
        let timestamp = u32::from(number) * 160;
        Packet { marker: false, payload_type: 0, sequence_number: number, timestamp, ssrc: 7, payload: &[1; 160] }
            .to_bytes()
    }

    /// What leaves, by number and payload type, of a sender who speaks every 20 ms; with what each digit lasted at last.
    fn left(dialer: &mut Dialer, now: Instant, numbers: impl Iterator<Item = u16>) -> Vec<(u16, u8)> {
        let mut left = Vec::new();
        for number in numbers {
            let at = now + 20 * MS * u32::from(number);
            let mut packet = sound(number);
            let passes = dialer.pass(at, &mut packet);
            let packets = passes.then_some(packet).into_iter().chain(dialer.handle_timeout(at, (101, 8000)));
            left.extend(packets.map(|packet| {
                let packet = Packet::parse(&packet).unwrap();
                (packet.sequence_number, packet.payload_type)
            }));
        }
        left
    }

    #[test]
    fn digits_take_the_place_of_sound_and_the_numbers_go_on() {
        let now = Instant::now();
        let last = Last { ssrc: 7, sequence_number: 9, timestamp: 1440, at: now + 180 * MS, clock_rate: 8000 };
        let mut dialer = Dialer::new(last);
        for event in [1, 2] {
            assert!(dialer.press(now + 190 * MS, Digit { event, lasts: 100 * MS }));
        }
        let left = left(&mut dialer, now, 10..40);
        for (one, other) in left.iter().zip(left.iter().skip(1)) {
            assert_eq!(other.0, one.0 + 1, "{left:?}");
        }
        let kinds: String = left.iter().map(|(_, kind)| if *kind == 101 { 'd' } else { '.' }).collect();
        assert_eq!(kinds, ".ddddddd...ddddddd..............");
        assert!(dialer.poll_timeout().is_none());
        // What comes late, from before, has no place any more.
        assert!(!dialer.pass(now, &mut sound(12)));
    }

    #[test]
    fn a_silent_sender_dials_as_well_and_no_more_wait_than_are_allowed() {
        let now = Instant::now();
        let start = Start { ssrc: 5, sequence_number: 65_535, timestamp: 100 };
        let mut dialer = Dialer::new(Last::of_own(now, start, 8000));
        assert!(dialer.press(now, Digit { event: 3, lasts: 40 * MS }));
        let mut packets = Vec::new();
        for step in 0..10 {
            packets.extend(dialer.handle_timeout(now + 20 * MS * step, (101, 8000)));
        }
        let parsed: Vec<Packet<'_>> = packets.iter().map(|packet| Packet::parse(packet).unwrap()).collect();
        assert_eq!(parsed.iter().map(|packet| packet.sequence_number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(parsed.iter().all(|packet| packet.timestamp == 100 && packet.ssrc == 5 && packet.payload[0] == 3));
        let digit = Digit { event: 3, lasts: 40 * MS };
        assert_eq!((0..100).filter(|_| dialer.press(now, digit)).count(), MAX_WAITING);
    }
}
