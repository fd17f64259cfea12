//! How a node comes by its identity: it founds an overlay of its own, or joins one with a ticket.
//!
//! Either way it ends up with a link key, a signing key, the authority's certificate, and two certificates of its own:
//! as a node, and as a home node of its domain. No private key travels. The home certificate is written last: where it
//! is, all else is; where it is not, the next start goes on with the keys that are there.
//!
//! [`Inviter`] is the other side: it makes tickets and answers those who show them.

mod admission;
mod domain;
mod error;
mod invite;
mod join;
mod nodes;
mod peers;
pub(crate) mod renew;
mod wire;

pub(crate) use admission::Admission;
pub use admission::NODES_PER_PERSON;
pub use domain::default_domain;
pub use error::{EnrolError, InviteError, RenewError, RevokeError};
pub(crate) use invite::Open;
pub use invite::{Inviter, MAX_VALIDITY};
pub use peers::{encode_host_cache, known_peers, known_relay_ports};

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use meshtone_identity::authority::NODE_LIFETIME;
use meshtone_identity::{
    Authority, AuthorityCertificate, HomeCertificate, LinkKey, NodeCertificate, NodeId, OverlayId, Role, Signer,
    SigningKey, Ticket,
};
use meshtone_overlay::{EnrolHandler, PeerAddress};
use zeroize::Zeroizing;

use crate::account::{Random, SystemRandom, system_random};
use crate::clock::unix_s;
use crate::store::{KeyFile, Setting, Store, Table};

/// What makes this machine a node: keys, certificates, and whom it knows.
pub struct Membership {
    /// The secret half of the link key (Ed25519).
    pub link_secret: Zeroizing<[u8; 32]>,
    /// The key that signs the node's records.
    pub signer: Arc<SigningKey>,
    /// The overlay's authority.
    pub authority_certificate: AuthorityCertificate,
    /// The node's certificate.
    pub certificate: NodeCertificate,
    /// The certificate by which the node speaks for its domain.
    pub home: HomeCertificate,
    /// The domain that the node serves.
    pub domain: String,
    /// The domain of the node that holds the overlay's authority.
    pub authority_domain: String,
    /// Whom to dial: the peers known from the last time, or who invited us.
    pub bootstrap: Vec<PeerAddress>,
    /// The TCP ports of the relays that some of those run.
    pub relay_ports: BTreeMap<LinkKey, u16>,
    /// Whether this was made just now.
    pub first_run: bool,
    inviter: Arc<Inviter>,
}

impl Membership {
    /// The node's id.
    pub fn node(&self) -> NodeId {
        self.certificate.node_id()
    }

    /// The overlay's id.
    pub fn overlay(&self) -> OverlayId {
        self.authority_certificate.overlay()
    }

    /// The public half of the link key.
    pub fn link_key(&self) -> LinkKey {
        self.certificate.link_key()
    }

    /// The domain that a ticket of this role names, by which this node may have come.
    fn invited_to(&self, role: Role) -> &str {
        match role {
            Role::Home => &self.domain,
            Role::Member | Role::StoreOnly | Role::Open => &self.authority_domain,
        }
    }

    /// Who makes tickets and answers them here.
    pub fn inviter(&self) -> Arc<Inviter> {
        Arc::clone(&self.inviter)
    }

    /// What the overlay asks when somebody wants to join; `None` where we cannot admit anybody.
    pub fn enrol_handler(&self) -> Option<EnrolHandler> {
        let inviter = self.inviter();
        if !inviter.may_invite() {
            return None;
        }
        Some(Arc::new(move |asker, request: Vec<u8>| inviter.handle(asker, &request)))
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Membership").field("node", &self.node()).field("domain", &self.domain).finish()
    }
}

/// The membership in the data folder; if there is none yet, makes one: joins with the ticket, or founds an overlay for
/// the domain (without one, for [`default_domain`]).
///
/// A ticket for the overlay and domain that the node belongs to already is let pass, so that one command line does for
/// the first start and for all others.
///
/// # Errors
/// [`EnrolError`]. Nothing of another overlay or domain is overwritten.
pub async fn establish(store: &Store, domain: Option<&str>, join: Option<&str>) -> Result<Membership, EnrolError> {
    establish_at(store, domain, join, unix_s, &SystemRandom).await
}

