//! Via (RFC 3261 §20.42): the path a request took, and where its response goes.

use super::classes::{TOKEN, is_space, is_token, run};
use super::list::{Params, read_next, split_at_byte, trim, walk_plain};
use super::{Header, ParseError, uri};

/// What a branch begins with when it identifies a transaction (RFC 3261 §8.1.1.7).
pub const COOKIE: &str = "z9hG4bK";

/// One Via value: `SIP/2.0/UDP host:port;params`, white space allowed around `/` and `:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// The transport as it is written, any case; unknown ones are kept.
    pub transport: &'a str,
    /// The host of sent-by; an IPv6 address keeps its brackets.
    pub host: &'a str,
    /// The port of sent-by, if it is given.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'a>,
    known: Known<'a>,
    /// Of the whole value.
    len: usize,
}

/// The first of each parameter that every server asks for, several times: found once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known<'a> {
    branch: Option<Option<&'a str>>,
    received: Option<Option<&'a str>>,
    rport: Option<Option<&'a str>>,
    has_two_branches: bool,
    /// How many bytes of the parameters follow the only `rport`, which has no value.
    behind_rport: Option<usize>,
}

impl<'a> Known<'a> {
    fn find(params: Params<'a>) -> Known<'a> {
        let mut known = Known::default();
        let mut left = params.as_str().len();
        for (name, value) in params.iter() {
            left = left.saturating_sub(";".len() + name.len() + value.map_or(0, |value| "=".len() + value.len()));
            known.note(name, value, (!params.may_be_spaced()).then_some(left));
        }
        known
    }

    /// Takes note of a parameter that so many bytes of others follow, where that can be told.
    fn note(&mut self, name: &str, value: Option<&'a str>, left: Option<usize>) {
        if name.eq_ignore_ascii_case("branch") {
            self.has_two_branches = self.branch.is_some();
            self.branch.get_or_insert(value);
        } else if name.eq_ignore_ascii_case("received") {
            self.received.get_or_insert(value);
        } else if name.eq_ignore_ascii_case("rport") {
            self.behind_rport = left.filter(|_| self.rport.is_none() && value.is_none());
            self.rport.get_or_insert(value);
        }
    }
}

impl<'a> Via<'a> {
    /// Reads one value. The protocol version is not looked at, so that a request of another version can be answered.
    ///
    /// # Errors
    ///
    /// [`ParseError::Malformed`].
    pub fn parse(value: &'a str) -> Result<Via<'a>, ParseError> {
        let value = trim(value);
        match Via::read_plain(value) {
            Some((via, len)) if len == value.len() => Ok(via),
            Some(_) | None => Via::read(value).ok_or(ParseError::Malformed(Header::Via)),
        }
    }

    /// Takes the next value off a field, as [`Via::parse`] reads it.
    pub(super) fn take_from(list: &mut &'a str) -> Option<Result<Via<'a>, ParseError>> {
        read_next(list, Via::read_plain, Via::parse)
    }

    /// Reads the value that a text begins with, if it is written as nearly all are, in one pass; tells how long it is. What
    /// this does not read, [`Via::read`] may.
    fn read_plain(text: &'a str) -> Option<(Via<'a>, usize)> {
        const PROTOCOL: &[u8] = b"SIP/2.0/";
        let bytes = text.as_bytes();
        if !bytes.starts_with(PROTOCOL) {
            return None;
        }
        let space = run(bytes, PROTOCOL.len(), TOKEN);
        if space == PROTOCOL.len() || bytes.get(space) != Some(&b' ') {
            return None;
        }
        let host = space + 1;
        let host_end = uri::name_end(bytes, host)?;
        let (port, params) = uri::plain_port(bytes, host_end)?;
        let mut known = Known::default();
        let end = walk_plain(bytes, params, |name, value| {
            // Until all have been seen, the end of the parameter stands for how much follows it.
            let end = value.as_ref().map_or(name.end, |value| value.end);
            let (name, value) = (text.get(name).unwrap_or_default(), value.and_then(|value| text.get(value)));
            known.note(name, value, Some(end));
        })?;
        known.behind_rport = known.behind_rport.map(|rport| end - rport);
        let params = Params::unchecked(text.get(params..end)?);
        let (transport, host) = (text.get(PROTOCOL.len()..space)?, text.get(host..host_end)?);
        Some((Via { transport, host, port, params, known, len: end }, end))
    }

    fn read(value: &'a str) -> Option<Via<'a>> {
        crate::effort::spend(value.len());
        let is_name = |text: &str| !text.is_empty() && text.bytes().all(is_token);
        let rest = match value.strip_prefix("SIP/2.0/") {
            Some(rest) => rest,
            None => {
                let (protocol, rest) = split_at_byte(value, b'/')?;
                let (version, rest) = split_at_byte(rest, b'/')?;
                if !trim(protocol).eq_ignore_ascii_case("SIP") || !is_name(trim(version)) {
                    return None;
                }
                rest
            }
        };
        let lead = rest.bytes().position(|byte| !is_space(byte))?;
        let rest = rest.get(lead..)?;
        let space = rest.bytes().position(is_space)?;
        let (transport, rest) = (rest.get(..space)?, rest.get(space + 1..)?);
        if !is_name(transport) {
            return None;
        }
        let params = memchr::memchr(b';', rest.as_bytes()).unwrap_or(rest.len());
        let (sent_by, params) = rest.split_at_checked(params)?;
        let (host, port) = uri::host_and_port(trim(sent_by), true)?;
        let params = Params::parse(params)?;
        Some(Via { transport, host, port, params, known: Known::find(params), len: value.len() })
    }

    /// Returns the branch; it identifies the transaction when it begins with [`COOKIE`].
    pub fn branch(&self) -> Option<&'a str> {
        self.known.branch.flatten()
    }

    /// Tells whether a branch is given that cannot identify a transaction: one without a value, the cookie and no more, which would
    /// make one transaction of many (RFC 4475 §3.2.1), or two of them.
    pub(super) fn has_bad_branch(&self) -> bool {
        let is_bad = |branch: Option<&str>| branch.is_none_or(|branch| branch == COOKIE);
        self.known.branch.is_some_and(is_bad) || self.known.has_two_branches
    }

    /// Returns the address the request was received from, as a server noted it (RFC 3261 §18.2.1); maybe in brackets.
    pub fn received(&self) -> Option<&'a str> {
        self.known.received.flatten()
    }

    /// Returns `Some(None)` where the client asks for its port (RFC 3581), `Some(Some(_))` once a server noted it.
    pub fn rport(&self) -> Option<Option<&'a str>> {
        self.known.rport
    }

