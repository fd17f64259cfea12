//! The writing side of records: what signs them and which certificates go with them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{HomeCertificate, NodeCertificate, NodeId, Signature, Signer};

use super::validator::domain_of;
use super::value::Record;
use super::{DataModel, Kind, Member, RecordError, Renewed, StoredValue};

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

/// Writes a value: `Some(content)` stores, `None` removes. A kind that [dates itself](Kind::dates_itself) does not take `storage_ms`.
///
/// # Errors
/// [`RecordError::TooLarge`], [`RecordError::Lifetime`] or [`RecordError::Signing`]; those of [`Member::decode`].
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
    let (own_key, mut dated_ms) = (signer.as_bytes().to_vec(), storage_ms);
    let key = match (rules.model, kind.dates_itself(), &content) {
        (DataModel::Single, ..) => Vec::new(),
        (DataModel::Dictionary, true, Some(content)) => {
            let member = Member::decode(content)?;
            dated_ms = member.storage_ms()?;
            member.key().to_vec()
        }
        (DataModel::Dictionary, ..) => own_key,
    };
    let mut value = StoredValue {
        kind,
        name: name.to_owned(),
        key,
        storage_ms: dated_ms,
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

/// For which people this node may speak, beside its domains, and what proves it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Delegated(Arc<RwLock<BTreeMap<String, Member>>>);

impl Delegated {
    /// Takes up what a person says; her list has to name this node, or its records are refused everywhere.
    pub fn set(&self, address: &str, member: Member) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(address.to_owned(), member);
    }

    /// Forgets a person.
    pub fn remove(&self, address: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(address);
    }

    /// Returns what proves that this node may speak for this person.
    pub fn get(&self, address: &str) -> Option<Member> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
    }
}

/// Writes with a node's own key, under its certificates.
pub struct CertifiedWriter {
    signer: Arc<dyn Signer>,
    certificate: NodeCertificate,
    homes: Vec<HomeCertificate>,
    delegated: Delegated,
    renewed: Renewed,
}

impl CertifiedWriter {
    /// Makes a writer of the node's key and certificates.
    pub fn new(
        signer: Arc<dyn Signer>,
        certificate: NodeCertificate,
        homes: Vec<HomeCertificate>,
        delegated: Delegated,
    ) -> Self {
        Self { signer, certificate, homes, delegated, renewed: Renewed::default() }
    }

    /// The same, but with what takes their place.
    pub fn renewed(self, renewed: Renewed) -> Self {
        Self { renewed, ..self }
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
        let renewed = self.renewed.get();
        let (certificate, homes) =
            renewed.as_ref().map_or((&self.certificate, &self.homes), |(certificate, homes)| (certificate, homes));
        let mut certificates = vec![Bytes::copy_from_slice(certificate.der())];
        match kind {
            Kind::NodeAddress | Kind::Member => {}
            Kind::SipRegistration | Kind::Certificate => {
                let domain = domain_of(kind, name)?;
                let home = homes.iter().find(|home| home.domain() == domain);
                match (home, kind) {
                    // Of kind Certificate the home certificate is the content itself.
                    (Some(_), Kind::Certificate) => {}
                    (Some(home), _) => certificates.push(Bytes::copy_from_slice(home.der())),
                    (None, Kind::SipRegistration) => {
                        let refuse =
                            || RecordError::Signing(format!("it may speak neither for {domain} nor for {name}"));
                        let member = self.delegated.get(name).ok_or_else(refuse)?;
                        certificates.extend([member.certificate, member.delegations]);
                    }
                    (None, _) => {
                        return Err(RecordError::Signing(format!("it holds no home certificate for {domain}")));
                    }
                }
            }
        }
        Ok(certificates)
    }
}
