//! Connectivity checks of ICE (RFC 8445, RFC 8489), as an agent that answers them and sends none of its own ("lite"): for that it needs
//! to be reachable, and the other side finds the pair that works.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::hmac;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const MAGIC_COOKIE: u32 = 0x2112_a442;
const HEADER_LEN: usize = 20;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;

/// Length of MESSAGE-INTEGRITY and of FINGERPRINT, with their headers.
const INTEGRITY_LEN: usize = 4 + 20;
const FINGERPRINT_LEN: usize = 4 + 4;

/// What the CRC of FINGERPRINT is mixed with (RFC 8489 §14.7).
const FINGERPRINT_MASK: u32 = 0x5354_554e;

/// Attributes looked at; checks have eight.
const MAX_ATTRIBUTES: usize = 32;

/// A check that knows our password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Check {
    transaction: [u8; 12],
    /// The other side has chosen this pair.
    pub(super) nominates: bool,
}

/// Whether a datagram at a media port is STUN (RFC 7983).
pub(super) fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram, [0..=3, ..])
}

/// Reads a check; `None` where it is none, is for somebody else, or does not know the password.
pub(super) fn read(datagram: &[u8], username: &str, password: &str) -> Option<Check> {
    let (header, _) = datagram.split_first_chunk::<HEADER_LEN>()?;
    let [k0, k1, l0, l1, m0, m1, m2, m3, transaction @ ..] = *header;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let is_request =
        u16::from_be_bytes([k0, k1]) == BINDING_REQUEST && u32::from_be_bytes([m0, m1, m2, m3]) == MAGIC_COOKIE;
    if !is_request || datagram.len() != HEADER_LEN + len {
        return None;
    }
    let (mut at, mut is_ours, mut nominates) = (HEADER_LEN, false, false);
    for _ in 0..MAX_ATTRIBUTES {
        let [t0, t1, n0, n1] = *datagram.get(at..)?.first_chunk::<4>()?;
        let value_len = usize::from(u16::from_be_bytes([n0, n1]));
        let value = datagram.get(at + 4..)?.get(..value_len)?;
        match u16::from_be_bytes([t0, t1]) {
            USERNAME => is_ours = value == username.as_bytes(),
            USE_CANDIDATE => nominates = true,
            // What follows is not protected, and not looked at.
            MESSAGE_INTEGRITY => {
                let is_known = is_ours && verify(datagram.get(..at)?, password, value);
                return is_known.then_some(Check { transaction, nominates });
            }
            _ => {}
        }
        at += 4 + value_len.next_multiple_of(4);
    }
    None
}

/// Answers a check that came from there.
pub(super) fn answer(check: &Check, source: SocketAddr, password: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + 24 + INTEGRITY_LEN + FINGERPRINT_LEN);
    bytes.extend(BINDING_SUCCESS.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(MAGIC_COOKIE.to_be_bytes());
    bytes.extend(check.transaction);
    let mut address = vec![0, if source.is_ipv4() { 1 } else { 2 }];
    let mask = [MAGIC_COOKIE.to_be_bytes().as_slice(), &check.transaction].concat();
    let mix = |bytes: &[u8]| bytes.iter().zip(&mask).map(|(byte, mask)| byte ^ mask).collect::<Vec<u8>>();
    address.extend(mix(&source.port().to_be_bytes()));
    address.extend(match source.ip() {
        IpAddr::V4(ip) => mix(&ip.octets()),
        IpAddr::V6(ip) => mix(&ip.octets()),
    });
    put(&mut bytes, XOR_MAPPED_ADDRESS, &address);
    set_len(&mut bytes, INTEGRITY_LEN);
    let tag = hmac::sign(&key(password), &bytes);
    put(&mut bytes, MESSAGE_INTEGRITY, tag.as_ref());
    set_len(&mut bytes, FINGERPRINT_LEN);
    let crc = crc32(&bytes) ^ FINGERPRINT_MASK;
    put(&mut bytes, FINGERPRINT, &crc.to_be_bytes());
    bytes
}

