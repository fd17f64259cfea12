//! How well a stream arrives: loss and jitter as counted here (RFC 3550 A.3, A.8), and what its receiver reports back.

use std::time::{Duration, Instant};

use super::bursts::{Bursts, GMIN, in_256ths};
use super::dialer::Last;
use super::stream::Format;
use crate::codec::Codec;
use crate::mos;
use crate::rtcp::{Block, Reception, Report, VoipMetrics, VoipReport};

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
    /// The share of what was sent to this end that it reports as lost, over all its reports.
    pub reported_loss: Option<f64>,
    /// The jitter of what was sent to this end as it reports it last, in units of the sender's clock.
    pub reported_jitter: Option<u32>,
    /// How the call sounds there, if it says so (RFC 3611).
    pub reported: Option<VoipMetrics>,
    /// Packets refused because they were not authentic.
    pub forged: u64,
    /// What it sent last.
    pub format: Option<Format>,
}

/// Packets of telephony are this long, and that much later is what is in them.
const PACKET: Duration = Duration::from_millis(20);

/// What one end hears of the other one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heard {
    /// By which codec, where it is known.
    pub codec: Option<Codec>,
    /// The share of packets that it misses.
    pub loss: f64,
    /// Interarrival jitter in milliseconds.
    pub jitter_ms: f64,
    /// The time there and back between the ends, or as far as it is known.
    pub round_trip: Option<Duration>,
    /// The estimated mean opinion score ([`crate::mos`]).
    pub mean_opinion: f64,
    /// That which the end's own phone has reported.
    pub reported_mean_opinion: Option<f64>,
}

impl Heard {
    /// Joins what is known of the stream of one end, and what the other one says of it; `None` as long as nothing came.
    pub(crate) fn of(speaker: &Quality, listener: &Quality) -> Option<Heard> {
        let format = speaker.format.filter(|_| speaker.received > 0)?;
        // What the listener reports is of the whole way; what is counted here, of the way to the node.
        let total = count(speaker.received.saturating_add(speaker.lost));
        let counted = count(speaker.lost) / total.max(1.0);
        let played = listener.reported.map(|said| f64::from(said.loss_rate) + f64::from(said.discard_rate));
        let loss = counted.max(listener.reported_loss.unwrap_or(0.0)).max(played.unwrap_or(0.0) / 256.0).min(1.0);
        let ticks = listener.reported_jitter.map_or(0.0, f64::from);
        let jitter_ms = speaker.jitter_ms.max(ticks * 1000.0 / f64::from(format.clock_rate.max(1)));
        let round_trip = match (speaker.round_trip, listener.round_trip) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        // Phones keep about twice the jitter waiting, or lose what comes later.
        let waiting = Duration::try_from_secs_f64(jitter_ms * 2.0 / 1000.0).unwrap_or(Duration::MAX);
        let delay = (round_trip.unwrap_or_default() / 2).saturating_add(PACKET).saturating_add(waiting);
        let mean_opinion = mos::mean_opinion(mos::rating(format.codec, loss, delay));
        let said = listener.reported.and_then(|said| said.mean_opinion);
        let reported_mean_opinion = said.map(|tenths| f64::from(tenths) / 10.0);
        Some(Heard { codec: format.codec, loss, jitter_ms, round_trip, mean_opinion, reported_mean_opinion })
    }
}

/// Packets as a share wants them; no call has more than 32 bits of them.
fn count(packets: u64) -> f64 {
    f64::from(u32::try_from(packets).unwrap_or(u32::MAX))
}

/// A time in ticks of a clock.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn ticks(ms: f64, clock_rate: u32) -> u32 {
    (ms * f64::from(clock_rate) / 1000.0).clamp(0.0, f64::from(u32::MAX)) as u32
}

/// A score as RFC 3611 writes it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn tenths(score: f64) -> u8 {
    (score * 10.0).round().clamp(0.0, 100.0) as u8
}

