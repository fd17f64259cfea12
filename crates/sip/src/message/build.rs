//! New messages, written and indexed at once.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::classes::is_token;
use super::edit::single_line;
use super::known::Known;
use super::list::trim;
use super::octets::Octets;
use super::scan::{Span, StartLine, offset};
use super::slots::{Slot, Slots};
use super::{Header, Message, Method, Parsed};
use crate::text::Decimal;

/// Room for what is added to a response beside the fields of its request: Server, Contact, Allow and the like.
const RESPONSE_ROOM: usize = 256;

/// Builds a request or a response.
///
/// Values lose CR, LF and NUL, so nothing that came from elsewhere can begin a new line. Content-Length is written by
/// [`Builder::finish`], last of all fields.
#[derive(Debug)]
pub struct Builder {
    writer: Writer,
    body: Vec<u8>,
    /// Whether To may still get a tag.
    wants_tag: bool,
}

impl Builder {
    /// Begins a request. A method that is no token, or a URI with white space, gives a request that nobody accepts; it can
    /// never be more than one line.
    pub fn request(method: &str, uri: &str) -> Builder {
        let mut writer = Writer::with_capacity(1024);
        let method = single_line(method);
        writer.request_line(Method::from_name(&method), &method, &single_line(uri));
        Builder { writer, body: Vec::new(), wants_tag: false }
    }

    /// Begins a response to a request: Via, From, To, Call-ID and CSeq are copied as they are (RFC 3261 §8.2.6.2), and
    /// Timestamp into a 100 (§8.2.6.1). An empty reason stands for the usual phrase.
    pub fn response(request: &Message, status: u16, reason: &str) -> Builder {
        let (mut runs, mut len): (SmallVec<[Range<usize>; 4]>, usize) = (SmallVec::new(), RESPONSE_ROOM);
        let mut has_to = false;
        for (index, slot) in request.slots.iter().enumerate() {
            let is_copied = if slot.header == Header::To { !has_to } else { slot.is_repeated_in_responses() };
            if is_copied || (slot.header == Header::Timestamp && status == 100) {
                has_to |= slot.header == Header::To;
                len += slot.value().end.saturating_sub(slot.start) as usize + 2;
                match runs.last_mut() {
                    Some(run) if run.end == index => run.end += 1,
                    Some(_) | None => runs.push(index..index + 1),
                }
            }
        }
        let mut writer = Writer::with_capacity(len);
        let reason = if reason.is_empty() { Cow::Borrowed(reason_phrase(status)) } else { single_line(reason) };
        writer.status_line(status.clamp(100, 699), &reason);
        runs.into_iter().for_each(|run| writer.copy_fields(request, run.start, run.end));
        writer.known = request.known();
        writer.known.forget(Header::Contact);
        let wants_tag = status != 100 && request.to_tag().is_none();
        Builder { writer, body: Vec::new(), wants_tag }
    }

    /// Gives To this tag, if the request had none; not in a 100 (RFC 3261 §8.2.6.2).
    pub fn to_tag(mut self, tag: &str) -> Builder {
        self.put_to_tag(tag);
        self
    }

    /// As [`Builder::to_tag`], in place: a builder is large.
    pub(crate) fn put_to_tag(&mut self, tag: &str) {
        if std::mem::take(&mut self.wants_tag) {
            self.writer.put_to_tag(trim(&single_line(tag)));
        }
    }

    /// Adds a field. [`Header::ContentLength`] is left out, and so is [`Header::Other`].
    pub fn header(mut self, header: Header, value: &str) -> Builder {
        self.put(header, value);
        self
    }

    /// As [`Builder::header`], in place: a builder is large.
    pub(crate) fn put(&mut self, header: Header, value: &str) {
        if !matches!(header, Header::ContentLength | Header::Other) {
            self.writer.field(header, "", &single_line(value));
        }
    }

    /// Adds a field of any name. A name that is no token is left out.
    pub fn header_named(mut self, name: &str, value: &str) -> Builder {
        let known = Header::from_name(name);
        if known != Header::Other {
            return self.header(known, value);
        }
        self.writer.field(Header::Other, name, &single_line(value));
        self
    }

    /// Sets the body and its Content-Type.
    pub fn body(self, content_type: &str, body: &[u8]) -> Builder {
        let mut builder = if body.is_empty() { self } else { self.header(Header::ContentType, content_type) };
        builder.body = body.to_vec();
        builder
    }

    /// Returns the message.
    pub fn finish(self) -> Message {
        self.writer.finish(&self.body)
    }
}

/// Writes a message and its index together, so what we write need not be parsed.
#[derive(Debug)]
pub(super) struct Writer {
    out: String,
    slots: Slots,
    start_line: StartLine,
    /// What is known of the fields that are copied, for who gives it.
    pub(super) known: Known,
}

impl Writer {
    pub(super) fn with_capacity(capacity: usize) -> Writer {
        let start_line = StartLine::Response { status: 0, reason: Span::default() };
        Writer { out: String::with_capacity(capacity), slots: Slots::new(), start_line, known: Known::default() }
    }

