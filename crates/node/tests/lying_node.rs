//! A home node of the overlay, let in with a ticket, that lies about who calls: real links, and requests written by hand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshtone_identity::passport::{Claims, Kind, Party};
use meshtone_identity::{Role, Signer};
use meshtone_node::enrol::{self, Membership};
use meshtone_node::policy::Outside;
use meshtone_node::store::Store;
use meshtone_node::{Config, Node, RoleChoice};
use meshtone_overlay::link::Protocol;
use meshtone_overlay::node::{Config as OverlayConfig, Overlay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const DOMAIN: &str = "mesh.test";
const NOBODY: &str = "sip:nobody@mesh.test";
const ALICE: &str = "sip:alice@mesh.test";

/// Generous: nothing here is about time.
const PATIENCE: Duration = Duration::from_secs(30);

/// An honest node, and a member of its overlay that is driven by the test.
struct Pair {
    honest: Node,
    liar: Overlay,
    membership: Membership,
    _folders: [tempfile::TempDir; 2],
}

impl Pair {
    async fn start() -> Self {
        // Whoever was first has installed it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let link = free_port();
        let ticket = {
            let store = Store::open(folders[0].path()).unwrap();
            let membership = enrol::establish(&store, Some(DOMAIN), None).await.unwrap();
            membership.inviter().invite(Role::Home, Duration::from_secs(3600), &[link]).unwrap()
        };
        let honest = Node::start(config(folders[0].path(), link)).await.unwrap();
        let store = Store::open(folders[1].path()).unwrap();
        let membership = enrol::establish(&store, None, Some(&ticket.to_string())).await.unwrap();
        let mut config = OverlayConfig::new(
            vec![([127, 0, 0, 1], 0).into()],
            *membership.link_secret,
            membership.signer.clone(),
            membership.authority_certificate.clone(),
            membership.certificate.clone(),
        );
        config.homes = vec![membership.home.clone()];
        config.bootstrap = membership.bootstrap.clone();
        let liar = Overlay::start(config).await.unwrap();
        let mut events = liar.subscribe();
        while liar.links().is_empty() {
            timeout(PATIENCE, events.recv()).await.expect("a link").unwrap();
        }
        Self { honest, liar, membership, _folders: folders }
    }

    fn host(&self) -> String {
        format!("sip:{}.peer.alt", self.liar.node_id())
    }

    /// The Identity header field that says so of a call to nobody.
    fn statement(&self, orig: &str, dest: &str, iat: u64, info: &str) -> String {
        let (orig, dest) = (Party::Uri(orig.to_owned()), vec![Party::Uri(dest.to_owned())]);
        let claims = Claims { kind: Kind::Plain, orig, dest, iat, media_keys: Vec::new() };
        let signer: &dyn Signer = &*self.membership.signer;
        format!("Identity: {};info=<{info}>;alg=ES256\r\n", claims.sign(info, signer).unwrap())
    }

    /// Calls nobody at the honest node as Alice, with this beside what every call says. Returns the final status.
    async fn call(&self, call_id: &str, identity: &str) -> u16 {
        let to: meshtone_identity::NodeId = self.honest.summary().node.parse().unwrap();
        let (mut send, mut recv) = timeout(PATIENCE, self.liar.open_stream(to, Protocol::Sip)).await.unwrap().unwrap();
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

fn config(data: &Path, link: SocketAddr) -> Config {
    Config {
        data: data.to_owned(),
        domain: Some(DOMAIN.to_owned()),
        sip: vec![([127, 0, 0, 1], 0).into()],
        tls: Vec::new(),
        ws: Vec::new(),
        wss: Vec::new(),
        tls_certificate: None,
        tls_key: None,
        tls_authorities: None,
        ws_origins: Vec::new(),
        digest: Vec::new(),
        link: vec![link],
        rtp_ports: (20_000, 20_100),
        join: None,
        peers: Vec::new(),
        local_network: false,
        role: RoleChoice::Auto,
        outside: Outside::default(),
        trusted_sources: Vec::new(),
        workers: None,
        dangerous_open_registration: false,
        trunks: Vec::new(),
        first_stage: None,
        authority: None,
    }
}

fn free_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_node_is_believed_by_a_fresh_statement_of_its_own_for_this_very_call_only() {
    let pair = Pair::start().await;
    let own = pair.host();
    let fresh = pair.statement(ALICE, NOBODY, now_s(), &own);
    // It is believed: what it hears is that nobody is there.
    assert_eq!(pair.call("true", &fresh).await, 404);
    assert_eq!(pair.call("silent", "").await, 428);
    assert_eq!(pair.call("stale", &pair.statement(ALICE, NOBODY, now_s() - 300, &own)).await, 403);
    assert_eq!(pair.call("early", &pair.statement(ALICE, NOBODY, now_s() + 300, &own)).await, 403);
    let other_callee = pair.statement(ALICE, "sip:bob@mesh.test", now_s(), &own);
    assert_eq!(pair.call("callee", &other_callee).await, 438);
    let other_caller = pair.statement("sip:carol@mesh.test", NOBODY, now_s(), &own);
    assert_eq!(pair.call("caller", &other_caller).await, 438);
    let other_node = pair.statement(ALICE, NOBODY, now_s(), &format!("sip:{}.peer.alt", pair.honest.summary().node));
    assert_eq!(pair.call("node", &other_node).await, 436);
    pair.liar.shutdown().await;
    pair.honest.shutdown().await;
}
