//! Ordinary nodes in virtual time: they use the overlay through those that serve, and nobody counts on them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use meshtone_overlay::dht::Config;
use meshtone_overlay::dht::config::CLIENT_LINKS;
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay};

const HOUR: Duration = Duration::from_secs(3600);
const SETTLING: Duration = Duration::from_secs(90);
const REGISTRATION: Kind = Kind::SipRegistration;

/// An overlay of nodes that serve and, numbered after them, of ordinary ones; all of example.org.
fn overlay(seed: u64, serving: usize, ordinary: usize) -> Overlay {
    let mut overlay = Overlay::new(seed, Conditions::default(), Config { persist: true, ..Config::default() });
    for number in 0..serving + ordinary {
        let bootstrap = (number > 0).then(|| number % serving.min(number));
        if number < serving {
            overlay.add(&["example.org"], bootstrap);
        } else {
            overlay.add_ordinary(&["example.org"], bootstrap);
        }
        overlay.network.run_for(Duration::from_millis(300));
    }
    overlay.network.run_for(SETTLING);
    overlay
}

fn name(number: usize) -> String {
    format!("user{number}@example.org")
}

#[test]
fn what_ordinary_nodes_store_everybody_finds_and_only_serving_ones_hold() {
    let (serving, ordinary) = (8, 12);
    let mut overlay = overlay(1, serving, ordinary);
    let all = serving + ordinary;
    for writer in 0..all {
        overlay.store(writer, REGISTRATION, &name(writer), registration(1), HOUR).unwrap();
    }
    overlay.network.run_for(SETTLING);
    for reader in 0..all {
        let of = (reader * 7 + 3) % all;
        let fetched = overlay.fetch(reader, REGISTRATION, &name(of)).unwrap();
        assert_eq!(fetched.entries.len(), 1, "node {reader} reads of {of}: {fetched:?}");
        assert!(overlay.fetch(reader, REGISTRATION, "nobody@example.org").unwrap().entries.is_empty());
    }
    for writer in 0..all {
        let holders = overlay.holders(REGISTRATION, &name(writer));
        assert!(holders.len() >= 5 && holders.iter().all(|holder| *holder < serving), "{writer} at {holders:?}");
    }
    let ids: Vec<_> = (0..all).map(|node| overlay.network.driver(node).node_id()).collect();
    for node in 0..all {
        let dht = &overlay.network.driver(node).dht;
        let routed = dht.known_peers();
        assert!(routed.iter().all(|peer| ids[..serving].contains(&peer.node)), "node {node} counts on an ordinary one");
        if node >= serving {
            assert!((1..=CLIENT_LINKS).contains(&dht.links().len()), "node {node} has {} links", dht.links().len());
            assert!(dht.records_held().iter().all(|(_, count)| *count == 0));
        }
    }
}

#[test]
fn an_ordinary_node_is_found_while_those_that_serve_die_one_after_another() {
    let mut overlay = overlay(2, 9, 3);
    overlay.store(9, REGISTRATION, &name(9), registration(1), HOUR).unwrap();
    for victim in 1..5 {
        overlay.network.kill(victim);
        overlay.network.run_for(Duration::from_secs(20));
        for reader in [0, 10, 11] {
            let fetched = overlay.fetch(reader, REGISTRATION, &name(9)).unwrap();
            assert_eq!(fetched.entries.len(), 1, "node {reader}, after {victim} died: {fetched:?}");
        }
        overlay.store(9, REGISTRATION, &name(9), registration(1 + victim as u64), HOUR).unwrap();
    }
}

#[test]
fn who_stops_serving_leaves_what_it_holds_to_others_and_nothing_is_lost() {
    let mut overlay = overlay(3, 7, 1);
    let names: Vec<String> = (0..40).map(name).collect();
    for (number, name) in names.iter().enumerate() {
        overlay.store(number % 8, REGISTRATION, name, registration(1), HOUR).unwrap();
    }
    for node in [6, 5, 4] {
        overlay.restart_as(node, Some(0), false);
        overlay.network.run_for(Duration::from_secs(180));
        let held: usize = overlay.network.driver(node).dht.records_held().iter().map(|(_, count)| count).sum();
        assert_eq!(held, 0, "node {node} still holds something");
        for (number, name) in names.iter().enumerate() {
            let reader = (number + node) % 8;
            let fetched = overlay.fetch(reader, REGISTRATION, name).unwrap();
            assert_eq!(fetched.entries.len(), 1, "{name} at {reader} after {node} stopped serving: {fetched:?}");
        }
    }
    assert!(names.iter().all(|name| overlay.holders(REGISTRATION, name).len() == 4));
}

#[test]
fn a_node_alone_held_everything_and_hands_it_to_the_one_that_serves_in_its_stead() {
    let mut overlay = overlay(4, 1, 0);
    overlay.store(0, REGISTRATION, &name(0), registration(1), HOUR).unwrap();
    let heir = overlay.add(&["example.org"], None);
    overlay.restart_as(0, Some(heir), false);
    overlay.network.run_for(SETTLING);
    assert_eq!(overlay.holders(REGISTRATION, &name(0)), [heir]);
    assert_eq!(overlay.fetch(0, REGISTRATION, &name(0)).unwrap().entries.len(), 1);
}

#[test]
fn who_served_before_and_does_again_is_counted_on_again() {
    let mut overlay = overlay(5, 4, 1);
    overlay.store(4, REGISTRATION, &name(4), registration(1), HOUR).unwrap();
    overlay.restart_as(3, Some(0), false);
    overlay.network.run_for(SETTLING);
    assert_eq!(overlay.holders(REGISTRATION, &name(4)), [0, 1, 2]);
    overlay.restart_as(3, Some(0), true);
    overlay.network.run_for(SETTLING);
    assert_eq!(overlay.holders(REGISTRATION, &name(4)), [0, 1, 2, 3]);
}

#[test]
fn where_nobody_serves_a_read_is_an_error_and_no_proof_that_there_is_nothing() {
    let mut overlay = Overlay::new(6, Conditions::default(), Config::default());
    overlay.add_ordinary(&["example.org"], None);
    overlay.add_ordinary(&["example.org"], Some(0));
    overlay.network.run_for(SETTLING);
    for node in 0..2 {
        assert!(overlay.store(node, REGISTRATION, &name(node), registration(1), HOUR).is_err());
        assert!(overlay.fetch(node, REGISTRATION, &name(node)).is_err());
    }
}

#[test]
fn a_node_takes_only_so_many_ordinary_ones_and_the_others_find_another() {
    let config = Config { max_clients: 4, ..Config::default() };
    let mut overlay = Overlay::new(7, Conditions::default(), config);
    overlay.grow(6, &["example.org"]);
    // Each wants four links, all of them first at the same node: there are 24 places.
    for _ in 0..5 {
        overlay.add_ordinary(&["example.org"], Some(0));
        overlay.network.run_for(Duration::from_secs(5));
    }
    overlay.network.run_for(Duration::from_secs(120));
    for node in 0..6 {
        assert!(overlay.network.driver(node).dht.clients().len() <= 4 + 1);
    }
    for node in 6..11 {
        overlay.store(node, REGISTRATION, &name(node), registration(1), HOUR).unwrap();
    }
}
