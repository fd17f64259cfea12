//! Addresses in headers: From, To, Contact, Route and their like (RFC 3261 §20.10).

use super::list::{Params, quoted_end, trim};
use super::scan::is_uri_byte;
use super::{Header, ParseError};

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
        NameAddr::read(trim(value)).ok_or(ParseError::Malformed(Header::Contact))
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
        let end = rest.bytes().position(|byte| !is_uri_byte(byte)).filter(|end| *end > 0)?;
        let (uri, params) = rest.split_at_checked(end)?;
        Some(NameAddr { display, uri, params: Params::parse(trim(params.strip_prefix('>')?))? })
    }

    fn bare(uri: &'a str, params: &'a str) -> Option<NameAddr<'a>> {
        (is_uri_text(uri) && !uri.contains(['?', ','])).then_some(())?;
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

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | b'\t')
}

fn is_uri_text(uri: &str) -> bool {
    !uri.is_empty() && uri.bytes().all(is_uri_byte)
}
