//! The one pass over a message's head: it finds the lines, the framing and the header index together.
//!
//! Datagrams and streams use the same [`Scanner`], so there is never a second reading of Content-Length. It can stop at
//! the end of what has arrived and go on later from where it stopped, so a stream that trickles in costs linear time.

use smallvec::SmallVec;

use super::{Header, MAX_FIELDS, MAX_HEAD_LEN, MAX_LINE_LEN, Method, ParseError};
use crate::effort;

/// Header fields up to this number need no allocation. INVITEs of common phones carry 12 to 25.
pub(crate) const INLINE_FIELDS: usize = 32;

/// Offsets into the message, of a piece of its head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Span {
        Span { start: offset(start), end: offset(end) }
    }

    pub(crate) fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    pub(crate) fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    pub(crate) fn within<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// Heads are bounded far below 4 GiB, so this never saturates; an offset that did would give empty text, not a panic.
pub(crate) fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

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

    /// The same field in a message where its line begins elsewhere.
    pub(crate) fn moved_to(self, start: u32) -> Slot {
        Slot { start, ..self }
    }
}

pub(crate) type Slots = SmallVec<[Slot; INLINE_FIELDS]>;

/// What the first line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartLine {
    /// A request line, with the spans of method and Request-URI.
    Request { method: Method, name: Span, uri: Span },
    /// A status line, with the span of the reason phrase.
    Response { status: u16, reason: Span },
}

/// How far a scan came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The head goes on after the bytes at hand.
    Incomplete,
    /// The head ends here; the body begins at this offset.
    Head(usize),
    /// Where the head ends, or what its lines are, cannot be told.
    Lost(ParseError),
}

/// What to do about a line break that is not CRLF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BareBreaks {
    /// Give up at once.
    Refuse,
    /// Leave the line out of the index and go on; only to answer a message that was refused.
    SkipLine,
}

/// The state of a scan over one message.
#[derive(Debug, Clone)]
pub(crate) struct Scanner {
    pub(crate) start_line: Option<StartLine>,
    pub(crate) slots: Slots,
    pub(crate) content_length: Option<usize>,
    /// The first fault that leaves the framing certain.
    pub(crate) defect: Option<ParseError>,
    /// The first fault of Content-Length: the head's end is certain, the body's is not.
    pub(crate) length_fault: Option<ParseError>,
    bare_breaks: BareBreaks,
    in_start_line: bool,
    skip_line: bool,
    /// The line holds a NUL behind a backslash, or is folded: it has to be looked at again.
    suspicious: bool,
    line_start: usize,
    searched: usize,
}

impl Scanner {
    pub(crate) fn new(bare_breaks: BareBreaks) -> Scanner {
        Scanner {
            start_line: None,
            slots: Slots::new(),
            content_length: None,
            defect: None,
            length_fault: None,
            bare_breaks,
            in_start_line: true,
            skip_line: false,
            suspicious: false,
            line_start: 0,
            searched: 0,
        }
    }

