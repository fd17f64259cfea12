//! Passwords: made here, shown once, never kept.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom, SystemRandom as AwsRandom};

/// The length of a password. 20 symbols of 31 are 99 bits: with MD5 digests, which are cheap to try, still out of reach.
pub const PASSWORD_LEN: usize = 20;

/// Letters and digits that cannot be mistaken for one another (no `i l o 0 1`), all lower case: what a person types
/// into a desk phone with its keypad.
const ALPHABET: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// The largest multiple of the alphabet's size that a byte can be below; other bytes are drawn again, or the first
/// letters would be likelier than the last.
const FAIR: u8 = 248;

/// Where randomness comes from; handed in, so that tests know what they get.
pub trait Random: Send + Sync {
    /// Fills the buffer with unpredictable bytes.
    ///
    /// # Errors
    /// [`NoRandomness`] if there are none; the buffer must not be used then.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoRandomness>;
}

/// The system's randomness could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// The real source.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoRandomness> {
        AwsRandom::new().fill(buffer).map_err(|_| NoRandomness)
    }
}

/// The symbol a random byte stands for; `None` for a byte that must be drawn again.
fn symbol(byte: u8) -> Option<char> {
    let symbol = ALPHABET.get(usize::from(byte) % ALPHABET.len())?;
    (byte < FAIR).then_some(char::from(*symbol))
}

/// The real source, boxed as it is handed in.
pub fn system_random() -> Box<dyn Random> {
    Box::new(SystemRandom)
}

/// A password in clear. Prints redacted; [`Password::reveal`] is for the one place that shows it to its owner.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Makes a password.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate(random: &dyn Random) -> Result<Password, NoRandomness> {
        let mut password = String::with_capacity(PASSWORD_LEN);
        while password.len() < PASSWORD_LEN {
            let mut bytes = [0; 32];
            random.fill(&mut bytes)?;
            password.extend(bytes.into_iter().filter_map(symbol).take(PASSWORD_LEN - password.len()));
        }
        Ok(Password(password))
    }

    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::collections::BTreeSet;

    use super::*;

    struct Broken;

    impl Random for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), NoRandomness> {
            Err(NoRandomness)
        }
    }

    #[test]
    fn a_password_has_at_least_96_bits() {
        let alphabet: BTreeSet<u8> = ALPHABET.iter().copied().collect();
        assert_eq!(alphabet.len(), ALPHABET.len());
        assert!(f64::from(31).log2() * 20.0 >= 96.0);
        let password = Password::generate(&SystemRandom).unwrap();
        assert_eq!(password.reveal().len(), PASSWORD_LEN);
        assert!(password.reveal().bytes().all(|byte| alphabet.contains(&byte)));
        assert_ne!(password, Password::generate(&SystemRandom).unwrap());
    }

    #[test]
    fn every_symbol_is_equally_likely() {
        let mut drawn = std::collections::BTreeMap::new();
        for symbol in (0..=u8::MAX).filter_map(symbol) {
            *drawn.entry(symbol).or_insert(0) += 1;
        }
        assert_eq!(drawn.len(), 31);
        assert!(drawn.values().all(|count| *count == 8), "{drawn:?}");
    }

    #[test]
    fn without_randomness_there_is_no_password() {
        assert_eq!(Password::generate(&Broken), Err(NoRandomness));
    }

    #[test]
    fn a_password_does_not_print_itself() {
        let password = Password::generate(&SystemRandom).unwrap();
        assert!(!format!("{password:?}").contains(password.reveal()));
    }
}
