//! A handful of nodes in virtual time: removal, partitions, liars, replicas that die one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use meshtone_overlay::dht::Config;
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay};

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
    assert_eq!(overlay.holders(Kind::SipRegistration, "bob@example.org").len(), 5);
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
        assert_eq!(holders, alive.min(5), "round {round}: {holders} of {alive} hold it");
    }
}
