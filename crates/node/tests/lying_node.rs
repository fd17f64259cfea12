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
        format!("sip:{}", self.liar.host())
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
        self.liar.call(&self.honest, call_id, (ALICE, NOBODY), identity).await
    }
}

impl Guest {
    fn host(&self) -> String {
        format!("{}.peer.alt", self.overlay.node_id())
    }

    /// Calls nobody at the honest node as this caller, who first called `to`. Returns the final status.
    async fn call(&self, honest: &Founder, call_id: &str, (caller, to): (&str, &str), identity: &str) -> u16 {
        let opening = self.overlay.open_stream(honest.id(), Protocol::Sip);
        let (mut send, mut recv) = timeout(PATIENCE, opening).await.unwrap().unwrap();
        let host = self.host();
        let request = format!(
            "INVITE {NOBODY} SIP/2.0\r\nVia: SIP/2.0/PEER {host};branch=z9hG4bK{call_id}\r\nMax-Forwards: 70\r\n\
             From: <{caller}>;tag=1\r\nTo: <{to}>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:alice@{host}>\r\nP-Asserted-Identity: <{caller}>\r\n{identity}Content-Length: 0\r\n\r\n"
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

    /// What this node signs of a call by Alice, said to be the word of the node `info`.
    fn word(&self, kind: Kind, dest: &str, iat: u64, info: &str) -> String {
        let (orig, dest) = (Party::Uri(ALICE.to_owned()), vec![Party::Uri(dest.to_owned())]);
        let claims = Claims { kind, orig, dest, iat, media_keys: Vec::new() };
        let ppt = claims.kind.ppt().map(|ppt| format!(";ppt={ppt}")).unwrap_or_default();
        let signed = claims.sign(&format!("sip:{info}"), &*self.membership.signer).unwrap();
        format!("Identity: {signed};info=<sip:{info}>;alg=ES256{ppt}")
    }

    fn certificate(&self) -> String {
        data_encoding::BASE64URL_NOPAD.encode(self.membership.home.der())
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

/// Alice's node has told the one of somebody else that she calls Bob there, and that one says: he is not here, ask there instead.
struct Diverting {
    honest: Founder,
    alices: Guest,
    bobs: Guest,
}

impl Diverting {
    fn bob(&self) -> String {
        format!("sip:bob@{}", self.bobs.membership.home.domain())
    }

    /// Alice's node's word, as it is handed on.
    fn first(&self, dest: &str, iat: u64) -> String {
        let word = self.alices.word(Kind::Plain, dest, iat, &self.alices.host());
        format!("{word};cert={}\r\n", self.alices.certificate())
    }

    fn diversion(&self, from: &str, iat: u64) -> String {
        let kind = Kind::Diverted { from: Party::Uri(from.to_owned()) };
        format!("{}\r\n", self.bobs.word(kind, NOBODY, iat, &self.bobs.host()))
    }

    async fn call(&self, call_id: &str, words: &str) -> u16 {
        self.call_as(call_id, ALICE, words).await
    }

    async fn call_as(&self, call_id: &str, caller: &str, words: &str) -> u16 {
        self.bobs.call(&self.honest, call_id, (caller, &self.bob()), words).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_domain_is_believed_a_diversion_that_continues_what_the_callers_node_said() {
    let mut honest = Founder::start(Settings::default()).await;
    let (alices, bobs) = (honest.guest().await, honest.member().await);
    let this = Diverting { honest, alices, bobs };
    let (bob, now) = (this.bob(), now_s());
    let (first, diversion) = (this.first(&bob, now), this.diversion(&bob, now));
    let chain = first.clone() + &diversion;
    // It is believed: what it hears is that nobody is there.
    assert_eq!(this.call("true", &chain).await, 404);
    assert_eq!(this.call("turned", &(this.diversion(&bob, now) + &this.first(&bob, now))).await, 404);
    assert_eq!(this.call("late", &(this.first(&bob, now - 200) + &this.diversion(&bob, now))).await, 404);

    assert_eq!(this.call("copy", &chain).await, 403, "it was for another call");
    assert_eq!(this.call("bare", &first).await, 436, "Alice's node is not at the other end");
    assert_eq!(this.call("alone", &diversion).await, 438);
    assert_eq!(this.call("old", &(this.first(&bob, now - 400) + &this.diversion(&bob, now))).await, 403);
    assert_eq!(this.call("stale", &(this.first(&bob, now - 100) + &this.diversion(&bob, now - 100))).await, 403);
    let early = this.first(&bob, now + 300) + &this.diversion(&bob, now);
    assert_eq!(this.call("early", &early).await, 403);

    let fresh = || this.first(&bob, now_s()) + &this.diversion(&bob, now_s());
    assert_eq!(this.call_as("caller", "sip:carol@mesh.test", &fresh()).await, 438);
    let elsewhere = this.first(&bob, now_s()) + &this.diversion(&bob.replace("bob", "dora"), now_s());
    assert_eq!(this.call("broken", &elsewhere).await, 438, "Alice did not call Dora");
    let uncertified = this.first(&bob, now_s()).split_once(";cert").unwrap().0.to_owned();
    assert_eq!(this.call("uncertified", &(uncertified.clone() + "\r\n" + &diversion)).await, 436);
    let others = format!("{uncertified};cert={}\r\n", this.bobs.certificate());
    assert_eq!(this.call("others", &(others + &this.diversion(&bob, now_s()))).await, 436);
    let forged = this.bobs.word(Kind::Plain, &bob, now_s(), &this.alices.host());
    let forged = format!("{forged};cert={}\r\n", this.alices.certificate()) + &this.diversion(&bob, now_s());
    assert_eq!(this.call("forged", &forged).await, 438, "it is not signed by Alice's node");
    let made_up = format!("{}\r\n", this.bobs.word(Kind::Plain, &bob, now_s(), &this.bobs.host()));
    assert_eq!(this.call("made-up", &(made_up + &this.diversion(&bob, now_s()))).await, 403);
    // Who diverts has to be the node of who was called.
    let mesh_bob = "sip:bob@mesh.test";
    let foreign = this.first(mesh_bob, now_s()) + &this.diversion(mesh_bob, now_s());
    assert_eq!(this.bobs.call(&this.honest, "foreign", (ALICE, mesh_bob), &foreign).await, 403);
    let Diverting { honest, alices, bobs } = this;
    alices.overlay.shutdown().await;
    bobs.overlay.shutdown().await;
    honest.node.shutdown().await;
}
