//! The people that an account's owner calls: a list for each account, at this node.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::store::cbor::to_cbor;
use crate::store::{Store, StoreError, Table};
use crate::text::is_harmless;

/// Contacts of one account: more than fit on a page, and 100 KB.
pub(crate) const MAX_CONTACTS: usize = 500;
/// Longest name, in characters.
pub(crate) const MAX_NAME: usize = 64;
/// Longest address, in bytes.
pub(crate) const MAX_ADDRESS_LEN: usize = 320;
/// Longest id, in bytes: a UUID.
const MAX_ID_LEN: usize = 36;

/// Somebody whom an account's owner calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) favourite: bool,
}

#[derive(Serialize, Deserialize)]
struct Kept(String, String, String, bool);

/// Why a contact is not kept.
#[derive(Debug)]
pub(crate) enum NotKept {
    /// It has no name, or one that no page shows.
    BadName,
    /// Its address is none that could be called.
    BadAddress,
    /// Its id is none.
    BadId,
    /// There are [`MAX_CONTACTS`].
    Full,
    /// The store says so.
    Store(StoreError),
}

impl Contact {
    /// Checks what somebody wants to be kept.
    ///
    /// # Errors
    /// [`NotKept`].
    pub(crate) fn checked(self) -> Result<Contact, NotKept> {
        let (name, address) = (self.name.trim(), self.address.trim());
        if name.is_empty() || name.chars().count() > MAX_NAME || !is_harmless(name) {
            return Err(NotKept::BadName);
        }
        let is_address = !address.is_empty()
            && address.len() <= MAX_ADDRESS_LEN
            && address.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"".contains(&byte));
        if !is_address {
            return Err(NotKept::BadAddress);
        }
        let is_id = (1..=MAX_ID_LEN).contains(&self.id.len())
            && self.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_id {
            return Err(NotKept::BadId);
        }
        let (name, address) = (name.to_owned(), address.to_owned());
        Ok(Contact { name, address, ..self })
    }
}

/// The contacts of an account, by name.
///
/// # Errors
/// [`StoreError`].
pub(crate) fn of(store: &Store, user: &str) -> Result<Vec<Contact>, StoreError> {
    let bytes = store.value(Table::Contacts, user)?.unwrap_or_default();
    // What another release wrote may be unknown; it is left as it is until something is changed.
    let kept: Vec<Kept> = ciborium::from_reader(bytes.as_slice()).unwrap_or_default();
    let contact = |Kept(id, name, address, favourite)| Contact { id, name, address, favourite };
    Ok(kept.into_iter().map(contact).collect())
}

/// Adds a contact, or changes the one with its id.
///
/// # Errors
/// [`NotKept`].
pub(crate) fn put(store: &Store, user: &str, contact: Contact) -> Result<Contact, NotKept> {
    let contact = contact.checked()?;
    let _changing = changing();
    let mut all = of(store, user).map_err(NotKept::Store)?;
    all.retain(|other| other.id != contact.id);
    if all.len() >= MAX_CONTACTS {
        return Err(NotKept::Full);
    }
    all.push(contact.clone());
    keep(store, user, all);
    Ok(contact)
}

/// Removes one; false where there is none of that id.
///
/// # Errors
/// [`StoreError`].
pub(crate) fn remove(store: &Store, user: &str, id: &str) -> Result<bool, StoreError> {
    let _changing = changing();
    let mut all = of(store, user)?;
    let before = all.len();
    all.retain(|contact| contact.id != id);
    let was_there = all.len() < before;
    if was_there {
        keep(store, user, all);
    }
    Ok(was_there)
}

/// Forgets those of an account that is gone.
pub(crate) fn forget(store: &Store, user: &str) {
    store.put(Table::Contacts, user, None);
}

/// One change at a time: each reads all contacts of an account and writes them anew, and somebody may have two browsers.
fn changing() -> MutexGuard<'static, ()> {
    static CHANGING: Mutex<()> = Mutex::new(());
    CHANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(store: &Store, user: &str, mut all: Vec<Contact>) {
    all.sort_by_cached_key(|contact| (contact.name.to_lowercase(), contact.id.clone()));
    let kept: Vec<Kept> =
        all.into_iter().map(|Contact { id, name, address, favourite }| Kept(id, name, address, favourite)).collect();
    store.put(Table::Contacts, user, (!kept.is_empty()).then(|| to_cbor(&kept)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tempfile::TempDir;

    use super::*;

    fn contact(id: &str, name: &str) -> Contact {
        Contact { id: id.to_owned(), name: name.to_owned(), address: "bob@example.net".to_owned(), favourite: true }
    }

    #[test]
    fn contacts_are_kept_by_name_and_changed_by_id_for_each_account_apart() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for (id, name) in [("1", "Zoe"), ("2", "anna"), ("3", "Bob"), ("1", "  Aaron ")] {
            put(&store, "alice", contact(id, name)).unwrap();
        }
        let names = |user: &str| of(&store, user).unwrap().into_iter().map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(names("alice"), ["Aaron", "anna", "Bob"]);
        assert!(names("bob").is_empty());
        assert!(remove(&store, "alice", "2").unwrap() && !remove(&store, "alice", "2").unwrap());
        store.flush().unwrap();
        assert_eq!(names("alice"), ["Aaron", "Bob"]);
        forget(&store, "alice");
        assert!(names("alice").is_empty());
    }

    #[test]
    fn what_no_page_could_show_or_nobody_could_call_is_not_kept() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let good = contact("1", "Bob");
        for bad in [
            contact("1", " "),
            contact("1", "a\nb"),
            contact("1", "\u{1b}[2J"),
            contact("1", "\u{202e}boB"),
            contact("1", &"x".repeat(65)),
            contact("", "Bob"),
            contact("../x", "Bob"),
            contact(&"1".repeat(37), "Bob"),
            Contact { address: String::new(), ..good.clone() },
            Contact { address: "a b@c".to_owned(), ..good.clone() },
            Contact { address: "<bob@c>".to_owned(), ..good.clone() },
            Contact { address: "x".repeat(321), ..good.clone() },
        ] {
            assert!(put(&store, "alice", bad.clone()).is_err(), "{bad:?}");
        }
        let kept = (0..MAX_CONTACTS + 9).filter(|id| put(&store, "alice", contact(&id.to_string(), "Bob")).is_ok());
        assert_eq!(kept.count(), MAX_CONTACTS);
        assert!(put(&store, "alice", contact("7", "Robert")).is_ok(), "one that is there may change");
    }
}
