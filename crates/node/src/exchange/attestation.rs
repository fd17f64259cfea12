//! How well a caller is known, as in SHAKEN (RFC 8588 §4), and where a request came in.
//!
//! *A*: a user of this node, who has proved to be who calls. *B*: a provider whose word is taken says so (`trust_identity`). *C*: all that
//! is known is where it came in: another provider, or a plain SIP domain. Only what is not *A* is written down, in the fields of
//! 3GPP TS 24.229 (§7.2.18, §7.2.19), on requests on their way through this node, and nobody else is believed there; other nodes are told by
//! what is signed. Where a request came in is named by a UUID that says nothing to anybody but who runs this node: `status` of
//! a call and the log have it.

use std::fmt::Write as _;

use meshtone_identity::NodeId;
use meshtone_identity::id::sha256;
use meshtone_identity::passport::{Attestation, Kind, SignedPassport};
use meshtone_sip::message::{Header, Identity, Message};

/// Where a request came in, and how well its caller is known there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origination {
    pub(crate) attestation: Attestation,
    /// A UUID.
    pub(crate) id: String,
}

/// What this node calls the ways by which requests come in.
#[derive(Debug)]
pub(crate) struct Originations {
    node: NodeId,
}

impl Origination {
    /// What is written on a request of this node's own.
    pub(crate) fn read(request: &Message) -> Option<Origination> {
        let attestation = written(request)?;
        Some(Origination { attestation, id: request.header(Header::OriginationId)?.to_owned() })
    }

    /// The fields that say it.
    pub(crate) fn fields(&self) -> [(Header, String); 2] {
        let attestation = match self.attestation {
            Attestation::A => "A",
            Attestation::B => "B",
            Attestation::C => "C",
        };
        [(Header::AttestationInfo, attestation.to_owned()), (Header::OriginationId, self.id.clone())]
    }
}

impl Originations {
    pub(crate) fn of(node: NodeId) -> Self {
        Self { node }
    }

    /// Requests of users, by their phones.
    pub(crate) fn of_phones(&self) -> Origination {
        Origination { attestation: Attestation::A, id: self.id("phones") }
    }

    /// Requests from plain SIP domains.
    pub(crate) fn of_strangers(&self) -> Origination {
        Origination { attestation: Attestation::C, id: self.id("outside") }
    }

    /// Requests by a trunk, whose provider is believed or not.
    pub(crate) fn of_trunk(&self, name: &str, is_believed: bool) -> Origination {
        let attestation = if is_believed { Attestation::B } else { Attestation::C };
        Origination { attestation, id: self.id(&format!("trunk {name}")) }
    }

    /// A UUID of version 8 (RFC 9562 §5.8): the same for the same way, and of no other node.
    fn id(&self, way: &str) -> String {
        let hash = sha256(&[b"meshtone origination 1\n", self.node.as_bytes().as_slice(), way.as_bytes()].concat());
        let mut id = String::with_capacity(36);
        for (index, byte) in hash.iter().take(16).enumerate() {
            let byte = match index {
                6 => byte & 0x0f | 0x80,
                8 => byte & 0x3f | 0x80,
                _ => *byte,
            };
            if matches!(index, 4 | 6 | 8 | 10) {
                id.push('-');
            }
            // Writing to a string does not fail.
            let _ = write!(id, "{byte:02x}");
        }
        id
    }
}

/// How well a caller is known by what is written on a request or signed in it. What was not verified can but say too little: whoever
/// writes so on a request of his own is known less.
pub(crate) fn of(request: &Message) -> Attestation {
    let signed = |value: &str| match SignedPassport::read(Identity::parse(value).ok()?.passport).ok()?.kind() {
        Kind::Shaken { attestation, .. } => Some(*attestation),
        Kind::Plain | Kind::Diverted { .. } => None,
    };
    written(request).or_else(|| request.fields(Header::Identity).find_map(signed)).unwrap_or(Attestation::A)
}

fn written(request: &Message) -> Option<Attestation> {
    match request.header(Header::AttestationInfo)? {
        "A" => Some(Attestation::A),
        "B" => Some(Attestation::B),
        _ => Some(Attestation::C),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use meshtone_sip::message::Builder;

    use super::*;

    #[test]
    fn every_way_in_has_a_name_of_its_own_that_stays() {
        let one = Originations::of(NodeId::from_bytes([1; 32]));
        let (strangers, again) = (one.of_strangers(), Originations::of(NodeId::from_bytes([1; 32])).of_strangers());
        assert_eq!(strangers, again);
        let all = [strangers, one.of_phones(), one.of_trunk("a", true), one.of_trunk("b", true)];
        let other = Originations::of(NodeId::from_bytes([2; 32])).of_strangers();
        let ids: std::collections::BTreeSet<_> = all.iter().chain([&other]).map(|one| one.id.clone()).collect();
        assert_eq!(ids.len(), 5);
        assert_eq!(one.of_trunk("a", true).id, one.of_trunk("a", false).id);
        for id in ids {
            let lens: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!((lens, id.as_bytes()[14]), (vec![8, 4, 4, 4, 12], b'8'), "{id}");
        }
    }

    #[test]
    fn what_is_written_reads_back_and_what_cannot_be_read_says_the_least() {
        let origin = Originations::of(NodeId::from_bytes([1; 32])).of_trunk("a", true);
        let mut builder = Builder::request("INVITE", "sip:bob@mesh.test");
        for (header, value) in origin.fields() {
            builder = builder.header(header, &value);
        }
        let request = builder.finish();
        assert_eq!((Origination::read(&request), of(&request)), (Some(origin), Attestation::B));
        let odd = Builder::request("INVITE", "sip:bob@mesh.test").header(Header::AttestationInfo, "X").finish();
        assert_eq!((Origination::read(&odd), of(&odd)), (None, Attestation::C));
        let plain = Builder::request("INVITE", "sip:bob@mesh.test").finish();
        assert_eq!((Origination::read(&plain), of(&plain)), (None, Attestation::A));
    }
}
