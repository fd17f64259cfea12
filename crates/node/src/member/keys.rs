//! The keys of the people who enrolled at this node, in its store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use meshtone_identity::{
    AuthorityCertificate, Delegations, Es256, NodeId, Signer, SigningKey, UserCertificate, address,
};
use meshtone_overlay::record::Member;
use zeroize::Zeroizing;

use super::MemberError;
use crate::store::cbor::{Blob, Octets, to_cbor};
use crate::store::{Store, StoreError, Table};

/// People who have asked for a code, and not shown it: more than can ask within the hour for which one is good, see
/// `crate::web`. After that they ask again in any case.
const MAX_BEGUN: usize = 256;

/// (private key, certificate or empty, nodes, when the last list was signed)
type Stored = (Blob, Blob, Vec<Octets<32>>, u64);

/// Somebody whose key is here.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) key: Arc<SigningKey>,
    /// `None` until the mailbox is proved.
    pub(super) certificate: Option<UserCertificate>,
    /// Whom she let speak for her when she was asked last here.
    pub(super) nodes: Vec<NodeId>,
    /// When she was, or when she began, in unix milliseconds.
    pub(super) issued_ms: u64,
}

/// All of them, by address.
pub(super) struct Keys {
    store: Store,
    people: Mutex<BTreeMap<String, Person>>,
}

impl Keys {
    pub(super) fn open(store: Store, authority: &AuthorityCertificate) -> Result<Self, MemberError> {
        let mut people = BTreeMap::new();
        for (address, bytes) in store.load(Table::People)? {
            let corrupt = |reason: String| StoreError::Corrupt {
                path: store.folder().join("store.redb"),
                reason: format!("the key of {address:?}: {reason}"),
            };
            let (key, certificate, nodes, issued_ms): Stored =
                ciborium::from_reader(bytes.as_slice()).map_err(|error| corrupt(error.to_string()))?;
            let key = Zeroizing::new(key.0);
            let key = SigningKey::from_pkcs8(&key).map_err(|error| corrupt(error.to_string()))?;
            let person = Person {
                key: Arc::new(key),
                // Judged at a time when it was valid: one that has run out is shown as such, not lost.
                certificate: read(&certificate.0, authority),
                nodes: nodes.into_iter().map(|id| NodeId::from_bytes(id.0)).collect(),
                issued_ms,
            };
            people.insert(address, person);
        }
        Ok(Self { store, people: Mutex::new(people) })
    }

    /// The key to enrol with. Somebody who is certified already enrols anew with another key: the old one may be lost to others.
    ///
    /// Takes as long for somebody who has begun before as for anybody else.
    pub(super) fn begin(&self, address: &str, now_ms: u64) -> Result<Arc<SigningKey>, MemberError> {
        let name = begun_name(&address::normalise(address)?);
        let key = {
            let mut people = self.lock();
            self.make_room(&mut people);
            let fresh = Arc::new(SigningKey::generate()?);
            let key = people.get(&name).map_or(fresh, |person| person.key.clone());
            let person = Person { key: key.clone(), certificate: None, nodes: Vec::new(), issued_ms: now_ms };
            self.keep(&name, &person)?;
            people.insert(name, person);
            key
        };
        self.store.flush()?;
        Ok(key)
    }

    pub(super) fn begun(&self, address: &str) -> Result<Arc<SigningKey>, MemberError> {
        let address = address::normalise(address)?;
        let people = self.lock();
        let person = people.get(&begun_name(&address)).ok_or(MemberError::NotBegun(address))?;
        Ok(person.key.clone())
    }

    /// Keeps what was begun under the certificate that it got. Durable on return.
    pub(super) fn certified(&self, certificate: UserCertificate) -> Result<(), MemberError> {
        let address = certificate.address().to_owned();
        {
            let mut people = self.lock();
            let begun = begun_name(&address);
            let key = match people.get(&begun) {
                Some(person) => person.key.clone(),
                None => return Err(MemberError::NotBegun(address)),
            };
            check(&key, &certificate)?;
            let person = Person { key, certificate: Some(certificate), nodes: Vec::new(), issued_ms: 0 };
            self.keep(&address, &person)?;
            self.store.put(Table::People, &begun, None);
            people.remove(&begun);
            people.insert(address, person);
        }
        Ok(self.store.flush()?)
    }

