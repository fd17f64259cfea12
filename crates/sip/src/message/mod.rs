//! SIP messages (RFC 3261 §7): a zero-copy parser, typed views of what a proxy needs, and a byte-exact editor.
//!
//! Parsing is one pass ([`scan`]) that finds framing and header index together and allocates nothing for up to 32 header
//! fields ([`Parsed`]); what goes through the engine is shared ([`Message`]). Values are read when they are asked for;
//! [`Parsed::validate`] reads all that a proxy relies on, and what everybody asks for again stays `known`. What is not edited is
//! forwarded byte for byte, unknown methods and headers included.
//!
//! Not here: bodies (they are bytes), transactions, and any opinion about what a message should cause.

mod build;
mod classes;
#[cfg(test)]
mod combinations;
mod edit;
mod error;
mod header;
mod identity;
mod known;
mod list;
mod method;
mod name_addr;
mod names;
mod octets;
mod remainder;
mod scan;
mod slots;
mod splice;
mod start_line;
#[cfg(test)]
mod tests;
mod uri;
mod validate;
mod via;

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::{Buf, Bytes};

pub use build::{Builder, reason_phrase};
pub use edit::Editor;
pub use error::ParseError;
pub use header::Header;
pub use identity::Identity;
pub use list::{Params, Values, split_values};
pub use method::Method;
pub use name_addr::NameAddr;
pub use uri::{MAX_COMPARED, Uri};
pub use via::{COOKIE, Via};

use known::Known;
use octets::Octets;
pub(crate) use remainder::Remainder;
pub(crate) use scan::{BareBreaks, Progress, Scanner};
use scan::{Span, StartLine};
use slots::{Slot, Slots};
pub(crate) use validate::Essentials;

/// A message is at most as large as the largest datagram, whatever carries it: 64 KiB. An SDP has 2 KiB, a picture in a
/// MESSAGE no place. Beyond: 513.
pub const MAX_MESSAGE_LEN: usize = 65_536;

/// A head may fill a message. Real ones have 400 to 4,000 bytes. Beyond: 513.
pub const MAX_HEAD_LEN: usize = MAX_MESSAGE_LEN;

/// Header fields in one message, at most. Vias, Routes and History-Info of a long path stay far below it. Beyond: 513.
pub const MAX_FIELDS: usize = 256;

/// One header field with all its folded lines, or the start line, is at most 8 KiB: an Identity with its certificate's URL
/// has 1 KiB, a page of Vias folded into one field 4 KiB. Beyond: 513.
pub const MAX_LINE_LEN: usize = 8192;

/// A URI is at most 1 KiB: a contact with GRUU, flow and push parameters has about 500 bytes. Beyond: 400.
pub const MAX_URI_LEN: usize = 1024;

/// Via values in one message, at most: as many as the hops that Max-Forwards usually allows (RFC 3261 §8.1.1.6). Beyond: 400.
pub const MAX_VIAS: usize = 70;

/// A SIP message. It goes through many hands: moving it moves a pointer, cloning it counts.
#[derive(Clone)]
pub struct Message(Arc<Parsed>);

/// What a message is: its bytes and an index of its header fields.
#[derive(Clone)]
pub struct Parsed {
    octets: Octets,
    start_line: StartLine,
    slots: Slots,
    body: u32,
    /// What was read as it was checked.
    known: OnceLock<Known>,
}

impl Message {
    /// Parses a datagram; see [`Parsed::parse`].
    ///
    /// # Errors
    ///
    /// As [`Parsed::parse`].
    pub fn parse(mut datagram: Bytes) -> Result<Message, ParseError> {
        Parsed::parse_from(&mut datagram)
    }

    /// Parses a datagram as [`Message::parse`] does; of one that is refused, gives what [`Message::parse_lenient`] reads of it.
    ///
    /// # Errors
    ///
    /// As [`Parsed::parse`], and what can be answered.
    pub fn parse_or_partial(mut datagram: Bytes) -> Result<Message, (ParseError, Option<Message>)> {
        Parsed::parse_from(&mut datagram).map_err(|error| (error, Message::parse_lenient(datagram)))
    }

