//! What a node that starts again still knows of how it dated its values.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use meshtone_overlay::dht::body::{Ask, Reply};
use meshtone_overlay::dht::message::{Refusal, RefusalReason};
use meshtone_overlay::dht::{Config, PersistChange};
use meshtone_overlay::record::Kind;

use crate::support::{BEGIN_MS, Lone, OWN, neighbour, registration};

const NAME: &str = "bob@example.org";
const KIND: Kind = Kind::SipRegistration;

/// Writes what has changed down, as a runtime does before it sends anything.
fn commit(lone: &mut Lone, disk: &mut BTreeMap<Bytes, Bytes>) {
    while let Some(change) = lone.dht.poll_persist() {
        match change {
            PersistChange::Put { key, value } => drop(disk.insert(key, value)),
            PersistChange::Remove { key } => drop(disk.remove(&key)),
        }
    }
}

/// Has a node write whose neighbours hold something of it that is dated like this; returns the dates that it gave.
fn dates_written(lone: &mut Lone, disk: &mut BTreeMap<Bytes, Bytes>, newest_ms: u64) -> Vec<u64> {
    (1..=3).for_each(|number| lone.link(neighbour(number)));
    let content = registration(NAME, OWN, 1, newest_ms).value.content;
    lone.dht.store(lone.now, KIND, NAME, content, Duration::from_secs(600)).unwrap();
    let mut dates = Vec::new();
    for _ in 0..10 {
        commit(lone, disk);
        lone.drain();
        for (to, request, ask) in lone.asked() {
            let reply = match ask {
                Ask::Put(put) => {
                    dates.push(put.record.value.storage_ms);
                    let old = put.record.value.storage_ms <= newest_ms;
                    let refusal = Refusal { reason: RefusalReason::TooOld, newest_ms };
                    Reply::Merged { result: if old { Err(refusal) } else { Ok(()) }, newer: Vec::new() }
                }
                Ask::Clock => Reply::Time(lone.now.unix_ms),
                Ask::Find(_)
                | Ask::Fetch { .. }
                | Ask::Offer(_)
                | Ask::Store(_)
                | Ask::Listen { .. }
                | Ask::Changed(_)
                | Ask::Moved { .. } => Reply::Nodes,
            };
            lone.answer(to, &request, &reply);
        }
        lone.pass(Duration::from_millis(50));
    }
    dates
}

#[test]
fn a_node_that_starts_again_dates_nothing_like_what_it_dated_ahead_of_its_clock() {
    let config = || Config { persist: true, ..Config::default() };
    // Others hold what this node wrote when its clock was a minute ahead, so it runs ahead of its clock once more.
    let newest_ms = BEGIN_MS + 60_000;
    let (mut disk, mut before) = (BTreeMap::new(), Lone::new(config()));
    let first = dates_written(&mut before, &mut disk, newest_ms).into_iter().max().unwrap();
    assert_eq!(first, newest_ms + 1);

    // Of what it wrote then nothing is left but the date; those who are asked next had not heard of it.
    let mut after = Lone::new(config());
    disk.retain(|key, _| key.starts_with(&[0x82]));
    after.dht.restore(after.now, disk.clone());
    let second = dates_written(&mut after, &mut disk, newest_ms);
    assert!(!second.contains(&first), "{second:?} and {first}");
    assert!(second.contains(&(first + 1)));
}

#[test]
fn dates_that_the_clock_has_passed_long_ago_leave_the_disk() {
    let config = || Config { persist: true, ..Config::default() };
    let (mut disk, mut before) = (BTreeMap::new(), Lone::new(config()));
    dates_written(&mut before, &mut disk, BEGIN_MS + 60_000);
    assert!(disk.keys().any(|key| key.starts_with(&[0x82])));
    let mut after = Lone::new(config());
    after.now.unix_ms += 2 * 3_600_000;
    after.dht.restore(after.now, disk.clone());
    commit(&mut after, &mut disk);
    assert!(!disk.keys().any(|key| key.starts_with(&[0x82])), "{disk:?}");
}
