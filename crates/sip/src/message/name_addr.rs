//! Addresses in headers: From, To, Contact, Route and their like (RFC 3261 §20.10).

use std::ops::Range;

use super::classes::{URI, is_space, run};
use super::list::{Params, quoted_end, read_next, trim, walk_plain};
use super::{Header, ParseError, uri};

/// `"Display" <uri>;params` or `uri;params`. The URI is not parsed; see [`Uri::parse`](super::Uri::parse).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The display name as it is written, without surrounding quotes but with its escapes.
    pub display: Option<&'a str>,
    /// The URI as it is written, without `<>`; `*` for the wildcard of Contact.
    pub uri: &'a str,
    /// The header's parameters.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value.
    ///
    /// Without `<>` the URI ends at the first semicolon, and must hold neither comma nor question mark (RFC 3261 §20).
    /// An unquoted display name may hold more than tokens, as phones send UTF-8 and dots there; a comma it may not hold.
    ///
    /// # Errors
    ///
    /// [`ParseError::Malformed`] (naming Contact) when it is none: an open quote or bracket, a URI with spaces, a parameter
    /// without a name.
    pub fn parse(value: &'a str) -> Result<NameAddr<'a>, ParseError> {
        let value = trim(value);
        match NameAddr::read_plain(value, uri_end, |_, _| ()) {
            Some((address, len)) if len == value.len() => Ok(address),
            Some(_) | None => NameAddr::read(value).ok_or(ParseError::Malformed(Header::Contact)),
        }
    }

    /// Reads one value, and checks that its URI is one, or `*`.
    fn read_checked(value: &'a str) -> Result<NameAddr<'a>, ParseError> {
        let address = NameAddr::read(trim(value)).ok_or(ParseError::Malformed(Header::Contact))?;
        if !address.is_wildcard() {
            // Other schemes than ours are no fault in themselves (RFC 4475 §3.3.4), but every URI has one.
            uri::Uri::parse(address.uri)?;
        }
        Ok(address)
    }

    /// Reads one value, checks that its URI is one, and finds its tags.
    pub(super) fn parse_tagged(value: &'a str) -> Result<(NameAddr<'a>, Tags<'a>), ParseError> {
        let mut tags = Tags::default();
        let plain = NameAddr::read_plain(value, uri::plain_end, |name, text| {
            tags.note(value.get(name).unwrap_or_default(), text.and_then(|text| value.get(text)));
        });
        if let Some((address, len)) = plain
            && len == value.len()
        {
            return Ok((address, tags));
        }
        let address = NameAddr::read_checked(value)?;
        let mut tags = Tags::default();
        address.params.iter().for_each(|(name, text)| tags.note(name, text));
        Ok((address, tags))
    }

    /// Takes the next value off a field; its URI is one, or `*`.
    pub(super) fn take_checked(list: &mut &'a str) -> Option<Result<NameAddr<'a>, ParseError>> {
        read_next(list, |text| NameAddr::read_plain(text, uri::plain_end, |_, _| ()), NameAddr::read_checked)
    }

    /// Reads the value that a text begins with, if it is written as nearly all are, in one pass; tells how long it is. `uri_end` tells
    /// where the URI ends that begins at a place; `each` is told where the name of a parameter is, and its value. What this does not
    /// read, [`NameAddr::read`] may.
    fn read_plain(
        text: &'a str,
        uri_end: impl Fn(&[u8], usize) -> Option<usize>,
        each: impl FnMut(Range<usize>, Option<Range<usize>>),
    ) -> Option<(NameAddr<'a>, usize)> {
        let bytes = text.as_bytes();
        let (display, open) = match bytes.first()? {
            b'<' => (None, 0),
            b'"' => {
                let end = quoted_end(text)?;
                let gap = bytes.get(end..)?.iter().position(|byte| !is_space(*byte))?;
                (Some(text.get(1..end - 1)?), end + gap)
            }
            _ => return None,
        };
        let uri = open + 1;
        if bytes.get(open) != Some(&b'<') {
            return None;
        }
        let close = uri_end(bytes, uri).filter(|close| *close > uri && bytes.get(*close) == Some(&b'>'))?;
        let params = close + 1;
        let end = walk_plain(bytes, params, each)?;
        let params = Params::unchecked(text.get(params..end)?);
        Some((NameAddr { display, uri: text.get(uri..close)?, params }, end))
    }

    fn read(value: &'a str) -> Option<NameAddr<'a>> {
        crate::effort::spend(value.len());
        if value.starts_with('"') {
            let (quoted, rest) = value.split_at_checked(quoted_end(value)?)?;
            let display = quoted.get(1..quoted.len() - 1)?;
            return NameAddr::bracketed(Some(display), trim(rest));
        }
        match memchr::memchr3(b'<', b'"', b';', value.as_bytes()) {
            Some(at) if value.as_bytes().get(at) == Some(&b'<') => {
                let (display, rest) = value.split_at_checked(at)?;
                let display = trim(display);
                if display.bytes().any(|byte| matches!(byte, b',' | b'>' | 0x7f) || (byte < b' ' && !is_break(byte))) {
                    return None;
                }
                NameAddr::bracketed((!display.is_empty()).then_some(display), rest)
            }
            Some(at) if value.as_bytes().get(at) == Some(&b';') => {
                let (uri, params) = value.split_at_checked(at)?;
                NameAddr::bare(trim(uri), params)
            }
            Some(_) => None,
            None => NameAddr::bare(value, ""),
        }
    }

    fn bracketed(display: Option<&'a str>, rest: &'a str) -> Option<NameAddr<'a>> {
        let rest = rest.strip_prefix('<')?;
        // The closing bracket is the first byte that is of no URI.
        let end = run(rest.as_bytes(), 0, URI);
        if end == 0 {
            return None;
        }
        let (uri, params) = rest.split_at_checked(end)?;
        Some(NameAddr { display, uri, params: Params::parse(trim(params.strip_prefix('>')?))? })
    }

    fn bare(uri: &'a str, params: &'a str) -> Option<NameAddr<'a>> {
        if uri.is_empty() || run(uri.as_bytes(), 0, URI) < uri.len() || uri.contains(['?', ',']) {
            return None;
        }
        Some(NameAddr { display: None, uri, params: Params::parse(params)? })
    }

    /// Tells whether this is the `*` of a Contact that removes all bindings (RFC 3261 §10.2.2).
    pub fn is_wildcard(&self) -> bool {
        self.uri == "*"
    }

    /// Returns the tag (RFC 3261 §19.3).
    pub fn tag(&self) -> Option<&'a str> {
        self.params.find("tag").flatten()
    }

    /// Finds a header parameter, in any case: `Some(None)` when it has no value.
    pub fn param(&self, name: &str) -> Option<Option<&'a str>> {
        self.params.find(name)
    }
}

