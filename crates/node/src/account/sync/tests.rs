#![allow(clippy::unwrap_used, clippy::expect_used)]

use tempfile::TempDir;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex, split};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::account::SystemRandom;
use crate::store::Store;

struct Node {
    accounts: Accounts,
    id: NodeId,
    _folder: TempDir,
}

fn node(number: u8, domain: &str) -> Node {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let id = NodeId::from_bytes([number; 32]);
    let accounts = Accounts::open(store, domain, id, || 1_000, Box::new(SystemRandom)).unwrap();
    Node { accounts, id, _folder: folder }
}

type Session = JoinHandle<Result<(), SyncError>>;

fn link(opener: &Node, acceptor: &Node) -> (Session, Session) {
    let (near, far) = duplex(1024);
    (start(opener, acceptor.id, Role::Opener, near), start(acceptor, opener.id, Role::Acceptor, far))
}

fn start(node: &Node, peer: NodeId, role: Role, stream: DuplexStream) -> Session {
    let (read, write) = split(stream);
    tokio::spawn(run(node.accounts.clone(), peer, role, 0.0, read, write))
}

/// Waits, in virtual time, until the nodes hold the same table.
async fn agree(nodes: &[&Node]) {
    let all_equal = async {
        while nodes.windows(2).any(|pair| pair[0].accounts.version() != pair[1].accounts.version()) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(120), all_equal).await.expect("the tables differ still");
}

#[tokio::test(start_paused = true)]
async fn nodes_that_meet_exchange_what_they_have() {
    let (a, b) = (node(1, "example.org"), node(2, "example.org"));
    for number in 0..5 {
        a.accounts.add(&format!("a{number}"), None).unwrap();
        b.accounts.add(&format!("b{number}"), None).unwrap();
    }
    let _sessions = link(&a, &b);
    agree(&[&a, &b]).await;
    assert_eq!(a.accounts.users(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_the_other_node_without_waiting_for_a_comparison() {
    let (a, b) = (node(1, "example.org"), node(2, "example.org"));
    let _sessions = link(&a, &b);
    agree(&[&a, &b]).await;
    let started = Instant::now();
    let mut heard = b.accounts.subscribe();
    a.accounts.add("alice", None).unwrap();
    let change = heard.recv().await.unwrap();
    assert_eq!((change.user(), change.from), ("alice", Some(a.id)));
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_change_crosses_a_node_in_the_middle() {
    let (a, b, c) = (node(1, "example.org"), node(2, "example.org"), node(3, "example.org"));
    let _sessions = (link(&a, &b), link(&b, &c));
    a.accounts.add("alice", None).unwrap();
    agree(&[&a, &b, &c]).await;
    c.accounts.remove("alice").unwrap();
    agree(&[&a, &b, &c]).await;
    assert_eq!(a.accounts.users(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_password_changed_while_a_node_was_cut_off_holds_there_once_it_is_back() {
    let (a, b) = (node(1, "example.org"), node(2, "example.org"));
    let sessions = link(&a, &b);
    a.accounts.add("alice", None).unwrap();
    agree(&[&a, &b]).await;
    sessions.0.abort();
    sessions.1.abort();
    a.accounts.passwd("alice").unwrap();
    assert_ne!(a.accounts.version(), b.accounts.version());
    let _sessions = link(&a, &b);
    agree(&[&a, &b]).await;
    assert_eq!(a.accounts.find("alice").unwrap().ha1, b.accounts.find("alice").unwrap().ha1);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_got_lost_is_made_up_for_by_the_next_comparison() {
    let (a, b) = (node(1, "example.org"), node(2, "example.org"));
    // The acceptor's first summary is answered before the change; the change itself is not pushed, since it pretends
    // to have come from the very peer.
    let _sessions = link(&a, &b);
    agree(&[&a, &b]).await;
    sleep(Duration::from_secs(1)).await;
    let empty = b.accounts.version();
    a.accounts.slip_in("alice", b.id);
    agree(&[&a, &b]).await;
    assert_ne!(b.accounts.version(), empty);
}

#[tokio::test(start_paused = true)]
async fn idle_nodes_stay_in_session_and_a_silent_one_is_given_up() {
    let (a, b) = (node(1, "example.org"), node(2, "example.org"));
    let sessions = link(&a, &b);
    sleep(Duration::from_secs(1000)).await;
    assert!(!sessions.0.is_finished() && !sessions.1.is_finished());

    let (near, _far) = duplex(1024);
    let lonely = start(&a, b.id, Role::Acceptor, near);
    assert!(matches!(lonely.await.unwrap(), Err(SyncError::Silent)));
}

#[tokio::test(start_paused = true)]
async fn nodes_of_different_domains_tell_each_other_nothing() {
    let (a, b) = (node(1, "example.org"), node(2, "example.net"));
    a.accounts.add("alice", None).unwrap();
    let sessions = link(&a, &b);
    assert!(matches!(sessions.1.await.unwrap(), Err(SyncError::Peer(PeerMisbehaved::OtherDomain(_)))));
    assert_eq!(b.accounts.users(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_oversized_message_ends_the_session_before_it_is_read() {
    let a = node(1, "example.org");
    let (near, mut far) = duplex(1024);
    let session = start(&a, NodeId::from_bytes([2; 32]), Role::Acceptor, near);
    far.write_all(&[0xff; 4]).await.unwrap();
    assert!(matches!(session.await.unwrap(), Err(SyncError::TooLong(..))));
}
