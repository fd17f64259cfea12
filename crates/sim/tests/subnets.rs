//! Many nodes of one network (threat 27): whoever has a /24 full of addresses is the minority in everybody's table all the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use meshtone_overlay::dht::{Config, Subnet};
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay};

const HONEST: usize = 30;
const SYBILS: usize = 40;
const MAX_LINKS: usize = 16;
const MAX_OF_SUBNET: usize = 4;
const KIND: Kind = Kind::SipRegistration;

/// The first nodes live in networks of their own, all later ones in one. Addresses in the simulator are the nodes' numbers.
fn subnet_of(address: &[u8]) -> Option<Subnet> {
    let number = usize::from_be_bytes(address.try_into().ok()?);
    let third = if number < HONEST { u8::try_from(number).ok()? } else { 255 };
    Some(Subnet::V4([198, 51, third]))
}

/// Joins all nodes, lets the many of one network dial everybody again and again, and returns the overlay with how many of these an
/// honest node is linked with at most.
fn crowded(max_links_per_subnet: usize) -> (Overlay, usize) {
    let refresh = Duration::from_secs(20);
    let config = Config { max_links: MAX_LINKS, max_links_per_subnet, subnet_of, refresh, ..Config::default() };
    let mut overlay = Overlay::new(81, Conditions::default(), config);
    for node in 0..HONEST + SYBILS {
        overlay.add(&["example.org"], (node > 0).then(|| node % HONEST.min(node)));
        overlay.network.run_for(Duration::from_millis(100));
    }
    for _ in 0..2 {
        for (sybil, node) in (HONEST..HONEST + SYBILS).flat_map(|sybil| (0..HONEST).map(move |node| (sybil, node))) {
            overlay.network.dial(sybil, node);
        }
        overlay.network.run_for(Duration::from_secs(20));
    }
    let sybils = (0..HONEST).map(|node| {
        let links = overlay.network.driver(node).dht.links();
        assert!(links.len() <= MAX_LINKS + MAX_LINKS / 4, "node {node} has {} links", links.len());
        links.iter().filter(|peer| subnet_of(&peer.address) == Some(Subnet::V4([198, 51, 255]))).count()
    });
    let most = sybils.max().unwrap();
    (overlay, most)
}

#[test]
fn a_network_full_of_nodes_that_dial_everybody_crowds_out_nobody() {
    let (_, unbounded) = crowded(MAX_LINKS);
    assert!(unbounded > 2 * MAX_OF_SUBNET, "they do not crowd: {unbounded} links of a node lead into one network");
    let (mut overlay, most) = crowded(MAX_OF_SUBNET);
    // One may have dialled at this very moment, and is sent away the next.
    assert!(most <= MAX_OF_SUBNET + 1, "{most} links of a node lead into one network");
    for reader in 1..HONEST {
        let name = format!("user{reader}@example.org");
        overlay.store(reader - 1, KIND, &name, registration(1), Duration::from_secs(3600)).unwrap();
        assert_eq!(overlay.fetch(reader, KIND, &name).unwrap().entries.len(), 1, "{name}");
    }
}
