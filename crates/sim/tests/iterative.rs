//! Reads and writes that a node makes hop by hop itself, beside those that travel along links: they meet at the same replicas.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use meshtone_overlay::dht::{Config, Fetched, OperationId};
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::{OverlayEvent, registration};
use meshtone_sim::{Conditions, Overlay, Seeded};

const NODES: usize = 120;
const RECORDS: usize = 60;
const KIND: Kind = Kind::SipRegistration;
const HOUR: Duration = Duration::from_secs(3600);

fn name(record: usize) -> String {
    format!("user{record}@example.org")
}

/// So few links that most replicas are no neighbours of who asks.
fn overlay(seed: u64) -> Overlay {
    let config = Config { max_links: 20, bucket_links: 2, ..Config::default() };
    let mut overlay = Overlay::new(seed, Conditions::default(), config);
    overlay.grow(NODES, &["example.org"]);
    overlay
}

fn store_iteratively(overlay: &mut Overlay, node: usize, name: &str) {
    let content = registration(1);
    let id = overlay.network.with(node, |node, now| node.dht.store_iteratively(now, KIND, name, content, HOUR));
    let ended = wait(overlay, id.unwrap());
    let OverlayEvent::Stored { result, .. } = ended else { panic!("{ended:?}") };
    result.unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn fetch_iteratively(overlay: &mut Overlay, node: usize, name: &str) -> Fetched {
    let id = overlay.network.with(node, |node, now| node.dht.fetch_iteratively(now, KIND, name));
    let ended = wait(overlay, id);
    let OverlayEvent::Fetched { result, .. } = ended else { panic!("{ended:?}") };
    result.unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn wait(overlay: &mut Overlay, id: OperationId) -> OverlayEvent {
    loop {
        let (_, event) = overlay.network.next_event(Duration::from_secs(10)).expect("an end");
        if matches!(&event, OverlayEvent::Stored { id: of, .. } | OverlayEvent::Fetched { id: of, .. } if *of == id) {
            return event;
        }
    }
}

#[test]
fn what_is_written_one_way_is_read_the_other_way() {
    let mut overlay = overlay(71);
    let mut random = Seeded::new(71);
    for record in 0..RECORDS {
        let (writer, reader) = (random.below(NODES), random.below(NODES));
        let fetched = if record % 2 == 0 {
            store_iteratively(&mut overlay, writer, &name(record));
            overlay.fetch(reader, KIND, &name(record)).unwrap()
        } else {
            overlay.store(writer, KIND, &name(record), registration(1), HOUR).unwrap();
            fetch_iteratively(&mut overlay, reader, &name(record))
        };
        assert_eq!(fetched.entries.len(), 1, "record {record}: {fetched:?}");
        assert!(fetched.replicas >= 3, "record {record}: {fetched:?}");
    }
    overlay.network.run_for(Duration::from_secs(5));
    for record in 0..RECORDS {
        let (holders, replicas) = (overlay.holders(KIND, &name(record)), overlay.closest(&name(record), 5));
        let right = replicas.iter().filter(|replica| holders.contains(replica)).count();
        assert!(right >= 3, "record {record} is held by {holders:?}, and belongs to {replicas:?}");
    }
}

#[test]
fn an_iterative_read_finds_what_there_is_while_a_quarter_is_silent() {
    let mut overlay = overlay(72);
    let mut random = Seeded::new(72);
    for record in 0..RECORDS {
        store_iteratively(&mut overlay, random.below(NODES), &name(record));
    }
    let mut alive: Vec<usize> = (0..NODES).collect();
    for _ in 0..NODES / 4 {
        overlay.network.kill(alive.remove(random.below(alive.len())));
    }
    for record in (0..RECORDS).filter(|record| record % 3 == 0) {
        if !overlay.holders(KIND, &name(record)).is_empty() {
            let fetched = fetch_iteratively(&mut overlay, alive[random.below(alive.len())], &name(record));
            assert_eq!(fetched.entries.len(), 1, "record {record}: {fetched:?}");
        }
    }
}

#[test]
fn what_is_nowhere_is_not_found_iteratively_either() {
    let mut overlay = overlay(73);
    let fetched = fetch_iteratively(&mut overlay, 5, "nobody@example.org");
    assert!(fetched.entries.is_empty() && fetched.replicas >= 3, "{fetched:?}");
}
