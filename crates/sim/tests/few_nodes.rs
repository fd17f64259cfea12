//! A handful of nodes in virtual time: removal, partitions, liars, replicas that die one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use meshtone_overlay::dht::body::{Ask, Handed, Reply};
use meshtone_overlay::dht::message::Message;
use meshtone_overlay::dht::{Config, Event, Transmit};
use meshtone_overlay::record::Kind;
use meshtone_overlay::record::value::Record;
use meshtone_sim::network::SILENCE;
use meshtone_sim::overlay::{Forger, address, registration};
use meshtone_sim::{Conditions, Overlay, Seeded};

const HOUR: Duration = Duration::from_secs(3600);

/// An overlay of home nodes of example.org, all joined over the first.
fn overlay(seed: u64, nodes: usize) -> Overlay {
    let mut overlay = Overlay::new(seed, Conditions::default(), Config::default());
    for number in 0..nodes {
        overlay.add(&["example.org"], (number > 0).then_some(0));
        overlay.network.run_for(Duration::from_millis(300));
    }
    overlay.network.run_for(Duration::from_secs(5));
    overlay
}

#[test]
fn a_single_node_finds_what_it_stored() {
    let mut overlay = overlay(1, 1);
    overlay.store(0, Kind::SipRegistration, "alice@example.org", registration(1), HOUR).unwrap();
    let fetched = overlay.fetch(0, Kind::SipRegistration, "alice@example.org").unwrap();
    assert_eq!(fetched.entries.len(), 1);
    assert!(overlay.fetch(0, Kind::SipRegistration, "bob@example.org").unwrap().entries.is_empty());
}

#[test]
fn what_one_node_stores_every_other_finds() {
    let mut overlay = overlay(2, 7);
    overlay.store(3, Kind::SipRegistration, "bob@example.org", registration(1), HOUR).unwrap();
    for reader in 0..7 {
        let fetched = overlay.fetch(reader, Kind::SipRegistration, "bob@example.org").unwrap();
        assert_eq!(fetched.entries.len(), 1, "node {reader} found {fetched:?}");
        assert_eq!(fetched.entries[0].value, registration(1));
        let first = overlay.fetch_first(reader, Kind::SipRegistration, "bob@example.org").unwrap();
        assert_eq!(first.entries, fetched.entries);
    }
    overlay.network.run_for(Duration::from_secs(1));
    assert!(overlay.holders(Kind::SipRegistration, "bob@example.org").len() >= 5);
}

#[test]
fn a_writer_reads_what_it_holds_itself_while_two_halves_meet() {
    const NAME: &str = "alice@example.org";
    let mut overlay = overlay(23, 14);
    // Most of the replicas are on the other side, so that after the partition they are the first to be asked.
    let closest = overlay.closest(NAME, 5);
    let (others, writer) = (closest[..4].to_vec(), closest[4]);
    overlay.store(writer, Kind::SipRegistration, NAME, registration(1), HOUR).unwrap();
    overlay.network.partition(|node| usize::from(others.contains(&node)));
    overlay.network.run_for(Duration::from_secs(20));
    overlay.store(writer, Kind::SipRegistration, NAME, registration(2), HOUR).unwrap();
    overlay.network.heal();
    let mut answered_by_others = 0;
    for _ in 0..600 {
        overlay.network.run_for(Duration::from_millis(20));
        let fetched = overlay.fetch(writer, Kind::SipRegistration, NAME).unwrap();
        assert_eq!(fetched.entries.first().map(|entry| &entry.value), Some(&registration(2)), "{fetched:?}");
        answered_by_others += fetched.replicas;
    }
    assert!(answered_by_others > 600, "nobody else was ever asked");
}

#[test]
fn holders_killed_one_after_another_with_repair_in_between_lose_nothing() {
    let mut overlay = overlay(3, 7);
    overlay.store(0, Kind::SipRegistration, "bob@example.org", registration(1), HOUR).unwrap();
    overlay.network.run_for(Duration::from_secs(1));
    for round in 0..5 {
        let reader = 1 + round % 2;
        let holders = overlay.holders(Kind::SipRegistration, "bob@example.org");
        let Some(victim) = holders.into_iter().find(|holder| ![0, 1, 2].contains(holder)) else { break };
        overlay.network.kill(victim);
        // At once, while nobody has noticed: the others have to answer.
        let fetched = overlay.fetch(reader, Kind::SipRegistration, "bob@example.org").unwrap();
        assert_eq!(fetched.entries.len(), 1, "round {round}: {fetched:?}");
        // Six seconds until it is noticed, two to mend.
        overlay.network.run_for(Duration::from_secs(8));
        let alive = overlay.network.alive().len();
        let holders = overlay.holders(Kind::SipRegistration, "bob@example.org").len();
        assert!(holders >= alive.min(5), "round {round}: {holders} of {alive} hold it");
    }
}

