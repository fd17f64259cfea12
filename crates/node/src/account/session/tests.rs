#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;

use meshtone_identity::NodeId;

use super::*;
use crate::account::Ha1Set;
use crate::account::clock::MAX_AHEAD_MS;
use crate::account::table::{Account, MAX_SETTING_LEN, MAX_SETTINGS};

fn replica(number: u8) -> Replica {
    Replica::new(NodeId::from_bytes([number; 32]))
}

fn account(user: &str, secret: u8) -> Account {
    Account {
        user: user.to_owned(),
        number: None,
        ha1: Ha1Set::new(user, "example.org", &secret.to_string()),
        created_ms: 1,
        settings: BTreeMap::new(),
    }
}

fn set(replica: &mut Replica, now_ms: u64, user: &str, secret: u8) -> Entry {
    replica.change(now_ms, user, Some(account(user, secret))).unwrap()
}

/// Lets two ends talk until neither has anything to say; every message goes through its bytes.
fn converse(opener: &mut Replica, acceptor: &mut Replica) -> usize {
    let (mut caller, mut called) =
        (Session::new(Role::Opener, "example.org"), Session::new(Role::Acceptor, "example.org"));
    let mut to_called = VecDeque::from([caller.hello()]);
    let mut to_caller = VecDeque::from([called.hello()]);
    let mut messages = 0;
    loop {
        if let Some(message) = to_called.pop_front() {
            to_caller.extend(called.handle(1, reread(&message), acceptor).unwrap().replies);
        } else if let Some(message) = to_caller.pop_front() {
            to_called.extend(caller.handle(1, reread(&message), opener).unwrap().replies);
        } else {
            return messages;
        }
        messages += 1;
    }
}

fn reread(message: &Message) -> Message {
    let bytes = message.encode();
    assert!(bytes.len() <= MAX_MESSAGE_LEN, "{} bytes", bytes.len());
    let again = Message::decode(&bytes).unwrap();
    assert_eq!(&again, message);
    again
}

fn assert_equal(one: &Replica, other: &Replica) {
    assert_eq!(one.table.fingerprint(), other.table.fingerprint());
    assert!(one.table.range("", None).eq(other.table.range("", None)));
}

#[test]
fn equal_tables_are_recognised_without_listing_them() {
    let (mut a, mut b) = (replica(1), replica(2));
    let entry = set(&mut a, 1, "alice", 1);
    b.apply(1, entry).unwrap();
    // Two hellos, the summary, and its echo.
    assert_eq!(converse(&mut a, &mut b), 4);
}

#[test]
fn both_ends_learn_what_they_lack() {
    let (mut a, mut b) = (replica(1), replica(2));
    let shared = set(&mut a, 1, "shared", 1);
    b.apply(1, shared).unwrap();
    set(&mut a, 2, "alice", 1);
    set(&mut b, 3, "bob", 1);
    set(&mut a, 4, "shared", 2);
    b.change(5, "carol", None).unwrap();
    converse(&mut a, &mut b);
    assert_equal(&a, &b);
    assert_eq!(b.table.ha1("shared"), Some(&Ha1Set::new("shared", "example.org", "2")));
    assert!(a.table.account("bob").is_some());
}

#[test]
fn tables_of_many_pages_converge_whichever_end_holds_them() {
    for (on_a, on_b) in [(1000, 0), (0, 1000), (700, 900), (256, 257)] {
        let (mut a, mut b) = (replica(1), replica(2));
        for number in 0..on_a {
            set(&mut a, 1, &format!("a{number}"), 1);
        }
        for number in 0..on_b {
            set(&mut b, 1, &format!("{}{number}", if number % 2 == 0 { "a" } else { "b" }), 2);
        }
        converse(&mut a, &mut b);
        assert_equal(&a, &b);
    }
}

