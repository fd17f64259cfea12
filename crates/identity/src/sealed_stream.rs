//! Many bytes encrypted under a passphrase, piece by piece, so that neither who seals nor who opens holds all of them: a backup.
//!
//! Head: [`MAGIC`], version (1 byte), salt (16), nonce prefix (7). Then pieces of [`PIECE`] bytes, the last one of at most as many,
//! each sealed with AES-256-GCM under the key that Argon2id (RFC 9106) makes of the passphrase and the salt. The nonce is the prefix,
//! the piece's number (4 bytes, big-endian) and whether it is the last one (the STREAM construction of Hoang, Reyhanitabar, Rogaway
//! and Vizár, 2015): pieces that are left out, exchanged, repeated or cut off at the end do not open. The head is authenticated with
//! every piece. What Argon2id costs belongs to the version, so that no file can ask for more.

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};

use crate::Error;
use crate::passphrase::{SALT, check, sealing_key};

/// Bytes of randomness that sealing takes: a salt and what every nonce begins with.
pub const RANDOM: usize = SALT + PREFIX;

/// What a sealed stream begins with.
pub const MAGIC: [u8; 16] = *b"meshtone backup\n";

/// Bytes of the head.
pub const HEAD: usize = MAGIC.len() + 1 + RANDOM;

/// Bytes that are sealed at a time: large enough that tags and numbers weigh nothing, small enough to be held anywhere.
pub const PIECE: usize = 64 << 10;

/// Bytes by which a sealed piece is longer.
pub const TAG: usize = 16;

const VERSION: u8 = 1;
const PREFIX: usize = 7;
const WHAT: &str = "backup";

/// Seals pieces, in order.
pub struct Sealer {
    key: LessSafeKey,
    head: [u8; HEAD],
    number: u32,
}

/// Opens pieces, in order.
pub struct Opener(Sealer);

impl Sealer {
    /// Begins a stream; what it begins with is its [`head`](Self::head). `random` has to be fresh. Takes 64 MiB and some tenths of
    /// a second.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for a passphrase that is too short, [`Error::Encode`].
    pub fn new(passphrase: &str, random: &[u8; RANDOM]) -> Result<Self, Error> {
        check(passphrase)?;
        let mut head = [0; HEAD];
        let parts = MAGIC.iter().chain(&[VERSION]).chain(random);
        head.iter_mut().zip(parts).for_each(|(place, byte)| *place = *byte);
        Self::keyed(head, passphrase).ok_or_else(|| encode("the passphrase could not be stretched"))
    }

    /// The head, which comes before the first piece.
    pub fn head(&self) -> &[u8; HEAD] {
        &self.head
    }

    /// Seals the next piece in place. Every piece but the last one has [`PIECE`] bytes.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn seal(&mut self, piece: &mut Vec<u8>, is_last: bool) -> Result<(), Error> {
        let nonce = self.next_nonce(is_last).ok_or_else(|| encode("there is too much to write"))?;
        let sealed = self.key.seal_in_place_append_tag(nonce, Aad::from(&self.head), piece);
        sealed.map_err(|_| encode("the cipher failed"))
    }

    fn keyed(head: [u8; HEAD], passphrase: &str) -> Option<Self> {
        let salt = head.last_chunk::<RANDOM>()?.first_chunk::<SALT>()?;
        Some(Self { key: sealing_key(passphrase, salt)?, head, number: 0 })
    }

    /// The nonce of the next piece; `None` when the numbers are used up, after 256 TiB.
    fn next_nonce(&mut self, is_last: bool) -> Option<Nonce> {
        let number = self.number;
        self.number = number.checked_add(1)?;
        let mut nonce = [0; NONCE_LEN];
        let prefix = self.head.last_chunk::<PREFIX>()?;
        let parts = prefix.iter().copied().chain(number.to_be_bytes()).chain([u8::from(is_last)]);
        nonce.iter_mut().zip(parts).for_each(|(place, byte)| *place = byte);
        Some(Nonce::assume_unique_for_key(nonce))
    }
}

