#![allow(clippy::unwrap_used, clippy::expect_used)]

use tempfile::TempDir;

use super::*;
use crate::account::SystemRandom;

fn open(folder: &TempDir) -> Accounts {
    let store = Store::open(folder.path()).unwrap();
    let node = NodeId::from_bytes([1; 32]);
    Accounts::open(store, "example.org", node, || 1_000, Box::new(SystemRandom)).unwrap()
}

#[test]
fn an_added_user_logs_in_with_the_shown_password_and_no_other() {
    let folder = TempDir::new().unwrap();
    let accounts = open(&folder);
    let shown = accounts.add("Alice", Some("201")).unwrap();
    assert_eq!((shown.user.as_str(), shown.number.as_deref()), ("alice", Some("201")));

    let expected = Ha1Set::new("alice", "example.org", shown.password.reveal());
    for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256] {
        assert!(accounts.ha1("alice", algorithm) == Some(expected.of(algorithm).clone()));
        assert!(accounts.ha1("bob", algorithm).is_none());
    }
    let again = accounts.passwd("alice").unwrap();
    assert_ne!(again.password, shown.password);
    assert!(accounts.ha1("alice", Algorithm::Md5) != Some(expected.of(Algorithm::Md5).clone()));
    assert_eq!(again.number.as_deref(), Some("201"));
}

#[test]
fn users_are_found_by_name_and_by_number() {
    let folder = TempDir::new().unwrap();
    let accounts = open(&folder);
    accounts.add("alice", Some("201")).unwrap();
    assert_eq!(accounts.resolve("201").as_deref(), Some("alice"));
    assert_eq!(accounts.find("alice").unwrap().number.as_deref(), Some("201"));
    assert!(accounts.find("202").is_none());
}

#[test]
fn names_and_numbers_that_are_taken_are_refused() {
    let folder = TempDir::new().unwrap();
    let accounts = open(&folder);
    accounts.add("alice", Some("201")).unwrap();
    accounts.add("300", None).unwrap();
    assert!(matches!(accounts.add("ALICE", None), Err(AccountError::UserTaken { .. })));
    assert!(
        matches!(accounts.add("bob", Some("2-01")), Err(AccountError::NumberTaken { user, .. }) if user == "alice")
    );
    assert!(matches!(accounts.add("bob", Some("300")), Err(AccountError::NumberTaken { user, .. }) if user == "300"));
    assert!(matches!(accounts.add("201", None), Err(AccountError::NumberTaken { .. })));
    assert!(matches!(accounts.add("echo", None), Err(AccountError::Reserved { .. })));
    assert_eq!(accounts.users(), 2);
}

#[test]
fn accounts_survive_a_restart_and_removed_ones_do_not_come_back() {
    let folder = TempDir::new().unwrap();
    let (password, version) = {
        let accounts = open(&folder);
        accounts.add("bob", None).unwrap();
        accounts.remove("Bob").unwrap();
        (accounts.add("alice", None).unwrap().password, accounts.version())
    };
    let accounts = open(&folder);
    assert_eq!(accounts.version(), version);
    assert_eq!(accounts.list().len(), 1);
    let expected = Ha1Set::new("alice", "example.org", password.reveal()).of(Algorithm::Sha256).clone();
    assert!(accounts.ha1("alice", Algorithm::Sha256) == Some(expected));
}

#[test]
fn nothing_of_a_password_is_on_disk() {
    let folder = TempDir::new().unwrap();
    let accounts = open(&folder);
    let password = accounts.add("alice", None).unwrap().password;
    let disk = std::fs::read(folder.path().join("store.redb")).unwrap();
    let needle = password.reveal().as_bytes();
    assert!(!disk.windows(needle.len()).any(|window| window == needle));
}

#[test]
fn who_is_unknown_can_neither_be_removed_nor_given_a_password() {
    let folder = TempDir::new().unwrap();
    let accounts = open(&folder);
    assert!(matches!(accounts.passwd("bob"), Err(AccountError::Unknown { .. })));
    assert!(matches!(accounts.remove("bob"), Err(AccountError::Unknown { .. })));
}

