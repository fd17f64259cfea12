//! Who may speak for what: every storing node asks before it acknowledges, and every reader again before it believes.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use meshtone_identity::{
    AuthorityCertificate, Delegations, Error as IdentityError, Es256, HomeCertificate, NodeCertificate,
    UserCertificate, Verifier,
};

use super::value::MAX_AHEAD;
use super::{
    DataModel, Kind, Member, NodeAddress, RecordError, ResourceId, Revoked, SipRegistration, StoredValue, sha256,
};

/// Certificates kept once verified. A storing node meets the same few writers again and again; 4096 of them take about
/// 6 MiB, and whoever floods it with others only costs us their verification.
const CACHE: usize = 4096;

/// Judges records. A seam, so that the DHT core can be tested without keys.
pub trait Validator: Send + Sync {
    /// Checks that the value belongs to this place and that its signer may write it.
    ///
    /// # Errors
    /// The [`RecordError`] that names the first rule broken.
    fn validate(
        &self,
        now_ms: u64,
        resource: ResourceId,
        value: &StoredValue,
        certificates: &[Bytes],
    ) -> Result<(), RecordError>;
}

/// Believes what follows from certificates that the overlay's authority issued.
pub struct CertificateValidator {
    authority: AuthorityCertificate,
    verifier: Box<dyn Verifier>,
    revoked: Revoked,
    cache: Mutex<Cache>,
}

/// Checks everything about a value that needs no key: place, size, lifetime, time, and that the writer writes its own entry.
///
/// # Errors
/// The [`RecordError`] that names the first rule broken.
pub fn check_form(now_ms: u64, resource: ResourceId, value: &StoredValue) -> Result<(), RecordError> {
    let rules = value.kind.rules();
    if value.resource() != resource {
        return Err(RecordError::Name("it names another resource"));
    }
    if value.content.len() > rules.max_size {
        return Err(RecordError::TooLarge { size: value.content.len(), max: rules.max_size });
    }
    let max = u32::try_from(rules.max_lifetime.as_secs()).unwrap_or(u32::MAX);
    if value.lifetime_s == 0 || value.lifetime_s > max {
        return Err(RecordError::Lifetime { seconds: value.lifetime_s, max });
    }
    let max_ahead_ms = u64::try_from(MAX_AHEAD.as_millis()).unwrap_or(u64::MAX);
    let ahead_ms = value.storage_ms.saturating_sub(now_ms);
    if ahead_ms > max_ahead_ms {
        return Err(RecordError::FromTheFuture { ahead_ms });
    }
    if value.remaining(now_ms).is_zero() {
        return Err(RecordError::Expired);
    }
    let right_key = match rules.model {
        DataModel::Single => value.key.is_empty(),
        DataModel::Dictionary => value.kind.dates_itself() || value.key == value.signer.as_bytes(),
    };
    if !right_key {
        return Err(RecordError::NotEntitled("the key is not the signer's"));
    }
    check_content(value)
}

/// What a person said has the date and the place that it gives itself, whoever hands it on: so an old list does not come back as a
/// new one, and nobody ends what she said but she.
fn check_member(value: &StoredValue) -> Result<(), RecordError> {
    let member = Member::decode(&value.content)?;
    let list = Delegations::peek(&member.delegations).map_err(RecordError::Certificate)?;
    if value.key != member.key() {
        return Err(RecordError::NotEntitled("the key is not the certificate's"));
    }
    if value.storage_ms != list.issued_ms() {
        return Err(RecordError::NotEntitled("dated otherwise than its list"));
    }
    if value.expires_ms() > list.expires().saturating_mul(1000) {
        return Err(RecordError::NotEntitled("it outlives its list"));
    }
    Ok(())
}

