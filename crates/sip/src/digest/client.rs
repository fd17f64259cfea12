//! The client's side: an answer to a challenge.

use std::borrow::Cow;

use super::params::{DigestParams, quote};
use super::{Algorithm, Ha1, Protection, response};

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
    /// The protection that is offered; without one the answer has the form of RFC 2069.
    pub qop: Option<Qop>,
    /// Whether only the nonce was wrong.
    pub stale: bool,
}

/// Quality of protection (RFC 7616 §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qop {
    /// Of the request line.
    Auth,
    /// Of the body too.
    AuthInt,
}

impl Qop {
    /// Chooses of what a challenge offers: `auth` first, as proxies may change bodies.
    fn choose(offered: &str) -> Option<Qop> {
        let offers = |qop: &str| offered.split(',').any(|one| one.trim().eq_ignore_ascii_case(qop));
        if offers("auth") { Some(Qop::Auth) } else { offers("auth-int").then_some(Qop::AuthInt) }
    }
}

impl<'a> Challenge<'a> {
    /// Reads a value of WWW-Authenticate or Proxy-Authenticate; `None` for another scheme, an unknown algorithm or qop, or a
    /// malformed one.
    pub fn parse(value: &'a str) -> Option<Challenge<'a>> {
        let params = DigestParams::parse(value).ok()??;
        let qop = match params.raw("qop") {
            Some(offered) => Some(Qop::choose(offered)?),
            None => None,
        };
        Some(Challenge {
            realm: params.text("realm")?,
            nonce: params.raw("nonce")?,
            opaque: params.raw("opaque"),
            algorithm: Algorithm::from_token(params.raw("algorithm").unwrap_or("MD5"))?,
            qop,
            stale: params.raw("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }
}

/// What goes into an answer besides the challenge.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The user.
    pub user: &'a str,
    /// What proves the user in the challenge's realm and algorithm: [`super::ha1`] of a password.
    pub ha1: &'a Ha1,
    /// The method's name.
    pub method_name: &'a str,
    /// The Request-URI.
    pub uri: &'a str,
    /// The request's body, which `auth-int` covers.
    pub body: &'a [u8],
    /// The client's nonce, random.
    pub cnonce: &'a str,
    /// How often this nonce was answered, this time included.
    pub count: u32,
}

/// Returns the value of Authorization or Proxy-Authorization.
pub fn answer(challenge: &Challenge<'_>, answer: &Answer<'_>) -> String {
    let Challenge { realm, nonce, algorithm, .. } = challenge;
    let nc = format!("{:08x}", answer.count);
    let cnonce = answer.cnonce;
    let counted = |qop: &str| format!(", qop={qop}, nc={nc}, cnonce=\"{cnonce}\"");
    let (protection, qop) = match challenge.qop {
        Some(Qop::Auth) => (Protection::Auth { nc: &nc, cnonce }, counted("auth")),
        Some(Qop::AuthInt) => (Protection::AuthInt { nc: &nc, cnonce, body: answer.body }, counted("auth-int")),
        None => (Protection::Legacy, String::new()),
    };
    let response = response(*algorithm, answer.ha1, nonce, protection, answer.method_name, answer.uri);
    let opaque = challenge.opaque.map(|opaque| format!(", opaque=\"{opaque}\"")).unwrap_or_default();
    format!(
        "Digest username={}, realm={}, nonce=\"{nonce}\", uri=\"{}\", response=\"{response}\", algorithm={}{qop}{opaque}",
        quote(answer.user),
        quote(realm),
        answer.uri,
        algorithm.as_str(),
    )
}
