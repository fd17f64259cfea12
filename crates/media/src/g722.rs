//! G.722 (ITU-T G.722) at 64 kbit/s: 16,000 samples a second in two bands, four bits a sample.
//!
//! The names of the blocks and variables are those of the Recommendation (§3, §4), whose arithmetic of 16 bits this follows.

/// How many samples a byte stands for.
pub const SAMPLES_A_BYTE: usize = 2;

const QM2: [i32; 4] = [-7408, -1616, 7408, 1616];
const QM4: [i32; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
const QM6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360, -8576,
    -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688, -1360, -1040,
    -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456,
    4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
const Q6: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219, 1339,
    1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
const WL: [i32; 8] = [-60, -30, 58, 172, 334, 538, 1198, 3042];
const RL42: [usize; 16] = [0, 7, 6, 5, 4, 3, 2, 1, 7, 6, 5, 4, 3, 2, 1, 0];
const ILB: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896, 2960, 3025,
    3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];
const WH: [i32; 3] = [0, -214, 798];
const RH2: [usize; 4] = [2, 1, 2, 1];
/// The halves of the symmetric filter that splits the band and joins it again.
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// From sound to bytes.
#[derive(Debug, Clone)]
pub struct Encoder {
    history: [i32; 24],
    low: Band,
    high: Band,
}

/// From bytes to sound.
#[derive(Debug, Clone)]
pub struct Decoder {
    history: [i32; 24],
    low: Band,
    high: Band,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder { history: [0; 24], low: Band::new(32), high: Band::new(8) }
    }
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { history: [0; 24], low: Band::new(32), high: Band::new(8) }
    }
}

impl Encoder {
    /// Takes samples, two by two.
    pub fn encode(&mut self, samples: &[i16]) -> Vec<u8> {
        samples.as_chunks::<SAMPLES_A_BYTE>().0.iter().map(|pair| self.encode_pair(*pair)).collect()
    }

    fn encode_pair(&mut self, pair: [i16; 2]) -> u8 {
        let (even, odd) = filtered(&mut self.history, pair.map(i32::from));
        let (low, high) = ((odd + even) >> 14, (odd - even) >> 14);

        let error = saturated(low - self.low.s);
        let magnitude = if error >= 0 { error } else { !error };
        let level = Q6.iter().take_while(|level| magnitude >= (**level * self.low.det) >> 12).count();
        // The codes count down from the largest; the two nearest to zero of either sign stand apart.
        let level_code = i32::try_from(level).unwrap_or_default();
        let low_code = match (error < 0, level) {
            (true, 0 | 1) => 63 - level_code,
            (true, _) => 33 - level_code,
            (false, _) => 61 - level_code,
        };
        self.low.adapt_low(low_code >> 2);

        let error = saturated(high - self.high.s);
        let magnitude = if error >= 0 { error } else { !error };
        let is_large = magnitude >= (564 * self.high.det) >> 12;
        let high_code = match (error < 0, is_large) {
            (true, false) => 1,
            (true, true) => 0,
            (false, false) => 3,
            (false, true) => 2,
        };
        self.high.adapt_high(high_code);
        u8::try_from(high_code << 6 | low_code).unwrap_or_default()
    }
}

impl Decoder {
    /// Takes bytes.
    pub fn decode(&mut self, codes: &[u8]) -> Vec<i16> {
        codes.iter().flat_map(|code| self.decode_pair(i32::from(*code))).collect()
    }

    fn decode_pair(&mut self, code: i32) -> [i16; 2] {
        let (low_code, high_code) = (code & 0x3f, code >> 6);
        let low = within(self.low.s + ((self.low.det * at(&QM6, low_code)) >> 15));
        self.low.adapt_low(low_code >> 2);
        let high = within(self.high.s + ((self.high.det * at(&QM2, high_code)) >> 15));
        self.high.adapt_high(high_code);
        let (even, odd) = filtered(&mut self.history, [low + high, low - high]);
        [odd, even].map(|sum| i16::try_from(saturated(sum >> 11)).unwrap_or_default())
    }
}

/// Puts two samples into the filter; returns the sums over its even and its odd places.
fn filtered(history: &mut [i32; 24], [first, second]: [i32; 2]) -> (i32, i32) {
    history.copy_within(2.., 0);
    let [.., one, two] = history;
    (*one, *two) = (first, second);
    let pairs = history.as_chunks::<2>().0;
    let even = pairs.iter().zip(QMF).map(|([even, _], weight)| even * weight).sum();
    let odd = pairs.iter().zip(QMF.iter().rev()).map(|([_, odd], weight)| odd * weight).sum();
    (even, odd)
}

/// The predictor and the quantizer of one band.
#[derive(Debug, Clone)]
struct Band {
    s: i32,
    sz: i32,
    r: [i32; 3],
    p: [i32; 3],
    a: [i32; 2],
    b: [i32; 6],
    /// The last differences, newest first.
    d: [i32; 7],
    nb: i32,
    det: i32,
}

impl Band {
    fn new(det: i32) -> Band {
        Band { s: 0, sz: 0, r: [0; 3], p: [0; 3], a: [0; 2], b: [0; 6], d: [0; 7], nb: 0, det }
    }

    fn adapt_low(&mut self, code: i32) {
        let difference = (self.det * at(&QM4, code)) >> 15;
        let step = at(&WL, i32::try_from(at(&RL42, code)).unwrap_or_default());
        self.nb = (((self.nb * 127) >> 7) + step).clamp(0, 18_432);
        self.det = self.scale(8);
        self.predict(difference);
    }

    fn adapt_high(&mut self, code: i32) {
        let difference = (self.det * at(&QM2, code)) >> 15;
        let step = at(&WH, i32::try_from(at(&RH2, code)).unwrap_or_default());
        self.nb = (((self.nb * 127) >> 7) + step).clamp(0, 22_528);
        self.det = self.scale(10);
        self.predict(difference);
    }

