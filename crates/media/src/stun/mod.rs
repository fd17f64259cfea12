//! STUN messages (RFC 8489), read where they lie and written in one go. Not an agent: what is asked and answered is [`crate::turn`]'s
//! business.

mod write;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use aws_lc_rs::hmac;

pub use write::Writer;

/// Length of a message without attributes.
pub const HEADER_LEN: usize = 20;
/// What tells STUN from its predecessor (RFC 8489 §5).
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Length of MESSAGE-INTEGRITY with its header.
pub const INTEGRITY_LEN: usize = 4 + 20;
/// Length of FINGERPRINT with its header.
pub const FINGERPRINT_LEN: usize = 4 + 4;
/// What the CRC of FINGERPRINT is mixed with (RFC 8489 §14.7).
const FINGERPRINT_MASK: u32 = 0x5354_554e;
/// Attributes of a message that are looked at. The longest real one, an Allocate of a client that uses every extension, has fourteen.
pub const MAX_ATTRIBUTES: usize = 32;

/// Methods (RFC 8489 §18.2, RFC 8656 §17, RFC 6062 §6.1).
pub mod method {
    #![allow(missing_docs, reason = "the names are the RFCs'")]
    pub const BINDING: u16 = 0x001;
    pub const ALLOCATE: u16 = 0x003;
    pub const REFRESH: u16 = 0x004;
    pub const SEND: u16 = 0x006;
    pub const DATA: u16 = 0x007;
    pub const CREATE_PERMISSION: u16 = 0x008;
    pub const CHANNEL_BIND: u16 = 0x009;
    pub const CONNECT: u16 = 0x00a;
    pub const CONNECTION_BIND: u16 = 0x00b;
    pub const CONNECTION_ATTEMPT: u16 = 0x00c;
}

/// Attributes (RFC 8489 §18.3, RFC 8656 §18, RFC 6062 §6.2, RFC 5780 §9.1, RFC 8445 §20.2).
pub mod attribute {
    #![allow(missing_docs, reason = "the names are the RFCs'")]
    pub const CHANGE_REQUEST: u16 = 0x0003;
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub const CHANNEL_NUMBER: u16 = 0x000c;
    pub const LIFETIME: u16 = 0x000d;
    pub const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub const DATA: u16 = 0x0013;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub const EVEN_PORT: u16 = 0x0018;
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub const DONT_FRAGMENT: u16 = 0x001a;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const RESERVATION_TOKEN: u16 = 0x0022;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const CONNECTION_ID: u16 = 0x002a;
    pub const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
    pub const ADDRESS_ERROR_CODE: u16 = 0x8001;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const RESPONSE_ORIGIN: u16 = 0x802b;
    pub const OTHER_ADDRESS: u16 = 0x802c;
    /// ADDITIONAL-ADDRESS-FAMILY as drafts of RFC 8656 had it, and clients of coturn's libraries still do.
    pub const DRAFT_ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8032;
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// Answers that it was done.
    Success,
    /// Answers that it was not.
    Error,
}

impl Class {
    const fn bits(self) -> u16 {
        match self {
            Class::Request => 0x000,
            Class::Indication => 0x010,
            Class::Success => 0x100,
            Class::Error => 0x110,
        }
    }
}

/// The two address families, as they are numbered in attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    pub const fn of(address: SocketAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Family::V4 => 1,
            Family::V6 => 2,
        }
    }

    /// The family of this number.
    pub const fn numbered(number: u8) -> Option<Family> {
        match number {
            1 => Some(Family::V4),
            2 => Some(Family::V6),
            _ => None,
        }
    }
}

/// A message that is whole: its length is right, its attributes lie within it, and a FINGERPRINT, where there is one, fits.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// The class.
    pub class: Class,
    /// The method, 12 bits.
    pub method: u16,
    /// The transaction id.
    pub transaction: [u8; 12],
    /// Whether it has a FINGERPRINT.
    pub has_fingerprint: bool,
    /// Where MESSAGE-INTEGRITY begins, if there is one.
    integrity_at: Option<usize>,
}

/// Whether what arrived may be STUN: nothing else that shares its ports begins so (RFC 7983).
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4) && datagram.get(4..8) == Some(&MAGIC_COOKIE)
}

impl<'a> Message<'a> {
    /// Reads a datagram, or one message cut out of a stream; `None` for what is none, which gets no answer.
    pub fn read(bytes: &'a [u8]) -> Option<Message<'a>> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let [k0, k1, l0, l1, c0, c1, c2, c3, transaction @ ..] = *header;
        let (kind, len) = (u16::from_be_bytes([k0, k1]), usize::from(u16::from_be_bytes([l0, l1])));
        if kind >= 0x4000 || [c0, c1, c2, c3] != MAGIC_COOKIE || len != rest.len() || !len.is_multiple_of(4) {
            return None;
        }
        let class = match kind & 0x110 {
            0x000 => Class::Request,
            0x010 => Class::Indication,
            0x100 => Class::Success,
            _ => Class::Error,
        };
        let method = (kind & 0x000f) | (kind & 0x00e0) >> 1 | (kind & 0x3e00) >> 2;
        let mut message = Message { bytes, class, method, transaction, has_fingerprint: false, integrity_at: None };
        let (mut at, mut count) = (HEADER_LEN, 0);
        while at < bytes.len() {
            let (kind, value) = attribute_at(bytes, at)?;
            count += 1;
            // Nothing comes after FINGERPRINT (RFC 8489 §14.7).
            if count > MAX_ATTRIBUTES || message.has_fingerprint {
                return None;
            }
            match kind {
                attribute::MESSAGE_INTEGRITY if message.integrity_at.is_none() => message.integrity_at = Some(at),
                attribute::FINGERPRINT => {
                    let wanted = fingerprint(bytes.get(..at)?, at - HEADER_LEN + FINGERPRINT_LEN);
                    if value != wanted {
                        return None;
                    }
                    message.has_fingerprint = true;
                }
                _ => {}
            }
            at += 4 + value.len().next_multiple_of(4);
        }
        Some(message)
    }

