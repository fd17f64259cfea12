//! Listening in virtual time: what changes is told soon, whatever was lost, lied about or never told is found in the end, and
//! nothing else is shown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use meshtone_overlay::dht::body::{Ask, Failure, Offer, Reply};
use meshtone_overlay::dht::message::{Answer, Message, Request};
use meshtone_overlay::dht::{Config, Event, Transmit};
use meshtone_overlay::record::{Kind, ResourceId, SipRegistration};
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay, Seeded};

const KIND: Kind = Kind::SipRegistration;
const HOUR: Duration = Duration::from_secs(3600);
const DOMAIN: &str = "example.org";

/// Replicas are asked again to tell after this at the latest.
const RENEWAL: Duration = Duration::from_secs(300);

fn name(record: usize) -> String {
    format!("user{record}@{DOMAIN}")
}

fn overlay(seed: u64, serving: usize, ordinary: usize) -> Overlay {
    let mut overlay = Overlay::new(seed, Conditions::default(), Config::default());
    overlay.grow(serving, &[DOMAIN]);
    for number in 0..ordinary {
        overlay.add_ordinary(&[DOMAIN], Some(number % serving));
    }
    overlay.network.run_for(Duration::from_secs(30));
    overlay
}

fn listen(overlay: &mut Overlay, node: usize, record: usize) {
    overlay.network.with(node, |driver, now| driver.dht.listen(now, KIND, &name(record))).unwrap();
}

fn publish(overlay: &mut Overlay, node: usize, record: usize, sequence: u64) {
    let content = registration(sequence);
    overlay.network.with(node, |driver, now| driver.dht.publish(now, KIND, &name(record), content, HOUR)).unwrap();
}

/// What is told within a time, by listener and name: all of it, in order, as what the entries say.
type Told = BTreeMap<(usize, String), Vec<Vec<u64>>>;

fn told_within(overlay: &mut Overlay, duration: Duration) -> Told {
    let (mut told, end) = (Told::new(), overlay.network.elapsed() + duration);
    while let Some((node, event)) = overlay.network.next_event(end.saturating_sub(overlay.network.elapsed())) {
        if let Event::Changed { name, entries, .. } = event {
            let said = entries.iter().map(|entry| SipRegistration::decode(&entry.value).unwrap().updated_ms);
            told.entry((node, name)).or_default().push(said.collect());
        }
    }
    overlay.network.run_for(end.saturating_sub(overlay.network.elapsed()));
    told
}

/// What a listener was told last of each name.
fn last_told(all: &[Told]) -> BTreeMap<(usize, String), Vec<u64>> {
    let each = all.iter().flatten().filter_map(|(who, said)| Some((who.clone(), said.last()?.clone())));
    each.collect()
}

#[test]
fn every_change_is_told_once_and_within_a_second_to_whoever_listens_serving_or_not() {
    let (serving, ordinary, records) = (90, 10, 10);
    let mut overlay = overlay(71, serving, ordinary);
    let listeners: Vec<(usize, usize)> =
        (0..records).flat_map(|record| [(record * 7 + 3, record), (serving + record, record)]).collect();
    for (node, record) in &listeners {
        listen(&mut overlay, *node, *record);
    }
    let at_first = told_within(&mut overlay, Duration::from_secs(10));
    let expect = |said: &[u64]| -> Told {
        listeners.iter().map(|(node, record)| ((*node, name(*record)), vec![said.to_vec()])).collect()
    };
    assert_eq!(at_first, expect(&[]), "there is nothing yet");
    for sequence in 1..=3 {
        (0..records).for_each(|record| publish(&mut overlay, record * 5 + 1, record, sequence));
        assert_eq!(told_within(&mut overlay, Duration::from_secs(1)), expect(&[sequence]), "change {sequence}");
        overlay.network.run_for(Duration::from_secs(5));
    }
    for record in 0..records {
        overlay.network.with(record * 5 + 1, |driver, now| driver.dht.remove(now, KIND, &name(record))).unwrap();
    }
    assert_eq!(told_within(&mut overlay, Duration::from_secs(1)), expect(&[]), "it was removed");
    assert_eq!(told_within(&mut overlay, RENEWAL * 2), Told::new(), "nothing happens any more");
}

#[test]
fn while_half_of_the_nodes_are_replaced_every_change_is_told_within_seconds() {
    let (nodes, records) = (100, 10);
    let mut overlay = overlay(72, nodes, 0);
    let mut random = Seeded::new(72);
    // Those who write and who listen stay.
    (0..records).for_each(|record| listen(&mut overlay, record, record));
    let mut all = vec![told_within(&mut overlay, Duration::from_secs(10))];
    let mut old: Vec<usize> = (2 * records..nodes).collect();
    // When each change was made that its listener has not been told of yet, and how long it took otherwise.
    let (mut untold, mut took) = (BTreeMap::new(), Vec::new());
    for turn in 0..nodes / 2 + 10 {
        let now = overlay.network.elapsed();
        if turn < nodes / 2 {
            overlay.network.kill(old.remove(random.below(old.len())));
            overlay.add(&[DOMAIN], Some(random.below(records)));
            publish(&mut overlay, records + turn % records, turn % records, turn as u64 + 1);
            untold.insert((turn % records, turn as u64 + 1), now);
        }
        for step in 1..=4 {
            let told = told_within(&mut overlay, Duration::from_millis(500));
            for ((listener, _), said) in &told {
                let newest = said.iter().flatten().max().copied().unwrap_or_default();
                untold.retain(|(record, sequence), at| {
                    let hears = record == listener && *sequence <= newest;
                    if hears {
                        took.push(now + Duration::from_millis(500) * step - *at);
                    }
                    !hears
                });
            }
            all.push(told);
        }
    }
    took.sort_unstable();
    println!("told of after {took:?}");
    assert!(untold.is_empty(), "{untold:?}");
    assert!(
        took[took.len() / 2] <= Duration::from_millis(500) && took.last() <= Some(&Duration::from_secs(6)),
        "{took:?}"
    );
    let last = (nodes / 2 - records) as u64;
    let expected: BTreeMap<_, _> =
        (0..records).map(|record| ((record, name(record)), vec![last + record as u64 + 1])).collect();
    assert_eq!(last_told(&all), expected);
    // What was told never went back.
    let mut shown: BTreeMap<&(usize, String), Vec<u64>> = BTreeMap::new();
    for (who, said) in all.iter().flatten() {
        shown.entry(who).or_default().extend(said.iter().flatten());
    }
    assert!(shown.values().all(|said| said.is_sorted()), "{shown:?}");
}

