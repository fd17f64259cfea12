//! What values are made of (RFC 3261 §7.3, §25.1): comma-separated lists, parameters, white space, numbers.

use std::ops::Range;

use super::classes::{self, PLAIN_VALUE, TOKEN, is_token, run};
use crate::effort;

pub(super) fn trim(text: &str) -> &str {
    let (start, end) = trimmed(text.as_bytes());
    // All white space is ASCII, so both are ends of characters.
    text.get(start..end).unwrap_or_default()
}

fn trimmed(text: &[u8]) -> (usize, usize) {
    let is_text = |byte: &u8| !classes::is_space(*byte);
    let start = text.iter().position(is_text).unwrap_or(text.len());
    let end = text.iter().rposition(is_text).map_or(start, |last| last + 1);
    effort::spend(text.len() - (end - start));
    (start, end)
}

/// Reads `1*DIGIT` that fits 32 bits; leading zeros do not matter.
pub(super) fn decimal(text: &str) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.bytes().try_fold(0_u32, |sum, byte| {
        if !byte.is_ascii_digit() {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u32::from(byte - b'0'))
    })
}

/// Finds a separator outside quotes and `<>`, as [`find_unquoted`] does; most texts have none at all.
pub(super) fn find_separator(text: &str, separator: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let first = memchr::memchr(separator, bytes);
    effort::spend(first.unwrap_or(text.len()));
    let before = bytes.get(..first?).unwrap_or_default();
    match memchr::memchr2(b'"', b'<', before) {
        Some(_) => find_unquoted(text, |byte| byte == separator),
        None => first,
    }
}

/// Cuts a text in two around the first of this byte, which is ASCII.
pub(super) fn split_at_byte(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = memchr::memchr(byte, text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Finds the first of `ends` outside quotes and `<>`. An open quote or bracket reaches to the end.
pub(super) fn find_unquoted(text: &str, ends: impl Fn(u8) -> bool) -> Option<usize> {
    let (mut quoted, mut escaped, mut bracketed) = (false, false, false);
    let found = text.bytes().position(|byte| {
        if quoted {
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                quoted = false;
            }
            return false;
        }
        if bracketed {
            bracketed = byte != b'>';
            return false;
        }
        if ends(byte) {
            return true;
        }
        quoted = byte == b'"';
        bracketed = byte == b'<';
        false
    });
    effort::spend(found.unwrap_or(text.len()));
    found
}

/// Splits a field's value at its commas, those in quotes and `<>` excepted. Values are trimmed; empty ones are left out.
pub fn split_values(field: &str) -> Values<'_> {
    Values { rest: field }
}

/// Iterator over the values of one field; see [`split_values`].
#[derive(Debug, Clone)]
pub struct Values<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        while !self.rest.is_empty() {
            let (value, rest) = cut(self.rest, find_separator(self.rest, b','));
            self.rest = rest;
            let value = trim(value);
            if !value.is_empty() {
                return Some(value);
            }
        }
        None
    }
}

/// Reads the next value of a list, which it takes off; `None` when there is none left.
///
/// `plain` reads the value that a text begins with and tells how long it is, where it is written as nearly all are; no comma may be
/// in what it reads but in quotes or `<>`. What it leaves, `parse` reads once it was split off. So most lists are gone over once.
pub(super) fn read_next<'a, T, E>(
    list: &mut &'a str,
    plain: impl Fn(&'a str) -> Option<(T, usize)>,
    parse: impl Fn(&'a str) -> Result<T, E>,
) -> Option<Result<T, E>> {
    let is_empty = |byte: &u8| *byte == b',' || classes::is_space(*byte);
    let lead = list.bytes().position(|byte| !is_empty(&byte));
    effort::spend(lead.unwrap_or(list.len()));
    let text = list.get(lead?..)?;
    if let Some((value, len)) = plain(text)
        && let Some(rest) = text.get(len..)
        && let None | Some(b',') = rest.as_bytes().first()
    {
        *list = rest;
        return Some(Ok(value));
    }
    let (value, rest) = cut(text, find_separator(text, b','));
    *list = rest;
    Some(parse(trim(value)))
}

/// Cuts a text in two around the separator at `at`.
pub(super) fn cut(text: &str, at: Option<usize>) -> (&str, &str) {
    match at {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
        None => (text, ""),
    }
}

/// The parameters of a value or a URI: `;name=value;name`, read when asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Params<'a> {
    /// From the first semicolon, or empty.
    raw: &'a str,
    /// Whether there may be quotes or white space.
    is_quoted: bool,
}

