//! Signatures that ANYBODY CAN FORGE, for simulations that must come out the same at every run.
//!
//! ECDSA as aws-lc-rs does it draws fresh randomness for every signature, so a simulated overlay of real signers would
//! never repeat itself. Here a "signature" is an HMAC keyed by the *public* key. Nothing outside tests may use it.

use aws_lc_rs::hmac;

use crate::id::sha256;
use crate::key::{PUBLIC_KEY_LENGTH, SIGNATURE_LENGTH};
use crate::{Error, PublicKey, Signature, Signer, Verifier};

/// A signer whose key and signatures follow from a number. Protects nothing.
#[derive(Debug, Clone)]
pub struct DangerousSigner {
    public: PublicKey,
}

impl DangerousSigner {
    /// Returns the signer with this number; the same number gives the same key.
    pub fn new(number: u64) -> Self {
        let first = sha256(&number.to_be_bytes());
        let second = sha256(&first);
        let mut bytes = [4; PUBLIC_KEY_LENGTH];
        for (slot, byte) in bytes.iter_mut().skip(1).zip(first.iter().chain(&second)) {
            *slot = *byte;
        }
        Self { public: PublicKey::from_sec1(&bytes).unwrap_or_else(|_| unreachable!("built with the right prefix")) }
    }
}

impl Signer for DangerousSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, Error> {
        Ok(fake(&self.public, message))
    }
}

/// The verifier that believes [`DangerousSigner`]s. Protects nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct DangerousVerifier;

impl Verifier for DangerousVerifier {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> Result<(), Error> {
        if fake(key, message) == *signature { Ok(()) } else { Err(Error::Signature) }
    }
}

/// The forgeable stand-in for a signature. Both halves keep their first bit clear, like numbers below the group order.
fn fake(key: &PublicKey, message: &[u8]) -> Signature {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key.as_bytes()), message);
    let mut bytes = [0; SIGNATURE_LENGTH];
    bytes.copy_from_slice(tag.as_ref());
    for half in bytes.chunks_mut(SIGNATURE_LENGTH / 2) {
        if let Some(first) = half.first_mut() {
            *first = *first & 0x3f | 0x40;
        }
    }
    Signature::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn the_same_number_signs_alike_at_every_run() {
        let (one, again, two) = (DangerousSigner::new(1), DangerousSigner::new(1), DangerousSigner::new(2));
        assert_eq!(one.sign(b"x").unwrap(), again.sign(b"x").unwrap());
        DangerousVerifier.verify(one.public_key(), b"x", &again.sign(b"x").unwrap()).unwrap();
        assert!(DangerousVerifier.verify(two.public_key(), b"x", &one.sign(b"x").unwrap()).is_err());
        assert!(DangerousVerifier.verify(one.public_key(), b"y", &one.sign(b"x").unwrap()).is_err());
    }

    #[test]
    fn the_real_verifier_believes_none_of_it() {
        let signer = DangerousSigner::new(1);
        assert!(signer.public_key().verify(b"x", &signer.sign(b"x").unwrap()).is_err());
    }
}