/// Returns the domain that a writer of this record has to hold a certificate for.
///
/// # Errors
/// [`RecordError::Name`] when the name is none of this kind.
pub fn domain_of(kind: Kind, name: &str) -> Result<&str, RecordError> {
    match kind {
        Kind::NodeAddress => Err(RecordError::Name("a node's address belongs to no domain")),
        Kind::Member => Err(RecordError::Name("a person belongs to no domain")),
        Kind::Certificate => Ok(name),
        Kind::SipRegistration => match name.rsplit_once('@') {
            Some((user, domain)) if !user.is_empty() && !domain.is_empty() => Ok(domain),
            Some(_) | None => Err(RecordError::Name("not an address-of-record")),
        },
    }
}

fn check_content(value: &StoredValue) -> Result<(), RecordError> {
    if !value.exists {
        if value.kind.dates_itself() {
            return Err(RecordError::NotEntitled("it ends by itself; an empty list takes all back"));
        }
        let empty = value.content.is_empty();
        return if empty { Ok(()) } else { Err(RecordError::Content("a removal has none")) };
    }
    match value.kind {
        Kind::SipRegistration => SipRegistration::decode(&value.content).map(drop),
        Kind::NodeAddress => NodeAddress::decode(&value.content).map(drop),
        // Whether it is a certificate shows when it is verified.
        Kind::Certificate => Ok(()),
        Kind::Member => check_member(value),
    }
}

impl CertificateValidator {
    /// Makes a validator for the overlay of this authority.
    pub fn new(authority: AuthorityCertificate) -> Self {
        Self::with_verifier(authority, Box::new(Es256))
    }

    /// As [`new`](Self::new), with another judge of signatures, for simulations.
    pub fn with_verifier(authority: AuthorityCertificate, verifier: Box<dyn Verifier>) -> Self {
        Self { authority, verifier, revoked: Revoked::default(), cache: Mutex::new(Cache::default()) }
    }

    /// The same, but for these writers.
    pub fn without(self, revoked: Revoked) -> Self {
        Self { revoked, ..self }
    }

    fn node_certificate(&self, now: u64, der: &[u8]) -> Result<Arc<NodeCertificate>, RecordError> {
        let verify = || NodeCertificate::verify_with(&*self.verifier, der, &self.authority, now);
        self.verified(der, |certificate: &NodeCertificate| certificate.check_time(now), verify)
    }

    fn home_certificate(&self, now: u64, der: &[u8]) -> Result<Arc<HomeCertificate>, RecordError> {
        let verify = || HomeCertificate::verify_with(&*self.verifier, der, &self.authority, now);
        self.verified(der, |certificate: &HomeCertificate| certificate.check_time(now), verify)
    }

    /// Checks that the certificate and the list of a person are hers, and that both hold; returns the list.
    fn member(&self, now: u64, name: &str, certificate: &[u8], list: &[u8]) -> Result<Arc<Delegations>, RecordError> {
        let verify = || UserCertificate::verify(&*self.verifier, certificate, &self.authority, now);
        let user = self.verified(certificate, |user: &UserCertificate| user.check_time(now), verify)?;
        if user.address() != name {
            return Err(RecordError::NotEntitled("its user certificate is for another address"));
        }
        // A list holds under one certificate only.
        let both = [&sha256(certificate), list].concat();
        let verify = || Delegations::verify(&*self.verifier, list, &user);
        let list = self.verified(&both, |_: &Delegations| Ok(()), verify)?;
        if list.expires() < now {
            return Err(RecordError::NotEntitled("its list of delegations is over"));
        }
        Ok(list)
    }

