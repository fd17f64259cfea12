//! Who gets a link and who does not, over real sockets on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod overlay_support;

use std::sync::Arc;

use meshtone_identity::{EnrolRequest, LinkKey, Rights, SigningKey};
use meshtone_overlay::enrol::{self, EnrolError};
use meshtone_overlay::{Asker, Error, Overlay, PeerAddress, Protocol};
use overlay_support::{DEADLINE, World, address, down, up};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_show_each_other_their_domains() {
    let world = World::new();
    let a = Overlay::start(world.config(Some("a.example"))).await.unwrap();
    let mut config = world.config(Some("b.example"));
    config.bootstrap = vec![address(&a)];
    let b = Overlay::start(config).await.unwrap();
    assert_eq!(up(&a, b.node_id()).await, ["b.example"]);
    assert_eq!(up(&b, a.node_id()).await, ["a.example"]);
    assert_eq!(a.links().len(), 1);
    assert_eq!(a.overlay_id(), b.overlay_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_is_heard_at_once() {
    let world = World::new();
    let mut nodes = world.mesh(2).await;
    let (leaver, stayer) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    let gone = leaver.node_id();
    up(&stayer, gone).await;
    leaver.shutdown().await;
    // Without a goodbye it takes six seconds.
    timeout(std::time::Duration::from_secs(4), down(&stayer, gone)).await.expect("the goodbye is heard");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_bound_to_all_addresses_names_real_ones_that_work() {
    let world = World::new();
    let mut config = world.config(None);
    config.bind = vec!["0.0.0.0:0".parse().unwrap()];
    let a = Overlay::start(config).await.unwrap();
    assert!(!a.addresses().is_empty());
    assert!(a.addresses().iter().all(|addr| !addr.ip().is_unspecified() && addr.port() != 0), "{:?}", a.addresses());
    let mut config = world.config(None);
    config.bind = vec!["0.0.0.0:0".parse().unwrap()];
    config.bootstrap = vec![address(&a)];
    let b = Overlay::start(config).await.unwrap();
    up(&b, a.node_id()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_of_where_nobody_answers_keeps_none_of_the_right_place_waiting() {
    let world = World::new();
    let a = Overlay::start(world.config(None)).await.unwrap();
    // Whoever dials there hears neither an answer nor that there is none.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config = world.config(None);
    let key = a.own_address().link_key;
    config.bootstrap = vec![PeerAddress { link_key: key, addrs: vec![silent.local_addr().unwrap()] }];
    let b = Overlay::start(config).await.unwrap();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    silent.recv_from(&mut [0; 2048]).expect("the dial is under way");
    b.heard_of(key, a.addresses()[0]).await.unwrap();
    up(&b, a.node_id()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_says_so() {
    let world = World::new();
    let node = Overlay::start(world.config(None)).await.unwrap();
    let other = node.clone();
    node.shutdown().await;
    assert_eq!(other.connect(other.node_id()).await, Err(Error::Stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_overlay_gets_no_link() {
    let (ours, theirs) = (World::new(), World::new());
    let a = Overlay::start(ours.config(None)).await.unwrap();
    let friend = ours.config(None);
    let mut stranger = theirs.config(None);
    stranger.bootstrap = vec![address(&a)];
    let stranger = Overlay::start(stranger).await.unwrap();
    // A friend that comes later is linked; by then the stranger has been refused at least once.
    let mut config = friend;
    config.bootstrap = vec![address(&a), address(&stranger)];
    let friend = Overlay::start(config).await.unwrap();
    up(&a, friend.node_id()).await;
    assert_eq!(a.links().len(), 1);
    assert!(stranger.links().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_link_key_gets_no_node_started() {
    let world = World::new();
    let mut config = world.config(None);
    config.link_secret = [9; 32];
    assert!(matches!(Overlay::start(config).await, Err(Error::Socket(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_dial_each_other_at_once_end_with_one_link() {
    let world = World::new();
    for _ in 0..5 {
        let (config_a, config_b) = (world.config(None), world.config(None));
        let (key_a, key_b) = (config_a.certificate.link_key(), config_b.certificate.link_key());
        // Ports are known beforehand by binding them once.
        let (port_a, port_b) = (free_port(), free_port());
        let (mut config_a, mut config_b) = (config_a, config_b);
        config_a.bind = vec![port_a];
        config_b.bind = vec![port_b];
        config_a.bootstrap = vec![PeerAddress { link_key: key_b, addrs: vec![port_b] }];
        config_b.bootstrap = vec![PeerAddress { link_key: key_a, addrs: vec![port_a] }];
        let (a, b) = tokio::join!(Overlay::start(config_a), Overlay::start(config_b));
        let (a, b) = (a.unwrap(), b.unwrap());
        up(&a, b.node_id()).await;
        up(&b, a.node_id()).await;
        // The one link carries a stream in both directions.
        echo(&a, &b).await;
        echo(&b, &a).await;
        a.shutdown().await;
        b.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_carry_bytes_and_name_who_opened_them() {
    let world = World::new();
    let nodes = world.mesh(2).await;
    let mut arrivals = nodes[0].accept_streams(Protocol::Accounts);
    let (mut send, mut recv) = nodes[1].open_stream(nodes[0].node_id(), Protocol::Accounts).await.unwrap();
    send.write_all(b"question").await.unwrap();
    send.shutdown().await.unwrap();
    let mut stream = timeout(DEADLINE, arrivals.recv()).await.unwrap().unwrap();
    assert_eq!((stream.from, &stream.domains[..]), (nodes[1].node_id(), &["example.org".to_owned()][..]));
    let mut question = String::new();
    stream.recv.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    stream.send.write_all(b"answer").await.unwrap();
    stream.send.shutdown().await.unwrap();
    let mut answer = String::new();
    recv.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_to_an_unknown_node_fails_promptly() {
    let world = World::new();
    let nodes = world.mesh(2).await;
    let stranger = world.config(None).certificate.node_id();
    let opened = timeout(DEADLINE, nodes[0].open_stream(stranger, Protocol::Sip)).await.unwrap();
    assert_eq!(opened.err(), Some(Error::NoAddress(stranger)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_machine_enrols_over_the_join_protocol_and_then_joins() {
    let world = World::new();
    let authority = world.authority.clone();
    let mut config = world.config(Some("example.org"));
    config.enrol = Some(Arc::new(move |asker: Asker, request: Vec<u8>| {
        let request = EnrolRequest::parse(&request).unwrap();
        // The link proves who asks.
        assert_eq!(request.link_key(), asker.link_key);
        assert!(asker.source.is_some_and(|source| source.is_loopback()));
        let lifetime = meshtone_identity::authority::NODE_LIFETIME;
        let node = authority.issue_node(&request, Rights::Full, [5; 16], overlay_support::unix_s(), lifetime).unwrap();
        node.der().to_vec()
    }));
    let inviter = Overlay::start(config).await.unwrap();

    let (key, link_secret) = (SigningKey::generate().unwrap(), [42; 32]);
    let request = EnrolRequest::encode(&key, LinkKey::from_secret(&link_secret).unwrap()).unwrap();
    let reply = enrol::ask(link_secret, inviter.overlay_id(), address(&inviter), None, &request).await.unwrap();
    let authority = world.authority.certificate().clone();
    let certificate =
        meshtone_identity::NodeCertificate::verify(&reply, &authority, overlay_support::unix_s()).unwrap();

    let mut config = world.config(None);
    config = meshtone_overlay::Config::new(config.bind, link_secret, Arc::new(key), authority, certificate);
    config.bootstrap = vec![address(&inviter)];
    let joined = Overlay::start(config).await.unwrap();
    up(&inviter, joined.node_id()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_enrols_nobody_refuses_in_order() {
    let world = World::new();
    let node = Overlay::start(world.config(None)).await.unwrap();
    let refused = enrol::ask([42; 32], node.overlay_id(), address(&node), None, b"please").await;
    assert!(matches!(refused, Err(EnrolError::Unreachable(_) | EnrolError::BrokenOff(_))), "{refused:?}");
    assert_eq!(
        enrol::ask([42; 32], node.overlay_id(), address(&node), None, &[0; 70_000]).await,
        Err(EnrolError::TooLarge(65_536))
    );
}

/// Opens a stream and has what it carries sent back.
async fn echo(from: &Overlay, to: &Overlay) {
    let mut arrivals = to.accept_streams(Protocol::Sip);
    let (mut send, mut recv) = from.open_stream(to.node_id(), Protocol::Sip).await.unwrap();
    send.write_all(b"hello").await.unwrap();
    send.shutdown().await.unwrap();
    let mut stream = timeout(DEADLINE, arrivals.recv()).await.unwrap().unwrap();
    tokio::io::copy(&mut stream.recv, &mut stream.send).await.unwrap();
    stream.send.shutdown().await.unwrap();
    let mut back = String::new();
    recv.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "hello");
}

fn free_port() -> std::net::SocketAddr {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
