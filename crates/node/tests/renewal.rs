//! A node whose certificates are about to run out, over real links.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{Authority, NodeCertificate};
use meshtone_node::Node;
use meshtone_node::authority::Settings;
use meshtone_node::enrol;
use meshtone_node::store::Store;
use meshtone_overlay::Kind;
use support::{DOMAIN, Founder, PATIENCE, config, now_s};
use tokio::time::{sleep, timeout};

const DAY_S: u64 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_renews_its_certificates_by_itself_and_shows_the_new_ones_at_once() {
    let mut founder = Founder::start(Settings::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let joined = enrol::establish(&store, None, Some(&founder.ticket())).await.unwrap();
    // As if nearly all of their life were over: they are dated back by an hour.
    let key = |name: &str| std::fs::read(founder.data().join("keys").join(name)).unwrap();
    let authority = Authority::from_parts(&key("authority.der"), &key("authority.key")).unwrap();
    let left = Duration::from_secs(900);
    let old = authority.renew_node(&joined.certificate, joined.certificate.rights(), now_s(), left).unwrap();
    let home = authority.issue_home(&old, DOMAIN, now_s(), left).unwrap();
    let path = folder.path().join("keys");
    std::fs::write(path.join("node.der"), old.der()).unwrap();
    std::fs::write(path.join("home.der"), home.der()).unwrap();
    drop((joined, store));

    let link = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node = Node::start(config(folder.path(), link, Settings::default())).await.unwrap();
    let kept = |file: &str| std::fs::read(path.join(file)).unwrap();
    let renewed = async {
        while kept("home.der") == home.der() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, renewed).await.expect("the certificates are renewed");
    let renewed = NodeCertificate::verify(&kept("node.der"), authority.certificate(), now_s()).unwrap();
    assert_eq!((renewed.node_id(), renewed.link_key()), (old.node_id(), old.link_key()));
    assert!(renewed.not_after() > now_s() + 364 * DAY_S);

    // Others see it without a restart.
    let guest = founder.guest().await;
    let home: Bytes = kept("home.der").into();
    let shown = async {
        loop {
            let found = guest.overlay.fetch(Kind::Certificate, DOMAIN).await.unwrap_or_default();
            if found.iter().any(|entry| entry.writer == old.node_id() && entry.value == home) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, shown).await.expect("others see the new ones");
    node.shutdown().await;
    guest.overlay.shutdown().await;
    founder.node.shutdown().await;
}
