//! Clocks that are off by more than storing nodes put up with: neighbours know better, and liars among them do not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use meshtone_overlay::dht::body::Reply;
use meshtone_overlay::dht::message::Message;
use meshtone_overlay::dht::{Config, Transmit};
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay};

const KIND: Kind = Kind::SipRegistration;
const LIFETIME: Duration = Duration::from_secs(600);

/// Ten nodes of which the fourth has a clock that is this far off.
fn overlay(seed: u64, off_ms: i64) -> Overlay {
    let mut overlay = Overlay::new(seed, Conditions::default(), Config::default());
    for number in 0..10 {
        overlay.add(&["example.org"], (number > 0).then_some(0));
        if number == 3 {
            overlay.network.set_clock(3, off_ms);
        }
        overlay.network.run_for(Duration::from_millis(300));
    }
    overlay.network.run_for(Duration::from_secs(20));
    overlay
}

#[test]
fn a_node_whose_clock_is_off_writes_reads_and_holds_like_any_other() {
    for off_ms in [-900_000, -120_000, 120_000, 900_000] {
        let mut overlay = overlay(91, off_ms);
        let known = overlay.network.driver(3).dht.clock_behind_ms();
        assert!(known.abs_diff(-off_ms) < 1000, "off by {off_ms} ms, told {known} ms");
        overlay.store(3, KIND, "own@example.org", registration(1), LIFETIME).unwrap();
        assert_eq!(overlay.fetch(7, KIND, "own@example.org").unwrap().entries.len(), 1);
        // What lives for ten minutes neither ends too early for it nor too late.
        overlay.store(5, KIND, "other@example.org", registration(1), LIFETIME).unwrap();
        overlay.network.kill(5);
        overlay.network.run_for(LIFETIME - Duration::from_secs(10));
        assert_eq!(overlay.fetch(3, KIND, "other@example.org").unwrap().entries.len(), 1, "off by {off_ms} ms");
        overlay.network.run_for(Duration::from_secs(11));
        assert!(overlay.fetch(3, KIND, "other@example.org").unwrap().entries.is_empty(), "off by {off_ms} ms");
    }
}

#[test]
fn liars_do_not_move_the_clock() {
    let mut overlay = Overlay::new(92, Conditions::default(), Config::default());
    for number in 0..12 {
        overlay.add(&["example.org"], (number > 0).then_some(0));
        if number % 3 == 2 {
            overlay.network.with(number, |node, _| node.set_forger(Box::new(|transmit| Some(an_hour_late(transmit)))));
        }
        overlay.network.run_for(Duration::from_millis(300));
    }
    overlay.network.run_for(Duration::from_secs(20));
    for node in (0..12).filter(|node| node % 3 != 2) {
        let behind_ms = overlay.network.driver(node).dht.clock_behind_ms();
        assert!(behind_ms.unsigned_abs() < 1000, "node {node} believes that it is {behind_ms} ms behind");
    }
}

fn an_hour_late(transmit: Transmit) -> Transmit {
    let Ok(Message::Answer(mut answer)) = Message::decode(&transmit.bytes) else { return transmit };
    let Ok(Reply::Time(unix_ms)) = Reply::decode(&answer.body) else { return transmit };
    answer.body = Reply::Time(unix_ms - 3_600_000).encode().into();
    Transmit { bytes: Message::Answer(answer).encode(), ..transmit }
}