#[test]
fn a_removed_record_stays_removed() {
    let mut overlay = overlay(4, 9);
    let name = "bob@example.org";
    overlay.store(2, Kind::SipRegistration, name, registration(1), HOUR).unwrap();
    overlay.network.run_for(Duration::from_secs(1));
    // One holder misses the removal and comes back with the old value.
    let away = *overlay.holders(Kind::SipRegistration, name).iter().find(|holder| **holder != 2).unwrap();
    overlay.network.partition(|node| usize::from(node == away));
    overlay.network.run_for(SILENCE * 2);
    overlay.remove(2, Kind::SipRegistration, name).unwrap();
    overlay.network.run_for(Duration::from_secs(1));
    assert_eq!(overlay.holders(Kind::SipRegistration, name), [away]);
    overlay.network.heal();
    overlay.network.run_for(Duration::from_secs(180));
    assert!(overlay.holders(Kind::SipRegistration, name).is_empty());
    for reader in 0..9 {
        let fetched = overlay.fetch(reader, Kind::SipRegistration, name).unwrap();
        assert!(fetched.entries.is_empty(), "node {reader} found {fetched:?}");
    }
}

#[test]
fn both_sides_of_a_partition_converge_on_the_newest() {
    let mut overlay = overlay(5, 12);
    let name = "bob@example.org";
    overlay.store(0, Kind::SipRegistration, name, registration(1), HOUR).unwrap();
    overlay.store(11, Kind::SipRegistration, name, registration(1), HOUR).unwrap();
    overlay.network.partition(|node| usize::from(node >= 6));
    overlay.network.run_for(SILENCE * 2);
    overlay.store(0, Kind::SipRegistration, name, registration(2), HOUR).unwrap();
    overlay.store(11, Kind::SipRegistration, name, registration(3), HOUR).unwrap();
    let cut = overlay.fetch(3, Kind::SipRegistration, name).unwrap();
    assert!(cut.entries.iter().any(|entry| entry.value == registration(2)));
    overlay.network.heal();
    overlay.network.run_for(Duration::from_secs(240));
    for reader in 0..12 {
        let fetched = overlay.fetch(reader, Kind::SipRegistration, name).unwrap();
        let mut values: Vec<_> = fetched.entries.iter().map(|entry| entry.value.clone()).collect();
        values.sort();
        assert_eq!(values, [registration(2), registration(3)], "node {reader}");
    }
}

#[test]
fn an_acknowledged_value_is_never_read_older_afterwards() {
    let mut overlay = overlay(6, 16);
    let mut random = Seeded::new(1);
    let name = "bob@example.org";
    let writer = 5;
    overlay.store(writer, Kind::SipRegistration, name, registration(0), HOUR).unwrap();
    for round in 1..=60 {
        overlay.store(writer, Kind::SipRegistration, name, registration(round), HOUR).unwrap();
        for _ in 0..3 {
            let alive = overlay.network.alive();
            let reader = alive[random.below(alive.len())];
            let fetched = overlay.fetch(reader, Kind::SipRegistration, name).unwrap();
            let values: Vec<_> = fetched.entries.iter().map(|entry| &entry.value).collect();
            assert_eq!(values, [&registration(round)], "round {round}, node {reader}");
        }
        // Nodes come and go all the while, never so many at once that a majority of the replicas goes with them.
        if round % 4 == 0 {
            let alive = overlay.network.alive();
            let victim = alive[random.below(alive.len())];
            if victim != writer {
                overlay.network.kill(victim);
            }
            let bootstrap = *overlay.network.alive().first().unwrap();
            overlay.add(&["example.org"], Some(bootstrap));
            // Without a single link a node knows nothing.
            overlay.network.run_for(Duration::from_millis(500));
        }
        overlay.network.run_for(Duration::from_secs(random.below(4) as u64));
    }
}

#[test]
fn a_record_is_kept_by_its_owner_and_expires_without_him() {
    let mut overlay = overlay(7, 7);
    let name = "bob@example.org";
    let lifetime = Duration::from_secs(600);
    overlay.store(3, Kind::SipRegistration, name, registration(1), lifetime).unwrap();
    overlay.network.run_for(lifetime * 3);
    assert_eq!(overlay.fetch(1, Kind::SipRegistration, name).unwrap().entries.len(), 1);
    overlay.network.kill(3);
    overlay.network.run_for(lifetime + Duration::from_secs(1));
    assert!(overlay.fetch(1, Kind::SipRegistration, name).unwrap().entries.is_empty());
    assert!(overlay.holders(Kind::SipRegistration, name).is_empty());
}

