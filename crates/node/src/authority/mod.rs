//! The overlay's authority at work: it mails codes to addresses, and certifies the keys of those who show that they read them, or that
//! another authority, which is listed, has certified their address.
//!
//! | module | what |
//! | --- | --- |
//! | `mailbox` | who asked for what, and which code is right; pure |
//! | `code` | the codes; pure |
//! | `outbox` | which mail is sent when; pure |
//! | [`mail`] | the mails, and the way to the mail server |
//! | `page` | what it certifies of nodes' pages, for browsers |
//! | `wire`, `serve` | what other nodes ask over their links |
//! | [`ask`] | asking, from any node |
//! | [`holder`] | keys and certificates of other authorities, for asking with them |
//!
//! What was issued is kept in the store. Open codes are not: after a restart people ask again.

pub mod ask;
mod code;
mod error;
pub mod holder;
pub mod mail;
mod mailbox;
mod outbox;
pub(crate) mod page;
mod serve;
mod wire;

pub use ask::{Asked, Client};
pub use error::{AskError, Refusal};
pub use mail::{MailSettings, MailSettingsError, Password, Security};
pub use meshtone_identity::ForeignAuthority;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;
use meshtone_identity::authority::USER_LIFETIME;
use meshtone_identity::id::sha256;
use meshtone_identity::{Authority, ForeignError, ForeignProof, NodeId, PublicKey, UserRequest, foreign};
use meshtone_overlay::Overlay;

use crate::account::Random;
use crate::control::CertificateRow;
use crate::enrol::renew::{Pair, Renewal};
use crate::enrol::{Admission, Inviter, NODES_PER_PERSON, RenewError};
use crate::location::publisher::{Announcement, Publisher};
use crate::store::cbor::{Octets, to_cbor};
use crate::store::{Store, StoreError, Table};
use crate::web::PublicUrl;
use code::{Code, RANDOM_LENGTH};
use mail::{Letter, MailStanding, Mailer};
use mailbox::{Certified, Mailbox, Verdict};
use wire::{Answer, Request};

/// The user name under which an authority that sends mails is announced; `account` reserves it.
const NAME: &str = "authority";

/// For how long what was issued is kept after it has run out, in seconds: a clock that is wrong at a start shall not forget it.
const KEPT_S: u64 = USER_LIFETIME.as_secs();

/// Whom the authority certifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Whoever proves an address, at a node that was invited.
    #[default]
    Invite,
    /// Whoever proves an address, at any node.
    Open,
    /// Nobody new; who is certified may renew.
    Closed,
}

impl Policy {
    /// The policy of this name.
    pub fn named(name: &str) -> Option<Policy> {
        [Policy::Invite, Policy::Open, Policy::Closed].into_iter().find(|policy| policy.as_str() == name)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Invite => "invite",
            Policy::Open => "open",
            Policy::Closed => "closed",
        }
    }
}

/// What the configuration says of the authority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whom it certifies.
    pub policy: Policy,
    /// How mails leave; without it nobody can prove an address by one.
    pub mail: Option<MailSettings>,
    /// Which nodes store and forward for others.
    pub storing: Storing,
    /// Nodes that one person may have whom tickets name; [`NODES_PER_PERSON`](crate::enrol::NODES_PER_PERSON) unless said.
    pub nodes_per_person: Option<usize>,
    /// Other authorities whose certificates prove addresses.
    pub foreign: Vec<ForeignAuthority>,
}

/// Which nodes may store and forward for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Storing {
    /// All that were invited.
    #[default]
    Invited,
    /// Home nodes, and those that were invited for nothing else: members' nodes only use what these offer.
    Trusted,
}

impl Settings {
    /// Whom it admits as nodes.
    pub(crate) fn admission(&self) -> Admission {
        Admission {
            is_open: self.policy == Policy::Open,
            members_serve: self.storing == Storing::Invited,
            nodes_per_person: self.nodes_per_person.unwrap_or(NODES_PER_PERSON),
        }
    }
}

