//! Datagrams over real links on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod overlay_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use meshtone_identity::NodeId;
use meshtone_overlay::{Overlay, Protocol};
use overlay_support::{DEADLINE, World, up};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What comes to a node, and from whom.
fn heard(node: &Overlay) -> mpsc::UnboundedReceiver<(NodeId, Bytes)> {
    let (sender, receiver) = mpsc::unbounded_channel();
    node.hear_datagrams(Arc::new(move |from, datagram| {
        // The test may have ended.
        let _ = sender.send((from, datagram));
    }));
    receiver
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_come_from_whom_the_link_has_proved_and_to_no_one_else() {
    let world = World::new();
    let nodes = world.mesh(3).await;
    let mut first = heard(&nodes[0]);
    for sender in &nodes[1..] {
        let text = Bytes::from(sender.node_id().to_string());
        // The network may lose one.
        let arrived = async {
            loop {
                assert!(sender.send_datagram(nodes[0].node_id(), text.clone()));
                if let Ok(Some(heard)) = timeout(DEADLINE / 60, first.recv()).await {
                    return heard;
                }
            }
        };
        let (from, datagram) = timeout(DEADLINE, arrived).await.expect("one arrives");
        assert_eq!((from, datagram), (sender.node_id(), text));
        while first.try_recv().is_ok() {}
    }
    let longest = nodes[1].max_datagram_len(nodes[0].node_id()).expect("there is a link");
    assert!(longest >= 1100, "{longest}");
    assert!(!nodes[1].send_datagram(nodes[0].node_id(), Bytes::from(vec![0; longest + 1])));
    assert!(!nodes[1].send_datagram(NodeId::from_bytes([9; 32]), Bytes::from_static(b"nobody")));
    assert!(nodes[1].link_quality(nodes[0].node_id()).is_some_and(|quality| quality.sent > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_datagrams_keeps_no_stream_of_the_link_waiting() {
    let world = World::new();
    let nodes = world.mesh(2).await;
    let (server, client) = (nodes[0].clone(), nodes[1].clone());
    up(&client, server.node_id()).await;
    let mut streams = server.accept_streams(Protocol::Sip);
    tokio::spawn(async move {
        while let Some(mut stream) = streams.recv().await {
            let mut word = [0; 4];
            stream.recv.read_exact(&mut word).await.unwrap();
            stream.send.write_all(&word).await.unwrap();
            stream.send.shutdown().await.unwrap();
        }
    });
    let over = Arc::new(AtomicBool::new(false));
    let flood = {
        let (client, to, over) = (client.clone(), server.node_id(), Arc::clone(&over));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    client.send_datagram(to, Bytes::from(vec![0; 1000]));
                }
                tokio::task::yield_now().await;
            }
        })
    };
    for _ in 0..20 {
        let asked = async {
            let (mut send, mut recv) = client.open_stream(server.node_id(), Protocol::Sip).await.unwrap();
            send.write_all(b"ping").await.unwrap();
            let mut answer = Vec::new();
            recv.read_to_end(&mut answer).await.unwrap();
            answer
        };
        assert_eq!(timeout(DEADLINE, asked).await.expect("an answer beside the flood"), b"ping");
    }
    over.store(true, Ordering::Relaxed);
    flood.await.unwrap();
    assert!(client.link_version(server.node_id()).is_some(), "the link lives");
}
