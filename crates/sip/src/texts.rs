//! Texts put together to be hashed at once: a hash that is handed small pieces costs twice as much.

use std::hash::Hasher;

use smallvec::SmallVec;

/// Texts and numbers, one behind the other. Each text ends with a byte that none holds, so that no two lists of texts are one.
#[derive(Debug)]
pub(crate) struct Texts(SmallVec<[u8; 192]>);

impl Texts {
    pub(crate) fn new() -> Texts {
        Texts(SmallVec::new())
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0xff);
    }

    /// As if it were written in small letters.
    pub(crate) fn push_lowercase(&mut self, text: &str) {
        let start = self.0.len();
        self.push(text);
        self.0.get_mut(start..).unwrap_or_default().make_ascii_lowercase();
    }

    /// A text, or none, which is not the empty one.
    pub(crate) fn push_option(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.push(text),
            None => self.0.push(0xfe),
        }
    }

    pub(crate) fn push_number(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// Hands all of it to a hash.
    pub(crate) fn hash_into(&self, hasher: &mut impl Hasher) {
        hasher.write(&self.0);
    }
}
