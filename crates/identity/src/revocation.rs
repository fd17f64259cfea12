//! That a node is one no longer, said by the overlay's authority, for as long as the node's certificate would have lasted.
//!
//! Encoded: version (1 byte), node id (32), when it was said (8, unix seconds), the last second of the node's certificates (8), and an
//! ES256 signature (64) of the authority over `meshtone revocation 1` and all that. Numbers are big-endian. Each statement stands by
//! itself and none takes another back, so that those who heard of different ones agree as soon as they have told each other.

use crate::authority::Authority;
use crate::{AuthorityCertificate, Error, NodeId, Signature, Verifier};

/// Bytes of an encoded statement.
pub const ENCODED: usize = 1 + 32 + 8 + 8 + 64;

const CONTEXT: &[u8] = b"meshtone revocation 1";
const VERSION: u8 = 1;
const WHAT: &str = "revocation";

/// That a node's certificates are void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    node: NodeId,
    revoked: u64,
    ends: u64,
    encoded: [u8; ENCODED],
}

impl Revocation {
    /// Revokes a node, whose certificates end at `ends`. Both times are in unix seconds.
    ///
    /// # Errors
    /// [`Error::PrivateKey`].
    pub fn sign(authority: &Authority, node: NodeId, revoked: u64, ends: u64) -> Result<Self, Error> {
        let body = [&[VERSION], &node.as_bytes()[..], &revoked.to_be_bytes(), &ends.to_be_bytes()].concat();
        let signature = authority.sign(&signed(&body))?;
        let bytes = [&body[..], signature.as_bytes()].concat();
        let encoded =
            bytes.try_into().map_err(|_| Error::Encode { what: WHAT, why: "it has another length".to_owned() })?;
        Ok(Self { node, revoked, ends, encoded })
    }

    /// Reads a statement and checks that the overlay's authority signed it.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Signature`].
    pub fn verify(
        verifier: &dyn Verifier,
        encoded: &[u8; ENCODED],
        authority: &AuthorityCertificate,
    ) -> Result<Self, Error> {
        let (read, body, signature) =
            Self::read(encoded).ok_or(Error::Malformed { what: WHAT, why: "of an unknown version" })?;
        verifier.verify(authority.public_key(), &signed(body), &signature)?;
        Ok(read)
    }

    fn read(encoded: &[u8; ENCODED]) -> Option<(Self, &[u8], Signature)> {
        let (body, signature) = encoded.split_last_chunk::<64>()?;
        let ([VERSION], rest) = body.split_first_chunk::<1>()? else { return None };
        let (node, rest) = rest.split_first_chunk::<32>()?;
        let (revoked, ends) = rest.split_first_chunk::<8>()?;
        let read = Self {
            node: NodeId::from_bytes(*node),
            revoked: u64::from_be_bytes(*revoked),
            ends: u64::from_be_bytes(ends.try_into().ok()?),
            encoded: *encoded,
        };
        Some((read, body, Signature::from_bytes(*signature)))
    }

    /// Returns the node that is one no longer.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Returns when that was said, in unix seconds.
    pub fn revoked(&self) -> u64 {
        self.revoked
    }

    /// Returns the last second in which the statement is needed, in unix seconds: afterwards the certificates have run out.
    pub fn ends(&self) -> u64 {
        self.ends
    }

    /// Returns the statement as it is passed on.
    pub fn encoded(&self) -> &[u8; ENCODED] {
        &self.encoded
    }
}

fn signed(body: &[u8]) -> Vec<u8> {
    [CONTEXT, body].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Es256;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_statement_reads_back_where_its_authority_is_believed_and_nowhere_else() {
        let (authority, _) = Authority::create(NOW).unwrap();
        let (other, _) = Authority::create(NOW).unwrap();
        let said = Revocation::sign(&authority, NodeId::from_bytes([7; 32]), NOW, NOW + 9).unwrap();
        let read = Revocation::verify(&Es256, said.encoded(), authority.certificate()).unwrap();
        assert_eq!((read.node(), read.revoked(), read.ends()), (NodeId::from_bytes([7; 32]), NOW, NOW + 9));
        assert_eq!(read, said);
        assert_eq!(Revocation::verify(&Es256, said.encoded(), other.certificate()), Err(Error::Signature));
    }

    #[test]
    fn a_statement_with_any_bit_turned_is_refused() {
        let (authority, _) = Authority::create(NOW).unwrap();
        let said = Revocation::sign(&authority, NodeId::from_bytes([7; 32]), NOW, NOW + 9).unwrap();
        for place in 0..ENCODED {
            let mut turned = *said.encoded();
            turned[place] ^= 1 << (place % 8);
            assert!(Revocation::verify(&Es256, &turned, authority.certificate()).is_err(), "{place}");
        }
    }
}
