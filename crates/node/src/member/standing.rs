//! What a person says of who may speak for her, as the overlay has it.
//!
//! It is asked anew when what is known is older than [`FRESH`], so that whoever lost a right has lost it everywhere within a minute.
//! Where the overlay cannot be asked, as in a partition, what was known last counts on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meshtone_identity::{AuthorityCertificate, Delegations, Es256, NodeId, UserCertificate};
use meshtone_overlay::node::{Entry, Overlay};
use meshtone_overlay::record::{Kind, Member};

use crate::clock::unix_s;

/// For how long an answer is used: with the time a look-up takes, less than the minute that is promised.
const FRESH: Duration = Duration::from_secs(45);

/// People remembered, with about a kilobyte each. Of more, whoever was asked for longest ago is asked for again.
const MAX_KNOWN: usize = 4096;

/// What a person says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Her newest certificate.
    pub(crate) certificate: UserCertificate,
    /// Her newest list under it.
    pub(crate) list: Delegations,
    /// Both, as the overlay has them.
    pub(crate) member: Member,
}

impl Standing {
    /// Whether a node may speak for her now.
    pub(crate) fn names(&self, node: &NodeId) -> bool {
        let now = unix_s();
        self.list.nodes().contains(node) && self.list.expires() >= now && self.certificate.check_time(now).is_ok()
    }
}

/// The overlay could not be asked, and nothing is known from before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unknown;

/// What is known of whom.
pub(super) struct Standings {
    overlay: Overlay,
    authority: AuthorityCertificate,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
}

struct Known {
    /// When it was asked for; `None` for what is but remembered from an earlier run.
    asked: Option<Instant>,
    standing: Option<Standing>,
}

impl Standings {
    pub(super) fn new(overlay: Overlay, authority: AuthorityCertificate) -> Self {
        Self { overlay, authority, known: Arc::default() }
    }

    /// What is known and fresh; the outer `None` where it has to be asked.
    pub(super) fn known(&self, address: &str) -> Option<Option<Standing>> {
        let known = self.lock();
        let known = known.get(address)?;
        known.asked.is_some_and(|asked| asked.elapsed() < FRESH).then(|| known.standing.clone())
    }

    /// What is known, however old.
    pub(super) fn last_known(&self, address: &str) -> Option<Standing> {
        self.lock().get(address)?.standing.clone()
    }

    pub(super) async fn of(&self, address: &str) -> Result<Option<Standing>, Unknown> {
        match self.known(address) {
            Some(standing) => Ok(standing),
            None => self.ask(address).await,
        }
    }

    /// Asks the overlay, whatever is known.
    pub(super) async fn ask(&self, address: &str) -> Result<Option<Standing>, Unknown> {
        match self.overlay.fetch(Kind::Member, address).await {
            Ok(entries) => Ok(self.heard(address, entries)),
            Err(error) => {
                tracing::debug!(%error, "who may speak for a person could not be asked");
                self.lock().get(address).map(|known| known.standing.clone()).ok_or(Unknown)
            }
        }
    }

    /// Takes what the overlay has, and returns what counts.
    pub(super) fn heard(&self, address: &str, entries: Vec<Entry>) -> Option<Standing> {
        let found = newest(entries, &self.authority);
        let mut known = self.lock();
        let last = known.get(address).and_then(|known| known.standing.clone());
        // What she signed cannot be unsaid: a list that is missing now is one that was not found.
        let standing = later(last, found);
        remember(&mut known, address, Known { asked: Some(Instant::now()), standing: standing.clone() });
        standing
    }

    /// Takes what was signed here just now, and returns what counts.
    pub(super) fn learn(&self, address: &str, member: Member) -> Option<Standing> {
        self.take(address, member, Some(Instant::now()))
    }

    /// Takes what was known in an earlier run, and returns what counts.
    pub(super) fn remember(&self, address: &str, member: Member) -> Option<Standing> {
        self.take(address, member, None)
    }

