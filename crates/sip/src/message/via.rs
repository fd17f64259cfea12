//! Via (RFC 3261 §20.42): the path a request took, and where its response goes.

use super::list::{Params, split_at_byte, trim};
use super::scan::{is_space, is_token};
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
}

impl<'a> Via<'a> {
    /// Reads one value. The protocol version is not looked at, so that a request of another version can be answered.
    ///
    /// # Errors
    ///
    /// [`ParseError::Malformed`].
    pub fn parse(value: &'a str) -> Result<Via<'a>, ParseError> {
        Via::read(trim(value)).ok_or(ParseError::Malformed(Header::Via))
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
        let rest = rest.trim_start_matches(super::list::is_space);
        let space = rest.bytes().position(is_space)?;
        let (transport, rest) = (rest.get(..space)?, rest.get(space + 1..)?);
        if !is_name(transport) {
            return None;
        }
        let params = memchr::memchr(b';', rest.as_bytes()).unwrap_or(rest.len());
        let (sent_by, params) = rest.split_at_checked(params)?;
        let (host, port) = uri::host_and_port(trim(sent_by), true)?;
        Some(Via { transport, host, port, params: Params::parse(params)? })
    }

    /// Returns the branch; it identifies the transaction when it begins with [`COOKIE`].
    pub fn branch(&self) -> Option<&'a str> {
        self.params.find("branch").flatten()
    }

    /// Returns the address the request was received from, as a server noted it (RFC 3261 §18.2.1); maybe in brackets.
    pub fn received(&self) -> Option<&'a str> {
        self.params.find("received").flatten()
    }

    /// Returns `Some(None)` where the client asks for its port (RFC 3581), `Some(Some(_))` once a server noted it.
    pub fn rport(&self) -> Option<Option<&'a str>> {
        self.params.find("rport")
    }

    /// Finds a parameter, in any case: `Some(None)` when it has no value.
    pub fn param(&self, name: &str) -> Option<Option<&'a str>> {
        self.params.find(name)
    }
}
