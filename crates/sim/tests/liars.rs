//! Liars among five hundred nodes: what there is, is found all the same, and nothing forged is believed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use meshtone_overlay::dht::Config;
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay, Seeded, liars};

const NODES: usize = 500;
const RECORDS: usize = 100;
const READS: usize = 400;
const KIND: Kind = Kind::SipRegistration;

/// Returns how many of a thousand reads found what there is, when this share of the nodes lies.
fn found_permille(seed: u64, percent: usize, config: Config) -> usize {
    let mut overlay = Overlay::new(seed, Conditions::default(), config);
    overlay.grow(NODES, &["example.org"]);
    let mut random = Seeded::new(seed);
    let (mut honest, mut lying): (Vec<usize>, Vec<usize>) = ((0..NODES).collect(), Vec::new());
    while lying.len() < NODES * percent / 100 {
        lying.push(honest.remove(random.below(honest.len())));
    }
    for record in 0..RECORDS {
        let writer = honest[random.below(honest.len())];
        let name = format!("user{record}@example.org");
        overlay.store(writer, KIND, &name, registration(1), Duration::from_secs(3600)).unwrap();
    }
    liars::corrupt(&mut overlay, &lying);
    let mut found = 0;
    for _ in 0..READS {
        let reader = honest[random.below(honest.len())];
        let name = format!("user{}@example.org", random.below(RECORDS));
        if let Ok(fetched) = overlay.fetch_first(reader, KIND, &name) {
            let values: Vec<_> = fetched.entries.iter().map(|entry| &entry.value).collect();
            assert!(values.is_empty() || values == [&registration(1)], "a lie was believed: {fetched:?}");
            found += usize::from(!values.is_empty());
        }
    }
    println!("{percent} % liars: found {found} of {READS}");
    found * 1000 / READS
}

#[test]
fn with_a_fifth_of_liars_ninety_nine_percent_are_found() {
    assert!(found_permille(31, 20, Config::default()) >= 990);
}

#[test]
fn with_three_tenths_of_liars_ninety_percent_are_found() {
    assert!(found_permille(32, 30, Config::default()) >= 900);
}

/// So few links that ways are as long as among ten thousand nodes.
#[test]
fn with_three_tenths_of_liars_ninety_eight_percent_are_found_over_long_ways() {
    let config = Config { max_links: 20, bucket_links: 2, ..Config::default() };
    assert!(found_permille(34, 30, config) >= 980);
}

#[test]
fn what_is_not_there_is_not_looked_for_for_ever() {
    let mut overlay = Overlay::new(33, Conditions::default(), Config::default());
    overlay.grow(100, &["example.org"]);
    for reader in 0..20 {
        let fetched = overlay.fetch(reader, KIND, "nobody@example.org").unwrap();
        assert!(fetched.entries.is_empty());
        assert!(fetched.requests <= 64, "{fetched:?}");
    }
}
