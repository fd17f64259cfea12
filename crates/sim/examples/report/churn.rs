//! Half of the nodes are replaced, faster and faster: what is lost, and what does it cost?

use std::time::Duration;

use meshtone_overlay::dht::Config;
use meshtone_sim::network::SILENCE;

use crate::figures::percent;
use crate::output::Output;
use crate::plot::Plot;
use crate::scene::{DOMAINS, KIND, Scene, name};

const NODES: usize = 500;
const RECORDS: usize = 500;

/// Mean time of a repair: a loss is noticed after six seconds, and what was lost is offered to who takes its place within one more.
pub(crate) const REPAIR: Duration = SILENCE.saturating_add(Duration::from_secs(1));

pub(crate) fn run(most: usize, output: &mut Output) {
    let nodes = NODES.min(most);
    let (mut rows, mut lost_curve, mut bytes_curve) = (Vec::new(), Vec::new(), Vec::new());
    for repairs in [40, 20, 10, 5, 2, 1] {
        let mut scene = Scene::grown(61, nodes, Config::default());
        let all = scene.overlay.network.alive();
        let acknowledged = scene.store(RECORDS, &all);
        let before = scene.overlay.network.traffic();
        let time = REPAIR * repairs;
        replace(&mut scene, &mut all.clone(), nodes / 2, time);
        let traffic = scene.overlay.network.traffic().since(before);
        scene.overlay.network.run_for(SILENCE * 2);
        let lost = (0..RECORDS).filter(|record| scene.overlay.holders(KIND, &name(*record)).is_empty()).count();
        let alive = scene.overlay.network.alive();
        let found = scene.reads(RECORDS, &alive).found;
        let per_node = nodes as f64 * time.as_secs_f64();
        let (messages, bytes) = (traffic.messages as f64 / per_node, traffic.bytes as f64 / per_node);
        let lost = percent(lost, RECORDS);
        rows.push(format!("{repairs},{},{acknowledged},{lost},{found},{messages:.2},{bytes:.0}", time.as_secs()));
        lost_curve.push((time.as_secs_f64(), lost));
        bytes_curve.push((time.as_secs_f64(), bytes));
        if repairs == 20 {
            output.at_least("% of the writes acknowledged", acknowledged, 100.0);
            let half = format!("half of {nodes} nodes is replaced over 20 repair times");
            output.at_most(&format!("% of the acknowledged values lost while {half}"), lost, 0.0);
        }
    }
    let header = "repair_times,seconds,acknowledged_percent,lost_percent,found_percent,\
                  messages_per_node_per_s,bytes_per_node_per_s";
    output.csv("churn", header, &rows);
    let across = "seconds in which half of the nodes are replaced";
    let curves = [("lost (%)", lost_curve)];
    output.svg("churn", &Plot { title: "Values lost", across, logarithmic: true, curves: &curves }.svg());
    let curves = [("bytes a node and second", bytes_curve)];
    let title = "What a node sends while others are replaced";
    output.svg("churn_traffic", &Plot { title, across, logarithmic: true, curves: &curves }.svg());
}

/// Replaces so many of these nodes within this time, one after the other: one crashes, and nobody is told, and another one joins.
pub(crate) fn replace(scene: &mut Scene, old: &mut Vec<usize>, turns: usize, time: Duration) {
    let end = scene.overlay.network.elapsed() + time;
    for left in (1..=turns).rev() {
        let gone = old.remove(scene.random.below(old.len()));
        scene.overlay.network.kill(gone);
        let bootstrap = scene.pick(old);
        scene.overlay.add(&DOMAINS, Some(bootstrap));
        let now = scene.overlay.network.elapsed();
        scene.overlay.network.run_for(end.saturating_sub(now) / u32::try_from(left).unwrap_or(1));
    }
}
