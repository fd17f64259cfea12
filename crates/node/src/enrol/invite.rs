//! The inviting side: makes tickets, and answers those who show them.
//!
//! Of a ticket only the hash of its token is kept. A ticket admits one machine: the first link key that shows it; the
//! same machine may ask again, because its answer may have been lost on the way, and gets the same answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::HEXLOWER;
use meshtone_identity::authority::NODE_LIFETIME;
use meshtone_identity::id::sha256;
use meshtone_identity::ticket::{MAX_ADDRESSES, OPEN_TOKEN, TICKET_VERSION};
use meshtone_identity::{Authority, EnrolRequest, Error as IdentityError, LinkKey, Role, Ticket, address};
use meshtone_overlay::Asker;

use super::admission::{Admission, Guests};
use super::error::{InviteError, Refusal};
use super::join::domain_for;
use super::nodes;
use super::wire::{Reply, Request, encode_refusal};
use super::{Certificates, EnrolError};
use crate::account::Random;
use crate::login;
use crate::revocation::Revocations;
use crate::store::cbor::{Blob, Octets, to_cbor};
use crate::store::{Setting, Store, StoreError, Table};

/// The longest time a ticket may be valid; one lost longer ago should not let anybody in.
pub const MAX_VALIDITY: Duration = Duration::from_secs(30 * 86_400);

/// Tickets that may be open at a time: all are compared for every request, and nobody invites more machines at once.
pub(super) const MAX_OPEN_INVITES: usize = 256;

/// Nodes that a domain may have: every one holds its whole account table and takes part in replicating it. So one who comes by the
/// founder's console cannot make a crowd of nodes that would surround a place in the overlay, either.
pub(super) const MAX_NODES: usize = 128;

/// Nodes of members that an authority admits: each was invited, and no more come by one console than a large overlay has anyway.
pub(super) const MAX_MEMBER_NODES: usize = 4096;

/// Makes tickets and answers requests to join. Holds the authority, where this node has it.
pub struct Inviter {
    store: Store,
    authority: Option<Arc<Authority>>,
    overlay: meshtone_identity::OverlayId,
    link_key: LinkKey,
    domain: String,
    random: Box<dyn Random>,
    now: fn() -> u64,
    revocations: Revocations,
    /// By the hash of the token.
    invitations: Mutex<BTreeMap<[u8; 32], Invitation>>,
    /// When the certificates of the home nodes that were admitted end, in unix seconds. The founder is not among them.
    homes: Admitted,
    /// The same for the nodes of members, and for those that only store.
    members: Admitted,
    guests: Guests,
    admission: OnceLock<Admission>,
}

/// When the certificates of the nodes end that were admitted in one role.
pub(super) struct Admitted {
    ends: Mutex<Vec<u64>>,
    setting: Setting,
    max: usize,
}

/// What is kept of a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Invitation {
    role: Role,
    domain: String,
    expires: u64,
    used: Option<Use>,
    /// Whom it is for, where that was said.
    person: String,
}

/// A ticket as whoever runs the node is shown it: without what makes it one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Open {
    /// By which it is taken back.
    pub(crate) id: String,
    pub(crate) role: Role,
    /// Its end, in unix seconds.
    pub(crate) expires: u64,
    /// Whose the machine will be, where that was said.
    pub(crate) person: String,
    /// Whether a machine has joined with it.
    pub(crate) used: bool,
}

/// Who joined with it, and the answer to give again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Use {
    link_key: LinkKey,
    /// SHA-256 of the key that was certified.
    key: [u8; 32],
    reply: Vec<u8>,
}

