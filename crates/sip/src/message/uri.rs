//! SIP and SIPS URIs (RFC 3261 §19.1), and the outer shape of any other.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use super::classes::{LABEL, PLAIN_URI, PLAIN_URI_PARAMS, URI, is, run};
use super::list::{Params, split_at_byte};
use super::{MAX_URI_LEN, ParseError};

/// Parameters or headers that two URIs may have to be compared one by one. Each is looked for among the others, so without a
/// bound a URI of 64 KiB would cost a second. Registered parameters are about thirty.
pub const MAX_COMPARED: usize = 32;

/// A URI. Of `sip:` and `sips:` all parts are read; of any other scheme only `opaque`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The scheme as it is written.
    pub scheme: &'a str,
    /// The user as it is written, escapes included; it may hold semicolons (RFC 4475 §3.1.1.9).
    pub user: Option<&'a str>,
    /// The password, which nobody should use (RFC 3261 §19.1.1).
    pub password: Option<&'a str>,
    /// The host; an IPv6 address keeps its brackets. `""` for other schemes.
    pub host: &'a str,
    /// The port, if it is given.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'a>,
    /// What follows the question mark, without it; `""` if nothing does. Never act on it in a Request-URI.
    pub headers: &'a str,
    /// All behind the scheme's colon.
    pub opaque: &'a str,
}

