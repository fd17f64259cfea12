//! Five hundred nodes: look-ups take few hops and requests, and a quarter of the nodes falling silent hides nothing. What the report
//! shows of ten thousand, cheaply.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Duration;

use meshtone_overlay::dht::{Config, Fetched};
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay, Seeded};

const NODES: usize = 500;
const READS: usize = 1000;
const JOINS: usize = 10;
const KIND: Kind = Kind::SipRegistration;

/// Reads on nodes drawn from these what somebody alive holds. Returns what was found.
fn found(overlay: &mut Overlay, random: &mut Seeded, readers: &[usize]) -> Vec<Fetched> {
    let held: Vec<String> = (0..NODES).map(name).filter(|name| !overlay.holders(KIND, name).is_empty()).collect();
    let reads: Vec<(usize, String)> =
        (0..READS).map(|_| (readers[random.below(readers.len())], held[random.below(held.len())].clone())).collect();
    let done = overlay.fetch_all(KIND, &reads).into_iter();
    done.filter_map(|read| read.result.ok()).filter(|fetched| !fetched.entries.is_empty()).collect()
}

fn name(record: usize) -> String {
    format!("user{record}@example.org")
}

fn p99<T: Ord + Copy>(figures: impl Iterator<Item = T>) -> T {
    let mut sorted: Vec<T> = figures.collect();
    sorted.sort_unstable();
    sorted[sorted.len() * 99 / 100]
}

#[test]
fn everything_is_found_within_six_hops_and_twelve_requests_after_joins_and_when_a_quarter_is_silent() {
    let mut overlay = Overlay::new(500, Conditions::default(), Config::default());
    overlay.grow_in_waves(NODES, &["example.org"]);
    let mut random = Seeded::new(500);
    let writes: Vec<(usize, String)> = (0..NODES).map(|record| (random.below(NODES), name(record))).collect();
    for write in overlay.store_all(KIND, &writes, &registration(1)) {
        write.result.unwrap();
    }
    let mut alive: Vec<usize> = (0..NODES).collect();
    let reads = found(&mut overlay, &mut random, &alive);
    let (hops, requests) = (p99(reads.iter().map(|read| read.hops)), p99(reads.iter().map(|read| read.requests)));
    println!("hops p99 {hops}, requests p99 {requests}, {} of {READS} found", reads.len());
    assert!(reads.len() == READS && hops <= 6 && requests <= 12);
    // What newcomers take over is judged by the mean of several, since places are not spread evenly.
    let names: Vec<String> = (0..NODES).map(name).collect();
    let moved = overlay.copies_moved("example.org", KIND, &names, JOINS, Duration::from_secs(30));
    let copies = NODES * Config::default().replicas;
    println!("{JOINS} joins moved {moved} of {copies} copies");
    assert!(moved > 0 && 2 * moved * NODES <= 3 * copies * JOINS, "{moved}");
    for _ in 0..NODES / 4 {
        overlay.network.kill(alive.remove(random.below(alive.len())));
    }
    let reads = found(&mut overlay, &mut random, &alive);
    println!("a quarter silent: {} of {READS} found", reads.len());
    assert!(1000 * reads.len() >= 999 * READS);
}
