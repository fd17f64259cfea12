//! What readers see while the halves of a network that was cut find each other again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meshtone_overlay::dht::{Config, Event, OperationId};
use meshtone_overlay::record::{Kind, SipRegistration};
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay};

const KIND: Kind = Kind::SipRegistration;
const DOMAIN: &str = "example.org";
const HOUR: Duration = Duration::from_secs(3600);
const STEP: Duration = Duration::from_millis(20);
const RECORDS: usize = 2;

fn name(record: usize) -> String {
    format!("user{record}@{DOMAIN}")
}

/// What readers saw of a network that healed.
#[derive(Debug)]
struct Seen {
    /// When a reader first saw what both sides wrote.
    first: Duration,
    /// When the last read began that did not.
    last_miss: Duration,
    /// Reads that did not though the same reader had before.
    relapses: Vec<(Duration, usize, usize, usize)>,
}

/// Cuts a network in halves, lets each write at every name, heals it, and has everybody read everything all the time.
fn heal(seed: u64, nodes: usize, readers: usize, duration: Duration) -> Seen {
    let mut overlay = Overlay::new(seed, Conditions::default(), Config::default());
    overlay.grow(nodes, &[DOMAIN]);
    overlay.network.partition(|node| usize::from(node >= nodes / 2));
    overlay.network.run_for(Duration::from_secs(60));
    for record in 0..RECORDS {
        for writer in [record, nodes / 2 + record] {
            overlay.store(writer, KIND, &name(record), registration(1), HOUR).unwrap();
        }
    }
    overlay.network.run_for(Duration::from_secs(30));
    overlay.network.heal();
    let healed = overlay.network.elapsed();
    let mut reads: BTreeMap<(usize, OperationId), (Duration, usize)> = BTreeMap::new();
    let (mut right, mut seen) =
        (BTreeSet::new(), Seen { first: duration, last_miss: Duration::ZERO, relapses: vec![] });
    while overlay.network.elapsed() < healed + duration {
        let now = overlay.network.elapsed() - healed;
        for reader in 0..readers {
            for record in 0..RECORDS {
                let node = reader * nodes / readers;
                let id = overlay.network.with(node, |driver, at| driver.dht.fetch(at, KIND, &name(record)));
                reads.insert((node, id), (now, record));
            }
        }
        let end = overlay.network.elapsed() + STEP;
        while let Some((node, event)) = overlay.network.next_event(end.saturating_sub(overlay.network.elapsed())) {
            let Event::Fetched { id, result } = event else { continue };
            let Some((began, record)) = reads.remove(&(node, id)) else { continue };
            let now = overlay.network.elapsed() - healed;
            let found = result.map_or(0, |fetched| {
                let entries = fetched.entries.iter();
                entries.filter(|entry| SipRegistration::decode(&entry.value).unwrap().updated_ms == 1).count()
            });
            if found == 2 {
                seen.first = seen.first.min(now);
                right.insert((node, record, now));
            } else {
                seen.last_miss = seen.last_miss.max(began);
                if right.iter().any(|(of, at_record, at)| (*of, *at_record) == (node, record) && *at <= began) {
                    seen.relapses.push((began, node, record, found));
                }
            }
        }
        // Only the first right read of each counts.
        let mut firsts = BTreeSet::new();
        right.retain(|(node, record, _)| firsts.insert((*node, *record)));
    }
    seen
}

#[test]
fn who_has_seen_what_both_sides_wrote_sees_it_from_then_on() {
    // Of these seeds, readers of the last one relapsed eighty times when reads asked three nodes as ever.
    for seed in [903, 918, 917] {
        let seen = heal(seed, 32, 32, Duration::from_millis(1800));
        println!("seed {seed}: first seen after {:?}, last missed after {:?}", seen.first, seen.last_miss);
        assert!(seen.relapses.is_empty(), "seed {seed}: (when, node, name, values) {:?}", seen.relapses);
        assert!(seen.last_miss < seen.first + Duration::from_secs(1), "seed {seed}");
    }
}
