//! Five copies on the siblings of a key's place, against one copy each at five places H(i + key): what does it cost to keep them?
//!
//! The rival is played with the same core, one replica each under five names. Nobody holds its neighbour's copies, so somebody has to
//! ask for them over the overlay: once a repair period one of the holders reads the other four and writes again what is missing. That
//! is the least that keeps five copies; were all holders to ask, it would be five times as much.

use std::ops::Range;
use std::time::Duration;

use meshtone_overlay::dht::{Config, Fetched};
use meshtone_sim::workload::Done;

use crate::churn::{REPAIR, replace};
use crate::figures::percent;
use crate::output::Output;
use crate::scene::{KIND, Scene, content, name};

const NODES: usize = 200;
const RECORDS: usize = 1000;
const COPIES: usize = 5;

/// The core's own period of repair, in steps.
const STEPS: u32 = 6;

/// How long each is watched, at peace and while half of the nodes are replaced: twenty repairs, as in the threshold for losses.
const WATCHED: Duration = REPAIR.saturating_mul(20);

pub(crate) fn run(most: usize, output: &mut Output) {
    let nodes = NODES.min(most);
    let mut rows = Vec::new();
    let mut bare = [0.0; 2];
    for (scheme, records) in [("no records", 0), ("siblings", RECORDS), ("H(i+key)", RECORDS)] {
        let scattered = scheme == "H(i+key)";
        let config = if scattered {
            Config { replicas: 1, write_acknowledgements: 1, read_replicas: 1, paths: 1, ..Config::default() }
        } else {
            Config::default()
        };
        let mut scene = Scene::grown(71, nodes, config);
        let all = scene.overlay.network.alive();
        if scattered {
            let writes: Vec<(usize, String)> =
                copies(0..records).into_iter().map(|(_, name)| (scene.pick(&all), name)).collect();
            scene.overlay.store_all(KIND, &writes, &content());
        } else {
            scene.store(records, &all);
        }
        let quiet = watch(&mut scene, false, scattered);
        let churned = watch(&mut scene, true, scattered);
        let lost = (0..records).filter(|record| is_lost(&scene, *record, scattered)).count();
        let lost = if records == 0 { 0.0 } else { percent(lost, records) };
        let per_node = nodes as f64 * WATCHED.as_secs_f64();
        let [quiet, churned] = [quiet, churned].map(|bytes| bytes as f64 / per_node);
        if records == 0 {
            bare = [quiet, churned];
        }
        let (more_quiet, more_churned) = (quiet - bare[0], churned - bare[1]);
        rows.push(format!("{scheme},{quiet:.0},{churned:.0},{more_quiet:.0},{more_churned:.0},{lost}"));
    }
    let header = "scheme,quiet_bytes_per_node_per_s,churn_bytes_per_node_per_s,\
                  for_records_quiet,for_records_churn,lost_percent";
    output.csv("replicas", header, &rows);
}

/// Lets the time pass, and returns the bytes sent.
fn watch(scene: &mut Scene, churn: bool, scattered: bool) -> u64 {
    let before = scene.overlay.network.traffic();
    let step = Config::default().repair / STEPS;
    let end = scene.overlay.network.elapsed() + WATCHED;
    let mut old = scene.overlay.network.alive();
    let half = old.len() / 2;
    let turns = half * usize::try_from(step.as_secs()).unwrap_or(1) / usize::try_from(WATCHED.as_secs()).unwrap_or(1);
    for part in 0.. {
        let left = end.saturating_sub(scene.overlay.network.elapsed());
        if left.is_zero() {
            break;
        }
        let next = scene.overlay.network.elapsed() + step.min(left);
        if scattered {
            check_copies(scene, part % STEPS as usize);
        }
        let left = next.saturating_sub(scene.overlay.network.elapsed());
        if churn {
            replace(scene, &mut old, turns, left);
        } else {
            scene.overlay.network.run_for(left);
        }
    }
    scene.overlay.network.traffic().since(before).bytes
}

/// One of the holders of each record of this part reads the other copies, and writes again what is missing.
fn check_copies(scene: &mut Scene, part: usize) {
    let mut reads = Vec::new();
    for record in (0..RECORDS).filter(|record| record % STEPS as usize == part) {
        let names = copies(record..record + 1);
        let holder = names.iter().find_map(|(copy, name)| {
            let holder = scene.overlay.holders(KIND, name).first().copied()?;
            Some((*copy, holder))
        });
        if let Some((own, holder)) = holder {
            reads.extend(names.into_iter().filter(|(copy, _)| *copy != own).map(|(_, name)| (holder, name)));
        }
    }
    let done = scene.overlay.fetch_all(KIND, &reads);
    let missing = |done: &Done<Fetched>| done.result.as_ref().is_ok_and(|fetched| fetched.entries.is_empty());
    let again: Vec<(usize, String)> =
        reads.into_iter().zip(&done).filter(|(_, done)| missing(done)).map(|(read, _)| read).collect();
    scene.overlay.store_all(KIND, &again, &content());
}

fn is_lost(scene: &Scene, record: usize, scattered: bool) -> bool {
    if scattered {
        copies(record..record + 1).iter().all(|(_, name)| scene.overlay.holders(KIND, name).is_empty())
    } else {
        scene.overlay.holders(KIND, &name(record)).is_empty()
    }
}

/// Returns the names under which the copies of these records lie, with the number of each copy.
fn copies(records: Range<usize>) -> Vec<(usize, String)> {
    records.flat_map(|record| (0..COPIES).map(move |copy| (copy, format!("{copy}-{}", name(record))))).collect()
}
