//! A share of the nodes lies: who finds what there is, over one path and over disjoint ones? And how does that hold in the largest
//! overlay, where ways are longer?

use std::time::Duration;

use meshtone_overlay::dht::Config;
use meshtone_sim::liars;

use crate::output::Output;
use crate::plot::Plot;
use crate::scene::{READS, Scene};

const NODES: usize = 500;
const RECORDS: usize = 500;

/// What is asked for: of how many liars how much is found, in percent.
const THRESHOLDS: [(usize, f64); 2] = [(20, 99.0), (30, 90.0)];

/// How long it takes until whom liars led others to is forgotten.
const FORGETTING: Duration = Duration::from_secs(20);

pub(crate) fn run(most: usize, output: &mut Output) {
    if most > NODES {
        largest(most, output);
    }
    let nodes = NODES.min(most);
    let (mut rows, mut one_path, mut disjoint, mut believed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for share in [0, 10, 20, 30, 40, 50] {
        let mut found = [0.0; 2];
        for (paths, found) in [1, Config::default().paths].into_iter().zip(&mut found) {
            let mut scene = Scene::grown(31, nodes, Config { paths, ..Config::default() });
            let all = scene.overlay.network.alive();
            scene.store(RECORDS, &all);
            let (lying, honest) = scene.split(share);
            liars::corrupt(&mut scene.overlay, &lying);
            let reads = scene.reads(READS, &honest);
            believed += reads.wrong;
            *found = reads.found;
        }
        let [one, many] = found;
        rows.push(format!("{share},{one},{many}"));
        one_path.push((share as f64, one));
        disjoint.push((share as f64, many));
        for (of, least) in THRESHOLDS {
            if share == of {
                output.at_least(&format!("% found with {share} % liars of {nodes} nodes"), many, least);
            }
        }
    }
    output.at_most("false values believed", believed as f64, 0.0);
    output.csv("liars", "liars_percent,found_percent_one_path,found_percent_disjoint", &rows);
    let curves = [("one path (%)", one_path), ("disjoint paths (%)", disjoint)];
    let (title, across) = ("Reads that find what there is", "liars (%)");
    output.svg("liars", &Plot { title, across, logarithmic: false, curves: &curves }.svg());
}

/// One overlay of the largest size, a share of which lies, then another.
fn largest(nodes: usize, output: &mut Output) {
    output.tell(&format!("growing {nodes} nodes"));
    let mut scene = Scene::grown(nodes as u64, nodes, Config::default());
    let all = scene.overlay.network.alive();
    scene.store(nodes, &all);
    for (share, least) in THRESHOLDS {
        let (lying, honest) = scene.split(share);
        liars::corrupt(&mut scene.overlay, &lying);
        let reads = scene.reads(READS, &honest);
        liars::reform(&mut scene.overlay, &lying);
        output.at_least(&format!("% found with {share} % liars of {nodes} nodes"), reads.found, least);
        output.at_most(
            &format!("false values believed with {share} % liars of {nodes} nodes"),
            reads.wrong as f64,
            0.0,
        );
        let (p50, p99) = (reads.times_ms.at(50), reads.times_ms.at(99));
        output.tell(&format!("first hit with {share} % liars of {nodes} nodes: p50 {p50:.0} ms, p99 {p99:.0} ms"));
        scene.overlay.network.run_for(FORGETTING);
    }
}
