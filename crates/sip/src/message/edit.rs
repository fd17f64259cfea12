//! Edited copies of a message: what is not named stays as it came, byte for byte.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::build::Writer;
use super::known::Known;
use super::list::{cut, find_separator, trim};
use super::scan::{Span, find_break, offset};
use super::{Header, Message, StartLine};

/// Collects edits of a message; [`Editor::finish`] writes the copy. Edits apply in the order they are made, each seeing
/// the ones before.
///
/// Values lose CR, LF and NUL, so nothing that came from elsewhere can begin a new line. Content-Length is the editor's
/// own business: it is set when the body changes, and added where it is missing.
#[derive(Debug, Clone)]
pub struct Editor<'a> {
    message: &'a Message,
    /// All texts handed in, one behind the other; pieces refer to it.
    texts: SmallVec<[u8; 512]>,
    /// The fields of the copy, in order. A few edits leave long runs of the message as they are, and these are copied whole.
    pieces: SmallVec<[Piece; 16]>,
    request_uri: Option<Span>,
    body: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
enum Piece {
    /// The fields `from..to` of the message, unchanged; never none.
    Kept { from: usize, to: usize },
    /// A field of ours; `name` is empty where the header has a name of its own.
    New { header: Header, name: Span, value: Span },
}

/// Where a field is: in which piece, and which of the message's fields it is if the piece was kept.
#[derive(Debug, Clone, Copy)]
struct Place {
    piece: usize,
    field: usize,
}

