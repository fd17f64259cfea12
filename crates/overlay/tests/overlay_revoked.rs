//! A node that the authority has revoked, over real links.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod overlay_support;

use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::Revocation;
use meshtone_overlay::record::{Revoked, SipRegistration};
use meshtone_overlay::{Kind, Overlay};
use overlay_support::{World, address, down, eventually, unix_s, up};

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_node_loses_its_links_its_records_and_every_hope_of_new_ones() {
    let world = World::new();
    let (revoked, mut config) = (Revoked::default(), world.config(None));
    config.revoked = revoked.clone();
    let honest = Overlay::start(config).await.unwrap();
    let mut config = world.config(Some("stolen.example"));
    config.bootstrap = vec![address(&honest)];
    let stolen = Overlay::start(config).await.unwrap();
    let (id, name) = (stolen.node_id(), "alice@stolen.example");
    up(&honest, id).await;
    let registration: Bytes = SipRegistration { contacts: 1, max_q: 1000, updated_ms: 1 }.encode();
    let hour = Duration::from_secs(3600);
    stolen.store(Kind::SipRegistration, name, registration, hour).await.unwrap();
    assert_eq!(honest.fetch(Kind::SipRegistration, name).await.unwrap().len(), 1);
    let held = |node: &Overlay| node.records_held().into_iter().map(|(_, count)| count).sum::<usize>();

    let said = Revocation::sign(&world.authority, id, unix_s(), unix_s() + 1000).unwrap();
    assert!(revoked.insert(said.clone()) && !revoked.insert(said));
    honest.forget_writer(id).await.unwrap();
    down(&honest, id).await;
    down(&stolen, honest.node_id()).await;
    // A dial of the honest node's own is a link for the other side until the answer was read.
    let is_refused = async |from: &Overlay, to, why: &str| match from.connect(to).await {
        Ok(()) => false,
        Err(error) => error.to_string().contains(why),
    };
    eventually(|| is_refused(&stolen, honest.node_id(), "authority revoked this node")).await;
    eventually(|| is_refused(&honest, id, "has revoked node")).await;
    // What it wrote is neither believed nor kept; the honest node's own address is.
    assert!(honest.fetch(Kind::SipRegistration, name).await.unwrap_or_default().is_empty());
    eventually(|| async { held(&honest) == 1 }).await;
}
