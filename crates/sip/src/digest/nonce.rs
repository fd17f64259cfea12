//! Nonces that prove themselves: the time, a counter, and a MAC over both and the realm.

use aws_lc_rs::{constant_time, hmac};
use data_encoding::BASE64URL_NOPAD;

/// Time and counter, eight bytes each.
const STAMP_LEN: usize = 16;

/// 128 bits of the MAC: nobody can try 2^128 nonces within the life of one.
const MAC_LEN: usize = 16;

/// When a nonce was made, and which of that millisecond it is. Orders nonces by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    pub(super) issued_ms: u64,
    pub(super) counter: u64,
}

impl Stamp {
    fn to_bytes(self) -> [u8; STAMP_LEN] {
        let mut bytes = [0; STAMP_LEN];
        let (time, counter) = bytes.split_at_mut(8);
        time.copy_from_slice(&self.issued_ms.to_be_bytes());
        counter.copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }
}

/// Writes the nonce of this stamp.
pub(super) fn seal(key: &hmac::Key, stamp: Stamp, realm: &str) -> String {
    let bytes = stamp.to_bytes();
    let mac = mac(key, &bytes, realm);
    BASE64URL_NOPAD.encode(&[bytes.as_slice(), mac.as_ref().get(..MAC_LEN).unwrap_or_default()].concat())
}

/// Reads a nonce that we wrote for this realm; anybody else's is `None`.
pub(super) fn open(key: &hmac::Key, nonce: &str, realm: &str) -> Option<Stamp> {
    // The length is checked first, so that a nonce of 64 KiB costs nothing.
    if nonce.len() != BASE64URL_NOPAD.encode_len(STAMP_LEN + MAC_LEN) {
        return None;
    }
    let mut bytes = [0; STAMP_LEN + MAC_LEN];
    BASE64URL_NOPAD.decode_mut(nonce.as_bytes(), &mut bytes).ok()?;
    let (stamp, given) = bytes.split_first_chunk::<STAMP_LEN>()?;
    let expected = mac(key, stamp, realm);
    constant_time::verify_slices_are_equal(expected.as_ref().get(..MAC_LEN)?, given).ok()?;
    let (issued_ms, counter) = stamp.split_first_chunk::<8>()?;
    Some(Stamp { issued_ms: u64::from_be_bytes(*issued_ms), counter: u64::from_be_bytes(*counter.first_chunk::<8>()?) })
}

fn mac(key: &hmac::Key, stamp: &[u8], realm: &str) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(stamp);
    context.update(realm.as_bytes());
    context.sign()
}
