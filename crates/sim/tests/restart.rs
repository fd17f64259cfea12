//! Nodes that start again with what their stores hold: nothing acknowledged and unexpired is lost, nothing removed comes back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use meshtone_overlay::dht::Config;
use meshtone_overlay::record::Kind;
use meshtone_sim::network::SILENCE;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay};

const HOUR: Duration = Duration::from_secs(3600);
const KIND: Kind = Kind::SipRegistration;

fn overlay(seed: u64, nodes: usize) -> Overlay {
    let config = Config { persist: true, ..Config::default() };
    let mut overlay = Overlay::new(seed, Conditions::default(), config);
    for number in 0..nodes {
        overlay.add(&["example.org"], (number > 0).then_some(0));
        overlay.network.run_for(Duration::from_millis(300));
    }
    overlay.network.run_for(Duration::from_secs(10));
    overlay
}

fn name(record: usize) -> String {
    format!("user{record}@example.org")
}

fn restart_all(overlay: &mut Overlay, nodes: usize) {
    for node in 0..nodes {
        overlay.network.kill(node);
    }
    overlay.network.run_for(Duration::from_secs(1));
    for node in 0..nodes {
        overlay.restart(node, node.checked_sub(1));
        overlay.network.run_for(Duration::from_millis(20));
    }
    overlay.network.run_for(Duration::from_secs(20));
}

#[test]
fn a_restart_of_the_whole_overlay_loses_nothing_acknowledged_and_brings_nothing_back() {
    const NODES: usize = 40;
    let mut overlay = overlay(21, NODES);
    for record in 0..60 {
        overlay.store(record % NODES, KIND, &name(record), registration(1), HOUR).unwrap();
    }
    // Of those that are removed, some holders are away and come back only with the restart.
    overlay.network.partition(|node| usize::from(node % 5 == 4));
    overlay.network.run_for(SILENCE * 2);
    let removed: Vec<usize> = (0..60).filter(|record| record % NODES % 5 == 1).collect();
    for record in &removed {
        overlay.remove(record % NODES, KIND, &name(*record)).unwrap();
    }
    overlay.network.heal();
    restart_all(&mut overlay, NODES);
    for record in 0..60 {
        let fetched = overlay.fetch((record * 7 + 3) % NODES, KIND, &name(record)).unwrap();
        let expected = usize::from(!removed.contains(&record));
        assert_eq!(fetched.entries.len(), expected, "record {record}: {fetched:?}");
    }
}

#[test]
fn what_expired_while_the_overlay_was_down_is_gone() {
    let mut overlay = overlay(22, 8);
    overlay.store(3, KIND, &name(0), registration(1), Duration::from_secs(600)).unwrap();
    overlay.store(3, KIND, &name(1), registration(1), HOUR).unwrap();
    for node in 0..8 {
        overlay.network.kill(node);
    }
    overlay.network.run_for(Duration::from_secs(900));
    restart_all(&mut overlay, 8);
    assert!(overlay.holders(KIND, &name(0)).is_empty());
    assert!(overlay.fetch(5, KIND, &name(0)).unwrap().entries.is_empty());
    assert_eq!(overlay.fetch(5, KIND, &name(1)).unwrap().entries.len(), 1);
}