/// Where a person finds the form for the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The authority's own node: the key that a code is for is there if it was asked for there.
    pub node: NodeId,
    /// Its pages.
    pub url: PublicUrl,
}

/// How the authority stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) policy: Policy,
    /// Certificates of people that have not run out.
    pub(crate) certificates: usize,
    pub(crate) mail: Option<MailStanding>,
}

/// The authority of this node's overlay, which is here.
pub struct Service {
    authority: Arc<Authority>,
    domain: String,
    policy: Policy,
    store: Store,
    mailer: Option<Mailer>,
    foreign: Vec<ForeignAuthority>,
    random: Box<dyn Random>,
    now: fn() -> u64,
    mailbox: Mutex<Mailbox>,
    inviter: Option<Arc<Inviter>>,
}

/// Why the authority does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The mail server's settings.
    #[error("mails cannot be sent: {0}")]
    Mail(#[from] MailSettingsError),
}

impl Service {
    /// Takes up what was issued before. `page` is where links in mails lead to, `now` gives unix seconds.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub fn open(
        store: Store,
        authority: Arc<Authority>,
        domain: &str,
        settings: &Settings,
        page: Option<Page>,
        now: fn() -> u64,
        random: Box<dyn Random>,
    ) -> Result<Service, ServiceError> {
        let mailer = settings.mail.as_ref().map(|mail| Mailer::new(mail, domain, page)).transpose()?;
        let mut mailbox = Mailbox::default();
        for (key, bytes) in store.load(Table::Issued)? {
            match decode_issued(&key, &bytes) {
                Some((_, certified)) if certified.expires.saturating_add(KEPT_S) < now() => {
                    store.put(Table::Issued, &key, None);
                }
                Some((address, certified)) => mailbox.restore(address, certified),
                None => tracing::warn!(key, "what is kept of a certificate that was issued cannot be read"),
            }
        }
        let (domain, policy) = (domain.to_owned(), settings.policy);
        Ok(Service {
            authority,
            domain,
            policy,
            store,
            mailer,
            foreign: settings.foreign.clone(),
            random,
            now,
            mailbox: Mutex::new(mailbox),
            inviter: None,
        })
    }

    /// The same, which renews the certificates of nodes, too.
    pub(crate) fn renewing(self, inviter: Arc<Inviter>) -> Service {
        Service { inviter: Some(inviter), ..self }
    }

    /// Tells the overlay where people are enrolled.
    pub(crate) fn announce(&self, publisher: &Publisher) {
        if self.mailer.is_some() || !self.foreign.is_empty() {
            publisher.offer(&format!("{NAME}@{}", self.domain), Announcement { contacts: 1, q: 1000 });
        }
    }

    /// Answers other nodes and sends mails, until the node stops.
    pub(crate) async fn run(self: Arc<Self>, overlay: Overlay) {
        let mails = async {
            if let Some(mailer) = &self.mailer {
                mailer.run().await;
            }
        };
        tokio::join!(serve::run(&self, &overlay), mails);
    }

    /// How it stands.
    pub(crate) fn standing(&self) -> Standing {
        let mail = self.mailer.as_ref().map(Mailer::standing);
        Standing { policy: self.policy, certificates: self.mailbox().all((self.now)()).count(), mail }
    }

    /// The certificates that have not run out, by address.
    pub(crate) fn issued(&self) -> Vec<CertificateRow> {
        let row = |(address, certified): (&str, &Certified)| CertificateRow {
            address: address.to_owned(),
            certificate: HEXLOWER.encode(&certified.certificate),
            key: HEXLOWER.encode(&certified.key),
            issued: certified.issued,
            expires: certified.expires,
        };
        self.mailbox().all((self.now)()).map(row).collect()
    }

    /// Answers on a thread that may wait for the disk.
    async fn answer_on_thread(this: Arc<Service>, source: NodeId, request: Request) -> Answer {
        let answer = tokio::task::spawn_blocking(move || this.answer(source, &request)).await;
        answer.unwrap_or(Answer::Refused(Refusal::Failed))
    }

    fn answer(&self, source: NodeId, request: &Request) -> Answer {
        let answer = match request {
            Request::Ask { certification } => self.ask(source, certification),
            Request::Prove { certification, code } => self.prove(certification, code),
            Request::Renew(shown) => self.renew(source, shown),
            Request::Show { certification, proof } => self.show(certification, proof),
            Request::Page(wanted) => self.certify_page(source, wanted),
        };
        answer.unwrap_or_else(|refusal| {
            tracing::debug!(peer = %source.short(), %refusal, "a request to the authority was refused");
            Answer::Refused(refusal)
        })
    }

    fn ask(&self, source: NodeId, certification: &[u8]) -> Result<Answer, Refusal> {
        let mailer = self.mailer.as_ref().ok_or(Refusal::NoMail)?;
        let request = UserRequest::parse(certification).map_err(|_| Refusal::Malformed)?;
        let (address, asked) = (request.address(), (self.now)());
        self.check_domain(address)?;
        let mut bytes = [0; RANDOM_LENGTH];
        self.random.fill(&mut bytes).map_err(|_| Refusal::Failed)?;
        let code = Code::from_random(bytes);
        let mut mailbox = self.mailbox();
        let is_admitted = match self.policy {
            Policy::Invite | Policy::Open => true,
            Policy::Closed => mailbox.certificates(address, asked) > 0,
        };
        if is_admitted && mailbox.ask(address, sha256(request.public_key().as_bytes()), source, &code, asked) {
            let letter = Letter { address: address.to_owned(), code, node: source, asked };
            mailer.push(letter, asked.saturating_add(mailbox::CODE_LIFETIME_S));
        } else {
            let policy = self.policy.as_str();
            tracing::debug!(peer = %source.short(), policy, "no code is mailed: not allowed, or too many lately");
        }
        Ok(Answer::Mailed { is_closed: self.policy == Policy::Closed })
    }

    fn prove(&self, certification: &[u8], code: &str) -> Result<Answer, Refusal> {
        if self.mailer.is_none() {
            return Err(Refusal::NoMail);
        }
        let request = UserRequest::parse(certification).map_err(|_| Refusal::Malformed)?;
        let code = code.parse::<Code>().map_err(|()| Refusal::WrongCode)?;
        let (address, key, now) = (request.address(), sha256(request.public_key().as_bytes()), (self.now)());
        // Locked until the certificate is kept, so that a code is spent once.
        let mut mailbox = self.mailbox();
        match mailbox.prove(address, key, &code, now) {
            Verdict::Certify => {}
            Verdict::Again(der) => return Ok(Answer::Certificate(der)),
            Verdict::Wrong => return Err(Refusal::WrongCode),
            Verdict::Expired => return Err(Refusal::Expired),
            Verdict::TooMany => return Err(Refusal::TooManyCertificates),
        }
        self.issue(&mut mailbox, address, request.public_key(), now, USER_LIFETIME)
    }

    /// Certifies whoever holds a certificate of another authority that is listed, for as long as that lasts.
    fn show(&self, certification: &[u8], proof: &ForeignProof) -> Result<Answer, Refusal> {
        let request = UserRequest::parse(certification).map_err(|_| Refusal::Malformed)?;
        let (address, now) = (request.address(), (self.now)());
        self.check_domain(address)?;
        let overlay = self.authority.certificate().overlay();
        let ends = foreign::verify(&self.foreign, &overlay, (&request, certification), proof, now);
        let ends = ends.map_err(|error: ForeignError| Refusal::Certificate(error.to_string()))?;
        let mut mailbox = self.mailbox();
        if self.policy == Policy::Closed && mailbox.certificates(address, now) == 0 {
            return Err(Refusal::Closed);
        }
        if !mailbox.has_room(address, now) {
            return Err(Refusal::TooManyCertificates);
        }
        let lifetime = USER_LIFETIME.min(Duration::from_secs(ends.saturating_sub(now)));
        self.issue(&mut mailbox, address, request.public_key(), now, lifetime)
    }

    /// Who reads a mail there must not ring beside, or call in the name of, whoever has the account of that name.
    fn check_domain(&self, address: &str) -> Result<(), Refusal> {
        let is_home = address.rsplit_once('@').is_some_and(|(_, domain)| domain == self.domain);
        if is_home { Err(Refusal::HomeDomain) } else { Ok(()) }
    }

    fn issue(
        &self,
        mailbox: &mut Mailbox,
        address: &str,
        key: &PublicKey,
        now: u64,
        lifetime: Duration,
    ) -> Result<Answer, Refusal> {
        let issued = self.authority.issue_user(address, key, now, lifetime);
        let certificate = issued.map_err(|error| {
            tracing::error!(%error, "no certificate could be issued");
            Refusal::Failed
        })?;
        let (der, key) = (certificate.der().to_vec(), sha256(key.as_bytes()));
        let certified = Certified { certificate: sha256(&der), key, issued: now, expires: certificate.not_after() };
        // What is issued is listed, whatever happens to us afterwards.
        self.store.put(Table::Issued, &issued_key(address, &certified), Some(encode_issued(&certified)));
        self.store.flush().map_err(|error| {
            tracing::error!(%error, "a certificate could not be listed, so it is not issued");
            Refusal::Failed
        })?;
        mailbox.certified(address, certified, der.clone());
        tracing::info!(domain = address.rsplit_once('@').map_or("", |(_, domain)| domain), "an address was certified");
        Ok(Answer::Certificate(der))
    }

    fn renew(&self, source: NodeId, shown: &Renewal) -> Result<Answer, Refusal> {
        let inviter = self.inviter.as_ref().ok_or(Refusal::Failed)?;
        match inviter.renew(source, shown) {
            Ok(Pair { node, home }) => {
                tracing::info!(node = %source, "a node's certificates were renewed");
                Ok(Answer::Renewed { node: node.der().to_vec(), home: home.der().to_vec() })
            }
            Err(error) => {
                tracing::warn!(node = %source, %error, "a node's certificates were not renewed");
                Err(match error {
                    RenewError::Revoked => Refusal::Revoked,
                    RenewError::NotTheirs | RenewError::TooEarly | RenewError::Identity(_) => Refusal::NotRenewable,
                    RenewError::NoAuthority | RenewError::Store(_) => Refusal::Failed,
                })
            }
        }
    }

    fn mailbox(&self) -> std::sync::MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Service")
            .field("domain", &self.domain)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Address and certificate, so that the table is in the order of the addresses.
fn issued_key(address: &str, certified: &Certified) -> String {
    format!("{address} {}", HEXLOWER.encode(&certified.certificate))
}

/// (SHA-256 of the key, issued, expires)
type StoredIssue = (Octets<32>, u64, u64);

fn encode_issued(certified: &Certified) -> Vec<u8> {
    let stored: StoredIssue = (Octets(certified.key), certified.issued, certified.expires);
    to_cbor(&stored)
}

fn decode_issued<'a>(key: &'a str, bytes: &[u8]) -> Option<(&'a str, Certified)> {
    let (address, certificate) = key.split_once(' ')?;
    let certificate = HEXLOWER.decode(certificate.as_bytes()).ok()?.try_into().ok()?;
    let (Octets(key), issued, expires): StoredIssue = ciborium::from_reader(bytes).ok()?;
    Some((address, Certified { certificate, key, issued, expires }))
}

#[cfg(test)]
mod tests;
