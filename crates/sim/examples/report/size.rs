//! Overlays of ten to the largest number of nodes: hops and requests of a read, what a quiet node sends, what a newcomer takes over;
//! of the largest also how it stands silence.

use std::time::Duration;

use meshtone_overlay::dht::Config;
use meshtone_overlay::record::ResourceId;

use crate::figures::Figures;
use crate::output::Output;
use crate::plot::Plot;
use crate::scene::{DOMAINS, READS, Scene, name};

const SIZES: [usize; 4] = [10, 100, 1000, 10_000];

/// The least that is stored; else as many records as there are nodes.
const MIN_RECORDS: usize = 500;

/// How long traffic is measured: two rounds of refresh and repair.
const QUIET: Duration = Duration::from_secs(120);

/// Newcomers whose shares are averaged, and the time between them and after the last.
const JOINS: usize = 20;
const JOIN_PACE: Duration = Duration::from_secs(2);
const JOIN_TIME: Duration = Duration::from_secs(15);

/// What one size shows.
struct Point {
    nodes: f64,
    hops: Figures,
    requests: Figures,
    found: f64,
    links: f64,
    messages: f64,
    bytes: f64,
    /// Copies that a newcomer took, as a multiple of one node's equal share.
    moved: f64,
    /// The same if resources lay on the node with the number hash mod N.
    moved_modulo: f64,
}

pub(crate) fn run(most: usize, output: &mut Output) {
    let mut points = Vec::new();
    for nodes in SIZES.into_iter().filter(|nodes| *nodes <= most) {
        output.tell(&format!("growing {nodes} nodes"));
        let mut scene = Scene::grown(nodes as u64, nodes, Config::default());
        points.push(measure(nodes, &mut scene, output));
        if !SIZES.iter().any(|larger| *larger > nodes && *larger <= most) {
            silence(nodes, &mut scene, output);
        }
    }
    tables(&points, output);
}

fn measure(nodes: usize, scene: &mut Scene, output: &mut Output) -> Point {
    let all = scene.overlay.network.alive();
    let stored = scene.store(nodes.max(MIN_RECORDS), &all);
    output.tell(&format!("{stored} % of {} writes acknowledged; {QUIET:?} of quiet", scene.records.len()));
    let traffic = scene.traffic_in(QUIET);
    let per_node = nodes as f64 * QUIET.as_secs_f64();
    let reads = scene.reads(READS, &all);
    let links = all.iter().map(|node| scene.overlay.network.driver(*node).dht.links().len() as f64);
    let links = Figures::new(links).mean();
    Point {
        nodes: nodes as f64,
        found: reads.found,
        hops: reads.hops,
        requests: reads.requests,
        links,
        messages: traffic.messages as f64 / per_node,
        bytes: traffic.bytes as f64 / per_node,
        moved: joins(nodes, scene),
        moved_modulo: modulo(nodes, scene.records.len()),
    }
}

/// Lets nodes join one after the other, and returns what each holds then on average, as a multiple of an equal share.
fn joins(nodes: usize, scene: &mut Scene) -> f64 {
    // Few at a small overlay, or it would be another one in the end.
    let joins = JOINS.min(nodes / 5).max(2);
    let all = scene.overlay.network.alive();
    let copies = (scene.records.len() * Config::default().replicas.min(nodes)) as f64;
    let newcomers: Vec<usize> = (0..joins)
        .map(|_| {
            let bootstrap = scene.pick(&all);
            let newcomer = scene.overlay.add(&DOMAINS, Some(bootstrap));
            scene.overlay.network.run_for(JOIN_PACE);
            newcomer
        })
        .collect();
    scene.overlay.network.run_for(JOIN_TIME);
    let shares = newcomers.into_iter().map(|newcomer| {
        let held = scene.overlay.network.driver(newcomer).dht.records_held();
        held.iter().map(|(_, count)| *count as f64).sum::<f64>() / copies * (nodes + joins) as f64
    });
    Figures::new(shares).mean()
}