#[test]
fn listeners_hear_of_every_change() {
    let folder = TempDir::new().unwrap();
    let accounts = open(&folder);
    let mut changes = accounts.subscribe();
    accounts.add("alice", None).unwrap();
    accounts.remove("alice").unwrap();
    let (added, removed) = (changes.try_recv().unwrap(), changes.try_recv().unwrap());
    assert_eq!((added.user(), added.is_removal(), added.from), ("alice", false, None));
    assert_eq!((removed.user(), removed.is_removal()), ("alice", true));
}

#[test]
fn a_removed_user_can_be_added_again() {
    let folder = TempDir::new().unwrap();
    let accounts = open(&folder);
    accounts.add("alice", Some("201")).unwrap();
    accounts.remove("alice").unwrap();
    accounts.add("alice", Some("201")).unwrap();
    assert_eq!(accounts.resolve("201").as_deref(), Some("alice"));
}

#[test]
fn a_user_of_one_algorithm_has_no_hash_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = open(&folder);
    accounts.add_with("alice", None, &[Algorithm::Sha256, Algorithm::Sha512_256]).unwrap();
    assert!(accounts.ha1("alice", Algorithm::Md5).is_none(), "whoever strips the stronger challenge gains nothing");
    assert!(accounts.ha1("alice", Algorithm::Sha256).is_some());
    assert!(accounts.ha1("alice", Algorithm::Sha512_256).is_some());
    accounts.passwd("alice").unwrap();
    assert!(accounts.ha1("alice", Algorithm::Md5).is_none(), "a new password changes nothing about that");
}

#[test]
fn number_and_algorithms_of_a_user_change_and_his_password_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (before, version) = {
        let accounts = open(&folder);
        accounts.add("alice", Some("201")).unwrap();
        let before = accounts.ha1("alice", Algorithm::Sha256);
        let stronger = Changes { digest: Some(vec![Algorithm::Sha256]), ..Changes::default() };
        let changed = accounts.set("Alice", &stronger).unwrap();
        assert_eq!((changed.digest(), changed.number.as_deref()), (Some(vec![Algorithm::Sha256]), Some("201")));
        assert!(accounts.ha1("alice", Algorithm::Md5).is_none());
        let renumbered = Changes { number: Some(Some("+49 (30) 2".to_owned())), ..Changes::default() };
        assert_eq!(accounts.set("alice", &renumbered).unwrap().number.as_deref(), Some("+49302"));
        assert_eq!(accounts.resolve("201"), None);
        assert_eq!(accounts.resolve("+49302").as_deref(), Some("alice"));
        (before, accounts.version())
    };
    let accounts = open(&folder);
    assert_eq!(accounts.version(), version, "it is on disk");
    assert!(accounts.ha1("alice", Algorithm::Sha256) == before && before.is_some());
    let any = Changes { number: Some(None), digest: Some(Vec::new()) };
    let changed = accounts.set("alice", &any).unwrap();
    assert_eq!((changed.number, changed.settings.len()), (None, 0));
    assert!(accounts.ha1("alice", Algorithm::Md5).is_some());
}

#[test]
fn a_change_that_cannot_be_is_refused_whole() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = open(&folder);
    accounts.add("alice", Some("201")).unwrap();
    accounts.add("300", None).unwrap();
    let with = |number: &str| Changes { number: Some(Some(number.to_owned())), digest: Some(vec![Algorithm::Md5]) };
    assert!(
        matches!(accounts.set("300", &with("201")), Err(AccountError::NumberTaken { user, .. }) if user == "alice")
    );
    assert!(
        matches!(accounts.set("alice", &with("300")), Err(AccountError::NumberTaken { user, .. }) if user == "300")
    );
    assert!(matches!(accounts.set("alice", &with("x")), Err(AccountError::BadNumber { .. })));
    assert!(matches!(accounts.set("bob", &with("5")), Err(AccountError::Unknown { .. })));
    assert_eq!(accounts.find("alice").unwrap().digest(), None);
    accounts.set("alice", &with("201")).unwrap();
}
