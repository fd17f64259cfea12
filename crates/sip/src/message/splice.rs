//! One change within one field: the rest of the message and of its index are copied as they are.
//!
//! What every request and response needs on its way here, a note in its Via or a tag in its To. For anything more there is the
//! [`Editor`](super::Editor).

use super::classes::is_space;
use super::edit::single_line;
use super::scan::{Span, StartLine, offset};
use super::slots::Slot;
use super::{Header, Message, Parsed, list};

/// What a status line begins with as we write it; three digits and a space follow.
const STATUS_LINE: &[u8] = b"SIP/2.0 ";

impl Message {
    /// A copy with another first value of this name; a message without such a field is copied as it is.
    ///
    /// The value loses CR, LF and NUL.
    pub(crate) fn with_first_value(&self, header: Header, value: &str) -> Message {
        match self.first_value(header) {
            Some((index, span)) => self.splice(index, span, &single_line(value)),
            None => self.clone(),
        }
    }

    /// A copy with a text put into the first value of this name, behind its first `at` bytes, which must end at a character; a
    /// message without such a field, or with a shorter one, is copied as it is.
    ///
    /// The text must hold no line break.
    pub(crate) fn with_insertion(&self, header: Header, at: usize, text: &str) -> Message {
        let place = self.first_value_at(header).filter(|(_, value)| at <= value.len());
        let Some((index, value)) = place else { return self.clone() };
        let at = value.start.saturating_add(offset(at));
        self.splice(index, Span { start: at, end: at }, text)
    }

    /// A copy without the first value of this name, and without its line if it is the only one there: what the
    /// [`Editor`](super::Editor) makes of a response, at a third of its cost, as every response on its way back loses our Via.
    pub(crate) fn without_first_value(&self, header: Header) -> Message {
        self.without_first_line(header).unwrap_or_else(|| self.edit().pop_value(header).finish())
    }

    /// A copy without the first line of this name; `None` where it may hold several values, or where there is more to put right.
    pub(super) fn without_first_line(&self, header: Header) -> Option<Message> {
        let StartLine::Response { reason, .. } = self.start_line else { return None };
        let is_as_written = self.bytes().starts_with(STATUS_LINE) && reason.start as usize == STATUS_LINE.len() + 4;
        if !is_as_written || !self.slots.contains(Header::ContentLength) {
            return None;
        }
        let index = self.slots.position(header)?;
        let (slot, next) = (self.slots.get(index)?, self.slots.get(index + 1)?);
        let line = Span { start: slot.start, end: slot.start.saturating_add(offset(self.line(slot).len())) };
        let holds_one = memchr::memchr(b',', slot.value().of(self.bytes())).is_none();
        (holds_one && line.end == next.start).then(|| self.cut(index, line))
    }

    /// Takes the field at `index` out, which is this line.
    fn cut(&self, index: usize, line: Span) -> Message {
        let removed = offset(line.len());
        let moved = |at: u32| at.saturating_sub(removed);
        let mut slots = self.slots.clone();
        slots.splice(index, None, moved);
        let mut known = self.known();
        if let Some(slot) = self.slots.get(index) {
            known.forget(slot.header);
        }
        let octets = self.octets.with(line, "");
        Parsed { octets, start_line: self.start_line, slots, body: moved(self.body), known: known.into() }.into()
    }

    /// Which field the first value of this name is in, and where.
    fn first_value(&self, header: Header) -> Option<(usize, Span)> {
        let (index, Span { start, end }) = self.first_value_at(header)?;
        let value = list::split_values(self.text(Span { start, end })).next().unwrap_or_default();
        Some((index, Span { start, end: start.saturating_add(offset(value.len())) }))
    }

    /// Which field the first value of this name is in, and from where to the end of that field it and others are.
    fn first_value_at(&self, header: Header) -> Option<(usize, Span)> {
        let index = self.slots.position(header)?;
        let Span { start, end } = self.slots.get(index)?.value();
        // Empty values may come before it.
        let is_empty = |byte: &u8| *byte == b',' || is_space(*byte);
        let lead = self.text(Span { start, end }).bytes().take_while(is_empty).count();
        Some((index, Span { start: start.saturating_add(offset(lead)), end }))
    }

    /// A copy with a tag at the end of To, which has none.
    pub(crate) fn with_to_tag(&self, tag: &str) -> Message {
        let Some(index) = self.slots.position(Header::To) else { return self.clone() };
        let end = self.slots.get(index).map(|slot| slot.value().end).unwrap_or_default();
        let mut param = String::with_capacity(";tag=".len() + tag.len());
        param.push_str(";tag=");
        param.push_str(&single_line(tag));
        self.splice(index, Span { start: end, end }, &param)
    }

    /// Puts a text in place of a part of the value of the field at `index`.
    fn splice(&self, index: usize, part: Span, text: &str) -> Message {
        let (added, removed) = (offset(text.len()), part.end.saturating_sub(part.start));
        let moved = |at: u32| at.saturating_add(added).saturating_sub(removed);
        let mut slots = self.slots.clone();
        // Nobody would read a line of 64 KiB, for which there is no slot.
        let spliced = slots.get(index).and_then(|slot| {
            let Span { start, end } = slot.value();
            Slot::new(slot.start, slot.header, slot.name().len(), Span { start, end: moved(end) })
        });
        slots.splice(index, spliced, moved);
        let mut known = self.known();
        if let Some(slot) = self.slots.get(index) {
            known.forget(slot.header);
        }
        let octets = self.octets.with(part, text);
        Parsed { octets, start_line: self.start_line, slots, body: moved(self.body), known: known.into() }.into()
    }
}
