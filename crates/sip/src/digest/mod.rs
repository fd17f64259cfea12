//! Digest authentication of SIP requests (RFC 3261 §22, RFC 7616, RFC 8760): the server's side and, small, the client's.
//!
//! The server keeps no password and no state per challenge: a nonce proves itself, and only nonces that somebody answered
//! rightly are remembered, so that none is used twice. Who exists is never told: an unknown user and a wrong password take the
//! same steps to the same verdict.
//!
//! Not here: account tables, rate limits, and which status (401 or 407) a challenge travels in.

mod authenticator;
mod client;
mod counts;
mod nonce;
mod params;
#[cfg(test)]
mod tests;

use std::fmt;

use aws_lc_rs::constant_time;
use aws_lc_rs::digest::{self, SHA256, SHA512_256};
use data_encoding::HEXLOWER;
use md5::{Digest as _, Md5};

pub use authenticator::{Authenticator, DigestConfig, Verdict};
pub use client::{Answer, Challenge, Qop, answer};
pub use params::{DigestParams, MAX_PARAMS};

/// Hexadecimal digits of the longest hash.
const HEX_LEN_MAX: usize = 64;

/// A hash algorithm (RFC 8760 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// `MD5`, which most phones still use.
    Md5,
    /// `SHA-256`
    Sha256,
    /// `SHA-512-256`
    Sha512_256,
}

impl Algorithm {
    /// All of them, strongest first, as a server lists its challenges (RFC 8760 §2.3).
    pub const ALL: [Algorithm; 3] = [Algorithm::Sha512_256, Algorithm::Sha256, Algorithm::Md5];

    /// Returns the token of the `algorithm` parameter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha512_256 => "SHA-512-256",
        }
    }

    /// Finds the algorithm of this token, in any case. The session variants (`-sess`) are not offered, so not known.
    pub fn from_token(token: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(token))
    }

    /// Returns the length of a hash in hexadecimal digits.
    pub const fn hex_len(self) -> usize {
        match self {
            Algorithm::Md5 => 32,
            Algorithm::Sha256 | Algorithm::Sha512_256 => 64,
        }
    }

    /// Hashes the parts joined by colons.
    fn hash(self, parts: &[&[u8]]) -> Hash {
        let joined =
            parts.iter().enumerate().flat_map(|(index, part)| [if index > 0 { b":".as_slice() } else { b"" }, *part]);
        match self {
            Algorithm::Md5 => {
                let mut md5 = Md5::new();
                joined.for_each(|part| md5.update(part));
                Hash::of(&md5.finalize())
            }
            Algorithm::Sha256 => Hash::of_sha(&SHA256, joined),
            Algorithm::Sha512_256 => Hash::of_sha(&SHA512_256, joined),
        }
    }
}

/// A hash in lower-case hexadecimal digits, without an allocation: two or three are made for each request of a phone.
#[derive(Clone, Copy)]
pub struct Hash {
    digits: [u8; HEX_LEN_MAX],
    len: usize,
}

impl Hash {
    fn of(bytes: &[u8]) -> Hash {
        let mut hash = Hash { digits: [0; HEX_LEN_MAX], len: (2 * bytes.len()).min(HEX_LEN_MAX) };
        let bytes = bytes.get(..hash.len / 2).unwrap_or_default();
        if let Some(digits) = hash.digits.get_mut(..hash.len) {
            HEXLOWER.encode_mut(bytes, digits);
        }
        hash
    }

    fn of_sha<'a>(algorithm: &'static digest::Algorithm, parts: impl Iterator<Item = &'a [u8]>) -> Hash {
        let mut context = digest::Context::new(algorithm);
        parts.for_each(|part| context.update(part));
        Hash::of(context.finish().as_ref())
    }

    fn as_bytes(&self) -> &[u8] {
        self.digits.get(..self.len).unwrap_or_default()
    }

    /// Whether these are the same digits, in any case; how long that takes says nothing of them.
    fn is(&self, given: &str) -> bool {
        let mut lower = [0; HEX_LEN_MAX];
        let Some(lower) = lower.get_mut(..given.len()) else { return false };
        lower.copy_from_slice(given.as_bytes());
        lower.make_ascii_lowercase();
        constant_time::verify_slices_are_equal(self.as_bytes(), lower).is_ok()
    }
}

/// It may be that of a password.
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash([redacted])")
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

/// H(user ":" realm ":" password), in hexadecimal digits: all that a server needs to know, and as secret as the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1(String);

impl Ha1 {
    /// Takes 32 or 64 hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Ha1> {
        let is_hash = matches!(hex.len(), 32 | 64) && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| Ha1(hex.to_ascii_lowercase()))
    }

    /// Returns the lower-case hexadecimal digits, to be stored. They are a secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1(<redacted>)")
    }
}

/// Computes HA1 of a password (RFC 7616 §3.4.2).
pub fn ha1(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> Ha1 {
    Ha1(algorithm.hash(&[user.as_bytes(), realm.as_bytes(), password.as_bytes()]).to_string())
}

/// What the response covers (RFC 7616 §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection<'a> {
    /// No `qop`: the form of RFC 2069, without a nonce count. Never accepted here; some servers still ask for it.
    Legacy,
    /// `qop=auth`: method and URI.
    Auth {
        /// The nonce count, eight hexadecimal digits.
        nc: &'a str,
        /// The client's nonce.
        cnonce: &'a str,
    },
    /// `qop=auth-int`: the body too.
    AuthInt {
        /// The nonce count, eight hexadecimal digits.
        nc: &'a str,
        /// The client's nonce.
        cnonce: &'a str,
        /// The body of the request.
        body: &'a [u8],
    },
}

/// Computes the `response` parameter (RFC 7616 §3.4.1).
pub fn response(
    algorithm: Algorithm,
    ha1: &Ha1,
    nonce: &str,
    protection: Protection<'_>,
    method_name: &str,
    uri: &str,
) -> Hash {
    let (method, uri, nonce, ha1) = (method_name.as_bytes(), uri.as_bytes(), nonce.as_bytes(), ha1.0.as_bytes());
    match protection {
        Protection::Legacy => {
            let ha2 = algorithm.hash(&[method, uri]);
            algorithm.hash(&[ha1, nonce, ha2.as_bytes()])
        }
        Protection::Auth { nc, cnonce } => {
            let ha2 = algorithm.hash(&[method, uri]);
            algorithm.hash(&[ha1, nonce, nc.as_bytes(), cnonce.as_bytes(), b"auth", ha2.as_bytes()])
        }
        Protection::AuthInt { nc, cnonce, body } => {
            let body = algorithm.hash(&[body]);
            let ha2 = algorithm.hash(&[method, uri, body.as_bytes()]);
            algorithm.hash(&[ha1, nonce, nc.as_bytes(), cnonce.as_bytes(), b"auth-int", ha2.as_bytes()])
        }
    }
}

/// Computes HA1 of a session variant (RFC 7616 §3.4.2), for servers that insist on one.
pub fn session_ha1(algorithm: Algorithm, ha1: &Ha1, nonce: &str, cnonce: &str) -> Ha1 {
    Ha1(algorithm.hash(&[ha1.0.as_bytes(), nonce.as_bytes(), cnonce.as_bytes()]).to_string())
}