impl<'a> Uri<'a> {
    /// Reads a URI.
    ///
    /// # Errors
    ///
    /// [`ParseError::Uri`] when it is longer than [`MAX_URI_LEN`], has no scheme, holds white space or `<>"`, has a bad escape, or is a SIP URI with a host
    /// or port that cannot be one.
    pub fn parse(text: &'a str) -> Result<Uri<'a>, ParseError> {
        match Plain::read(text.as_bytes(), 0) {
            Some(plain) if plain.end == text.len() => Uri::from_plain(text, &plain),
            Some(_) | None => Uri::read(text),
        }
        .ok_or(ParseError::Uri)
    }

    fn from_plain(text: &'a str, plain: &Plain) -> Option<Uri<'a>> {
        let Plain { user, host, host_end, port, params, end } = *plain;
        Some(Uri {
            scheme: "sip",
            user: match user {
                Some(user_end) => Some(text.get(SIP.len()..user_end)?),
                None => None,
            },
            password: None,
            host: text.get(host..host_end)?,
            port,
            params: Params::unchecked(text.get(params..end)?),
            headers: "",
            opaque: text.get(SIP.len()..)?,
        })
    }

    fn read(text: &'a str) -> Option<Uri<'a>> {
        if text.len() > MAX_URI_LEN {
            return None;
        }
        crate::effort::spend(text.len());
        let (scheme, opaque) = match text.split_at_checked(4) {
            Some(("sip:", opaque)) => ("sip", opaque),
            Some(_) | None => split_at_byte(text, b':').filter(|(scheme, _)| is_scheme(scheme))?,
        };
        let marks = Marks::find(opaque)?;
        if opaque.is_empty() {
            return None;
        }
        let mut uri = Uri {
            scheme,
            user: None,
            password: None,
            host: "",
            port: None,
            params: Params::default(),
            headers: "",
            opaque,
        };
        if !uri.is_sip() {
            return Some(uri);
        }
        if marks.has_escapes && !escapes_are_whole(opaque) {
            return None;
        }
        if let Some(at) = marks.at {
            let (user, password) = match marks.password {
                Some(colon) => (opaque.get(..colon)?, Some(opaque.get(colon + 1..at)?)),
                None => (opaque.get(..at)?, None),
            };
            if user.is_empty() {
                return None;
            }
            uri.user = Some(user);
            uri.password = password;
        }
        let place = marks.at.map_or(0, |at| at + 1);
        let params_end = marks.headers.unwrap_or(opaque.len());
        let host_end = marks.params.unwrap_or(params_end);
        let (hostport, params) = (opaque.get(place..host_end)?, opaque.get(host_end..params_end)?);
        let headers = marks.headers.and_then(|question| opaque.get(question + 1..)).unwrap_or_default();
        let (host, port) = host_and_port(hostport, false)?;
        uri.host = host;
        uri.port = port;
        uri.params = Params::unchecked(params);
        uri.headers = headers;
        Some(uri)
    }

    /// Tells `sip:` and `sips:` from other schemes.
    pub fn is_sip(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("sip") || self.is_sips()
    }

    /// Tells `sips:` from other schemes.
    pub fn is_sips(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("sips")
    }

    /// Finds a parameter by name, in any case, escapes resolved: `Some(None)` when it has no value.
    pub fn param(&self, name: &str) -> Option<Option<&'a str>> {
        self.params.iter().find(|(known, _)| same(known, name, true)).map(|(_, value)| value)
    }

    /// Returns the canonical `user@host`: escapes of the user resolved where a character needs none, host in lower case
    /// and without a final dot; without a user the host only (RFC 3261 §10.3 step 5). For other schemes the URI itself.
    pub fn address_of_record(&self) -> String {
        if !self.is_sip() {
            return format!("{}:{}", self.scheme.to_ascii_lowercase(), self.opaque);
        }
        let mut address = String::with_capacity(self.opaque.len());
        if let Some(user) = self.user {
            push_canonical_user(&mut address, user);
            address.push('@');
        }
        let host = address.len();
        address.push_str(self.host.strip_suffix('.').unwrap_or(self.host));
        if let Some(host) = address.get_mut(host..) {
            host.make_ascii_lowercase();
        }
        address
    }

    /// Returns the user with all escapes resolved, if that is text.
    pub fn user_unescaped(&self) -> Option<Cow<'a, str>> {
        let user = self.user?;
        if !user.contains('%') {
            return Some(Cow::Borrowed(user));
        }
        String::from_utf8(unescaped(user).collect()).ok().map(Cow::Owned)
    }

    /// Compares two URIs as RFC 3261 §19.1.4 says; other schemes are equivalent only when equal, and so are URIs with more
    /// than [`MAX_COMPARED`] parameters or headers.
    pub fn equivalent(&self, other: &Uri<'_>) -> bool {
        if !self.is_sip() || !other.is_sip() {
            return self.scheme.eq_ignore_ascii_case(other.scheme) && self.opaque == other.opaque;
        }
        if self.has_too_many_parts() || other.has_too_many_parts() {
            return self.opaque == other.opaque;
        }
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && same_option(self.user, other.user)
            && same_option(self.password, other.password)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
            && self.params_cover(other)
            && other.params_cover(self)
            && (self.headers == other.headers || same_headers(self.headers, other.headers))
    }

    fn has_too_many_parts(&self) -> bool {
        self.params.iter().nth(MAX_COMPARED).is_some() || self.headers.split('&').nth(MAX_COMPARED).is_some()
    }

    /// Every parameter of ours is the same there, or is absent there and one that may be absent.
    fn params_cover(&self, other: &Uri<'_>) -> bool {
        // RFC 3261 §19.1.4: these never match when only one URI has them; transport too, as its absence has no fixed meaning.
        const DECISIVE: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];
        self.params.iter().all(|(name, value)| {
            let mut theirs = other.params.iter().filter(|(known, _)| same(known, name, true)).peekable();
            if theirs.peek().is_none() {
                return !DECISIVE.iter().any(|decisive| same(decisive, name, true));
            }
            // RFC 3261 §7.3.1 forbids a name to come twice; where it does, a URI is still equivalent to itself.
            theirs.any(|(_, their_value)| same(value.unwrap_or_default(), their_value.unwrap_or_default(), true))
        })
    }
}

