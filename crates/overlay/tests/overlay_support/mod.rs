//! What the tests with real links share: an authority, identities, and waiting for events with generous deadlines.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

pub mod network;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use meshtone_identity::authority::NODE_LIFETIME;
use meshtone_identity::{Authority, LinkKey, NodeId, Signer, SigningKey};
use meshtone_overlay::{Config, LinkEvent, Overlay, PeerAddress, RecordStore, RoleChoice};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Far longer than anything here takes, on a machine with other things to do.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// An overlay's authority, and the identities it certifies.
pub struct World {
    pub authority: Authority,
    next: AtomicU8,
}

impl World {
    pub fn new() -> Self {
        Self { authority: Authority::create(unix_s()).unwrap().0, next: AtomicU8::new(1) }
    }

    /// Returns what a new node needs to start on loopback; a home node when a domain is given.
    pub fn config(&self, domain: Option<&str>) -> Config {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let key = SigningKey::generate().unwrap();
        let mut link_secret = [0; 32];
        link_secret.copy_from_slice(&key.public_key().as_bytes()[1..33]);
        let link_key = LinkKey::from_secret(&link_secret).unwrap();
        let certificate =
            self.authority.certify_node(key.public_key(), link_key, [number; 16], unix_s(), NODE_LIFETIME).unwrap();
        let home =
            domain.map(|domain| self.authority.issue_home(&certificate, domain, unix_s(), NODE_LIFETIME).unwrap());
        let bind = vec!["127.0.0.1:0".parse().unwrap()];
        let mut config =
            Config::new(bind, link_secret, Arc::new(key), self.authority.certificate().clone(), certificate);
        config.homes = home.into_iter().collect();
        // Whoever decides by itself begins with looking around; tests of that say so.
        config.role = RoleChoice::Super;
        config
    }

    /// Starts `count` home nodes of example.org; all but the first know the first. Returns when each has a link.
    pub async fn mesh(&self, count: usize) -> Vec<Overlay> {
        let first = Overlay::start(self.config(Some("example.org"))).await.unwrap();
        let mut nodes = vec![first];
        for _ in 1..count {
            let mut config = self.config(Some("example.org"));
            config.bootstrap = vec![address(&nodes[0])];
            let node = Overlay::start(config).await.unwrap();
            up(&node, nodes[0].node_id()).await;
            nodes.push(node);
        }
        nodes
    }
}

/// A node on a runtime of its own, so that it can be killed like a process: nothing of it runs any more, nobody is told.
pub struct Killable {
    runtime: Option<Runtime>,
    pub overlay: Overlay,
}

impl Killable {
    pub async fn start(config: Config) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let overlay = runtime.spawn(Overlay::start(config)).await.unwrap().unwrap();
        Self { runtime: Some(runtime), overlay }
    }

    /// Stops the node and frees its port. A word of farewell may slip out.
    pub fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Stops the node between two instructions, for ever: its only thread never runs any of it again.
    pub async fn freeze(self) -> Self {
        let (frozen, stopped) = tokio::sync::oneshot::channel();
        let runtime = self.runtime.as_ref().expect("it runs");
        runtime.spawn(async move {
            frozen.send(()).expect("somebody waits");
            loop {
                std::thread::park();
            }
        });
        stopped.await.expect("it is frozen");
        self
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whom and where to dial to reach this node.
pub fn address(node: &Overlay) -> PeerAddress {
    let own = node.own_address();
    assert!(!own.addrs.is_empty());
    own
}

/// Waits until there is a link to `peer`, and returns the domains it speaks for.
pub async fn up(node: &Overlay, peer: NodeId) -> Vec<String> {
    let mut events = node.subscribe();
    if let Some(link) = node.links().into_iter().find(|link| link.node == peer) {
        return link.domains;
    }
    let linked = async {
        loop {
            match events.recv().await.expect("events go on") {
                LinkEvent::Up { node, domains } if node == peer => return domains,
                LinkEvent::Up { .. } | LinkEvent::Down { .. } => {}
            }
        }
    };
    timeout(DEADLINE, linked).await.expect("a link comes up")
}

/// Waits until the link to `peer` is gone.
pub async fn down(node: &Overlay, peer: NodeId) {
    let mut events = node.subscribe();
    if node.links().iter().all(|link| link.node != peer) {
        return;
    }
    let lost = async { while events.recv().await.expect("events go on") != (LinkEvent::Down { node: peer }) {} };
    timeout(DEADLINE, lost).await.expect("the loss of a link is noticed");
}

pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Waits until the host cache holds `count` peers: it is as of a moment ago.
pub async fn host_cache(node: &Overlay, count: usize) -> Vec<PeerAddress> {
    let filled = async {
        loop {
            let cache = node.host_cache();
            if cache.len() >= count {
                return cache;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, filled).await.expect("the host cache fills")
}

/// Gives a node a port that it keeps over restarts.
pub fn fixed_port(mut config: Config) -> Config {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    config.bind = vec![socket.local_addr().unwrap()];
    config
}

/// Starts a node on the port of its killed former self, as soon as that has let go of it.
pub async fn restart(config: Config) -> Killable {
    let freed = async {
        while std::net::UdpSocket::bind(config.bind[0]).is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, freed).await.expect("the port is free again");
    Killable::start(config).await
}

/// Tries again until it holds.
pub async fn eventually<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let tried = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, tried).await.expect("it comes to hold");
}

/// A store that outlives the nodes that use it.
#[derive(Default)]
pub struct MemoryStore {
    kept: Mutex<BTreeMap<Bytes, Bytes>>,
    broken: bool,
}

impl MemoryStore {
    pub fn broken() -> Self {
        Self { broken: true, ..Self::default() }
    }
}

impl RecordStore for MemoryStore {
    fn load(&self) -> Result<Vec<(Bytes, Bytes)>, String> {
        if self.broken {
            return Err("it is broken".to_owned());
        }
        Ok(self.kept.lock().unwrap().clone().into_iter().collect())
    }

    fn write(&self, changes: &[(Bytes, Option<Bytes>)]) -> Result<(), String> {
        let mut kept = self.kept.lock().unwrap();
        for (key, value) in changes {
            match value {
                Some(value) => kept.insert(key.clone(), value.clone()),
                None => kept.remove(key),
            };
        }
        Ok(())
    }
}