impl Inviter {
    /// Takes up the tickets in the store. `now` gives unix seconds.
    pub(super) fn open(
        store: Store,
        certificates: &Certificates,
        authority: Option<Arc<Authority>>,
        now: fn() -> u64,
        random: Box<dyn Random>,
    ) -> Result<Inviter, StoreError> {
        let mut invitations = BTreeMap::new();
        for (key, bytes) in store.load(Table::Tickets)? {
            let hash = HEXLOWER.decode(key.as_bytes()).ok().and_then(|hash| hash.try_into().ok());
            // A ticket that cannot be read admits nobody; another one is made in its place.
            if let (Some(hash), Some(invitation)) = (hash, Invitation::decode(&bytes)) {
                invitations.insert(hash, invitation);
            }
        }
        Ok(Inviter {
            // The node itself is one of its domain.
            homes: Admitted::open(&store, Setting::AdmittedNodes, MAX_NODES - 1)?,
            members: Admitted::open(&store, Setting::AdmittedMembers, MAX_MEMBER_NODES)?,
            guests: Guests::open(&store)?,
            admission: OnceLock::new(),
            revocations: Revocations::open(store.clone(), certificates.authority.clone(), certificates.node.node_id())?,
            store,
            authority,
            overlay: certificates.authority.overlay(),
            link_key: certificates.node.link_key(),
            domain: certificates.home.domain().to_owned(),
            random,
            now,
            invitations: Mutex::new(invitations),
        })
    }

    /// Whether this node can admit anybody: only the one that founded the overlay can.
    pub fn may_invite(&self) -> bool {
        self.authority.is_some()
    }

    /// The authority, where this node has it.
    pub fn authority(&self) -> Option<Arc<Authority>> {
        self.authority.clone()
    }

    /// Which nodes are none any longer.
    pub(crate) fn revocations(&self) -> Revocations {
        self.revocations.clone()
    }

    /// Takes over what the configuration says of whom to admit; the first word counts.
    pub(crate) fn govern(&self, admission: Admission) {
        let _ = self.admission.set(admission);
    }