    /// Keeps a key from elsewhere with its certificate. Durable on return.
    pub(super) fn import(&self, certificate: UserCertificate, key: &[u8]) -> Result<(), MemberError> {
        let key = Arc::new(SigningKey::from_pkcs8(key)?);
        check(&key, &certificate)?;
        let address = certificate.address().to_owned();
        let person = Person { key, certificate: Some(certificate), nodes: Vec::new(), issued_ms: 0 };
        self.keep(&address, &person)?;
        self.lock().insert(address, person);
        Ok(self.store.flush()?)
    }

    pub(super) fn person(&self, address: &str) -> Result<Person, MemberError> {
        let address = address::normalise(address)?;
        self.lock().get(&address).cloned().ok_or(MemberError::NoKey(address))
    }

    /// Forgets who began longest ago, where as many have as may.
    fn make_room(&self, people: &mut BTreeMap<String, Person>) {
        let begun = || people.iter().filter(|(name, _)| name.starts_with(BEGUN));
        if begun().count() < MAX_BEGUN {
            return;
        }
        if let Some(oldest) = begun().min_by_key(|(_, person)| person.issued_ms).map(|(name, _)| name.clone()) {
            self.store.put(Table::People, &oldest, None);
            people.remove(&oldest);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.lock().keys().filter(|name| !name.starts_with(BEGUN)).count()
    }

    pub(super) fn all(&self) -> Vec<(String, Person)> {
        let people = self.lock();
        let certified = people.iter().filter(|(name, _)| !name.starts_with(BEGUN));
        certified.map(|(address, person)| (address.clone(), person.clone())).collect()
    }

    /// Signs whom a person lets speak for her; the list is later than the last one that was signed here.
    pub(super) fn sign(
        &self,
        address: &str,
        nodes: &[NodeId],
        now_ms: u64,
        expires: u64,
    ) -> Result<Member, MemberError> {
        let mut people = self.lock();
        let person = people.get_mut(address).ok_or_else(|| MemberError::NoKey(address.to_owned()))?;
        let Some(certificate) = person.certificate.clone() else {
            return Err(MemberError::NotCertified(address.to_owned()));
        };
        let issued_ms = now_ms.max(person.issued_ms.saturating_add(1));
        let expires = expires.min(certificate.not_after());
        let list = Delegations::sign(&*person.key, &certificate, nodes, issued_ms, expires)?;
        let changed = Person { nodes: nodes.to_vec(), issued_ms, ..person.clone() };
        self.keep(address, &changed)?;
        *person = changed;
        Ok(Member { certificate: Bytes::copy_from_slice(certificate.der()), delegations: list.into() })
    }

    fn keep(&self, name: &str, person: &Person) -> Result<(), MemberError> {
        let key = person.key.to_pkcs8()?;
        let certificate = person.certificate.as_ref().map(|certificate| certificate.der().to_vec());
        let nodes = person.nodes.iter().map(|node| Octets(*node.as_bytes())).collect();
        let stored: Stored = (Blob(key.to_vec()), Blob(certificate.unwrap_or_default()), nodes, person.issued_ms);
        self.store.put(Table::People, name, Some(to_cbor(&stored)));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Person>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands before the address of somebody who has asked for a code; no address begins so.
const BEGUN: &str = "+begun ";

fn begun_name(address: &str) -> String {
    format!("{BEGUN}{address}")
}

fn check(key: &SigningKey, certificate: &UserCertificate) -> Result<(), MemberError> {
    if key.public_key() != certificate.public_key() {
        return Err(MemberError::Identity(meshtone_identity::Error::PrivateKey("not the key of this certificate")));
    }
    Ok(())
}

/// Reads a certificate that was verified before it was kept.
fn read(der: &[u8], authority: &AuthorityCertificate) -> Option<UserCertificate> {
    UserCertificate::reread(&Es256, der, authority).ok()
}
