//! How a node comes by its identity: it founds an overlay of its own, or joins one with a ticket.
//!
//! Either way it ends up with a link key, a signing key, the authority's certificate, and two certificates of its own:
//! as a node, and as a home node of its domain. No private key travels. The home certificate is written last: where it
//! is, all else is; where it is not, the next start goes on with the keys that are there.
//!
//! [`Inviter`] is the other side: it makes tickets and answers those who show them.

mod domain;
mod error;
mod invite;
mod join;
mod peers;
mod wire;

pub use domain::default_domain;
pub use error::{EnrolError, InviteError};
pub use invite::{Inviter, MAX_VALIDITY};
pub use peers::{keep_peers, known_peers};

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use meshtone_identity::authority::NODE_LIFETIME;
use meshtone_identity::{
    Authority, AuthorityCertificate, HomeCertificate, LinkKey, NodeCertificate, NodeId, OverlayId, Signer,
    SigningKey, Ticket,
};
use meshtone_overlay::PeerAddress;

use crate::account::Random;
use crate::store::{KeyFile, Setting, Store};

/// Who this node is.
pub struct Identity {
    /// The secret half of the link key (Ed25519).
    pub link_secret: [u8; 32],
    /// The key that signs the node's records.
    pub signer: Arc<SigningKey>,
    /// The overlay's authority.
    pub authority: AuthorityCertificate,
    /// The node's certificate.
    pub certificate: NodeCertificate,
    /// The certificate by which the node speaks for its domain.
    pub home: HomeCertificate,
    /// The authority itself, on the node that founded the overlay.
    pub issuer: Option<Arc<Authority>>,
    /// Whether this was made just now: a first run.
    pub is_new: bool,
    /// The node that invited us, if we joined just now: whom to dial first.
    pub inviter: Option<PeerAddress>,
}

impl Identity {
    /// The node's id.
    pub fn node(&self) -> NodeId {
        self.certificate.node_id()
    }

    /// The overlay's id.
    pub fn overlay(&self) -> OverlayId {
        self.authority.overlay()
    }

    /// The domain that the node serves.
    pub fn domain(&self) -> &str {
        self.home.domain()
    }

    /// The public half of the link key.
    pub fn link_key(&self) -> LinkKey {
        self.certificate.link_key()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Identity").field("node", &self.node()).field("domain", &self.domain()).finish()
    }
}

/// The identity in the data folder; if there is none yet, makes one: joins with the ticket, or founds an overlay for
/// the domain (without one, for [`default_domain`]). `now` is in unix seconds.
///
/// A ticket for the overlay and domain that the node belongs to already is let pass, so that one command line does for
/// the first start and for all others.
///
/// # Errors
/// [`EnrolError`]. Nothing of another overlay or domain is overwritten.
pub async fn identity(
    store: &Store,
    domain: Option<&str>,
    ticket: Option<&str>,
    now: u64,
    random: &dyn Random,
) -> Result<Identity, EnrolError> {
    let domain = domain.map(meshtone_identity::domain::normalise).transpose()?;
    let ticket: Option<Ticket> = ticket.map(str::parse).transpose()?;
    if let (Some(domain), Some(ticket)) = (&domain, &ticket)
        && *domain != ticket.domain
    {
        return Err(EnrolError::OtherDomain { ours: ticket.domain.clone(), asked: domain.clone() });
    }
    if let Some(identity) = load(store, now)? {
        if let Some(ticket) = &ticket
            && (ticket.overlay != identity.overlay() || ticket.domain != identity.domain())
        {
            return Err(EnrolError::AlreadyEnrolled {
                overlay: identity.overlay(),
                domain: identity.domain().to_owned(),
            });
        }
        return match domain {
            Some(asked) if asked != identity.domain() => {
                Err(EnrolError::OtherDomain { ours: identity.domain().to_owned(), asked })
            }
            Some(_) | None => Ok(identity),
        };
    }
    match ticket {
        Some(ticket) => join::join(store, &ticket, now, random).await,
        None => found(store, &domain.unwrap_or_else(default_domain), now, random),
    }
}

/// The domain that the data folder belongs to and the node's id there, without starting anything; `None` before the
/// first run.
///
/// # Errors
/// [`EnrolError`].
pub fn enrolled(store: &Store, now: u64) -> Result<Option<(String, NodeId)>, EnrolError> {
    Ok(load(store, now)?.map(|identity| (identity.domain().to_owned(), identity.node())))
}

fn load(store: &Store, now: u64) -> Result<Option<Identity>, EnrolError> {
    let Some(home) = store.read_key(KeyFile::HomeCertificate)? else { return Ok(None) };
    let read = |file: KeyFile| store.read_key(file)?.ok_or(EnrolError::Incomplete { missing: file.name() });
    let keys = Keys {
        link_secret: read(KeyFile::Link)?.try_into().map_err(|_| EnrolError::Incomplete { missing: "link.key" })?,
        signer: Arc::new(SigningKey::from_pkcs8(&read(KeyFile::Node)?)?),
    };
    let authority = AuthorityCertificate::parse(&read(KeyFile::AuthorityCertificate)?)?;
    let certificate = NodeCertificate::verify(&read(KeyFile::NodeCertificate)?, &authority, now)?;
    let home = HomeCertificate::verify(&home, &authority, now)?;
    keys.check(&certificate, &home)?;
    let issuer = match store.read_key(KeyFile::Authority)? {
        Some(key) => Some(Arc::new(Authority::from_parts(authority.der(), &key)?)),
        None => None,
    };
    let Keys { link_secret, signer } = keys;
    Ok(Some(Identity { link_secret, signer, authority, certificate, home, issuer, is_new: false, inviter: None }))
}

/// First run: founds an overlay with an authority of its own, for a domain of its own.
fn found(store: &Store, domain: &str, now: u64, random: &dyn Random) -> Result<Identity, EnrolError> {
    let keys = Keys::make(store, random)?;
    let authority = authority(store, now)?;
    let mut salt = [0; 16];
    random.fill(&mut salt)?;
    let certificate =
        authority.certify_node(keys.signer.public_key(), keys.link_key()?, salt, now, NODE_LIFETIME)?;
    let home = authority.issue_home(&certificate, domain, now, NODE_LIFETIME)?;
    keys.keep(store, authority.certificate().clone(), certificate, home, Some(Arc::new(authority)), None)
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
    link_secret: [u8; 32],
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
        Ok(Keys { link_secret, signer: Arc::new(signer) })
    }

    fn link_key(&self) -> Result<LinkKey, EnrolError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&self.link_secret);
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
        authority: AuthorityCertificate,
        certificate: NodeCertificate,
        home: HomeCertificate,
        issuer: Option<Arc<Authority>>,
        inviter: Option<PeerAddress>,
    ) -> Result<Identity, EnrolError> {
        self.check(&certificate, &home)?;
        if let Some(inviter) = &inviter {
            keep_peers(store, std::slice::from_ref(inviter));
        }
        store.put_setting(Setting::Domain, home.domain().as_bytes().to_vec());
        store.flush()?;
        store.write_key(KeyFile::AuthorityCertificate, authority.der())?;
        store.write_key(KeyFile::NodeCertificate, certificate.der())?;
        store.write_key(KeyFile::HomeCertificate, home.der())?;
        let Keys { link_secret, signer } = self;
        Ok(Identity { link_secret, signer, authority, certificate, home, issuer, is_new: true, inviter })
    }
}

#[cfg(test)]
mod tests;
