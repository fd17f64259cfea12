//! Listening over real links on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod overlay_support;

use std::time::Duration;

use bytes::Bytes;
use meshtone_overlay::record::SipRegistration;
use meshtone_overlay::{Entry, Kind, Listener, Overlay, RoleChoice};
use overlay_support::{DEADLINE, World, address, up};
use tokio::time::timeout;

const HOUR: Duration = Duration::from_secs(3600);
const BOB: &str = "bob@example.org";
const KIND: Kind = Kind::SipRegistration;

fn registration(contacts: u16) -> Bytes {
    SipRegistration { contacts, max_q: 1000, updated_ms: 1 }.encode()
}

/// Waits until what is told says this.
async fn told(listener: &mut Listener, expected: &[u16]) {
    let contacts = |entry: &Entry| SipRegistration::decode(&entry.value).unwrap().contacts;
    let said =
        async { while listener.changed().await.unwrap().iter().map(contacts).collect::<Vec<_>>() != expected {} };
    timeout(DEADLINE, said).await.expect("it is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_hears_of_each_change_and_two_who_listen_hear_the_same() {
    let world = World::new();
    let nodes = world.mesh(3).await;
    let mut config = world.config(None);
    (config.bootstrap, config.role) = (vec![address(&nodes[0])], RoleChoice::Ordinary);
    let ordinary = Overlay::start(config).await.unwrap();
    up(&ordinary, nodes[0].node_id()).await;
    let mut listeners = vec![nodes[2].listen(KIND, BOB).await.unwrap(), ordinary.listen(KIND, BOB).await.unwrap()];
    for listener in &mut listeners {
        told(listener, &[]).await;
    }
    nodes[1].publish(KIND, BOB, registration(1), HOUR).await.unwrap();
    for listener in &mut listeners {
        told(listener, &[1]).await;
    }
    // Who begins later is told what stands there.
    listeners.push(nodes[2].listen(KIND, BOB).await.unwrap());
    told(&mut listeners[2], &[1]).await;
    nodes[1].remove(KIND, BOB).await.unwrap();
    for listener in &mut listeners {
        told(listener, &[]).await;
    }
}