    pub(super) fn admission(&self) -> Admission {
        self.admission.get().copied().unwrap_or_default()
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn now(&self) -> u64 {
        (self.now)()
    }

    /// Makes a ticket that admits one machine in this role. Durable on return. One of the role [`Role::Open`] admits whoever comes, for as
    /// long as the configuration says so.
    ///
    /// `addresses` are those under which the new machine can reach our link.
    ///
    /// # Errors
    /// [`InviteError`].
    pub fn invite(&self, role: Role, valid: Duration, addresses: &[SocketAddr]) -> Result<Ticket, InviteError> {
        self.invite_for(role, None, valid, addresses)
    }

    /// The same, for a machine of this person, of which she may have so many.
    ///
    /// # Errors
    /// [`InviteError`].
    pub fn invite_for(
        &self,
        role: Role,
        person: Option<&str>,
        valid: Duration,
        addresses: &[SocketAddr],
    ) -> Result<Ticket, InviteError> {
        let authority = self.authority.as_ref().ok_or(InviteError::NoAuthority)?;
        if addresses.is_empty() {
            return Err(InviteError::NoAddress);
        }
        if role == Role::Open {
            let is_open = self.admission().is_open;
            let ticket = || self.ticket(role, OPEN_TOKEN, authority.certificate().not_after(), addresses);
            return is_open.then(ticket).ok_or(InviteError::NotOpen);
        }
        let person = person.map(|text| address::normalise(text).map_err(|_| InviteError::NoPerson(text.to_owned())));
        let person = person.transpose()?.unwrap_or_default();
        if valid > MAX_VALIDITY || valid.as_secs() == 0 {
            return Err(InviteError::BadValidity);
        }
        let now = (self.now)();
        if self.admitted(role).is_full(now) {
            return Err(InviteError::TooManyNodes);
        }
        let mut token = [0; 16];
        self.random.fill(&mut token)?;
        let expires = now.saturating_add(valid.as_secs());
        {
            let mut invitations = self.invitations.lock().unwrap_or_else(PoisonError::into_inner);
            invitations.retain(|hash, invitation| {
                let is_open = invitation.expires >= now;
                if !is_open {
                    self.store.put(Table::Tickets, &HEXLOWER.encode(hash), None);
                }
                is_open
            });
            if invitations.len() >= MAX_OPEN_INVITES {
                return Err(InviteError::TooMany);
            }
            let unused = invitations.values().filter(|open| open.person == person && open.used.is_none()).count();
            if !person.is_empty() && self.has_enough(&person, unused, now)? {
                return Err(InviteError::TooManyOfPerson(person));
            }
            let invitation = Invitation { role, domain: self.domain.clone(), expires, used: None, person };
            self.keep(hash_of(&token), &invitation);
            invitations.insert(hash_of(&token), invitation);
        }
        self.store.flush()?;
        Ok(self.ticket(role, token, expires, addresses))
    }

    /// The tickets that have not ended, the first to end first.
    pub(crate) fn open_invites(&self) -> Vec<Open> {
        let now = (self.now)();
        let invitations = self.invitations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open: Vec<Open> = invitations
            .iter()
            .filter(|(_, invitation)| invitation.expires >= now)
            .map(|(hash, invitation)| Open {
                id: login::id_of(hash),
                role: invitation.role,
                expires: invitation.expires,
                person: invitation.person.clone(),
                used: invitation.used.is_some(),
            })
            .collect();
        open.sort_by(|left, right| (left.expires, &left.id).cmp(&(right.expires, &right.id)));
        open
    }

    /// Takes a ticket back: nobody joins with it any more, and a machine that did is not answered again. False where there is none of
    /// that id.
    pub(crate) fn withdraw(&self, id: &str) -> bool {
        let mut invitations = self.invitations.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(hash) = invitations.keys().find(|hash| login::id_of(hash) == id).copied() else { return false };
        self.store.put(Table::Tickets, &HEXLOWER.encode(&hash), None);
        invitations.remove(&hash).is_some()
    }

    /// The id of a ticket that was made here; empty of one that is open to whoever comes, which nobody takes back.
    pub(crate) fn id_of(ticket: &Ticket) -> String {
        if ticket.token == OPEN_TOKEN { String::new() } else { login::id_of(&hash_of(&ticket.token)) }
    }

    fn ticket(&self, role: Role, token: [u8; 16], expires: u64, addresses: &[SocketAddr]) -> Ticket {
        Ticket {
            version: TICKET_VERSION,
            overlay: self.overlay,
            inviter: self.link_key,
            addresses: addresses.iter().take(MAX_ADDRESSES).copied().collect(),
            relay: None,
            token,
            expires,
            role,
            domain: self.domain.clone(),
        }
    }

    /// Whether a person has as many nodes as one may have, with so many tickets that may still be used.
    fn has_enough(&self, person: &str, unused: usize, now: u64) -> Result<bool, StoreError> {
        Ok(nodes::count_of(&self.store, person, now)? + unused >= self.admission().nodes_per_person)
    }

    /// Answers a request to join. Blocks for an `fsync` when it admits somebody.
    pub fn handle(&self, asker: Asker, request: &[u8]) -> Vec<u8> {
        match self.admit(asker, request) {
            Ok(reply) => reply,
            Err(refusal) => {
                tracing::warn!(peer = %asker.link_key.short(), %refusal, "a request to join was refused");
                encode_refusal(refusal)
            }
        }
    }

    fn admit(&self, asker: Asker, request: &[u8]) -> Result<Vec<u8>, Refusal> {
        let link_key = asker.link_key;
        let authority = self.authority.as_deref().ok_or(Refusal::Unknown)?;
        let request = Request::decode(request).ok_or(Refusal::BadRequest)?;
        if request.token == OPEN_TOKEN {
            return self.admit_guest(authority, asker, &request);
        }
        // Locked until the use is noted, so that of two machines with one ticket one is refused.
        let mut invitations = self.invitations.lock().unwrap_or_else(PoisonError::into_inner);
        let (hash, invitation) = find(&mut invitations, &request.token).ok_or(Refusal::Unknown)?;
        let now = (self.now)();
        if now > invitation.expires {
            return Err(Refusal::Expired);
        }
        let certification = EnrolRequest::parse(&request.certification).map_err(|_| Refusal::BadRequest)?;
        if certification.link_key() != link_key {
            return Err(Refusal::BadRequest);
        }
        let key = sha256(certification.public_key().as_bytes());
        if let Some(used) = &invitation.used {
            return if used.link_key == link_key && used.key == key {
                Ok(used.reply.clone())
            } else {
                Err(Refusal::Used)
            };
        }
        let admitted = self.admitted(invitation.role);
        if admitted.is_full(now) {
            return Err(Refusal::TooManyNodes);
        }
        let person = invitation.person.as_str();
        if !person.is_empty() && self.has_enough(person, 0, now).map_err(|_| Refusal::Failed)? {
            return Err(Refusal::TooManyOfPerson);
        }
        let reply = self.issue(authority, &certification, (invitation.role, person), now)?;
        let used = Invitation { used: Some(Use { link_key, key, reply: reply.clone() }), ..invitation.clone() };
        self.keep(hash, &used);
        admitted.count(&self.store, now.saturating_add(NODE_LIFETIME.as_secs()));
        // Once the answer is out, the ticket must be spent, whatever happens to us.
        self.store.flush().map_err(|error| {
            tracing::error!(%error, "the use of a ticket could not be kept");
            Refusal::Failed
        })?;
        *invitation = used;
        tracing::info!(peer = %link_key.short(), role = ?invitation.role, "a machine joined");
        Ok(reply)
    }

    /// Admits a node that nobody has invited, where everybody may come.
    fn admit_guest(&self, authority: &Authority, asker: Asker, request: &Request) -> Result<Vec<u8>, Refusal> {
        if !self.admission().is_open {
            return Err(Refusal::NotOpen);
        }
        let Asker { link_key, source } = asker;
        let certification = EnrolRequest::parse(&request.certification).map_err(|_| Refusal::BadRequest)?;
        if certification.link_key() != link_key {
            return Err(Refusal::BadRequest);
        }
        let key = sha256(certification.public_key().as_bytes());
        if let Some(reply) = self.guests.answered(link_key, &key) {
            return Ok(reply);
        }
        let now = (self.now)();
        self.guests.admit(source, now)?;
        let reply = self.issue(authority, &certification, (Role::Open, ""), now)?;
        let end = now.saturating_add(NODE_LIFETIME.as_secs());
        self.guests.count(&self.store, source, (now, end), (link_key, key, reply.clone()));
        self.store.flush().map_err(|error| {
            tracing::error!(%error, "a guest could not be listed, so it is not admitted");
            Refusal::Failed
        })?;
        tracing::info!(peer = %link_key.short(), "a machine joined uninvited");
        Ok(reply)
    }

    /// Certifies a machine in this role, of this person where that is known.
    fn issue(
        &self,
        authority: &Authority,
        certification: &EnrolRequest,
        (role, person): (Role, &str),
        now: u64,
    ) -> Result<Vec<u8>, Refusal> {
        let mut salt = [0; 16];
        let failed = |error: EnrolError| {
            tracing::error!(%error, "no certificate could be issued");
            Refusal::Failed
        };
        self.random.fill(&mut salt).map_err(|error| failed(error.into()))?;
        let issue = || -> Result<Vec<u8>, IdentityError> {
            let rights = self.admission().rights(role);
            let node = authority.issue_node(certification, rights, salt, now, NODE_LIFETIME)?;
            let domain = domain_for(role, &self.domain, &node);
            let home = authority.issue_home(&node, &domain, now, NODE_LIFETIME)?;
            nodes::list(&self.store, &node, &home, now, person);
            let authority = authority.certificate().der().to_vec();
            Ok(Reply { authority, node: node.der().to_vec(), home: home.der().to_vec() }.encode())
        };
        issue().map_err(|error| failed(error.into()))
    }

    /// Those who were invited; guests are counted apart.
    fn admitted(&self, role: Role) -> &Admitted {
        match role {
            Role::Home => &self.homes,
            Role::Member | Role::StoreOnly | Role::Open => &self.members,
        }
    }

    /// Counts a node longer, whose certificate was to end then.
    pub(super) fn count_longer(&self, role: Role, old_end: u64, end: u64) {
        self.admitted(role).renew(&self.store, old_end, end);
        self.guests.renew(&self.store, old_end, end);
    }

    fn keep(&self, hash: [u8; 32], invitation: &Invitation) {
        self.store.put(Table::Tickets, &HEXLOWER.encode(&hash), Some(invitation.encode()));
    }
}

impl std::fmt::Debug for Inviter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Inviter").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl Admitted {
    fn open(store: &Store, setting: Setting, max: usize) -> Result<Self, StoreError> {
        let ends = store.setting(setting)?;
        // What cannot be read counts nobody: better one node too many than a domain that is shut.
        let ends = ends.and_then(|bytes| ciborium::from_reader(bytes.as_slice()).ok()).unwrap_or_default();
        Ok(Self { ends: Mutex::new(ends), setting, max })
    }