    /// The attributes up to MESSAGE-INTEGRITY: what comes after it is not protected, and is not looked at.
    pub fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let (bytes, end) = (self.bytes, self.integrity_at.unwrap_or(self.bytes.len()));
        let mut at = HEADER_LEN;
        std::iter::from_fn(move || {
            let (kind, value) = attribute_at(bytes, at).filter(|_| at < end)?;
            at += 4 + value.len().next_multiple_of(4);
            Some((kind, value))
        })
    }

    /// The first attribute of a kind.
    pub fn attribute(&self, kind: u16) -> Option<&'a [u8]> {
        self.attributes().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// Where the value of the first attribute of a kind lies in the message.
    pub fn place_of(&self, kind: u16) -> Option<Range<usize>> {
        let mut at = HEADER_LEN;
        for (found, value) in self.attributes() {
            if found == kind {
                return Some(at + 4..at + 4 + value.len());
            }
            at += 4 + value.len().next_multiple_of(4);
        }
        None
    }

    /// The attributes that have to be understood and are not among these (RFC 8489 §6.3.1).
    pub fn unknown(&self, known: &[u16]) -> Vec<u16> {
        let kinds = self.attributes().map(|(kind, _)| kind);
        let unknown = kinds.filter(|kind| *kind < 0x8000 && !known.contains(kind));
        unknown.collect()
    }

    /// An attribute that is a text.
    pub fn text(&self, kind: u16) -> Option<&'a str> {
        std::str::from_utf8(self.attribute(kind)?).ok()
    }

    /// An attribute that is a number of 32 bits.
    pub fn number(&self, kind: u16) -> Option<u32> {
        self.attribute(kind).and_then(|value| Some(u32::from_be_bytes(value.try_into().ok()?)))
    }

    /// The XORed address in an attribute's value.
    pub fn address(&self, value: &[u8]) -> Option<SocketAddr> {
        let [0, family, p0, p1, ip @ ..] = value else { return None };
        let key = self.bytes.get(4..HEADER_LEN)?;
        let port = u16::from_be_bytes([p0 ^ key.first()?, p1 ^ key.get(1)?]);
        let mut octets = [0; 16];
        for (octet, (mixed, key)) in octets.iter_mut().zip(ip.iter().zip(key)) {
            *octet = mixed ^ key;
        }
        let ip: IpAddr = match (Family::numbered(*family)?, ip.len()) {
            (Family::V4, 4) => Ipv4Addr::from(*octets.first_chunk::<4>()?).into(),
            (Family::V6, 16) => Ipv6Addr::from(octets).into(),
            (Family::V4 | Family::V6, _) => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// Whether it has MESSAGE-INTEGRITY.
    pub fn is_signed(&self) -> bool {
        self.integrity_at.is_some()
    }

    /// Whether it was signed with this key (RFC 8489 §14.5). Takes as long for a wrong tag as for the right one.
    pub fn is_signed_with(&self, key: &hmac::Key) -> bool {
        let Some((at, tag)) = self.integrity_at.and_then(|at| Some((at, attribute_at(self.bytes, at)?.1))) else {
            return false;
        };
        let Some((start, covered)) = self.bytes.get(..at).and_then(|bytes| bytes.split_first_chunk::<4>()) else {
            return false;
        };
        // The length in the header counts up to and with MESSAGE-INTEGRITY, whatever follows.
        let [k0, k1, ..] = *start;
        let [l0, l1] = u16::try_from(at - HEADER_LEN + INTEGRITY_LEN).unwrap_or(u16::MAX).to_be_bytes();
        let mut context = hmac::Context::with_key(key);
        context.update(&[k0, k1, l0, l1]);
        context.update(covered);
        aws_lc_rs::constant_time::verify_slices_are_equal(context.sign().as_ref(), tag).is_ok()
    }
}

/// A key for MESSAGE-INTEGRITY.
pub fn integrity_key(key: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key)
}

fn attribute_at(bytes: &[u8], at: usize) -> Option<(u16, &[u8])> {
    let (header, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let [k0, k1, l0, l1] = *header;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    // The padding is there as well, since the whole is a multiple of four.
    Some((u16::from_be_bytes([k0, k1]), rest.get(..len)?))
}

/// FINGERPRINT of a message that so far has `bytes`, and whose header will say `len`.
fn fingerprint(bytes: &[u8], len: usize) -> [u8; 4] {
    let [l0, l1] = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    let header = bytes.iter().take(2).copied().chain([l0, l1]);
    let crc = !header.chain(bytes.iter().skip(4).copied()).fold(u32::MAX, crc32);
    (crc ^ FINGERPRINT_MASK).to_be_bytes()
}

/// One byte into the CRC of ITU V.42.
fn crc32(crc: u32, byte: u8) -> u32 {
    let [low, ..] = crc.to_le_bytes();
    CRC_TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default() ^ crc >> 8
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xedb8_8320 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
pub(crate) mod tests;
