//! Messages in a stream (RFC 8656 §3.1, §12.5): each says how long it is, ChannelData is padded to four bytes.

use super::{CHANNEL_HEADER_LEN, CHANNELS};
use crate::stun::{HEADER_LEN, MAGIC_COOKIE};

/// The longest message: ChannelData with all that its length can say.
pub const MAX_FRAME_LEN: usize = CHANNEL_HEADER_LEN + 65_536;

/// What a stream's buffer begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// A message of `len` bytes, after which the next one begins at `next`.
    Whole {
        /// Its length.
        len: usize,
        /// With padding.
        next: usize,
    },
    /// A message that has not arrived as a whole.
    Partial,
    /// Neither STUN nor ChannelData: there is no telling where the next one would begin.
    Malformed,
}

/// Looks at what has arrived.
pub fn next_frame(buffer: &[u8]) -> Frame {
    let Some([k0, k1, l0, l1]) = buffer.first_chunk::<4>().copied() else { return Frame::Partial };
    let (kind, said) = (u16::from_be_bytes([k0, k1]), usize::from(u16::from_be_bytes([l0, l1])));
    let (len, next) = if kind < 0x4000 {
        let cookie = buffer.get(4..8);
        if !said.is_multiple_of(4) || cookie.is_some_and(|cookie| cookie != MAGIC_COOKIE) {
            return Frame::Malformed;
        }
        (HEADER_LEN + said, HEADER_LEN + said)
    } else if CHANNELS.contains(&kind) {
        (CHANNEL_HEADER_LEN + said, CHANNEL_HEADER_LEN + said.next_multiple_of(4))
    } else {
        return Frame::Malformed;
    };
    if buffer.len() < next { Frame::Partial } else { Frame::Whole { len, next } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_where_its_messages_end() {
        let channel = [0x40, 0x00, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0xff];
        assert_eq!(next_frame(&channel), Frame::Whole { len: 9, next: 12 });
        let stun = [[0, 1, 0, 4].as_slice(), &MAGIC_COOKIE, &[0; 16]].concat();
        assert_eq!(next_frame(&stun), Frame::Whole { len: 24, next: 24 });
        for len in 0..12 {
            assert_eq!(next_frame(channel.get(..len).unwrap_or_default()), Frame::Partial, "{len}");
        }
        for len in 0..24 {
            assert_eq!(next_frame(stun.get(..len).unwrap_or_default()), Frame::Partial, "{len}");
        }
    }

    #[test]
    fn what_is_neither_is_told_at_once() {
        for wrong in [[0, 1, 0, 3, 0x21, 0x12, 0xa4, 0x42], [0, 1, 0, 4, 1, 2, 3, 4], [0x80, 1, 0, 4, 0, 0, 0, 0]] {
            assert_eq!(next_frame(&wrong), Frame::Malformed, "{wrong:?}");
        }
    }
}