    /// Returns what was verified before by this key, if it still holds by `check`; else verifies it, and remembers.
    fn verified<T: Send + Sync + 'static>(
        &self,
        key: &[u8],
        check: impl FnOnce(&T) -> Result<(), IdentityError>,
        verify: impl FnOnce() -> Result<T, IdentityError>,
    ) -> Result<Arc<T>, RecordError> {
        if let Some(found) = self.cached::<T>(key) {
            check(&found).map_err(RecordError::Certificate)?;
            return Ok(found);
        }
        let verified = Arc::new(verify().map_err(RecordError::Certificate)?);
        self.remember(key, verified.clone());
        Ok(verified)
    }

    fn cached<T: Send + Sync + 'static>(&self, key: &[u8]) -> Option<Arc<T>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.entries.get(&sha256(key)).cloned()?.downcast().ok()
    }

    fn remember(&self, key: &[u8], verified: Verified) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = sha256(key);
        if cache.entries.insert(digest, verified).is_none() {
            cache.order.push_back(digest);
        }
        if cache.order.len() > CACHE
            && let Some(oldest) = cache.order.pop_front()
        {
            cache.entries.remove(&oldest);
        }
    }
}

impl Validator for CertificateValidator {
    fn validate(
        &self,
        now_ms: u64,
        resource: ResourceId,
        value: &StoredValue,
        certificates: &[Bytes],
    ) -> Result<(), RecordError> {
        check_form(now_ms, resource, value)?;
        let needed = if value.kind == Kind::SipRegistration { 3 } else { 1 };
        if certificates.len() > needed {
            return Err(RecordError::Content("more certificates than it needs"));
        }
        let now = now_ms / 1000;
        let der = certificates.first().ok_or(RecordError::MissingCertificate("writer's node certificate"))?;
        let node = self.node_certificate(now, der)?;
        if node.node_id() != value.signer {
            return Err(RecordError::NotEntitled("the certificate is another node's"));
        }
        // What somebody else signed within is as good whoever hands it on.
        if !value.kind.dates_itself() && self.revoked.contains(&value.signer) {
            return Err(RecordError::Revoked);
        }
        if value.kind != Kind::NodeAddress && !node.rights().may_speak() {
            return Err(RecordError::NotEntitled("it may write nothing but its own address"));
        }
        match value.kind {
            Kind::NodeAddress => {
                if value.name != value.signer.to_string() {
                    return Err(RecordError::NotEntitled("a node writes its own address only"));
                }
                if value.exists && NodeAddress::decode(&value.content)?.link_key != node.link_key() {
                    return Err(RecordError::Content("its link key is not the certificate's"));
                }
            }
            Kind::SipRegistration if let [_, user, list] = certificates => {
                let list = self.member(now, &value.name, user, list)?;
                if !list.nodes().contains(&value.signer) {
                    return Err(RecordError::NotEntitled("the person's list does not name it"));
                }
            }
            Kind::SipRegistration => {
                let der = certificates.get(1).ok_or(RecordError::MissingCertificate("writer's home certificate"))?;
                self.check_home(now, der, &node, domain_of(value.kind, &value.name)?)?;
            }
            // A removal needs no proof beyond the entry being the writer's own.
            Kind::Certificate if !value.exists => {}
            Kind::Certificate => self.check_home(now, &value.content, &node, &value.name)?,
            Kind::Member => {
                let member = Member::decode(&value.content)?;
                self.member(now, &value.name, &member.certificate, &member.delegations)?;
            }
        }
        // Last, since it costs most and cannot be cached.
        self.verifier
            .verify(node.public_key(), &value.signing_input(), &value.signature)
            .map_err(|_| RecordError::Signature)
    }
}

impl CertificateValidator {
    fn check_home(&self, now: u64, der: &[u8], node: &NodeCertificate, domain: &str) -> Result<(), RecordError> {
        let home = self.home_certificate(now, der)?;
        home.check_holder(node).map_err(RecordError::Certificate)?;
        if home.domain() == domain {
            Ok(())
        } else {
            Err(RecordError::NotEntitled("its home certificate is for another domain"))
        }
    }
}

/// What was verified, by the SHA-256 of what it was read from; the oldest goes first.
#[derive(Default)]
struct Cache {
    entries: BTreeMap<[u8; 32], Verified>,
    order: VecDeque<[u8; 32]>,
}

/// A certificate of some kind, or a list that holds under one.
type Verified = Arc<dyn Any + Send + Sync>;
