//! Nodes over real links that decide by themselves whether they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod overlay_support;

use std::net::UdpSocket;
use std::time::Duration;

use bytes::Bytes;
use meshtone_overlay::record::{NodeAddress, SipRegistration};
use meshtone_overlay::{Kind, Overlay, PeerAddress, RoleChoice, RoleReason};

use overlay_support::{DEADLINE, World, address, up};

const HOUR: Duration = Duration::from_secs(3600);
const BOB: &str = "bob@example.org";

fn registration() -> Bytes {
    SipRegistration { contacts: 1, max_q: 1000, updated_ms: 1 }.encode()
}

/// Waits until something holds of a node.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waited).await.is_ok(), "in vain waited for: {what}");
}

/// A node of example.org that decides by itself and knows these.
async fn start(world: &World, known: &[&Overlay]) -> Overlay {
    let mut config = world.config(Some("example.org"));
    config.role = RoleChoice::Auto;
    config.bootstrap = known.iter().map(|node| address(node)).collect();
    Overlay::start(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nodes_are_few_each_serves_as_soon_as_it_knows_that() {
    let world = World::new();
    let mut nodes = vec![start(&world, &[]).await];
    assert_eq!((nodes[0].role().serves, nodes[0].role().reason), (true, RoleReason::Alone));
    for _ in 1..4 {
        let node = start(&world, &[&nodes[0]]).await;
        up(&node, nodes[0].node_id()).await;
        nodes.push(node);
    }
    for node in &nodes {
        eventually("all to serve", || node.role().serves && node.nodes_served() == 0).await;
    }
    // They count on each other: what one stores all hold.
    nodes[3].store(Kind::SipRegistration, BOB, registration(), HOUR).await.unwrap();
    for node in &nodes {
        eventually("a copy at each", || node.records_held().contains(&(Kind::SipRegistration, 1))).await;
    }
    // What was published before there was anybody to store it has got there.
    let name = nodes[3].node_id().to_string();
    let found = nodes[1].fetch(Kind::NodeAddress, &name).await.unwrap();
    assert_eq!(NodeAddress::decode(&found[0].value).unwrap().link_key, nodes[3].own_address().link_key);
    eventually("the reason", || nodes[3].role().reason == RoleReason::Few).await;
    assert!(nodes[3].role().others.is_some_and(|others| others <= 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_two_wait_for_each_other_to_serve_both_do_after_a_while() {
    let world = World::new();
    let mut configs = [world.config(None), world.config(None)];
    let keys = configs.each_ref().map(|config| config.certificate.link_key());
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    configs[1].bind = vec![port];
    for (config, (link_key, place)) in
        configs.iter_mut().zip([(keys[1], port), (keys[0], nobody.local_addr().unwrap())])
    {
        config.role = RoleChoice::Auto;
        config.bootstrap = vec![PeerAddress { link_key, addrs: vec![place] }];
    }
    // Both begin with waiting for somebody who serves.
    let [first, second] = configs;
    let second = Overlay::start(second).await.unwrap();
    let first = Overlay::start(first).await.unwrap();
    assert!(!second.role().serves && !first.role().serves);
    up(&first, second.node_id()).await;
    for node in [&first, &second] {
        eventually("both to serve", || node.role().serves && node.nodes_served() == 0).await;
    }
    let name = first.node_id().to_string();
    assert_eq!(second.fetch(Kind::NodeAddress, &name).await.unwrap().len(), 1);
}
