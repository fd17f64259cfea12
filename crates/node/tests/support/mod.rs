//! Nodes that a test starts in its own process: the founder's, and others that the test itself drives.

#![allow(dead_code, reason = "each of the tests needs a part")]

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshtone_identity::{NodeId, Role};
use meshtone_node::authority::Settings;
use meshtone_node::enrol::{self, Membership};
use meshtone_node::policy::Outside;
use meshtone_node::store::Store;
use meshtone_node::{AnchorRules, Callers, Config, EnrolHere, Node, RoleChoice};
use meshtone_overlay::node::{Config as OverlayConfig, Overlay};
use tempfile::TempDir;
use tokio::time::timeout;

/// The founder's domain.
pub(crate) const DOMAIN: &str = "mesh.test";
/// Generous: nothing here is about time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The founder's node, and the data folders of all.
pub(crate) struct Founder {
    pub(crate) node: Node,
    tickets: Vec<String>,
    member_ticket: Option<String>,
    folders: Vec<TempDir>,
}

/// Another node of the overlay, driven by the test.
pub(crate) struct Guest {
    pub(crate) overlay: Overlay,
    pub(crate) membership: Membership,
}

impl Founder {
    /// Founds an overlay whose authority works so, with two tickets for home nodes and one for somebody else's.
    pub(crate) async fn start(authority: Settings) -> Founder {
        Founder::start_with(authority, |_| {}).await
    }

    /// The same with a node that asks no phone for a password.
    pub(crate) async fn start_open(authority: Settings) -> Founder {
        Founder::start_with(authority, |config| config.dangerous_open_registration = true).await
    }

    async fn start_with(authority: Settings, change: impl FnOnce(&mut Config)) -> Founder {
        // Whoever was first has installed it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let link = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let membership = enrol::establish(&store, Some(DOMAIN), None).await.unwrap();
        let ticket = |role| membership.inviter().invite(role, Duration::from_secs(3600), &[link]).unwrap().to_string();
        let (tickets, member_ticket) = (vec![ticket(Role::Home), ticket(Role::Home)], Some(ticket(Role::Member)));
        drop((membership, store));
        let mut config = config(folder.path(), link, authority);
        change(&mut config);
        let node = Node::start(config).await.unwrap();
        Founder { node, tickets, member_ticket, folders: vec![folder] }
    }

    /// Lets another home node in.
    pub(crate) async fn guest(&mut self) -> Guest {
        let ticket = self.tickets.pop().unwrap();
        self.enter(&ticket).await
    }

    /// Lets a node of somebody else in, which has a domain of its own.
    pub(crate) async fn member(&mut self) -> Guest {
        let ticket = self.member_ticket.take().unwrap();
        self.enter(&ticket).await
    }

    async fn enter(&mut self, ticket: &str) -> Guest {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let membership = enrol::establish(&store, None, Some(ticket)).await.unwrap();
        self.folders.push(folder);
        let mut config = OverlayConfig::new(
            vec![([127, 0, 0, 1], 0).into()],
            *membership.link_secret,
            membership.signer.clone(),
            membership.authority_certificate.clone(),
            membership.certificate.clone(),
        );
        config.homes = vec![membership.home.clone()];
        config.bootstrap = membership.bootstrap.clone();
        let overlay = Overlay::start(config).await.unwrap();
        let mut events = overlay.subscribe();
        while overlay.links().is_empty() {
            timeout(PATIENCE, events.recv()).await.expect("a link").unwrap();
        }
        Guest { overlay, membership }
    }

    /// A ticket that nobody has used yet.
    pub(crate) fn ticket(&mut self) -> String {
        self.tickets.pop().unwrap()
    }

    /// The founder's data folder.
    pub(crate) fn data(&self) -> &Path {
        self.folders[0].path()
    }

    /// The founder's id.
    pub(crate) fn id(&self) -> NodeId {
        self.node.summary().node.parse().unwrap()
    }
}

/// What a node is told that listens on loopback alone.
pub(crate) fn config(data: &Path, link: SocketAddr, authority: Settings) -> Config {
    Config {
        data: data.to_owned(),
        domain: Some(DOMAIN.to_owned()),
        sip: vec![([127, 0, 0, 1], 0).into()],
        tls: Vec::new(),
        ws: Vec::new(),
        wss: Vec::new(),
        public_url: Some("https://mesh.test".parse().unwrap()),
        administration: Default::default(),
        desk: None,
        acme: None,
        journal: Default::default(),
        enrol: EnrolHere::default(),
        tls_certificate: None,
        tls_key: None,
        tls_authorities: None,
        ws_origins: Vec::new(),
        digest: Vec::new(),
        link: vec![link],
        rtp_ports: (20_000, 20_100),
        turn: Default::default(),
        anchor: AnchorRules::default(),
        join: None,
        peers: Vec::new(),
        local_network: false,
        port_mapping: false,
        relay: meshtone_node::RelayChoice::Off,
        relay_discovery: Vec::new(),
        relay_quota: meshtone_node::DEFAULT_QUOTA,
        role: RoleChoice::Auto,
        outside: Outside::default(),
        callers: Callers::default(),
        trusted_sources: Vec::new(),
        workers: None,
        dangerous_open_registration: false,
        dangerous_unsigned: false,
        trunks: Vec::new(),
        first_stage: None,
        authority: Some(authority),
    }
}

/// Now, in unix seconds.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