/// Lets every replica drop what it would tell.
fn silence(overlay: &mut Overlay) {
    for node in overlay.network.alive() {
        overlay.network.with(node, |driver, _| {
            driver.set_forger(Box::new(|transmit| {
                let told = matches!(Message::decode(&transmit.bytes), Ok(Message::Request(request))
                    if matches!(Ask::decode(&request.body), Ok(Ask::Changed(_) | Ask::Moved { .. })));
                (!told).then_some(transmit)
            }));
        });
    }
}

#[test]
fn what_liars_do_not_tell_is_found_with_the_renewal() {
    let mut overlay = overlay(73, 60, 1);
    [3, 60].into_iter().for_each(|node| listen(&mut overlay, node, 0));
    publish(&mut overlay, 5, 0, 1);
    let first = told_within(&mut overlay, Duration::from_secs(10));
    silence(&mut overlay);
    publish(&mut overlay, 5, 0, 2);
    // An ordinary node reads by itself as well, whatever its neighbours say.
    let then = told_within(&mut overlay, RENEWAL + Duration::from_secs(10));
    assert_eq!(last_told(&[first, then]), [3, 60].map(|node| ((node, name(0)), vec![2])).into());
}

#[test]
fn what_liars_tell_shows_nothing_and_causes_few_reads() {
    let mut overlay = overlay(74, 60, 0);
    publish(&mut overlay, 5, 0, 1);
    listen(&mut overlay, 3, 0);
    assert_eq!(last_told(&[told_within(&mut overlay, Duration::from_secs(10))]).len(), 1);
    let (victim, liar) = [3, 4].map(|node| overlay.network.driver(node).node_id()).into();
    overlay.network.dial(4, 3);
    overlay.network.run_for(Duration::from_secs(1));
    let before = overlay.network.sent_by(3).messages;
    overlay.network.run_for(Duration::from_secs(60));
    let usual = overlay.network.sent_by(3).messages - before;
    let before = overlay.network.sent_by(3).messages;
    let (mut number, mut told) = (0, Told::new());
    for _ in 0..600 {
        number += 1;
        // Of a key and a time that there never was.
        let offer = Offer {
            resource: ResourceId::of_name(&name(0)),
            kind: KIND,
            key: vec![u8::try_from(number % 251).unwrap(); 32],
            storage_ms: u64::MAX,
            digest: [9; 32],
        };
        let body = Ask::Changed(vec![offer]).encode().into();
        let request = Request { origin: liar, request: number, target: victim.into(), exact: true, hops: 0, body };
        let bytes = Message::Request(request).encode();
        overlay.network.with(4, |driver, _| driver.send(Transmit { to: victim, bytes }));
        told.extend(told_within(&mut overlay, Duration::from_millis(100)));
    }
    assert_eq!(told, Told::new());
    let caused = (overlay.network.sent_by(3).messages - before).saturating_sub(usual + 600);
    assert!(caused < 300, "600 lies in a minute caused {caused} messages");
}

/// Makes a node one of the release that knows no listeners.
fn grow_old(overlay: &mut Overlay, node: usize) {
    overlay.network.with(node, |driver, _| {
        let me = driver.node_id();
        driver.set_hijacker(Some(Box::new(move |from, bytes| {
            let Ok(Message::Request(request)) = Message::decode(bytes) else { return None };
            let is_for_me = request.exact && request.target == me.into();
            if !is_for_me
                || !matches!(Ask::decode(&request.body), Ok(Ask::Listen { .. } | Ask::Changed(_) | Ask::Moved { .. }))
            {
                return None;
            }
            let body: Bytes = Reply::Failed(Failure::NotUnderstood).encode().into();
            let (origin, number, hops) = (request.origin, request.request, request.hops);
            let answer = Answer { origin, request: number, responder: me, hops, nodes: Vec::new(), body };
            Some(Transmit { to: from, bytes: Message::Answer(answer).encode() })
        })));
    });
}

#[test]
fn where_nodes_of_an_earlier_release_hold_the_value_it_is_read_every_minute() {
    let mut overlay = overlay(75, 20, 1);
    (0..20).for_each(|node| grow_old(&mut overlay, node));
    let listeners = [3, 20];
    listeners.into_iter().for_each(|node| listen(&mut overlay, node, 0));
    publish(&mut overlay, 5, 0, 1);
    let mut all = vec![told_within(&mut overlay, Duration::from_secs(70))];
    for sequence in 2..5 {
        publish(&mut overlay, 5, 0, sequence);
        all.push(told_within(&mut overlay, Duration::from_secs(65)));
        let expected = listeners.map(|node| ((node, name(0)), vec![sequence])).into();
        assert_eq!(last_told(&all), expected, "change {sequence}");
    }
}