fn is_scheme(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// What nearly all URIs begin with.
const SIP: &[u8] = b"sip:";

/// Where the parts are of a URI as nearly all are written: of `sip`, with a name or an IPv4 address for a host, and without password,
/// escapes and headers. Found in one pass; what is no such URI, [`Uri::read`] may read.
struct Plain {
    /// Where the user ends.
    user: Option<usize>,
    host: usize,
    host_end: usize,
    port: Option<u16>,
    params: usize,
    end: usize,
}

impl Plain {
    /// Reads the URI that begins at `from`; it ends at the first byte that is of no URI.
    fn read(bytes: &[u8], from: usize) -> Option<Plain> {
        if !bytes.get(from..)?.starts_with(SIP) {
            return None;
        }
        let start = from + SIP.len();
        let stop = run(bytes, start, PLAIN_URI);
        let (user, host) = match bytes.get(stop) {
            Some(b'@') if stop == start => return None,
            Some(b'@') => (Some(stop), stop + 1),
            // A user that holds a colon, a semicolon or an escape is seen by what follows the host that it is taken for.
            _ => (None, start),
        };
        let host_end = name_end(bytes, host)?;
        let (port, params) = plain_port(bytes, host_end)?;
        let end = if bytes.get(params) == Some(&b';') { run(bytes, params, PLAIN_URI_PARAMS) } else { params };
        if end - from > MAX_URI_LEN || bytes.get(end).is_some_and(|byte| is(*byte, URI)) {
            return None;
        }
        Some(Plain { user, host, host_end, port, params, end })
    }
}

/// Where the URI ends that begins at `from`, if it is written as nearly all are: it is a good one then.
pub(super) fn plain_end(bytes: &[u8], from: usize) -> Option<usize> {
    Plain::read(bytes, from).map(|plain| plain.end)
}

/// Where the parts of a SIP URI meet, found in one pass over what follows the scheme's colon.
#[derive(Default)]
struct Marks {
    /// The first `@`: a user may hold `;`, `?` and `/`, but what follows it may not hold `@`.
    at: Option<usize>,
    /// The first `:` before the `@`.
    password: Option<usize>,
    /// The first `;` behind the host.
    params: Option<usize>,
    /// The first `?` behind the host.
    headers: Option<usize>,
    has_escapes: bool,
}

impl Marks {
    /// `None` when there is a byte that no URI holds.
    fn find(opaque: &str) -> Option<Marks> {
        let mut marks = Marks::default();
        let (mut colon, mut from) = (None, 0);
        let bytes = opaque.as_bytes();
        loop {
            let index = run(bytes, from, PLAIN_URI);
            let Some(byte) = bytes.get(index) else { return Some(marks) };
            from = index + 1;
            match byte {
                b'@' if marks.at.is_none() => {
                    marks =
                        Marks { at: Some(index), password: colon, has_escapes: marks.has_escapes, ..Marks::default() };
                }
                b':' => colon = colon.or(Some(index)),
                b';' if marks.headers.is_none() => marks.params = marks.params.or(Some(index)),
                b'?' => marks.headers = marks.headers.or(Some(index)),
                b'%' => marks.has_escapes = true,
                byte if !is(*byte, URI) => return None,
                _ => {}
            }
        }
    }
}

/// Reads `host [":" port]`; `spaced` allows white space around the colon, as Via does.
pub(super) fn host_and_port(text: &str, spaced: bool) -> Option<(&str, Option<u16>)> {
    let host_len = match text.strip_prefix('[') {
        Some(inner) => {
            let address = inner.find(']')?;
            inner.get(..address)?.parse::<Ipv6Addr>().ok()?;
            address + 2
        }
        None => name_end(text.as_bytes(), 0)?,
    };
    let (host, rest) = text.split_at_checked(host_len)?;
    let rest = if spaced { super::list::trim(rest) } else { rest };
    if rest.is_empty() {
        return Some((host, None));
    }
    let port = rest.strip_prefix(':')?;
    let port = if spaced { super::list::trim(port) } else { port };
    let port = super::list::decimal(port).filter(|_| port.len() <= 5).and_then(|port| u16::try_from(port).ok())?;
    Some((host, Some(port)))
}

/// Where the host name or IPv4 address ends that begins at `from`; `None` where there is none. An empty label is in no name, and would
/// leave an address of record with several spellings.
pub(super) fn name_end(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut at, mut was_dot) = (from, true);
    loop {
        match bytes.get(at) {
            Some(byte) if is(*byte, LABEL) => was_dot = false,
            Some(b'.') if was_dot => return None,
            Some(b'.') => was_dot = true,
            Some(_) | None => break,
        }
        at += 1;
    }
    crate::effort::spend(at - from);
    (at > from).then_some(at)
}

