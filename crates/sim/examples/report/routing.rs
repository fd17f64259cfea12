//! Recursive look-ups, which travel along links, against iterative ones, where the asker asks node after node: who sends how much,
//! and how long does it take? The same of writes and reads.

use std::time::Duration;

use meshtone_overlay::dht::{Config, Descriptor, Fetched, Position};
use meshtone_overlay::record::{Kind, ResourceId};
use meshtone_sim::overlay::registration;
use meshtone_sim::workload::Done;

use crate::figures::{Figures, percent};
use crate::output::Output;
use crate::plot::Plot;
use crate::scene::{Scene, name};

const KIND: Kind = Kind::SipRegistration;

const NODES: usize = 1000;
const LOOKUPS: usize = 500;

/// Few, so that what they relay for each other does not count.
const CLIENTS: usize = 50;

/// After this all look-ups are over.
const WATCHED: Duration = Duration::from_secs(6);

pub(crate) fn run(most: usize, output: &mut Output) {
    let nodes = NODES.min(most);
    let mut rows = Vec::new();
    let mut times: Vec<(&str, Vec<(f64, f64)>)> =
        vec![("recursive p99 (ms)", Vec::new()), ("iterative p99 (ms)", Vec::new())];
    for share in [0, 25] {
        for (way, curve) in ["recursive", "iterative"].into_iter().zip(&mut times) {
            let mut scene = Scene::grown(81, nodes, Config::default());
            let (silent, alive) = scene.split(share);
            silent.iter().for_each(|node| scene.overlay.network.kill(*node));
            let clients = &alive[..CLIENTS.min(alive.len())];
            let places: Vec<(usize, Position)> = (0..LOOKUPS)
                .map(|turn| (clients[turn % clients.len()], ResourceId::of_name(&name(turn)).into()))
                .collect();
            let sent = look_up(&mut scene, clients, &places, way == "iterative");
            let done = &sent.done;
            let took = Figures::of_times(done.iter().filter(|done| done.result.is_ok()).map(|done| done.took));
            let right = done.iter().zip(&places).filter(|(done, (_, place))| is_right(&scene, done, *place)).count();
            let each = |count: u64| count as f64 / LOOKUPS as f64;
            rows.push(format!(
                "{way},{share},{:.1},{:.1},{:.0},{:.1},{:.1},{}",
                each(sent.by_clients),
                each(sent.by_others),
                each(sent.bytes),
                took.at(50),
                took.at(99),
                percent(right, LOOKUPS)
            ));
            curve.1.push((share as f64, took.at(99)));
        }
    }
    reads_and_writes(nodes, output);
    let header = "way,silent_percent,messages_of_client,messages_of_others,bytes,p50_ms,p99_ms,closest_found_percent";
    output.csv("routing", header, &rows);
    let (title, across) = ("Time to the closest nodes", "silent nodes (%)");
    output.svg("routing", &Plot { title, across, logarithmic: false, curves: &times }.svg());
}

/// Writes, and reads of what was written once a share of the nodes has fallen silent.
fn reads_and_writes(nodes: usize, output: &mut Output) {
    let mut rows = Vec::new();
    for share in [0, 25] {
        for (way, iteratively) in [("recursive", false), ("iterative", true)] {
            let mut scene = Scene::grown(82, nodes, Config::default());
            let (silent, alive) = scene.split(share);
            let command = |turn: usize| (alive[turn * 7 % alive.len()], name(turn));
            let commands: Vec<(usize, String)> = (0..LOOKUPS).map(command).collect();
            let written = scene.overlay.store_all_by(KIND, &commands, &registration(1), iteratively);
            silent.iter().for_each(|node| scene.overlay.network.kill(*node));
            let readers: Vec<(usize, String)> =
                (0..LOOKUPS).map(|turn| (alive[(turn * 7 + 3) % alive.len()], name(turn))).collect();
            let read = scene.overlay.fetch_all_by(KIND, &readers, iteratively);
            let wrote = Figures::of_times(written.iter().filter(|done| done.result.is_ok()).map(|done| done.took));
            let found = |done: &&Done<Fetched>| done.result.as_ref().is_ok_and(|fetched| !fetched.entries.is_empty());
            let right = read.iter().filter(found).count();
            let took = Figures::of_times(read.iter().filter(found).map(|done| done.took));
            let stored = written.iter().filter(|done| done.result.is_ok()).count();
            rows.push(format!(
                "{way},{share},{:.1},{:.1},{},{:.1},{:.1},{}",
                wrote.at(50),
                wrote.at(99),
                percent(stored, LOOKUPS),
                took.at(50),
                took.at(99),
                percent(right, LOOKUPS)
            ));
        }
    }
    let header = "way,silent_percent,write_p50_ms,write_p99_ms,written_percent,read_p50_ms,read_p99_ms,read_percent";
    output.csv("routing_data", header, &rows);
}

/// What look-ups sent.
struct Sent {
    done: Vec<Done<Vec<Descriptor>>>,
    /// Messages of those who looked.
    by_clients: u64,
    by_others: u64,
    bytes: u64,
}

/// Looks up all places, and counts what is sent beyond what the overlay sends anyway.
fn look_up(scene: &mut Scene, clients: &[usize], places: &[(usize, Position)], iteratively: bool) -> Sent {
    let own = |scene: &Scene| clients.iter().map(|client| scene.overlay.network.sent_by(*client).messages).sum::<u64>();
    let begin = scene.overlay.network.elapsed();
    let (before, own_before) = (scene.overlay.network.traffic(), own(scene));
    let done = scene.overlay.find_all(places, iteratively);
    let passed = scene.overlay.network.elapsed().saturating_sub(begin);
    scene.overlay.network.run_for(WATCHED.saturating_sub(passed));
    let (all, own_all) = (scene.overlay.network.traffic().since(before), own(scene) - own_before);
    let own_before = own(scene);
    let quiet = scene.traffic_in(WATCHED);
    let by_clients = own_all.saturating_sub(own(scene) - own_before);
    let by_others = all.messages.saturating_sub(quiet.messages).saturating_sub(by_clients);
    Sent { done, by_clients, by_others, bytes: all.bytes.saturating_sub(quiet.bytes) }
}

/// Says whether the node found closest is the closest there is.
fn is_right(scene: &Scene, done: &Done<Vec<Descriptor>>, place: Position) -> bool {
    let distance = |node: usize| place.distance(scene.overlay.network.driver(node).node_id().into());
    // A node does not find itself, close as it may be.
    let others = scene.overlay.network.alive().into_iter().filter(|node| *node != done.node);
    let closest = others.map(distance).min();
    let found = done.result.as_ref().ok().and_then(|nodes| {
        nodes.iter().map(|node| place.distance(node.node.into())).find(|found| *found != distance(done.node))
    });
    found.is_some() && found == closest
}
