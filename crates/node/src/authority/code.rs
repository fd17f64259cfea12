//! The codes that are mailed: 40 random bits as eight characters, shown as `ABCD-EFGH`.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use meshtone_identity::id::sha256;

/// Characters that nobody takes for each other, whether read or told: neither I nor O, neither 0 nor 1.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Characters of a code.
const LENGTH: usize = 8;

/// Random bytes that a code is made of: five bits each character.
pub(super) const RANDOM_LENGTH: usize = LENGTH * 5 / 8;

/// A code that was mailed or typed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Code([u8; LENGTH]);

/// What is kept of a code.
#[derive(Debug, Clone)]
pub(super) struct CodeHash([u8; 32]);

impl Code {
    /// Makes a code of fresh randomness.
    pub(super) fn from_random(bytes: [u8; RANDOM_LENGTH]) -> Code {
        let mut bits = bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let mut code = [0; LENGTH];
        for place in code.iter_mut().rev() {
            let index = usize::try_from(bits & 31).unwrap_or_default();
            *place = ALPHABET.get(index).copied().unwrap_or(b'A');
            bits >>= 5;
        }
        Code(code)
    }

    pub(super) fn hash(&self) -> CodeHash {
        CodeHash(sha256(&self.0))
    }
}

impl CodeHash {
    /// Whether it is this code's, in the same time whether or not.
    pub(super) fn is_of(&self, code: &Code) -> bool {
        verify_slices_are_equal(&self.0, &code.hash().0).is_ok()
    }
}

/// Reads a code in upper or lower case, with or without hyphens and blanks.
impl FromStr for Code {
    type Err = ();

    fn from_str(text: &str) -> Result<Code, ()> {
        let characters = text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'-');
        let characters: Vec<u8> = characters.take(LENGTH + 1).map(|byte| byte.to_ascii_uppercase()).collect();
        let code: [u8; LENGTH] = characters.try_into().map_err(|_| ())?;
        if code.iter().all(|character| ALPHABET.contains(character)) { Ok(Code(code)) } else { Err(()) }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, character) in self.0.iter().enumerate() {
            let hyphen = if place == LENGTH / 2 { "-" } else { "" };
            write!(formatter, "{hyphen}{}", char::from(*character))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Code(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code = Code::from_random([0x12, 0x34, 0x56, 0x78, 0x9a]);
        let shown = code.to_string();
        assert_eq!(shown.len(), 9);
        let plain = shown.replace('-', "");
        let spaced = format!(" {} ", shown.replace('-', " "));
        for typed in [shown.clone(), shown.to_lowercase(), plain, spaced] {
            assert_eq!(typed.parse(), Ok(code.clone()), "{typed:?}");
        }
        assert!(!format!("{code:?}").contains(&shown), "a log never shows it");
    }

    #[test]
    fn every_bit_counts() {
        let code = Code::from_random([0; RANDOM_LENGTH]);
        for bit in 0..40 {
            let mut bytes = [0; RANDOM_LENGTH];
            bytes[bit / 8] = 1 << (bit % 8);
            let other = Code::from_random(bytes);
            assert_ne!(other, code);
            assert!(other.hash().is_of(&other) && !code.hash().is_of(&other));
        }
    }

    #[test]
    fn what_is_no_code_is_none() {
        for text in ["", "ABCD", "ABCD-EFGHJ", "ABCD-EFG1", "ABCD-EFGO", "ÄBCDEFGH", "ABCD/EFGH"] {
            assert_eq!(text.parse::<Code>(), Err(()), "{text:?}");
        }
    }
}
