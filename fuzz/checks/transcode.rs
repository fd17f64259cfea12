//! What holds for any packets of a stream that is converted: a length stands before each, the first byte says between which codecs.

use std::time::{Duration, Instant};

use meshtone_media::codec::Codec;
use meshtone_media::echo::Start;
use meshtone_media::rtp::Packet;
use meshtone_media::transcode::{Speech, Transcoder};

const CODECS: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];

/// Converts the packets.
pub(crate) fn check(data: &[u8]) {
    let Some((pair, mut rest)) = data.split_first() else { return };
    let speech = |codec: Codec, payload_type| Speech { codec, payload_type, events: Some((payload_type + 1, 8000)) };
    let from = CODECS[usize::from(*pair) % 4];
    let to = CODECS[usize::from(*pair) / 4 % 4];
    let numbers = Start { ssrc: 7, sequence_number: 65_000, timestamp: u32::MAX };
    let Some(mut transcoder) = Transcoder::new(speech(from, 0), speech(to, 96), numbers) else { return };
    let (start, mut number, mut packets) = (Instant::now(), 65_000_u16, 0);
    while let Some((len, behind)) = rest.split_first() {
        let (datagram, behind) = behind.split_at(behind.len().min(usize::from(*len)));
        rest = behind;
        packets += 1;
        let now = start + Duration::from_millis(20) * packets;
        let at_once = transcoder.handle_input(now, datagram);
        for left in at_once.into_iter().chain(transcoder.handle_timeout(now)) {
            let left = Packet::parse(&left).expect("ours");
            assert!(left.ssrc == 7 && left.sequence_number == number && matches!(left.payload_type, 96 | 97));
            assert!(left.payload.len() <= 400);
            number = number.wrapping_add(1);
        }
    }
}
