//! What a response says beside what it copies from its request (RFC 3261 §8.2.6.2).
//!
//! Whoever keeps responses to requests that come again needs no more: the rest comes with the request.

use bytes::Bytes;
use smallvec::SmallVec;

use super::scan::{Span, offset};
use super::{Header, Parsed};

/// A response without its copies of Via, From, To, Call-ID and CSeq, which stand in the order of the request behind its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remainder<'a> {
    /// The first line, with its line break.
    pub(crate) start_line: &'a [u8],
    /// What follows the request's To: `;tag=`, and the tag.
    pub(crate) to_tag: &'a [u8],
    /// What follows the copies.
    pub(crate) rest: &'a [u8],
}

/// The copies, as pieces of the request that stand one behind the other in its response.
struct Copies {
    pieces: SmallVec<[Span; 4]>,
    /// The first piece behind the value of To, and so behind the tag.
    tagged: usize,
}

impl Parsed {
    /// What this request's response says of its own; `None` where it does not begin with just the copies it should have, as a
    /// phone may write them otherwise.
    pub(crate) fn remainder_of<'a>(&self, response: &'a Parsed) -> Option<Remainder<'a>> {
        let (start_line, mut left) = response.bytes().split_at_checked(response.slots.first()?.start as usize)?;
        let Copies { pieces, tagged } = self.copies();
        let mut to_tag: &[u8] = b"";
        for (index, piece) in pieces.iter().enumerate() {
            if index == tagged {
                // The response has been read: its To ends where the slot says.
                let to = response.slots.since_first(Header::To).first()?.value().end as usize;
                (to_tag, left) = left.split_at_checked(to.checked_sub(response.bytes().len() - left.len())?)?;
            }
            left = left.strip_prefix(piece.of(self.bytes()))?;
        }
        Some(Remainder { start_line, to_tag, rest: left })
    }

    /// The response to this request of which that is the remainder.
    pub(crate) fn with_remainder(&self, remainder: Remainder<'_>) -> Bytes {
        let Remainder { start_line, to_tag, rest } = remainder;
        let Copies { pieces, tagged } = self.copies();
        let mut out = Vec::with_capacity(self.bytes().len() + start_line.len() + to_tag.len() + rest.len());
        out.extend_from_slice(start_line);
        for (index, piece) in pieces.iter().enumerate() {
            if index == tagged {
                out.extend_from_slice(to_tag);
            }
            out.extend_from_slice(piece.of(self.bytes()));
        }
        out.extend_from_slice(rest);
        out.into()
    }

    fn copies(&self) -> Copies {
        let mut pieces: SmallVec<[Span; 4]> = SmallVec::new();
        let mut tagged = usize::MAX;
        for slot in self.slots.iter().filter(|slot| slot.is_repeated_in_responses()) {
            let value_end = slot.value().end;
            let end = slot.start.saturating_add(offset(self.line(slot).len()));
            let is_to = slot.header == Header::To && tagged == usize::MAX;
            let part = Span { start: slot.start, end: if is_to { value_end } else { end } };
            match pieces.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end,
                Some(_) | None => pieces.push(part),
            }
            if is_to {
                tagged = pieces.len();
                pieces.push(Span { start: value_end, end });
            }
        }
        Copies { pieces, tagged }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Builder, Message};
    use super::*;

    const REQUEST: &str = "OPTIONS sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z1\r\nX: y\r\nv: SIP/2.0/UDP i,\r\n SIP/2.0/UDP j\r\n\
        To: <sip:b@b> \r\nFrom: <sip:a@a>;tag=1\r\ni: c\r\nCSeq: 1 OPTIONS\r\n\r\n";

    fn message(text: &str) -> Message {
        Message::parse(text.to_owned().into()).unwrap()
    }

    #[test]
    fn a_response_is_its_request_and_the_remainder() {
        let request = message(REQUEST);
        for builder in [
            Builder::response(&request, 200, ""),
            Builder::response(&request, 404, "Not Here")
                .to_tag("x")
                .header(Header::Contact, "<sip:b>")
                .body("a/b", b"\xff"),
        ] {
            let response = builder.finish();
            let remainder = request.remainder_of(&response).unwrap();
            assert!(remainder.start_line.starts_with(b"SIP/2.0 ") && !remainder.rest.starts_with(b"CSeq"));
            assert_eq!(request.with_remainder(remainder), response.bytes());
        }
    }

    /// Whatever a phone makes of what it should copy, the very response comes back, or it is kept as it is.
    #[test]
    fn a_response_that_copies_otherwise_is_never_taken_for_another() {
        let request = message(REQUEST);
        let good = Builder::response(&request, 200, "").to_tag("x").header(Header::Contact, "<sip:b>").finish();
        let good = String::from_utf8(good.bytes().to_vec()).unwrap();
        let (mut kept, mut rebuilt) = (0, 0);
        let pieces = ["", " ", "\r\n", "\r\n ", ";tag=y", "x", "To: <sip:b@b>\r\n", ";tag=x\r\nTo: <sip:b@b>"];
        for (at, _) in good.char_indices() {
            for (piece, skipped) in pieces.iter().flat_map(|piece| [0, 1, 2, 9, 30].map(|skipped| (piece, skipped))) {
                let behind = good.get(at + skipped..).unwrap_or_default();
                let text = [&good[..at], piece, behind].concat();
                let Ok(response) = Message::parse(text.into()) else { continue };
                match request.remainder_of(&response) {
                    Some(remainder) => {
                        rebuilt += 1;
                        assert_eq!(request.with_remainder(remainder), response.bytes());
                    }
                    None => kept += 1,
                }
            }
        }
        assert!(kept > 1000 && rebuilt > 100, "{kept} {rebuilt}");
    }
}
