//! People with an address of their own (`meshtone_identity::member`): those whose keys are kept here, and those who let this node
//! speak for them.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`keys`] | keeps keys and certificates of the people who enrolled here, and signs whom they let speak for them |
//! | [`standing`] | asks the overlay what a person says, at most a minute old |
//! | [`hearing`] | hears at once when somebody says something new |
//! | [`enrolment`] | how somebody gets an address of her own here |
//! | [`keeper`] | keeps this node's right to speak for its users true, and what people said in the overlay |
//!
//! An account whose name is a whole address is such a person's. Its phones are served only while her list names this node.

mod enrolment;
mod error;
mod hearing;
mod keeper;
mod keys;
mod pins;
mod standing;

pub(crate) use enrolment::{EnrolmentError, Enrolments};
pub use error::MemberError;
pub(crate) use standing::{Standing, Unknown};

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meshtone_identity::soft_card::RANDOM;
use meshtone_identity::{AuthorityCertificate, Es256, NodeId, SigningKey, SoftCard, UserCertificate};
use meshtone_overlay::node::Overlay;
use meshtone_overlay::record::{Delegated, Kind, Member};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use self::keys::{Keys, Person};
use self::pins::Pins;
use self::standing::Standings;
use crate::account::{Accounts, Random};
use crate::clock::{unix_ms, unix_s};
use crate::location::memory::Registrations;
use crate::location::publisher::Publisher;
use crate::store::Store;

/// Reads every key that a store keeps of people.
pub(crate) fn check_kept(store: &Store, authority: &AuthorityCertificate) -> Result<(), MemberError> {
    Keys::open(store.clone(), authority).map(drop)
}

/// How long a list holds that nobody renews: as long as a machine with a key may be off.
const LIST_LIFETIME_S: u64 = 30 * 86_400;

/// Those people of this node. Clones share them.
#[derive(Clone)]
pub(crate) struct Members {
    inner: Arc<Inner>,
}

struct Inner {
    keys: Keys,
    standings: Standings,
    pins: Pins,
    /// For whom this node may speak: what its records prove.
    delegated: Delegated,
    authority: AuthorityCertificate,
    overlay: Overlay,
    accounts: Accounts,
    store: Store,
    random: Box<dyn Random>,
    /// Something changed that the keeper should look at now.
    wake: Notify,
}

/// What `meshtone key list` shows of somebody whose key is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PersonStatus {
    pub(crate) address: String,
    /// Until when the certificate holds, in unix seconds; `None` before the mailbox is proved.
    pub(crate) certified_until: Option<u64>,
    /// The nodes that may speak for her.
    pub(crate) nodes: Vec<NodeId>,
    /// Somebody has proved the mailbox anew since: the key here speaks for nobody any more.
    pub(crate) superseded: bool,
}

impl Members {
    /// Takes up what the store holds. `delegated` is what the overlay proves its records by.
    ///
    /// # Errors
    /// [`MemberError::Store`], [`MemberError::Identity`] for what is damaged.
    pub(crate) fn open(
        store: Store,
        overlay: Overlay,
        authority: AuthorityCertificate,
        accounts: Accounts,
        delegated: Delegated,
        random: Box<dyn Random>,
    ) -> Result<Self, MemberError> {
        let keys = Keys::open(store.clone(), &authority)?;
        let standings = Standings::new(overlay.clone(), authority.clone());
        let pins = Pins::open(store.clone())?;
        let inner = Inner {
            keys,
            standings,
            pins,
            delegated,
            authority,
            overlay,
            accounts,
            store,
            random,
            wake: Notify::new(),
        };
        let members = Self { inner: Arc::new(inner) };
        members.restore();
        Ok(members)
    }

    /// Whether this node may speak for the person with this address.
    pub(crate) fn speaks_for(&self, address: &str) -> bool {
        self.inner.delegated.get(address).is_some()
    }

    /// What is known of a person without asking anybody, if it is fresh.
    pub(crate) fn known(&self, address: &str) -> Option<Option<Standing>> {
        self.inner.standings.known(address)
    }

    /// What a person says, at most a minute old; older only where the overlay cannot be asked.
    ///
    /// # Errors
    /// [`Unknown`] where it cannot be asked and was not before.
    pub(crate) async fn standing(&self, address: &str) -> Result<Option<Standing>, Unknown> {
        let standing = self.inner.standings.of(address).await?;
        if let Some(standing) = &standing {
            self.inner.pins.meet(standing, unix_s());
        }
        Ok(standing)
    }

