//! What is heard where sound is missing, too long or too short: the period of what was said last goes on, or some of it is left out.
//!
//! In the manner of ITU-T G.711 Appendix I, but plainer: one period is repeated, at full strength for 10 ms, then ever more quietly until
//! nothing is left after 60 ms; what comes behind it fades in. Pure, and of a bounded cost for each call.

/// Periods that are looked for, in ms: those of low voices. Of higher ones several are found as one.
const SHORTEST_MS: usize = 5;
const LONGEST_MS: usize = 15;

/// What is compared to find one, in ms.
const COMPARED_MS: usize = 20;

/// What has to be remembered for that.
const HISTORY_MS: usize = 40;

/// How long what was made up is as loud as what was said, and when it has faded away.
const LOUD_MS: usize = 10;
const FADED_MS: usize = 60;

/// The sound of one source, as far back as it is needed.
#[derive(Debug)]
pub(super) struct Shape {
    /// Samples of a ms.
    per_ms: usize,
    history: Vec<i16>,
    made: Option<Made>,
}

/// What is made up.
#[derive(Debug)]
struct Made {
    period: Vec<i16>,
    count: usize,
}

impl Made {
    fn next(&mut self, per_ms: usize) -> i16 {
        let sample = self.period.get(self.count % self.period.len().max(1)).copied().unwrap_or_default();
        let ms = self.count / per_ms;
        let left = FADED_MS.saturating_sub(ms.max(LOUD_MS));
        self.count = self.count.saturating_add(1);
        faded(0, sample, left, FADED_MS - LOUD_MS)
    }
}

impl Shape {
    /// Of so many samples a second.
    pub(super) fn new(sample_rate: u32) -> Shape {
        Shape {
            per_ms: usize::try_from(sample_rate / 1000).unwrap_or_default().max(1),
            history: Vec::new(),
            made: None,
        }
    }

    /// Takes what was said, and lets it fade in behind what was made up.
    pub(super) fn hear(&mut self, mut sound: Vec<i16>) -> Vec<i16> {
        if let Some(mut made) = self.made.take() {
            // The longer it was made up, the less it fits (G.711 Appendix I: 4 ms more for each 10 ms, up to 10 ms).
            let overlap_ms = (4 + made.count / (10 * self.per_ms) * 4).min(10);
            let overlap = (overlap_ms * self.per_ms).min(sound.len());
            for (at, sample) in sound.iter_mut().take(overlap).enumerate() {
                *sample = faded(made.next(self.per_ms), *sample, at + 1, overlap + 1);
            }
        }
        self.remember(&sound);
        sound
    }

    /// Makes up so many samples that are missing.
    pub(super) fn conceal(&mut self, samples: usize) -> Vec<i16> {
        let (per_ms, begun) = (self.per_ms, self.made.take());
        let begun = begun.or_else(|| Some(Made { period: self.period()?, count: 0 }));
        let Some(mut made) = begun else { return vec![0; samples] };
        let sound: Vec<i16> = (0..samples).map(|_| made.next(per_ms)).collect();
        self.made = Some(made);
        sound
    }

    /// Makes so many samples, and up to a period more, that go on where what was said ends, so that what is said next fits behind them. None where
    /// too little was said.
    pub(super) fn stretch(&self, least: usize) -> Vec<i16> {
        let Some(period) = self.period().filter(|_| self.made.is_none()) else { return Vec::new() };
        let count = least.div_ceil(period.len().max(1)) * period.len();
        period.into_iter().cycle().take(count).collect()
    }

    /// Leaves up to so many samples out of what is said.
    pub(super) fn shorten(&self, sound: &[i16], most: usize) -> Vec<i16> {
        let compared = LOUD_MS * self.per_ms;
        let begin = sound.get(..compared).unwrap_or_default();
        let lag = self.lags().filter_map(|lag| Some((lag, sound.get(lag..lag + compared)?)));
        let Some(lag) = most_alike(begin, lag) else { return sound.to_vec() };
        let left_out = most / lag.max(1) * lag;
        let Some(rest) = sound.get(left_out..).filter(|rest| rest.len() >= compared) else { return sound.to_vec() };
        let mut shorter = rest.to_vec();
        for (at, (sample, before)) in shorter.iter_mut().zip(begin).enumerate() {
            *sample = faded(*before, *sample, at + 1, compared + 1);
        }
        shorter
    }

    /// Remembers what was said, or made up by a codec itself.
    pub(super) fn remember(&mut self, sound: &[i16]) {
        self.history.extend_from_slice(sound);
        let surplus = self.history.len().saturating_sub(HISTORY_MS * self.per_ms);
        self.history.drain(..surplus);
    }

    fn lags(&self) -> impl Iterator<Item = usize> + use<> {
        SHORTEST_MS * self.per_ms..=LONGEST_MS * self.per_ms
    }

