//! What an overlay node needs to start.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use meshtone_identity::{AuthorityCertificate, HomeCertificate, LinkKey, NodeCertificate, Signer};

use super::{Error, RecordStore};
use crate::dht::RoleChoice;
use crate::link::PeerAddress;
use crate::link::enrol::EnrolHandler;
use crate::link::relay::serve::RelayOffer;
use crate::mapping::WantedPort;
use crate::record::{Delegated, Renewed, Revoked};

/// What an overlay node needs to start.
#[derive(Clone)]
pub struct Config {
    /// UDP addresses of our links; port 0 picks one. At most one of each family.
    pub bind: Vec<SocketAddr>,
    /// The secret of our link key (Ed25519 seed).
    pub link_secret: [u8; 32],
    /// Signs our records; its public key is the node certificate's.
    pub signer: Arc<dyn Signer>,
    /// The overlay's authority.
    pub authority: AuthorityCertificate,
    /// Our own certificate.
    pub certificate: NodeCertificate,
    /// The certificates of the domains we are a home node of.
    pub homes: Vec<HomeCertificate>,
    /// For which people we may speak, beside those domains.
    pub delegated: Delegated,
    /// Which nodes are none any longer; more may be put in while the node runs.
    pub revoked: Revoked,
    /// Certificates that take the place of ours while the node runs, see [`Overlay::say_again`](super::Overlay::say_again).
    pub renewed: Renewed,
    /// Peers to keep links with: who invited us, and the host cache of the last run.
    pub bootstrap: Vec<PeerAddress>,
    /// The TCP ports at which some of them run relays, for a network that lets no UDP out; others are looked for at the usual ports.
    pub relay_ports: BTreeMap<LinkKey, u16>,
    /// How many nodes hold a value: 2 to 8, 5 by default.
    pub replicas: usize,
    /// Whether to store and forward for others, or only to use the overlay through those that do; by default the node decides.
    pub role: RoleChoice,
    /// Answers machines that want to join; without it none can, here.
    pub enrol: Option<EnrolHandler>,
    /// Where the records we hold for the overlay outlive this process; without it they do not.
    pub records: Option<Arc<dyn RecordStore>>,
    /// The relay that this node may run for others; without it, it runs none.
    pub relay: Option<RelayOffer>,
    /// Whether it does.
    pub relay_choice: RelayChoice,
    /// Whether the router before this machine is asked to let others in to the links, and to which ports besides; `None` forbids it.
    pub port_mapping: Option<Vec<WantedPort>>,
    /// What we say of our program, in our address record; at most 32 bytes.
    pub version: String,
}

/// Whether a node runs a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayChoice {
    /// Where it serves and is reached from outside.
    #[default]
    Auto,
    /// In any case.
    On,
    /// Never.
    Off,
}

/// How many nodes hold a value unless told otherwise.
pub const DEFAULT_REPLICAS: usize = 5;

impl Config {
    /// Returns a configuration with defaults where there are any.
    pub fn new(
        bind: Vec<SocketAddr>,
        link_secret: [u8; 32],
        signer: Arc<dyn Signer>,
        authority: AuthorityCertificate,
        certificate: NodeCertificate,
    ) -> Self {
        Self {
            bind,
            link_secret,
            signer,
            authority,
            certificate,
            homes: Vec::new(),
            delegated: Delegated::default(),
            revoked: Revoked::default(),
            renewed: Renewed::default(),
            bootstrap: Vec::new(),
            relay_ports: BTreeMap::new(),
            replicas: DEFAULT_REPLICAS,
            role: RoleChoice::Auto,
            enrol: None,
            records: None,
            relay: None,
            relay_choice: RelayChoice::Auto,
            port_mapping: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// What the node is to be, as far as its certificate lets it.
    pub(super) fn role(&self) -> RoleChoice {
        if self.certificate.rights().may_serve() { self.role } else { RoleChoice::Ordinary }
    }

    /// Checks that the parts fit together, so that what goes wrong later is not our own fault.
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |why: &str| Err(Error::Config(why.to_owned()));
        if self.bind.is_empty() {
            return refuse("no address to listen on");
        }
        if !(2..=8).contains(&self.replicas) {
            return refuse("the number of replicas is not between 2 and 8");
        }
        if self.signer.public_key() != self.certificate.public_key() {
            return refuse("the signing key is not that of the node certificate");
        }
        let rights = self.certificate.rights();
        if self.role == RoleChoice::Super && !rights.may_serve() {
            return refuse("its certificate lets it only use the overlay");
        }
        if !(self.homes.is_empty() || rights.may_speak()) {
            return refuse("its certificate lets it speak for no domain");
        }
        for home in &self.homes {
            home.check_holder(&self.certificate).map_err(|error| Error::Config(error.to_string()))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("bind", &self.bind)
            .field("link_secret", &"[redacted]")
            .field("node", &self.certificate.node_id())
            .field("overlay", &self.authority.overlay())
            .field("bootstrap", &self.bootstrap)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}
