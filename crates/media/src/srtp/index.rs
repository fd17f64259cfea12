//! Packet indices: sequence numbers with the rollovers that they do not say (RFC 3711 §3.3.1), and the replay window (§3.3.2).

use std::collections::BTreeMap;

use super::SrtpError;

/// How far behind the newest a packet may come: the least that RFC 3711 §3.3.2 asks for, more than a second of audio.
const WINDOW: u64 = 64;

/// Sources under one key. A call has one or two each way, and a new one with each music on hold; beyond are none that mean well.
/// None is ever forgotten, since its packets could be played again then.
const MAX_STREAMS: usize = 64;

/// Indices have 48 bits.
const MAX_INDEX: u64 = (1 << 48) - 1;

/// The index of a packet that is not known to be authentic yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Index(u64);

impl Index {
    pub(super) const fn value(self) -> u64 {
        self.0
    }
}

/// What was seen of each source.
#[derive(Debug, Default)]
pub(super) struct Streams(BTreeMap<u32, Seen>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    newest: u64,
    /// Bit n: the packet n before the newest has been here.
    before: u64,
}

impl Streams {
    /// The index that a packet of this sequence number has: the one nearest to the newest.
    pub(super) fn expect(&self, ssrc: u32, sequence_number: u16) -> Result<Index, SrtpError> {
        let number = u64::from(sequence_number);
        let index = match self.0.get(&ssrc) {
            None => number,
            Some(seen) => {
                let base = seen.newest & !0xffff;
                let same = base | number;
                match seen.newest.abs_diff(same) > 0x8000 {
                    false => same,
                    true if same < seen.newest => same + 0x1_0000,
                    // Before the first rollover there is nothing that could be meant.
                    true => same.checked_sub(0x1_0000).ok_or(SrtpError::Replayed)?,
                }
            }
        };
        self.expect_exactly(ssrc, index)
    }

    /// Checks an index that the packet itself names.
    pub(super) fn expect_exactly(&self, ssrc: u32, index: u64) -> Result<Index, SrtpError> {
        if index > MAX_INDEX {
            return Err(SrtpError::Exhausted);
        }
        match self.0.get(&ssrc) {
            None if self.0.len() >= MAX_STREAMS => Err(SrtpError::Exhausted),
            None => Ok(Index(index)),
            Some(seen) if index > seen.newest => Ok(Index(index)),
            Some(seen) => {
                let behind = seen.newest - index;
                let is_new = behind < WINDOW && seen.before & (1 << behind) == 0;
                is_new.then_some(Index(index)).ok_or(SrtpError::Replayed)
            }
        }
    }

    /// Remembers a packet that is authentic.
    pub(super) fn accept(&mut self, ssrc: u32, Index(index): Index) {
        let seen = self.0.entry(ssrc).or_insert(Seen { newest: index, before: 0 });
        if index > seen.newest {
            let ahead = index - seen.newest;
            seen.before = if ahead < WINDOW { seen.before << ahead } else { 0 };
            seen.newest = index;
        }
        seen.before |= 1_u64.checked_shl(u32::try_from(seen.newest - index).unwrap_or(u32::MAX)).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn take(streams: &mut Streams, number: u16) -> Result<u64, SrtpError> {
        let index = streams.expect(7, number)?;
        streams.accept(7, index);
        Ok(index.value())
    }

    #[test]
    fn rollovers_are_counted_and_late_packets_belong_before_them() {
        let mut streams = Streams::default();
        let numbers = [65_533, 65_535, 1, 65_534, 0, 3, 40_000, 10, 5];
        let indices: Vec<_> = numbers.into_iter().map(|number| take(&mut streams, number)).collect();
        let late = Err(SrtpError::Replayed);
        let turn = 0x1_0000;
        assert_eq!(
            indices,
            [
                Ok(65_533),
                Ok(65_535),
                Ok(turn + 1),
                Ok(65_534),
                Ok(turn),
                Ok(turn + 3),
                late,
                Ok(turn + 10),
                Ok(turn + 5)
            ],
            "40000 is nearer to what was before the rollover, and too old there"
        );
    }

    #[test]
    fn a_packet_is_taken_once() {
        let mut streams = Streams::default();
        for number in [100, 102, 101, 163] {
            assert!(take(&mut streams, number).is_ok());
            assert_eq!(take(&mut streams, number), Err(SrtpError::Replayed));
        }
        assert_eq!(take(&mut streams, 99), Err(SrtpError::Replayed), "too old to tell");
        assert_eq!(take(&mut streams, 103), Ok(103));
        assert_eq!(streams.expect(8, 100).map(Index::value), Ok(100), "another source is another stream");
    }

    #[test]
    fn what_is_not_accepted_leaves_no_trace() {
        let mut streams = Streams::default();
        take(&mut streams, 10).unwrap();
        streams.expect(7, 30_000).unwrap();
        assert_eq!(take(&mut streams, 11), Ok(11));
        for ssrc in 100..100 + u32::try_from(MAX_STREAMS).unwrap() {
            let Ok(index) = streams.expect(ssrc, 1) else { continue };
            streams.accept(ssrc, index);
        }
        assert_eq!(streams.expect(9999, 1), Err(SrtpError::Exhausted));
        assert_eq!(take(&mut streams, 12), Ok(12));
    }
}
