//! Free riders: nodes that read and write, are linked with as others are, and take no request of anybody. How many must serve?
//!
//! Nobody shuts them out, and they tell nobody: that is the worst sort. A node that says that it does not serve is in nobody's table.

use meshtone_overlay::dht::Config;
use meshtone_sim::liars;

use crate::output::Output;
use crate::plot::Plot;
use crate::scene::{READS, Scene};

const NODES: usize = 500;
const RECORDS: usize = 500;

/// What counts as working.
const ENOUGH: f64 = 99.0;

pub(crate) fn run(most: usize, output: &mut Output) {
    let nodes = NODES.min(most);
    let (mut rows, mut written_curve, mut found_curve, mut least) = (Vec::new(), Vec::new(), Vec::new(), f64::NAN);
    for serving in [100, 90, 80, 70, 60, 50, 40, 30, 20, 10] {
        let mut scene = Scene::grown(91, nodes, Config::default());
        let (riders, _) = scene.split(100 - serving);
        liars::ride_free(&mut scene.overlay, &riders);
        // Riders read and write like everybody.
        let all = scene.overlay.network.alive();
        let written = scene.store(RECORDS, &all);
        let reads = scene.reads(READS, &all);
        let (p50, p99) = (reads.times_ms.at(50), reads.times_ms.at(99));
        let requests = reads.requests.at(99);
        rows.push(format!("{serving},{written},{},{p50:.0},{p99:.0},{requests}", reads.found));
        written_curve.push((serving as f64, written));
        found_curve.push((serving as f64, reads.found));
        if written >= ENOUGH && reads.found >= ENOUGH {
            least = serving as f64;
        }
    }
    output.tell(&format!("{ENOUGH} % of writes and reads succeed as long as {least} % serve"));
    output.csv("riders", "serving_percent,written_percent,found_percent,p50_ms,p99_ms,requests_p99", &rows);
    let curves = [("written (%)", written_curve), ("found (%)", found_curve)];
    let (title, across) = ("Writes acknowledged and reads that find", "nodes that serve (%)");
    output.svg("riders", &Plot { title, across, logarithmic: false, curves: &curves }.svg());
}