    /// Whether there are as many as there may be.
    fn is_full(&self, now: u64) -> bool {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.retain(|end| *end >= now);
        ends.len() >= self.max
    }

    /// Counts a node longer, whose certificate was to end then.
    pub(super) fn renew(&self, store: &Store, old_end: u64, end: u64) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counted) = ends.iter_mut().find(|counted| **counted == old_end) {
            *counted = end;
            store.put_setting(self.setting, to_cbor(&*ends));
        }
    }

    /// Counts a node whose certificate ends then.
    fn count(&self, store: &Store, end: u64) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.push(end);
        store.put_setting(self.setting, to_cbor(&*ends));
    }
}

/// Compares with every open ticket, in the same time whatever the token.
fn find<'a>(
    invitations: &'a mut BTreeMap<[u8; 32], Invitation>,
    token: &[u8; 16],
) -> Option<([u8; 32], &'a mut Invitation)> {
    let shown = hash_of(token);
    let mut found = None;
    for (hash, invitation) in invitations {
        if verify_slices_are_equal(hash, &shown).is_ok() {
            found = Some((*hash, invitation));
        }
    }
    found
}

fn hash_of(token: &[u8; 16]) -> [u8; 32] {
    sha256(token)
}

/// (domain, expires, use or null, whether it is for a member, the role's name, whom it is for); tickets of earlier releases end before the
/// last or the last two
type Stored = (String, u64, Option<StoredUse>, bool, String, String);
type SecondStored = (String, u64, Option<StoredUse>, bool);
type FirstStored = (String, u64, Option<StoredUse>);
type StoredUse = (Octets<32>, Octets<32>, Blob);

