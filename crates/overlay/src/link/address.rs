//! Whom to dial, and where.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use meshtone_identity::LinkKey;

use super::limits::{MAX_ADDRESSES, MAX_DIAL_BACK_ADDRESSES};
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

    /// Returns where to dial this peer for somebody who is at `asker` and says that it is here: at one host alone, where its packets
    /// are said to come from, and no nearer to us than whoever asks is himself, so that nobody outside makes us knock at doors inside.
    pub(crate) fn for_dial_back(&self, asker: IpAddr) -> Option<Self> {
        let (host, asker) = (self.addrs.first()?.ip().to_canonical(), asker.to_canonical());
        let is_broadcast = matches!(host, IpAddr::V4(host) if host.is_broadcast());
        let is_nearer =
            host.is_loopback() && !asker.is_loopback() || Subnet::of(host).is_none() && Subnet::of(asker).is_some();
        if is_broadcast || is_nearer || host.is_multicast() || host.is_unspecified() {
            return None;
        }
        let at_host = self.addrs.iter().filter(|addr| addr.ip().to_canonical() == host && addr.port() != 0);
        let addrs = at_host.take(MAX_DIAL_BACK_ADDRESSES).copied().collect();
        Some(Self { link_key: self.link_key, addrs })
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
    fn for_others_a_peer_is_dialled_at_one_host_and_never_nearer_than_they_are() {
        let dialled = |asker: &str, addrs: &[&str]| {
            let addrs = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
            let peer = PeerAddress { link_key: LinkKey::from_bytes([9; 32]), addrs };
            peer.for_dial_back(asker.parse().unwrap()).map(|peer| peer.addrs.len())
        };
        let public = ["198.51.100.7:6084", "198.51.100.7:443", "203.0.113.1:53", "10.0.0.1:6084", "127.0.0.1:25"];
        assert_eq!(dialled("192.0.2.1", &public), Some(2), "only where its packets come from");
        assert_eq!(dialled("::ffff:192.0.2.1", &public[..1]), Some(1));
        for inside in ["10.0.0.1:22", "127.0.0.1:22", "[::1]:22", "169.254.169.254:80", "[fd00::1]:22"] {
            assert_eq!(dialled("192.0.2.1", &[inside]), None, "{inside}");
        }
        assert_eq!(dialled("10.0.0.2", &["10.0.0.1:22"]), Some(1), "both are inside");
        assert_eq!(dialled("10.0.0.2", &["127.0.0.1:22"]), None);
        assert_eq!(dialled("127.0.0.1", &["127.0.0.1:22"]), Some(1));
        for nobody in ["224.0.0.251:5353", "255.255.255.255:1", "0.0.0.0:1", "[ff02::fb]:5353"] {
            assert_eq!(dialled("127.0.0.1", &[nobody]), None, "{nobody}");
        }
        let many: Vec<String> = (1..=16).map(|port| format!("198.51.100.7:{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(dialled("192.0.2.1", &many), Some(MAX_DIAL_BACK_ADDRESSES));
        assert_eq!(dialled("192.0.2.1", &[]), None);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bytes in [&b""[..], b"\x82", b"\x80", b"\xff\xff"] {
            assert!(PeerAddress::decode(bytes).is_err());
        }
    }
}