/// Reads the port, if there is one at `at`, without white space; tells what follows it.
pub(super) fn plain_port(bytes: &[u8], at: usize) -> Option<(Option<u16>, usize)> {
    let Some(b':') = bytes.get(at) else { return Some((None, at)) };
    let digits = bytes.get(at + 1..)?;
    let len = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    if !(1..=5).contains(&len) {
        return None;
    }
    let port = digits.iter().take(len).fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some((Some(u16::try_from(port).ok()?), at + 1 + len))
}

fn escapes_are_whole(text: &str) -> bool {
    memchr::memchr(b'%', text.as_bytes()).is_none()
        || text.split('%').skip(1).all(|after| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
}

/// Resolves the escapes of a text whose escapes are whole.
fn unescaped(text: &str) -> impl Iterator<Item = u8> {
    let mut bytes = text.bytes();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        if byte != b'%' {
            return Some(byte);
        }
        let mut ahead = bytes.clone();
        match (ahead.next().and_then(hex_digit), ahead.next().and_then(hex_digit)) {
            (Some(high), Some(low)) => {
                bytes = ahead;
                Some(high << 4 | low)
            }
            _ => Some(byte),
        }
    })
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn push_canonical_user(address: &mut String, user: &str) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    if user.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        address.push_str(user);
        return;
    }
    for byte in unescaped(user) {
        // `unreserved` and `user-unreserved` of RFC 3261 §25.1.
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            address.push(char::from(byte));
        } else {
            address.push('%');
            address.extend([usize::from(byte >> 4), usize::from(byte & 15)].iter().filter_map(|digit| HEX.get(*digit)));
        }
    }
}

/// Compares two texts with their escapes resolved.
fn same(one: &str, other: &str, ignore_case: bool) -> bool {
    if memchr::memchr(b'%', one.as_bytes()).is_none() && memchr::memchr(b'%', other.as_bytes()).is_none() {
        return if ignore_case { one.eq_ignore_ascii_case(other) } else { one == other };
    }
    if ignore_case {
        unescaped(one).map(|byte| byte.to_ascii_lowercase()).eq(unescaped(other).map(|byte| byte.to_ascii_lowercase()))
    } else {
        unescaped(one).eq(unescaped(other))
    }
}

fn same_option(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => same(one, other, false),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Header components are never ignored: the same ones must be in both, in any order.
fn same_headers(one: &str, other: &str) -> bool {
    let contains_all = |one: &str, other: &str| {
        one.split('&').all(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            other.split('&').any(|theirs| {
                let (their_name, their_value) = theirs.split_once('=').unwrap_or((theirs, ""));
                same(name, their_name, true) && same(value, their_value, false)
            })
        })
    };
    one.split('&').count() == other.split('&').count() && contains_all(one, other) && contains_all(other, one)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::combinations;
    use super::*;

    #[test]
    fn a_uri_is_read_in_one_pass_as_it_is_read_in_several() {
        let pieces =
            ["a", "7", "65536", ".", "..", "@", ":", ";", "=", "?", "%41", "-", "[::1]", ",", "\u{e4}", " ", ">"];
        let mut plain = 0;
        combinations::of(&pieces, 4, &mut |rest| {
            let text = format!("sip:{rest}");
            match Plain::read(text.as_bytes(), 0) {
                Some(read) if read.end == text.len() => {
                    plain += 1;
                    assert_eq!(Uri::from_plain(&text, &read), Uri::read(&text), "{text}");
                    assert!(Uri::read(&text).is_some(), "{text}");
                }
                Some(read) => {
                    assert!([" ", ">"].iter().any(|end| text.get(read.end..).unwrap().starts_with(end)), "{text}")
                }
                None => {}
            }
        });
        assert!(plain > 1000, "only {plain} were read in one pass");
    }
}
