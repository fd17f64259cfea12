//! Nodes that die without a word, and come back, over real links on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod overlay_support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_overlay::record::SipRegistration;
use meshtone_overlay::{Config, Kind, Protocol};
use overlay_support::{DEADLINE, Killable, World, address, down, fixed_port, host_cache, restart, up};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

const HOUR: Duration = Duration::from_secs(3600);
const BOB: &str = "bob@example.org";

fn registration() -> Bytes {
    SipRegistration { contacts: 1, max_q: 1000, updated_ms: 1 }.encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_noticed_in_seconds_and_its_records_live_on() {
    let world = World::new();
    let nodes = world.mesh(3).await;
    let mut config = world.config(Some("example.org"));
    config.bootstrap = vec![address(&nodes[0])];
    let victim = Killable::start(config).await;
    let gone = victim.overlay.node_id();
    up(&nodes[0], gone).await;
    up(&victim.overlay, nodes[0].node_id()).await;
    victim.overlay.store(Kind::SipRegistration, BOB, registration(), HOUR).await.unwrap();
    // A stream that hangs on it ends with the link.
    let (_send, mut recv) = nodes[0].open_stream(gone, Protocol::Sip).await.unwrap();

    let killed = Instant::now();
    let _frozen = victim.freeze().await;
    down(&nodes[0], gone).await;
    // Six seconds and the two to the next look, and a busy machine.
    assert!(killed.elapsed() < Duration::from_secs(15), "{:?}", killed.elapsed());
    let ended = timeout(DEADLINE, recv.read_u8()).await.expect("the stream ends with its link");
    assert!(ended.is_err());
    for node in &nodes {
        let found = node.fetch(Kind::SipRegistration, BOB).await.unwrap();
        assert_eq!((found.len(), found[0].writer), (1, gone));
    }
    // Asking for it ends in seconds, not in silence.
    let asked = timeout(Duration::from_secs(20), nodes[1].open_stream(gone, Protocol::Sip)).await;
    assert!(asked.expect("it ends").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_finds_the_overlay_by_its_host_cache() {
    let world = World::new();
    let nodes = world.mesh(3).await;
    let mut config = world.config(Some("example.org"));
    config.bootstrap = vec![address(&nodes[0])];
    let first = Killable::start(config.clone()).await;
    let id = first.overlay.node_id();
    up(&nodes[0], id).await;
    config.bootstrap = host_cache(&first.overlay, 1).await;
    let _frozen = first.freeze().await;

    // Its former self is not even noticed to be dead yet; the new one takes its place, on another port.
    let second = Killable::start(config).await;
    up(&second.overlay, nodes[0].node_id()).await;
    second.overlay.store(Kind::SipRegistration, BOB, registration(), HOUR).await.unwrap();
    let found = nodes[1].fetch(Kind::SipRegistration, BOB).await.unwrap();
    assert_eq!(found[0].writer, id);
    nodes[2].open_stream(id, Protocol::Sip).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_nodes_are_killed_and_restarted_at_once_they_find_each_other_again() {
    let world = World::new();
    let mut configs: Vec<Config> = (0..3).map(|_| fixed_port(world.config(Some("example.org")))).collect();
    let first = Killable::start(configs[0].clone()).await;
    let mut nodes = vec![first];
    for config in &mut configs[1..] {
        config.bootstrap = vec![address(&nodes[0].overlay)];
        let node = Killable::start(config.clone()).await;
        up(&node.overlay, nodes[0].overlay.node_id()).await;
        nodes.push(node);
    }
    // The first node knows nobody but by its host cache.
    for (config, node) in configs.iter_mut().zip(&nodes) {
        config.bootstrap = host_cache(&node.overlay, 1).await;
    }
    for node in nodes {
        node.kill();
    }

    let restarted = Instant::now();
    let mut again = Vec::new();
    for config in configs {
        again.push(restart(config).await);
    }
    for node in &again[1..] {
        up(&node.overlay, again[0].overlay.node_id()).await;
        up(&again[0].overlay, node.overlay.node_id()).await;
    }
    assert!(restarted.elapsed() < Duration::from_secs(10), "{:?}", restarted.elapsed());
    again[0].overlay.store(Kind::SipRegistration, BOB, registration(), HOUR).await.unwrap();
    assert_eq!(again[2].overlay.fetch(Kind::SipRegistration, BOB).await.unwrap().len(), 1);
}