async fn establish_at(
    store: &Store,
    domain: Option<&str>,
    join: Option<&str>,
    now: fn() -> u64,
    random: &dyn Random,
) -> Result<Membership, EnrolError> {
    let domain = domain.map(meshtone_identity::domain::normalise).transpose()?;
    let ticket: Option<Ticket> = join.map(str::parse).transpose()?;
    if let (Some(domain), Some(ticket)) = (&domain, &ticket)
        && *domain != ticket.domain
    {
        return Err(EnrolError::OtherDomain { ours: ticket.domain.clone(), asked: domain.clone() });
    }
    if let Some(membership) = load(store, now)? {
        if let Some(ticket) = &ticket
            && (ticket.overlay != membership.overlay() || ticket.domain != membership.invited_to(ticket.role))
        {
            return Err(EnrolError::AlreadyEnrolled { overlay: membership.overlay(), domain: membership.domain });
        }
        return match domain {
            Some(asked) if asked != membership.domain && is_unknown(store, &membership)? => {
                store.put(Table::Nodes, &membership.node().to_string(), None);
                drop(membership);
                found(store, &asked, now, random)
            }
            Some(asked) if asked != membership.domain => {
                Err(EnrolError::OtherDomain { ours: membership.domain, asked })
            }
            Some(_) | None => Ok(membership),
        };
    }
    match ticket {
        Some(ticket) => join::join(store, &ticket, now, random).await,
        None => {
            // An authority that was restored alone is looked for under the domain that it had.
            let known = store.setting(Setting::AuthorityDomain)?.and_then(|domain| String::from_utf8(domain).ok());
            match (domain, known) {
                (Some(asked), Some(ours)) if asked != ours => Err(EnrolError::OtherDomain { ours, asked }),
                (asked, known) => found(store, &asked.or(known).unwrap_or_else(default_domain), now, random),
            }
        }
    }
}

/// Whether nobody knows this node's domain yet, such as after a first run that broke off: no user, no ticket, no other node, nothing
/// that the authority has issued. Then it may still get another one.
fn is_unknown(store: &Store, membership: &Membership) -> Result<bool, EnrolError> {
    let tables = [Table::Accounts, Table::Bindings, Table::Tickets, Table::Issued, Table::People, Table::Delegated];
    for table in tables {
        if !store.load(table)?.is_empty() {
            return Ok(false);
        }
    }
    // Before there was a list of nodes, those who came were counted.
    for setting in [Setting::AdmittedNodes, Setting::AdmittedMembers, Setting::AdmittedGuests] {
        if store.setting(setting)?.is_some() {
            return Ok(false);
        }
    }
    Ok(membership.inviter.may_invite() && store.load(Table::Nodes)?.len() <= 1)
}

/// The domain that the data folder belongs to and the node's id there, without starting anything; `None` before the
/// first run.
///
/// # Errors
/// [`EnrolError`].
pub fn enrolled(store: &Store) -> Result<Option<(String, NodeId)>, EnrolError> {
    Ok(identity(store)?.map(|identity| (identity.domain, identity.node)))
}

/// Who the node of a data folder is.
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) overlay: OverlayId,
    pub(crate) domain: String,
}

/// The same with its overlay.
pub(crate) fn identity(store: &Store) -> Result<Option<Identity>, EnrolError> {
    let of = |membership: Membership| Identity {
        node: membership.node(),
        overlay: membership.overlay(),
        domain: membership.domain.clone(),
    };
    Ok(load(store, unix_s)?.map(of))
}

fn load(store: &Store, now: fn() -> u64) -> Result<Option<Membership>, EnrolError> {
    let Some(home) = store.read_key(KeyFile::HomeCertificate)? else { return Ok(None) };
    let read = |file: KeyFile| store.read_key(file)?.ok_or(EnrolError::Incomplete { missing: file.name() });
    let link_secret = read(KeyFile::Link)?.try_into().map_err(|_| EnrolError::Incomplete { missing: "link.key" })?;
    let signer = Arc::new(SigningKey::from_pkcs8(&read(KeyFile::Node)?)?);
    let keys = Keys { link_secret: Zeroizing::new(link_secret), signer };
    let authority = AuthorityCertificate::parse(&read(KeyFile::AuthorityCertificate)?)?;
    let certificate = NodeCertificate::verify(&read(KeyFile::NodeCertificate)?, &authority, now())?;
    let home = HomeCertificate::verify(&home, &authority, now())?;
    keys.check(&certificate, &home)?;
    let issuer = match store.read_key(KeyFile::Authority)? {
        Some(key) => Some(Arc::new(Authority::from_parts(authority.der(), &key)?)),
        None => None,
    };
    let certificates = Certificates { authority, node: certificate, home };
    keys.membership(store, certificates, issuer, now, false).map(Some)
}

/// First run: founds an overlay with an authority of its own, for a domain of its own.
fn found(store: &Store, domain: &str, now: fn() -> u64, random: &dyn Random) -> Result<Membership, EnrolError> {
    let keys = Keys::make(store, random)?;
    let authority = authority(store, now())?;
    let mut salt = [0; 16];
    random.fill(&mut salt)?;
    let (key, link_key) = (keys.signer.public_key(), keys.link_key()?);
    let node = authority.certify_node(key, link_key, salt, now(), NODE_LIFETIME)?;
    let home = authority.issue_home(&node, domain, now(), NODE_LIFETIME)?;
    nodes::list(store, &node, &home, now(), "");
    let certificates = Certificates { authority: authority.certificate().clone(), node, home };
    // Who restored an authority knows nodes of its overlay.
    let (bootstrap, relays) = (known_peers(store)?, known_relay_ports(store)?);
    keys.keep(store, certificates, Some(Arc::new(authority)), now, (&bootstrap, &relays), domain)
}

