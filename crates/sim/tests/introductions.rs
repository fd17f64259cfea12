//! Nodes that nobody can dial are reached through their super-nodes by everybody whose boxes allow it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::NodeId;
use meshtone_overlay::dht::{Config, Descriptor};
use meshtone_overlay::record::{Kind, NodeAddress, Via};
use meshtone_sim::overlay::address;
use meshtone_sim::{Conditions, Nat, Overlay};

const OPEN: usize = 40;
const ORDINARY: usize = 16;

/// The first are open and serve; those after them are behind all kinds of boxes, and do not.
fn nat(node: usize) -> Nat {
    if node < OPEN { Nat::Open } else { Nat::ALL[node % Nat::ALL.len()] }
}

fn overlay() -> Overlay {
    let mut overlay = Overlay::new(91, Conditions::default(), Config::default());
    overlay.network.set_reachable(Box::new(|from, to| nat(from).reaches(nat(to), false)));
    overlay.network.set_punchable(Box::new(|from, to| nat(from).reaches(nat(to), true)));
    overlay.grow(OPEN, &["example.org"]);
    for number in 0..ORDINARY {
        overlay.add_ordinary(&["example.org"], Some(number * 3 % OPEN));
    }
    overlay.network.run_for(Duration::from_secs(60));
    overlay
}

fn id(overlay: &Overlay, node: usize) -> NodeId {
    overlay.network.driver(node).node_id()
}

/// Says in the overlay who can introduce others to a node, as its runtime does.
fn name_super_nodes(overlay: &mut Overlay, node: usize) {
    let linked: Vec<NodeId> = overlay.network.driver(node).dht.links().iter().map(|link| link.node).collect();
    let record = NodeAddress {
        relay: Via { super_nodes: linked, ..Via::default() }.encode(),
        ..NodeAddress::decode(&address(node)).unwrap()
    };
    let (name, lifetime) = (id(overlay, node).to_string(), Duration::from_secs(600));
    overlay.store(node, Kind::NodeAddress, &name, record.encode(), lifetime).unwrap();
}

/// One node wants a link to another one: it reads who could introduce it, and asks. Returns whether there is a link in the end.
fn reaches(overlay: &mut Overlay, from: usize, to: usize) -> bool {
    let (from_id, to_id) = (id(overlay, from), id(overlay, to));
    let found = overlay.fetch_first(from, Kind::NodeAddress, &to_id.to_string()).unwrap();
    let record = NodeAddress::decode(&found.entries[0].value).unwrap();
    let through: Vec<Descriptor> = Via::decode(&record.relay.unwrap())
        .super_nodes
        .into_iter()
        .map(|node| {
            let number = (0..OPEN).find(|number| id(overlay, *number) == node).expect("one that serves");
            Descriptor { node, address: Bytes::copy_from_slice(&number.to_be_bytes()) }
        })
        .collect();
    overlay.network.with(from, |driver, now| driver.dht.introduce(now, to_id, through));
    overlay.network.run_for(Duration::from_secs(3));
    let dht = &overlay.network.driver(to).dht;
    dht.clients().contains(&from_id) || dht.links().iter().any(|link| link.node == from_id)
}

#[test]
fn a_node_that_nobody_can_dial_is_reached_by_all_whose_boxes_let_packets_meet() {
    let mut overlay = overlay();
    (OPEN..OPEN + ORDINARY).for_each(|node| name_super_nodes(&mut overlay, node));
    overlay.network.run_for(Duration::from_secs(10));
    let (mut reached, mut apart) = (0, 0);
    for from in (0..OPEN).step_by(4).chain(OPEN..OPEN + ORDINARY) {
        for to in (OPEN..OPEN + ORDINARY).filter(|to| *to != from) {
            let possible = nat(from).reaches(nat(to), true) || nat(to).reaches(nat(from), true);
            assert_eq!(reaches(&mut overlay, from, to), possible, "{:?} {from} to {:?} {to}", nat(from), nat(to));
            (reached, apart) = (reached + usize::from(possible), apart + usize::from(!possible));
        }
    }
    assert!(reached > 200 && apart > 20, "{reached} reached, {apart} apart: these prove little");
}