impl<'a> Editor<'a> {
    pub(super) fn new(message: &'a Message) -> Editor<'a> {
        let all = Piece::Kept { from: 0, to: message.slots.len() };
        let pieces = if message.slots.is_empty() { SmallVec::new() } else { SmallVec::from_iter([all]) };
        Editor { message, texts: SmallVec::new(), pieces, request_uri: None, body: None }
    }

    /// Replaces the Request-URI; nothing happens to a response.
    pub fn request_uri(&mut self, uri: &str) -> &mut Self {
        self.request_uri = Some(self.keep(&[uri]));
        self
    }

    /// Adds a field line before the first of this name; without one, right behind the start line.
    pub fn prepend(&mut self, header: Header, value: &str) -> &mut Self {
        self.prepend_parts(header, &[value])
    }

    /// As [`Editor::prepend`], with a value put together of parts.
    pub(crate) fn prepend_parts(&mut self, header: Header, parts: &[&str]) -> &mut Self {
        let piece = self.piece(header, parts);
        let at = self.first(header).map_or(0, |place| self.split_before(place));
        self.pieces.insert(at, piece);
        self
    }

    /// Adds a field line behind the last of this name; without one, at the end of the head.
    pub fn append(&mut self, header: Header, value: &str) -> &mut Self {
        let piece = self.piece(header, &[value]);
        let at = self.last(header).map_or(self.pieces.len(), |place| self.split_behind(place));
        self.pieces.insert(at, piece);
        self
    }

    /// Adds a field line of any name at the end of the head. A name that is no token is left out.
    pub fn append_named(&mut self, name: &str, value: &str) -> &mut Self {
        let known = Header::from_name(name);
        if known != Header::Other {
            return self.append(known, value);
        }
        let piece = Piece::New { header: Header::Other, name: self.keep(&[name]), value: self.keep(&[value]) };
        self.pieces.push(piece);
        self
    }

    /// Replaces the first comma-separated value of this name; without one, adds it as [`Editor::prepend`] does.
    pub fn replace_first_value(&mut self, header: Header, value: &str) -> &mut Self {
        let Some(place) = self.first(header) else {
            return self.prepend(header, value);
        };
        let start = self.keep(&[value]).start;
        self.keep_behind_first(place, ", ");
        let value = Span { start, end: offset(self.texts.len()) };
        self.replace(place, Some(Piece::New { header, name: Span::default(), value }))
    }

    /// Removes the first comma-separated value of this name, with its line if it was the only one there.
    pub fn pop_value(&mut self, header: Header) -> &mut Self {
        let Some(place) = self.first(header) else {
            return self;
        };
        let rest = self.keep_behind_first(place, "");
        self.replace(place, rest.map(|value| Piece::New { header, name: Span::default(), value }))
    }

    /// Makes this the only value of this name: in place of the first one, or at the end of the head.
    pub fn set(&mut self, header: Header, value: &str) -> &mut Self {
        let piece = self.piece(header, &[value]);
        match self.first(header) {
            Some(place) => {
                let at = self.take_out(place);
                self.remove(header);
                self.pieces.insert(at, piece);
            }
            None => self.pieces.push(piece),
        }
        self
    }

    /// Removes all fields of this name.
    pub fn remove(&mut self, header: Header) -> &mut Self {
        if self.first(header).is_some() {
            self.remove_where(|known, _| known == header);
        }
        self
    }

    /// Removes all fields of this name, for names that [`Header`] does not list.
    pub fn remove_named(&mut self, name: &str) -> &mut Self {
        let known = Header::from_name(name);
        if known != Header::Other {
            return self.remove(known);
        }
        self.remove_where(|header, other| header == Header::Other && other.eq_ignore_ascii_case(name.as_bytes()));
        self
    }

    /// Replaces the body and its Content-Type; an empty body has none.
    pub fn body(&mut self, content_type: &str, body: &[u8]) -> &mut Self {
        self.body = Some(body.to_vec());
        self.remove(Header::ContentLength);
        if body.is_empty() { self.remove(Header::ContentType) } else { self.set(Header::ContentType, content_type) }
    }

    /// Writes the edited message, once, into a buffer of its size.
    pub fn finish(&self) -> Message {
        let message = self.message;
        let body = self.body.as_deref().unwrap_or(message.body());
        // Only texts were put in, and only whole characters taken out.
        let texts = std::str::from_utf8(&self.texts).unwrap_or_default();
        let mut writer = Writer::with_capacity(self.len(body));
        match message.start_line {
            StartLine::Request { method, name, uri } => {
                let uri = self.request_uri.map_or(message.text(uri), |uri| uri.within(texts));
                writer.request_line(method, message.text(name), uri);
            }
            StartLine::Response { status, reason } => writer.status_line(status, message.text(reason)),
        }
        for piece in &self.pieces {
            match piece {
                Piece::Kept { from, to } => writer.copy_fields(message, *from, *to),
                Piece::New { header: Header::ContentLength, .. } => {}
                Piece::New { header, name, value } => {
                    writer.field(*header, name.within(texts), value.within(texts));
                }
            }
        }
        writer.known = self.still_known();
        writer.finish(body)
    }

    /// What is known of the message, and true of the copy.
    fn still_known(&self) -> Known {
        let mut known = self.message.known();
        for piece in &self.pieces {
            if let Piece::New { header, .. } = piece {
                known.forget(*header);
            }
        }
        known
    }

    /// How long the copy becomes: exactly, but for white space behind values and a Content-Length of another length.
    fn len(&self, body: &[u8]) -> usize {
        let slots = &self.message.slots;
        let start_line = slots.first().map_or(0, |first| first.start as usize) + self.request_uri.map_or(0, Span::len);
        let of_piece = |piece: &Piece| match piece {
            Piece::Kept { from, to } => match (slots.get(*from), slots.get(to.saturating_sub(1))) {
                (Some(first), Some(last)) => (last.value().end.saturating_sub(first.start) + 2) as usize,
                _ => 0,
            },
            Piece::New { header, name, value } => header.as_str().len() + name.len() + value.len() + 4,
        };
        let has_length = self.first(Header::ContentLength).is_some();
        let content_length = if has_length { 0 } else { "Content-Length: 65536\r\n".len() };
        start_line + self.pieces.iter().map(of_piece).sum::<usize>() + content_length + 2 + body.len()
    }

    /// Finds the first field of this name. Other names are not one header, so they are never meant.
    fn first(&self, header: Header) -> Option<Place> {
        let found = self.pieces.iter().enumerate().find_map(|(index, piece)| match piece {
            Piece::Kept { from, to } => {
                let at = self.message.slots.get(*from..*to)?.iter().position(|slot| slot.header == header)?;
                Some(Place { piece: index, field: from + at })
            }
            Piece::New { header: known, .. } => (*known == header).then_some(Place { piece: index, field: 0 }),
        });
        found.filter(|_| header != Header::Other)
    }

    fn last(&self, header: Header) -> Option<Place> {
        let found = self.pieces.iter().enumerate().rev().find_map(|(index, piece)| match piece {
            Piece::Kept { from, to } => {
                let at = self.message.slots.get(*from..*to)?.iter().rposition(|slot| slot.header == header)?;
                Some(Place { piece: index, field: from + at })
            }
            Piece::New { header: known, .. } => (*known == header).then_some(Place { piece: index, field: 0 }),
        });
        found.filter(|_| header != Header::Other)
    }

    /// Makes a piece begin with the field at `place`; returns which.
    fn split_before(&mut self, place: Place) -> usize {
        match self.pieces.get_mut(place.piece) {
            Some(Piece::Kept { from, to }) if *from < place.field && place.field < *to => {
                let behind = Piece::Kept { from: place.field, to: std::mem::replace(to, place.field) };
                self.pieces.insert(place.piece + 1, behind);
                place.piece + 1
            }
            Some(Piece::Kept { .. } | Piece::New { .. }) | None => place.piece,
        }
    }

    /// Makes a piece end with the field at `place`; returns the one behind it.
    fn split_behind(&mut self, place: Place) -> usize {
        let next = Place { field: place.field + 1, ..place };
        match self.pieces.get(place.piece) {
            Some(Piece::Kept { to, .. }) if next.field < *to => self.split_before(next),
            Some(Piece::Kept { .. } | Piece::New { .. }) | None => place.piece + 1,
        }
    }

    /// Takes the field at `place` out; returns the index of the piece that is there now.
    fn take_out(&mut self, place: Place) -> usize {
        let at = self.split_before(place);
        match self.pieces.get_mut(at) {
            Some(Piece::Kept { from, to }) if *from + 1 < *to => *from += 1,
            Some(Piece::Kept { .. } | Piece::New { .. }) => {
                self.pieces.remove(at);
            }
            None => {}
        }
        at
    }

    fn replace(&mut self, place: Place, piece: Option<Piece>) -> &mut Self {
        let at = self.take_out(place);
        if let Some(piece) = piece {
            self.pieces.insert(at, piece);
        }
        self
    }

    /// Removes every field that is meant, by header and, where that is [`Header::Other`], by name.
    fn remove_where(&mut self, is_meant: impl Fn(Header, &[u8]) -> bool) {
        let message = self.message;
        for piece in std::mem::take(&mut self.pieces) {
            match piece {
                Piece::Kept { mut from, to } => {
                    let fields = message.slots.iter().enumerate().take(to).skip(from);
                    for (index, _) in fields.filter(|(_, slot)| is_meant(slot.header, slot.name().of(message.bytes())))
                    {
                        if from < index {
                            self.pieces.push(Piece::Kept { from, to: index });
                        }
                        from = index + 1;
                    }
                    if from < to {
                        self.pieces.push(Piece::Kept { from, to });
                    }
                }
                Piece::New { header, name, .. } => {
                    if !is_meant(header, name.of(&self.texts)) {
                        self.pieces.push(piece);
                    }
                }
            }
        }
    }

    /// Keeps what follows the first value of the field at `place`, behind `separator`; `None` if nothing does.
    fn keep_behind_first(&mut self, place: Place, separator: &str) -> Option<Span> {
        match self.pieces.get(place.piece)? {
            Piece::Kept { .. } => {
                let message = self.message;
                let rest = behind_first(message.text(message.slots.get(place.field)?.value()));
                (!rest.is_empty()).then(|| self.keep(&[separator, rest]))
            }
            Piece::New { value, .. } => {
                let list = String::from_utf8_lossy(value.of(&self.texts)).into_owned();
                let rest = behind_first(&list);
                (!rest.is_empty()).then(|| self.keep(&[separator, rest]))
            }
        }
    }

    fn piece(&mut self, header: Header, parts: &[&str]) -> Piece {
        Piece::New { header, name: Span::default(), value: self.keep(parts) }
    }

    fn keep(&mut self, parts: &[&str]) -> Span {
        let start = self.texts.len();
        for part in parts {
            self.texts.extend_from_slice(part.as_bytes());
        }
        // Once for all parts: nearly always there is nothing to take away.
        if memchr::memchr3(b'\r', b'\n', 0, self.texts.get(start..).unwrap_or_default()).is_some() {
            let kept: SmallVec<[u8; 512]> = self.texts.drain(start..).filter(|byte| !is_break(*byte)).collect();
            self.texts.extend_from_slice(&kept);
        }
        Span::new(start, self.texts.len())
    }
}

/// What follows the first value of a list.
fn behind_first(list: &str) -> &str {
    let mut rest = list;
    while !rest.is_empty() {
        let (first, behind) = cut(rest, find_separator(rest, b','));
        rest = behind;
        if !trim(first).is_empty() {
            break;
        }
    }
    trim(rest)
}

/// Takes away what would end a line or a text early: a line break of a folded value, or of an attack.
pub(super) fn single_line(value: &str) -> Cow<'_, str> {
    if find_break(value.as_bytes(), 0).is_some() {
        Cow::Owned(value.replace(|c: char| u8::try_from(c).is_ok_and(is_break), ""))
    } else {
        Cow::Borrowed(value)
    }
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}
