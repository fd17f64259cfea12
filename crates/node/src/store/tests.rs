#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;

use super::*;
use tempfile::TempDir;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_fresh_folder_is_the_owners_alone_and_says_its_version() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("a").join("b");
    let store = Store::open(&data).unwrap();
    store.write_key(KeyFile::Link, &[7; 32]).unwrap();

    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("keys")), 0o700);
    assert_eq!(mode(&data.join("keys/link.key")), 0o600);
    assert_eq!(mode(&data.join("store.redb")), 0o600);
    assert_eq!(fs::read_to_string(data.join("version")).unwrap(), "1\n");
}

#[test]
fn a_folder_of_a_newer_program_is_refused_and_left_as_it_was() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("version"), "2\n").unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 2, .. }), "{error}");
    assert!(error.hint().contains("newer meshtone"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_version_that_is_no_number_is_damage() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("version"), "one").unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_file_that_is_no_database_is_damage() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("store.redb"), vec![b'x'; 8192]).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn a_second_opener_is_told_that_the_folder_is_in_use() {
    let folder = TempDir::new().unwrap();
    let _first = Store::open(folder.path()).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
}

#[test]
fn bindings_are_back_after_reopening_and_a_removed_one_is_not() {
    let folder = TempDir::new().unwrap();
    {
        let store = Store::open(folder.path()).unwrap();
        store.put_bindings("alice@example.org", Some(b"old".to_vec()));
        store.put_bindings("alice@example.org", Some(b"new".to_vec()));
        store.put_bindings("bob@example.org", Some(b"bob".to_vec()));
        store.flush().unwrap();
        store.put_bindings("bob@example.org", None);
    }
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.load_bindings().unwrap(), [("alice@example.org".to_owned(), b"new".to_vec())]);
}

#[test]
fn a_setting_is_read_back_before_and_after_it_is_on_disk() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.setting(Setting::FlowTokenKey).unwrap(), None);
    store.put_setting(Setting::FlowTokenKey, b"key".to_vec());
    assert_eq!(store.setting(Setting::FlowTokenKey).unwrap().unwrap(), b"key");
    store.flush().unwrap();
    assert_eq!(store.setting(Setting::FlowTokenKey).unwrap().unwrap(), b"key");
}

#[test]
fn a_flush_makes_durable_what_is_there_if_the_process_dies_now() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.put_bindings("alice@example.org", Some(b"kept".to_vec()));
    store.flush().unwrap();

    // The file as a killed process leaves it, without any closing.
    let copy = TempDir::new().unwrap();
    fs::copy(folder.path().join("store.redb"), copy.path().join("store.redb")).unwrap();
    let survivor = Store::open(copy.path()).unwrap();
    assert_eq!(survivor.load_bindings().unwrap().len(), 1);
}

#[test]
fn a_key_file_is_replaced_as_a_whole_even_over_a_leftover() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.read_key(KeyFile::Node).unwrap(), None);
    fs::write(folder.path().join("keys/node.tmp"), "half").unwrap();
    store.write_key(KeyFile::Node, b"first").unwrap();
    store.write_key(KeyFile::Node, b"second").unwrap();
    assert_eq!(store.read_key(KeyFile::Node).unwrap().unwrap(), b"second");
    assert!(!folder.path().join("keys/node.tmp").exists());
}

#[test]
fn many_writers_lose_nothing() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = store.clone();
            scope.spawn(move || {
                for number in 0..100 {
                    store.put_bindings(&format!("{writer}-{number}@example.org"), Some(vec![1]));
                    if number % 40 == 0 {
                        store.flush().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(store.load_bindings().unwrap().len(), 400);
}

#[test]
fn records_of_the_overlay_are_on_disk_once_written() {
    use bytes::Bytes;
    use meshtone_overlay::RecordStore;

    let folder = TempDir::new().unwrap();
    let (kept, forgotten) = (Bytes::from_static(&[0, 0xff, 7]), Bytes::from_static(b"forgotten"));
    {
        let store = Store::open(folder.path()).unwrap();
        let value = Some(Bytes::from_static(b"value"));
        store.write(&[(kept.clone(), value.clone()), (forgotten.clone(), value)]).unwrap();
        store.write(&[(forgotten, None)]).unwrap();
    }
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(RecordStore::load(&store).unwrap(), [(kept, Bytes::from_static(b"value"))]);
}
