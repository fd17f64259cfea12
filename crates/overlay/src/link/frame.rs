//! Messages on a link's own stream: length (4 bytes, big-endian), one byte that says what it is, and the content.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::limits::MAX_FRAME;

const HEAD: usize = 5;

const PING: u8 = 1;
const PONG: u8 = 2;
const MESSAGE: u8 = 3;

/// A message between the two ends of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Are you there?
    Ping,
    /// I am.
    Pong,
    /// A message for the DHT.
    Message(Bytes),
}

impl Frame {
    /// Appends the frame to what is going to be written.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let (kind, content) = match self {
            Self::Ping => (PING, &[][..]),
            Self::Pong => (PONG, &[][..]),
            Self::Message(bytes) => (MESSAGE, &bytes[..]),
        };
        out.reserve(HEAD + content.len());
        // Longer ones than `MAX_FRAME` are never queued.
        out.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
        out.put_u8(kind);
        out.put_slice(content);
    }

    /// Takes the next frame off what was read; `None` when it is not complete yet. Kinds of later versions are skipped.
    pub(crate) fn decode(input: &mut BytesMut) -> Result<Option<Self>, &'static str> {
        loop {
            let Some((mut head, _)) = input.split_at_checked(HEAD) else { return Ok(None) };
            let length = usize::try_from(head.get_u32()).unwrap_or(usize::MAX);
            let kind = head.get_u8();
            if length > MAX_FRAME {
                return Err("a message is larger than 64 KiB");
            }
            if input.len() < HEAD + length {
                input.reserve(HEAD + length - input.len());
                return Ok(None);
            }
            input.advance(HEAD);
            let content = input.split_to(length);
            match kind {
                PING => return Ok(Some(Self::Ping)),
                PONG => return Ok(Some(Self::Pong)),
                MESSAGE => return Ok(Some(Self::Message(content.freeze()))),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn frames_read_back_however_they_are_cut() {
        let frames =
            [Frame::Ping, Frame::Message(Bytes::from_static(b"hello")), Frame::Pong, Frame::Message(Bytes::new())];
        let mut written = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut written);
        }
        let mut input = BytesMut::new();
        let mut read = Vec::new();
        for byte in written {
            input.put_u8(byte);
            read.extend(Frame::decode(&mut input).unwrap());
        }
        assert_eq!(read, frames);
    }

    #[test]
    fn kinds_of_later_versions_are_skipped() {
        let mut input = BytesMut::from(&b"\x00\x00\x00\x02\x7fab\x00\x00\x00\x00\x01"[..]);
        assert_eq!(Frame::decode(&mut input).unwrap(), Some(Frame::Ping));
    }

    #[test]
    fn an_endless_message_is_refused_from_its_head_on() {
        let mut input = BytesMut::from(&b"\xff\xff\xff\xff\x03"[..]);
        assert!(Frame::decode(&mut input).is_err());
    }
}