#[test]
fn what_was_published_before_joining_is_found_soon_after() {
    let mut overlay = overlay(16, 30);
    let late = overlay.add(&["example.org"], None);
    overlay.store(late, Kind::SipRegistration, "bob@example.org", registration(1), HOUR).unwrap();
    overlay.network.dial(late, 0);
    overlay.network.run_for(Duration::from_secs(5));
    overlay.network.kill(late);
    let fetched = overlay.fetch(7, Kind::SipRegistration, "bob@example.org").unwrap();
    assert_eq!(fetched.entries.len(), 1);
    assert!(overlay.holders(Kind::SipRegistration, "bob@example.org").len() >= 4);
}

#[test]
fn a_writer_whose_clock_went_back_is_not_locked_out() {
    // With a single neighbour, who may as well be wrong, nobody tells it the time.
    let mut overlay = overlay(8, 2);
    let name = "bob@example.org";
    overlay.store(1, Kind::SipRegistration, name, registration(1), HOUR).unwrap();
    overlay.network.set_clock(1, -120_000);
    // It has forgotten what it wrote, and dates by the clock alone.
    overlay.restart(1, Some(0));
    overlay.network.run_for(Duration::from_secs(5));
    let id = overlay
        .network
        .with(1, |node, now| node.dht.store(now, Kind::SipRegistration, name, registration(2), HOUR).unwrap());
    let (_, event) = overlay.network.next_event(Duration::from_secs(5)).unwrap();
    assert!(matches!(event, Event::Stored { id: of, result: Ok(_) } if of == id), "{event:?}");
    assert_eq!(overlay.fetch(0, Kind::SipRegistration, name).unwrap().entries[0].value, registration(2));
}

#[test]
fn of_two_writes_under_way_the_later_one_stays() {
    for seed in 17..27 {
        let mut overlay = overlay(seed, 9);
        let name = "bob@example.org";
        for round in 1..=2 {
            overlay.network.with(3, |node, now| {
                node.dht.publish(now, Kind::SipRegistration, name, registration(round), HOUR).unwrap();
            });
            overlay.network.run_for(Duration::from_millis(7 * seed - 100));
        }
        overlay.network.run_for(Duration::from_secs(5));
        let fetched = overlay.fetch(1, Kind::SipRegistration, name).unwrap();
        assert_eq!(fetched.entries[0].value, registration(2), "seed {seed}");
    }
}

#[test]
fn links_slower_than_assumed_are_used_all_the_same() {
    // A request and its answer take half a second to a second: satellites, and lines that are full.
    let latency = (Duration::from_millis(250), Duration::from_millis(500));
    let mut overlay = Overlay::new(28, Conditions { latency, loss_permille: 0 }, Config::default());
    overlay.grow(2, &["example.org"]);
    for record in 0..5 {
        let name = format!("user{record}@example.org");
        let id = overlay
            .network
            .with(0, |node, now| node.dht.publish(now, Kind::SipRegistration, &name, registration(1), HOUR).unwrap());
        let (_, event) = overlay.network.next_event(Duration::from_secs(5)).unwrap();
        let Event::Stored { id: of, result: Ok(receipt) } = &event else { panic!("name {record}: {event:?}") };
        assert_eq!((*of, receipt.acknowledgements), (id, 2), "name {record}");
        assert_eq!(overlay.fetch(1, Kind::SipRegistration, &name).unwrap().entries.len(), 1, "name {record}");
    }
}

#[test]
fn a_write_that_only_its_writer_has_is_not_acknowledged_while_the_others_are_silent() {
    let mut overlay = overlay(29, 5);
    for other in [0, 1, 2, 4] {
        overlay.network.kill(other);
    }
    let written = overlay.store(3, Kind::SipRegistration, "bob@example.org", registration(1), HOUR);
    assert!(written.as_ref().is_err_and(|error| error.contains("did not answer in time")), "{written:?}");
    // Once they are known to be gone, it is all there is.
    overlay.network.run_for(SILENCE * 2);
    overlay.store(3, Kind::SipRegistration, "bob@example.org", registration(2), HOUR).unwrap();
}

