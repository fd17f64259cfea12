//! Sound as evidence: a sine tone goes in at one phone and must be what the other one recorded.
//!
//! A call counts as working only when the tone of the *other* side is heard. Frames of 250 ms are judged one by one: in
//! at least 70 % of those that are not silent the strongest frequency must lie within 3 % of the expected one. The
//! listener's own tone must be far below it, so that a loop-back cannot pass for a call.

use std::f64::consts::TAU;
use std::path::Path;

/// Alice's tone.
pub const ALICE_HZ: f64 = 440.0;
/// Bob's tone.
pub const BOB_HZ: f64 = 1000.0;
/// The tone of a third phone.
pub const CAROL_HZ: f64 = 700.0;

/// All judging happens at the rate of a telephone.
const RATE_HZ: u32 = 8_000;
const FRAME: usize = 2_000;
const VOICED_RMS: f64 = 0.01;
const NEEDED_SHARE: f64 = 0.7;
const NEEDED_VOICED_FRAMES: usize = 4;
const TOLERANCE: f64 = 0.03;
/// The listener's own tone may have at most this share of the wanted tone's power (-17 dB).
const LEAK_SHARE: f64 = 0.02;

/// The step and range of the frequencies tried for a frame's strongest one. 2,000 samples tell 4 Hz apart.
const SCAN_STEP_HZ: f64 = 4.0;
const SCAN_FROM_HZ: f64 = 100.0;
const SCAN_TO_HZ: f64 = 2_000.0;

/// Writes a WAV file of `seconds` with a sine of `hz` at 48 kHz, the rate that baresip's file source wants.
pub fn write_wav(path: &Path, hz: f64, seconds: u32) {
    const RATE: u32 = 48_000;
    write_samples(path, RATE, sine(hz, RATE, seconds));
}

/// Writes a WAV file of these samples.
pub fn write_samples(path: &Path, rate: u32, samples: impl IntoIterator<Item = i16>) {
    let spec =
        hound::WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(path, spec).expect("create a WAV file");
    for sample in samples {
        writer.write_sample(sample).expect("write a WAV file");
    }
    writer.finalize().expect("finish a WAV file");
}

/// Writes raw 8 kHz µ-law (G.711) with a sine of `hz`, which is what SIPp's `rtp_stream` plays.
pub fn write_mulaw(path: &Path, hz: f64, seconds: u32) {
    std::fs::write(path, mulaw_sine(hz, seconds)).expect("write a raw sound file");
}

/// Raw 8 kHz µ-law with a sine of `hz`.
pub fn mulaw_sine(hz: f64, seconds: u32) -> Vec<u8> {
    sine(hz, RATE_HZ, seconds).map(mulaw).collect()
}

fn sine(hz: f64, rate: u32, seconds: u32) -> impl Iterator<Item = i16> {
    (0..rate * seconds)
        .map(move |n| ((TAU * hz * f64::from(n) / f64::from(rate)).sin() * 0.5 * f64::from(i16::MAX)) as i16)
}

/// One sample in G.711 µ-law.
fn mulaw(sample: i16) -> u8 {
    const BIAS: i32 = 0x84;
    const CLIP: i32 = 32_635;
    let sign: u8 = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(CLIP) + BIAS;
    let exponent = (magnitude >> 7).ilog2();
    let mantissa = (magnitude >> (exponent + 3)) & 0x0F;
    !(sign | (exponent as u8) << 4 | mantissa as u8)
}

/// A sample that was one in G.711 µ-law.
pub fn mulaw_sample(byte: u8) -> i16 {
    const BIAS: i16 = 0x84;
    let code = !byte;
    let magnitude = ((i16::from(code & 0x0F) << 3) + BIAS) << ((code >> 4) & 0x07);
    if code & 0x80 == 0 { magnitude - BIAS } else { BIAS - magnitude }
}

/// What a recording holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Frames of 250 ms that were not silent.
    pub voiced_frames: usize,
    /// How many of them had the wanted tone as their strongest frequency.
    pub matching_frames: usize,
    /// The median of the frames' strongest frequencies.
    pub median_hz: f64,
    /// Power of the listener's own tone over that of the wanted one, over all voiced frames.
    pub leak_share: f64,
}

impl Heard {
    /// Whether the tone counts as heard.
    pub fn is_clear(&self) -> bool {
        self.voiced_frames >= NEEDED_VOICED_FRAMES
            && self.matching_frames as f64 >= NEEDED_SHARE * self.voiced_frames as f64
            && self.leak_share <= LEAK_SHARE
    }
}

/// Fails the test unless `wanted_hz` is what the recording at `path` holds, and `own_hz` (if given) is not.
#[track_caller]
pub fn assert_heard(who: &str, path: &Path, wanted_hz: f64, own_hz: Option<f64>) {
    let heard = listen(path, wanted_hz, own_hz);
    assert!(heard.is_clear(), "{who} should hear {wanted_hz} Hz, but {} holds {heard:?}", path.display());
}

/// Judges the recording at `path`.
pub fn listen(path: &Path, wanted_hz: f64, own_hz: Option<f64>) -> Heard {
    judge(&read_wav(path), wanted_hz, own_hz)
}

