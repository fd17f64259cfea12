//! The seeded generator: SplitMix64 (Steele, Lea, Flood 2014). Small, and good enough for jitter and choices.

use meshtone_overlay::dht::Randomness;

/// Numbers that follow from a seed. Protects nothing.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// Makes a generator.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Returns a number below `bound`; 0 when the bound is.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(self.next().checked_rem(bound).unwrap_or_default()).unwrap_or_default()
    }
}

impl Randomness for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.next()
    }
}
