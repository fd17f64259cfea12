#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use super::*;

const PASSPHRASE: &str = "correct horse battery";

/// A node that founded an overlay, with an account, a ticket, a binding and an issued certificate.
async fn node(folder: &Path) -> Store {
    let store = Store::open(folder).unwrap();
    let membership = enrol::establish(&store, Some("mesh.test"), None).await.unwrap();
    let accounts = Accounts::open(store.clone(), "mesh.test", membership.node(), unix_ms, system_random()).unwrap();
    accounts.add("alice", None).unwrap();
    let inviter = membership.inviter();
    let address = "192.0.2.1:6084".parse().unwrap();
    inviter.invite(meshtone_identity::Role::Home, std::time::Duration::from_secs(3600), &[address]).unwrap();
    store.put_bindings("alice@mesh.test", Some(vec![1]));
    store.put(Table::Issued, "bob@mail.test 00", Some(vec![2]));
    // More than a piece of them.
    (0..40).for_each(|number| store.put(Table::Records, &format!("{number:02}"), Some(vec![3; 4096])));
    store
}

fn written(store: &Store, scope: Scope) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(store, scope, PASSPHRASE, &mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_restored_node_is_the_same_and_keeps_its_people_but_no_ticket_and_no_phone() {
    let folder = tempfile::tempdir().unwrap();
    let store = node(&folder.path().join("old")).await;
    let backup = written(&store, Scope::Node);
    let old = enrol::identity(&store).unwrap().unwrap();

    let data = folder.path().join("new");
    let contents = restore(backup.as_slice(), PASSPHRASE, &data).unwrap();
    assert_eq!((contents.accounts, contents.certificates, contents.has_authority), (1, 1, true));
    assert_eq!(contents, inspect(backup.as_slice(), PASSPHRASE).unwrap());
    let restored = Store::open(&data).unwrap();
    let new = enrol::identity(&restored).unwrap().unwrap();
    assert_eq!((new.node, new.overlay, new.domain), (old.node, old.overlay, old.domain));
    for table in [Table::Accounts, Table::Settings, Table::Records, Table::Issued] {
        assert_eq!(restored.load(table).unwrap(), store.load(table).unwrap(), "{}", table.name());
    }
    for table in [Table::Tickets, Table::Bindings] {
        assert!(!store.load(table).unwrap().is_empty() && restored.load(table).unwrap().is_empty());
    }
    for file in [data.join("store.redb"), data.join("keys/node.key")] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn an_authority_restored_alone_founds_a_new_node_of_its_old_overlay() {
    let folder = tempfile::tempdir().unwrap();
    let store = node(&folder.path().join("old")).await;
    let backup = written(&store, Scope::Authority);
    let old = enrol::identity(&store).unwrap().unwrap();

    let data = folder.path().join("new");
    let contents = restore(backup.as_slice(), PASSPHRASE, &data).unwrap();
    assert_eq!((contents.accounts, contents.certificates, contents.has_authority), (0, 1, true));
    let restored = Store::open(&data).unwrap();
    assert!(restored.read_key(KeyFile::Node).unwrap().is_none(), "no key of the node");
    let elsewhere = enrol::establish(&restored, Some("other.test"), None).await;
    assert!(matches!(elsewhere, Err(enrol::EnrolError::OtherDomain { .. })));
    let founded = enrol::establish(&restored, None, None).await.unwrap();
    assert_eq!((founded.overlay(), founded.domain.as_str()), (old.overlay, "mesh.test"));
    assert!(founded.node() != old.node && founded.inviter().may_invite());
    assert_eq!(restored.load(Table::Issued).unwrap(), store.load(Table::Issued).unwrap());
}

#[tokio::test]
async fn nothing_is_restored_from_what_is_wrong_or_over_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old");
    let store = node(&old).await;
    let backup = written(&store, Scope::Node);
    let data = folder.path().join("new");
    let fails = |backup: &[u8], passphrase: &str, says: &str| {
        let error = restore(backup, passphrase, &data).unwrap_err();
        assert!(error.to_string().contains(says) && !error.hint().is_empty(), "{error}");
        assert!(!data.exists() && fs::read_dir(folder.path()).unwrap().count() == 1, "{error} left something");
    };
    fails(&backup, "correct horse butter", "passphrase is wrong");
    fails("-----BEGIN MESHTONE SOFT-CARD-----".repeat(2).as_bytes(), PASSPHRASE, "does not begin like one");
    fails(&backup[..20], PASSPHRASE, "cut short");
    let piece = sealed_stream::HEAD + sealed_stream::PIECE + sealed_stream::TAG;
    assert!(backup.len() > piece);
    fails(&backup[..backup.len() - 1], PASSPHRASE, "damaged");
    // A whole piece opens, but is not the last one.
    fails(&backup[..piece], PASSPHRASE, "damaged");
    let mut changed = backup.clone();
    changed[piece + 5] ^= 1;
    fails(&changed, PASSPHRASE, "damaged");
    let mut newer = backup.clone();
    newer[sealed_stream::MAGIC.len()] += 1;
    fails(&newer, PASSPHRASE, "version");

    let taken = restore(backup.as_slice(), PASSPHRASE, &old).unwrap_err();
    assert!(matches!(taken, BackupError::Taken(_)));
    fs::create_dir(&data).unwrap();
    restore(backup.as_slice(), PASSPHRASE, &data).unwrap();
}

#[tokio::test]
async fn a_backup_that_lies_about_whose_it_is_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = node(&folder.path().join("old")).await;
    let identity = enrol::identity(&store).unwrap().unwrap();
    let start = Start {
        scope: Scope::Node,
        made: 1,
        node: identity.node,
        overlay: identity.overlay,
        domain: identity.domain.clone(),
    };
    let forged = |entries: Vec<Entry>| {
        let mut out = Vec::new();
        let mut sealing = Sealing::begin(PASSPHRASE, &[7; sealed_stream::RANDOM], &mut out).unwrap();
        entries.iter().for_each(|entry| sealing.push(entry).unwrap());
        sealing.finish().unwrap();
        restore(out.as_slice(), PASSPHRASE, &folder.path().join("new")).unwrap_err().to_string()
    };
    let files = || -> Vec<Entry> {
        let read = |file: &KeyFile| {
            let contents = store.read_key(*file).unwrap()?;
            Some(Entry::File { name: file.name().to_owned(), contents })
        };
        KeyFile::ALL.iter().filter_map(read).collect()
    };
    let with = |start: Start, more: Vec<Entry>| [vec![Entry::Start(start)], more].concat();
    let other = meshtone_identity::NodeId::from_bytes([9; 32]);
    assert!(forged(with(Start { node: other, ..start.clone() }, files())).contains("another node"));
    let overlay = meshtone_identity::OverlayId::from_bytes([9; 32]);
    assert!(forged(with(Start { overlay, ..start.clone() }, files())).contains("another overlay"));
    assert!(forged(with(start.clone(), vec![])).contains("missing"));
    assert!(forged(vec![]).contains("what it is of"));
    assert!(forged(vec![Entry::Start(start.clone()), Entry::Start(start.clone())]).contains("twice"));
    let row = |table: &str, key: &str| Entry::Row { table: table.to_owned(), key: key.to_owned(), value: vec![0xff] };
    let file = Entry::File { name: "../version".to_owned(), contents: vec![] };
    for unknown in [row("tickets", "a"), row("nothing", "a"), file] {
        assert!(forged(with(start.clone(), vec![unknown])).contains("does not know"));
    }
    let damaged = [files(), vec![row("accounts", "alice")]].concat();
    assert!(forged(with(start.clone(), damaged)).contains("alice"), "an account that cannot be read");
    let authority = Start { scope: Scope::Authority, ..start };
    assert!(forged(with(authority, vec![row("settings", "gruu-key")])).contains("does not know"));
}
