//! Whom to dial, and where.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use meshtone_identity::LinkKey;

use super::limits::MAX_ADDRESSES;
use crate::dht::Subnet;
use crate::record::cbor::{CborError, Decoder, Encoder};

/// Whom to dial, and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// The key that the other side has to prove.
    pub link_key: LinkKey,
    /// Where it may be reached; all are tried at once.
    pub addrs: Vec<SocketAddr>,
}

impl PeerAddress {
    /// Returns the encoding that nodes pass on to each other.
    pub fn encode(&self) -> Bytes {
        let mut out = Encoder::new();
        out.array(2).bytes(self.link_key.as_bytes());
        encode_addresses(&mut out, &self.addrs);
        out.finish().into()
    }

    /// Reads what another node passed on.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut input = Decoder::new(bytes);
        input.array_of(2)?;
        let address = Self { link_key: LinkKey::from_bytes(input.fixed()?), addrs: decode_addresses(&mut input)? };
        input.finish()?;
        Ok(address)
    }

    /// Adds addresses that are not there yet, up to the bound.
    pub(crate) fn merge(&mut self, addrs: &[SocketAddr]) {
        for addr in addrs {
            if self.addrs.len() < MAX_ADDRESSES && !self.addrs.contains(addr) {
                self.addrs.push(*addr);
            }
        }
    }
}

/// Returns the subnet that a node is reached in, of what nodes pass on to each other: of a link, where its packets come from; of
/// other nodes, where whoever tells of them says so.
pub(crate) fn subnet_of(address: &[u8]) -> Option<Subnet> {
    PeerAddress::decode(address).ok()?.addrs.first().and_then(|addr| Subnet::of(addr.ip()))
}

/// Writes an array of [address octets, port].
pub(crate) fn encode_addresses(out: &mut Encoder, addrs: &[SocketAddr]) {
    let addrs = addrs.get(..MAX_ADDRESSES).unwrap_or(addrs);
    out.array(addrs.len());
    for addr in addrs {
        out.array(2);
        match addr.ip() {
            IpAddr::V4(ip) => out.bytes(&ip.octets()),
            IpAddr::V6(ip) => out.bytes(&ip.octets()),
        };
        out.unsigned(addr.port().into());
    }
}

/// Reads what [`encode_addresses`] writes.
pub(crate) fn decode_addresses(input: &mut Decoder<'_>) -> Result<Vec<SocketAddr>, CborError> {
    let count = input.array(MAX_ADDRESSES)?;
    let mut addrs = Vec::with_capacity(count);
    for _ in 0..count {
        input.array_of(2)?;
        let octets = input.bytes(16)?;
        let ip = match (<[u8; 4]>::try_from(octets), <[u8; 16]>::try_from(octets)) {
            (Ok(octets), _) => IpAddr::from(octets),
            (_, Ok(octets)) => IpAddr::from(octets),
            (Err(_), Err(_)) => return Err(CborError("an IP address of neither family")),
        };
        addrs.push(SocketAddr::new(ip, input.narrow()?));
    }
    Ok(addrs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_peer_address_reads_back_and_fits_where_it_is_kept() {
        let addrs = (0..20).map(|port| SocketAddr::new(IpAddr::from([0xff; 16]), 60_000 + port)).collect();
        let address = PeerAddress { link_key: LinkKey::from_bytes([9; 32]), addrs };
        let encoded = address.encode();
        assert!(encoded.len() <= crate::dht::id::MAX_ADDRESS);
        let decoded = PeerAddress::decode(&encoded).unwrap();
        assert_eq!(decoded.link_key, address.link_key);
        assert_eq!(decoded.addrs, address.addrs[..MAX_ADDRESSES]);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bytes in [&b""[..], b"\x82", b"\x80", b"\xff\xff"] {
            assert!(PeerAddress::decode(bytes).is_err());
        }
    }
}
