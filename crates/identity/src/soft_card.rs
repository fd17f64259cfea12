//! A soft-card: a person's key and certificate in one encrypted text, to be carried to another machine or kept as a backup.
//!
//! PEM armour (RFC 7468) around: version (1 byte), salt (16), nonce (12), and what is sealed with AES-256-GCM under the key that
//! Argon2id (RFC 9106) makes of the passphrase and the salt: length of the private key (2 bytes, big-endian), the key in PKCS#8,
//! the certificate in DER. Version and salt are authenticated as well. What Argon2id costs belongs to the version, so that no file
//! can ask for more.

use std::fmt;

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use zeroize::Zeroizing;

use crate::Error;
use crate::passphrase::{SALT, check, sealing_key};

/// Bytes of randomness that sealing takes: a salt and a nonce.
pub const RANDOM: usize = SALT + NONCE_LEN;

const VERSION: u8 = 1;
const HEAD: usize = 1 + SALT + NONCE_LEN;

/// Longer texts are not looked at: a key has 140 bytes and a certificate at most 4 KiB.
const MAX_TEXT: usize = 8192;

const BEGIN: &str = "-----BEGIN MESHTONE SOFT-CARD-----";
const END: &str = "-----END MESHTONE SOFT-CARD-----";

/// Characters a line (RFC 7468 §2).
const LINE: usize = 64;

const CARD: &str = "soft-card";

/// What is on a card.
#[derive(Clone, PartialEq, Eq)]
pub struct SoftCard {
    /// The private key, PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
    /// The user certificate, DER. Whether it is valid and for this key shows when it is verified.
    pub certificate: Vec<u8>,
}

impl fmt::Debug for SoftCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftCard").field("key", &"[redacted]").finish_non_exhaustive()
    }
}

impl SoftCard {
    /// Encrypts the card. `random` has to be fresh. Takes 64 MiB and some tenths of a second.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for a passphrase that is too short, [`Error::Encode`].
    pub fn seal(&self, passphrase: &str, random: &[u8; RANDOM]) -> Result<String, Error> {
        check(passphrase)?;
        let encode = |why: &str| Error::Encode { what: CARD, why: why.to_owned() };
        let (salt, nonce) = random.split_first_chunk::<SALT>().ok_or(encode("too little randomness"))?;
        let nonce = nonce.first_chunk::<NONCE_LEN>().ok_or(encode("too little randomness"))?;
        let length = u16::try_from(self.key.len()).map_err(|_| encode("the key is too long"))?;
        let mut sealed = Zeroizing::new([&length.to_be_bytes()[..], &self.key, &self.certificate].concat());
        let mut card = vec![VERSION];
        card.extend(salt);
        let sealing = sealing_key(passphrase, salt).ok_or(encode("the passphrase could not be stretched"))?;
        sealing
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(&card), &mut *sealed)
            .map_err(|_| encode("the cipher failed"))?;
        card.extend(nonce);
        card.extend(sealed.iter());
        let text = data_encoding::BASE64.encode(&card);
        let lines: Vec<&str> =
            (0..text.len()).step_by(LINE).filter_map(|at| text.get(at..text.len().min(at + LINE))).collect();
        Ok(format!("{BEGIN}\n{}\n{END}\n", lines.join("\n")))
    }

    /// Decrypts a card. Takes as long as sealing.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no card; [`Error::NotPermitted`] for the wrong passphrase or a damaged card, which
    /// cannot be told apart.
    pub fn open(text: &str, passphrase: &str) -> Result<Self, Error> {
        let card = read(text)?;
        let malformed = Error::Malformed { what: CARD, why: "it is cut short" };
        let (head, sealed) = card.split_first_chunk::<HEAD>().ok_or(malformed.clone())?;
        let (aad, nonce) = head.split_first_chunk::<{ 1 + SALT }>().ok_or(malformed.clone())?;
        let salt = aad.last_chunk::<SALT>().ok_or(malformed.clone())?;
        let nonce = nonce.first_chunk::<NONCE_LEN>().ok_or(malformed.clone())?;
        let refused = Error::NotPermitted { what: CARD, why: "the passphrase is wrong, or the card is damaged" };
        let opening = sealing_key(passphrase, salt).ok_or(refused.clone())?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let plain = opening
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut sealed)
            .map_err(|_| refused)?;
        let (length, rest) = plain.split_first_chunk::<2>().ok_or(malformed.clone())?;
        let (key, certificate) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(malformed)?;
        Ok(Self { key: Zeroizing::new(key.to_vec()), certificate: certificate.to_vec() })
    }
}

/// What stands between the lines that mark a card, of a version that is known.
fn read(text: &str) -> Result<Vec<u8>, Error> {
    let malformed = |why| Error::Malformed { what: CARD, why };
    if text.len() > MAX_TEXT {
        return Err(malformed("it is longer than any card"));
    }
    let body = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(body, _)| body);
    let body: String = body.ok_or(malformed("the lines that mark one are missing"))?.split_whitespace().collect();
    let card = data_encoding::BASE64.decode(body.as_bytes()).map_err(|_| malformed("it is mistyped or cut"))?;
    match card.first() {
        Some(&VERSION) => Ok(card),
        Some(_) => Err(malformed("a later program wrote it")),
        None => Err(malformed("it is empty")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PASSPHRASE: &str = "correct horse";

    fn card() -> SoftCard {
        SoftCard { key: Zeroizing::new(vec![1; 138]), certificate: vec![2; 600] }
    }

    #[test]
    fn a_card_opens_with_its_passphrase_and_no_other() {
        let text = card().seal(PASSPHRASE, &[7; RANDOM]).unwrap();
        assert!(text.lines().all(|line| line.len() <= LINE));
        let mailed = format!("Hello,\r\n{}\r\nbye", text.replace('\n', "\r\n> ").replace("> ", ""));
        assert_eq!(SoftCard::open(&mailed, PASSPHRASE).unwrap(), card());
        assert!(matches!(SoftCard::open(&text, "correct house"), Err(Error::NotPermitted { .. })));
    }

    #[test]
    fn a_card_that_was_changed_or_cut_is_refused() {
        let text = card().seal(PASSPHRASE, &[7; RANDOM]).unwrap();
        let other = text.replacen("AQ", "Ag", 1);
        assert!(matches!(SoftCard::open(&other, PASSPHRASE), Err(Error::Malformed { .. })), "the version");
        for place in [100, 300, 900] {
            let mut changed = text.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert!(SoftCard::open(&String::from_utf8(changed).unwrap(), PASSPHRASE).is_err(), "{place}");
        }
        for end in (0..text.len()).step_by(50) {
            assert!(SoftCard::open(&text[..end], PASSPHRASE).is_err(), "cut at {end}");
        }
        assert!(SoftCard::open(&"a".repeat(MAX_TEXT + 1), PASSPHRASE).is_err());
    }

    #[test]
    fn a_passphrase_that_is_soon_guessed_is_refused() {
        assert!(matches!(card().seal("password", &[7; RANDOM]), Err(Error::NotPermitted { .. })));
    }

    #[test]
    fn what_is_printed_for_debugging_hides_the_key() {
        assert!(!format!("{:?}", card()).contains('1'));
    }
}
