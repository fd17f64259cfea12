//! The keys by which people were known here, so that it is said when one has got another.
//!
//! Whoever proves the mailbox anew has another key, with every right of the address. That is meant so where she lost the old one; where
//! somebody else reads her mails, those who know her shall hear of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use meshtone_identity::id::sha256;

use super::Standing;
use crate::store::cbor::{Octets, to_cbor};
use crate::store::{Store, StoreError, Table};

/// People remembered, with about a hundred bytes each. Of more, whoever was met longest ago is forgotten.
const MAX_PINS: usize = 4096;

/// How long a change is shown, in seconds: a month.
const SHOWN_S: u64 = 30 * 86_400;

/// How old a note may be of when somebody was met, in seconds: no write for each call.
const MET_WITHIN_S: u64 = 86_400;

/// (SHA-256 of the key, when it last took another one's place or 0, when she was met)
type Stored = (Octets<32>, u64, u64);

/// All of them, by address.
pub(super) struct Pins {
    store: Store,
    known: Mutex<BTreeMap<String, Pin>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Pin {
    key: [u8; 32],
    /// When it took the place of another, in unix seconds; 0 for the first one.
    changed: u64,
    met: u64,
}

impl Pins {
    pub(super) fn open(store: Store) -> Result<Self, StoreError> {
        // One that cannot be read is met again.
        let read = |(address, bytes): (String, Vec<u8>)| {
            let (key, changed, met): Stored = ciborium::from_reader(bytes.as_slice()).ok()?;
            Some((address, Pin { key: key.0, changed, met }))
        };
        let known = store.load(Table::Met)?.into_iter().filter_map(read).collect();
        Ok(Self { store, known: Mutex::new(known) })
    }

    /// Notes by which key somebody is known now.
    pub(super) fn meet(&self, standing: &Standing, now: u64) {
        let (address, key) = (standing.certificate.address(), sha256(standing.certificate.public_key().as_bytes()));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(address).copied();
        let pin = match before {
            Some(before) if before.key == key && now.saturating_sub(before.met) < MET_WITHIN_S => return,
            Some(before) if before.key == key => Pin { met: now, ..before },
            Some(_) => {
                tracing::warn!(%address, "somebody has proved a mailbox anew: who has that address has another key");
                Pin { key, changed: now, met: now }
            }
            None => Pin { key, changed: 0, met: now },
        };
        if before.is_none() && known.len() >= MAX_PINS {
            let oldest = known.iter().min_by_key(|(_, pin)| pin.met).map(|(address, _)| address.clone());
            if let Some(oldest) = oldest {
                known.remove(&oldest);
                self.store.put(Table::Met, &oldest, None);
            }
        }
        let stored: Stored = (Octets(pin.key), pin.changed, pin.met);
        self.store.put(Table::Met, address, Some(to_cbor(&stored)));
        known.insert(address.to_owned(), pin);
    }

    /// Whose key changed lately, and when, in unix seconds.
    pub(super) fn changes(&self, now: u64) -> Vec<(String, u64)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = known.iter().filter(|(_, pin)| pin.changed > 0 && now.saturating_sub(pin.changed) < SHOWN_S);
        lately.map(|(address, pin)| (address.clone(), pin.changed)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;
    use meshtone_identity::authority::USER_LIFETIME;
    use meshtone_identity::{Authority, Delegations, Signer, SigningKey};
    use meshtone_overlay::record::Member;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const ALICE: &str = "alice@example.net";

    fn standing(authority: &Authority, key: &SigningKey, address: &str) -> Standing {
        let certificate = authority.issue_user(address, key.public_key(), NOW, USER_LIFETIME).unwrap();
        let list = Delegations::sign(key, &certificate, &[], NOW * 1000, NOW + 1).unwrap();
        let member = Member { certificate: Bytes::new(), delegations: Bytes::new() };
        Standing { certificate, list: Delegations::peek(&list).unwrap(), member }
    }

    #[test]
    fn a_new_key_is_told_of_for_a_month_and_over_restarts_and_a_renewed_certificate_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (authority, _) = Authority::create(NOW).unwrap();
        let (first, second) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let pins = Pins::open(store.clone()).unwrap();
        pins.meet(&standing(&authority, &first, ALICE), NOW);
        pins.meet(&standing(&authority, &first, ALICE), NOW + 2 * MET_WITHIN_S);
        assert_eq!(pins.changes(NOW + 2 * MET_WITHIN_S), []);
        let later = NOW + 3 * MET_WITHIN_S;
        pins.meet(&standing(&authority, &second, ALICE), later);
        let pins = Pins::open(store).unwrap();
        pins.meet(&standing(&authority, &second, ALICE), later + 5);
        assert_eq!(pins.changes(later + 5), [(ALICE.to_owned(), later)]);
        assert_eq!(pins.changes(later + SHOWN_S), []);
    }
}
