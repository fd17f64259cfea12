//! The one pass over a message's head: it finds the lines, the framing and the header index together.
//!
//! Datagrams and streams use the same [`Scanner`], so there is never a second reading of Content-Length. It can stop at
//! the end of what has arrived and go on later from where it stopped, so a stream that trickles in costs linear time.

use super::classes::{TOKEN, find_below, is_space, is_token, run};
use super::names;
use super::slots::{Slot, Slots};
use super::{Header, MAX_FIELDS, MAX_HEAD_LEN, MAX_LINE_LEN, Method, ParseError};
use crate::effort;

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
            if self.searched == self.line_start && !self.in_start_line {
                self.take_usual_lines(bytes);
            }
            let found = find_break(bytes, self.searched);
            let Some(at) = found else {
                self.searched = bytes.len();
                return self.incomplete();
            };
            if at > MAX_HEAD_LEN {
                return Progress::Lost(ParseError::HeadTooLarge);
            }
            match (bytes.get(at), bytes.get(at + 1)) {
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

    /// Takes the lines from here on that are as nearly all are, up to one that wants a closer look: a name that is not listed or spelled
    /// otherwise, a fold, control characters, a bound that is near, the end of what has arrived.
    fn take_usual_lines(&mut self, bytes: &[u8]) {
        let mut start = self.line_start;
        while let Some(slot) = bytes.get(start..).and_then(|rest| usual_field(rest, start))
            && self.slots.len() < MAX_FIELDS
        {
            if slot.header == Header::ContentLength {
                self.take_content_length(slot.value().of(bytes));
            }
            self.slots.push(slot);
            start = slot.value().end as usize + 2;
        }
        (self.line_start, self.searched) = (start, start);
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

/// The first CR, LF or NUL from `from` on.
pub(super) fn find_break(bytes: &[u8], from: usize) -> Option<usize> {
    let mut from = from;
    loop {
        // What else is as low is hardly ever there: tabs.
        let at = find_below(bytes, from, b'\r' + 1)?;
        if let Some(b'\r' | b'\n' | 0) = bytes.get(at) {
            return Some(at);
        }
        from = at + 1;
    }
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

/// Reads a line that begins here, at `start` of the message, and is written as nearly all are: a listed name, a colon, a value
/// without control characters and without white space behind it, and one more byte behind its line break, which does not fold it.
fn usual_field(rest: &[u8], start: usize) -> Option<Slot> {
    let (header, colon) = names::at_start_of(rest)?;
    let value = match rest.get(colon + 1..)? {
        [b' ', first, ..] if *first > b' ' => colon + 2,
        [first, ..] if *first > b' ' => colon + 1,
        _ => return None,
    };
    let end = find_below(rest, value, b' ')?;
    if end > MAX_LINE_LEN || start + end > MAX_HEAD_LEN || rest.get(end - 1) == Some(&b' ') {
        return None;
    }
    match rest.get(end..)? {
        [b'\r', b'\n', b' ' | b'\t', ..] => None,
        [b'\r', b'\n', _, ..] => Slot::new(offset(start), header, colon, Span::new(start + value, start + end)),
        _ => None,
    }
}

/// Splits `name *( SP / HTAB ) ":" value`, the line beginning at `start` of the message.
fn field(line: &[u8], start: usize) -> Option<Slot> {
    let (header, name_len, colon) = field_name(line)?;
    let value = line.get(colon + 1..)?;
    let lead = value.iter().position(|byte| !is_space(*byte)).unwrap_or(value.len());
    let tail = value.iter().rposition(|byte| !is_space(*byte)).map_or(lead, |last| last + 1);
    let value_start = start + colon + 1;
    Slot::new(offset(start), header, name_len, Span::new(value_start + lead, value_start + tail))
}

/// Which field a line is, however it is written, and where its name and its colon are.
fn field_name(line: &[u8]) -> Option<(Header, usize, usize)> {
    let name_len = run(line, 0, TOKEN);
    let gap = line.get(name_len..)?.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
    if name_len == 0 || line.get(name_len + gap) != Some(&b':') {
        return None;
    }
    Some((Header::from_bytes(line.get(..name_len)?), name_len, name_len + gap))
}