/// The tags of an address, of which there may be one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tags<'a> {
    /// The first one; `None` also where it has no value.
    pub(super) first: Option<&'a str>,
    pub(super) count: usize,
}

impl<'a> Tags<'a> {
    fn note(&mut self, name: &str, value: Option<&'a str>) {
        if name.eq_ignore_ascii_case("tag") {
            if self.count == 0 {
                self.first = value;
            }
            self.count += 1;
        }
    }
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | b'\t')
}

fn uri_end(bytes: &[u8], from: usize) -> Option<usize> {
    Some(run(bytes, from, URI))
}

#[cfg(test)]
mod tests {
    use super::super::{Uri, combinations, split_values};
    use super::*;

    fn read_generally(value: &str) -> Result<NameAddr<'_>, ParseError> {
        let address = NameAddr::read(value).ok_or(ParseError::Malformed(Header::Contact))?;
        if address.is_wildcard() { Ok(address) } else { Uri::parse(address.uri).map(|_| address) }
    }

    #[test]
    fn addresses_are_read_in_one_pass_as_they_are_read_one_by_one() {
        let pieces = ["<", ">", "sip:a@b", "x", ";p=q", ";", "=", "\"", "\\", ",", " ", "*", "\""];
        let mut good = 0;
        combinations::of(&pieces, 5, &mut |text| {
            let mut list = text;
            let read: Vec<_> = std::iter::from_fn(|| NameAddr::take_checked(&mut list)).collect();
            let one_by_one: Vec<_> = split_values(text).map(read_generally).collect();
            assert_eq!(read, one_by_one, "{text}");
            assert_eq!(NameAddr::parse(text).ok(), NameAddr::read(trim(text)), "{text}");
            good += usize::from(!read.is_empty() && read.iter().all(Result::is_ok));
        });
        assert!(good > 1000, "only {good} were good");
    }
}