#[test]
fn whoever_holds_what_is_not_its_business_does_not_stay_behind() {
    let mut overlay = overlay(30, 20);
    let name = "bob@example.org";
    let writer = overlay.closest(name, 1)[0];
    // Cut off with a few others, it leaves its value with nodes that have no business with it.
    let others = overlay.closest(name, 12);
    overlay.network.partition(|node| usize::from(node != writer && others.contains(&node)));
    overlay.network.run_for(SILENCE * 2);
    overlay.store(writer, Kind::SipRegistration, name, registration(1), HOUR).unwrap();
    overlay.network.run_for(Duration::from_secs(2));
    assert!(overlay.holders(Kind::SipRegistration, name).len() >= 5);
    overlay.network.heal();
    overlay.network.run_for(Duration::from_secs(20));
    overlay.store(writer, Kind::SipRegistration, name, registration(2), HOUR).unwrap();
    overlay.network.run_for(Duration::from_secs(180));
    let held = overlay.held(Kind::SipRegistration, name);
    let times: std::collections::BTreeSet<u64> = held.values().flat_map(|held| held.values().copied()).collect();
    assert_eq!(times.len(), 1, "{held:?}");
}

#[test]
fn a_value_from_the_future_is_refused() {
    let mut overlay = overlay(9, 7);
    overlay.network.set_clock(3, 301_000);
    let refused = overlay.store(3, Kind::SipRegistration, "bob@example.org", registration(1), HOUR);
    assert!(refused.is_err(), "{refused:?}");
    overlay.network.set_clock(3, 299_000);
    overlay.store(3, Kind::SipRegistration, "alice@example.org", registration(1), HOUR).unwrap();
}

#[test]
fn a_record_of_one_who_may_not_speak_for_the_address_is_refused_by_the_storing_nodes() {
    let mut overlay = overlay(10, 7);
    let mallory = overlay.add(&["evil.example"], Some(0));
    overlay.network.run_for(Duration::from_secs(5));
    // Our own writer would not even sign it: the lie has to be put in at the last moment.
    let name = "bob@example.org";
    overlay.store(2, Kind::SipRegistration, "bob@evil.example", registration(1), HOUR).unwrap_err();
    for (what, forge) in forged_writes(name) {
        overlay.network.with(mallory, |node, _| node.set_forger(forge));
        let refused = overlay.store(mallory, Kind::SipRegistration, "bob@evil.example", registration(1), HOUR);
        let refused = refused.expect_err(what);
        assert!(refused.contains("refuse"), "{what}: {refused}");
        for reader in 0..7 {
            let fetched = overlay.fetch(reader, Kind::SipRegistration, name).unwrap();
            assert!(fetched.entries.is_empty(), "{what}: node {reader} believes {fetched:?}");
        }
    }
}

