//! RTCP (RFC 3550 §6): reading what reports say, extended ones (RFC 3611) as well, and writing those of the node where media ends at it. Where
//! it only passes, reports are passed on as they are.

use crate::rtp::VERSION;

/// Packets looked at in a compound one; senders put two to five into it.
const MAX_PACKETS: usize = 16;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const EXTENDED_REPORT: u8 = 207;

/// Blocks looked at in an extended report; phones send one or two.
const MAX_EXTENDED_BLOCKS: usize = 8;

/// The type of a block with VoIP metrics (RFC 3611 §4.7), and its length without its first word.
const VOIP_METRICS: u8 = 7;
const VOIP_METRICS_LEN: usize = 32;

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
    /// How a call sounds to a receiver, as its jitter buffer sees it.
    Voip(VoipMetrics),
}

/// What is used of a block with VoIP metrics (RFC 3611 §4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoipMetrics {
    /// The source.
    pub ssrc: u32,
    /// Packets that did not come, since the beginning, in 256ths.
    pub loss_rate: u8,
    /// Packets that came too late or too early to be played, in 256ths.
    pub discard_rate: u8,
    /// The time there and back between the two who exchange reports, in ms; 0 where it is not known.
    pub round_trip_ms: u16,
    /// What the receiver's own delay adds, in ms.
    pub end_system_delay_ms: u16,
    /// Its mean opinion score of conversation, in tenths; `None` where it has none.
    pub mean_opinion: Option<u8>,
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

/// What a sender says of itself (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// It.
    pub ssrc: u32,
    /// Now, in units of 2⁻³² s of a clock of its own (the RFC lets it begin anywhere).
    pub ntp: u64,
    /// The same in its stream's clock.
    pub timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Bytes of payload in them.
    pub octets: u32,
}

/// What is reported of a source besides a [`Block`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    /// The block.
    pub block: Block,
    /// Packets lost since the beginning.
    pub lost: u32,
    /// The highest sequence number, with how often it rolled over above it.
    pub highest: u32,
}

/// Everything that a block with VoIP metrics says (RFC 3611 §4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoipReport {
    /// What is read back of it.
    pub metrics: VoipMetrics,
    /// How dense losses are in bursts and in gaps, in 256ths.
    pub densities: [u8; 2],
    /// How long bursts and gaps last on average, in ms.
    pub durations_ms: [u16; 2],
    /// The threshold of a gap.
    pub gmin: u8,
    /// The rating R, 0 to 100.
    pub rating: u8,
    /// The mean opinion score of listening alone, in tenths.
    pub listening: u8,
    /// What the jitter buffer waits now, and at most, in ms.
    pub jitter_buffer_ms: [u16; 2],
}

/// Where nothing is measured (RFC 3611 §4.7.3).
const UNAVAILABLE: u8 = 127;

/// Losses are concealed in the usual way, and the jitter buffer adapts itself (RFC 3611 §4.7.6).
const RECEIVER_CONFIGURATION: u8 = 0b1111_0000;

/// Writes a compound packet: a report of a sender, or of a receiver where nothing was sent yet, who it is, and how what it hears sounds.
pub fn compound(sender: &SenderInfo, heard: Option<(&Reception, &VoipReport)>) -> Vec<u8> {
    let count = u8::from(heard.is_some());
    let mut text = Vec::new();
    let header = |text: &mut Vec<u8>, count: u8, kind: u8, words: u16| {
        text.extend([VERSION << 6 | count, kind]);
        text.extend(words.to_be_bytes());
        text.extend(sender.ssrc.to_be_bytes());
    };
    let words = 6 * u16::from(count);
    if sender.packets > 0 {
        header(&mut text, count, SENDER_REPORT, 6 + words);
        text.extend(sender.ntp.to_be_bytes());
        for field in [sender.timestamp, sender.packets, sender.octets] {
            text.extend(field.to_be_bytes());
        }
    } else {
        header(&mut text, count, RECEIVER_REPORT, 1 + words);
    }
    if let Some((Reception { block, lost, highest }, _)) = heard {
        text.extend(block.ssrc.to_be_bytes());
        let [_, lost @ ..] = (*lost).min(0x7f_ffff).to_be_bytes();
        text.push(block.fraction_lost);
        text.extend(lost);
        for field in [*highest, block.jitter, block.last_sender_report, block.delay] {
            text.extend(field.to_be_bytes());
        }
    }
    // A name that is this stream's alone (RFC 7022): eight letters, and zeros to the end of the word.
    header(&mut text, 1, SOURCE_DESCRIPTION, 4);
    text.extend([1, 8]);
    text.extend(format!("{:08x}", sender.ssrc).bytes());
    text.extend([0; 2]);
    if let Some((_, report)) = heard {
        header(&mut text, 0, EXTENDED_REPORT, 10);
        text.extend([VOIP_METRICS, 0, 0, 8]);
        write_voip(&mut text, report);
    }
    text
}

