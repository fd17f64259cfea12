//! The writing side of records: what signs them and which certificates go with them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{HomeCertificate, NodeCertificate, NodeId, Signature, Signer};

use super::validator::domain_of;
use super::value::Record;
use super::{DataModel, Kind, RecordError, StoredValue};

/// Whoever this node writes as. A seam, so that simulations can write without real keys.
pub trait Writer: Send + Sync {
    /// Returns the id it writes under.
    fn node_id(&self) -> NodeId;

    /// Signs the bytes.
    ///
    /// # Errors
    /// [`RecordError::Signing`] when the key cannot.
    fn sign(&self, input: &[u8]) -> Result<Signature, RecordError>;

    /// Returns the certificates from which its right to write this follows, in DER.
    ///
    /// # Errors
    /// [`RecordError::Signing`] when it has none: the record would be refused everywhere.
    fn certificates(&self, kind: Kind, name: &str) -> Result<Vec<Bytes>, RecordError>;
}

/// Writes a value: `Some(content)` stores, `None` removes.
///
/// # Errors
/// [`RecordError::TooLarge`], [`RecordError::Lifetime`] or [`RecordError::Signing`].
pub fn write(
    writer: &dyn Writer,
    kind: Kind,
    name: &str,
    content: Option<Bytes>,
    lifetime: Duration,
    storage_ms: u64,
) -> Result<Record, RecordError> {
    let rules = kind.rules();
    let max = u32::try_from(rules.max_lifetime.as_secs()).unwrap_or(u32::MAX);
    let lifetime_s = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
    if lifetime_s == 0 || lifetime_s > max {
        return Err(RecordError::Lifetime { seconds: lifetime_s, max });
    }
    let size = content.as_ref().map_or(0, Bytes::len);
    if size > rules.max_size {
        return Err(RecordError::TooLarge { size, max: rules.max_size });
    }
    let signer = writer.node_id();
    let mut value = StoredValue {
        kind,
        name: name.to_owned(),
        key: match rules.model {
            DataModel::Single => Vec::new(),
            DataModel::Dictionary => signer.as_bytes().to_vec(),
        },
        storage_ms,
        lifetime_s,
        exists: content.is_some(),
        content: content.unwrap_or_default(),
        signer,
        signature: Signature::from_bytes([0; 64]),
    };
    let certificates = writer.certificates(kind, name)?;
    value.signature = writer.sign(&value.signing_input())?;
    Ok(Record { value, certificates })
}

/// Writes with a node's own key, under its certificates.
pub struct CertifiedWriter {
    signer: Arc<dyn Signer>,
    certificate: NodeCertificate,
    homes: Vec<HomeCertificate>,
}

impl CertifiedWriter {
    /// Makes a writer of the node's key and certificates.
    pub fn new(signer: Arc<dyn Signer>, certificate: NodeCertificate, homes: Vec<HomeCertificate>) -> Self {
        Self { signer, certificate, homes }
    }
}

impl Writer for CertifiedWriter {
    fn node_id(&self) -> NodeId {
        self.certificate.node_id()
    }

    fn sign(&self, input: &[u8]) -> Result<Signature, RecordError> {
        self.signer.sign(input).map_err(|error| RecordError::Signing(error.to_string()))
    }

    fn certificates(&self, kind: Kind, name: &str) -> Result<Vec<Bytes>, RecordError> {
        let mut certificates = vec![Bytes::copy_from_slice(self.certificate.der())];
        match kind {
            Kind::NodeAddress => {}
            Kind::SipRegistration | Kind::Certificate => {
                let domain = domain_of(kind, name)?;
                let home = self
                    .homes
                    .iter()
                    .find(|home| home.domain() == domain)
                    .ok_or_else(|| RecordError::Signing(format!("it holds no home certificate for {domain}")))?;
                // Of kind Certificate the home certificate is the content itself.
                if kind == Kind::SipRegistration {
                    certificates.push(Bytes::copy_from_slice(home.der()));
                }
            }
        }
        Ok(certificates)
    }
}
