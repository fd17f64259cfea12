//! The nodes that the authority here has certified, and taking that back.

use meshtone_identity::authority::NODE_LIFETIME;
use meshtone_identity::{HomeCertificate, NodeCertificate, NodeId, Revocation, Rights};

use super::error::RevokeError;
use super::invite::Inviter;
use crate::control::NodeRow;
use crate::store::cbor::to_cbor;
use crate::store::{Store, StoreError, Table};
use crate::text::harmless;

/// Longest reason that is kept, in characters: a line.
const MAX_REASON: usize = 200;

/// (domain, issued, ends, when it was revoked or 0, why, whose it is or nothing, what it may do); the first five in the list's first form
type Stored = (String, u64, u64, u64, String, String, String);
type FirstStored = (String, u64, u64, u64, String);

/// Lists a node's certificates before they leave, and whose it is, where that is known. Durable with the next flush.
pub(super) fn list(store: &Store, node: &NodeCertificate, home: &HomeCertificate, now: u64, person: &str) {
    let may = match node.rights() {
        Rights::Full => "",
        Rights::StoreOnly => "store",
        Rights::UseOnly => "use",
    };
    let (domain, reason) = (home.domain().to_owned(), String::new());
    let stored: Stored = (domain, now, node.not_after(), 0, reason, person.to_owned(), may.to_owned());
    store.put(Table::Nodes, &node.node_id().to_string(), Some(to_cbor(&stored)));
}

/// Whose a listed node is; nothing where that is not known.
pub(super) fn person_of(store: &Store, node: &NodeId) -> String {
    let listed = store.value(Table::Nodes, &node.to_string()).ok().flatten();
    listed.and_then(|bytes| decode(&bytes)).map(|(.., person, _)| person).unwrap_or_default()
}

/// How many nodes a person has whose certificates hold.
pub(super) fn count_of(store: &Store, person: &str, now: u64) -> Result<usize, StoreError> {
    let rows = store.load(Table::Nodes)?;
    let is_hers = |(domain, _, ends, revoked, _, of, _): &Stored| {
        !domain.is_empty() && of == person && *ends >= now && *revoked == 0
    };
    Ok(rows.iter().filter_map(|(_, bytes)| decode(bytes)).filter(is_hers).count())
}

impl Inviter {
    /// The nodes whose certificates have not run out, by id.
    ///
    /// # Errors
    /// [`RevokeError::NoAuthority`], [`RevokeError::Store`].
    pub(crate) fn nodes(&self) -> Result<Vec<NodeRow>, RevokeError> {
        self.authority().ok_or(RevokeError::NoAuthority)?;
        let row = |(node, bytes): (String, Vec<u8>)| {
            let (domain, issued, expires, revoked, because, person, may) = decode(&bytes)?;
            let revoked = Some(revoked).filter(|revoked| *revoked > 0);
            Some(NodeRow { node, domain, issued, expires, revoked, because, person, may })
        };
        let rows = self.store().load(Table::Nodes)?;
        Ok(rows.into_iter().filter_map(row).filter(|row| row.expires >= self.now()).collect())
    }

    /// Revokes a node: says so where all nodes hear it, and keeps why. A node that is revoked already stays so. Durable on return.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub(crate) fn revoke(&self, node: NodeId, because: &str) -> Result<(), RevokeError> {
        let authority = self.authority().ok_or(RevokeError::NoAuthority)?;
        let revocations = self.revocations();
        if node == revocations.own() {
            return Err(RevokeError::Own);
        }
        if revocations.revoked().contains(&node) {
            return Ok(());
        }
        if !revocations.has_room() {
            return Err(RevokeError::TooMany);
        }
        let now = self.now();
        let listed = self.store().value(Table::Nodes, &node.to_string())?.and_then(|bytes| decode(&bytes));
        // One that was certified before there was a list has no longer than this.
        let (domain, issued, ends, person, may) = match listed {
            Some((domain, issued, ends, _, _, person, may)) => (domain, issued, ends, person, may),
            None => (String::new(), 0, now.saturating_add(NODE_LIFETIME.as_secs()), String::new(), String::new()),
        };
        let said = Revocation::sign(&authority, node, now, ends)?;
        let because = harmless(because, MAX_REASON);
        let stored: Stored = (domain, issued, ends, now, because, person, may);
        self.store().put(Table::Nodes, &node.to_string(), Some(to_cbor(&stored)));
        Ok(revocations.take(&[*said.encoded()])?)
    }
}

fn decode(bytes: &[u8]) -> Option<Stored> {
    let first = |(domain, issued, ends, revoked, because): FirstStored| {
        (domain, issued, ends, revoked, because, String::new(), String::new())
    };
    let read = ciborium::from_reader::<Stored, _>(bytes).ok();
    read.or_else(|| ciborium::from_reader::<FirstStored, _>(bytes).ok().map(first))
}
