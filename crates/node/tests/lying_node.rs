//! A home node of the overlay, let in with a ticket, that lies about who calls: real links, and requests written by hand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use meshtone_identity::Signer;
use meshtone_identity::passport::{Claims, Kind, Party};
use meshtone_node::authority::Settings;
use meshtone_overlay::link::Protocol;
use support::{Founder, Guest, PATIENCE, now_s};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const NOBODY: &str = "sip:nobody@mesh.test";
const ALICE: &str = "sip:alice@mesh.test";

/// An honest node, and a member of its overlay that is driven by the test.
struct Pair {
    honest: Founder,
    liar: Guest,
}

impl Pair {
    async fn start() -> Self {
        let mut honest = Founder::start(Settings::default()).await;
        let liar = honest.guest().await;
        Self { honest, liar }
    }

    fn host(&self) -> String {
        format!("sip:{}.peer.alt", self.liar.overlay.node_id())
    }

    /// The Identity header field that says so of a call to nobody.
    fn statement(&self, orig: &str, dest: &str, iat: u64, info: &str) -> String {
        let (orig, dest) = (Party::Uri(orig.to_owned()), vec![Party::Uri(dest.to_owned())]);
        let claims = Claims { kind: Kind::Plain, orig, dest, iat, media_keys: Vec::new() };
        let signer: &dyn Signer = &*self.liar.membership.signer;
        format!("Identity: {};info=<{info}>;alg=ES256\r\n", claims.sign(info, signer).unwrap())
    }

    /// Calls nobody at the honest node as Alice, with this beside what every call says. Returns the final status.
    async fn call(&self, call_id: &str, identity: &str) -> u16 {
        let opening = self.liar.overlay.open_stream(self.honest.id(), Protocol::Sip);
        let (mut send, mut recv) = timeout(PATIENCE, opening).await.unwrap().unwrap();
        let host = self.host().replace("sip:", "");
        let request = format!(
            "INVITE {NOBODY} SIP/2.0\r\nVia: SIP/2.0/PEER {host};branch=z9hG4bK{call_id}\r\nMax-Forwards: 70\r\n\
             From: <{ALICE}>;tag=1\r\nTo: <{NOBODY}>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:alice@{host}>\r\nP-Asserted-Identity: <{ALICE}>\r\n{identity}Content-Length: 0\r\n\r\n"
        );
        send.write_all(request.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let count = timeout(PATIENCE, recv.read(&mut buffer)).await.expect("a final answer").unwrap();
            assert!(count > 0, "the stream ended: {}", String::from_utf8_lossy(&received));
            received.extend(&buffer[..count]);
            let text = String::from_utf8_lossy(&received).into_owned();
            let statuses = text.lines().filter_map(|line| line.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok());
            if let Some(status) = statuses.into_iter().find(|status: &u16| *status >= 200) {
                return status;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_node_is_believed_by_a_fresh_statement_of_its_own_for_this_very_call_only() {
    let pair = Pair::start().await;
    let own = pair.host();
    let fresh = pair.statement(ALICE, NOBODY, now_s(), &own);
    // It is believed: what it hears is that nobody is there.
    assert_eq!(pair.call("true", &fresh).await, 404);
    assert_eq!(pair.call("copy", &fresh).await, 403, "it was for another call");
    assert_eq!(pair.call("silent", "").await, 428);
    assert_eq!(pair.call("stale", &pair.statement(ALICE, NOBODY, now_s() - 300, &own)).await, 403);
    assert_eq!(pair.call("early", &pair.statement(ALICE, NOBODY, now_s() + 300, &own)).await, 403);
    let other_callee = pair.statement(ALICE, "sip:bob@mesh.test", now_s(), &own);
    assert_eq!(pair.call("callee", &other_callee).await, 438);
    let other_caller = pair.statement("sip:carol@mesh.test", NOBODY, now_s(), &own);
    assert_eq!(pair.call("caller", &other_caller).await, 438);
    let other_node = pair.statement(ALICE, NOBODY, now_s(), &format!("sip:{}.peer.alt", pair.honest.id()));
    assert_eq!(pair.call("node", &other_node).await, 436);
    pair.liar.overlay.shutdown().await;
    pair.honest.node.shutdown().await;
}
