//! Two signed values of one writer and one moment.

use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{NodeId, Signature};
use meshtone_overlay::dht::body::{Ask, Handed, Reply};
use meshtone_overlay::dht::message::{Refusal, RefusalReason};
use meshtone_overlay::dht::{Config, Event};
use meshtone_overlay::record::value::Record;
use meshtone_overlay::record::{Kind, ResourceId};

use crate::support::{BEGIN_MS, Lone, OWN, neighbour, registration};

const NAME: &str = "bob@example.org";
const KIND: Kind = Kind::SipRegistration;

fn store(lone: &mut Lone, number: u64, record: &Record) {
    let handed = Handed { remaining_s: 600, record: record.clone() };
    lone.ask(neighbour(1), number, Ask::Store(vec![handed]).encode());
}

fn contradictions(lone: &mut Lone) -> usize {
    lone.events().iter().filter(|event| matches!(event, Event::Contradiction { .. })).count()
}

/// Reads, with neighbours that hold these records, one each.
fn read(lone: &mut Lone, held: &[&Record]) {
    lone.dht.fetch(lone.now, KIND, NAME);
    lone.drain();
    for _ in 0..20 {
        for (to, request, ask) in lone.asked() {
            let reply = match ask {
                Ask::Fetch { .. } => {
                    let own = held.iter().zip(1..).find(|(_, number)| neighbour(*number) == to);
                    Reply::Values(own.map(|(record, _)| (*record).clone()).into_iter().collect())
                }
                Ask::Find(_) => Reply::Nodes,
                Ask::Clock => Reply::Time(lone.now.unix_ms),
                Ask::Store(_)
                | Ask::Put(_)
                | Ask::Offer(_)
                | Ask::Listen { .. }
                | Ask::Changed(_)
                | Ask::Moved { .. } => continue,
            };
            lone.answer(to, &request, &reply);
        }
        lone.pass(Duration::from_millis(50));
    }
}

#[test]
fn a_reader_that_gets_two_values_of_one_moment_keeps_both_as_evidence() {
    let mut lone = Lone::new(Config::default());
    (1..=3).for_each(|number| lone.link(neighbour(number)));
    let records = [1, 2].map(|content| registration(NAME, neighbour(9), BEGIN_MS, content));
    read(&mut lone, &[&records[0], &records[1]]);
    assert_eq!(contradictions(&mut lone), 1);
    let kept = lone.dht.evidence().next().expect("evidence").clone();
    let mut contents = [kept.first.value.content, kept.second.value.content];
    contents.sort();
    let mut expected = records.clone().map(|record| record.value.content);
    expected.sort();
    assert_eq!(contents, expected);
    // Met again it is no news.
    read(&mut lone, &[&records[1], &records[0]]);
    assert_eq!((contradictions(&mut lone), lone.dht.evidence().count()), (0, 1));
}

#[test]
fn a_storing_node_that_is_given_another_value_of_the_moment_keeps_both_as_evidence() {
    let mut lone = Lone::new(Config::default());
    lone.link(neighbour(1));
    store(&mut lone, 1, &registration(NAME, neighbour(9), BEGIN_MS, 1));
    store(&mut lone, 2, &registration(NAME, neighbour(9), BEGIN_MS, 2));
    assert_eq!(contradictions(&mut lone), 1);
}

#[test]
fn what_follows_and_what_was_signed_twice_is_no_contradiction() {
    let mut lone = Lone::new(Config::default());
    lone.link(neighbour(1));
    let first = registration(NAME, neighbour(9), BEGIN_MS, 1);
    let mut signed_again = first.clone();
    signed_again.value.signature = Signature::from_bytes([2; 64]);
    let records = [
        first,
        signed_again,
        registration(NAME, neighbour(9), BEGIN_MS + 1, 2),
        registration(NAME, neighbour(8), BEGIN_MS + 1, 3),
    ];
    for (number, record) in (1..).zip(&records) {
        store(&mut lone, number, record);
    }
    assert_eq!((contradictions(&mut lone), lone.dht.evidence().count()), (0, 0));
}

