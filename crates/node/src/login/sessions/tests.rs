#![allow(clippy::unwrap_used)]
use meshtone_identity::NodeId;
use tempfile::TempDir;

use super::*;
use crate::account::system_random;

const DOMAIN: &str = "example.org";

fn accounts(store: &Store) -> Accounts {
    Accounts::open(store.clone(), DOMAIN, NodeId::from_bytes([7; 32]), || 1000, system_random()).unwrap()
}

fn opened() -> (TempDir, Store, Accounts, Sessions) {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let accounts = accounts(&store);
    accounts.add("alice", Some("201")).unwrap();
    accounts.add("bob", None).unwrap();
    let sessions = Sessions::open(store.clone(), accounts.clone(), 0).unwrap();
    (folder, store, accounts, sessions)
}

fn verifies(sessions: &Sessions, now_ms: u64, credential: &SipCredential) -> bool {
    Algorithm::ALL.iter().all(|algorithm| {
        sessions.credential(now_ms, &credential.username, *algorithm).is_some_and(|(user, kept)| {
            user == "alice" && kept == ha1(*algorithm, &credential.username, DOMAIN, &credential.password)
        })
    })
}

#[test]
fn a_sessions_credential_is_its_own_and_ends_with_it() {
    let (_folder, _store, _accounts, sessions) = opened();
    let [first, second] = [0, 1].map(|now_ms| sessions.begin(now_ms, Some("alice")));
    let [one, other] = [&first, &second].map(|secret| sessions.find(5, secret).unwrap());
    let (one_sip, other_sip) = (one.sip.clone().unwrap(), other.sip.unwrap());
    assert_ne!(one_sip, other_sip);
    assert_ne!(one.csrf, other.csrf);
    assert!(is_session_name(&one_sip.username) && one_sip.username.starts_with("alice~"));
    assert!(verifies(&sessions, 5, &one_sip) && verifies(&sessions, 5, &other_sip));
    let stolen = SipCredential { username: one_sip.username.replace("alice", "bob"), ..one_sip.clone() };
    assert!(!verifies(&sessions, 5, &stolen), "a session is of one account");
    sessions.end(&one.id);
    assert!(sessions.find(6, &first).is_none() && !verifies(&sessions, 6, &one_sip));
    assert!(verifies(&sessions, 6, &other_sip), "the other one goes on");
}

#[test]
fn a_session_outlives_a_restart_and_the_store_has_no_secret_of_it() {
    let (_folder, store, accounts, sessions) = opened();
    let secret = sessions.begin(10, Some("alice"));
    let before = sessions.find(10, &secret).unwrap();
    drop(sessions);
    let sip = before.sip.clone().unwrap();
    for (key, value) in store.load(Table::Sessions).unwrap() {
        for hidden in [&secret, &before.csrf, &sip.password] {
            assert!(!key.contains(hidden.as_str()));
            assert!(!value.windows(hidden.len()).any(|window| window == hidden.as_bytes()));
        }
    }
    let again = Sessions::open(store, accounts, 20).unwrap();
    assert_eq!(again.find(10, &secret).unwrap(), before);
    assert!(verifies(&again, 20, &sip));
}

#[test]
fn who_uses_it_keeps_it_and_it_ends_in_time() {
    let (_folder, _store, _accounts, sessions) = opened();
    let secret = sessions.begin(0, Some("alice"));
    assert_eq!(sessions.find(0, &secret).unwrap().expires_s, IDLE_MS / 1000);
    assert!(sessions.find(IDLE_MS, &secret).is_none(), "nobody used it");
    let secret = sessions.begin(0, None);
    let mut now_ms = 0;
    while sessions.find(now_ms, &secret).is_some() {
        now_ms += IDLE_MS / 2;
    }
    assert_eq!(now_ms, LONGEST_MS);
}

#[test]
fn another_password_ends_the_sessions_of_the_account_and_says_so() {
    let (_folder, _store, accounts, sessions) = opened();
    let [alice, bob] = ["alice", "bob"].map(|user| sessions.begin(0, Some(user)));
    let sip = sessions.find(1, &alice).unwrap().sip.unwrap();
    let mut ends = sessions.ends();
    accounts.set("alice", &crate::account::Changes { number: Some(None), digest: None }).unwrap();
    sessions.check_account("alice");
    assert!(sessions.find(1, &alice).is_some(), "its number is not its password");
    accounts.passwd("alice").unwrap();
    sessions.check_account("alice");
    assert_eq!(ends.try_recv().unwrap(), hash_of(&alice));
    assert!(sessions.find(2, &alice).is_none() && !verifies(&sessions, 2, &sip));
    accounts.remove("bob").unwrap();
    assert!(sessions.find(2, &bob).is_none(), "found out at its use as well");
    accounts.add("bob", None).unwrap();
    assert!(sessions.find(3, &bob).is_none(), "another bob");
}

#[test]
fn an_account_has_so_many_sessions_and_the_oldest_goes() {
    let (_folder, store, _accounts, sessions) = opened();
    let secrets: Vec<String> =
        (0..MAX_OF_ACCOUNT + 3).map(|number| sessions.begin(u64::try_from(number).unwrap(), Some("alice"))).collect();
    let alive = secrets.iter().map(|secret| sessions.find(100, secret).is_some()).collect::<Vec<_>>();
    assert!(alive[..3].iter().all(|alive| !alive) && alive[3..].iter().all(|alive| *alive));
    assert_eq!(store.load(Table::Sessions).unwrap().len(), MAX_OF_ACCOUNT);
}

#[test]
fn only_names_of_credentials_are_taken_for_some() {
    assert!(is_session_name("alice@example.net~0123456789abcdef0123456789abcdef"));
    for name in ["alice", "alice~", "alice~x", "~0123456789ABCDEF0123456789abcdef", "a~0123456789abcdef0123456789abcde"]
    {
        assert!(!is_session_name(name), "{name}");
    }
}