impl Invitation {
    fn encode(&self) -> Vec<u8> {
        let used = self.used.as_ref();
        let used = used.map(|used| (Octets(*used.link_key.as_bytes()), Octets(used.key), Blob(used.reply.clone())));
        let (role, person) = (self.role.name().to_owned(), self.person.clone());
        let stored: Stored = (self.domain.clone(), self.expires, used, self.role != Role::Home, role, person);
        to_cbor(&stored)
    }

    fn decode(bytes: &[u8]) -> Option<Invitation> {
        let first = |(domain, expires, used): FirstStored| (domain, expires, used, false);
        let second = |(domain, expires, used, is_member): SecondStored| {
            let role = if is_member { Role::Member } else { Role::Home };
            (domain, expires, used, is_member, role.name().to_owned(), String::new())
        };
        let (domain, expires, used, _, role, person) = ciborium::from_reader::<Stored, _>(bytes)
            .ok()
            .or_else(|| ciborium::from_reader::<SecondStored, _>(bytes).ok().map(second))
            .or_else(|| ciborium::from_reader::<FirstStored, _>(bytes).ok().map(first).map(second))?;
        let role = Role::named(&role)?;
        let used = used.map(|(link_key, key, reply)| Use {
            link_key: LinkKey::from_bytes(link_key.0),
            key: key.0,
            reply: reply.0,
        });
        Some(Invitation { role, domain, expires, used, person })
    }
}
