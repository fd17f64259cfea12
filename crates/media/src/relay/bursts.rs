//! Losses as bursts and gaps, by the counters of RFC 3611 Appendix A.2: a burst is where no [`GMIN`] packets in a row arrive.

/// As the RFC recommends (§4.7.2).
pub(super) const GMIN: u8 = 16;

/// What is counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bursts {
    /// Packets since the last loss.
    since: u32,
    /// Losses in the burst that goes on.
    in_burst: u32,
    c11: u64,
    c13: u64,
    c14: u64,
    c22: u64,
    c23: u64,
    c33: u64,
}

/// How dense losses are, in 256ths, and how long bursts and gaps last, in packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shape {
    pub(super) burst_density: u8,
    pub(super) gap_density: u8,
    pub(super) burst_packets: u64,
    pub(super) gap_packets: u64,
}

impl Bursts {
    pub(super) fn arrived(&mut self) {
        self.since = self.since.saturating_add(1);
    }

    pub(super) fn lost(&mut self) {
        if self.since >= u32::from(GMIN) {
            if self.in_burst == 1 {
                self.c14 += 1
            } else {
                self.c13 += 1
            }
            self.in_burst = 1;
            self.c11 += u64::from(self.since);
        } else {
            self.in_burst = self.in_burst.saturating_add(1);
            if self.since == 0 {
                self.c33 += 1;
            } else {
                self.c23 += 1;
                self.c22 += u64::from(self.since - 1);
            }
        }
        self.since = 0;
    }

    pub(super) fn shape(&self) -> Shape {
        let c11 = self.c11 + u64::from(self.since);
        let Bursts { c13, c14, c22, c23, c33, .. } = *self;
        let (c31, c32) = (c13, c23);
        let total = c11 + c14 + c13 + c22 + c23 + c31 + c32 + c33;
        let share = |part: u64, of: u64| if of == 0 { 0.0 } else { float(part) / float(of) };
        let p32 = share(c32, c31 + c32 + c33);
        let p23 = if c22 + c23 == 0 { 1.0 } else { 1.0 - share(c22, c22 + c23) };
        let has_bursts = c23 + c33 > 0;
        let burst_density = if has_bursts && p23 + p32 > 0.0 { p23 / (p23 + p32) } else { 0.0 };
        let gap = c11 + c14 + c13;
        let (gap_packets, burst_packets) = match c13 {
            0 => (gap, 0),
            bursts => (gap / bursts, (total / bursts).saturating_sub(gap / bursts)),
        };
        Shape {
            burst_density: in_256ths(burst_density),
            gap_density: in_256ths(share(c14, c11 + c14)),
            burst_packets: if has_bursts { burst_packets } else { 0 },
            gap_packets,
        }
    }
}

/// A share as RFC 3611 writes it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
pub(super) fn in_256ths(share: f64) -> u8 {
    (share * 256.0).clamp(0.0, 255.0) as u8
}

fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(lost: impl Fn(u32) -> bool) -> Shape {
        let mut bursts = Bursts::default();
        for number in 0..1000 {
            if lost(number) { bursts.lost() } else { bursts.arrived() }
        }
        bursts.shape()
    }

    #[test]
    fn single_losses_are_of_the_gap_and_dense_ones_are_bursts() {
        assert_eq!(shape(|_| false), Shape { gap_packets: 1000, ..Shape::default() });
        let sparse = shape(|number| number % 50 == 30);
        assert!((4..=6).contains(&sparse.gap_density) && sparse.burst_density == 0, "{sparse:?}");
        // Every second packet of 20 in each 200.
        let dense = shape(|number| number % 200 < 20 && number % 2 == 0);
        assert!((100..=160).contains(&dense.burst_density), "{dense:?}");
        assert!((10..=40).contains(&dense.burst_packets) && dense.gap_packets > 100, "{dense:?}");
    }
}
