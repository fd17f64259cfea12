//! Two hundred nodes in virtual time, few links each, a quarter of them leaving: everything is found, every time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use meshtone_overlay::dht::Config;
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay, Seeded};

const NODES: usize = 200;
const RECORDS: usize = 300;
const LEAVING: usize = NODES / 4;

/// So few links that a look-up takes several hops.
fn few_links() -> Config {
    Config { max_links: 20, bucket_links: 2, ..Config::default() }
}

fn name(record: usize) -> String {
    format!("user{record}@example.org")
}

#[test]
fn two_hundred_nodes_find_every_key_while_nodes_leave() {
    let mut overlay = Overlay::new(42, Conditions::default(), few_links());
    let mut random = Seeded::new(7);
    for number in 0..NODES {
        let bootstrap = random.below(number);
        overlay.add(&["example.org"], (number > 0).then_some(bootstrap));
        overlay.network.run_for(Duration::from_millis(200));
    }
    overlay.network.run_for(Duration::from_secs(60));
    let links: Vec<usize> = (0..NODES).map(|node| overlay.network.driver(node).dht.links().len()).collect();
    println!("links: least {}, most {}", links.iter().min().unwrap(), links.iter().max().unwrap());
    assert!(links.iter().all(|count| (4..=25).contains(count)), "{links:?}");

    for record in 0..RECORDS {
        let writer = random.below(NODES);
        let stored =
            overlay.store(writer, Kind::SipRegistration, &name(record), registration(1), Duration::from_secs(7200));
        stored.unwrap_or_else(|error| panic!("record {record} was not stored: {error}"));
    }
    println!("stored after {:?}, {:?} messages and bytes", overlay.network.elapsed(), overlay.network.traffic());

    let mut figures = Figures::default();
    let mut leavers: Vec<usize> = (0..NODES).collect();
    for left in 0..LEAVING {
        let victim = leavers.remove(random.below(leavers.len()));
        // Two of three just fall silent, the third says goodbye.
        if left % 3 == 0 {
            overlay.network.leave(victim);
        } else {
            overlay.network.kill(victim);
        }
        // Every key is asked for six times while the nodes leave, each time by somebody else; no pause for those who notice.
        for record in (0..RECORDS).filter(|record| record % 8 == left % 8) {
            let reader = leavers[random.below(leavers.len())];
            let before = overlay.network.elapsed();
            let found = overlay.fetch_first(reader, Kind::SipRegistration, &name(record));
            let fetched = found.unwrap_or_else(|error| panic!("record {record} after {left} had left: {error}"));
            assert_eq!(fetched.entries.len(), 1, "record {record} after {left} had left: {fetched:?}");
            figures.add(fetched.hops, fetched.requests, overlay.network.elapsed() - before);
        }
        overlay.network.run_for(Duration::from_secs(2));
    }
    overlay.network.run_for(Duration::from_secs(60));
    for record in 0..RECORDS {
        let reader = leavers[random.below(leavers.len())];
        let fetched = overlay.fetch(reader, Kind::SipRegistration, &name(record)).unwrap();
        assert_eq!(fetched.entries.len(), 1, "record {record} in the end: {fetched:?}");
        assert!(fetched.replicas >= 3, "record {record} in the end: {fetched:?}");
    }
    let held: Vec<usize> =
        (0..RECORDS).map(|record| overlay.holders(Kind::SipRegistration, &name(record)).len()).collect();
    let (least, most, sum) = (held.iter().min().unwrap(), held.iter().max().unwrap(), held.iter().sum::<usize>());
    println!("replicas in the end: least {least}, most {most}, mean {:.1}", sum as f64 / RECORDS as f64);
    assert!(held.iter().all(|count| *count >= 5), "{held:?}");
    assert!(sum < 8 * RECORDS, "what belongs elsewhere is not forgotten: {held:?}");
    figures.print();
    assert!(figures.hops(50) >= 2, "the links are too many for this test to mean anything");
    assert!(figures.requests(99) <= 12, "a look-up takes too many requests");
    println!("{:?} messages and bytes in {:?}", overlay.network.traffic(), overlay.network.elapsed());
}

/// What look-ups took.
#[derive(Default)]
struct Figures {
    hops: Vec<u8>,
    requests: Vec<u32>,
    times: Vec<Duration>,
}

impl Figures {
    fn add(&mut self, hops: u8, requests: u32, time: Duration) {
        self.hops.push(hops);
        self.requests.push(requests);
        self.times.push(time);
    }

    fn hops(&self, percent: usize) -> u8 {
        at(&self.hops, percent)
    }

    fn requests(&self, percent: usize) -> u32 {
        at(&self.requests, percent)
    }

    fn print(&self) {
        println!(
            "{} look-ups: hops p50 {} p99 {}, requests p50 {} p99 {}, time p50 {:?} p99 {:?} most {:?}",
            self.hops.len(),
            self.hops(50),
            self.hops(99),
            self.requests(50),
            self.requests(99),
            at(&self.times, 50),
            at(&self.times, 99),
            at(&self.times, 100),
        );
    }
}

fn at<T: Ord + Copy>(figures: &[T], percent: usize) -> T {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable();
    sorted[((sorted.len() - 1) * percent).div_ceil(100)]
}
