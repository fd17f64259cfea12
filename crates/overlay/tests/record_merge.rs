//! Encoding and merging of values: one encoding each, and one winner whatever the order.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use meshtone_identity::{NodeId, Signature};
use meshtone_overlay::record::value::next_storage_time;
use meshtone_overlay::record::{Kind, RecordError, StoredValue};

fn value(storage_ms: u64, exists: bool, content: &'static [u8]) -> StoredValue {
    StoredValue {
        kind: Kind::SipRegistration,
        name: "alice@example.org".to_owned(),
        key: vec![1; 32],
        storage_ms,
        lifetime_s: 3600,
        exists,
        content: Bytes::from_static(content),
        signer: NodeId::from_bytes([1; 32]),
        signature: Signature::from_bytes([2; 64]),
    }
}

#[test]
fn a_value_reads_back_and_another_reader_reads_it_too() {
    let value = value(1_800_000_000_000, true, b"content");
    let encoded = value.encode();
    assert_eq!(StoredValue::decode(&encoded).unwrap(), value);
    let tree: ciborium::Value = ciborium::from_reader(&encoded[..]).unwrap();
    let mut again = Vec::new();
    ciborium::into_writer(&tree, &mut again).unwrap();
    assert_eq!(again, encoded);
}

#[test]
fn bytes_after_a_value_unknown_kinds_and_torn_values_are_refused() {
    let encoded = value(1, true, b"content").encode();
    assert!(StoredValue::decode(&[&encoded[..], &[0]].concat()).is_err());
    for length in 0..encoded.len() {
        assert!(StoredValue::decode(&encoded[..length]).is_err(), "{length} bytes");
    }
    let mut unknown = encoded;
    unknown[1] = 0x17;
    assert_eq!(StoredValue::decode(&unknown), Err(RecordError::UnknownKind(23)));
}

#[test]
fn the_newer_value_wins_then_the_removal_then_the_larger_hash() {
    assert!(value(2, true, b"a").supersedes(&value(1, false, b"")));
    assert!(value(2, false, b"").supersedes(&value(2, true, b"a")));
    assert!(!value(2, true, b"a").supersedes(&value(2, false, b"")));
    let (a, b) = (value(2, true, b"a"), value(2, true, b"b"));
    assert_ne!(a.supersedes(&b), b.supersedes(&a));
    assert_eq!(a.supersedes(&b), a.digest() > b.digest());
    assert!(!a.supersedes(&a));
}

#[test]
fn replicas_agree_in_whatever_order_values_reach_them() {
    let values =
        [value(1, true, b"a"), value(2, true, b"b"), value(2, false, b""), value(2, true, b"c"), value(1, false, b"")];
    for start in 0..values.len() {
        for step in 1..values.len() {
            let order = (0..values.len()).map(|index| &values[(start + index * step) % values.len()]);
            let winner = order.reduce(|held, next| if next.supersedes(held) { next } else { held }).unwrap();
            assert_eq!(winner, &values[2]);
        }
    }
}

#[test]
fn a_write_is_dated_after_the_last_one_even_when_the_clock_went_back() {
    assert_eq!(next_storage_time(100, None), 100);
    assert_eq!(next_storage_time(100, Some(50)), 100);
    assert_eq!(next_storage_time(100, Some(100)), 101);
    assert_eq!(next_storage_time(100, Some(400)), 401);
}

#[test]
fn what_is_left_of_a_lifetime_never_exceeds_it() {
    let value = value(1_000_000, true, b"a");
    assert_eq!(value.remaining(1_000_000).as_secs(), 3600);
    assert_eq!(value.remaining(1_600_000).as_secs(), 3000);
    assert_eq!(value.remaining(700_000).as_secs(), 3600);
    assert!(value.remaining(4_600_000).is_zero());
}