impl<'a> Params<'a> {
    /// Takes header parameters, which may be quoted and have white space around `;` and `=`.
    pub(super) fn parse(raw: &'a str) -> Option<Params<'a>> {
        if walk_plain(raw.as_bytes(), 0, |_, _| ()) == Some(raw.len()) {
            return Some(Params { raw, is_quoted: false });
        }
        let mut rest = raw;
        while !rest.is_empty() {
            // Every parameter has a semicolon before it and a token for a name.
            let after = rest.strip_prefix(';')?;
            let (param, next) = split_param(after);
            let (name, value) = name_and_value(param);
            if name.is_empty() || !name.bytes().all(is_token) || value.is_some_and(|value| !is_param_value(value)) {
                return None;
            }
            rest = next;
        }
        Some(Params { raw, is_quoted: true })
    }

    /// Takes parameters that were checked already to hold neither quotes nor white space, as those of a URI never do.
    pub(super) fn unchecked(raw: &'a str) -> Params<'a> {
        Params::checked(raw, false)
    }

    /// Takes parameters that were checked already; whether there may be quotes or white space.
    pub(super) fn checked(raw: &'a str, is_quoted: bool) -> Params<'a> {
        Params { raw, is_quoted }
    }

    /// Whether there may be quotes, or white space that is no part of a name or value.
    pub(super) fn may_be_spaced(&self) -> bool {
        self.is_quoted
    }

    /// Returns the parameters as they are written, from the first semicolon; `""` if there are none.
    pub fn as_str(&self) -> &'a str {
        self.raw
    }

    /// Finds a parameter by name, in any case: `Some(None)` when it has no value. A value keeps its quotes.
    pub fn find(&self, name: &str) -> Option<Option<&'a str>> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Iterates over names and values as they are written.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        let (mut rest, is_quoted) = (self.raw, self.is_quoted);
        std::iter::from_fn(move || {
            let after = rest.strip_prefix(';')?;
            if is_quoted {
                let (param, next) = split_param(after);
                rest = next;
                return Some(name_and_value(param));
            }
            let (param, next) = take_plain(after);
            rest = next;
            Some(param)
        })
    }
}

/// Goes over parameters without white space and quotes, as nearly all are: `*( ";" token [ "=" value ] )`. Gives where they end, which is
/// for the caller to judge, and tells `each` where a name is, and where its value; `None` where something is missing.
pub(super) fn walk_plain(
    bytes: &[u8],
    from: usize,
    mut each: impl FnMut(Range<usize>, Option<Range<usize>>),
) -> Option<usize> {
    let mut at = from;
    while let Some(b';') = bytes.get(at) {
        let name = at + 1;
        at = run(bytes, name, TOKEN);
        let name = name..at;
        let mut value = None;
        if let Some(b'=') = bytes.get(at) {
            let start = at + 1;
            at = run(bytes, start, PLAIN_VALUE);
            value = Some(start..at);
        }
        if name.is_empty() || value.as_ref().is_some_and(Range::is_empty) {
            return None;
        }
        each(name, value);
    }
    Some(at)
}

/// Cuts the first parameter off; the rest begins with a semicolon or is empty.
fn split_param(text: &str) -> (&str, &str) {
    match find_separator(text, b';') {
        Some(at) => text.split_at_checked(at).unwrap_or((text, "")),
        None => (text, ""),
    }
}

/// Cuts the first parameter off where there are no quotes; the rest begins with a semicolon or is empty.
fn take_plain(text: &str) -> ((&str, Option<&str>), &str) {
    let name = text.bytes().position(|byte| matches!(byte, b';' | b'=')).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(name).unwrap_or((text, ""));
    effort::spend(name.len());
    let Some(rest) = rest.strip_prefix('=') else { return ((name, None), rest) };
    let value = memchr::memchr(b';', rest.as_bytes()).unwrap_or(rest.len());
    let (value, rest) = rest.split_at_checked(value).unwrap_or((rest, ""));
    effort::spend(value.len());
    ((name, Some(value)), rest)
}

fn name_and_value(param: &str) -> (&str, Option<&str>) {
    effort::spend(param.len());
    match split_at_byte(param, b'=') {
        Some((name, value)) => (trim(name), Some(trim(value))),
        None => (trim(param), None),
    }
}

/// `token / host / quoted-string`, read leniently: anything without space, quote, comma or bracket, or one closed quoted string.
fn is_param_value(value: &str) -> bool {
    if value.starts_with('"') {
        return quoted_end(value) == Some(value.len());
    }
    !value.is_empty()
        && value.bytes().all(|byte| byte > b' ' && byte != 0x7f && !matches!(byte, b'"' | b',' | b'<' | b'>'))
}

/// Finds where the quoted string at the start of the text ends, behind its closing quote.
pub(super) fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    let inner = text.strip_prefix('"')?;
    let close = inner.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    effort::spend(close.unwrap_or(inner.len()));
    Some(close? + 2)
}