#[test]
fn the_largest_entries_fit_into_messages() {
    let (mut a, mut b) = (replica(1), replica(2));
    for number in 0..20 {
        let user = format!("{number:0>64}");
        let mut account = account(&user, 1);
        account.settings =
            (0..MAX_SETTINGS).map(|setting| (format!("{setting:0>32}"), "x".repeat(MAX_SETTING_LEN))).collect();
        a.change(1, &user, Some(account)).unwrap();
    }
    converse(&mut b, &mut a);
    assert_equal(&a, &b);
}

#[test]
fn a_change_is_pushed_as_it_is() {
    let (mut a, mut b) = (replica(1), replica(2));
    converse(&mut a, &mut b);
    let entry = set(&mut a, 9, "alice", 1);
    let mut session = Session::new(Role::Acceptor, "example.org");
    session.handle(1, session.hello(), &mut b).unwrap();
    let push = session.push(&entry);
    let outcome = session.handle(9, push.clone(), &mut b).unwrap();
    assert_eq!(outcome.applied, [entry]);
    assert!(session.handle(9, push, &mut b).unwrap().applied.is_empty(), "a repetition is no news");
}

#[test]
fn a_change_from_the_future_is_named_and_the_rest_is_taken() {
    let (mut a, mut b) = (replica(1), replica(2));
    let future = set(&mut a, MAX_AHEAD_MS + 10, "mallory", 1);
    let mut honest = future.clone();
    honest.user = "alice".to_owned();
    honest.stamp.wall_ms = 5;
    honest.account = Some(account("alice", 1));
    let mut session = Session::new(Role::Opener, "example.org");
    session.handle(1, session.hello(), &mut b).unwrap();
    let outcome = session.handle(1, Message::Entries(vec![future, honest.clone()]), &mut b).unwrap();
    assert_eq!(outcome.applied, [honest]);
    assert!(matches!(outcome.refused.as_slice(), [(user, Refused::Ahead(_))] if user == "mallory"));
}

#[test]
fn another_domain_or_version_ends_the_session() {
    let mut a = replica(1);
    let mut session = Session::new(Role::Opener, "example.org");
    let other = Message::Hello(VERSION, "example.net".to_owned());
    assert!(matches!(session.handle(1, other, &mut a), Err(PeerMisbehaved::OtherDomain(_))));
    let newer = Message::Hello(VERSION + 1, "example.org".to_owned());
    assert_eq!(session.handle(1, newer, &mut a), Err(PeerMisbehaved::OtherVersion(VERSION + 1)));
}

#[test]
fn nothing_is_heard_or_told_before_the_hello() {
    let mut a = replica(1);
    let entry = set(&mut replica(2), 1, "alice", 1);
    let mut session = Session::new(Role::Acceptor, "example.org");
    assert_eq!(session.handle(1, Message::Entries(vec![entry]), &mut a), Err(PeerMisbehaved::OutOfTurn));
    assert_eq!(a.table.users(), 0);
}

#[test]
fn an_answer_that_leads_in_circles_ends_the_session() {
    let (mut a, mut b) = (replica(1), replica(2));
    set(&mut a, 1, "alice", 1);
    set(&mut b, 1, "bob", 1);
    let mut session = Session::new(Role::Opener, "example.org");
    session.handle(1, session.hello(), &mut a).unwrap();
    let summary = Message::Summary(b.table.fingerprint());
    session.handle(1, summary, &mut a).unwrap();
    let forwards = Message::Want { users: vec![], upto: Some("m".to_owned()) };
    session.handle(1, forwards.clone(), &mut a).unwrap();
    assert_eq!(session.handle(1, forwards, &mut a), Err(PeerMisbehaved::OutOfTurn));
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    for bytes in [&b""[..], &[0xff; 9], &[0x80], &[0x81, 0x09], &[0x82, 0x03, 0x81, 0x00], &[0x9b; 64]] {
        assert!(matches!(Message::decode(bytes), Err(PeerMisbehaved::BadMessage(_))), "{bytes:?}");
    }
}