/// The length in the header counts up to and with MESSAGE-INTEGRITY (RFC 8489 §14.5).
fn verify(before: &[u8], password: &str, tag: &[u8]) -> bool {
    let mut covered = before.to_vec();
    set_len(&mut covered, INTEGRITY_LEN);
    hmac::verify(&key(password), &covered, tag).is_ok()
}

fn key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend(kind.to_be_bytes());
    bytes.extend(u16::try_from(value.len()).unwrap_or_default().to_be_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Writes the length of the attributes so far and of some that follow.
fn set_len(bytes: &mut [u8], more: usize) {
    let len = u16::try_from(bytes.len().saturating_sub(HEADER_LEN) + more).unwrap_or_default();
    if let Some(place) = bytes.get_mut(2..4) {
        place.copy_from_slice(&len.to_be_bytes());
    }
}

/// The CRC of ITU V.42, a bit at a time: answers are short and few.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xedb8_8320 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// A check as the other side makes them.
#[cfg(test)]
pub(super) fn request(username: &str, password: &str, nominates: bool) -> Vec<u8> {
    let mut bytes = [[0, 1, 0, 0].as_slice(), &MAGIC_COOKIE.to_be_bytes(), &[7; 12]].concat();
    put(&mut bytes, USERNAME, username.as_bytes());
    if nominates {
        put(&mut bytes, USE_CANDIDATE, &[]);
    }
    set_len(&mut bytes, INTEGRITY_LEN);
    let tag = hmac::sign(&key(password), &bytes);
    put(&mut bytes, MESSAGE_INTEGRITY, tag.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
    const USER: &str = "evtj:h6vY";

    /// RFC 5769 §2.1.
    fn request() -> Vec<u8> {
        let words: [u32; 27] = [
            0x0001_0058,
            0x2112_a442,
            0xb7e7_a701,
            0xbc34_d686,
            0xfa87_dfae,
            0x8022_0010,
            0x5354_554e,
            0x2074_6573,
            0x7420_636c,
            0x6965_6e74,
            0x0024_0004,
            0x6e00_01ff,
            0x8029_0008,
            0x932f_f9b1,
            0x5126_3b36,
            0x0006_0009,
            0x6576_746a,
            0x3a68_3676,
            0x5920_2020,
            0x0008_0014,
            0x9aea_a70c,
            0xbfd8_cb56,
            0x781e_f2b5,
            0xb2d3_f249,
            0xc1b5_71a2,
            0x8028_0004,
            0xe57a_3bcf,
        ];
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn the_check_of_rfc_5769_is_read_by_who_knows_the_password() {
        let check = read(&request(), USER, PASSWORD).unwrap();
        assert!(!check.nominates && is_stun(&request()));
        assert_eq!(read(&request(), USER, "other"), None);
        assert_eq!(read(&request(), "evtj:other", PASSWORD), None);
        let fingerprint = crc32(&request()[..100]) ^ FINGERPRINT_MASK;
        assert_eq!(fingerprint, 0xe57a_3bcf);
    }

    #[test]
    fn a_changed_or_cut_check_is_none() {
        for at in 0..100 {
            let mut changed = request();
            changed[at] ^= 1;
            assert_eq!(read(&changed, USER, PASSWORD), None, "byte {at}");
        }
        for len in 0..request().len() {
            assert_eq!(read(&request()[..len], USER, PASSWORD), None);
        }
    }

    #[test]
    fn the_answer_says_where_the_check_came_from_and_knows_the_password() {
        let check = read(&request(), USER, PASSWORD).unwrap();
        let answer = answer(&check, "192.0.2.1:32853".parse().unwrap(), PASSWORD);
        // RFC 5769 §2.2, which names its software besides.
        assert_eq!(answer[..4], [1, 1, 0, 44]);
        assert_eq!(answer[20..32], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        assert!(verify(&answer[..32], PASSWORD, &answer[36..56]));
        let six = super::answer(&check, "[2001:db8::1]:9".parse().unwrap(), PASSWORD);
        assert_eq!(six[..4], [1, 1, 0, 56]);
    }
}