    /// Reads what can be read of a request that [`Message::parse`] refused, so that it can be answered.
    ///
    /// The outcome must never be forwarded: others may read those bytes differently. Lines that are malformed are left
    /// out; `None` where not even a method is known, or for a response.
    pub fn parse_lenient(mut datagram: Bytes) -> Option<Message> {
        skip_line_breaks(&mut datagram);
        let mut scanner = Scanner::new(BareBreaks::SkipLine);
        let body = match scanner.scan(&datagram) {
            Progress::Head(body) => body,
            Progress::Incomplete => {
                scanner.finish_unended(&datagram);
                datagram.len()
            }
            Progress::Lost(_) => datagram.len(),
        };
        Message::partial(datagram, &mut scanner, body)
    }

    /// Takes what a scan found; with an error the scan keeps it, for [`Message::partial`].
    pub(crate) fn from_scan(bytes: Bytes, scanner: &mut Scanner, body: usize) -> Result<Message, ParseError> {
        let mut bytes = bytes;
        Parsed::from_scan(&mut bytes, scanner, body)
    }

    /// Takes what a scan found of a request that is refused, to answer it.
    pub(crate) fn partial(bytes: Bytes, scanner: &mut Scanner, body: usize) -> Option<Message> {
        match scanner.start_line? {
            StartLine::Response { .. } => None,
            start_line @ StartLine::Request { .. } => {
                // What is no text cannot be repeated in an answer, which has to be.
                let end_of = |slot: &Slot| Span { start: slot.start, end: slot.value().end };
                let is_text = |slot: &&Slot| {
                    let line = end_of(slot).of(&bytes);
                    crate::effort::spend(line.len());
                    std::str::from_utf8(line).is_ok()
                };
                let slots = scanner.slots.iter().filter(is_text).copied().collect();
                let (octets, body) = (Octets::from(bytes), scan::offset(body));
                Some(Parsed { octets, start_line, slots, body, known: OnceLock::new() }.into())
            }
        }
    }

    /// Starts an edited copy of this message.
    pub fn edit(&self) -> Editor<'_> {
        Editor::new(self)
    }
}

impl From<Parsed> for Message {
    fn from(parsed: Parsed) -> Message {
        Message(Arc::new(parsed))
    }
}

impl Deref for Message {
    type Target = Parsed;

    fn deref(&self) -> &Parsed {
        &self.0
    }
}

impl Parsed {
    /// Parses a datagram. Octets behind Content-Length are discarded (RFC 3261 §18.3); line breaks before the start line
    /// are skipped (§7.5); without Content-Length the body is the rest of the datagram.
    ///
    /// # Errors
    ///
    /// What keeps the message from being read in one way only. A request that is refused can be answered with the help of
    /// [`Message::parse_lenient`]. That the fields are those a request must have is for [`Parsed::validate`].
    pub fn parse(mut datagram: Bytes) -> Result<Parsed, ParseError> {
        Parsed::parse_from(&mut datagram)
    }

    /// As [`Parsed::parse`]; a datagram that is refused stays where it is, but for what is no part of its message. What was
    /// parsed is half a kilobyte, and made where it is wanted.
    fn parse_from<T: From<Parsed>>(datagram: &mut Bytes) -> Result<T, ParseError> {
        skip_line_breaks(datagram);
        if datagram.len() > MAX_MESSAGE_LEN {
            return Err(ParseError::MessageTooLarge);
        }
        let mut scanner = Scanner::new(BareBreaks::Refuse);
        let body = match scanner.scan(datagram) {
            Progress::Head(body) => body,
            Progress::Incomplete => return Err(ParseError::Unfinished),
            Progress::Lost(error) => return Err(error),
        };
        if let Some(fault) = scanner.length_fault {
            return Err(fault);
        }
        if let Some(length) = scanner.content_length {
            let end = body.saturating_add(length);
            if end > datagram.len() {
                return Err(ParseError::BodyTruncated);
            }
            if end < datagram.len() {
                datagram.truncate(end);
            }
        }
        Parsed::from_scan(datagram, &mut scanner, body)
    }