/// The same for records that lie where hash mod N says: nearly all move.
fn modulo(nodes: usize, records: usize) -> f64 {
    let moved = (0..records).filter(|record| {
        let mut last = [0; 8];
        last.copy_from_slice(&ResourceId::of_name(&name(*record)).as_bytes()[24..]);
        let (hash, nodes) = (u64::from_be_bytes(last), nodes as u64);
        hash % nodes != hash % (nodes + 1)
    });
    moved.count() as f64 / records as f64 * (nodes + 1) as f64
}

fn silence(nodes: usize, scene: &mut Scene, output: &mut Output) {
    let (silent, alive) = scene.split(25);
    silent.iter().for_each(|node| scene.overlay.network.kill(*node));
    let reads = scene.reads(READS, &alive);
    output.at_least(&format!("% found with 25 % of {nodes} nodes silent"), reads.found, 99.9);
    let (p50, p99) = (reads.times_ms.at(50), reads.times_ms.at(99));
    output.tell(&format!("first hit with 25 % of {nodes} nodes silent: p50 {p50:.0} ms, p99 {p99:.0} ms"));
}

fn tables(points: &[Point], output: &mut Output) {
    let row = |p: &Point| {
        let (hops, requests) = (&p.hops, &p.requests);
        format!("{},{},{},{},{},{}", p.nodes, hops.at(50), hops.at(99), requests.at(50), requests.at(99), p.found)
    };
    let rows: Vec<String> = points.iter().map(row).collect();
    output.csv("size", "nodes,hops_p50,hops_p99,requests_p50,requests_p99,found_percent", &rows);
    let row = |p: &Point| format!("{},{:.1},{:.3},{:.1}", p.nodes, p.links, p.messages, p.bytes);
    let rows: Vec<String> = points.iter().map(row).collect();
    output.csv("quiet", "nodes,links_per_node,messages_per_node_per_s,bytes_per_node_per_s", &rows);
    let row = |p: &Point| format!("{},{:.3},{:.1}", p.nodes, p.moved, p.moved_modulo);
    let rows: Vec<String> = points.iter().map(row).collect();
    output.csv("join", "nodes,moved_times_n,moved_times_n_by_modulo", &rows);
    if let Some(last) = points.last() {
        let nodes = last.nodes;
        output.at_most(&format!("hops p99 at {nodes} nodes"), last.hops.at(99), 6.0);
        output.at_most(&format!("requests p99 at {nodes} nodes"), last.requests.at(99), 12.0);
        output.at_least(&format!("% found at {nodes} nodes"), last.found, 100.0);
        output.at_most(&format!("copies moved by a join to {nodes} nodes (times N)"), last.moved, 1.5);
    }
    let curve = |value: fn(&Point) -> f64| points.iter().map(|point| (point.nodes, value(point))).collect::<Vec<_>>();
    let curves = [
        ("hops p50", curve(|p| p.hops.at(50))),
        ("hops p99", curve(|p| p.hops.at(99))),
        ("requests p50", curve(|p| p.requests.at(50))),
        ("requests p99", curve(|p| p.requests.at(99))),
    ];
    let across = "nodes";
    let plot = Plot { title: "Hops and requests of a read", across, logarithmic: true, curves: &curves };
    output.svg("size", &plot.svg());
    let curves = [("bytes a node and second", curve(|p| p.bytes))];
    let plot = Plot { title: "What a node of a quiet overlay sends", across, logarithmic: true, curves: &curves };
    output.svg("quiet", &plot.svg());
    // Percent of all copies.
    let curves = [
        ("a node joins (%)", curve(|p| 100.0 * p.moved / p.nodes)),
        ("1.5 / N (%)", curve(|p| 150.0 / p.nodes)),
        ("hash mod N (%)", curve(|p| 100.0 * p.moved_modulo / p.nodes)),
    ];
    let plot = Plot { title: "Copies moved by one join", across, logarithmic: true, curves: &curves };
    output.svg("join", &plot.svg());
}