    /// Whose key changed lately, and when, in unix seconds.
    pub(crate) fn key_changes(&self) -> Vec<(String, u64)> {
        self.inner.pins.changes(unix_s())
    }

    /// Keeps what this node may do in line with what people say, until the node stops.
    pub(crate) async fn run(self, publisher: Publisher, registrations: Arc<Registrations>) {
        keeper::run(self, publisher, registrations).await;
    }

    /// The key of somebody who wants to enrol: the one that she began with, or a new one. Durable on return.
    ///
    /// # Errors
    /// [`MemberError`].
    pub(crate) fn begin(&self, address: &str) -> Result<Arc<SigningKey>, MemberError> {
        self.inner.keys.begin(address, unix_ms())
    }

    /// The key of somebody who has begun to enrol.
    ///
    /// # Errors
    /// [`MemberError::NotBegun`].
    pub(crate) fn begun(&self, address: &str) -> Result<Arc<SigningKey>, MemberError> {
        self.inner.keys.begun(address)
    }

    /// Takes the certificate that a mailbox was proved for, lets this node speak for its owner, and says so in the overlay.
    ///
    /// # Errors
    /// [`MemberError`]; what was certified is kept nevertheless, and said later.
    pub(crate) async fn certified(&self, certificate: UserCertificate) -> Result<(), MemberError> {
        let address = certificate.address().to_owned();
        self.inner.keys.certified(certificate)?;
        // A new certificate begins with nobody: where an older one was lost, whom it let speak is not to be trusted.
        self.say(&address, &[self.inner.overlay.node_id()].into()).await
    }

    /// Lets another node speak for a person whose key is here, or takes that back.
    ///
    /// # Errors
    /// [`MemberError`].
    pub(crate) async fn delegate(&self, address: &str, node: NodeId, may: bool) -> Result<(), MemberError> {
        let person = self.inner.keys.person(address)?;
        let mut nodes = self.current_nodes(address, &person).await?;
        if may {
            nodes.insert(node)
        } else {
            nodes.remove(&node)
        };
        self.say(address, &nodes).await
    }

    /// How many people's keys are here.
    pub(crate) fn count(&self) -> usize {
        self.inner.keys.count()
    }

    /// The people whose keys are here.
    pub(crate) fn people(&self) -> Vec<PersonStatus> {
        let status = |(address, person): (String, Person)| {
            let known = self.inner.standings.last_known(&address);
            let superseded = match (&person.certificate, &known) {
                (Some(ours), Some(newest)) => ours.der() != newest.certificate.der(),
                _ => false,
            };
            PersonStatus {
                certified_until: person.certificate.as_ref().map(UserCertificate::not_after),
                nodes: known.map_or(person.nodes, |standing| standing.list.nodes().to_vec()),
                superseded,
                address,
            }
        };
        self.inner.keys.all().into_iter().map(status).collect()
    }

    /// A person's key and certificate, encrypted. Takes some tenths of a second.
    ///
    /// # Errors
    /// [`MemberError`].
    pub(crate) fn export(&self, address: &str, passphrase: &str) -> Result<String, MemberError> {
        let person = self.inner.keys.person(address)?;
        let certificate = person.certificate.ok_or_else(|| MemberError::NotCertified(address.to_owned()))?;
        let mut random = [0; RANDOM];
        self.inner.random.fill(&mut random)?;
        let card = SoftCard { key: person.key.to_pkcs8()?, certificate: certificate.der().to_vec() };
        Ok(card.seal(passphrase, &random)?)
    }

    /// Opens a card of this overlay. Takes some tenths of a second.
    ///
    /// # Errors
    /// [`MemberError::Identity`] for a wrong passphrase, a damaged card, or one of another overlay.
    pub(crate) fn open_card(
        &self,
        card: &str,
        passphrase: &str,
    ) -> Result<(UserCertificate, Zeroizing<Vec<u8>>), MemberError> {
        let SoftCard { key, certificate } = SoftCard::open(card, passphrase)?;
        let certificate = UserCertificate::verify(&Es256, &certificate, &self.inner.authority, unix_s())?;
        Ok((certificate, key))
    }

