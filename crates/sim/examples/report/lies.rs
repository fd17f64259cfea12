//! A share of the nodes lies: who finds what there is, over one path and over disjoint ones?

use meshtone_overlay::dht::Config;
use meshtone_sim::liars;

use crate::output::Output;
use crate::plot::Plot;
use crate::scene::{READS, Scene};

const NODES: usize = 500;
const RECORDS: usize = 500;

pub(crate) fn run(most: usize, output: &mut Output) {
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
        for (of, least) in [(20, 99.0), (30, 90.0)] {
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
