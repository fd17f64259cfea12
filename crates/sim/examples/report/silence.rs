//! A share of the nodes has just fallen silent and nobody knows: how soon is a value found?
//!
//! Of a few records all holders are silent: nobody can find those, so they are counted and not read.

use meshtone_overlay::dht::Config;

use crate::output::Output;
use crate::plot::Plot;
use crate::scene::{READS, Scene};

const NODES: usize = 256;

/// Overlays of each share, each with places and latencies of its own; the worst is reported.
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

pub(crate) fn run(most: usize, output: &mut Output) {
    let nodes = NODES.min(most);
    let (mut rows, mut p50s, mut p99s) = (Vec::new(), Vec::new(), Vec::new());
    for share in [0, 10, 25, 50] {
        let (mut p50, mut p99, mut found) = (0.0_f64, 0.0_f64, 100.0_f64);
        for seed in SEEDS {
            let mut scene = Scene::grown(seed, nodes, Config::default());
            let all = scene.overlay.network.alive();
            scene.store(READS, &all);
            let (silent, alive) = scene.split(share);
            silent.iter().for_each(|node| scene.overlay.network.kill(*node));
            let gone = scene.forget_what_is_gone();
            let reads = scene.reads(READS, &alive);
            (p50, p99) = (p50.max(reads.times_ms.at(50)), p99.max(reads.times_ms.at(99)));
            found = found.min(reads.found);
            let requests = reads.requests.at(99);
            rows.push(format!(
                "{share},{seed},{gone},{:.1},{:.1},{requests},{}",
                reads.times_ms.at(50),
                reads.times_ms.at(99),
                reads.found
            ));
        }
        p50s.push((share as f64, p50));
        p99s.push((share as f64, p99));
        if share == 25 {
            let worst = format!("of {nodes} nodes silent (worst of {} seeds)", SEEDS.len());
            output.at_most(&format!("ms to the first hit p99 with 25 % {worst}"), p99, 500.0);
            output.at_least(&format!("% found with 25 % {worst}"), found, 100.0);
        }
    }
    let header = "silent_percent,seed,records_gone,first_hit_p50_ms,first_hit_p99_ms,requests_p99,found_percent";
    output.csv("silent", header, &rows);
    let curves = [("p50 (ms), worst seed", p50s), ("p99 (ms), worst seed", p99s)];
    let (title, across) = ("Time to the first hit", "silent nodes (%)");
    output.svg("silent", &Plot { title, across, logarithmic: false, curves: &curves }.svg());
}