    pub(super) fn request_line(&mut self, method: Method, name: &str, uri: &str) {
        let name = self.put(name);
        self.put(" ");
        let uri = self.put(uri);
        self.put(" SIP/2.0\r\n");
        self.start_line = StartLine::Request { method, name, uri };
    }

    pub(super) fn status_line(&mut self, status: u16, reason: &str) {
        self.put("SIP/2.0 ");
        self.put_number(u32::from(status));
        self.put(" ");
        let reason = self.put(reason);
        self.put("\r\n");
        self.start_line = StartLine::Response { status, reason };
    }

    /// Copies the fields `from..to` with their line breaks as they are, each run of neighbours at once.
    pub(super) fn copy_fields(&mut self, message: &Message, from: usize, to: usize) {
        let mut rest = message.slots.get(from..to).unwrap_or_default();
        while let Some((run, behind)) = rest.split_at_checked(run_len(rest))
            && let (Some(first), Some(last)) = (run.first(), run.last())
        {
            let start = offset(self.out.len());
            let end = last.start as usize + message.line(last).len();
            let lines = message.text(Span { start: first.start, end: offset(end) });
            rest = behind;
            // Each of them was seen to be text.
            if lines.is_empty() {
                continue;
            }
            self.out.push_str(lines);
            if !lines.ends_with("\r\n") {
                self.put("\r\n");
            }
            let moved = |at: u32| at.saturating_sub(first.start).saturating_add(start);
            self.slots.extend(run.iter().map(|slot| slot.moved_to(moved(slot.start))));
        }
    }

    /// Writes a field; `name` counts where the header is [`Header::Other`]. A name that is no token is left out.
    pub(super) fn field(&mut self, header: Header, name: &str, value: &str) {
        let name = if header == Header::Other { name } else { header.as_str() };
        if name.is_empty() || (header == Header::Other && !name.bytes().all(is_token)) {
            return;
        }
        let start = self.put(name).start;
        self.put(": ");
        let value = self.put(trim(value));
        self.put("\r\n");
        match Slot::new(start, header, name.len(), value) {
            Some(slot) => self.slots.push(slot),
            // Nobody would read a line of 64 KiB.
            None => self.out.truncate(start as usize),
        }
    }

    /// Puts a tag behind To, which was copied.
    fn put_to_tag(&mut self, tag: &str) {
        let Some(index) = self.slots.position(Header::To) else { return };
        let Some(to) = self.slots.get(index).copied() else { return };
        let Span { start, end } = to.value();
        let added = offset(";tag=".len() + tag.len());
        let moved = |at: u32| at.saturating_add(added);
        let tagged = Slot::new(to.start, Header::To, to.name().len(), Span { start, end: moved(end) });
        if tagged.is_some() {
            // What follows is two fields as a rule.
            self.out.insert_str(end as usize, tag);
            self.out.insert_str(end as usize, ";tag=");
            self.slots.splice(index, tagged, moved);
            self.known.to = self.known.to.and_then(|known| known.tagged(to.value().len(), tag));
        }
    }

    pub(super) fn finish(mut self, body: &[u8]) -> Message {
        if !self.slots.contains(Header::ContentLength) {
            let start = self.put("Content-Length").start;
            self.put(": ");
            let value = self.put_number(offset(body.len()));
            self.put("\r\n");
            self.slots.extend(Slot::new(start, Header::ContentLength, "Content-Length".len(), value));
        }
        self.put("\r\n");
        let head = offset(self.out.len());
        let octets = match std::str::from_utf8(body) {
            Ok(body) => {
                self.out.push_str(body);
                Octets::from(self.out)
            }
            Err(_) => Octets::Mixed(Bytes::from([self.out.as_bytes(), body].concat())),
        };
        let known = self.known.into();
        Parsed { octets, start_line: self.start_line, slots: self.slots, body: head, known }.into()
    }

    fn put(&mut self, text: &str) -> Span {
        let start = self.out.len();
        self.out.push_str(text);
        Span::new(start, self.out.len())
    }

    fn put_number(&mut self, number: u32) -> Span {
        self.put(Decimal::from(number).as_str())
    }
}

/// How many fields from the first on stand directly one behind the other, with nothing between value and line break.
fn run_len(slots: &[Slot]) -> usize {
    let parted = |pair: &[Slot]| matches!(pair, [one, next] if one.value().end.saturating_add(2) != next.start);
    slots.windows(2).position(parted).map_or(slots.len(), |gap| gap + 1)
}

/// Returns the usual phrase of a status code (RFC 3261 §21 and extensions).
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        423 => "Interval Too Brief",
        430 => "Flow Failed",
        436 => "Bad Identity Info",
        437 => "Unsupported Credential",
        438 => "Invalid Identity Header",
        440 => "Max-Breadth Exceeded",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => match status / 100 {
            1 => "Progress",
            2 => "Success",
            3 => "Redirection",
            4 => "Client Error",
            5 => "Server Error",
            _ => "Global Failure",
        },
    }
}