impl Opener {
    /// Reads the head of a stream. Takes as long as sealing.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no such stream, [`Error::Unsupported`] for one of a later program.
    pub fn new(head: &[u8; HEAD], passphrase: &str) -> Result<Self, Error> {
        let malformed = |why| Error::Malformed { what: WHAT, why };
        let rest = head.strip_prefix(&MAGIC).ok_or(malformed("it does not begin like one"))?;
        match rest.first() {
            Some(&VERSION) => {}
            Some(version) => return Err(Error::Unsupported { what: WHAT, which: format!("version {version}") }),
            None => return Err(malformed("it is cut short")),
        }
        let keyed = Sealer::keyed(*head, passphrase);
        keyed.map(Self).ok_or(Error::NotPermitted { what: WHAT, why: "the passphrase could not be stretched" })
    }

    /// Opens the next piece in place and returns what was sealed.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] at the first piece, where a wrong passphrase and a damaged file cannot be told apart;
    /// [`Error::Malformed`] at every other one.
    pub fn open<'a>(&mut self, piece: &'a mut [u8], is_last: bool) -> Result<&'a [u8], Error> {
        let refused = match self.0.number {
            0 => Error::NotPermitted { what: WHAT, why: "the passphrase is wrong, or the file is damaged" },
            _ => Error::Malformed { what: WHAT, why: "it is damaged or cut short" },
        };
        let nonce = self.0.next_nonce(is_last).ok_or(refused.clone())?;
        let opened = self.0.key.open_in_place(nonce, Aad::from(&self.0.head), piece);
        opened.map(|plain| &*plain).map_err(|_| refused)
    }
}

fn encode(why: &str) -> Error {
    Error::Encode { what: WHAT, why: why.to_owned() }
}

const _: () = assert!(PREFIX + size_of::<u32>() + 1 == NONCE_LEN);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PASSPHRASE: &str = "correct horse";

    /// Three pieces.
    fn sealed() -> ([u8; HEAD], Vec<Vec<u8>>) {
        let mut sealer = Sealer::new(PASSPHRASE, &[7; RANDOM]).unwrap();
        let mut pieces = vec![vec![1; PIECE], vec![2; PIECE], vec![3; 5]];
        for (index, piece) in pieces.iter_mut().enumerate() {
            sealer.seal(piece, index == 2).unwrap();
        }
        (*sealer.head(), pieces)
    }

    fn open(head: &[u8; HEAD], passphrase: &str, pieces: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
        let mut opener = Opener::new(head, passphrase)?;
        let mut opened = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            opened.extend(opener.open(&mut piece.clone(), index + 1 == pieces.len())?);
        }
        Ok(opened)
    }

    #[test]
    fn what_was_sealed_opens_with_its_passphrase_and_no_other() {
        let (head, pieces) = sealed();
        let opened = open(&head, PASSPHRASE, &pieces).unwrap();
        assert_eq!(opened, [vec![1; PIECE], vec![2; PIECE], vec![3; 5]].concat());
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE + TAG));
        assert!(matches!(open(&head, "correct house", &pieces), Err(Error::NotPermitted { .. })));
        assert!(matches!(Sealer::new("password", &[7; RANDOM]), Err(Error::NotPermitted { .. })));
    }

    #[test]
    fn what_is_cut_exchanged_repeated_or_changed_does_not_open() {
        let (head, pieces) = sealed();
        let [first, second, third] = [&pieces[0], &pieces[1], &pieces[2]].map(Clone::clone);
        let mut changed = second.clone();
        changed[9] ^= 1;
        for wrong in [
            vec![first.clone(), second.clone()],
            vec![first.clone(), third.clone()],
            vec![first.clone(), first.clone(), third.clone()],
            vec![first.clone(), changed, third.clone()],
            vec![first.clone(), second.clone(), third.clone(), third.clone()],
        ] {
            assert!(matches!(open(&head, PASSPHRASE, &wrong), Err(Error::Malformed { .. })));
        }
        assert!(matches!(open(&head, PASSPHRASE, &[second, first, third]), Err(Error::NotPermitted { .. })));
    }

    #[test]
    fn a_head_that_is_none_is_told_from_one_of_a_later_program() {
        let (head, pieces) = sealed();
        let with = |place: usize, byte: u8| {
            let mut changed = head;
            changed[place] = byte;
            open(&changed, PASSPHRASE, &pieces).unwrap_err()
        };
        assert!(matches!(with(0, b'M'), Error::Malformed { .. }));
        assert!(matches!(with(MAGIC.len(), 2), Error::Unsupported { .. }));
        for place in [MAGIC.len() + 1, HEAD - 1] {
            assert!(matches!(with(place, 0), Error::NotPermitted { .. }), "salt or nonce at {place}");
        }
    }
}
