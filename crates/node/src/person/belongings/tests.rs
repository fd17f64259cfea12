#![allow(clippy::unwrap_used)]
use tempfile::TempDir;

use super::*;

const NOW: u64 = 1_800_000_000_000;

fn node(number: u8) -> (TempDir, Belongings) {
    let folder = TempDir::new().unwrap();
    let belongings =
        Belongings::open(Store::open(folder.path()).unwrap(), NodeId::from_bytes([number; 32]), || NOW).unwrap();
    (folder, belongings)
}

fn give(from: &Belongings, to: &Belongings, user: &str) -> usize {
    to.merge(from.node, user, 0, from.items(user))
}

fn id(number: u64) -> String {
    format!("{number:016x}")
}

fn values(belongings: &Belongings, kind: Kind) -> Vec<String> {
    belongings.of("alice", kind).into_iter().map(|(_, value)| String::from_utf8(value).unwrap()).collect()
}

#[test]
fn two_nodes_that_have_told_each_other_have_the_same_however_they_came_by_it() {
    let ((_a, one), (_b, other)) = (node(1), node(2));
    one.put("alice", Kind::Contact, "x", Some(b"bob".to_vec()));
    give(&one, &other, "alice");
    other.put("alice", Kind::Contact, "x", Some(b"robert".to_vec()));
    one.put("alice", Kind::Contact, "y", Some(b"carol".to_vec()));
    one.put("alice", Kind::Call, &id(7), Some(b"a call".to_vec()));
    assert_eq!(give(&other, &one, "alice"), 1);
    assert_eq!(give(&one, &other, "alice"), 2);
    assert_eq!(give(&one, &other, "alice"), 0, "told twice is no news");
    for node in [&one, &other] {
        assert_eq!(values(node, Kind::Contact), ["robert", "carol"]);
        assert_eq!(values(node, Kind::Call), ["a call"]);
    }
    assert_eq!(one.buckets(), other.buckets());
    assert_eq!(one.users(bucket_of("alice")), other.users(bucket_of("alice")));
    one.put("bob", Kind::Contact, "x", Some(b"dan".to_vec()));
    assert_ne!(one.buckets(), other.buckets());
}

#[test]
fn what_was_removed_does_not_come_back_from_a_node_that_was_away() {
    let ((_a, one), (_b, away)) = (node(1), node(2));
    one.put("alice", Kind::Contact, "x", Some(b"bob".to_vec()));
    one.put("alice", Kind::Call, &id(7), Some(b"old".to_vec()));
    give(&one, &away, "alice");
    one.put("alice", Kind::Contact, "x", None);
    one.mark("alice", Kind::Cleared, 7);
    assert!(values(&one, Kind::Call).is_empty());
    give(&away, &one, "alice");
    away.put("alice", Kind::Call, &id(9), Some(b"new".to_vec()));
    give(&one, &away, "alice");
    give(&away, &one, "alice");
    for node in [&one, &away] {
        assert!(values(node, Kind::Contact).is_empty());
        assert_eq!(values(node, Kind::Call), ["new"]);
    }
    assert_eq!(one.buckets(), away.buckets());
}

#[test]
fn of_two_marks_the_farther_one_holds() {
    let ((_a, one), (_b, other)) = (node(1), node(2));
    one.mark("alice", Kind::Seen, 90);
    other.mark("alice", Kind::Seen, 50);
    give(&other, &one, "alice");
    give(&one, &other, "alice");
    assert_eq!((one.marked("alice", Kind::Seen), other.marked("alice", Kind::Seen)), (Some(90), Some(90)));
    assert_eq!(one.buckets(), other.buckets());
}

#[test]
fn the_newest_calls_of_an_account_are_kept_and_all_nodes_keep_the_same() {
    let ((_a, one), (_b, other)) = (node(1), node(2));
    let most = u64::try_from(MAX_OF_ACCOUNT).unwrap();
    for call in 0..most {
        one.put("alice", Kind::Call, &id(2 * call), Some(call.to_string().into_bytes()));
        other.put("alice", Kind::Call, &id(2 * call + 1), Some(call.to_string().into_bytes()));
    }
    give(&one, &other, "alice");
    give(&other, &one, "alice");
    let kept = one.of("alice", Kind::Call);
    assert_eq!((kept.len(), &kept[0].0), (MAX_OF_ACCOUNT, &id(most)));
    assert_eq!(one.buckets(), other.buckets());
    assert_eq!(give(&one, &other, "alice"), 0);
}

#[test]
fn what_is_out_of_bounds_or_of_the_future_or_of_an_earlier_owner_is_not_taken() {
    let (_folder, one) = node(1);
    let good = Item {
        kind: Kind::Contact,
        id: "x".to_owned(),
        stamp: Stamp { wall_ms: NOW, counter: 0, node: NodeId::from_bytes([2; 32]) },
        value: Some(vec![1]),
    };
    let with = |change: &dyn Fn(&mut Item)| {
        let mut item = good.clone();
        change(&mut item);
        item
    };
    let other = NodeId::from_bytes([2; 32]);
    for bad in [
        with(&|item| item.id = String::new()),
        with(&|item| item.id = "a\u{1}b".to_owned()),
        with(&|item| item.id = "x".repeat(37)),
        with(&|item| item.value = Some(vec![0; MAX_VALUE_LEN + 1])),
        with(&|item| item.kind = Kind::Call),
        with(&|item| item.kind = Kind::Seen),
        with(&|item| item.stamp.wall_ms = NOW + 600_000),
        with(&|item| item.stamp.wall_ms = NOW - 2),
    ] {
        assert_eq!(one.merge(other, "alice", NOW - 1, vec![bad.clone()]), 0, "{bad:?}");
    }
    assert_eq!(one.merge(other, "alice", NOW - 1, vec![good.clone()]), 1);
    one.forget_before("alice", Some(NOW));
    assert_eq!(one.items("alice"), std::slice::from_ref(&good));
    one.forget_before("alice", None);
    assert!(one.items("alice").is_empty() && one.buckets() == vec![[0; 16]; BUCKETS]);
    let many = (0..5000).map(|number| with(&|item| item.id = format!("{number}"))).collect();
    assert_eq!(one.merge(other, "alice", 0, many), 2 * MAX_CONTACTS);
    for number in 0..2000 {
        one.put("alice", Kind::Contact, &number.to_string(), None);
    }
    assert!(one.items("alice").len() <= 2 * MAX_CONTACTS + MAX_REMOVED);
}

#[test]
fn all_of_it_outlives_a_restart() {
    let folder = TempDir::new().unwrap();
    let open = || {
        let store = Store::open(folder.path()).unwrap();
        Belongings::open(store, NodeId::from_bytes([1; 32]), || NOW).unwrap()
    };
    let one = open();
    one.put("alice", Kind::Contact, "x", Some(b"bob".to_vec()));
    one.put("alice", Kind::Contact, "y", Some(b"carol".to_vec()));
    one.put("alice", Kind::Contact, "y", None);
    one.put("alice", Kind::Call, &id(7), Some(b"call".to_vec()));
    one.mark("alice", Kind::Seen, 7);
    let (items, buckets) = (one.items("alice"), one.buckets());
    one.store.flush().unwrap();
    drop(one);
    let again = open();
    assert_eq!((again.items("alice"), again.buckets()), (items.clone(), buckets));
    again.put("alice", Kind::Contact, "x", Some(b"new".to_vec()));
    let newest = again.items("alice").into_iter().map(|item| item.stamp).max().unwrap();
    assert!(items.iter().all(|item| item.stamp < newest), "stamps grow over a restart");
}