    /// Tells whether nothing was scanned yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.searched == 0
    }

    /// Scans on. `bytes` begins with the start line and holds at least what it held before.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Progress {
        loop {
            let rest = bytes.get(self.searched..).unwrap_or_default();
            let found = memchr::memchr3(b'\r', b'\n', 0, rest);
            effort::spend(found.map_or(rest.len(), |hit| hit + 1));
            let Some(hit) = found else {
                self.searched = bytes.len();
                return self.incomplete();
            };
            let at = self.searched + hit;
            if at > MAX_HEAD_LEN {
                return Progress::Lost(ParseError::HeadTooLarge);
            }
            match (rest.get(hit), bytes.get(at + 1)) {
                (Some(b'\r'), Some(b'\n')) => {}
                (Some(b'\r'), None) => {
                    self.searched = at;
                    return self.incomplete();
                }
                (Some(0), _) => {
                    // RFC 3261 §25.1 lets a NUL stand in a quoted pair; RFC 4475 §3.1.1.2 uses it.
                    if at.checked_sub(1).and_then(|before| bytes.get(before)) != Some(&b'\\') {
                        self.note(ParseError::Nul);
                        self.skip_line = true;
                    }
                    self.suspicious = true;
                    self.searched = at + 1;
                    continue;
                }
                _ => {
                    if self.bare_breaks == BareBreaks::Refuse {
                        return Progress::Lost(ParseError::BareLineBreak);
                    }
                    self.skip_line = true;
                    self.searched = at + 1;
                    continue;
                }
            }
            if at == self.line_start {
                return Progress::Head(at + 2);
            }
            if !self.in_start_line {
                match bytes.get(at + 2) {
                    // Whether the line is folded (RFC 3261 §7.3.1) is known with its next byte.
                    None => {
                        self.searched = at;
                        return self.incomplete();
                    }
                    Some(b' ' | b'\t') => {
                        self.suspicious = true;
                        self.searched = at + 2;
                        continue;
                    }
                    Some(_) => {}
                }
            }
            if let Err(lost) = self.take_line(bytes, at) {
                return Progress::Lost(lost);
            }
            self.line_start = at + 2;
            self.searched = at + 2;
        }
    }

    /// Takes what is left as the last line of a head that has no end; only to answer such a message.
    pub(crate) fn finish_unended(&mut self, bytes: &[u8]) {
        // Half a line break at the end is no part of the line.
        let end = bytes.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
        if self.line_start < end {
            // A head that is lost already can lose no more.
            let _ = self.take_line(bytes, end);
        }
    }

    fn incomplete(&self) -> Progress {
        if self.searched > MAX_HEAD_LEN { Progress::Lost(ParseError::HeadTooLarge) } else { Progress::Incomplete }
    }

    fn note(&mut self, defect: ParseError) {
        self.defect.get_or_insert(defect);
    }

    fn take_line(&mut self, bytes: &[u8], end: usize) -> Result<(), ParseError> {
        let line = bytes.get(self.line_start..end).unwrap_or_default();
        effort::spend(line.len());
        let is_suspicious = std::mem::take(&mut self.suspicious);
        let defect = match line.len() > MAX_LINE_LEN {
            true => Some(ParseError::LineTooLong),
            false if is_suspicious => smuggles(line),
            false => None,
        };
        if let Some(defect) = defect {
            self.note(defect);
            // Others may find another Content-Length in it, or the head's end.
            self.length_fault.get_or_insert(defect);
            self.skip_line = true;
        }
        if self.in_start_line {
            self.in_start_line = false;
            let (start_line, defect) = super::start_line::parse(line);
            self.start_line = start_line.filter(|_| !self.skip_line);
            if let Some(defect) = defect {
                self.note(defect);
            }
            self.skip_line = false;
            return Ok(());
        }
        if std::mem::take(&mut self.skip_line) {
            return Ok(());
        }
        let Some(slot) = field(line, self.line_start) else {
            self.note(ParseError::FieldLine);
            if may_be_content_length(line) {
                self.length_fault.get_or_insert(ParseError::FieldLine);
            }
            return Ok(());
        };
        if self.slots.len() >= MAX_FIELDS {
            return Err(ParseError::TooManyFields);
        }
        if slot.header == Header::ContentLength {
            self.take_content_length(slot.value().of(bytes));
        }
        self.slots.push(slot);
        Ok(())
    }

    fn take_content_length(&mut self, value: &[u8]) {
        match (content_length(value), self.content_length) {
            (None, _) => {
                self.length_fault.get_or_insert(ParseError::ContentLength);
            }
            (Some(new), Some(old)) if new != old => {
                self.length_fault.get_or_insert(ParseError::ContentLengthConflict);
            }
            (Some(new), _) => self.content_length = Some(new),
        }
    }
}

/// Whether somebody more lenient could find a Content-Length in a line that is no field.
fn may_be_content_length(line: &[u8]) -> bool {
    let is_other = |byte: &u8| !is_token(*byte);
    line.split(is_other).find(|word| !word.is_empty()).map(Header::from_bytes) == Some(Header::ContentLength)
}

