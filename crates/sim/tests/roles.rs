//! Nodes that decide by themselves whether they serve: those that others reach do, the others do not, and no value is lost by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use meshtone_overlay::dht::message::Message;
use meshtone_overlay::dht::{Config, Event, FEW, MANY, RoleChoice, Transmit};
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Nat, Overlay, Seeded};

const KIND: Kind = Kind::SipRegistration;
const MINUTE: Duration = Duration::from_secs(60);
const LIFETIME: Duration = Duration::from_secs(7200);

/// The nodes of this number at the beginning have addresses of their own.
const OPEN: usize = 20;

/// An overlay whose nodes decide; every other one after the first is behind a box. With fewer links than usual there are strangers
/// among fewer nodes.
fn overlay(seed: u64) -> Overlay {
    let config = Config { role: RoleChoice::Auto, max_links: 24, persist: true, ..Config::default() };
    let mut overlay = Overlay::new(seed, Conditions::default(), config);
    overlay.network.set_reachable(Box::new(|from, to| nat(from).reaches(nat(to), false)));
    overlay
}

fn nat(node: usize) -> Nat {
    if node < OPEN || node.is_multiple_of(2) { Nat::Open } else { Nat::PortRestricted }
}

fn grow(overlay: &mut Overlay, nodes: usize, pace: Duration) {
    let mut random = Seeded::new(nodes as u64);
    for _ in 0..nodes {
        let known = overlay.network.len();
        // Who invites them has an address that can be dialled.
        overlay.add(&["example.org"], (known > 0).then(|| random.below(known.min(OPEN))));
        overlay.network.run_for(pace);
    }
}

fn serves(overlay: &Overlay, node: usize) -> bool {
    overlay.network.driver(node).dht.serves()
}

fn serving(overlay: &Overlay) -> Vec<usize> {
    overlay.network.alive().into_iter().filter(|node| serves(overlay, *node)).collect()
}

fn name(record: usize) -> String {
    format!("user{record}@example.org")
}

/// Stores a value once, from any node: no owner stores it again.
fn store_once(overlay: &mut Overlay, record: usize) {
    let alive = overlay.network.alive();
    let writer = alive[record * 7 % alive.len()];
    let id = overlay
        .network
        .with(writer, |node, now| node.dht.store(now, KIND, &name(record), registration(1), LIFETIME).unwrap());
    let (_, event) = overlay.network.next_event(Duration::from_secs(10)).expect("the write ends");
    assert!(matches!(&event, Event::Stored { id: of, result: Ok(_) } if *of == id), "record {record}: {event:?}");
}

/// Returns the records that a reader somewhere does not find.
fn missed(overlay: &mut Overlay, records: usize) -> Vec<usize> {
    let alive = overlay.network.alive();
    let is_missed = |record: &usize| {
        let reader = alive[(record * 13 + 5) % alive.len()];
        let fetched = overlay.fetch(reader, KIND, &name(*record));
        !fetched.is_ok_and(|fetched| fetched.entries.len() == 1)
    };
    (0..records).filter(is_missed).collect()
}

#[test]
fn who_is_reached_serves_who_is_not_does_not_and_no_value_is_lost() {
    const NODES: usize = 120;
    const RECORDS: usize = 60;
    let mut overlay = overlay(1);
    grow(&mut overlay, NODES, Duration::from_millis(500));
    let at_first = serving(&overlay);
    assert!(at_first.len() < NODES / 2, "newcomers serve before anybody knows them: {at_first:?}");
    (0..RECORDS).for_each(|record| store_once(&mut overlay, record));
    for minute in 0..50 {
        overlay.network.run_for(MINUTE);
        if minute % 5 == 0 {
            let missed = missed(&mut overlay, RECORDS);
            assert!(missed.is_empty(), "{missed:?} missed in minute {minute}");
        }
    }
    let wrong: Vec<usize> = (0..NODES).filter(|node| serves(&overlay, *node) != (nat(*node) == Nat::Open)).collect();
    println!("{} of {NODES} serve; at first {}; in the wrong role: {wrong:?}", serving(&overlay).len(), at_first.len());
    assert!(wrong.len() <= 2, "in the wrong role: {wrong:?}");
    for node in (0..NODES).filter(|node| !serves(&overlay, *node)) {
        let held: usize = overlay.network.driver(node).dht.records_held().iter().map(|(_, count)| count).sum();
        assert_eq!(held, 0, "node {node} holds something");
    }
}

#[test]
fn five_hundred_nodes_that_join_within_a_minute_lose_nothing_and_find_their_roles() {
    const NODES: usize = 500;
    const RECORDS: usize = 100;
    let mut overlay = overlay(2);
    grow(&mut overlay, OPEN, Duration::from_millis(500));
    overlay.network.run_for(Duration::from_secs(10));
    (0..RECORDS).for_each(|record| store_once(&mut overlay, record));
    grow(&mut overlay, NODES - OPEN, Duration::from_millis(125));
    let missed_at_once = missed(&mut overlay, RECORDS);
    assert!(missed_at_once.is_empty(), "{missed_at_once:?} missed while they join");
    let at_first = serving(&overlay).len();
    for _ in 0..3 {
        overlay.network.run_for(6 * MINUTE);
        let missed = missed(&mut overlay, RECORDS);
        assert!(missed.is_empty(), "{missed:?} missed at {:?}", overlay.network.elapsed());
    }
    let wrong = (0..NODES).filter(|node| serves(&overlay, *node) != (nat(*node) == Nat::Open)).count();
    println!("{} of {NODES} serve, {at_first} at first; {wrong} in the wrong role", serving(&overlay).len());
    assert!(at_first < NODES / 5, "{at_first} newcomers serve before anybody knows them");
    assert!(wrong <= NODES / 50, "{wrong} in the wrong role after {:?}", overlay.network.elapsed());
}