    /// SCALEL and SCALEH.
    fn scale(&self, highest: i32) -> i32 {
        let (step, shift) = (at(&ILB, (self.nb >> 6) & 31), highest - (self.nb >> 11));
        (if shift < 0 { step << -shift } else { step >> shift }) << 2
    }

    /// Block 4: the next prediction, from the difference of this sample.
    fn predict(&mut self, difference: i32) {
        let [_, r1, r2] = &mut self.r;
        let [_, p1, p2] = self.p;
        let [a1, a2] = self.a;
        let reconstructed = saturated(self.s + difference);
        let partial = saturated(self.sz + difference);
        let same = |one: i32, other: i32| (one < 0) == (other < 0);

        // UPPOL2 and UPPOL1.
        let slope = saturated(a1 << 2);
        let turn = (if same(partial, p1) { -slope } else { slope }).min(32_767);
        let push = if same(partial, p2) { 128 } else { -128 };
        let second = (push + (turn >> 7) + ((a2 * 32_512) >> 15)).clamp(-12_288, 12_288);
        let push = if same(partial, p1) { 192 } else { -192 };
        let limit = saturated(15_360 - second);
        let first = saturated(push + ((a1 * 32_640) >> 15)).clamp(-limit, limit);

        // UPZERO, with the differences as they were before.
        let push = if difference == 0 { 0 } else { 128 };
        let [_, old @ ..] = shifted(&self.d, difference);
        for (weight, before) in self.b.iter_mut().zip(old) {
            let step = if same(before, difference) { push } else { -push };
            *weight = saturated(step + ((*weight * 32_640) >> 15));
        }
        self.d = shifted(&self.d, difference);

        // FILTEP and FILTEZ.
        (*r2, *r1) = (*r1, reconstructed);
        self.p = [partial, partial, p1];
        self.a = [first, second];
        let poles = saturated(((first * saturated(*r1 + *r1)) >> 15) + ((second * saturated(*r2 + *r2)) >> 15));
        let zeros = self.b.iter().zip(self.d).map(|(weight, before)| (weight * saturated(before + before)) >> 15);
        self.sz = saturated(zeros.sum());
        self.s = saturated(poles + self.sz);
    }
}

fn shifted(differences: &[i32; 7], newest: i32) -> [i32; 7] {
    let [d0, d1, d2, d3, d4, d5, _] = *differences;
    [newest, d0, d1, d2, d3, d4, d5]
}

fn at<T: Copy + Default>(table: &[T], index: i32) -> T {
    usize::try_from(index).ok().and_then(|index| table.get(index)).copied().unwrap_or_default()
}

fn saturated(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

/// The limits of a band's sound.
fn within(value: i32) -> i32 {
    value.clamp(-16_384, 16_383)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_tone_of_either_band_comes_back_as_it_was() {
        for hz in [440.0_f32, 3000.0, 5500.0] {
            let step = std::f32::consts::TAU * hz / 16_000.0;
            let tone: Vec<i16> = (0..16_000_u16).map(|n| ((f32::from(n) * step).sin() * 8000.0) as i16).collect();
            let back = Decoder::default().decode(&Encoder::default().encode(&tone));
            assert_eq!(back.len(), tone.len());
            // The filters delay by 22 samples.
            let off = |n: usize| f64::from(back[n + 22]) - f64::from(tone[n]);
            let noise: f64 = (4000..12_000).map(|n| off(n).powi(2)).sum::<f64>() / 8000.0;
            let signal = 8000.0_f64.powi(2) / 2.0;
            assert!(10.0 * (signal / noise).log10() > 20.0, "{hz} Hz: {} dB", 10.0 * (signal / noise).log10());
        }
    }

    /// A sweep over both bands with noise in it, by integers alone.
    fn sweep() -> Vec<i16> {
        let (mut phase, mut step, mut noise) = (0_i32, 200, 12_345_u32);
        let samples = (0..32_000).map(|n| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            phase = (phase + step) & 0xffff;
            step = 200 + n / 2;
            let triangle = if phase < 32_768 { phase } else { 65_535 - phase };
            ((triangle - 16_384) * 3).div_euclid(4) + ((noise >> 16) & 0xff) as i32 - 128
        });
        samples.map(|sample| i16::try_from(sample).unwrap()).collect()
    }

    /// Fowler, Noll and Vo's hash of 32 bits (FNV-1a).
    fn hash(bytes: impl IntoIterator<Item = u8>) -> u32 {
        bytes.into_iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }

    #[test]
    fn what_is_coded_and_decoded_is_bit_by_bit_that_of_another_implementation() {
        // Debian's libspandsp2 0.0.6+dfsg-2 (g722_encode and g722_decode, 64 kbit/s), asked on 2026-12-01.
        let coded = Encoder::default().encode(&sweep());
        assert_eq!(coded[..8], [0x2e, 0x84, 0x20, 0x84, 0x20, 0x84, 0x04, 0x8a]);
        assert_eq!((coded.len(), hash(coded.iter().copied())), (16_000, 0x07f0_8970));
        let sound = Decoder::default().decode(&coded);
        assert_eq!((sound.len(), hash(sound.iter().flat_map(|sample| sample.to_le_bytes()))), (32_000, 0xdd02_2aeb));
    }

    #[test]
    fn any_bytes_are_sound() {
        let bytes: Vec<u8> = (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert_eq!(Decoder::default().decode(&bytes).len(), 40_000);
        let loud: Vec<i16> = (0..2000).map(|n| if n / 3 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        assert_eq!(Encoder::default().encode(&loud).len(), 1000);
    }
}
