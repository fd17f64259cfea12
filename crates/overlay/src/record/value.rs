//! A stored value: what is signed, how it is encoded, and which of two is the newer one (RFC 6940 §7.1, §7.2, §7.4.1).
//!
//! Unlike RELOAD the signature covers the lifetime as well, so that no storing node can keep an old value alive for longer
//! than its writer meant. A hand-over therefore carries the remaining lifetime *beside* the value.

use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{NodeId, Signature};

use super::cbor::{CborError, Decoder, Encoder};
use super::kind::MAX_NAME;
use super::{Kind, RecordError, ResourceId, sha256};

/// How far ahead of our clock a storage time may be: what unsynchronised clocks at home differ by, and no more, since a
/// value from the future cannot be overwritten until then.
pub const MAX_AHEAD: Duration = Duration::from_secs(5 * 60);

/// Largest content of any kind; each kind's own bound is smaller or equal.
const MAX_CONTENT: usize = 4096;

/// Most certificates that travel with a value: the writer's node certificate and one for the domain, with room for one more.
pub const MAX_CERTIFICATES: usize = 3;

/// Largest certificate in bytes.
pub const MAX_CERTIFICATE: usize = 4096;

/// One value, written by one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// What it is about.
    pub kind: Kind,
    /// Name of the resource, so that a storing node can check both the place and the writer's right.
    pub name: String,
    /// Key within a dictionary, empty for a single value.
    pub key: Vec<u8>,
    /// When it was written, in unix milliseconds; the order of writes.
    pub storage_ms: u64,
    /// For how long it holds, in seconds from its storage time.
    pub lifetime_s: u32,
    /// False for a removal, which is a value like any other.
    pub exists: bool,
    /// The content, empty for a removal.
    pub content: Bytes,
    /// Who wrote it.
    pub signer: NodeId,
    /// The writer's signature over all of the above.
    pub signature: Signature,
}

/// A value with what a stranger needs to judge it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The value.
    pub value: StoredValue,
    /// Certificates that the writer's right follows from, each in DER.
    pub certificates: Vec<Bytes>,
}

/// Returns the storage time of a new write: now, but always after the last one.
pub fn next_storage_time(now_ms: u64, last_ms: Option<u64>) -> u64 {
    last_ms.map_or(now_ms, |last| now_ms.max(last.saturating_add(1)))
}

impl StoredValue {
    /// Returns the place this value belongs to.
    pub fn resource(&self) -> ResourceId {
        ResourceId::of_name(&self.name)
    }

    /// Returns the bytes that are signed.
    pub fn signing_input(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.array(10).text("meshtone record 1").bytes(self.resource().as_bytes());
        self.encode_signed(&mut out);
        out.finish()
    }

    /// Returns the encoded value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.encode_into(&mut out);
        out.finish()
    }

    /// Appends the encoded value.
    pub fn encode_into(&self, out: &mut Encoder) {
        out.array(9);
        self.encode_signed(out);
        out.bytes(self.signature.as_bytes());
    }

    /// Reads a value.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] or [`RecordError::UnknownKind`]; whether it may be believed is the
    /// [`Validator`](super::Validator)'s business.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut input = Decoder::new(bytes);
        let value = Self::decode_from(&mut input)?;
        input.finish()?;
        Ok(value)
    }

    /// Reads a value that stands among other items.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_from(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        input.array_of(9)?;
        let number = input.unsigned()?;
        let kind = Kind::from_number(number).ok_or(RecordError::UnknownKind(number))?;
        Ok(Self {
            kind,
            name: input.text(MAX_NAME)?.to_owned(),
            key: input.bytes(32)?.to_vec(),
            storage_ms: input.unsigned()?,
            lifetime_s: input.narrow()?,
            exists: input.boolean()?,
            content: Bytes::copy_from_slice(input.bytes(MAX_CONTENT)?),
            signer: NodeId::from_bytes(input.fixed()?),
            signature: Signature::from_bytes(input.fixed()?),
        })
    }

    /// Returns SHA-256 of the encoded value, which tells two values of one storage time apart.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.encode())
    }

    /// Says whether this value takes the other's place: the newer one does; of two written at the same time the removal,
    /// then the one with the larger hash. Replicas so agree in whatever order values reach them.
    pub fn supersedes(&self, other: &Self) -> bool {
        let order = (self.storage_ms, !self.exists).cmp(&(other.storage_ms, !other.exists));
        // Hashes cost far more than times, which nearly always differ.
        order.then_with(|| self.digest().cmp(&other.digest())).is_gt()
    }

    /// Returns when the value's time is over, in unix milliseconds by the writer's clock.
    pub fn expires_ms(&self) -> u64 {
        self.storage_ms.saturating_add(u64::from(self.lifetime_s) * 1000)
    }

    /// Returns how long the value still holds, judged by our clock and cut to its lifetime; zero when its time is over.
    pub fn remaining(&self, now_ms: u64) -> Duration {
        Duration::from_millis(self.expires_ms().saturating_sub(now_ms)).min(Duration::from_secs(self.lifetime_s.into()))
    }

    fn encode_signed(&self, out: &mut Encoder) {
        out.unsigned(self.kind.number())
            .text(&self.name)
            .bytes(&self.key)
            .unsigned(self.storage_ms)
            .unsigned(self.lifetime_s.into())
            .boolean(self.exists)
            .bytes(&self.content)
            .bytes(self.signer.as_bytes());
    }
}

impl Record {
    /// Says whether the writer's right follows from what a person said (a [`Kind::Member`]), not from a home certificate.
    pub fn is_delegated(&self) -> bool {
        self.value.kind == Kind::SipRegistration && self.certificates.len() == 3
    }

    /// Returns value and certificates, encoded.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.encode_into(&mut out);
        out.finish()
    }

    /// Appends value and certificates.
    pub fn encode_into(&self, out: &mut Encoder) {
        out.array(2);
        self.value.encode_into(out);
        out.array(self.certificates.len());
        for certificate in &self.certificates {
            out.bytes(certificate);
        }
    }

    /// Reads value and certificates.
    ///
    /// # Errors
    /// As [`StoredValue::decode`].
    pub fn decode_from(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        input.array_of(2)?;
        let value = StoredValue::decode_from(input)?;
        let count = input.array(MAX_CERTIFICATES)?;
        let certificates = (0..count)
            .map(|_| input.bytes(MAX_CERTIFICATE).map(Bytes::copy_from_slice))
            .collect::<Result<_, CborError>>()?;
        Ok(Self { value, certificates })
    }
}