    fn from_scan<T: From<Parsed>>(bytes: &mut Bytes, scanner: &mut Scanner, body: usize) -> Result<T, ParseError> {
        if let Some(defect) = scanner.defect {
            return Err(defect);
        }
        let start_line = scanner.start_line.ok_or(ParseError::StartLine)?;
        crate::effort::spend(2 * bytes.len());
        let octets = Octets::from(std::mem::take(bytes));
        if let Octets::Mixed(mixed) = &octets
            && std::str::from_utf8(mixed.get(..body).unwrap_or_default()).is_err()
        {
            *bytes = mixed.clone();
            return Err(ParseError::NotUtf8);
        }
        let slots = std::mem::take(&mut scanner.slots);
        Ok(T::from(Parsed { octets, start_line, slots, body: scan::offset(body), known: OnceLock::new() }))
    }

    /// Returns the whole message as it came, without what followed it.
    pub fn bytes(&self) -> &Bytes {
        self.octets.bytes()
    }

    /// Tells a request from a response.
    pub fn is_request(&self) -> bool {
        matches!(self.start_line, StartLine::Request { .. })
    }

    /// Returns the request line's method; for a response the one that CSeq names.
    pub fn method(&self) -> Method {
        match self.start_line {
            StartLine::Request { method, .. } => method,
            StartLine::Response { .. } => self.cseq().map_or(Method::Other, |cseq| Method::from_name(cseq.method)),
        }
    }

    /// Returns the method's name as it is written; for a response the one that CSeq names, `""` if there is none.
    pub fn method_name(&self) -> &str {
        match self.start_line {
            StartLine::Request { name, .. } => self.text(name),
            StartLine::Response { .. } => self.cseq().map_or("", |cseq| cseq.method),
        }
    }

    /// Returns the Request-URI as it is written; `""` for a response.
    pub fn request_uri(&self) -> &str {
        match self.start_line {
            StartLine::Request { uri, .. } => self.text(uri),
            StartLine::Response { .. } => "",
        }
    }

    /// Returns the status code, 100 to 699; 0 for a request.
    pub fn status(&self) -> u16 {
        match self.start_line {
            StartLine::Request { .. } => 0,
            StartLine::Response { status, .. } => status,
        }
    }

    /// Returns the reason phrase, which may be empty; `""` for a request.
    pub fn reason(&self) -> &str {
        match self.start_line {
            StartLine::Request { .. } => "",
            StartLine::Response { reason, .. } => self.text(reason),
        }
    }

    /// Returns the value of the first field of this name, trimmed; a folded value still holds its line breaks.
    pub fn header(&self, name: Header) -> Option<&str> {
        self.fields(name).next()
    }

    /// Returns the value of the first field of this name, for names that [`Header`] does not list. Case does not matter, and
    /// a compact form stands for its long one.
    pub fn header_named(&self, name: &str) -> Option<&str> {
        let known = Header::from_name(name);
        if known != Header::Other {
            return self.header(known);
        }
        let is_it = |slot: &&Slot| slot.header == Header::Other && self.text(slot.name()).eq_ignore_ascii_case(name);
        self.slots.since_first(Header::Other).iter().find(is_it).map(|slot| self.text(slot.value()))
    }

    /// Iterates over the values of all fields of this name, one for each field line.
    pub fn fields(&self, name: Header) -> impl Iterator<Item = &str> {
        self.slots.since_first(name).iter().filter(move |slot| slot.header == name).map(|slot| self.text(slot.value()))
    }

