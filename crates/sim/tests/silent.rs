//! A quarter of the nodes has just fallen silent and nobody has noticed: everything is found, and quickly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use meshtone_overlay::dht::{Config, Fetched};
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::workload::Done;
use meshtone_sim::{Conditions, Overlay, Seeded};

const KIND: Kind = Kind::SipRegistration;

fn name(record: usize) -> String {
    format!("user{record}@example.org")
}

#[test]
fn with_a_quarter_of_256_nodes_silent_the_first_hit_comes_within_half_a_second() {
    let mut overlay = Overlay::new(41, Conditions::default(), Config::default());
    overlay.grow(256, &["example.org"]);
    let mut random = Seeded::new(41);
    for record in 0..1000 {
        let writer = random.below(256);
        overlay.store(writer, KIND, &name(record), registration(1), Duration::from_secs(7200)).unwrap();
    }
    let mut alive: Vec<usize> = (0..256).collect();
    for _ in 0..64 {
        overlay.network.kill(alive.remove(random.below(alive.len())));
    }
    let (mut times, mut missed) = (Vec::new(), Vec::new());
    // Each read begins while nobody has noticed: what a link layer notices after six seconds is the later reads' luck.
    for record in 0..1000 {
        let before = overlay.network.elapsed();
        let fetched = overlay.fetch_first(alive[random.below(alive.len())], KIND, &name(record));
        if fetched.is_ok_and(|fetched| !fetched.entries.is_empty()) {
            times.push(overlay.network.elapsed() - before);
        } else {
            missed.push(record);
        }
    }
    times.sort_unstable();
    println!(
        "p50 {:?}, p99 {:?}, most {:?}, missed {missed:?}",
        times[500],
        times[times.len() * 99 / 100],
        times.last()
    );
    assert!(missed.is_empty(), "{missed:?}");
    assert!(times[times.len() * 99 / 100] < Duration::from_millis(500));
}

/// As when a site goes dark: all reads begin within the second after, when nobody has noticed yet. What only silent nodes hold is not
/// read: nobody could find it.
#[test]
fn before_anybody_has_noticed_the_first_hit_comes_within_half_a_second_as_well() {
    for seed in 1..=3 {
        let mut overlay = Overlay::new(seed, Conditions::default(), Config::default());
        overlay.grow_in_waves(256, &["example.org"]);
        let mut random = Seeded::new(seed);
        let writes: Vec<(usize, String)> = (0..1000).map(|record| (random.below(256), name(record))).collect();
        for write in overlay.store_all(KIND, &writes, &registration(1)) {
            write.result.unwrap();
        }
        let mut alive: Vec<usize> = (0..256).collect();
        for _ in 0..64 {
            overlay.network.kill(alive.remove(random.below(alive.len())));
        }
        let held = (0..1000).filter(|record| !overlay.holders(KIND, &name(*record)).is_empty());
        let reads: Vec<(usize, String)> = held.map(|record| (alive[random.below(alive.len())], name(record))).collect();
        let done = overlay.fetch_all(KIND, &reads);
        let found = |read: &&Done<Fetched>| read.result.as_ref().is_ok_and(|fetched| !fetched.entries.is_empty());
        let mut times: Vec<Duration> = done.iter().filter(found).map(|read| read.took).collect();
        times.sort_unstable();
        let p99 = times[times.len() * 99 / 100];
        println!(
            "seed {seed}: {} of {} found, p50 {:?}, p99 {p99:?}",
            times.len(),
            reads.len(),
            times[times.len() / 2]
        );
        assert_eq!(times.len(), reads.len());
        assert!(p99 < Duration::from_millis(500), "{p99:?}");
    }
}

/// Silence is no absence: whoever asks is not told that there is nothing, while those who would know may but be slow.
#[test]
fn a_read_whose_replicas_are_all_silent_ends_without_an_answer_and_not_with_nothing() {
    let mut overlay = Overlay::new(43, Conditions::default(), Config::default());
    overlay.grow(12, &["example.org"]);
    overlay.store(0, KIND, &name(0), registration(1), Duration::from_secs(7200)).unwrap();
    let holders = overlay.holders(KIND, &name(0));
    let reader = (1..12).find(|node| !holders.contains(node)).unwrap();
    for other in (0..12).filter(|node| *node != reader) {
        overlay.network.kill(other);
    }
    let refused = overlay.fetch(reader, KIND, &name(0)).unwrap_err();
    assert!(refused.contains("did not answer in time: 1 of 3"), "{refused}");
}

/// Shares differ from node to node, as places do; so the mean of several joins is judged.
#[test]
fn a_node_that_joins_moves_no_more_than_its_share() {
    const NODES: usize = 100;
    const RECORDS: usize = 1000;
    const JOINS: usize = 12;
    let mut overlay = Overlay::new(42, Conditions::default(), Config::default());
    overlay.grow(NODES, &["example.org"]);
    for record in 0..RECORDS {
        overlay.store(record % NODES, KIND, &name(record), registration(1), Duration::from_secs(7200)).unwrap();
    }
    let names: Vec<String> = (0..RECORDS).map(name).collect();
    let moved = overlay.copies_moved("example.org", KIND, &names, JOINS, Duration::from_secs(60));
    let copies = RECORDS * Config::default().replicas;
    println!("{JOINS} joins to {NODES} nodes moved {moved} of {copies} copies");
    assert!(moved > 0 && 2 * moved * NODES <= 3 * copies * JOINS, "{moved}");
}
