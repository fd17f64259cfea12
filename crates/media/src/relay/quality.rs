//! How well a stream arrives: loss and jitter as counted here (RFC 3550 A.3, A.8), and what its receiver reports back.

use std::time::{Duration, Instant};

use crate::rtcp::{Block, Report};

/// A sequence number so far ahead of the last is a new beginning of the stream, not a loss (RFC 3550 A.1: MAX_DROPOUT).
const MAX_DROPOUT: u16 = 3000;

/// How a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quality {
    /// Packets that came.
    pub received: u64,
    /// Packets that did not come.
    pub lost: u64,
    /// Interarrival jitter in milliseconds.
    pub jitter_ms: f64,
    /// The time there and back between the node and this end, where its reports say it.
    pub round_trip: Option<Duration>,
    /// The share of what was sent to this end that it reports as lost, last.
    pub reported_loss: Option<f64>,
    /// Packets refused because they were not authentic.
    pub forged: u64,
}

/// What is counted of one end's stream.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) quality: Quality,
    last: Option<Arrival>,
    /// Each number ahead of the last is expected; late ones make good for it.
    expected: u64,
    /// The newest sender report that was passed on to this end, and when.
    passed: Option<(u32, Instant)>,
}

#[derive(Debug, Clone, Copy)]
struct Arrival {
    ssrc: u32,
    sequence_number: u16,
    timestamp: u32,
    at: Instant,
}

impl Meter {
    /// Counts a packet of this end's.
    pub(super) fn on_rtp(&mut self, now: Instant, ssrc: u32, sequence_number: u16, timestamp: u32, clock_rate: u32) {
        let arrival = Arrival { ssrc, sequence_number, timestamp, at: now };
        let ahead = self.last.filter(|last| last.ssrc == ssrc).map(|last| {
            let passed = now.saturating_duration_since(last.at).as_secs_f64();
            (sequence_number.wrapping_sub(last.sequence_number), timestamp.wrapping_sub(last.timestamp), passed)
        });
        self.quality.received += 1;
        match ahead {
            Some((ahead @ 1..=MAX_DROPOUT, ticks, passed)) => {
                self.expected += u64::from(ahead);
                // A silence of the sender's is no jitter: its clock goes on as ours does.
                let difference = (passed - f64::from(ticks) / f64::from(clock_rate.max(1))).abs() * 1000.0;
                self.quality.jitter_ms += (difference - self.quality.jitter_ms) / 16.0;
                self.last = Some(arrival);
            }
            // Late, or twice.
            Some((ahead, _, _)) if ahead == 0 || ahead > u16::MAX - MAX_DROPOUT => {}
            Some(_) | None => {
                self.expected += 1;
                self.last = Some(arrival);
            }
        }
        self.quality.lost = self.expected.saturating_sub(self.quality.received);
    }

    /// Takes what this end reports.
    pub(super) fn on_report(&mut self, now: Instant, block: &Block) {
        self.quality.reported_loss = Some(f64::from(block.fraction_lost) / 256.0);
        if let Some((sent, at)) = self.passed
            && sent == block.last_sender_report
        {
            let held = Duration::from_secs_f64(f64::from(block.delay) / 65_536.0);
            self.quality.round_trip = Some(now.saturating_duration_since(at).saturating_sub(held));
        }
    }

    /// Remembers a report that is passed on to this end, so that its answer tells the round trip (RFC 3550 §6.4.1).
    pub(super) fn on_passed(&mut self, now: Instant, report: &Report) {
        if let Report::Sender { sent } = report {
            self.passed = Some((*sent, now));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn losses_are_counted_over_the_rollover_and_late_packets_make_good() {
        let (mut meter, now) = (Meter::default(), Instant::now());
        for (step, number) in [65_533_u16, 65_534, 1, 65_535, 2, 2].into_iter().enumerate() {
            let at = now + 20 * MS * u32::try_from(step).unwrap_or_default();
            meter.on_rtp(at, 7, number, u32::from(number) * 160, 8000);
        }
        // Of 65533 to 2 six are expected; 0 is missing, and the second 2 hides that.
        assert_eq!((meter.quality.received, meter.quality.lost), (6, 0));
        meter.on_rtp(now + 200 * MS, 7, 5, 800, 8000);
        assert_eq!(meter.quality.lost, 2);
    }

    #[test]
    fn an_even_stream_has_no_jitter_and_an_uneven_one_has() {
        let now = Instant::now();
        let (mut even, mut uneven) = (Meter::default(), Meter::default());
        for number in 0..200_u16 {
            let at = now + 20 * MS * u32::from(number);
            even.on_rtp(at, 7, number, u32::from(number) * 160, 8000);
            uneven.on_rtp(at + 10 * MS * u32::from(number % 2), 7, number, u32::from(number) * 160, 8000);
        }
        assert!(even.quality.jitter_ms < 0.01, "{}", even.quality.jitter_ms);
        assert!((9.0..11.0).contains(&uneven.quality.jitter_ms), "{}", uneven.quality.jitter_ms);
    }

    #[test]
    fn the_round_trip_is_what_a_report_took_less_what_it_was_held() {
        let (mut meter, now) = (Meter::default(), Instant::now());
        meter.on_passed(now, &Report::Sender { sent: 0x1234 });
        let mut block = Block { ssrc: 7, fraction_lost: 64, jitter: 0, last_sender_report: 0x1234, delay: 65_536 };
        meter.on_report(now + 1040 * MS, &block);
        assert_eq!(meter.quality.round_trip, Some(40 * MS));
        assert_eq!(meter.quality.reported_loss, Some(0.25));
        block.last_sender_report = 0x9999;
        meter.on_report(now + 5000 * MS, &block);
        assert_eq!(meter.quality.round_trip, Some(40 * MS), "of another report nothing is known");
    }
}
