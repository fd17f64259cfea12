//! Records written and read across nodes, over real links on loopback; and a node that lies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod overlay_support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{NodeId, Signature, Signer};
use meshtone_overlay::record::{
    CertificateValidator, CertifiedWriter, NodeAddress, RecordError, ResourceId, SipRegistration, StoredValue,
    Validator, Writer,
};
use meshtone_overlay::{Error, Kind, Overlay};
use overlay_support::{World, address, up};

const HOUR: Duration = Duration::from_secs(3600);

fn registration(contacts: u16) -> Bytes {
    SipRegistration { contacts, max_q: 1000, updated_ms: 1 }.encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_keeps_and_finds_records() {
    let node = Overlay::start(World::new().config(Some("example.org"))).await.unwrap();
    node.store(Kind::SipRegistration, "alice@example.org", registration(1), HOUR).await.unwrap();
    let found = node.fetch(Kind::SipRegistration, "alice@example.org").await.unwrap();
    assert_eq!((found.len(), found[0].writer), (1, node.node_id()));
    assert_eq!(found[0].value, registration(1));
    node.remove(Kind::SipRegistration, "alice@example.org").await.unwrap();
    assert_eq!(node.fetch(Kind::SipRegistration, "alice@example.org").await.unwrap(), []);
    assert_eq!(node.fetch_first(Kind::SipRegistration, "nobody@example.org").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_writes_every_node_finds() {
    let nodes = World::new().mesh(5).await;
    nodes[1].store(Kind::SipRegistration, "bob@example.org", registration(2), HOUR).await.unwrap();
    for node in &nodes {
        let found = node.fetch(Kind::SipRegistration, "bob@example.org").await.unwrap();
        assert_eq!(found.iter().map(|entry| entry.writer).collect::<Vec<_>>(), [nodes[1].node_id()]);
        let first = node.fetch_first(Kind::SipRegistration, "bob@example.org").await.unwrap();
        assert_eq!(first[0].value, registration(2));
    }
    // Bob moves: his new node's entry stands beside, the old one's goes.
    nodes[3].publish(Kind::SipRegistration, "bob@example.org", registration(1), HOUR).await.unwrap();
    nodes[1].remove(Kind::SipRegistration, "bob@example.org").await.unwrap();
    for node in &nodes {
        let found = node.fetch(Kind::SipRegistration, "bob@example.org").await.unwrap();
        assert_eq!(found.iter().map(|entry| entry.writer).collect::<Vec<_>>(), [nodes[3].node_id()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_tells_where_it_is_and_what_it_is_a_home_of() {
    let nodes = World::new().mesh(3).await;
    let mut homes = Vec::new();
    for node in &nodes {
        let found = nodes[0].fetch(Kind::NodeAddress, &node.node_id().to_string()).await.unwrap();
        let address = NodeAddress::decode(&found[0].value).unwrap();
        assert_eq!((address.link_key, address.addresses), (node.own_address().link_key, node.addresses()));
        homes.push(node.node_id());
    }
    homes.sort();
    let found = nodes[2].fetch(Kind::Certificate, "example.org").await.unwrap();
    assert_eq!(found.iter().map(|entry| entry.writer).collect::<Vec<_>>(), homes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_linked_by_its_id_alone() {
    let world = World::new();
    let hub = Overlay::start(world.config(None)).await.unwrap();
    let mut ends = Vec::new();
    for _ in 0..2 {
        let mut config = world.config(None);
        config.bootstrap = vec![address(&hub)];
        let end = Overlay::start(config).await.unwrap();
        up(&end, hub.node_id()).await;
        ends.push(end);
    }
    ends[0].connect(ends[1].node_id()).await.unwrap();
    assert!(ends[0].links().iter().any(|link| link.node == ends[1].node_id()));
    let nobody = NodeId::from_bytes([0; 32]);
    assert_eq!(ends[0].connect(nobody).await, Err(Error::NoAddress(nobody)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_node_does_not_even_sign_for_a_domain_that_is_not_its_own() {
    let nodes = World::new().mesh(2).await;
    let refused = nodes[0].store(Kind::SipRegistration, "eve@other.example", registration(1), HOUR).await;
    assert!(matches!(refused, Err(Error::Record(_))), "{refused:?}");
}

/// Signs with its own key whatever it is asked to, and shows the certificates it was told to show.
struct Liar {
    node: NodeId,
    signer: Arc<dyn Signer>,
    shown: Vec<Bytes>,
}

impl Writer for Liar {
    fn node_id(&self) -> NodeId {
        self.node
    }

    fn sign(&self, input: &[u8]) -> Result<Signature, RecordError> {
        self.signer.sign(input).map_err(|_| RecordError::Signature)
    }

    fn certificates(&self, _kind: Kind, _name: &str) -> Result<Vec<Bytes>, RecordError> {
        Ok(self.shown.clone())
    }
}

/// Believes everything, so that a liar keeps and tells its own lies.
struct Credulous;

impl Validator for Credulous {
    fn validate(&self, _: u64, _: ResourceId, _: &StoredValue, _: &[Bytes]) -> Result<(), RecordError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lying_node_writes_is_refused_by_those_who_would_store_it() {
    let world = World::new();
    let nodes = world.mesh(3).await;
    let victim = world.config(Some("example.org"));
    let domain_of_its_own = world.config(Some("evil.example"));
    let der = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    // A member of the overlay in good standing, for every link; but its records claim more than it may.
    let lies = [
        ("no home certificate at all", None),
        ("another node's home certificate", Some(der(victim.homes[0].der()))),
        ("a home certificate for another domain", Some(der(domain_of_its_own.homes[0].der()))),
    ];
    for (name, home) in lies {
        let mut config = if name.contains("another domain") { domain_of_its_own.clone() } else { world.config(None) };
        config.bootstrap = vec![address(&nodes[0])];
        let writer = Liar {
            node: config.certificate.node_id(),
            signer: Arc::clone(&config.signer),
            shown: [Some(der(config.certificate.der())), home].into_iter().flatten().collect(),
        };
        let liar = Overlay::dangerous_start_with(config, Arc::new(writer), Arc::new(Credulous)).await.unwrap();
        up(&liar, nodes[0].node_id()).await;
        let refused = liar.store(Kind::SipRegistration, "alice@example.org", registration(1), HOUR).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{name}: {refused:?}");
        // The liar itself would find it; the others neither keep it nor believe the liar when they ask.
        assert_eq!(liar.fetch(Kind::SipRegistration, "alice@example.org").await.unwrap().len(), 1);
        for node in &nodes {
            assert_eq!(node.fetch(Kind::SipRegistration, "alice@example.org").await.unwrap(), [], "{name}");
        }
        liar.shutdown().await;
    }
    // The same parts under an honest writer are accepted.
    let mut config = victim;
    config.bootstrap = vec![address(&nodes[0])];
    let writer = CertifiedWriter::new(
        Arc::clone(&config.signer),
        config.certificate.clone(),
        config.homes.clone(),
        config.delegated.clone(),
    );
    let validator = CertificateValidator::new(config.authority.clone());
    let honest = Overlay::dangerous_start_with(config, Arc::new(writer), Arc::new(validator)).await.unwrap();
    up(&honest, nodes[0].node_id()).await;
    honest.store(Kind::SipRegistration, "alice@example.org", registration(1), HOUR).await.unwrap();
    assert_eq!(nodes[2].fetch(Kind::SipRegistration, "alice@example.org").await.unwrap().len(), 1);
}
