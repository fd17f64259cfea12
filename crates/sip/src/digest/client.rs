//! The client's side: an answer to a challenge.

use std::borrow::Cow;

use super::params::{DigestParams, quote};
use super::{Algorithm, Protection, ha1, response};

/// A challenge that we can answer.
#[derive(Debug, Clone)]
pub struct Challenge<'a> {
    /// The realm: whose password is asked for.
    pub realm: Cow<'a, str>,
    /// The server's nonce, as it is written.
    pub nonce: &'a str,
    /// What the server wants back unchanged.
    pub opaque: Option<&'a str>,
    /// The algorithm; MD5 where none is said.
    pub algorithm: Algorithm,
    /// Whether `qop=auth` is offered; without it the answer has the form of RFC 2069.
    pub qop: bool,
    /// Whether only the nonce was wrong.
    pub stale: bool,
}

impl<'a> Challenge<'a> {
    /// Reads a value of WWW-Authenticate or Proxy-Authenticate; `None` for another scheme, an unknown algorithm or qop, or a
    /// malformed one.
    pub fn parse(value: &'a str) -> Option<Challenge<'a>> {
        let params = DigestParams::parse(value).ok()??;
        let qop = params.raw("qop");
        let offers_auth = |qop: &str| qop.split(',').any(|one| one.trim().eq_ignore_ascii_case("auth"));
        if qop.is_some_and(|qop| !offers_auth(qop)) {
            return None;
        }
        Some(Challenge {
            realm: params.text("realm")?,
            nonce: params.raw("nonce")?,
            opaque: params.raw("opaque"),
            algorithm: Algorithm::from_token(params.raw("algorithm").unwrap_or("MD5"))?,
            qop: qop.is_some(),
            stale: params.raw("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }
}

/// What goes into an answer besides the challenge.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The user.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
    /// The method's name.
    pub method_name: &'a str,
    /// The Request-URI.
    pub uri: &'a str,
    /// The client's nonce, random.
    pub cnonce: &'a str,
    /// How often this nonce was answered, this time included.
    pub count: u32,
}

/// Returns the value of Authorization or Proxy-Authorization.
pub fn answer(challenge: &Challenge<'_>, answer: &Answer<'_>) -> String {
    let Challenge { realm, nonce, algorithm, .. } = challenge;
    let nc = format!("{:08x}", answer.count);
    let (protection, qop) = if challenge.qop {
        let qop = format!(", qop=auth, nc={nc}, cnonce=\"{}\"", answer.cnonce);
        (Protection::Auth { nc: &nc, cnonce: answer.cnonce }, qop)
    } else {
        (Protection::Legacy, String::new())
    };
    let ha1 = ha1(*algorithm, answer.user, realm, answer.password);
    let response = response(*algorithm, &ha1, nonce, protection, answer.method_name, answer.uri);
    let opaque = challenge.opaque.map(|opaque| format!(", opaque=\"{opaque}\"")).unwrap_or_default();
    format!(
        "Digest username={}, realm={}, nonce=\"{nonce}\", uri=\"{}\", response=\"{response}\", algorithm={}{qop}{opaque}",
        quote(answer.user),
        quote(realm),
        answer.uri,
        algorithm.as_str(),
    )
}
