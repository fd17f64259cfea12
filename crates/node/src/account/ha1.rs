//! What is kept of a password.

use meshtone_sip::digest::{Algorithm, Ha1, ha1};

/// H(user:realm:password) for each digest algorithm (RFC 7616 §3.4.2): whatever the phone can do, it can log in. Prints
/// redacted, since an HA1 logs in as well as the password does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ha1Set {
    pub(super) md5: Ha1,
    pub(super) sha256: Ha1,
    pub(super) sha512_256: Ha1,
}

impl Ha1Set {
    /// Hashes a password in every way.
    pub fn new(user: &str, realm: &str, password: &str) -> Ha1Set {
        Ha1Set {
            md5: ha1(Algorithm::Md5, user, realm, password),
            sha256: ha1(Algorithm::Sha256, user, realm, password),
            sha512_256: ha1(Algorithm::Sha512_256, user, realm, password),
        }
    }

    /// Reads hashes that were written in hexadecimal; `None` if one is none of its algorithm.
    pub(super) fn from_hex(md5: &str, sha256: &str, sha512_256: &str) -> Option<Ha1Set> {
        let read = |algorithm: Algorithm, hex: &str| {
            if hex.len() == algorithm.hex_len() { Ha1::from_hex(hex) } else { None }
        };
        Some(Ha1Set {
            md5: read(Algorithm::Md5, md5)?,
            sha256: read(Algorithm::Sha256, sha256)?,
            sha512_256: read(Algorithm::Sha512_256, sha512_256)?,
        })
    }

    /// The hash for one algorithm.
    pub fn of(&self, algorithm: Algorithm) -> &Ha1 {
        match algorithm {
            Algorithm::Md5 => &self.md5,
            Algorithm::Sha256 => &self.sha256,
            Algorithm::Sha512_256 => &self.sha512_256,
        }
    }
}
