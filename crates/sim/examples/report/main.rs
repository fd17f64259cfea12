//! Measures the overlay in virtual time and writes what it found to a folder: CSV files, `summary.csv`, plots.
//!
//! `report FOLDER NODES [EXPERIMENT…]`: NODES is the largest overlay simulated. Without names all experiments run; with some, what
//! the summary says of the others stays. Each experiment is seeded and independent of the others; what each shows is said in
//! docs/report/README.md.
#![allow(clippy::print_stderr, clippy::expect_used, reason = "a tool for the developer's terminal")]

mod calls;
mod churn;
mod figures;
mod lies;
mod nats;
mod output;
mod plot;
mod replicas;
mod riders;
mod routing;
mod scene;
mod security;
mod silence;
mod size;

use std::path::Path;

use output::Output;

/// An experiment: its name, and what runs it with the largest number of nodes.
type Experiment = (&'static str, fn(usize, &mut Output));

const EXPERIMENTS: [Experiment; 10] = [
    ("size", size::run),
    ("silent", silence::run),
    ("liars", lies::run),
    ("churn", churn::run),
    ("replicas", replicas::run),
    ("routing", routing::run),
    ("riders", riders::run),
    ("security", security::run),
    ("nat", nats::run),
    ("calls", calls::run),
];

fn main() {
    const USAGE: &str = "usage: report FOLDER NODES [EXPERIMENT…]";
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect(USAGE);
    let most = arguments.next().and_then(|text| text.parse().ok()).expect(USAGE);
    let chosen: Vec<String> = arguments.collect();
    for (name, run) in EXPERIMENTS {
        if chosen.is_empty() || chosen.iter().any(|of| of == name) {
            eprintln!("{name}:");
            let mut output = Output::begin(Path::new(&folder), name);
            run(most, &mut output);
            output.end();
        }
    }
}