/// What makes a folded line, or one with NULs, mean different things to different readers.
///
/// A NUL may stand in a quoted pair only, which is within a quoted string (RFC 3261 §25.1): elsewhere a reader of C strings
/// sees less than others. A line that is folded to one of nothing but white space ends the head for who trims first.
fn smuggles(line: &[u8]) -> Option<ParseError> {
    let (mut quoted, mut escaped) = (false, false);
    for byte in line {
        match byte {
            0 if !escaped => return Some(ParseError::Nul),
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    let is_blank = |line: &[u8]| line.iter().all(|byte| is_space(*byte));
    line.split(|byte| *byte == b'\n').skip(1).any(is_blank).then_some(ParseError::FieldLine)
}

/// Reads `1*DIGIT`. More than nine digits are refused: no message is that long, and nothing can wrap.
fn content_length(value: &[u8]) -> Option<usize> {
    if value.is_empty() || value.len() > 9 {
        return None;
    }
    value.iter().try_fold(0_usize, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + usize::from(byte - b'0')))
}

/// Splits `name *( SP / HTAB ) ":" value`, the line beginning at `start` of the message.
fn field(line: &[u8], start: usize) -> Option<Slot> {
    let name_len = line.iter().position(|byte| !is_token(*byte))?;
    let after = line.get(name_len..)?;
    let gap = after.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
    if name_len == 0 || after.get(gap) != Some(&b':') {
        return None;
    }
    let name = line.get(..name_len)?;
    let colon = name_len + gap;
    let value = line.get(colon + 1..)?;
    let lead = value.iter().position(|byte| !is_space(*byte)).unwrap_or(value.len());
    let tail = value.iter().rposition(|byte| !is_space(*byte)).map_or(lead, |last| last + 1);
    let value_start = start + colon + 1;
    let value = Span::new(value_start + lead, value_start + tail);
    Slot::new(offset(start), Header::from_bytes(name), name_len, value)
}

/// White space within a value; line breaks are there only where a line is folded.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Tells whether a byte may be part of a `token` (RFC 3261 §25.1).
pub(crate) const fn is_token(byte: u8) -> bool {
    CLASSES[byte as usize] & TOKEN != 0
}

/// Tells whether a byte may be part of a parameter's value without quotes: it ends no value, parameter or list.
pub(super) const fn is_plain_value(byte: u8) -> bool {
    CLASSES[byte as usize] & PLAIN_VALUE != 0
}

/// Tells what a URI may hold from what ends it, or has no place anywhere in one.
pub(super) const fn is_uri_byte(byte: u8) -> bool {
    CLASSES[byte as usize] & URI != 0
}

/// Tells whether a byte of a URI says nothing of where its parts meet.
pub(super) const fn is_plain_uri_byte(byte: u8) -> bool {
    CLASSES[byte as usize] & PLAIN_URI != 0
}

/// Tells whether a byte may be part of a label of a host name, or of a number of an IPv4 address. Underscores are common and
/// harmless.
pub(super) const fn is_label_byte(byte: u8) -> bool {
    CLASSES[byte as usize] & LABEL != 0
}

const TOKEN: u8 = 1;
const PLAIN_VALUE: u8 = 2;
const URI: u8 = 4;
const LABEL: u8 = 8;
const PLAIN_URI: u8 = 16;

/// What each byte may be part of: one look-up a byte, as every message is full of these questions.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let byte = index as u8;
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
        {
            table[index] |= TOKEN;
        }
        if byte > b' ' && byte != 0x7f && !matches!(byte, b'"' | b'<' | b'>') {
            table[index] |= URI;
            if !matches!(byte, b'@' | b':' | b';' | b'?' | b'%') {
                table[index] |= PLAIN_URI;
            }
            if !matches!(byte, b',' | b';') {
                table[index] |= PLAIN_VALUE;
            }
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            table[index] |= LABEL;
        }
        index += 1;
    }
    table
}
