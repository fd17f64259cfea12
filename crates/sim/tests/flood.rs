//! Writers who store more than anybody should (threat 29): the room of a node stays bounded, the greedy lose, and nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use meshtone_overlay::dht::message::RefusalReason;
use meshtone_overlay::dht::{Config, DhtError, Event};
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay};

const KIND: Kind = Kind::SipRegistration;
const HOUR: Duration = Duration::from_secs(3600);
const HONEST: usize = 6;
const VALUES: usize = 8;

/// Where six nodes keep all values of each other, this is soon full.
const MAX_VALUES: usize = 120;

/// An overlay of honest nodes, each of a domain of its own, and of flooders of these domains, who come last.
fn overlay(seed: u64, config: Config, flooders: &[&str]) -> Overlay {
    let mut overlay = Overlay::new(seed, Conditions::default(), config);
    let honest: Vec<String> = (0..HONEST).map(domain).collect();
    for domain in honest.iter().map(String::as_str).chain(flooders.iter().copied()) {
        let bootstrap = (!overlay.network.is_empty()).then_some(0);
        overlay.add(&[domain], bootstrap);
        overlay.network.run_for(Duration::from_millis(300));
    }
    overlay.network.run_for(Duration::from_secs(5));
    overlay
}

fn domain(node: usize) -> String {
    format!("home{node}.example")
}

fn name(node: usize, value: usize) -> String {
    format!("user{value}@{}", domain(node))
}

/// Lets each honest node publish its values.
fn publish(overlay: &mut Overlay, values: std::ops::Range<usize>) {
    for node in 0..HONEST {
        for value in values.clone() {
            overlay.store(node, KIND, &name(node, value), registration(1), HOUR).unwrap();
        }
    }
}

/// Lets a node store values as fast as it can; returns how many were refused for want of room.
fn flood(overlay: &mut Overlay, node: usize, domain: &str, values: usize) -> usize {
    let mut refused = 0;
    for value in 0..values {
        let id = overlay.network.with(node, |driver, now| {
            let name = format!("flood{node}-{value}@{domain}");
            driver.dht.store(now, KIND, &name, registration(1), HOUR).unwrap()
        });
        while let Some((at, event)) = overlay.network.next_event(Duration::from_secs(10)) {
            let Event::Stored { id: of, result } = event else { continue };
            if (at, of) == (node, id) {
                let full = |error: DhtError| matches!(error, DhtError::Refused { refusal, .. } if refusal.reason == RefusalReason::Full);
                refused += usize::from(result.is_err_and(full));
                break;
            }
        }
    }
    refused
}

/// Every honest value is found by somebody else, all that many of them.
fn assert_all_found(overlay: &mut Overlay, values: usize) {
    for node in 0..HONEST {
        for value in 0..values {
            let fetched = overlay.fetch((node + 1) % HONEST, KIND, &name(node, value)).unwrap();
            assert_eq!(fetched.entries.len(), 1, "{} of {fetched:?}", name(node, value));
        }
    }
}

/// No node holds more than it may.
fn assert_bounded(overlay: &Overlay) {
    for node in overlay.network.alive() {
        let held: usize = overlay.network.driver(node).dht.records_held().iter().map(|(_, count)| count).sum();
        assert!(held <= MAX_VALUES, "node {node} holds {held}");
    }
}

#[test]
fn two_flooding_writers_leave_everybody_elses_values_and_the_room_for_new_ones() {
    let config = Config { max_values: MAX_VALUES, ..Config::default() };
    let mut overlay = overlay(71, config, &["evil.example", "wicked.example"]);
    publish(&mut overlay, 0..VALUES);
    let refused = flood(&mut overlay, HONEST, "evil.example", 2 * MAX_VALUES)
        + flood(&mut overlay, HONEST + 1, "wicked.example", 2 * MAX_VALUES);
    assert!(refused > 0, "the flooders were never told that there is no more room");
    assert_bounded(&overlay);
    assert_all_found(&mut overlay, VALUES);
    publish(&mut overlay, VALUES..VALUES + 2);
    // Two rounds of the repair bring back what should not be there, if anything does.
    overlay.network.run_for(Duration::from_secs(150));
    assert_bounded(&overlay);
    assert_all_found(&mut overlay, VALUES + 2);
}

#[test]
fn a_flood_by_several_home_nodes_of_one_domain_counts_as_one() {
    let config = Config { max_values: MAX_VALUES / 2, ..Config::default() };
    let mut overlay = overlay(72, config, &["evil.example"; 4]);
    // One honest domain has more than a fair share would be, if each of the flooders had one.
    let names: Vec<String> = (0..40).map(|value| name(0, value)).collect();
    for name in &names {
        overlay.store(0, KIND, name, registration(1), HOUR).unwrap();
    }
    for flooder in HONEST..HONEST + 4 {
        flood(&mut overlay, flooder, "evil.example", MAX_VALUES);
    }
    for name in &names {
        let holders = overlay.holders(KIND, name).len();
        assert!(holders >= Config::default().replicas, "{name} has {holders} replicas left");
    }
}

#[test]
fn room_is_bounded_in_bytes_as_well() {
    let config = Config { max_bytes: 64 * 1024, ..Config::default() };
    let mut overlay = overlay(73, config, &["evil.example"]);
    publish(&mut overlay, 0..3);
    let refused = flood(&mut overlay, HONEST, "evil.example", 150);
    assert!(refused > 0, "64 KiB took everything");
    assert_all_found(&mut overlay, 3);
    publish(&mut overlay, 3..4);
    assert_all_found(&mut overlay, 4);
}
