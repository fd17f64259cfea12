//! What is nowhere: to believe that is costly, and is not paid for twice in a row; what is written meanwhile is found at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use meshtone_overlay::dht::Config;
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay, Seeded};

const KIND: Kind = Kind::SipRegistration;
const NODES: usize = 200;

fn overlay(seed: u64) -> Overlay {
    let mut overlay = Overlay::new(seed, Conditions::default(), Config::default());
    overlay.grow(NODES, &["example.org"]);
    overlay
}

/// Returns how many requests a read took that found nothing.
fn miss(overlay: &mut Overlay, reader: usize, name: &str) -> u32 {
    let fetched = overlay.fetch(reader, KIND, name).unwrap();
    assert!(fetched.entries.is_empty() && fetched.replicas >= 5, "{fetched:?}");
    fetched.requests
}

#[test]
fn who_asks_again_for_what_is_nowhere_pays_for_asking_the_replicas_and_no_more() {
    let mut overlay = overlay(95);
    let mut random = Seeded::new(95);
    let (mut first, mut again, mut later) = (0, 0, 0);
    for number in 0..40 {
        let (reader, name) = (random.below(NODES), format!("nobody{number}@example.org"));
        first += miss(&mut overlay, reader, &name);
        overlay.network.run_for(Duration::from_secs(1));
        again += miss(&mut overlay, reader, &name);
        overlay.network.run_for(Duration::from_secs(6));
        later += miss(&mut overlay, reader, &name);
    }
    println!("requests of 40 misses: {first}, {again} a second later, {later} seven seconds later");
    assert!(again * 2 < first, "{again} requests of {first}");
    assert!(later * 2 > first, "{later} requests of {first}: it is believed for too long");
}

#[test]
fn what_is_written_right_after_a_miss_is_found_by_whoever_missed_it() {
    let mut overlay = overlay(96);
    let mut random = Seeded::new(96);
    for number in 0..40 {
        let (reader, writer, name) = (random.below(NODES), random.below(NODES), format!("late{number}@example.org"));
        miss(&mut overlay, reader, &name);
        overlay.store(writer, KIND, &name, registration(1), Duration::from_secs(600)).unwrap();
        let fetched = overlay.fetch(reader, KIND, &name).unwrap();
        assert_eq!(fetched.entries.len(), 1, "{name}: {fetched:?}");
    }
}
