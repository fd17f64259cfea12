//! Names of nodes, overlays and links: 32 bytes each, and their texts.
//!
//! Node and overlay ids are written in base36 (digits, then lower-case letters), always 50 digits, so that they fit
//! into one DNS label (RFC 1035 §2.3.4: 63 octets) and survive case folding. Link keys are written in hexadecimal.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use crate::{Error, PublicKey};

/// Number of base36 digits of an id: the least that holds 256 bits.
pub const ID_DIGITS: usize = 50;

/// Number of bytes of the salt that the authority mixes into a node id.
pub const SALT_LENGTH: usize = 16;

/// A node's place in the overlay: SHA-256(P-256 public key ‖ salt).
///
/// The salt comes from the authority and stands in the node's certificate, so that a node neither chooses nor grinds
/// out its place (RFC 6940 §11.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

/// The name of an overlay: SHA-256 of its authority certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OverlayId([u8; 32]);

/// The Ed25519 public key under which a node is dialled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey([u8; 32]);

impl NodeId {
    /// Makes an id of its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the id of the node with this key and salt.
    pub fn derive(key: &PublicKey, salt: &[u8; SALT_LENGTH]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(key.as_bytes());
        context.update(salt);
        Self(to_array(context.finish()))
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first eight digits, for people and logs.
    pub fn short(&self) -> String {
        short(&self.0)
    }
}

impl OverlayId {
    /// Makes an id of its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the id of the overlay whose authority certificate this is.
    pub fn of_certificate(der: &[u8]) -> Self {
        Self(sha256(der))
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first eight digits, for people and logs.
    pub fn short(&self) -> String {
        short(&self.0)
    }
}

impl LinkKey {
    /// Makes a key of its bytes; whether they are a point of the curve shows when it is dialled.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the public key of a link secret (an Ed25519 seed, RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// [`Error::PrivateKey`] when the crypto library refuses it.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, Error> {
        let refuse = Error::PrivateKey("not a link secret");
        let pair = Ed25519KeyPair::from_seed_unchecked(secret).map_err(|_| refuse.clone())?;
        pair.public_key().as_ref().try_into().map(Self).map_err(|_| refuse)
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first eight digits, for people and logs.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_base36(&self.0))
    }
}

impl fmt::Display for OverlayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_base36(&self.0))
    }
}

impl fmt::Display for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

impl fmt::Debug for OverlayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OverlayId({})", self.short())
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkKey({})", self.short())
    }
}

impl FromStr for NodeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        from_base36(text).map(Self).map_err(|why| Error::Text { what: "node id", why })
    }
}

impl FromStr for OverlayId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        from_base36(text).map(Self).map_err(|why| Error::Text { what: "overlay id", why })
    }
}

impl FromStr for LinkKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why| Error::Text { what: "link key", why };
        let bytes =
            data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| refuse("not lower-case hexadecimal"))?;
        let bytes = bytes.try_into().map_err(|_| refuse("not 32 bytes"))?;
        Ok(Self(bytes))
    }
}

/// Returns SHA-256 of the bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    to_array(digest::digest(&digest::SHA256, bytes))
}

fn to_array(digest: digest::Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

fn short(bytes: &[u8; 32]) -> String {
    let mut text = to_base36(bytes);
    text.truncate(8);
    text
}

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Writes 256 bits as 50 digits, most significant first, by repeated division.
fn to_base36(bytes: &[u8; 32]) -> String {
    let mut number = *bytes;
    let mut digits = [0_u8; ID_DIGITS];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest << 8 | u32::from(*byte);
            *byte = (value / 36) as u8;
            rest = value % 36;
        }
        *digit = DIGITS[rest as usize];
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// Reads exactly 50 lower-case digits that stand for less than 2^256.
fn from_base36(text: &str) -> Result<[u8; 32], &'static str> {
    if text.len() != ID_DIGITS {
        return Err("not 50 digits");
    }
    let mut number = [0_u8; 32];
    for character in text.bytes() {
        let digit = match character {
            b'0'..=b'9' => character - b'0',
            b'a'..=b'z' => character - b'a' + 10,
            _ => return Err("not all digits and lower-case letters"),
        };
        let mut carry = u32::from(digit);
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 36 + carry;
            *byte = (value & 0xff) as u8;
            carry = value >> 8;
        }
        if carry != 0 {
            return Err("larger than 256 bits");
        }
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn every_id_is_fifty_digits_and_reads_back() {
        let mut bytes = [0_u8; 32];
        for round in 0..200_u32 {
            bytes = sha256(&[&bytes[..], &round.to_be_bytes()].concat());
            let text = NodeId::from_bytes(bytes).to_string();
            assert_eq!(text.len(), ID_DIGITS);
            assert_eq!(text.parse::<NodeId>().unwrap().as_bytes(), &bytes);
        }
    }

    #[test]
    fn the_smallest_and_the_largest_id_have_known_texts() {
        assert_eq!(NodeId::from_bytes([0; 32]).to_string(), "0".repeat(50));
        let largest = "6dp5qcb22im238nr3wvp0ic7q99w035jmy2iw7i6n43d37jtof";
        assert_eq!(NodeId::from_bytes([255; 32]).to_string(), largest);
        assert_eq!(largest.parse::<NodeId>().unwrap().as_bytes(), &[255; 32]);
    }

    #[test]
    fn the_order_of_ids_is_the_order_of_their_texts() {
        let (low, high) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        assert!(low < high && low.to_string() < high.to_string());
    }

    #[test]
    fn texts_that_are_no_id_are_refused() {
        let largest_plus_one = "6dp5qcb22im238nr3wvp0ic7q99w035jmy2iw7i6n43d37jtog";
        for text in ["", "0", &"0".repeat(49), &"0".repeat(51), &"z".repeat(50), &"A".repeat(50), largest_plus_one] {
            assert!(text.parse::<NodeId>().is_err(), "{text} was taken for an id");
        }
        assert!("-".repeat(50).parse::<OverlayId>().is_err());
        assert!("é".repeat(25).parse::<OverlayId>().is_err());
    }

    #[test]
    fn a_link_secret_gives_the_key_of_rfc_8032() {
        // RFC 8032 §7.1, test 1.
        let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let secret: [u8; 32] = data_encoding::HEXLOWER.decode(secret.as_bytes()).unwrap().try_into().unwrap();
        assert_eq!(LinkKey::from_secret(&secret).unwrap().to_string(), public);
    }

    #[test]
    fn a_link_key_reads_back_and_nothing_else_is_one() {
        let key = LinkKey::from_bytes([0xab; 32]);
        assert_eq!(key.to_string().parse::<LinkKey>().unwrap(), key);
        for text in ["", "ab", &"AB".repeat(32), &"ab".repeat(33), &"zz".repeat(32)] {
            assert!(text.parse::<LinkKey>().is_err(), "{text} was taken for a link key");
        }
    }
}
