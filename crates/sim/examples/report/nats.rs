//! NAT boxes before most nodes: how many links does each get, and is everything still found?

use meshtone_overlay::dht::Config;
use meshtone_sim::{Conditions, Nat, Overlay};

use crate::figures::Figures;
use crate::output::Output;
use crate::scene::{DOMAINS, READS, Scene};

const NODES: usize = 500;
const RECORDS: usize = 500;

/// Of twenty nodes so many are behind each class: mostly homes, a few hosts with addresses of their own, some mobile networks.
const OF_TWENTY: [(Nat, usize); 4] = [(Nat::Open, 3), (Nat::Cone, 5), (Nat::PortRestricted, 8), (Nat::Symmetric, 4)];

pub(crate) fn run(most: usize, output: &mut Output) {
    let nodes = NODES.min(most);
    let mut rows = Vec::new();
    type Reaches = fn(usize, usize) -> bool;
    let worlds: [(&str, Reaches); 3] = [
        ("nobody behind a NAT, or relays for all", |_, _| true),
        ("holes are punched", |from, to| class(from).reaches(class(to), true)),
        ("nobody helps", |from, to| class(from).reaches(class(to), false)),
    ];
    for (world, reaches) in worlds {
        let mut overlay = Overlay::new(101, Conditions::default(), Config::default());
        overlay.network.set_reachable(Box::new(reaches));
        overlay.grow_in_waves(nodes, &DOMAINS);
        let mut scene = Scene::of(overlay, 101);
        let all = scene.overlay.network.alive();
        let written = scene.store(RECORDS, &all);
        let reads = scene.reads(READS, &all);
        let links = |of: Nat| {
            let nodes = all.iter().filter(|node| class(**node) == of);
            Figures::new(nodes.map(|node| scene.overlay.network.driver(*node).dht.links().len() as f64)).mean()
        };
        let links: Vec<String> = Nat::ALL.into_iter().map(|of| format!("{:.1}", links(of))).collect();
        let (hops, requests) = (reads.hops.at(99), reads.requests.at(99));
        let (p50, p99, found) = (reads.times_ms.at(50), reads.times_ms.at(99), reads.found);
        rows.push(format!("{world},{},{written},{found},{hops},{requests},{p50:.0},{p99:.0}", links.join(",")));
    }
    let header = "world,links_open,links_cone,links_port_restricted,links_symmetric,\
                  written_percent,found_percent,hops_p99,requests_p99,p50_ms,p99_ms";
    output.csv("nat", header, &rows);
}

fn class(node: usize) -> Nat {
    let mut left = node % 20;
    for (class, share) in OF_TWENTY {
        if left < share {
            return class;
        }
        left -= share;
    }
    Nat::Symmetric
}
