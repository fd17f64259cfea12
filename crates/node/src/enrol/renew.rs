//! A node's certificates issued anew, for the same keys, id and domain, before they run out.

use meshtone_identity::authority::NODE_LIFETIME;
use meshtone_identity::{AuthorityCertificate, EnrolRequest, HomeCertificate, NodeCertificate, NodeId, Role, domain};

use super::error::RenewError;
use super::invite::Inviter;
use super::nodes;

/// What a node shows that wants to stay one, DER.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// Proves that it has its key, see `meshtone_identity::EnrolRequest`.
    pub(crate) certification: Vec<u8>,
    pub(crate) node: Vec<u8>,
    pub(crate) home: Vec<u8>,
}

/// A node's two certificates, verified.
pub(crate) struct Pair {
    pub(crate) node: NodeCertificate,
    pub(crate) home: HomeCertificate,
}

impl Pair {
    /// Verifies both at this time, and that they belong together.
    pub(crate) fn verify(
        node: &[u8],
        home: &[u8],
        authority: &AuthorityCertificate,
        now: u64,
    ) -> Result<Pair, meshtone_identity::Error> {
        let node = NodeCertificate::verify(node, authority, now)?;
        let home = HomeCertificate::verify(home, authority, now)?;
        home.check_holder(&node)?;
        Ok(Pair { node, home })
    }

    /// When they are to be renewed, in unix seconds: when two thirds of their life are over, and up to a twelfth of it later, so that
    /// nodes that came together do not come back together.
    pub(crate) fn due(&self) -> u64 {
        let ends = self.ends();
        let life = ends.saturating_sub(self.node.not_before().max(self.home.not_before()));
        let spread = u64::from(self.node.node_id().as_bytes().first().copied().unwrap_or_default());
        ends.saturating_sub(life / 3).saturating_add(life / 12 * spread / 256)
    }

    /// The last second in which both hold.
    pub(crate) fn ends(&self) -> u64 {
        self.node.not_after().min(self.home.not_after())
    }
}

impl Inviter {
    /// Issues new certificates for what a node shows that is linked as `source`. They are listed on disk before they leave; blocks
    /// for an `fsync`.
    pub(crate) fn renew(&self, source: NodeId, shown: &Renewal) -> Result<Pair, RenewError> {
        let authority = self.authority().ok_or(RenewError::NoAuthority)?;
        let now = self.now();
        let old = Pair::verify(&shown.node, &shown.home, authority.certificate(), now)?;
        let request = EnrolRequest::parse(&shown.certification)?;
        let is_theirs = old.node.node_id() == source
            && old.node.public_key() == request.public_key()
            && old.node.link_key() == request.link_key();
        if !is_theirs {
            return Err(RenewError::NotTheirs);
        }
        if self.revocations().revoked().contains(&source) {
            return Err(RenewError::Revoked);
        }
        // Nobody needs them sooner, and each costs signatures and an `fsync`.
        let life = old.ends().saturating_sub(old.node.not_before());
        if old.ends().saturating_sub(now) > life / 2 {
            return Err(RenewError::TooEarly);
        }
        let role = if domain::of_member(&source) == old.home.domain() { Role::Member } else { Role::Home };
        let rights = self.admission().renewed(role, old.node.rights());
        let node = authority.renew_node(&old.node, rights, now, NODE_LIFETIME)?;
        let home = authority.issue_home(&node, old.home.domain(), now, NODE_LIFETIME)?;
        nodes::list(self.store(), &node, &home, now, &nodes::person_of(self.store(), &source));
        self.count_longer(role, old.node.not_after(), node.not_after());
        self.store().flush()?;
        Ok(Pair { node, home })
    }
}
