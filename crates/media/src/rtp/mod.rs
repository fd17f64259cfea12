//! RTP packets (RFC 3550 §5.1): reading and writing the header. Not here: RTCP, SRTP, and what payloads mean.

use thiserror::Error;

/// The fixed part of the header.
const HEADER_LEN: usize = 12;

/// The version in use since 1996.
pub(crate) const VERSION: u8 = 2;

/// Returns the length of a packet's header, contributing sources and extension included: what SRTP leaves readable.
pub(crate) fn header_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first().filter(|first| **first >> 6 == VERSION)?;
    let mut len = HEADER_LEN + usize::from(first & 0x0f) * 4;
    if first & 0x10 != 0 {
        let [_, _, high, low] = *packet.get(len..)?.first_chunk::<4>()?;
        len += 4 + usize::from(u16::from_be_bytes([high, low])) * 4;
    }
    (packet.len() >= len).then_some(len)
}

/// Tells whether a datagram is RTCP rather than RTP, where both come to one port (RFC 5761 §4).
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, 192..=223, ..] if first >> 6 == VERSION)
}

/// A packet, its payload borrowed from where it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Marks an event, for speech the first packet after a silence.
    pub marker: bool,
    /// The payload type, below 128.
    pub payload_type: u8,
    /// One more with each packet, wrapping.
    pub sequence_number: u16,
    /// In units of the codec's clock, wrapping.
    pub timestamp: u32,
    /// Who sends.
    pub ssrc: u32,
    /// What is sent, without contributing sources, extension and padding.
    pub payload: &'a [u8],
}

/// A datagram that is no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the peer's datagram is no RTP packet")]
pub struct NotRtp;

impl<'a> Packet<'a> {
    /// Reads a packet; contributing sources, header extension and padding are skipped.
    ///
    /// # Errors
    ///
    /// [`NotRtp`] when the version differs, or a length reaches beyond the datagram.
    pub fn parse(datagram: &'a [u8]) -> Result<Packet<'a>, NotRtp> {
        Packet::read(datagram).ok_or(NotRtp)
    }

    fn read(datagram: &'a [u8]) -> Option<Packet<'a>> {
        let (header, rest) = datagram.split_first_chunk::<HEADER_LEN>()?;
        let [first, second, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3] = *header;
        if first >> 6 != VERSION {
            return None;
        }
        let mut payload = rest.get(usize::from(first & 0x0f) * 4..)?;
        if first & 0x10 != 0 {
            let ([_, _, high, low], extension) = payload.split_first_chunk::<4>()?;
            payload = extension.get(usize::from(u16::from_be_bytes([*high, *low])) * 4..)?;
        }
        if first & 0x20 != 0 {
            let padding = usize::from(*payload.last()?);
            payload = payload.get(..payload.len().checked_sub(padding)?).filter(|_| padding > 0)?;
        }
        Some(Packet {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence_number: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([r0, r1, r2, r3]),
            payload,
        })
    }

    /// Writes the packet.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + self.payload.len());
        bytes.push(VERSION << 6);
        bytes.push(u8::from(self.marker) << 7 | self.payload_type & 0x7f);
        bytes.extend_from_slice(&self.sequence_number.to_be_bytes());
        bytes.extend_from_slice(&self.timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        bytes.extend_from_slice(self.payload);
        bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PLAIN: Packet<'static> = Packet {
        marker: true,
        payload_type: 101,
        sequence_number: 0xfffe,
        timestamp: 0x8000_0001,
        ssrc: 0xdead_beef,
        payload: b"tone",
    };

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(Packet::parse(&PLAIN.to_bytes()), Ok(PLAIN));
        let empty = Packet { payload: b"", ..PLAIN };
        assert_eq!(Packet::parse(&empty.to_bytes()), Ok(empty));
    }

    #[test]
    fn sources_extension_and_padding_are_skipped() {
        let mut bytes = PLAIN.to_bytes();
        bytes.truncate(HEADER_LEN);
        bytes[0] |= 0x20 | 0x10 | 2;
        bytes.extend_from_slice(b"src1src2");
        bytes.extend_from_slice(&[0xbe, 0xde, 0, 1]);
        bytes.extend_from_slice(b"ext!");
        bytes.extend_from_slice(b"tone\0\0\x03");
        assert_eq!(Packet::parse(&bytes), Ok(PLAIN));
    }

    #[test]
    fn lengths_beyond_the_datagram_are_refused() {
        let bytes = PLAIN.to_bytes();
        for len in 0..HEADER_LEN {
            assert_eq!(Packet::parse(&bytes[..len]), Err(NotRtp));
        }
        for flags in [0x2f, 0x10, 0x20] {
            let mut bad = Packet { payload: b"abcdefg\xff", ..PLAIN }.to_bytes();
            bad[0] |= flags;
            assert_eq!(Packet::parse(&bad), Err(NotRtp), "{flags:x}");
        }
        let mut version1 = bytes.clone();
        version1[0] = 0x40;
        assert_eq!(Packet::parse(&version1), Err(NotRtp));
    }

    #[test]
    fn padding_of_nothing_is_refused() {
        let mut bytes = Packet { payload: b"abc\0", ..PLAIN }.to_bytes();
        bytes[0] |= 0x20;
        assert_eq!(Packet::parse(&bytes), Err(NotRtp));
    }
}