    /// Iterates over name and value of every field, in the order of the message.
    pub fn all_fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.slots.iter().map(|slot| (self.text(slot.name()), self.text(slot.value())))
    }

    /// Iterates over the comma-separated values of all fields of this name, commas in quotes and `<>` respected.
    ///
    /// Not for fields whose grammar has no list of values, such as Date or Authorization; see [`Parsed::fields`].
    pub fn values(&self, name: Header) -> impl Iterator<Item = &str> {
        self.fields(name).flat_map(split_values)
    }

    /// Returns the body, exactly as long as Content-Length says.
    pub fn body(&self) -> &[u8] {
        self.bytes().get(self.body as usize..).unwrap_or_default()
    }

    /// Reads the topmost Via.
    ///
    /// # Errors
    ///
    /// [`ParseError::Missing`] or [`ParseError::Malformed`].
    pub fn top_via(&self) -> Result<Via<'_>, ParseError> {
        self.fields(Header::Via)
            .find_map(|mut list| Via::take_from(&mut list))
            .ok_or(ParseError::Missing(Header::Via))?
    }

    /// Reads From.
    ///
    /// # Errors
    ///
    /// [`ParseError::Missing`] or [`ParseError::Malformed`].
    pub fn from(&self) -> Result<NameAddr<'_>, ParseError> {
        self.name_addr(Header::From, self.known().from)
    }

    /// Reads To.
    ///
    /// # Errors
    ///
    /// [`ParseError::Missing`] or [`ParseError::Malformed`].
    pub fn to(&self) -> Result<NameAddr<'_>, ParseError> {
        self.name_addr(Header::To, self.known().to)
    }

    fn name_addr(&self, name: Header, known: Option<known::Address>) -> Result<NameAddr<'_>, ParseError> {
        let value = self.header(name).ok_or(ParseError::Missing(name))?;
        match known.and_then(|known| known.of(value)) {
            Some(address) => Ok(address),
            None => NameAddr::parse(value).map_err(|_| ParseError::Malformed(name)),
        }
    }

    /// Returns the tag of From; `None` also where From is missing or malformed.
    pub fn from_tag(&self) -> Option<&str> {
        match self.known().from {
            Some(known) => known.tag_of(self.header(Header::From)?),
            None => self.from().ok()?.tag(),
        }
    }

    /// Returns the tag of To; `None` also where To is missing or malformed.
    pub fn to_tag(&self) -> Option<&str> {
        match self.known().to {
            Some(known) => known.tag_of(self.header(Header::To)?),
            None => {
                // Whoever begins something has no tag, and then mostly no parameter of any kind.
                let has_value = memchr::memchr(b'=', self.header(Header::To)?.as_bytes()).is_some();
                has_value.then(|| self.to().ok()?.tag()).flatten()
            }
        }
    }

    /// Reads CSeq.
    ///
    /// # Errors
    ///
    /// [`ParseError::Missing`], or [`ParseError::Malformed`] when the number does not fit 32 bits.
    pub fn cseq(&self) -> Result<CSeq<'_>, ParseError> {
        let value = self.header(Header::CSeq).ok_or(ParseError::Missing(Header::CSeq))?;
        let known = self.known().cseq.and_then(|known| known.of(value));
        known.or_else(|| CSeq::parse(value)).ok_or(ParseError::Malformed(Header::CSeq))
    }

    /// Returns the Call-ID; `""` when it is missing, which [`Parsed::validate`] refuses.
    pub fn call_id(&self) -> &str {
        self.header(Header::CallId).unwrap_or_default()
    }

    /// Reads Max-Forwards; `None` when there is none, as RFC 2543 allows.
    ///
    /// # Errors
    ///
    /// [`ParseError::Malformed`] above 255 (RFC 3261 §20.22).
    pub fn max_forwards(&self) -> Result<Option<u8>, ParseError> {
        self.number(Header::MaxForwards)
    }

    /// Reads Expires, in seconds.
    ///
    /// # Errors
    ///
    /// [`ParseError::Malformed`] when the number does not fit 32 bits (RFC 3261 §20.19).
    pub fn expires(&self) -> Result<Option<u32>, ParseError> {
        self.number(Header::Expires)
    }

    fn number<T: TryFrom<u32>>(&self, name: Header) -> Result<Option<T>, ParseError> {
        let Some(value) = self.header(name) else {
            return Ok(None);
        };
        let number = list::decimal(value).and_then(|number| T::try_from(number).ok());
        number.map(Some).ok_or(ParseError::Malformed(name))
    }

    /// Reads the contacts one by one; `*` is a value too, see [`NameAddr::is_wildcard`].
    pub fn contacts(&self) -> impl Iterator<Item = Result<NameAddr<'_>, ParseError>> {
        let known = self.known().contact.and_then(|known| known.of(self.header(Header::Contact)?));
        let others = known.is_none().then(|| self.values(Header::Contact).map(NameAddr::parse));
        known.map(Ok).into_iter().chain(others.into_iter().flatten())
    }

    /// Checks what every request or response must satisfy before it is acted upon; what RFC 4475 answers with 400.
    ///
    /// # Errors
    ///
    /// The first fault found; [`ParseError::status`] says how to answer it. Faulty responses are dropped.
    pub fn validate(&self) -> Result<(), ParseError> {
        validate::read(self).map(|_| ())
    }

    /// Validates the message, and gives what was read for that; the message keeps a part of it.
    pub(crate) fn read_essentials(&self) -> Result<Essentials<'_>, ParseError> {
        let (essentials, known) = validate::read(self)?;
        let _ = self.known.set(known);
        Ok(essentials)
    }

    fn known(&self) -> Known {
        self.known.get().copied().unwrap_or_default()
    }

    /// The head was checked to be UTF-8 as a whole, and spans begin and end at ASCII; a span of a partial message may not be
    /// text, and reads as nothing.
    fn text(&self, span: Span) -> &str {
        self.octets.text(span)
    }

    /// The bytes of a field's line or lines with their line break, which a head that was cut off may lack.
    ///
    /// Behind the trimmed value there are only spaces up to the end: a fold to nothing is no part of it (where a head was cut off
    /// behind one, an answer must not repeat what is refused). The next field's start would not do: in a partial
    /// message there may be a line between that was left out.
    fn line(&self, slot: &Slot) -> &[u8] {
        let head = self.bytes().get(slot.start as usize..).unwrap_or_default();
        let mut end = slot.value().end.saturating_sub(slot.start) as usize;
        loop {
            match head.get(end..).unwrap_or_default() {
                [b' ' | b'\t', ..] => end += 1,
                [b'\r', b'\n', ..] => return head.get(..end + 2).unwrap_or_default(),
                _ => return head.get(..end).unwrap_or_default(),
            }
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Debug for Parsed {
    /// Prints the start line only: headers and bodies hold addresses and secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.start_line {
            StartLine::Request { .. } => write!(f, "Message({} <uri>)", self.method_name()),
            StartLine::Response { status, .. } => {
                write!(f, "Message({status} to {})", self.method_name())
            }
        }
    }
}

/// CSeq: the number of a request within its dialog, and its method (RFC 3261 §20.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// The sequence number. RFC 3261 §8.1.1.5 asks for less than 2^31; all 32 bits are taken.
    pub number: u32,
    /// The method's name.
    pub method: &'a str,
}

impl<'a> CSeq<'a> {
    fn parse(value: &'a str) -> Option<CSeq<'a>> {
        let space = value.bytes().position(classes::is_space)?;
        let (number, method) = value.split_at_checked(space)?;
        let method = list::trim(method);
        let is_token = !method.is_empty() && classes::run(method.as_bytes(), 0, classes::TOKEN) == method.len();
        list::decimal(number).filter(|_| is_token).map(|number| CSeq { number, method })
    }
}

fn skip_line_breaks(bytes: &mut Bytes) {
    let breaks = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    if breaks > 0 {
        bytes.advance(breaks);
    }
}
