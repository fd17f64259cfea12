//! New messages, written and indexed at once.

use bytes::Bytes;

use super::edit::single_line;
use super::scan::{Slot, Slots, Span, StartLine, is_token, offset};
use super::{Header, Message, Method};

/// Builds a request or a response.
///
/// Values lose CR, LF and NUL, so nothing that came from elsewhere can begin a new line. Content-Length is written by
/// [`Builder::finish`], last of all fields.
#[derive(Debug)]
pub struct Builder {
    writer: Writer,
    body: Vec<u8>,
    /// The request whose To is still to be written, with the tag it shall get.
    to: Option<(String, Option<String>)>,
}

impl Builder {
    /// Begins a request. A method that is no token, or a URI with white space, gives a request that nobody accepts; it can
    /// never be more than one line.
    pub fn request(method: &str, uri: &str) -> Builder {
        let mut writer = Writer::with_capacity(1024);
        writer.request_line(&single_line(method), &single_line(uri));
        Builder { writer, body: Vec::new(), to: None }
    }

    /// Begins a response to a request: Via, From, To, Call-ID and CSeq are copied as they are (RFC 3261 §8.2.6.2), and
    /// Timestamp into a 100 (§8.2.6.1). An empty reason stands for the usual phrase.
    pub fn response(request: &Message, status: u16, reason: &str) -> Builder {
        let mut writer = Writer::with_capacity(1024);
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        writer.status_line(status.clamp(100, 699), &single_line(reason));
        let (mut to, mut has_to) = (None, false);
        for (index, slot) in request.slots.iter().enumerate() {
            let is_copied = matches!(slot.header, Header::Via | Header::From | Header::CallId | Header::CSeq)
                || (slot.header == Header::Timestamp && status == 100);
            if is_copied {
                writer.copy_line(request, index);
            } else if slot.header == Header::To && !has_to {
                has_to = true;
                if status == 100 || request.to().is_ok_and(|to| to.tag().is_some()) {
                    writer.copy_line(request, index);
                } else {
                    to = Some((request.text(slot.value()).to_owned(), None));
                }
            }
        }
        Builder { writer, body: Vec::new(), to }
    }

    /// Gives To this tag, if the request had none; not in a 100 (RFC 3261 §8.2.6.2).
    pub fn to_tag(mut self, tag: &str) -> Builder {
        if let Some((_, place)) = &mut self.to {
            *place = Some(tag.to_owned());
        }
        self
    }

    /// Adds a field. [`Header::ContentLength`] is left out, and so is [`Header::Other`].
    pub fn header(mut self, header: Header, value: &str) -> Builder {
        self.write_to();
        if !matches!(header, Header::ContentLength | Header::Other) {
            self.writer.field(header, "", &single_line(value));
        }
        self
    }

    /// Adds a field of any name. A name that is no token is left out.
    pub fn header_named(mut self, name: &str, value: &str) -> Builder {
        let known = Header::from_name(name);
        if known != Header::Other {
            return self.header(known, value);
        }
        self.write_to();
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
    pub fn finish(mut self) -> Message {
        self.write_to();
        self.writer.finish(&self.body)
    }

    fn write_to(&mut self) {
        match self.to.take() {
            Some((value, Some(tag))) => self.writer.field(Header::To, "", &single_line(&format!("{value};tag={tag}"))),
            Some((value, None)) => self.writer.field(Header::To, "", &single_line(&value)),
            None => {}
        }
    }
}

/// Writes a message and its index together, so what we write need not be parsed.
#[derive(Debug)]
pub(super) struct Writer {
    out: Vec<u8>,
    slots: Slots,
    start_line: StartLine,
}

impl Writer {
    pub(super) fn with_capacity(capacity: usize) -> Writer {
        let start_line = StartLine::Response { status: 0, reason: Span::default() };
        Writer { out: Vec::with_capacity(capacity), slots: Slots::new(), start_line }
    }

    pub(super) fn request_line(&mut self, method: &str, uri: &str) {
        let name = self.put(method);
        self.put(" ");
        let uri = self.put(uri);
        self.put(" SIP/2.0\r\n");
        self.start_line = StartLine::Request { method: Method::from_name(method), name, uri };
    }

    pub(super) fn status_line(&mut self, status: u16, reason: &str) {
        self.put("SIP/2.0 ");
        self.put_number(usize::from(status));
        self.put(" ");
        let reason = self.put(reason);
        self.put("\r\n");
        self.start_line = StartLine::Response { status, reason };
    }

    /// Copies a field with its line breaks as it is.
    pub(super) fn copy_line(&mut self, message: &Message, index: usize) {
        let Some(slot) = message.slots.get(index) else {
            return;
        };
        let start = offset(self.out.len());
        let line = message.line(slot);
        self.out.extend_from_slice(line);
        if !line.ends_with(b"\r\n") {
            self.put("\r\n");
        }
        self.slots.push(slot.moved_to(start));
    }

    /// Writes a field; `name` counts where the header is [`Header::Other`]. A name that is no token is left out.
    pub(super) fn field(&mut self, header: Header, name: &str, value: &str) {
        let name = if header == Header::Other { name } else { header.as_str() };
        if name.is_empty() || !name.bytes().all(is_token) {
            return;
        }
        let start = self.put(name).start;
        self.put(": ");
        let value = self.put(super::list::trim(value));
        self.put("\r\n");
        match Slot::new(start, header, name.len(), value) {
            Some(slot) => self.slots.push(slot),
            // Nobody would read a line of 64 KiB.
            None => self.out.truncate(start as usize),
        }
    }

    pub(super) fn finish(mut self, body: &[u8]) -> Message {
        if !self.slots.iter().any(|slot| slot.header == Header::ContentLength) {
            let start = self.put("Content-Length").start;
            self.put(": ");
            let value = self.put_number(body.len());
            self.put("\r\n");
            self.slots.extend(Slot::new(start, Header::ContentLength, "Content-Length".len(), value));
        }
        self.put("\r\n");
        let head = offset(self.out.len());
        self.out.extend_from_slice(body);
        Message { bytes: Bytes::from(self.out), start_line: self.start_line, slots: self.slots, body: head }
    }

    fn put(&mut self, text: &str) -> Span {
        let start = self.out.len();
        self.out.extend_from_slice(text.as_bytes());
        Span::new(start, self.out.len())
    }

    fn put_number(&mut self, mut number: usize) -> Span {
        let mut digits = [b'0'; 20];
        let mut first = digits.len();
        for place in digits.iter_mut().rev() {
            *place = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
            first -= 1;
            if number == 0 {
                break;
            }
        }
        let start = self.out.len();
        self.out.extend_from_slice(digits.get(first..).unwrap_or_default());
        Span::new(start, self.out.len())
    }
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