/// Ways to write what one may not, each put into the messages that a node sends.
fn forged_writes(name: &'static str) -> Vec<(&'static str, Forger)> {
    type Change = fn(&mut Record, &'static str);
    let changes: [(&'static str, Change); 5] = [
        ("another's address under one's own certificate", |record, name| record.value.name = name.to_owned()),
        ("a value changed after it was signed", |record, _| record.value.content = registration(99)),
        ("a signature of zeros", |record, _| {
            record.value.signature = meshtone_identity::Signature::from_bytes([0; 64])
        }),
        ("no certificates", |record, _| record.certificates.clear()),
        ("another's entry", |record, _| record.value.key = vec![7; 32]),
    ];
    let forge = move |change: Change| -> Forger {
        Box::new(move |transmit| Some(change_stores(transmit, &|record| change(record, name))))
    };
    changes.into_iter().map(|(what, change)| (what, forge(change))).collect()
}

fn change_stores(transmit: Transmit, change: &dyn Fn(&mut Record)) -> Transmit {
    let Ok(Message::Request(mut request)) = Message::decode(&transmit.bytes) else { return transmit };
    let ask = match Ask::decode(&request.body) {
        Ok(Ask::Store(mut values)) => {
            values.iter_mut().for_each(|handed: &mut Handed| change(&mut handed.record));
            Ask::Store(values)
        }
        Ok(Ask::Put(mut handed)) => {
            change(&mut handed.record);
            Ask::Put(handed)
        }
        Ok(
            Ask::Find(_)
            | Ask::Fetch { .. }
            | Ask::Offer(_)
            | Ask::Clock
            | Ask::Listen { .. }
            | Ask::Changed(_)
            | Ask::Moved { .. },
        )
        | Err(_) => return transmit,
    };
    request.body = ask.encode().into();
    Transmit { bytes: Message::Request(request).encode(), ..transmit }
}

#[test]
fn a_storing_node_that_lies_is_not_believed() {
    type Lie = fn(&mut Vec<Record>);
    let name = "bob@example.org";
    let lies: [(&str, Lie); 4] = [
        ("an altered value", |records| records.iter_mut().for_each(|record| record.value.content = registration(99))),
        ("a forged signature", |records| {
            let forged = meshtone_identity::Signature::from_bytes([1; 64]);
            records.iter_mut().for_each(|record| record.value.signature = forged);
        }),
        ("a removal that nobody wrote", |records| {
            for record in records {
                record.value.exists = false;
                record.value.content = bytes::Bytes::new();
                record.value.storage_ms += 1;
            }
        }),
        ("nothing", Vec::clear),
    ];
    for (what, lie) in lies {
        let mut overlay = overlay(11, 9);
        overlay.store(2, Kind::SipRegistration, name, registration(1), HOUR).unwrap();
        overlay.network.run_for(Duration::from_secs(1));
        let holders = overlay.holders(Kind::SipRegistration, name);
        for liar in holders.into_iter().take(2) {
            overlay
                .network
                .with(liar, |node, _| node.set_forger(Box::new(move |transmit| Some(change_answers(transmit, lie)))));
        }
        for reader in 0..9 {
            for fetched in [
                overlay.fetch(reader, Kind::SipRegistration, name),
                overlay.fetch_first(reader, Kind::SipRegistration, name),
            ] {
                let fetched = fetched.unwrap();
                let values: Vec<_> = fetched.entries.iter().map(|entry| &entry.value).collect();
                assert_eq!(values, [&registration(1)], "{what}, told to node {reader}");
            }
        }
    }
}

#[test]
fn a_storing_node_that_shows_an_old_record_is_outvoted() {
    let name = "bob@example.org";
    let mut overlay = overlay(12, 9);
    overlay.store(2, Kind::SipRegistration, name, registration(1), HOUR).unwrap();
    overlay.network.run_for(Duration::from_secs(1));
    let liars: Vec<usize> =
        overlay.holders(Kind::SipRegistration, name).into_iter().filter(|holder| *holder != 2).take(2).collect();
    for liar in &liars {
        // It remembers the first thing it said, and says nothing else ever after.
        let mut old = None;
        let forger: Forger = Box::new(move |transmit| {
            Some(change_answers(transmit, |records| {
                if !records.is_empty() {
                    *records = old.get_or_insert_with(|| records.clone()).clone();
                }
            }))
        });
        overlay.network.with(*liar, |node, _| node.set_forger(forger));
    }
    for reader in 0..9 {
        overlay.fetch(reader, Kind::SipRegistration, name).unwrap();
    }
    overlay.store(2, Kind::SipRegistration, name, registration(2), HOUR).unwrap();
    for reader in (0..9).filter(|reader| !liars.contains(reader)) {
        let fetched = overlay.fetch(reader, Kind::SipRegistration, name).unwrap();
        assert_eq!(fetched.entries[0].value, registration(2), "node {reader}");
    }
}

fn change_answers(transmit: Transmit, mut change: impl FnMut(&mut Vec<Record>)) -> Transmit {
    let Ok(Message::Answer(mut answer)) = Message::decode(&transmit.bytes) else { return transmit };
    let Ok(Reply::Values(mut records)) = Reply::decode(&answer.body) else { return transmit };
    change(&mut records);
    answer.body = Reply::Values(records).encode().into();
    Transmit { bytes: Message::Answer(answer).encode(), ..transmit }
}

#[test]
fn a_node_writes_its_own_address_and_no_other() {
    let mut overlay = overlay(13, 7);
    let own = overlay.network.driver(4).node_id().to_string();
    overlay.store(4, Kind::NodeAddress, &own, address(4), Duration::from_secs(600)).unwrap();
    assert_eq!(overlay.fetch(1, Kind::NodeAddress, &own).unwrap().entries[0].value, address(4));
    let other = overlay.network.driver(5).node_id().to_string();
    let refused = overlay.store(4, Kind::NodeAddress, &other, address(4), Duration::from_secs(600)).unwrap_err();
    assert!(refused.contains("may not write"), "{refused}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut overlay = overlay(seed, 9);
        overlay.store(2, Kind::SipRegistration, "bob@example.org", registration(1), HOUR).unwrap();
        overlay.network.kill(4);
        overlay.network.run_for(Duration::from_secs(120));
        (overlay.network.traffic(), overlay.network.elapsed())
    };
    assert_eq!(run(14), run(14));
    assert_ne!(run(14), run(15));
}
