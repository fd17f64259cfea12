//! What soft-cards and backups have in common: the key that a passphrase and a salt make (Argon2id, RFC 9106).

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use zeroize::Zeroizing;

use crate::Error;

/// Shortest passphrase, in characters: shorter ones are found by trying.
pub const MIN_PASSPHRASE: usize = 10;

pub(crate) const SALT: usize = 16;

/// RFC 9106 §4, second recommendation: 64 MiB, three passes; four lanes' worth of work in one.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;

/// Refuses a passphrase that is soon guessed.
pub(crate) fn check(passphrase: &str) -> Result<(), Error> {
    if passphrase.chars().count() < MIN_PASSPHRASE {
        return Err(Error::NotPermitted { what: "passphrase", why: "it has fewer than 10 characters" });
    }
    Ok(())
}

/// Takes 64 MiB and some tenths of a second.
pub(crate) fn sealing_key(passphrase: &str, salt: &[u8; SALT]) -> Option<LessSafeKey> {
    let mut key = Zeroizing::new([0; 32]);
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(key.len())).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(passphrase.as_bytes(), salt, &mut *key).ok()?;
    UnboundKey::new(&AES_256_GCM, &*key).ok().map(LessSafeKey::new)
}