/// Whether the recording at `path` holds `wanted_hz`.
pub fn tone_heard(path: &Path, wanted_hz: f64) -> bool {
    listen(path, wanted_hz, None).is_clear()
}

fn judge(samples: &[f64], wanted_hz: f64, own_hz: Option<f64>) -> Heard {
    let voiced: Vec<Vec<f64>> =
        samples.chunks_exact(FRAME).filter(|frame| rms(frame) > VOICED_RMS).map(windowed).collect();
    let mut peaks: Vec<f64> = voiced.iter().map(|frame| strongest(frame)).collect();
    let matching = peaks.iter().filter(|peak| (**peak - wanted_hz).abs() <= (TOLERANCE * wanted_hz).max(15.0)).count();
    peaks.sort_by(f64::total_cmp);
    let total = |hz: f64| -> f64 { voiced.iter().map(|frame| power(frame, hz)).sum() };
    let leak = own_hz.map_or(0.0, |own| total(own) / total(wanted_hz).max(f64::MIN_POSITIVE));
    Heard {
        voiced_frames: voiced.len(),
        matching_frames: matching,
        median_hz: peaks.get(peaks.len() / 2).copied().unwrap_or(0.0),
        leak_share: leak,
    }
}

/// Reads a WAV file of any rate and brings its first channel to 8 kHz, averaging neighbours.
fn read_wav(path: &Path) -> Vec<f64> {
    let mut reader = hound::WavReader::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let spec = reader.spec();
    let channels = usize::from(spec.channels);
    let samples: Vec<f64> = reader
        .samples::<i16>()
        .step_by(channels)
        .map_while(Result::ok)
        .map(|sample| f64::from(sample) / 32_768.0)
        .collect();
    let factor = (spec.sample_rate / RATE_HZ).max(1) as usize;
    samples.chunks_exact(factor).map(|group| group.iter().sum::<f64>() / factor as f64).collect()
}

fn rms(frame: &[f64]) -> f64 {
    (frame.iter().map(|sample| sample * sample).sum::<f64>() / frame.len() as f64).sqrt()
}

/// The frame under a Hann window, so that a strong tone does not spill into its neighbours.
fn windowed(frame: &[f64]) -> Vec<f64> {
    let last = frame.len() as f64 - 1.0;
    frame.iter().enumerate().map(|(n, sample)| sample * (0.5 - 0.5 * (TAU * n as f64 / last).cos())).collect()
}

fn strongest(frame: &[f64]) -> f64 {
    let steps = ((SCAN_TO_HZ - SCAN_FROM_HZ) / SCAN_STEP_HZ) as u32;
    let candidates = (0..=steps).map(|n| SCAN_FROM_HZ + f64::from(n) * SCAN_STEP_HZ);
    let scored = candidates.map(|hz| (power(frame, hz), hz));
    scored.max_by(|one, other| one.0.total_cmp(&other.0)).map_or(0.0, |(_, hz)| hz)
}

/// Goertzel's algorithm: the power of one frequency.
fn power(frame: &[f64], hz: f64) -> f64 {
    let coefficient = 2.0 * (TAU * hz / f64::from(RATE_HZ)).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for sample in frame {
        let next = sample + coefficient * one - two;
        two = one;
        one = next;
    }
    one * one + two * two - coefficient * one * two
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(parts: &[(f64, f64)], seconds: usize) -> Vec<f64> {
        let at = |n: usize| parts.iter().map(|(hz, volume)| volume * (TAU * hz * n as f64 / 8_000.0).sin()).sum();
        (0..8_000 * seconds).map(at).collect()
    }

    #[test]
    fn a_tone_is_heard_as_itself_and_as_no_other() {
        let samples = tone(&[(440.0, 0.5)], 2);
        assert!(judge(&samples, 440.0, Some(1000.0)).is_clear());
        assert!(!judge(&samples, 1000.0, Some(440.0)).is_clear());
    }

    #[test]
    fn a_leaking_own_tone_spoils_the_verdict() {
        let samples = tone(&[(1000.0, 0.5), (440.0, 0.25)], 2);
        assert!(judge(&samples, 1000.0, None).is_clear());
        assert!(!judge(&samples, 1000.0, Some(440.0)).is_clear());
    }

    #[test]
    fn silence_and_a_mere_click_are_not_a_tone() {
        assert!(!judge(&vec![0.0; 16_000], 440.0, None).is_clear());
        let mut click = vec![0.0; 16_000];
        click.splice(0..2_000, tone(&[(440.0, 0.5)], 1).into_iter().take(2_000));
        assert!(!judge(&click, 440.0, None).is_clear());
    }

    #[test]
    fn a_written_file_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tone.wav");
        write_wav(&path, 440.0, 2);
        assert!(tone_heard(&path, 440.0));
    }

    #[test]
    fn mulaw_agrees_with_the_table_of_g711() {
        assert!((-120..120).all(|step| (mulaw_sample(mulaw(step * 256)) - step * 256).abs() <= 512));
        assert_eq!([mulaw(0), mulaw(-1), mulaw(32_767), mulaw(-32_768), mulaw(1_000)], [0xFF, 0x7F, 0x80, 0x00, 0xCE]);
    }
}