    fn take(&self, address: &str, member: Member, asked: Option<Instant>) -> Option<Standing> {
        let mut known = self.lock();
        let last = known.get(address).and_then(|known| known.standing.clone());
        let standing = later(last, read(member, &self.authority));
        remember(&mut known, address, Known { asked, standing: standing.clone() });
        standing
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember(known: &mut BTreeMap<String, Known>, address: &str, news: Known) {
    if known.len() >= MAX_KNOWN && !known.contains_key(address) {
        let oldest = known.iter().min_by_key(|(_, known)| known.asked).map(|(address, _)| address.clone());
        oldest.map(|oldest| known.remove(&oldest));
    }
    known.insert(address.to_owned(), news);
}

/// Of what replicas hold under her certificates, the list under the newest. They were verified before they came here.
fn newest(entries: Vec<Entry>, authority: &AuthorityCertificate) -> Option<Standing> {
    let members = entries.into_iter().filter_map(|entry| Member::decode(&entry.value).ok());
    members.filter_map(|member| read(member, authority)).fold(None, |newest, next| later(newest, Some(next)))
}

fn read(member: Member, authority: &AuthorityCertificate) -> Option<Standing> {
    let certificate = UserCertificate::verify(&Es256, &member.certificate, authority, unix_s()).ok()?;
    let list = Delegations::verify(&Es256, &member.delegations, &certificate).ok()?;
    Some(Standing { certificate, list, member })
}

/// The later certificate counts, and under one the later list.
fn later(one: Option<Standing>, other: Option<Standing>) -> Option<Standing> {
    let (Some(a), Some(b)) = (&one, &other) else { return one.or(other) };
    // Two of one second: which counts has to be the same everywhere.
    let rank = |standing: &Standing| {
        let (certificate, list) = (&standing.certificate, &standing.list);
        (certificate.not_before(), certificate.der().to_vec(), list.issued_ms())
    };
    if rank(b) > rank(a) { other } else { one }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;
    use meshtone_identity::authority::USER_LIFETIME;
    use meshtone_identity::{Authority, Signer, SigningKey};

    use super::*;

    fn standing(authority: &Authority, certified_at: u64, issued_ms: u64, nodes: &[NodeId]) -> Standing {
        let key = SigningKey::generate().unwrap();
        let certificate =
            authority.issue_user("alice@example.net", key.public_key(), certified_at, USER_LIFETIME).unwrap();
        say(authority, &key, certificate, issued_ms, nodes)
    }

    fn say(
        authority: &Authority,
        key: &SigningKey,
        certificate: UserCertificate,
        issued_ms: u64,
        nodes: &[NodeId],
    ) -> Standing {
        let list = Delegations::sign(key, &certificate, nodes, issued_ms, unix_s() + 1000).unwrap();
        let member = Member { certificate: Bytes::copy_from_slice(certificate.der()), delegations: list.into() };
        read(member, authority.certificate()).unwrap()
    }

    #[test]
    fn the_later_certificate_counts_whatever_the_holder_of_a_lost_key_says_later() {
        let (authority, _) = Authority::create(unix_s()).unwrap();
        let (thief, us) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let lost = standing(&authority, unix_s() - 1000, 9_000, &[thief]);
        let renewed = standing(&authority, unix_s() - 10, 5_000, &[us]);
        for (one, other) in [(lost.clone(), renewed.clone()), (renewed.clone(), lost)] {
            let counts = later(Some(one), Some(other)).unwrap();
            assert!(counts.names(&us) && !counts.names(&thief));
        }
    }

    #[test]
    fn under_one_certificate_the_later_list_counts_and_an_empty_one_takes_all_back() {
        let (authority, _) = Authority::create(unix_s()).unwrap();
        let node = NodeId::from_bytes([1; 32]);
        let key = SigningKey::generate().unwrap();
        let certificate = authority.issue_user("alice@example.net", key.public_key(), unix_s(), USER_LIFETIME).unwrap();
        let first = say(&authority, &key, certificate.clone(), 1, &[node]);
        let last = say(&authority, &key, certificate, 2, &[]);
        assert!(first.names(&node));
        assert!(!later(Some(last.clone()), Some(first)).unwrap().names(&node));
        assert_eq!(later(None, Some(last.clone())), Some(last));
    }
}
