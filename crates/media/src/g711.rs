//! G.711 (ITU-T G.711): 8000 samples a second, eight bits each, in µ-law and in A-law.

/// Added before the logarithm is taken, so that each segment begins at a power of two.
const BIAS: i32 = 0x84;

/// The largest magnitude that µ-law has a code for.
const CLIP: i32 = 32_635;

/// One sample in µ-law.
pub fn to_ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(CLIP) + BIAS;
    let segment = magnitude.ilog2().saturating_sub(7);
    let step = (magnitude >> (segment + 3)) & 0x0f;
    !(sign | low_byte(segment) << 4 | low_byte(step.unsigned_abs()))
}

/// One sample of µ-law.
pub fn from_ulaw(code: u8) -> i16 {
    let code = !code;
    let (segment, step) = (code >> 4 & 0x07, i32::from(code & 0x0f));
    let magnitude = (((step << 3) + BIAS) << segment) - BIAS;
    clamped(if code & 0x80 != 0 { -magnitude } else { magnitude })
}

/// One sample in A-law.
pub fn to_alaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0 } else { 0x80 };
    // The codes of both signs are alike, and −1 is the first negative one.
    let magnitude = u32::from(if sample < 0 { !sample } else { sample }.unsigned_abs());
    let code = match magnitude.ilog2_or_zero() {
        ..8 => magnitude >> 4,
        top => (top - 7) << 4 | (magnitude >> (top - 4) & 0x0f),
    };
    (low_byte(code) | sign) ^ 0x55
}

/// One sample of A-law.
pub fn from_alaw(code: u8) -> i16 {
    let code = code ^ 0x55;
    let (segment, step) = (code >> 4 & 0x07, i32::from(code & 0x0f));
    let magnitude = match segment {
        0 => (step << 4) + 8,
        1.. => ((step << 4) + 0x108) << (segment - 1),
    };
    clamped(if code & 0x80 != 0 { magnitude } else { -magnitude })
}

/// What is below 256 anyway.
fn low_byte(value: u32) -> u8 {
    let [.., low] = value.to_be_bytes();
    low
}

fn clamped(sample: i32) -> i16 {
    i16::try_from(sample).unwrap_or(if sample < 0 { i16::MIN } else { i16::MAX })
}

trait Log {
    fn ilog2_or_zero(self) -> u32;
}

impl Log for u32 {
    fn ilog2_or_zero(self) -> u32 {
        self.checked_ilog2().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_and_the_middle_of_the_tables_are_met() {
        // G.711 tables 1a to 2b, scaled to 16 bits.
        assert_eq!([to_ulaw(0), to_ulaw(-1), to_ulaw(32_767), to_ulaw(-32_768)], [0xff, 0x7f, 0x80, 0x00]);
        assert_eq!([from_ulaw(0xff), from_ulaw(0x80), from_ulaw(0x00)], [0, 32_124, -32_124]);
        assert_eq!([to_alaw(0), to_alaw(-1), to_alaw(32_767), to_alaw(-32_768)], [0xd5, 0x55, 0xaa, 0x2a]);
        assert_eq!([from_alaw(0xd5), from_alaw(0xaa), from_alaw(0x2a)], [8, 32_256, -32_256]);
    }

    #[test]
    fn every_code_is_the_code_of_what_it_stands_for() {
        for code in 0..=u8::MAX {
            // Negative zero is written as zero.
            assert!(to_ulaw(from_ulaw(code)) == code || code == 0x7f, "{code:x}");
            assert_eq!(to_alaw(from_alaw(code)), code, "{code:x}");
        }
    }

    #[test]
    fn what_is_lost_is_a_thirtieth_at_most() {
        for sample in (i16::MIN..=i16::MAX).step_by(7) {
            let most = i32::from(sample).abs() / 30 + 16;
            for back in [from_ulaw(to_ulaw(sample)), from_alaw(to_alaw(sample))] {
                assert!((i32::from(back) - i32::from(sample)).abs() <= most.max(645), "{sample}: {back}");
            }
        }
    }
}
