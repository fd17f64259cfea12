//! What is inside the values of each kind.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use meshtone_identity::member::MAX_DELEGATIONS;
use meshtone_identity::{Delegations, LinkKey};

use super::cbor::{CborError, Decoder, Encoder};
use super::value::MAX_CERTIFICATE;
use super::{RecordError, sha256};

/// Most socket addresses in a [`NodeAddress`]: a few interfaces, both families, and what a NAT shows of them.
pub const MAX_ADDRESSES: usize = 16;

/// Longest relay URL in bytes.
const MAX_RELAY: usize = 256;

/// Longest version text in bytes.
const MAX_VERSION: usize = 32;

/// What a node is in its overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It routes and stores, and speaks for no domain.
    Member,
    /// It holds the accounts of at least one domain.
    Home,
}

/// How a node is reached (content of [`Kind::NodeAddress`](super::Kind::NodeAddress)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// The key that its link answers with.
    pub link_key: LinkKey,
    /// Where its link listens; hints, to be believed only once the key answered there.
    pub addresses: Vec<SocketAddr>,
    /// URL of the relay that reaches it.
    pub relay: Option<String>,
    /// What it is.
    pub role: Role,
    /// Version of its program.
    pub version: String,
}

/// That an address is registered at the writer (content of [`Kind::SipRegistration`](super::Kind::SipRegistration)).
///
/// Contacts themselves stay at the home node: strangers learn that someone is there, not where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SipRegistration {
    /// Number of contacts.
    pub contacts: u16,
    /// Largest q value among them, in thousandths (RFC 3261 §20.10).
    pub max_q: u16,
    /// When they last changed, in unix milliseconds.
    pub updated_ms: u64,
}

/// Which nodes may speak for a person (content of [`Kind::Member`](super::Kind::Member)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Her user certificate, DER.
    pub certificate: Bytes,
    /// The list that she signed: [`Delegations`], encoded.
    pub delegations: Bytes,
}

impl Member {
    /// Returns the encoded content.
    pub fn encode(&self) -> Bytes {
        let mut out = Encoder::new();
        out.array(2).bytes(&self.certificate).bytes(&self.delegations).finish().into()
    }

    /// Reads the content. Whether it may be believed is another question.
    ///
    /// # Errors
    /// [`RecordError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut input = Decoder::new(bytes);
        input.array_of(2)?;
        let certificate = Bytes::copy_from_slice(input.bytes(MAX_CERTIFICATE)?);
        let delegations = Bytes::copy_from_slice(input.bytes(MAX_DELEGATIONS)?);
        input.finish()?;
        Ok(Self { certificate, delegations })
    }

    /// Returns the key of its entry: SHA-256 of the certificate, so that no later one is overwritten by the holder of a lost key.
    pub fn key(&self) -> [u8; 32] {
        sha256(&self.certificate)
    }

    /// Returns when the list was signed, in unix milliseconds: the storage time of its value.
    ///
    /// # Errors
    /// [`RecordError::Certificate`] where that cannot be read.
    pub fn storage_ms(&self) -> Result<u64, RecordError> {
        Ok(Delegations::peek(&self.delegations).map_err(RecordError::Certificate)?.issued_ms())
    }
}

impl NodeAddress {
    /// Returns the encoded content.
    pub fn encode(&self) -> Bytes {
        let mut out = Encoder::new();
        out.array(5).bytes(self.link_key.as_bytes());
        encode_addresses(&self.addresses, &mut out);
        match &self.relay {
            Some(relay) => out.text(relay),
            None => out.null(),
        };
        let role = match self.role {
            Role::Member => 0,
            Role::Home => 1,
        };
        out.unsigned(role).text(&self.version).finish().into()
    }

    /// Reads the content.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] or [`RecordError::Content`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut input = Decoder::new(bytes);
        input.array_of(5)?;
        let link_key = LinkKey::from_bytes(input.fixed()?);
        let addresses = decode_addresses(&mut input)?;
        let relay = if input.null() { None } else { Some(input.text(MAX_RELAY)?.to_owned()) };
        let role = match input.unsigned()? {
            0 => Role::Member,
            1 => Role::Home,
            _ => return Err(RecordError::Content("unknown role")),
        };
        let version = input.text(MAX_VERSION)?.to_owned();
        input.finish()?;
        Ok(Self { link_key, addresses, relay, role, version })
    }
}

impl SipRegistration {
    /// Returns the encoded content.
    pub fn encode(&self) -> Bytes {
        let mut out = Encoder::new();
        out.array(3)
            .unsigned(self.contacts.into())
            .unsigned(self.max_q.into())
            .unsigned(self.updated_ms)
            .finish()
            .into()
    }

    /// Reads the content.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] or [`RecordError::Content`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut input = Decoder::new(bytes);
        input.array_of(3)?;
        let registration = Self { contacts: input.narrow()?, max_q: input.narrow()?, updated_ms: input.unsigned()? };
        input.finish()?;
        if registration.max_q > 1000 { Err(RecordError::Content("a q value above 1")) } else { Ok(registration) }
    }
}

fn encode_addresses(addresses: &[SocketAddr], out: &mut Encoder) {
    let addresses = addresses.get(..MAX_ADDRESSES).unwrap_or(addresses);
    out.array(addresses.len());
    for address in addresses {
        out.array(2);
        match address.ip() {
            IpAddr::V4(ip) => out.bytes(&ip.octets()),
            IpAddr::V6(ip) => out.bytes(&ip.octets()),
        };
        out.unsigned(address.port().into());
    }
}

fn decode_addresses(input: &mut Decoder<'_>) -> Result<Vec<SocketAddr>, RecordError> {
    let count = input.array(MAX_ADDRESSES)?;
    let mut addresses = Vec::with_capacity(count);
    for _ in 0..count {
        input.array_of(2)?;
        let octets = input.bytes(16)?;
        let ip = if let Ok(octets) = <[u8; 4]>::try_from(octets) {
            IpAddr::from(octets)
        } else if let Ok(octets) = <[u8; 16]>::try_from(octets) {
            IpAddr::from(octets)
        } else {
            return Err(CborError("an IP address of neither family").into());
        };
        addresses.push(SocketAddr::new(ip, input.narrow()?));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_node_address_reads_back() {
        let address = NodeAddress {
            link_key: LinkKey::from_bytes([3; 32]),
            addresses: vec!["192.0.2.1:6084".parse().unwrap(), "[2001:db8::1]:6084".parse().unwrap()],
            relay: Some("https://relay.example:8443/".to_owned()),
            role: Role::Home,
            version: "0.1.0".to_owned(),
        };
        assert_eq!(NodeAddress::decode(&address.encode()).unwrap(), address);
        let bare = NodeAddress { relay: None, addresses: Vec::new(), role: Role::Member, ..address };
        assert_eq!(NodeAddress::decode(&bare.encode()).unwrap(), bare);
    }

    #[test]
    fn a_registration_reads_back_and_an_impossible_one_does_not() {
        let registration = SipRegistration { contacts: 2, max_q: 1000, updated_ms: 1_700_000_000_000 };
        assert_eq!(SipRegistration::decode(&registration.encode()).unwrap(), registration);
        let impossible = SipRegistration { max_q: 1001, ..registration };
        assert!(SipRegistration::decode(&impossible.encode()).is_err());
        assert!(SipRegistration::decode(&[registration.encode(), Bytes::from_static(&[0])].concat()).is_err());
    }
}