fn write_voip(text: &mut Vec<u8>, report: &VoipReport) {
    let metrics = &report.metrics;
    text.extend(metrics.ssrc.to_be_bytes());
    text.extend([metrics.loss_rate, metrics.discard_rate]);
    text.extend(report.densities);
    let [burst, gap] = report.durations_ms;
    for field in [burst, gap, metrics.round_trip_ms, metrics.end_system_delay_ms] {
        text.extend(field.to_be_bytes());
    }
    text.extend([UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, report.gmin]);
    text.extend([report.rating, UNAVAILABLE, report.listening, metrics.mean_opinion.unwrap_or(UNAVAILABLE)]);
    let [nominal, most] = report.jitter_buffer_ms;
    text.extend([RECEIVER_CONFIGURATION, 0]);
    for field in [nominal, most, most] {
        text.extend(field.to_be_bytes());
    }
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
            EXTENDED_REPORT => {
                found.extend(voip_metrics(packet.get(8..)?)?.into_iter().map(Report::Voip));
                &[]
            }
            _ => &[],
        };
        let (blocks, _) = blocks.as_chunks::<24>();
        found.extend(blocks.iter().take(usize::from(first & 0x1f)).map(|block| Report::Receiver(read_block(block))));
        rest = behind;
    }
    Some(found)
}

/// Reads the blocks of an extended report; those of other types are passed over.
fn voip_metrics(mut blocks: &[u8]) -> Option<Vec<VoipMetrics>> {
    let mut found = Vec::new();
    for _ in 0..MAX_EXTENDED_BLOCKS {
        let Some(([kind, _, high, low], rest)) = blocks.split_first_chunk::<4>() else { break };
        let (block, behind) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])) * 4)?;
        blocks = behind;
        if *kind == VOIP_METRICS {
            found.push(read_voip_metrics(block.first_chunk::<VOIP_METRICS_LEN>()?));
        }
    }
    Some(found)
}

fn read_voip_metrics(block: &[u8; VOIP_METRICS_LEN]) -> VoipMetrics {
    let [s0, s1, s2, s3, loss_rate, discard_rate, ..] = *block;
    let [.., r0, r1, e0, e1, _, _, _, _, _, _, listening, conversation, _, _, _, _, _, _, _, _] = *block;
    // From 10 to 50; 127 stands for "unavailable" (RFC 3611 §4.7.5).
    let mean_opinion = [conversation, listening].into_iter().find(|score| (10..=50).contains(score));
    VoipMetrics {
        ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
        loss_rate,
        discard_rate,
        round_trip_ms: u16::from_be_bytes([r0, r1]),
        end_system_delay_ms: u16::from_be_bytes([e0, e1]),
        mean_opinion,
    }
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
    fn how_a_call_sounds_to_a_phone_is_read_and_blocks_of_other_kinds_are_passed_over() {
        let other = [0x0400_0002, 1, 2];
        // The block of RFC 3611 §4.7: losses, bursts, delays, levels, scores, the jitter buffer.
        let voip = [0x0700_0008, 9, 0x0d08_0000, 0, 0x0050_001e, 0x7f7f_7f10, 0x5a7f_2826, 0xb000_0028, 0x0050_00a0];
        let packet = words(&[[0x80cf_000d, 7].as_slice(), &other, &voip].concat());
        let metrics = VoipMetrics {
            ssrc: 9,
            loss_rate: 13,
            discard_rate: 8,
            round_trip_ms: 80,
            end_system_delay_ms: 30,
            mean_opinion: Some(38),
        };
        assert_eq!(reports(&packet), Some(vec![Report::Voip(metrics)]));
        let unknown = words(&[0x80cf_000a, 7, 0x0700_0008, 9, 0, 0, 0, 0, 0x0000_7f7f, 0, 0]);
        let Some(Report::Voip(read)) = reports(&unknown).and_then(|found| found.first().copied()) else { panic!() };
        assert_eq!(read.mean_opinion, None);
        assert_eq!(reports(&words(&[0x80cf_0003, 7, 0x0700_0001, 9])), None, "too short for what it says it is");
        assert_eq!(reports(&words(&[0x80cf_0002, 7, 0x0400_0009])), None, "a block that reaches beyond its packet");
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

    #[test]
    fn what_is_written_is_read_as_it_was_meant() {
        let block = Block { ssrc: 9, fraction_lost: 13, jitter: 77, last_sender_report: 0x1234_5678, delay: 65_536 };
        let metrics = VoipMetrics {
            ssrc: 9,
            loss_rate: 12,
            discard_rate: 3,
            round_trip_ms: 80,
            end_system_delay_ms: 60,
            mean_opinion: Some(39),
        };
        let reception = Reception { block, lost: 20, highest: 0x1_0005 };
        let report = VoipReport {
            metrics,
            densities: [100, 5],
            durations_ms: [200, 3000],
            gmin: 16,
            rating: 80,
            listening: 41,
            jitter_buffer_ms: [40, 120],
        };
        let mut sender = SenderInfo { ssrc: 7, ntp: 0x1_2345_6789_abcd, timestamp: 99, packets: 3, octets: 480 };
        let written = compound(&sender, Some((&reception, &report)));
        assert_eq!(written.len() % 4, 0);
        let sent = Report::Sender { sent: 0x2345_6789 };
        assert_eq!(reports(&written).unwrap(), [sent, Report::Receiver(block), Report::Voip(metrics)]);
        sender.packets = 0;
        let written = compound(&sender, Some((&reception, &report)));
        assert_eq!(reports(&written).unwrap(), [Report::Receiver(block), Report::Voip(metrics)]);
        assert_eq!(reports(&compound(&sender, None)).unwrap(), []);
    }
}
