//! What simulated nodes sign with and are judged by.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::dangerous_deterministic::{DangerousSigner, DangerousVerifier};
use meshtone_identity::{
    Authority, Error, Es256, HomeCertificate, LinkKey, NodeId, Signature, Signer, SigningKey, Verifier,
};
use meshtone_overlay::record::validator::{Validator, check_form};
use meshtone_overlay::record::{
    CertificateValidator, CertifiedWriter, Delegated, Kind, RecordError, ResourceId, StoredValue, Writer,
};

use crate::network::EPOCH_MS;

/// Longer than any simulation.
const LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// How records are signed and judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Certificates and signatures of the right size that anybody could forge, so that runs repeat.
    Forgeable,
    /// ES256, as in a node. Its signatures are random, so runs repeat but for those bytes.
    Signed,
    /// No certificates, and signatures that nobody looks at: what the overlay would cost if everybody were honest.
    Nobody,
}

/// Certifies nodes, and makes what they write by.
pub(crate) struct Certifier {
    authority: Authority,
    validator: Arc<dyn Validator>,
    trust: Trust,
}

impl Certifier {
    /// Makes an authority.
    ///
    /// # Panics
    /// When it cannot be made, which is a mistake in this crate.
    pub(crate) fn new(trust: Trust) -> Self {
        let (signer, verifier): (Arc<dyn Signer>, Arc<dyn Verifier>) = match trust {
            Trust::Signed => (real_signer(), Arc::new(Es256)),
            Trust::Forgeable | Trust::Nobody => (Arc::new(DangerousSigner::new(u64::MAX)), Arc::new(DangerousVerifier)),
        };
        let authority = expect(Authority::create_with(signer, verifier, EPOCH_MS / 1000));
        let certificate = authority.certificate().clone();
        let validator: Arc<dyn Validator> = match trust {
            Trust::Forgeable => Arc::new(CertificateValidator::with_verifier(certificate, Box::new(DangerousVerifier))),
            Trust::Signed => Arc::new(CertificateValidator::new(certificate)),
            Trust::Nobody => Arc::new(FormOnly),
        };
        Self { authority, validator, trust }
    }

    /// Returns what judges records.
    pub(crate) fn validator(&self) -> Arc<dyn Validator> {
        Arc::clone(&self.validator)
    }

    /// Certifies the node with this number for these domains. The same node of the same seed has the same id, unless it signs.
    ///
    /// # Panics
    /// When it cannot be certified, which is a mistake in this crate or in the domains.
    pub(crate) fn writer(&self, seed: u64, number: usize, domains: &[&str]) -> Arc<dyn Writer> {
        let signer: Arc<dyn Signer> = match self.trust {
            Trust::Signed => real_signer(),
            Trust::Forgeable | Trust::Nobody => Arc::new(DangerousSigner::new(seed << 20 | number as u64)),
        };
        let now = EPOCH_MS / 1000;
        let mut salt = [0; 16];
        salt[..8].copy_from_slice(&number.to_be_bytes());
        let key = signer.public_key();
        let certificate = expect(self.authority.certify_node(key, link_key(number), salt, now, LIFETIME));
        if self.trust == Trust::Nobody {
            return Arc::new(Unsigned(certificate.node_id()));
        }
        let home = |domain: &&str| expect(self.authority.issue_home(&certificate, domain, now, LIFETIME));
        let homes: Vec<HomeCertificate> = domains.iter().map(home).collect();
        Arc::new(CertifiedWriter::new(signer, certificate, homes, Delegated::default()))
    }
}

/// Returns the link key of a simulated node.
pub(crate) fn link_key(number: usize) -> LinkKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    LinkKey::from_bytes(bytes)
}

fn real_signer() -> Arc<dyn Signer> {
    Arc::new(expect(SigningKey::generate()))
}

fn expect<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| panic!("a simulated node cannot be certified: {error}"))
}

/// Judges everything about a value but who wrote it.
struct FormOnly;

impl Validator for FormOnly {
    fn validate(
        &self,
        now_ms: u64,
        resource: ResourceId,
        value: &StoredValue,
        _certificates: &[Bytes],
    ) -> Result<(), RecordError> {
        check_form(now_ms, resource, value)
    }
}

/// Writes without a key.
struct Unsigned(NodeId);

impl Writer for Unsigned {
    fn node_id(&self) -> NodeId {
        self.0
    }

    fn sign(&self, _input: &[u8]) -> Result<Signature, RecordError> {
        Ok(Signature::from_bytes([0; 64]))
    }

    fn certificates(&self, _kind: Kind, _name: &str) -> Result<Vec<Bytes>, RecordError> {
        Ok(Vec::new())
    }
}