#[test]
fn of_many_contradictions_the_newest_are_kept() {
    let mut lone = Lone::new(Config::default());
    lone.link(neighbour(1));
    for number in 0..40 {
        let name = format!("user{number}@example.org");
        store(&mut lone, 2 * number, &registration(&name, neighbour(9), BEGIN_MS, 1));
        store(&mut lone, 2 * number + 1, &registration(&name, neighbour(9), BEGIN_MS, 2));
    }
    assert_eq!(contradictions(&mut lone), 40);
    let kept: Vec<String> = lone.dht.evidence().map(|evidence| evidence.first.value.name.clone()).collect();
    assert_eq!(kept.len(), 16);
    assert_eq!(kept.last().map(String::as_str), Some("user39@example.org"));
}

#[test]
fn a_writer_never_dates_two_values_alike() {
    let mut lone = Lone::new(Config::default());
    (1..=4).for_each(|number| lone.link(neighbour(number)));
    let hour = Duration::from_secs(3600);
    let content = |number| -> Bytes { registration(NAME, OWN, 1, number).value.content };
    lone.dht.store(lone.now, KIND, NAME, content(1), hour).unwrap();
    lone.dht.store(lone.now, KIND, NAME, content(2), hour).unwrap();
    lone.dht.publish(lone.now, KIND, NAME, content(3), hour).unwrap();
    lone.dht.remove(lone.now, KIND, NAME).unwrap();
    lone.drain();
    // The nearest is told of each as its turn comes.
    let mut dated = Vec::new();
    for _ in 0..20 {
        for (to, request, ask) in lone.asked() {
            if let Ask::Put(handed) = &ask {
                let value = &handed.record.value;
                dated.push((value.storage_ms, value.content.clone()));
                lone.answer(to, &request, &Reply::Merged { result: Ok(()), newer: Vec::new() });
            } else {
                lone.answer(to, &request, &Reply::Nodes);
            }
        }
        lone.pass(Duration::from_millis(50));
    }
    dated.sort();
    dated.dedup();
    let mut times: Vec<u64> = dated.iter().map(|(at, _)| *at).collect();
    times.dedup();
    assert_eq!((dated.len(), times.len()), (4, 4), "{dated:?}");
}

/// It was: a node that had forgotten what it wrote and whose clock was behind dated a removal and the next value after the same
/// older one, each as a replica showed it.
#[test]
fn two_values_dated_anew_after_the_same_older_one_are_not_dated_alike() {
    let mut lone = Lone::new(Config::default());
    // All replicas are other nodes, so that it does not hold what it wrote.
    for number in 1..=5 {
        let mut id = *ResourceId::of_name(NAME).as_bytes();
        id[31] ^= number;
        lone.link(NodeId::from_bytes(id));
    }
    let held_ms = BEGIN_MS + 60_000;
    let hour = Duration::from_secs(3600);
    let mut dated = Vec::new();
    for number in 1..=2 {
        if number == 1 {
            lone.dht.remove(lone.now, KIND, NAME).unwrap();
        } else {
            let content = registration(NAME, OWN, 1, number).value.content;
            lone.dht.publish(lone.now, KIND, NAME, content, hour).unwrap();
        }
        lone.drain();
        for _ in 0..20 {
            for (to, request, ask) in lone.asked() {
                let Ask::Put(handed) = &ask else {
                    lone.answer(to, &request, &Reply::Nodes);
                    continue;
                };
                let at = handed.record.value.storage_ms;
                let too_old = Refusal { reason: RefusalReason::TooOld, newest_ms: held_ms };
                dated.push((number, at));
                let result = if at > held_ms { Ok(()) } else { Err(too_old) };
                lone.answer(to, &request, &Reply::Merged { result, newer: Vec::new() });
            }
            lone.pass(Duration::from_millis(20));
        }
    }
    let last = |number| dated.iter().filter(|(of, _)| *of == number).map(|(_, at)| *at).max().unwrap();
    assert_eq!((last(1), last(2)), (held_ms + 1, held_ms + 2));
}