/// The authority that an interrupted first run may have left, or a new one.
fn authority(store: &Store, now: u64) -> Result<Authority, EnrolError> {
    let parts = (store.read_key(KeyFile::AuthorityCertificate)?, store.read_key(KeyFile::Authority)?);
    if let (Some(der), Some(key)) = parts
        && let Ok(authority) = Authority::from_parts(&der, &key)
    {
        return Ok(authority);
    }
    let (authority, key) = Authority::create(now)?;
    store.write_key(KeyFile::Authority, &key)?;
    store.write_key(KeyFile::AuthorityCertificate, authority.certificate().der())?;
    Ok(authority)
}

/// The two key pairs of a node.
struct Keys {
    link_secret: Zeroizing<[u8; 32]>,
    signer: Arc<SigningKey>,
}

impl Keys {
    /// The keys in the data folder; makes those that are missing.
    fn make(store: &Store, random: &dyn Random) -> Result<Keys, EnrolError> {
        let link_secret = match store.read_key(KeyFile::Link)?.map(<[u8; 32]>::try_from) {
            Some(Ok(secret)) => secret,
            Some(Err(_)) | None => {
                let mut secret = [0; 32];
                random.fill(&mut secret)?;
                store.write_key(KeyFile::Link, &secret)?;
                secret
            }
        };
        let signer = match store.read_key(KeyFile::Node)? {
            Some(key) => SigningKey::from_pkcs8(&key)?,
            None => {
                let key = SigningKey::generate()?;
                store.write_key(KeyFile::Node, &key.to_pkcs8()?)?;
                key
            }
        };
        Ok(Keys { link_secret: Zeroizing::new(link_secret), signer: Arc::new(signer) })
    }

    fn link_key(&self) -> Result<LinkKey, EnrolError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(self.link_secret.as_slice());
        let public = pair.ok().and_then(|pair| pair.public_key().as_ref().try_into().ok());
        public.map(LinkKey::from_bytes).ok_or(EnrolError::Incomplete { missing: "link.key" })
    }

    /// Certificates must be for these keys, whoever wrote them.
    fn check(&self, certificate: &NodeCertificate, home: &HomeCertificate) -> Result<(), EnrolError> {
        if certificate.public_key() != self.signer.public_key() || certificate.link_key() != self.link_key()? {
            return Err(EnrolError::NotOurs);
        }
        Ok(home.check_holder(certificate)?)
    }

    /// Writes what makes the node a member, the home certificate last.
    fn keep(
        self,
        store: &Store,
        certificates: Certificates,
        issuer: Option<Arc<Authority>>,
        now: fn() -> u64,
        (bootstrap, relays): (&[PeerAddress], &BTreeMap<LinkKey, u16>),
        authority_domain: &str,
    ) -> Result<Membership, EnrolError> {
        self.check(&certificates.node, &certificates.home)?;
        store.put_setting(Setting::AuthorityDomain, authority_domain.as_bytes().to_vec());
        store.put_setting(Setting::HostCache, encode_host_cache(bootstrap, relays));
        store.flush()?;
        store.write_key(KeyFile::AuthorityCertificate, certificates.authority.der())?;
        store.write_key(KeyFile::NodeCertificate, certificates.node.der())?;
        store.write_key(KeyFile::HomeCertificate, certificates.home.der())?;
        self.membership(store, certificates, issuer, now, true)
    }

    fn membership(
        self,
        store: &Store,
        certificates: Certificates,
        issuer: Option<Arc<Authority>>,
        now: fn() -> u64,
        first_run: bool,
    ) -> Result<Membership, EnrolError> {
        let inviter = Inviter::open(store.clone(), &certificates, issuer, now, system_random())?;
        let Certificates { authority, node, home } = certificates;
        // Nodes of the first release did not write it: all of an overlay were of one domain.
        let authority_domain =
            store.setting(Setting::AuthorityDomain)?.and_then(|domain| String::from_utf8(domain).ok());
        Ok(Membership {
            authority_domain: authority_domain.unwrap_or_else(|| home.domain().to_owned()),
            link_secret: self.link_secret,
            signer: self.signer,
            authority_certificate: authority,
            certificate: node,
            domain: home.domain().to_owned(),
            home,
            bootstrap: known_peers(store)?,
            relay_ports: known_relay_ports(store)?,
            first_run,
            inviter: Arc::new(inviter),
        })
    }
}

/// The three certificates of a node.
struct Certificates {
    authority: AuthorityCertificate,
    node: NodeCertificate,
    home: HomeCertificate,
}

#[cfg(test)]
mod tests;
