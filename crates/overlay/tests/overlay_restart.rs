//! All nodes of an overlay stop at once and start again from what they kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod overlay_support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshtone_overlay::record::SipRegistration;
use meshtone_overlay::{Config, Kind};
use overlay_support::{Killable, MemoryStore, World, address, eventually, fixed_port, host_cache, restart, up};

const HOUR: Duration = Duration::from_secs(3600);

fn registration(contacts: u16) -> Bytes {
    SipRegistration { contacts, max_q: 1000, updated_ms: 1 }.encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_all_nodes_and_the_one_that_wrote_it() {
    let world = World::new();
    let mut configs: Vec<Config> = (0..5).map(|_| fixed_port(world.config(Some("example.org")))).collect();
    for config in &mut configs {
        config.records = Some(Arc::new(MemoryStore::default()));
    }
    let mut nodes = vec![Killable::start(configs[0].clone()).await];
    for config in &mut configs[1..] {
        config.bootstrap = vec![address(&nodes[0].overlay)];
        let node = Killable::start(config.clone()).await;
        up(&node.overlay, nodes[0].overlay.node_id()).await;
        nodes.push(node);
    }
    configs[0].bootstrap = host_cache(&nodes[0].overlay, 4).await;
    let writer = nodes.last().unwrap();
    let writer_id = writer.overlay.node_id();
    for user in 0..20 {
        let name = format!("user{user}@example.org");
        writer.overlay.store(Kind::SipRegistration, &name, registration(user), HOUR).await.unwrap();
    }
    writer.overlay.remove(Kind::SipRegistration, "user0@example.org").await.unwrap();
    for node in nodes {
        node.kill();
    }

    // The writer's node is gone for good, so nobody but those who kept the records can tell of them.
    configs.pop();
    let mut again = Vec::new();
    for config in configs {
        again.push(restart(config).await);
    }
    let reader = &again[3].overlay;
    up(reader, again[0].overlay.node_id()).await;
    for user in 1..20 {
        let name = format!("user{user}@example.org");
        eventually(|| async {
            let found = reader.fetch(Kind::SipRegistration, &name).await.unwrap_or_default();
            found.iter().any(|entry| entry.writer == writer_id && entry.value == registration(user))
        })
        .await;
    }
    // The removal was kept as well.
    assert_eq!(reader.fetch(Kind::SipRegistration, "user0@example.org").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_read_stops_the_start() {
    let world = World::new();
    let mut config = world.config(None);
    config.records = Some(Arc::new(MemoryStore::broken()));
    let refused = meshtone_overlay::Overlay::start(config).await.err().expect("it does not start");
    assert!(matches!(refused, meshtone_overlay::Error::Records(_)), "{refused}");
}
