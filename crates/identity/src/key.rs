//! P-256 keys and ES256 signatures (ECDSA with SHA-256, RFC 7518 §3.4: r ‖ s of fixed length).
//!
//! Signing and verifying are traits, so that a simulation can put [`dangerous_deterministic`] in their place.
//!
//! [`dangerous_deterministic`]: crate::dangerous_deterministic

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use zeroize::Zeroizing;

use crate::Error;

/// Length of an uncompressed P-256 point (SEC 1 §2.3.3).
pub const PUBLIC_KEY_LENGTH: usize = 65;

/// Length of r ‖ s.
pub const SIGNATURE_LENGTH: usize = 64;

/// Whoever holds a private key and signs with it.
pub trait Signer: Send + Sync {
    /// Returns the public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs the message.
    ///
    /// # Errors
    /// [`Error::PrivateKey`] when the key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<Signature, Error>;
}

/// Judges signatures: [`Es256`] everywhere but in simulations.
pub trait Verifier: Send + Sync {
    /// Checks that `signature` is `key`'s over `message`.
    ///
    /// # Errors
    /// [`Error::Signature`] when it is not.
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> Result<(), Error>;
}

/// The verifier of real signatures: ECDSA on P-256 with SHA-256.
#[derive(Debug, Clone, Copy, Default)]
pub struct Es256;

impl Verifier for Es256 {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> Result<(), Error> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.as_bytes())
            .verify(message, signature.as_bytes())
            .map_err(|_| Error::Signature)
    }
}

/// A P-256 public key as an uncompressed point.
///
/// Only the form is checked when it is made; a point off the curve verifies nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; PUBLIC_KEY_LENGTH]);

impl PublicKey {
    /// Reads an uncompressed SEC 1 point.
    ///
    /// # Errors
    /// [`Error::PublicKey`] when the length or the first byte is not that of one.
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, Error> {
        match <[u8; PUBLIC_KEY_LENGTH]>::try_from(bytes) {
            Ok(bytes) if bytes.first() == Some(&0x04) => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err(Error::PublicKey),
        }
    }

    /// Returns the 65 bytes of the point.
    pub const fn as_bytes(&self) -> &[u8; PUBLIC_KEY_LENGTH] {
        &self.0
    }

    /// Checks an ES256 signature of this key.
    ///
    /// # Errors
    /// [`Error::Signature`] when it is not this key's over this message.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), Error> {
        Es256.verify(self, message, signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// An ES256 signature, r ‖ s.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature([u8; SIGNATURE_LENGTH]);

impl Signature {
    /// Makes a signature of its bytes.
    pub const fn from_bytes(bytes: [u8; SIGNATURE_LENGTH]) -> Self {
        Self(bytes)
    }

    /// Makes a signature of a slice.
    ///
    /// # Errors
    /// [`Error::Signature`] when it has not 64 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        bytes.try_into().map(Self).map_err(|_| Error::Signature)
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; SIGNATURE_LENGTH] {
        &self.0
    }

    /// Returns the form that X.509 and TLS want (RFC 3279 §2.2.3).
    pub fn to_der(&self) -> Vec<u8> {
        crate::der::signature_to_der(self)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// A P-256 private key that lives in this process.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a new key from the crypto library's randomness.
    ///
    /// # Errors
    /// [`Error::PrivateKey`] when the system gives no randomness.
    pub fn generate() -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| Error::PrivateKey("the system made none"))?;
        Self::from_pair(pair)
    }

    /// Reads a key from PKCS#8 (RFC 5958).
    ///
    /// # Errors
    /// [`Error::PrivateKey`] when it is not a P-256 key in that form.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, Error> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
            .map_err(|_| Error::PrivateKey("not a P-256 key in PKCS#8"))?;
        Self::from_pair(pair)
    }

    /// Writes the key as PKCS#8; the bytes are wiped when dropped.
    ///
    /// # Errors
    /// [`Error::PrivateKey`] when the crypto library refuses.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let document = self.pair.to_pkcs8v1().map_err(|_| Error::PrivateKey("cannot be exported"))?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    fn from_pair(pair: EcdsaKeyPair) -> Result<Self, Error> {
        let public = PublicKey::from_sec1(pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }
}

impl Signer for SigningKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, Error> {
        let signature =
            self.pair.sign(&SystemRandom::new(), message).map_err(|_| Error::PrivateKey("signing failed"))?;
        Signature::from_slice(signature.as_ref())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_signature_verifies_for_its_key_and_message_only() {
        let (alice, mallory) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signature = alice.sign(b"hello").unwrap();
        alice.public_key().verify(b"hello", &signature).unwrap();
        assert_eq!(alice.public_key().verify(b"hullo", &signature), Err(Error::Signature));
        assert_eq!(mallory.public_key().verify(b"hello", &signature), Err(Error::Signature));
    }

    #[test]
    fn a_key_written_and_read_again_is_the_same_key() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        let signature = again.sign(b"hello").unwrap();
        key.public_key().verify(b"hello", &signature).unwrap();
    }

    #[test]
    fn a_point_off_the_curve_verifies_nothing() {
        let mut bytes = [7; PUBLIC_KEY_LENGTH];
        bytes[0] = 4;
        let key = PublicKey::from_sec1(&bytes).unwrap();
        assert_eq!(key.verify(b"", &Signature::from_bytes([1; 64])), Err(Error::Signature));
    }

    #[test]
    fn other_forms_of_keys_are_refused() {
        assert_eq!(PublicKey::from_sec1(&[4; 64]), Err(Error::PublicKey));
        assert_eq!(PublicKey::from_sec1(&[2; 65]), Err(Error::PublicKey));
        assert!(SigningKey::from_pkcs8(b"nonsense").is_err());
    }

    #[test]
    fn debug_shows_no_private_key() {
        let key = SigningKey::generate().unwrap();
        let secret = key.to_pkcs8().unwrap();
        let shown = format!("{key:?}");
        assert!(!shown.contains(&data_encoding::HEXLOWER.encode(&secret[36..68])));
        assert!(shown.starts_with("SigningKey { public"));
    }
}