    /// The last period of what was said, of which the end fits before its beginning; `None` as long as too little was.
    fn period(&self) -> Option<Vec<i16>> {
        let compared = COMPARED_MS * self.per_ms;
        let begin = self.history.len().checked_sub(compared)?;
        let recent = self.history.get(begin..)?;
        let earlier = |lag: usize| self.history.get(begin.checked_sub(lag)?..)?.get(..compared);
        let lag = most_alike(recent, self.lags().filter_map(|lag| Some((lag, earlier(lag)?))))?;
        let from = self.history.len().checked_sub(lag)?;
        let mut period = self.history.get(from..)?.to_vec();
        let overlap = lag / 4;
        let before = self.history.get(from.checked_sub(overlap)?..from)?;
        for (at, (sample, before)) in period.iter_mut().skip(lag - overlap).zip(before).enumerate() {
            *sample = faded(*sample, *before, at + 1, overlap + 1);
        }
        Some(period)
    }
}

/// Which of some pieces, each with its lag, is most alike to one; the longest lag where none is. `None` where there is none.
fn most_alike<'a>(piece: &[i16], others: impl Iterator<Item = (usize, &'a [i16])>) -> Option<usize> {
    let mut best: Option<(usize, i128, i128)> = None;
    for (lag, other) in others {
        let product = |(one, other): (&i16, &i16)| i64::from(*one) * i64::from(*other);
        let common = i128::from(piece.iter().zip(other).map(product).sum::<i64>().max(0));
        let power = i128::from(other.iter().map(|sample| i64::from(*sample) * i64::from(*sample)).sum::<i64>().max(1));
        // The square of the cosine between them, as a fraction.
        let is_better = best.is_none_or(|(_, square, of)| {
            let (ours, theirs) = (common * common * of, square * power);
            ours > theirs || (common == 0 && square == 0)
        });
        if is_better {
            best = Some((lag, common * common, power));
        }
    }
    best.map(|(lag, _, _)| lag)
}

/// Between two samples: so many of so many parts are the other one's.
fn faded(one: i16, other: i16, part: usize, of: usize) -> i16 {
    let (part, of) = (i64::try_from(part).unwrap_or_default(), i64::try_from(of).unwrap_or(1).max(1));
    let sample = (i64::from(one) * (of - part) + i64::from(other) * part) / of;
    i16::try_from(sample).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const RATE: u32 = 8000;

    #[allow(clippy::cast_possible_truncation)]
    fn tone(hz: f64, samples: std::ops::Range<u32>) -> Vec<i16> {
        let step = std::f64::consts::TAU * hz / f64::from(RATE);
        samples.map(|at| (8000.0 * (f64::from(at) * step).sin()) as i16).collect()
    }

    /// How far one sound is from another, to the loudness of the tone.
    fn distance(one: &[i16], other: &[i16]) -> f64 {
        assert_eq!(one.len(), other.len());
        let square = |(one, other): (&i16, &i16)| (f64::from(*one) - f64::from(*other)).powi(2);
        let sum: f64 = one.iter().zip(other).map(square).sum();
        (sum / f64::from(u32::try_from(one.len()).unwrap())).sqrt() / 5657.0
    }

    #[test]
    fn a_tone_goes_on_where_a_packet_is_missing_and_fades_when_more_are() {
        for hz in [125.0, 310.0, 440.0, 1000.0] {
            let mut shape = Shape::new(RATE);
            shape.hear(tone(hz, 0..800));
            let made = shape.conceal(80);
            assert!(distance(&made, &tone(hz, 800..880)) < 0.15, "{hz}: {}", distance(&made, &tone(hz, 800..880)));
            shape.conceal(80);
            let after = shape.hear(tone(hz, 960..1120));
            assert!(distance(&after, &tone(hz, 960..1120)) < 0.15, "{hz}");
            for _ in 0..6 {
                shape.conceal(80);
            }
            assert_eq!(shape.conceal(80), [0; 80], "nobody speaks for ever");
        }
    }

    #[test]
    fn a_tone_that_is_stretched_or_shortened_keeps_its_phase() {
        for hz in [125.0, 440.0, 1000.0] {
            let mut shape = Shape::new(RATE);
            shape.hear(tone(hz, 0..800));
            let longer = [tone(hz, 640..800), shape.stretch(160), tone(hz, 800..960)].concat();
            let shorter = shape.shorten(&tone(hz, 0..320), 160);
            assert!(
                (480..600).contains(&longer.len()) && shorter.len() < 240,
                "{hz}: {} {}",
                longer.len(),
                shorter.len()
            );
            for (sound, begin) in [(longer, 640), (shorter, 0)] {
                let expected = tone(hz, begin..begin + u32::try_from(sound.len()).unwrap());
                assert!(distance(&sound, &expected) < 0.2, "{hz}: {}", distance(&sound, &expected));
            }
        }
    }

    #[test]
    fn what_is_short_or_silent_is_no_trouble() {
        let mut shape = Shape::new(RATE);
        assert_eq!((shape.conceal(160), shape.stretch(160)), (vec![0; 160], Vec::new()));
        assert_eq!(shape.shorten(&[1, 2, 3], 160), [1, 2, 3]);
        shape.hear(vec![0; 400]);
        assert_eq!(shape.conceal(160), [0; 160]);
        shape.hear(vec![i16::MIN; 400]);
        assert!(shape.conceal(160).iter().all(|sample| *sample < 0));
        assert!(shape.hear(vec![]).is_empty() && shape.shorten(&[i16::MAX; 320], 160).len() < 320);
    }
}