/// Says the contrary of what came of dials for others, one's own and those of others.
fn contradict(transmit: Transmit) -> Transmit {
    let message = match Message::decode(&transmit.bytes).unwrap() {
        Message::DialledBack { number, reached } => Message::DialledBack { number, reached: reached.map(|was| !was) },
        Message::Report { number, dialler, reached } => {
            let reached = if reached.is_some() { None } else { Some(Default::default()) };
            Message::Report { number, dialler, reached }
        }
        message @ (Message::Request(_)
        | Message::Answer(_)
        | Message::Introduce { .. }
        | Message::Meet(_)
        | Message::Visit
        | Message::Acknowledge { .. }
        | Message::Neighbours(_)
        | Message::Role { .. }
        | Message::Test { .. }
        | Message::DialBack(_)) => message,
    };
    Transmit { bytes: message.encode(), ..transmit }
}

#[test]
fn a_tenth_that_lie_about_who_was_reached_make_hardly_anybody_change_its_role() {
    const NODES: usize = 100;
    let mut overlay = overlay(3);
    grow(&mut overlay, NODES, Duration::from_millis(500));
    for liar in (0..NODES).step_by(10) {
        overlay.network.with(liar, |node, _| node.set_forger(Box::new(|transmit| Some(contradict(transmit)))));
    }
    overlay.network.run_for(60 * MINUTE);
    let wrong: Vec<usize> = (0..NODES).filter(|node| serves(&overlay, *node) != (nat(*node) == Nat::Open)).collect();
    println!("in the wrong role: {wrong:?}");
    assert!(wrong.len() <= NODES / 20, "{wrong:?}");
}

#[test]
fn when_those_who_serve_die_others_serve_in_their_stead_though_nobody_reaches_them() {
    const NODES: usize = 40;
    const RECORDS: usize = 30;
    let mut overlay = overlay(4);
    // Anybody may dial anybody, but for tests: links of nodes behind boxes are made by themselves.
    overlay.network.set_reachable(Box::new(|_, _| true));
    grow(&mut overlay, NODES, Duration::from_secs(2));
    overlay.network.run_for(MINUTE);
    let at_first = serving(&overlay);
    assert!((FEW as usize..NODES - 4).contains(&at_first.len()), "{at_first:?} serve");
    (0..RECORDS).for_each(|record| store_once(&mut overlay, record));
    // One after the other, as fast as what they held is made good.
    for victim in at_first.iter().skip(1).take(at_first.len() - 4) {
        overlay.network.kill(*victim);
        overlay.network.run_for(Duration::from_secs(15));
    }
    overlay.network.run_for(4 * MINUTE);
    let left = serving(&overlay);
    let wanted = (FEW as usize).min(overlay.network.alive().len());
    println!("{} served, {} of {} do now", at_first.len(), left.len(), overlay.network.alive().len());
    assert!(left.len() >= wanted - 4, "{left:?} serve, {wanted} should");
    let missed = missed(&mut overlay, RECORDS);
    assert!(missed.is_empty(), "{missed:?} missed");
}

#[test]
fn a_node_that_comes_and_goes_changes_its_role_ever_more_seldom_and_nobody_else_does() {
    const NODES: usize = 48;
    const FLAPPER: usize = 40;
    let mut overlay = overlay(5);
    let (open, seen) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(true)));
    let is_open = Rc::clone(&open);
    overlay.network.set_reachable(Box::new(move |_, to| to != FLAPPER || is_open.get()));
    grow(&mut overlay, NODES, Duration::from_millis(500));
    overlay.network.run_for(60 * MINUTE);
    assert!(serving(&overlay).len() >= MANY as usize);
    let others = |overlay: &Overlay| (0..NODES).filter(|node| *node != FLAPPER && serves(overlay, *node)).count();
    let (others_before, mut changes) = (others(&overlay), Vec::new());
    seen.set(serves(&overlay, FLAPPER));
    for minute in 0..6 * 60 {
        if minute % 20 == 0 {
            open.set(!open.get());
        }
        overlay.network.run_for(MINUTE);
        if serves(&overlay, FLAPPER) != seen.get() {
            seen.set(!seen.get());
            changes.push(minute);
        }
    }
    println!("changes in minutes {changes:?}");
    assert!((2..=8).contains(&changes.len()), "changes in minutes {changes:?}");
    assert!(others(&overlay).abs_diff(others_before) <= 1, "{others_before} others served, {} do", others(&overlay));
}