    /// How many bytes the value has.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many bytes of the value follow its `rport`, where there is one, without a value, and no white space around parameters.
    pub(crate) fn behind_rport(&self) -> Option<usize> {
        self.known.behind_rport
    }

    /// Finds a parameter, in any case: `Some(None)` when it has no value.
    pub fn param(&self, name: &str) -> Option<Option<&'a str>> {
        self.params.find(name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{combinations, split_values};
    use super::*;

    #[test]
    fn vias_are_read_in_one_pass_as_they_are_read_one_by_one() {
        let pieces = [
            "h",
            ".",
            ":",
            "7",
            "65536",
            ";branch=z",
            ";rport",
            ";RPort=9",
            ";received=x",
            ";",
            "=",
            "\"",
            ",SIP/2.0/UDP h",
            " ",
        ];
        let mut good = 0;
        combinations::of(&pieces, 4, &mut |rest| {
            let text = format!("SIP/2.0/UDP h{rest}");
            let mut list = text.as_str();
            let read: Vec<_> = std::iter::from_fn(|| Via::take_from(&mut list)).collect();
            let one_by_one =
                split_values(&text).map(|value| Via::read(value).ok_or(ParseError::Malformed(Header::Via)));
            assert_eq!(read, one_by_one.collect::<Vec<_>>(), "{text}");
            good += usize::from(read.iter().all(Result::is_ok));
        });
        assert!(good > 1000, "only {good} were good");
    }
}
