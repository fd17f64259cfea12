//! Members: people who proved an address that belongs to no node, such as their mailbox.
//!
//! The authority certifies once that a key is the address's ([`UserCertificate`]). With that key its owner says which nodes may
//! speak for the address ([`Delegations`]), as often as she likes and without the authority. Of two certificates of one address
//! the later one counts, of two lists under it the later one: so a lost key is replaced by proving the address again, and a node
//! loses its right by being left out.

use std::sync::Arc;

use crate::certificate::{USER, USER_URI, check_time, verify_end_entity};
use crate::id::sha256;
use crate::x509::Parsed;
use crate::{AuthorityCertificate, Error, NodeId, PublicKey, Signature, Signer, Verifier, address};

/// Nodes that may speak for one person: her own and some friends'. It bounds what every node stores and verifies for a stranger.
pub const MAX_NODES: usize = 16;

/// Longest list of delegations, encoded.
pub const MAX_DELEGATIONS: usize = HEAD + MAX_NODES * 32 + 64;

/// version, issued, expires, count
const HEAD: usize = 1 + 8 + 8 + 1;

/// The version that is written and the only one that is read.
const VERSION: u8 = 1;

/// Signatures over delegations are over nothing else.
const CONTEXT: &[u8] = b"meshtone delegations 1";

const DELEGATIONS: &str = "list of delegations";

/// The certificate that a key belongs to the owner of an address. Its one name is `sip:<address>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCertificate {
    der: Arc<[u8]>,
    address: String,
    public_key: PublicKey,
    not_before: u64,
    not_after: u64,
}

impl UserCertificate {
    /// Reads a user certificate and checks that this authority issued it and that it is valid at `now` (unix seconds).
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Issuer`], [`Error::NotYetValid`], [`Error::Expired`], [`Error::NotPermitted`].
    pub fn verify(
        verifier: &dyn Verifier,
        der: &[u8],
        authority: &AuthorityCertificate,
        now: u64,
    ) -> Result<Self, Error> {
        let parsed = verify_end_entity(verifier, USER, der, authority, now)?;
        let [name] = parsed.names([USER_URI])?;
        if address::normalise(name).ok().as_deref() != Some(name) {
            return Err(Error::Malformed { what: USER, why: "its address is not in the one written form" });
        }
        Ok(Self {
            der: der.into(),
            address: name.to_owned(),
            public_key: parsed.public_key,
            not_before: parsed.not_before,
            not_after: parsed.not_after,
        })
    }

    /// Reads a certificate that was verified when it was kept, though its time may be over by now.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify), but for the time.
    pub fn reread(verifier: &dyn Verifier, der: &[u8], authority: &AuthorityCertificate) -> Result<Self, Error> {
        Self::verify(verifier, der, authority, Parsed::read(USER, der)?.not_before)
    }

    /// Returns the certificate's bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the address, in its one written form.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the key of the address's owner.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Returns the first second of its validity, in unix seconds. Of two certificates of an address the one with the later
    /// beginning counts.
    pub fn not_before(&self) -> u64 {
        self.not_before
    }

    /// Returns the last second of its validity, in unix seconds.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// Checks that the certificate is valid at this time, for one that was verified before.
    ///
    /// # Errors
    /// [`Error::NotYetValid`] or [`Error::Expired`].
    pub fn check_time(&self, now: u64) -> Result<(), Error> {
        check_time(USER, self.not_before, self.not_after, now)
    }
}

/// Which nodes may speak for an address, said by its owner.
///
/// Encoded: version (1 byte), issued (8 bytes, unix milliseconds), expires (8 bytes, unix seconds), count (1 byte), so many
/// node ids (32 bytes each), and an ES256 signature (64 bytes) over `meshtone delegations 1`, SHA-256 of the user's certificate,
/// and all that. Numbers are big-endian. It is so bound to one certificate, hence to one address and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegations {
    issued_ms: u64,
    expires: u64,
    nodes: Vec<NodeId>,
}

impl Delegations {
    /// Writes a list that takes the place of all earlier ones. An empty one takes back everything.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for more than [`MAX_NODES`]; [`Error::PrivateKey`].
    pub fn sign(
        signer: &dyn Signer,
        certificate: &UserCertificate,
        nodes: &[NodeId],
        issued_ms: u64,
        expires: u64,
    ) -> Result<Vec<u8>, Error> {
        let count = u8::try_from(nodes.len()).ok().filter(|count| usize::from(*count) <= MAX_NODES);
        let count = count.ok_or(Error::NotPermitted { what: DELEGATIONS, why: "more nodes than one may have" })?;
        let mut body = vec![VERSION];
        body.extend(issued_ms.to_be_bytes());
        body.extend(expires.to_be_bytes());
        body.push(count);
        body.extend(nodes.iter().flat_map(NodeId::as_bytes));
        let signature = signer.sign(&signed(certificate, &body))?;
        body.extend(signature.as_bytes());
        Ok(body)
    }

    /// Reads a list and checks that the certified user signed it. Whether its time is over is [`expires`](Self::expires).
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Signature`].
    pub fn verify(verifier: &dyn Verifier, bytes: &[u8], certificate: &UserCertificate) -> Result<Self, Error> {
        let (read, body, signature) = Self::read(bytes)?;
        verifier.verify(&certificate.public_key, &signed(certificate, body), &signature)?;
        Ok(read)
    }

    /// Reads a list that is believed already, or judged later.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn peek(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(bytes).map(|(read, _, _)| read)
    }

    fn read(bytes: &[u8]) -> Result<(Self, &[u8], Signature), Error> {
        let malformed = |why| Error::Malformed { what: DELEGATIONS, why };
        let short = malformed("not of the length it says");
        let (body, signature) = bytes.split_last_chunk::<64>().ok_or(short.clone())?;
        let ([version], rest) = body.split_first_chunk::<1>().ok_or(short.clone())?;
        if *version != VERSION {
            return Err(malformed("of an unknown version"));
        }
        let (issued_ms, rest) = rest.split_first_chunk::<8>().ok_or(short.clone())?;
        let (expires, rest) = rest.split_first_chunk::<8>().ok_or(short.clone())?;
        let ([count], rest) = rest.split_first_chunk::<1>().ok_or(short.clone())?;
        let count = usize::from(*count);
        if count > MAX_NODES {
            return Err(malformed("more nodes than one may have"));
        }
        let (nodes, rest) = rest.as_chunks::<32>();
        if !rest.is_empty() || nodes.len() != count {
            return Err(short);
        }
        let read = Self {
            issued_ms: u64::from_be_bytes(*issued_ms),
            expires: u64::from_be_bytes(*expires),
            nodes: nodes.iter().copied().map(NodeId::from_bytes).collect(),
        };
        Ok((read, body, Signature::from_bytes(*signature)))
    }

    /// Returns when the list was signed, in unix milliseconds.
    pub fn issued_ms(&self) -> u64 {
        self.issued_ms
    }

    /// Returns the last second in which it holds, in unix seconds.
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// Returns the nodes that may speak for the address.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }
}

fn signed(certificate: &UserCertificate, body: &[u8]) -> Vec<u8> {
    [CONTEXT, &sha256(&certificate.der), body].concat()
}
