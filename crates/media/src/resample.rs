//! From one rate of samples to another: a low pass at the lower of the two, taken at each place that the new rate asks for.
//!
//! The rates of telephony are whole multiples of each other, and those of files have large common divisors, so the places between two
//! samples are few and their filters are worked out once (a polyphase filter). Pure; it keeps what it has not used up yet.

use std::f32::consts::PI;

/// Samples on either side that count for one, at the lower rate: what is beyond 0.9 of the band is gone, 60 dB down.
const REACH: usize = 16;

/// Where the low pass begins, as a share of the lower rate's band.
const BAND: f32 = 0.92;

/// Rates have to be multiples of this, which all are that are in use (11,025 Hz as well): filters for others would take megabytes.
const COMMON: u32 = 25;

/// The highest rate.
const MAX_RATE: u32 = 192_000;

/// A converter of one stream.
#[derive(Debug)]
pub struct Resampler {
    /// How far each output is from the one before, in input samples: so many of `phases`.
    advance: usize,
    phases: usize,
    taps: usize,
    filters: Vec<f32>,
    phase: usize,
    waiting: Vec<f32>,
}

impl Resampler {
    /// Makes one between two rates in Hz; `None` where one of them is none that is in use.
    pub fn new(from: u32, to: u32) -> Option<Resampler> {
        let is_known = |rate: u32| (1..=MAX_RATE).contains(&rate) && rate.is_multiple_of(COMMON);
        if !is_known(from) || !is_known(to) {
            return None;
        }
        let common = greatest_common_divisor(from, to);
        let (advance, phases) = (usize::try_from(from / common).ok()?, usize::try_from(to / common).ok()?);
        let wider = usize::try_from(from.div_ceil(to)).ok()?;
        let taps = REACH * 2 * wider;
        let cutoff = BAND * (ratio(to, from)).min(1.0);
        let filters = (0..phases).flat_map(|phase| filter(taps, cutoff, share(phase, phases))).collect();
        // As if there had been silence before: the first output is at the first input.
        Some(Resampler { advance, phases, taps, filters, phase: 0, waiting: vec![0.0; taps / 2 - 1] })
    }

    /// Takes samples; returns those of the new rate that can be told by now. The last ones wait for what follows.
    pub fn convert(&mut self, samples: &[i16]) -> Vec<i16> {
        if self.advance == self.phases {
            return samples.to_vec();
        }
        self.waiting.extend(samples.iter().map(|sample| f32::from(*sample)));
        let mut converted = Vec::new();
        let mut base = 0_usize;
        while let Some(around) = self.waiting.get(base..base.saturating_add(self.taps)) {
            let filter = self.filters.iter().skip(self.phase * self.taps);
            let sum: f32 = around.iter().zip(filter).map(|(sample, weight)| sample * weight).sum();
            converted.push(to_sample(sum));
            self.phase += self.advance;
            base += self.phase / self.phases;
            self.phase %= self.phases;
        }
        self.waiting.drain(..base.min(self.waiting.len()));
        converted
    }

    /// Returns what the last samples come to, with silence after them.
    pub fn finish(mut self) -> Vec<i16> {
        let silence = vec![0; self.taps / 2];
        if self.advance == self.phases { Vec::new() } else { self.convert(&silence) }
    }
}

/// The weights around a place that is `ahead` of the sample in the middle, which sum up to 1.
fn filter(taps: usize, cutoff: f32, ahead: f32) -> Vec<f32> {
    let half = small(taps / 2);
    let weight = |tap: usize| {
        let x = small(tap) - (half - 1.0) - ahead;
        let turn = PI * x * cutoff;
        let low_pass = if turn.abs() < 1e-6 { 1.0 } else { turn.sin() / turn };
        // Blackman's window: side lobes of −58 dB.
        let at = PI * (x / half).clamp(-1.0, 1.0);
        low_pass * (0.42 + 0.5 * at.cos() + 0.08 * (2.0 * at).cos())
    };
    let weights: Vec<f32> = (0..taps).map(weight).collect();
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Samples are whole; what is louder than can be is as loud as can be.
fn to_sample(value: f32) -> i16 {
    #[allow(clippy::cast_possible_truncation, reason = "within the range, and whole")]
    let sample = value.round().clamp(f32::from(i16::MIN), f32::from(i16::MAX)) as i16;
    sample
}

fn small(count: usize) -> f32 {
    f32::from(u16::try_from(count).unwrap_or(u16::MAX))
}

fn share(part: usize, whole: usize) -> f32 {
    small(part) / small(whole)
}

fn ratio(one: u32, other: u32) -> f32 {
    small(usize::try_from(one / COMMON).unwrap_or(1)) / small(usize::try_from(other / COMMON).unwrap_or(1))
}

fn greatest_common_divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sine(hz: f32, rate: u32, count: usize) -> Vec<i16> {
        let step = 2.0 * PI * hz / rate as f32;
        (0..count).map(|n| to_sample((n as f32 * step).sin() * 12_000.0)).collect()
    }

    fn loudness(samples: &[i16]) -> f32 {
        let sum: f32 = samples.iter().map(|sample| f32::from(*sample).powi(2)).sum();
        (sum / samples.len() as f32).sqrt()
    }

    #[test]
    fn a_tone_stays_itself_at_any_rate_that_is_in_use() {
        for (from, to) in
            [(8000, 16_000), (8000, 48_000), (48_000, 8000), (16_000, 48_000), (44_100, 8000), (11_025, 8000)]
        {
            let mut resampler = Resampler::new(from, to).unwrap();
            let count = from as usize;
            let mut converted = Vec::new();
            for piece in sine(700.0, from, count).chunks(123) {
                converted.extend(resampler.convert(piece));
            }
            converted.extend(resampler.finish());
            assert!(converted.len().abs_diff(to as usize) <= 8, "{from} to {to}: {}", converted.len());
            let wanted = sine(700.0, to, to as usize);
            let middle = 2000..6000;
            let off: Vec<i16> =
                converted[middle.clone()].iter().zip(&wanted[middle]).map(|(one, other)| one - other).collect();
            assert!(loudness(&off) < 40.0, "{from} to {to}: off by {}", loudness(&off));
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone_and_not_folded_back() {
        let mut resampler = Resampler::new(48_000, 8000).unwrap();
        let converted = resampler.convert(&sine(5000.0, 48_000, 48_000));
        assert!(loudness(&converted[100..]) < 30.0, "{}", loudness(&converted[100..]));
    }

    #[test]
    fn rates_that_nobody_uses_are_refused() {
        for (from, to) in [(0, 8000), (8000, 0), (8001, 8000), (u32::MAX, 8000), (200_000, 8000)] {
            assert!(Resampler::new(from, to).is_none(), "{from} to {to}");
        }
    }
}