/// What is counted of one end's stream.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) quality: Quality,
    last: Option<Arrival>,
    /// Each number ahead of the last is expected; late ones make good for it.
    expected: u64,
    /// How many reports have come.
    reports: u32,
    /// The newest sender report that was passed on to this end, and when.
    passed: Option<(u32, Instant)>,
    /// What was added to the last number by rolling over.
    cycles: u32,
    /// What was expected and received when it was reported last.
    reported: (u64, u64),
    /// The newest sender report that this end sent, and when.
    said: Option<(u32, Instant)>,
    bursts: Bursts,
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
    pub(crate) fn on_rtp(&mut self, now: Instant, ssrc: u32, sequence_number: u16, timestamp: u32, format: Format) {
        let clock_rate = format.clock_rate;
        // Digits and comfort noise are sent beside what is judged.
        if format.codec.is_some() || self.quality.format.is_none() {
            self.quality.format = Some(format);
        }
        let arrival = Arrival { ssrc, sequence_number, timestamp, at: now };
        let ahead = self.last.filter(|last| last.ssrc == ssrc).map(|last| {
            let passed = now.saturating_duration_since(last.at).as_secs_f64();
            (sequence_number.wrapping_sub(last.sequence_number), timestamp.wrapping_sub(last.timestamp), passed)
        });
        self.quality.received += 1;
        match ahead {
            Some((ahead @ 1..=MAX_DROPOUT, ticks, passed)) => {
                self.expected += u64::from(ahead);
                (1..ahead).for_each(|_| self.bursts.lost());
                self.bursts.arrived();
                if self.last.is_some_and(|last| sequence_number < last.sequence_number) {
                    self.cycles = self.cycles.wrapping_add(0x1_0000);
                }
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

    /// The newest packet.
    pub(super) fn last(&self) -> Option<Last> {
        let Arrival { ssrc, sequence_number, timestamp, at } = self.last?;
        let clock_rate = self.quality.format?.clock_rate;
        Some(Last { ssrc, sequence_number, timestamp, at, clock_rate })
    }

    /// Takes what this end reports.
    pub(crate) fn on_report(&mut self, now: Instant, block: &Block) {
        let (said, before) = (f64::from(block.fraction_lost) / 256.0, self.quality.reported_loss.unwrap_or(0.0));
        self.reports = self.reports.saturating_add(1);
        self.quality.reported_loss = Some(before + (said - before) / f64::from(self.reports));
        self.quality.reported_jitter = Some(block.jitter);
        if let Some((sent, at)) = self.passed
            && sent == block.last_sender_report
        {
            let held = Duration::from_secs_f64(f64::from(block.delay) / 65_536.0);
            self.quality.round_trip = Some(now.saturating_duration_since(at).saturating_sub(held));
        }
    }

    /// Takes how it says that the call sounds.
    pub(crate) fn on_metrics(&mut self, metrics: VoipMetrics) {
        self.quality.reported = Some(metrics);
    }

    /// Remembers when this end sent a report, so that ours may say so.
    pub(crate) fn on_said(&mut self, now: Instant, sent: u32) {
        self.said = Some((sent, now));
    }

    /// Reports how its stream arrives, of which so many packets came too late to be played, and which waits so long in a jitter buffer (now, and
    /// at most, in ms); `None` where nothing came.
    pub(crate) fn report(&mut self, now: Instant, late: u64, waits_ms: [u16; 2]) -> Option<(Reception, VoipReport)> {
        let (last, format) = (self.last?, self.quality.format?);
        let (expected, received) = (self.expected - self.reported.0, self.quality.received - self.reported.1);
        self.reported = (self.expected, self.quality.received);
        let share = |part: u64, of: u64| if of == 0 { 0.0 } else { count(part) / count(of) };
        let lost_now = expected.saturating_sub(received);
        let delay = self.said.map(|(_, at)| now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000);
        let block = Block {
            ssrc: last.ssrc,
            fraction_lost: in_256ths(share(lost_now, expected)),
            jitter: ticks(self.quality.jitter_ms, format.clock_rate),
            last_sender_report: self.said.map(|(sent, _)| sent).unwrap_or_default(),
            delay: delay.and_then(|delay| u32::try_from(delay).ok()).unwrap_or_default(),
        };
        let reception = Reception {
            block,
            lost: u32::try_from(self.quality.lost).unwrap_or(u32::MAX),
            highest: self.cycles.wrapping_add(u32::from(last.sequence_number)),
        };
        let (loss, discarded) = (share(self.quality.lost, self.expected), share(late, self.expected));
        let round_trip = self.quality.round_trip.unwrap_or_default();
        let waiting = PACKET.saturating_add(Duration::from_millis(waits_ms[0].into()));
        let rate = |delay: Duration| mos::rating(format.codec, (loss + discarded).min(1.0), delay);
        let rating = rate((round_trip / 2).saturating_add(waiting));
        let shape = self.bursts.shape();
        let in_ms = |packets: u64| u16::try_from(packets.saturating_mul(20)).unwrap_or(u16::MAX);
        let millis = |time: Duration| u16::try_from(time.as_millis()).unwrap_or(u16::MAX);
        let metrics = VoipMetrics {
            ssrc: last.ssrc,
            loss_rate: in_256ths(loss),
            discard_rate: in_256ths(discarded),
            round_trip_ms: millis(round_trip),
            end_system_delay_ms: millis(waiting),
            mean_opinion: Some(tenths(mos::mean_opinion(rating))),
        };
        let report = VoipReport {
            metrics,
            densities: [shape.burst_density, shape.gap_density],
            durations_ms: [in_ms(shape.burst_packets), in_ms(shape.gap_packets)],
            gmin: GMIN,
            rating: tenths(rating / 10.0),
            listening: tenths(mos::mean_opinion(rate(Duration::ZERO))),
            jitter_buffer_ms: waits_ms,
        };
        Some((reception, report))
    }

    /// Remembers a report that is passed on to this end, so that its answer tells the round trip (RFC 3550 §6.4.1).
    pub(crate) fn on_passed(&mut self, now: Instant, report: &Report) {
        if let Report::Sender { sent } = report {
            self.passed = Some((*sent, now));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PCMU: Format = Format { payload_type: 0, clock_rate: 8000, codec: Some(Codec::Pcmu) };

    #[test]
    fn losses_are_counted_over_the_rollover_and_late_packets_make_good() {
        let (mut meter, now) = (Meter::default(), Instant::now());
        for (step, number) in [65_533_u16, 65_534, 1, 65_535, 2, 2].into_iter().enumerate() {
            let at = now + 20 * MS * u32::try_from(step).unwrap_or_default();
            meter.on_rtp(at, 7, number, u32::from(number) * 160, PCMU);
        }
        // Of 65533 to 2 six are expected; 0 is missing, and the second 2 hides that.
        assert_eq!((meter.quality.received, meter.quality.lost), (6, 0));
        meter.on_rtp(now + 200 * MS, 7, 5, 800, PCMU);
        assert_eq!(meter.quality.lost, 2);
    }

    #[test]
    fn an_even_stream_has_no_jitter_and_an_uneven_one_has() {
        let now = Instant::now();
        let (mut even, mut uneven) = (Meter::default(), Meter::default());
        for number in 0..200_u16 {
            let at = now + 20 * MS * u32::from(number);
            even.on_rtp(at, 7, number, u32::from(number) * 160, PCMU);
            uneven.on_rtp(at + 10 * MS * u32::from(number % 2), 7, number, u32::from(number) * 160, PCMU);
        }
        assert!(even.quality.jitter_ms < 0.01, "{}", even.quality.jitter_ms);
        assert!((9.0..11.0).contains(&uneven.quality.jitter_ms), "{}", uneven.quality.jitter_ms);
    }

    #[test]
    fn what_an_end_hears_is_judged_by_the_worst_that_is_known_of_it() {
        let now = Instant::now();
        let (mut speaker, mut listener) = (Meter::default(), Meter::default());
        assert_eq!(Heard::of(&speaker.quality, &listener.quality), None);
        for number in (0..1000_u16).filter(|number| number % 20 != 7) {
            speaker.on_rtp(now + 20 * MS * u32::from(number), 7, number, u32::from(number) * 160, PCMU);
        }
        let heard = |speaker: &Meter, listener: &Meter| Heard::of(&speaker.quality, &listener.quality).unwrap();
        let counted = heard(&speaker, &listener);
        assert!((counted.loss - 0.05).abs() < 0.001 && counted.mean_opinion < 4.0, "{counted:?}");
        // What is lost behind the node the listener alone can tell.
        let block = Block { ssrc: 7, fraction_lost: 26, jitter: 320, last_sender_report: 0, delay: 0 };
        listener.on_report(now, &block);
        listener.on_report(now, &block);
        let reported = heard(&speaker, &listener);
        assert!((reported.loss - 0.1).abs() < 0.01 && (reported.jitter_ms - 40.0).abs() < 0.1, "{reported:?}");
        assert!(reported.mean_opinion < counted.mean_opinion);
        listener.on_metrics(VoipMetrics {
            ssrc: 7,
            loss_rate: 26,
            discard_rate: 26,
            round_trip_ms: 0,
            end_system_delay_ms: 0,
            mean_opinion: Some(21),
        });
        let played = heard(&speaker, &listener);
        assert!((played.loss - 0.2).abs() < 0.01 && played.reported_mean_opinion == Some(2.1), "{played:?}");
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
