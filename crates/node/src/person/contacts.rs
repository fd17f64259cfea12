//! The people that an account's owner calls: a list for each account, the same at all home nodes.

use serde::{Deserialize, Serialize};

use super::belongings::{Belongings, Kind};
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

/// (name, address, whether it is a favourite)
#[derive(Serialize, Deserialize)]
struct Kept(String, String, bool);

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
pub(crate) fn of(belongings: &Belongings, user: &str) -> Vec<Contact> {
    let read = |(id, bytes): (String, Vec<u8>)| {
        // What another release wrote may be unknown; it is left as it is until something is changed.
        let Kept(name, address, favourite) = ciborium::from_reader(bytes.as_slice()).ok()?;
        // Another node has checked it as well, but whoever shows it relies on this one.
        Contact { id, name, address, favourite }.checked().ok()
    };
    let mut all: Vec<Contact> = belongings.of(user, Kind::Contact).into_iter().filter_map(read).collect();
    all.sort_by_cached_key(|contact| (contact.name.to_lowercase(), contact.id.clone()));
    all
}

/// Adds a contact, or changes the one with its id.
///
/// # Errors
/// [`NotKept`].
pub(crate) fn put(belongings: &Belongings, user: &str, contact: Contact) -> Result<Contact, NotKept> {
    let contact = contact.checked()?;
    let others = belongings.of(user, Kind::Contact).iter().filter(|(id, _)| *id != contact.id).count();
    if others >= MAX_CONTACTS {
        return Err(NotKept::Full);
    }
    belongings.put(user, Kind::Contact, &contact.id, Some(written(&contact)));
    Ok(contact)
}

/// Removes one; false where there is none of that id.
pub(crate) fn remove(belongings: &Belongings, user: &str, id: &str) -> bool {
    let is_there = belongings.of(user, Kind::Contact).iter().any(|(other, _)| other == id);
    if is_there {
        belongings.put(user, Kind::Contact, id, None);
    }
    is_there
}

/// Takes over what an earlier release has kept at this node alone.
///
/// # Errors
/// [`StoreError`].
pub(super) fn take_over(store: &Store, belongings: &Belongings) -> Result<(), StoreError> {
    for (user, bytes) in store.load(Table::Contacts)? {
        let kept: Vec<(String, String, String, bool)> = ciborium::from_reader(bytes.as_slice()).unwrap_or_default();
        for (id, name, address, favourite) in kept {
            let contact = Contact { id, name, address, favourite };
            belongings.put(&user, Kind::Contact, &contact.id, Some(written(&contact)));
        }
        store.put(Table::Contacts, &user, None);
    }
    Ok(())
}

fn written(contact: &Contact) -> Vec<u8> {
    to_cbor(&Kept(contact.name.clone(), contact.address.clone(), contact.favourite))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use meshtone_identity::NodeId;
    use tempfile::TempDir;

    use super::*;

    fn opened() -> (TempDir, Belongings) {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, Belongings::open(store, NodeId::from_bytes([1; 32]), || 1_800_000_000_000).unwrap())
    }

    #[test]
    fn what_an_earlier_release_has_kept_is_taken_over() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let before = vec![("1".to_owned(), "Bob".to_owned(), "bob@example.net".to_owned(), true)];
        store.put(Table::Contacts, "alice", Some(to_cbor(&before)));
        store.flush().unwrap();
        let belongings = Belongings::open(store.clone(), NodeId::from_bytes([1; 32]), || 1_800_000_000_000).unwrap();
        take_over(&store, &belongings).unwrap();
        assert_eq!(of(&belongings, "alice"), [contact("1", "Bob")]);
        store.flush().unwrap();
        assert!(store.load(Table::Contacts).unwrap().is_empty());
    }

    fn contact(id: &str, name: &str) -> Contact {
        Contact { id: id.to_owned(), name: name.to_owned(), address: "bob@example.net".to_owned(), favourite: true }
    }

    #[test]
    fn contacts_are_kept_by_name_and_changed_by_id_for_each_account_apart() {
        let (_folder, store) = opened();
        for (id, name) in [("1", "Zoe"), ("2", "anna"), ("3", "Bob"), ("1", "  Aaron ")] {
            put(&store, "alice", contact(id, name)).unwrap();
        }
        let names = |user: &str| of(&store, user).into_iter().map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(names("alice"), ["Aaron", "anna", "Bob"]);
        assert!(names("bob").is_empty());
        assert!(remove(&store, "alice", "2") && !remove(&store, "alice", "2"));
        assert_eq!(names("alice"), ["Aaron", "Bob"]);
    }

    #[test]
    fn what_no_page_could_show_or_nobody_could_call_is_not_kept() {
        let (_folder, store) = opened();
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
