//! Writing a message.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::hmac;

use super::{Class, FINGERPRINT_LEN, Family, HEADER_LEN, INTEGRITY_LEN, MAGIC_COOKIE, Message, attribute, fingerprint};

/// A message that grows by attributes. What is put in must come to less than 64 KiB in all, which everything here does by far; only a
/// Data indication is long, and no longer than the datagram that it came from.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty message.
    pub fn new(class: Class, method: u16, transaction: [u8; 12]) -> Writer {
        let kind = class.bits() | method & 0x000f | (method & 0x0070) << 1 | (method & 0x0f80) << 2;
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(MAGIC_COOKIE);
        bytes.extend(transaction);
        Writer { bytes }
    }

    /// An empty answer.
    pub fn answer(class: Class, to: &Message<'_>) -> Writer {
        Writer::new(class, to.method, to.transaction)
    }

    /// Adds an attribute.
    pub fn put(mut self, kind: u16, value: &[u8]) -> Writer {
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.set_len(0);
        self
    }

    /// Adds a number of 32 bits.
    pub fn put_number(self, kind: u16, value: u32) -> Writer {
        self.put(kind, &value.to_be_bytes())
    }

    /// Adds an address, XORed. An IPv4 address within an IPv6 one is written as what it is.
    pub fn put_address(self, kind: u16, address: SocketAddr) -> Writer {
        let key = self.bytes.get(4..HEADER_LEN).and_then(|key| key.first_chunk()).copied().unwrap_or_default();
        self.put_address_under(kind, address, &key)
    }

    /// Adds an address as it is, in the form of MAPPED-ADDRESS (RFC 8489 §14.1), as the attributes of RFC 5780 have it.
    pub fn put_plain_address(self, kind: u16, address: SocketAddr) -> Writer {
        self.put_address_under(kind, address, &[0; 16])
    }

    fn put_address_under(self, kind: u16, address: SocketAddr, key: &[u8; 16]) -> Writer {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let mut value = [0; 20];
        let octets = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let port = address.port().to_be_bytes();
        let plain = port.iter().zip(key).chain(octets.iter().zip(key));
        value[1] = Family::of(address).number();
        for (place, (plain, key)) in value.iter_mut().skip(2).zip(plain) {
            *place = plain ^ key;
        }
        let len = 4 + octets.len();
        self.put(kind, value.get(..len).unwrap_or_default())
    }

    /// Adds ERROR-CODE, without a phrase: programs do not read it, and an answer to a stranger shall be short.
    pub fn put_error(self, code: u16) -> Writer {
        let [class, number] = [code / 100, code % 100].map(|part| u8::try_from(part).unwrap_or_default());
        self.put(attribute::ERROR_CODE, &[0, 0, class, number])
    }

    /// Adds UNKNOWN-ATTRIBUTES.
    pub fn put_unknown(self, kinds: &[u16]) -> Writer {
        let value: Vec<u8> = kinds.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        self.put(attribute::UNKNOWN_ATTRIBUTES, &value)
    }

    /// Adds MESSAGE-INTEGRITY.
    pub fn sign(mut self, key: &hmac::Key) -> Writer {
        self.set_len(INTEGRITY_LEN);
        let tag = hmac::sign(key, &self.bytes);
        self.put(attribute::MESSAGE_INTEGRITY, tag.as_ref())
    }

    /// Adds FINGERPRINT.
    pub fn with_fingerprint(self) -> Writer {
        let crc = fingerprint(&self.bytes, self.bytes.len() - HEADER_LEN + FINGERPRINT_LEN);
        self.put(attribute::FINGERPRINT, &crc)
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn set_len(&mut self, more: usize) {
        let len = u16::try_from(self.bytes.len().saturating_sub(HEADER_LEN) + more).unwrap_or(u16::MAX);
        if let Some(place) = self.bytes.get_mut(2..4) {
            place.copy_from_slice(&len.to_be_bytes());
        }
    }
}
