//! RTCP (RFC 3550 §6): reading what reports say. Reports are passed on as they are, so nothing here writes any.

use crate::rtp::VERSION;

/// Packets looked at in a compound one; senders put two to five into it.
const MAX_PACKETS: usize = 16;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;

/// What a report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// When a sender sent it, in its own time: the middle 32 bits of an NTP timestamp.
    Sender {
        /// That time.
        sent: u32,
    },
    /// What a receiver has heard of a source.
    Receiver(Block),
}

/// A report block (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The source.
    pub ssrc: u32,
    /// Packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Interarrival jitter in units of the source's clock.
    pub jitter: u32,
    /// The time of the newest sender report, as [`Report::Sender`] has it; 0 without one.
    pub last_sender_report: u32,
    /// How long ago that came, in units of 1/65536 s.
    pub delay: u32,
}

/// Reads a compound packet; `None` where that is malformed. The first must be a report (RFC 3550 A.2), or with reduced size
/// (RFC 5506) anything.
pub fn reports(datagram: &[u8]) -> Option<Vec<Report>> {
    let mut found = Vec::new();
    let mut rest = datagram;
    for _ in 0..MAX_PACKETS {
        if rest.is_empty() {
            return Some(found);
        }
        let [first, kind, high, low] = *rest.first_chunk::<4>()?;
        if first >> 6 != VERSION {
            return None;
        }
        let len = 4 + usize::from(u16::from_be_bytes([high, low])) * 4;
        let (packet, behind) = rest.split_at_checked(len)?;
        let blocks = match kind {
            SENDER_REPORT => {
                let [_, _, s0, s1, s2, s3, _, _] = *packet.get(8..)?.first_chunk::<8>()?;
                found.push(Report::Sender { sent: u32::from_be_bytes([s0, s1, s2, s3]) });
                packet.get(28..)?
            }
            RECEIVER_REPORT => packet.get(8..)?,
            _ => &[],
        };
        let (blocks, _) = blocks.as_chunks::<24>();
        found.extend(blocks.iter().take(usize::from(first & 0x1f)).map(|block| Report::Receiver(read_block(block))));
        rest = behind;
    }
    Some(found)
}

fn read_block(block: &[u8; 24]) -> Block {
    let (words, _) = block.as_chunks::<4>();
    let word = |at: usize| words.get(at).map_or(0, |word| u32::from_be_bytes(*word));
    let [fraction_lost, ..] = word(1).to_be_bytes();
    Block { ssrc: word(0), fraction_lost, jitter: word(3), last_sender_report: word(4), delay: word(5) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn reports_of_both_kinds_are_read() {
        let sender =
            words(&[0x81c8_000c, 7, 0xaaaa_1111, 0x2222_bbbb, 1, 2, 3, 9, 0x4000_0005, 6, 80, 0x3333_4444, 65_536]);
        let description = words(&[0x81ca_0002, 7, 0]);
        let found = reports(&[sender, description].concat()).unwrap();
        let block = Block { ssrc: 9, fraction_lost: 0x40, jitter: 80, last_sender_report: 0x3333_4444, delay: 65_536 };
        assert_eq!(found, [Report::Sender { sent: 0x1111_2222 }, Report::Receiver(block)]);
        assert_eq!(reports(&words(&[0x80c9_0001, 7])), Some(Vec::new()));
    }

    #[test]
    fn lengths_beyond_the_datagram_are_refused() {
        let whole = words(&[0x81c9_0007, 7, 9, 0, 0, 0, 0, 0]);
        assert!(reports(&whole).is_some());
        for len in 1..whole.len() {
            assert_eq!(reports(&whole[..len]), None, "{len}");
        }
        assert_eq!(reports(&words(&[0x80c8_0001, 7])), None, "a sender report without its numbers");
        assert_eq!(reports(&words(&[0x01c9_0001, 7])), None, "another version");
    }
}
