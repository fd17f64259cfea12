//! Edited copies of a message: what is not named stays as it came, byte for byte.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::build::Writer;
use super::list::{cut, find_separator, trim};
use super::scan::Span;
use super::{Header, Message, StartLine};

/// Collects edits of a message; [`Editor::finish`] writes the copy. Edits apply in the order they are made, each seeing
/// the ones before.
///
/// Values lose CR, LF and NUL, so nothing that came from elsewhere can begin a new line. Content-Length is the editor's
/// own business: it is set when the body changes, and added where it is missing.
#[derive(Debug, Clone)]
pub struct Editor<'a> {
    message: &'a Message,
    /// All texts handed in, one behind the other; lines refer to it.
    texts: SmallVec<[u8; 768]>,
    lines: SmallVec<[Line; 40]>,
    request_uri: Option<Span>,
    body: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
enum Line {
    /// The field of this index, unchanged.
    Kept(usize, Header),
    /// A field of ours; `name` is empty where the header has a name of its own.
    New { header: Header, name: Span, value: Span },
}

impl Line {
    fn header(&self) -> Header {
        match self {
            Line::Kept(_, header) | Line::New { header, .. } => *header,
        }
    }
}

impl<'a> Editor<'a> {
    pub(super) fn new(message: &'a Message) -> Editor<'a> {
        let lines = message.slots.iter().enumerate().map(|(index, slot)| Line::Kept(index, slot.header)).collect();
        Editor { message, texts: SmallVec::new(), lines, request_uri: None, body: None }
    }

    /// Replaces the Request-URI; nothing happens to a response.
    pub fn request_uri(&mut self, uri: &str) -> &mut Self {
        self.request_uri = Some(self.keep(uri));
        self
    }

    /// Adds a field line before the first of this name; without one, right behind the start line.
    pub fn prepend(&mut self, header: Header, value: &str) -> &mut Self {
        let line = self.line(header, value);
        let at = self.position(header).unwrap_or(0);
        self.lines.insert(at, line);
        self
    }

    /// Adds a field line behind the last of this name; without one, at the end of the head.
    pub fn append(&mut self, header: Header, value: &str) -> &mut Self {
        let line = self.line(header, value);
        let at = self.lines.iter().rposition(|line| line.header() == header).map_or(self.lines.len(), |last| last + 1);
        self.lines.insert(at, line);
        self
    }

    /// Adds a field line of any name at the end of the head. A name that is no token is left out.
    pub fn append_named(&mut self, name: &str, value: &str) -> &mut Self {
        let known = Header::from_name(name);
        if known != Header::Other {
            return self.append(known, value);
        }
        let line = Line::New { header: Header::Other, name: self.keep(name), value: self.keep(value) };
        self.lines.push(line);
        self
    }

    /// Replaces the first comma-separated value of this name; without one, adds it as [`Editor::prepend`] does.
    pub fn replace_first_value(&mut self, header: Header, value: &str) -> &mut Self {
        let Some(at) = self.position(header) else {
            return self.prepend(header, value);
        };
        let rest = self.behind_first_value(at);
        let mut text = String::with_capacity(value.len() + rest.len() + 2);
        text.push_str(value);
        if !rest.is_empty() {
            text.push_str(", ");
            text.push_str(&rest);
        }
        let line = self.line(header, &text);
        self.replace(at, Some(line))
    }

    /// Removes the first comma-separated value of this name, with its line if it was the only one there.
    pub fn pop_value(&mut self, header: Header) -> &mut Self {
        let Some(at) = self.position(header) else {
            return self;
        };
        let rest = self.behind_first_value(at);
        let line = (!rest.is_empty()).then(|| self.line(header, &rest));
        self.replace(at, line)
    }

    /// Makes this the only value of this name: in place of the first one, or at the end of the head.
    pub fn set(&mut self, header: Header, value: &str) -> &mut Self {
        let line = self.line(header, value);
        match self.position(header) {
            Some(at) => {
                self.remove(header);
                self.lines.insert(at, line);
            }
            None => self.lines.push(line),
        }
        self
    }

    /// Removes all fields of this name.
    pub fn remove(&mut self, header: Header) -> &mut Self {
        if header != Header::Other {
            self.lines.retain(|line| line.header() != header);
        }
        self
    }

    /// Removes all fields of this name, for names that [`Header`] does not list.
    pub fn remove_named(&mut self, name: &str) -> &mut Self {
        let known = Header::from_name(name);
        if known != Header::Other {
            return self.remove(known);
        }
        let (message, texts) = (self.message, &self.texts);
        self.lines.retain(|line| {
            let other = match line {
                Line::Kept(index, Header::Other) => {
                    message.slots.get(*index).map_or("", |slot| message.text(slot.name()))
                }
                Line::New { header: Header::Other, name, .. } => text(texts, *name),
                Line::Kept(..) | Line::New { .. } => return true,
            };
            !other.eq_ignore_ascii_case(name)
        });
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
        let mut writer =
            Writer::with_capacity(message.bytes.len() + self.texts.len() + self.lines.len() * 4 + body.len() + 64);
        match message.start_line {
            StartLine::Request { name, .. } => {
                let uri = self.request_uri.map_or(message.request_uri(), |uri| text(&self.texts, uri));
                writer.request_line(message.text(name), uri);
            }
            StartLine::Response { status, reason } => writer.status_line(status, message.text(reason)),
        }
        for line in &self.lines {
            match line {
                Line::Kept(index, _) => writer.copy_line(message, *index),
                Line::New { header: Header::ContentLength, .. } => {}
                Line::New { header, name, value } => {
                    writer.field(*header, text(&self.texts, *name), text(&self.texts, *value));
                }
            }
        }
        writer.finish(body)
    }

    /// Other names are not one header, so they are never meant.
    fn position(&self, header: Header) -> Option<usize> {
        let is_it = |line: &Line| line.header() == header && header != Header::Other;
        self.lines.iter().position(is_it)
    }

    fn replace(&mut self, at: usize, line: Option<Line>) -> &mut Self {
        match line {
            Some(line) => {
                if let Some(place) = self.lines.get_mut(at) {
                    *place = line;
                }
            }
            None => {
                self.lines.remove(at);
            }
        }
        self
    }

    /// What follows the first value of a line, as it is written.
    fn behind_first_value(&self, at: usize) -> Cow<'a, str> {
        match self.lines.get(at) {
            Some(Line::Kept(index, _)) => {
                let message = self.message;
                Cow::Borrowed(behind_first(message.slots.get(*index).map_or("", |slot| message.text(slot.value()))))
            }
            Some(Line::New { value, .. }) => Cow::Owned(behind_first(text(&self.texts, *value)).to_owned()),
            None => Cow::Borrowed(""),
        }
    }

    fn line(&mut self, header: Header, value: &str) -> Line {
        Line::New { header, name: Span::default(), value: self.keep(value) }
    }

    fn keep(&mut self, value: &str) -> Span {
        let start = self.texts.len();
        self.texts.extend_from_slice(single_line(value).as_bytes());
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

fn text(texts: &[u8], span: Span) -> &str {
    std::str::from_utf8(span.of(texts)).unwrap_or_default()
}

/// Takes away what would end a line or a text early: a line break of a folded value, or of an attack.
pub(super) fn single_line(value: &str) -> Cow<'_, str> {
    let breaks = |c: char| matches!(c, '\r' | '\n' | '\0');
    if memchr::memchr3(b'\r', b'\n', 0, value.as_bytes()).is_some() {
        Cow::Owned(value.replace(breaks, ""))
    } else {
        Cow::Borrowed(value)
    }
}
