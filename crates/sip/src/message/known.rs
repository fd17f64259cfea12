//! What was read of a message as it was checked, so that nobody reads it again: most of what happens to a message asks who it is
//! from and to.
//!
//! Kept as places within the values of these fields, which stay right wherever the fields are moved to.

use super::list::Params;
use super::{CSeq, Header, NameAddr};

/// What is known of From, To, CSeq and an only Contact; each is there as long as its field is as it was read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    pub(super) from: Option<Address>,
    pub(super) to: Option<Address>,
    pub(super) contact: Option<Address>,
    pub(super) cseq: Option<Sequence>,
}

impl Known {
    /// What is known still when a field of this name has become another one.
    pub(super) fn forget(&mut self, header: Header) {
        let Known { from, to, contact, cseq } = self;
        for (name, known) in [(Header::From, from), (Header::To, to), (Header::Contact, contact)] {
            if header == name {
                *known = None;
            }
        }
        if header == Header::CSeq {
            *cseq = None;
        }
    }
}

/// A part of a value, from the value's start.
#[derive(Debug, Clone, Copy)]
struct Part {
    start: u16,
    end: u16,
}

impl Part {
    /// Where a text is that was cut out of `value`.
    fn within(value: &str, text: &str) -> Option<Part> {
        let start = text.as_ptr().addr().checked_sub(value.as_ptr().addr())?;
        let end = start.checked_add(text.len()).filter(|end| *end <= value.len())?;
        Some(Part { start: u16::try_from(start).ok()?, end: u16::try_from(end).ok()? })
    }

    fn of(self, value: &str) -> Option<&str> {
        value.get(usize::from(self.start)..usize::from(self.end))
    }
}

/// An address, and its tag.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    display: Option<Part>,
    uri: Part,
    params: Part,
    is_quoted: bool,
    tag: Option<Part>,
}

impl Address {
    /// Takes note of the address that a value is, with its tag; `None` for one that is long beyond measure.
    pub(super) fn note(value: &str, address: &NameAddr<'_>, tag: Option<&str>) -> Option<Address> {
        let optional = |text: Option<&str>| match text {
            Some(text) => Part::within(value, text).map(Some),
            None => Some(None),
        };
        let params = address.params.as_str();
        Some(Address {
            display: optional(address.display)?,
            uri: Part::within(value, address.uri)?,
            params: if params.is_empty() { Part { start: 0, end: 0 } } else { Part::within(value, params)? },
            is_quoted: address.params.may_be_spaced(),
            tag: optional(tag)?,
        })
    }

    /// The address, in the value that it was read of.
    pub(super) fn of(self, value: &str) -> Option<NameAddr<'_>> {
        let display = match self.display {
            Some(display) => Some(display.of(value)?),
            None => None,
        };
        let params = Params::checked(self.params.of(value)?, self.is_quoted);
        Some(NameAddr { display, uri: self.uri.of(value)?, params })
    }

    /// The same address where a tag was put behind its value, which had this length and no tag.
    pub(super) fn tagged(self, len: usize, tag: &str) -> Option<Address> {
        let start = u16::try_from(len + ";tag=".len()).ok()?;
        let end = u16::try_from(len + ";tag=".len() + tag.len()).ok()?;
        let had_none = self.params.start == self.params.end;
        let params = Part { start: if had_none { u16::try_from(len).ok()? } else { self.params.start }, end };
        Some(Address { params, tag: Some(Part { start, end }), ..self })
    }

    /// The tag, in the value that it was read of.
    pub(super) fn tag_of(self, value: &str) -> Option<&str> {
        self.tag?.of(value)
    }
}

/// CSeq: its number, and where its method is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sequence {
    number: u32,
    method: Part,
}

impl Sequence {
    pub(super) fn note(value: &str, cseq: CSeq<'_>) -> Option<Sequence> {
        Some(Sequence { number: cseq.number, method: Part::within(value, cseq.method)? })
    }

    pub(super) fn of(self, value: &str) -> Option<CSeq<'_>> {
        Some(CSeq { number: self.number, method: self.method.of(value)? })
    }
}
