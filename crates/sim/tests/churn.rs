//! Half of five hundred nodes is replaced, one after the other, over twenty times the mean time that a repair takes; nobody writes
//! anything again meanwhile, and nothing that was acknowledged is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use meshtone_overlay::dht::{Config, Event};
use meshtone_overlay::record::Kind;
use meshtone_sim::network::SILENCE;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay, Seeded};

const NODES: usize = 500;
const RECORDS: usize = 500;
const KIND: Kind = Kind::SipRegistration;

/// A loss is noticed after six seconds; what was lost is offered to who takes its place shortly after.
const REPAIR_MS: u64 = SILENCE.as_millis() as u64 + 1000;

fn name(record: usize) -> String {
    format!("user{record}@example.org")
}

/// Stores a value once: no owner stores it again.
fn store_once(overlay: &mut Overlay, writer: usize, record: usize) {
    let lifetime = Duration::from_secs(7200);
    let id = overlay
        .network
        .with(writer, |node, now| node.dht.store(now, KIND, &name(record), registration(1), lifetime).unwrap());
    let (_, event) = overlay.network.next_event(Duration::from_secs(10)).expect("the write ends");
    assert!(matches!(&event, Event::Stored { id: of, result: Ok(_) } if *of == id), "record {record}: {event:?}");
}

#[test]
fn nothing_acknowledged_is_lost_while_half_the_nodes_are_replaced() {
    let mut overlay = Overlay::new(61, Conditions::default(), Config::default());
    overlay.grow(NODES, &["example.org"]);
    let mut random = Seeded::new(61);
    for record in 0..RECORDS {
        store_once(&mut overlay, random.below(NODES), record);
    }
    let replaced = NODES / 2;
    let pause = Duration::from_millis(20 * REPAIR_MS / replaced as u64);
    let (mut old, mut missed) = ((0..NODES).collect::<Vec<usize>>(), Vec::new());
    for turn in 0..replaced {
        // They crash, and nobody is told.
        overlay.network.kill(old.remove(random.below(old.len())));
        let alive = overlay.network.alive();
        overlay.add(&["example.org"], Some(alive[random.below(alive.len())]));
        overlay.network.run_for(pause);
        let (reader, record) = (old[random.below(old.len())], turn % RECORDS);
        if overlay.fetch(reader, KIND, &name(record)).is_ok_and(|fetched| fetched.entries.is_empty()) {
            missed.push(record);
        }
    }
    overlay.network.run_for(SILENCE * 2);
    let held: Vec<usize> = (0..RECORDS).map(|record| overlay.holders(KIND, &name(record)).len()).collect();
    println!("{replaced} of {NODES} replaced in {:?}: {missed:?} missed meanwhile", pause * replaced as u32);
    println!("fewest copies in the end: {:?}, all {}", held.iter().min(), held.iter().sum::<usize>());
    let alive = overlay.network.alive();
    for (record, copies) in held.into_iter().enumerate() {
        let reader = alive[random.below(alive.len())];
        let fetched = overlay.fetch(reader, KIND, &name(record)).unwrap();
        assert_eq!(fetched.entries.len(), 1, "record {record}, held by {copies}: {fetched:?}");
    }
    assert!(missed.is_empty(), "records that were not found while nodes were replaced: {missed:?}");
}