    /// Takes a key from another machine, and lets this node speak for its owner beside those that do.
    ///
    /// # Errors
    /// [`MemberError::Superseded`] where the mailbox was proved anew since.
    pub(crate) async fn import(&self, certificate: UserCertificate, key: &[u8]) -> Result<(), MemberError> {
        let address = certificate.address().to_owned();
        let known = self.inner.standings.ask(&address).await;
        if let Ok(Some(standing)) = &known
            && standing.certificate.der() != certificate.der()
            && standing.certificate.not_before() >= certificate.not_before()
        {
            return Err(MemberError::Superseded(address));
        }
        self.inner.keys.import(certificate, key)?;
        self.delegate(&address, self.inner.overlay.node_id(), true).await
    }

    /// The nodes that may speak for a person now, asked afresh: another machine with her key may have changed them.
    async fn current_nodes(&self, address: &str, person: &Person) -> Result<BTreeSet<NodeId>, MemberError> {
        let certificate = person.certificate.as_ref().ok_or_else(|| MemberError::NotCertified(address.to_owned()))?;
        let standing = self.inner.standings.ask(address).await.unwrap_or_default();
        match standing {
            Some(standing) if standing.certificate.der() == certificate.der() => {
                Ok(standing.list.nodes().iter().copied().collect())
            }
            Some(standing) if standing.certificate.not_before() >= certificate.not_before() => {
                Err(MemberError::Superseded(address.to_owned()))
            }
            Some(_) | None => Ok(person.nodes.iter().copied().collect()),
        }
    }

    /// Signs whom a person lets speak for her, and says so in the overlay. Takes effect here at once, elsewhere within a minute.
    async fn say(&self, address: &str, nodes: &BTreeSet<NodeId>) -> Result<(), MemberError> {
        let nodes: Vec<NodeId> = nodes.iter().copied().collect();
        let member = self.inner.keys.sign(address, &nodes, unix_ms(), unix_s().saturating_add(LIST_LIFETIME_S))?;
        let standing = self.inner.standings.learn(address, member);
        self.apply(address, standing.as_ref());
        self.inner.wake.notify_one();
        let Some(standing) = standing else { return Ok(()) };
        match self.hand_on(address, &standing).await {
            Ok(()) => Ok(()),
            // Nobody else is there to ask, so nobody is told wrong.
            Err(_) if self.inner.overlay.is_alone() => Ok(()),
            Err(error) => Err(MemberError::NotSaid(error.to_string())),
        }
    }

    /// Writes what a person said into the overlay, whoever signed it.
    async fn hand_on(&self, address: &str, standing: &Standing) -> Result<(), meshtone_overlay::node::Error> {
        let list = &standing.list;
        // Rounded down: a value may not outlive its list.
        let lifetime = Duration::from_secs(list.expires().saturating_sub(list.issued_ms().div_ceil(1000)));
        self.inner.overlay.store(Kind::Member, address, standing.member.encode(), lifetime).await
    }

    /// Begins or ends to speak for a person, as what she says has it, and remembers that. Returns whether it changed.
    fn apply(&self, address: &str, standing: Option<&Standing>) -> bool {
        let us = self.inner.overlay.node_id();
        let named = standing.filter(|standing| standing.names(&us)).map(|standing| &standing.member);
        let before = self.inner.delegated.get(address);
        let is_account = self.inner.accounts.find(address).is_some();
        match named {
            Some(member) if before.as_ref() != Some(member) => {
                self.inner.delegated.set(address, member.clone());
                if is_account {
                    self.inner.store.put(crate::store::Table::Delegated, address, Some(member.encode().to_vec()));
                }
            }
            Some(_) => {}
            None if before.is_some() => {
                self.inner.delegated.remove(address);
                self.inner.store.put(crate::store::Table::Delegated, address, None);
            }
            None => {}
        }
        before.is_some() != named.is_some()
    }

    /// For whom this node could speak when it stopped: nobody may be there to ask.
    fn restore(&self) {
        for (address, bytes) in self.inner.store.load(crate::store::Table::Delegated).unwrap_or_default() {
            if let Ok(member) = Member::decode(&bytes) {
                let standing = self.inner.standings.remember(&address, member);
                self.apply(&address, standing.as_ref());
            }
        }
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Members").finish_non_exhaustive()
    }
}
