//! What a message consists of: text as a whole, as nearly all do, or a head of text before a body of anything.
//!
//! A message is checked once to be text, so that reading a piece of it again costs next to nothing.

use bytes::Bytes;
use bytestring::ByteString;

use super::classes::is_ascii;
use super::scan::Span;

/// The bytes of a message. Cloning shares them.
#[derive(Clone)]
pub(super) enum Octets {
    /// All of it is text.
    Text(ByteString),
    /// Something in it is not.
    Mixed(Bytes),
}

impl Octets {
    /// The bytes, whatever they are.
    pub(super) fn bytes(&self) -> &Bytes {
        match self {
            Octets::Text(text) => text.as_bytes(),
            Octets::Mixed(bytes) => bytes,
        }
    }

    /// A piece that begins and ends at ASCII; one that is no text reads as nothing.
    pub(super) fn text(&self, span: Span) -> &str {
        match self {
            Octets::Text(text) => span.within(text),
            Octets::Mixed(bytes) => std::str::from_utf8(span.of(bytes)).unwrap_or_default(),
        }
    }

    /// A copy with a text in place of a part, in a buffer of just the size.
    pub(super) fn with(&self, part: Span, text: &str) -> Octets {
        let whole = self.bytes();
        let (start, end) = (part.start as usize, part.end as usize);
        let len = whole.len().saturating_sub(part.len()).saturating_add(text.len());
        match self {
            Octets::Text(whole) => {
                let mut out = String::with_capacity(len);
                out.extend([whole.get(..start).unwrap_or_default(), text, whole.get(end..).unwrap_or_default()]);
                Octets::from(out)
            }
            Octets::Mixed(whole) => {
                let mut out = Vec::with_capacity(len);
                out.extend_from_slice(whole.get(..start).unwrap_or_default());
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(whole.get(end..).unwrap_or_default());
                Octets::Mixed(out.into())
            }
        }
    }
}

impl From<String> for Octets {
    fn from(text: String) -> Octets {
        Octets::Text(text.into())
    }
}

impl From<Bytes> for Octets {
    fn from(bytes: Bytes) -> Octets {
        // What does not become text is lost on the way. Nearly all is ASCII, which is seen sooner.
        if !is_ascii(&bytes) && std::str::from_utf8(&bytes).is_err() {
            return Octets::Mixed(bytes);
        }
        ByteString::try_from(bytes).map_or(Octets::Mixed(Bytes::new()), Octets::Text)
    }
}
