//! Short texts put together on the way into a message: branches, tokens, addresses. They allocate only when they are long.

use std::fmt;

use smallvec::SmallVec;

/// A text of mostly fewer than 96 bytes: a branch of ours has 45, a flow token at most 54.
#[derive(Debug, Clone, Default)]
pub(crate) struct Short(SmallVec<[u8; 96]>);

impl Short {
    /// Begins with a text.
    pub(crate) fn new(text: &str) -> Short {
        Short(SmallVec::from_slice(text.as_bytes()))
    }

    /// Adds a text.
    pub(crate) fn push(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Adds bytes in an encoding.
    pub(crate) fn push_encoded(&mut self, encoding: &data_encoding::Encoding, bytes: &[u8]) {
        let start = self.0.len();
        self.0.resize(start + encoding.encode_len(bytes.len()), 0);
        if let Some(place) = self.0.get_mut(start..) {
            encoding.encode_mut(bytes, place);
        }
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        // Only texts are put in, so they come out as such.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}
