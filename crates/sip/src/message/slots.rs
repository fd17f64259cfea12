//! Where the fields of a head are, in their order, and which is the first of each name.

use std::ops::Deref;

use smallvec::SmallVec;

use super::Header;
use super::scan::Span;

/// Header fields up to this number need no allocation. INVITEs of common phones carry 12 to 25.
const INLINE_FIELDS: usize = 32;

/// One header field: its line begins at `start`; the line ends where the next one begins. In 12 bytes, as a message is moved
/// with all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) start: u32,
    /// Where the value begins, from `start`.
    value_at: u16,
    value_len: u16,
    name_len: u16,
    pub(crate) header: Header,
}

impl Slot {
    /// `None` where name or value are longer than any line may be.
    pub(crate) fn new(start: u32, header: Header, name_len: usize, value: Span) -> Option<Slot> {
        Some(Slot {
            start,
            value_at: u16::try_from(value.start.checked_sub(start)?).ok()?,
            value_len: u16::try_from(value.end.checked_sub(value.start)?).ok()?,
            name_len: u16::try_from(name_len).ok()?,
            header,
        })
    }

    pub(crate) fn name(&self) -> Span {
        Span { start: self.start, end: self.start.saturating_add(u32::from(self.name_len)) }
    }

    pub(crate) fn value(&self) -> Span {
        let start = self.start.saturating_add(u32::from(self.value_at));
        Span { start, end: start.saturating_add(u32::from(self.value_len)) }
    }

    /// Whether every response repeats it (RFC 3261 §8.2.6.2).
    pub(crate) fn is_repeated_in_responses(&self) -> bool {
        matches!(self.header, Header::Via | Header::From | Header::To | Header::CallId | Header::CSeq)
    }

    /// The same field in a message where its line begins elsewhere.
    pub(crate) fn moved_to(self, start: u32) -> Slot {
        Slot { start, ..self }
    }
}

/// How many names there are.
const HEADERS: usize = Header::Other as usize + 1;

/// A set of header names, one bit each.
pub(crate) type Names = u128;

/// There are fewer names than bits.
const _: () = assert!(HEADERS <= Names::BITS as usize);

/// The set of one name.
pub(crate) const fn bit(header: Header) -> Names {
    1 << header as u32
}

/// Says that there is no field of a name.
const NOWHERE: u8 = u8::MAX;

/// The fields of a head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    slots: SmallVec<[Slot; INLINE_FIELDS]>,
    /// For each name where its first field is, or a place before it; [`NOWHERE`] where there is none.
    first: [u8; HEADERS],
    /// The names of several fields.
    repeated: Names,
}

impl Slots {
    pub(crate) fn new() -> Slots {
        Slots { slots: SmallVec::new(), first: [NOWHERE; HEADERS], repeated: 0 }
    }

    pub(crate) fn push(&mut self, slot: Slot) {
        if let Some(first) = self.first.get_mut(slot.header as usize) {
            if *first == NOWHERE {
                // From the 255th field on it is the place before, and a search finds it.
                *first = u8::try_from(self.slots.len()).unwrap_or(NOWHERE).min(NOWHERE - 1);
            } else {
                self.repeated |= bit(slot.header);
            }
        }
        self.slots.push(slot);
    }

    /// The fields from the first of this name on, at the latest; none where there is no such field.
    pub(crate) fn since_first(&self, header: Header) -> &[Slot] {
        self.place(header).and_then(|at| self.slots.get(at..)).unwrap_or_default()
    }

    /// Where the first field of this name is.
    pub(crate) fn position(&self, header: Header) -> Option<usize> {
        let from = self.place(header)?;
        Some(from + self.since_first(header).iter().position(|slot| slot.header == header)?)
    }

    /// Whether there is a field of this name.
    pub(crate) fn contains(&self, header: Header) -> bool {
        self.place(header).is_some()
    }

    /// The names of several fields; [`Header::Other`], which is no name, may be among them.
    pub(crate) fn repeated(&self) -> Names {
        self.repeated
    }

    /// Puts another slot in place of the one at `index`, which has its name, or takes that out, and moves all behind it.
    pub(crate) fn splice(&mut self, index: usize, slot: Option<Slot>, moved: impl Fn(u32) -> u32) {
        for behind in self.slots.iter_mut().skip(index + 1) {
            *behind = behind.moved_to(moved(behind.start));
        }
        match (slot, self.slots.get_mut(index)) {
            (Some(slot), Some(place)) => *place = Slot { header: place.header, ..slot },
            (None, Some(_)) => {
                self.slots.remove(index);
                *self = self.slots.drain(..).collect();
            }
            (_, None) => {}
        }
    }

    fn place(&self, header: Header) -> Option<usize> {
        self.first.get(header as usize).filter(|first| **first != NOWHERE).map(|first| usize::from(*first))
    }
}

impl Clone for Slots {
    fn clone(&self) -> Slots {
        // At once, where a derived one would copy slot by slot.
        Slots { slots: SmallVec::from_slice(&self.slots), first: self.first, repeated: self.repeated }
    }
}

impl Default for Slots {
    fn default() -> Slots {
        Slots::new()
    }
}

impl Deref for Slots {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        &self.slots
    }
}

impl Extend<Slot> for Slots {
    fn extend<I: IntoIterator<Item = Slot>>(&mut self, slots: I) {
        slots.into_iter().for_each(|slot| self.push(slot));
    }
}

impl FromIterator<Slot> for Slots {
    fn from_iter<I: IntoIterator<Item = Slot>>(from: I) -> Slots {
        let mut slots = Slots::new();
        slots.extend(from);
        slots
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn slot(index: u32, header: Header) -> Slot {
        Slot::new(index * 10, header, 1, Span { start: index * 10 + 2, end: index * 10 + 4 }).unwrap()
    }

    #[test]
    fn the_first_of_a_name_is_found_however_many_fields_there_are() {
        for before in [0, 1, 31, 32, 253, 254, 255, 300] {
            let mut slots: Slots = (0..before).map(|index| slot(index, Header::Other)).collect();
            slots.push(slot(before, Header::Via));
            slots.push(slot(before + 1, Header::To));
            slots.push(slot(before + 2, Header::Via));
            let before = usize::try_from(before).unwrap();
            assert_eq!(slots.position(Header::Via), Some(before));
            assert_eq!(slots.position(Header::To), Some(before + 1));
            assert_eq!((slots.position(Header::From), slots.since_first(Header::From)), (None, [].as_slice()));
            assert_eq!(slots.since_first(Header::To).iter().filter(|slot| slot.header == Header::To).count(), 1);
            assert_eq!(slots.repeated() & (bit(Header::Via) | bit(Header::To)), bit(Header::Via));
            slots.splice(before, None, |start| start - 10);
            assert_eq!(slots.position(Header::Via), Some(before + 1));
            assert_eq!(slots.position(Header::To), Some(before));
            assert_eq!(slots.repeated() & bit(Header::Via), 0);
        }
    }
}
