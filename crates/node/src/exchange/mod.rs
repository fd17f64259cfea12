//! The exchange: what this node does with each request (RFC 3261 §16.3–16.6, §10.3).
//!
//! The SIP engine knows the protocol; here is the policy: who must authenticate, whom a Request-URI means, where
//! that one can be reached. Several [`worker`]s drive an engine each; what they share is here.

pub(crate) mod allowance;
pub(crate) mod anchoring;
pub(crate) mod attestation;
pub(crate) mod bridge;
pub(crate) mod callee;
pub(crate) mod calls;
mod contacts;
pub(crate) mod counted;
pub(crate) mod digest;
mod divert;
mod echo;
mod emergency;
pub mod first_stage;
pub(crate) mod flows;
pub(crate) mod generations;
pub(crate) mod guard;
pub(crate) mod identity;
pub(crate) mod networks;
mod outside;
pub(crate) mod overload;
mod own_contact;
mod peer;
mod phone;
pub mod policy;
mod race;
mod redirect;
mod reg_event;
mod register;
pub(crate) mod reported;
mod search;
pub(crate) mod shard;
pub(crate) mod shown;
mod sips;
pub mod trunk;
mod wanted;
pub(crate) mod watch;
pub(crate) mod worker;

use std::net::IpAddr;
use std::sync::Arc;

use meshtone_identity::Rights;
use meshtone_media::io::{Between, PortRange};
use meshtone_overlay::node::Overlay;
use meshtone_sip::digest::{Algorithm, Authenticator, Verdict};
use meshtone_sip::message::{Header, Message, Method, Uri};
use meshtone_sip::registrar::gruu::GruuKey;
use meshtone_sip::transport::{Destination, Flow, PeerHost, Transmit};

use crate::account::{self, Account, Accounts};
use crate::clock::unix_ms;
use crate::location::certificates::ForeignCertificates;
use crate::location::dns::Dns;
use crate::location::memory::Registrations;
use crate::login::{Sessions, is_session_name};
use crate::member::Members;
use crate::metrics::Metrics;
use crate::person::history::History;
use crate::transport::{ATTESTING_VERSION, Transports, node_of};
use crate::web::Certificates;
use allowance::Allowances;
use anchoring::AnchorRules;
use attestation::{Origination, Originations};
use calls::Calls;
use digest::DigestPolicy;
use flows::Flows;
use identity::Identities;
use policy::Outside;
use reported::Reports;
use shown::{Callers, is_private};
use trunk::Trunks;
use watch::Watches;

/// What all workers of a node share.
pub(crate) struct Exchange {
    pub(crate) domain: String,
    pub(crate) accounts: Accounts,
    /// Who is logged in at the page, and registers by that.
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) registrations: Arc<Registrations>,
    /// What registrations depend on.
    pub(crate) flows: Flows,
    pub(crate) overlay: Overlay,
    pub(crate) transports: Arc<Transports>,
    pub(crate) calls: Calls,
    /// What is remembered of them.
    pub(crate) history: Arc<History>,
    pub(crate) watches: Watches,
    /// What the ends of calls say of how they sound.
    pub(crate) reports: Reports,
    pub(crate) metrics: Metrics,
    pub(crate) authenticator: Authenticator,
    pub(crate) digest: DigestPolicy,
    /// What seals temporary GRUUs; without it none are given.
    pub(crate) gruus: Option<GruuKey>,
    pub(crate) guard: guard::Guard,
    pub(crate) rtp_ports: PortRange,
    /// Whose media runs through this node, and over which ports.
    pub(crate) anchor: AnchorRules,
    pub(crate) anchor_ports: PortRange,
    /// The media that goes over the links to other nodes.
    pub(crate) between: Arc<Between>,
    /// The certificate that browsers are shown in media.
    pub(crate) media_identity: Option<Arc<meshtone_media::relay::Identity>>,
    /// How many calls are converted between codecs.
    pub(crate) conversions: meshtone_media::io::Conversions,
    /// What single callers use of the media.
    pub(crate) shares: meshtone_media::io::Shares,
    /// Calls beyond the overlay: what is allowed, where they go, how many there are.
    pub(crate) outside: Outside,
    pub(crate) dns: Arc<Dns>,
    /// The certificates of other domains.
    pub(crate) certificates: ForeignCertificates,
    pub(crate) allowances: Allowances,
    /// Whoever names a user of the served domain is believed: nobody needs an account or a password.
    pub(crate) open_registration: bool,
    pub(crate) trunks: Trunks,
    /// What phones here are shown of who calls.
    pub(crate) callers: Callers,
    /// People with an address of their own.
    pub(crate) members: Members,
    /// Signs and verifies who calls.
    pub(crate) identities: Identities,
    /// This node's own certificates, where others fetch them.
    pub(crate) published: Certificates,
    /// Where requests come in, as it is told others.
    pub(crate) originations: Originations,
    /// This node's own name among peers: by it, the node calls users here itself.
    pub(crate) own_host: PeerHost,
    /// What this node's certificate lets it do.
    pub(crate) rights: Rights,
    /// Nothing is signed: see [`crate::dangerous`].
    pub(crate) dangerous_unsigned: bool,
}

/// Whose credentials a request carries.
pub(crate) enum Authenticated {
    /// This account's.
    As(String),
    /// Nobody's that are valid: answer with these challenges.
    No {
        /// Header field values.
        challenges: Vec<(Header, String)>,
    },
}

impl Exchange {
    /// Checks digest credentials. A stranger, an unknown user, a wrong password, an algorithm that the user may not use
    /// and one who guessed too often get one and the same answer: what is offered depends on where it was asked, never
    /// on who was named.
    pub(crate) fn authenticate(
        &self,
        request: &Message,
        flow: &Flow,
        credentials: Header,
        challenge: Header,
    ) -> Authenticated {
        if self.open_registration {
            return self.believed(request);
        }
        let now_ms = unix_ms();
        let offer = self.digest.offer(self.transports.listener_address(flow));
        let source = flow.remote();
        let (mut claimed, mut logged_in) = (None, None);
        let verdict = self.authenticator.verify(
            now_ms,
            request.fields(credentials),
            &self.domain,
            request.method_name(),
            request.body(),
            |user, algorithm| {
                // Nobody guesses the credential of a session; whoever tries is counted by where he is.
                if is_session_name(user) {
                    let (of, ha1) = self.sessions.credential(now_ms, user, algorithm)?;
                    logged_in = Some(of);
                    return Some(ha1);
                }
                claimed = Some(user.to_owned());
                let may_try = source.is_none_or(|source| self.guard.may_try(now_ms, source, user));
                self.accounts.ha1(user, algorithm).filter(|_| may_try)
            },
            &offer.algorithms,
        );
        match (&verdict, source) {
            (Verdict::Refused, Some(source)) => self.guard.failed(now_ms, source, claimed.as_deref()),
            (Verdict::Accepted { username }, Some(source)) => {
                self.guard.succeeded(now_ms, source, logged_in.as_deref().unwrap_or(username));
            }
            (Verdict::Missing | Verdict::Stale | Verdict::Refused | Verdict::Accepted { .. }, _) => {}
        }
        let stale = match verdict {
            Verdict::Accepted { username } => match self.accounts.resolve(logged_in.as_deref().unwrap_or(&username)) {
                Some(user) => return Authenticated::As(user),
                // Removed this very moment.
                None => false,
            },
            Verdict::Stale => true,
            Verdict::Missing | Verdict::Refused => false,
        };
        let challenges = if offer.auth_int {
            self.authenticator.challenge_with_bodies(now_ms, &self.domain, &offer.algorithms, stale)
        } else {
            self.authenticator.challenge(now_ms, &self.domain, &offer.algorithms, stale)
        };
        Authenticated::No { challenges: challenges.into_iter().map(|value| (challenge, value)).collect() }
    }

    /// Whether a message is looked at: a request that would begin something, from a source that floods us, is not.
    pub(crate) fn is_admitted(&self, now_ms: u64, flow: &Flow, message: &Message) -> bool {
        let Some(remote) = flow.remote().filter(|remote| !self.trunks.is_provider(remote.ip())) else {
            return true;
        };
        if matches!(flow, Flow::Udp { .. }) {
            self.guard.received(remote.ip(), message.bytes().len());
        }
        let begins = message.is_request()
            && !matches!(message.method(), Method::Ack | Method::Cancel)
            && message.to_tag().is_none();
        let claims =
            [Header::Authorization, Header::ProxyAuthorization].iter().any(|header| message.header(*header).is_some());
        !begins || self.guard.admit(now_ms, remote, claims)
    }

    /// Whether a message may leave: an answer to an address that nothing is known of must not be larger than what it got.
    pub(crate) fn may_leave(&self, now_ms: u64, transmit: &Transmit) -> bool {
        let Destination::Flow(Flow::Udp { remote, .. }) = &transmit.destination else { return true };
        let message = &transmit.message;
        let is_known = message.is_request() || self.trunks.is_provider(remote.ip());
        is_known || self.guard.may_answer(now_ms, remote.ip(), message.bytes().len())
    }

    /// Signs a request that leaves for another node: who makes it, where that is asserted, or else where it came in.
    pub(crate) fn signed(&self, mut transmit: Transmit) -> Transmit {
        let (Destination::Peer(host) | Destination::Flow(Flow::Peer { host })) = &transmit.destination else {
            if let Some(signed) = self.signed_for_abroad(&transmit) {
                transmit.message = signed;
            }
            return transmit;
        };
        if self.dangerous_unsigned {
            return transmit;
        }
        // To a node that is only being dialled the oldest form is spoken, which all understand.
        let version = node_of(host).and_then(|node| self.overlay.link_version(node)).unwrap_or_default();
        let attests = version >= ATTESTING_VERSION;
        let origin = Origination::read(&transmit.message).unwrap_or_else(|| self.originations.of_phones());
        if let Some(signed) = self.identities.signed(&transmit.message, attests.then_some(origin), self.agreed_unix_s())
        {
            transmit.message = signed;
        }
        transmit
    }

    /// A call to another domain whose media runs through here: what it is signed under is known as it leaves.
    fn signed_for_abroad(&self, transmit: &Transmit) -> Option<Message> {
        let message = &transmit.message;
        let is_marked =
            message.is_request() && message.header(Header::AttestationInfo) == Some(anchoring::SIGNED_LATER);
        let Destination::Address { .. } = &transmit.destination else { return None };
        is_marked.then(|| {
            let mut edit = message.edit();
            edit.remove(Header::AttestationInfo);
            for (header, value) in self.signed_abroad(message, message.request_uri()) {
                edit.set(header, &value);
            }
            edit.finish()
        })
    }

    /// What is signed of who makes a request that leaves for another SIP domain, where others can fetch this node's certificate.
    pub(crate) fn signed_abroad(&self, request: &Message, request_uri: &str) -> Vec<(Header, String)> {
        let place = self.published.url().filter(|_| !is_private(request));
        let signed = place.and_then(|place| {
            let (by, origin) = ((self.domain.as_str(), place.as_str()), self.originations.of_phones());
            self.identities.signed_abroad(request, request_uri, by, origin, self.agreed_unix_s())
        });
        signed.into_iter().flatten().collect()
    }

    /// The time of day as this machine and most of its neighbours see it, in unix seconds: what signatures are judged by.
    pub(crate) fn agreed_unix_s(&self) -> u64 {
        unix_ms().saturating_add_signed(self.overlay.clock_behind_ms()) / 1000
    }

    /// Whether phones may authenticate by one of these algorithms at some listener.
    pub(crate) fn offers(&self, algorithms: &[Algorithm]) -> bool {
        self.digest.offers(&self.transports.addresses().all(), algorithms)
    }

    /// Tells in the log that a user's phones can register nowhere at this node.
    pub(crate) fn warn_if_shut_out(&self, account: &Account) {
        if let Some(algorithms) = account.digest().filter(|algorithms| !self.offers(algorithms)) {
            let user = &account.user;
            tracing::warn!(%user, ?algorithms, "no phone of this user can register here: no listener offers what it may use");
        }
    }

    /// The user that a request names, with no proof asked for; whether the address is this node's is checked as ever.
    fn believed(&self, request: &Message) -> Authenticated {
        let named = if request.method() == Method::Register { request.to() } else { request.from() };
        let user =
            named.ok().and_then(|named| Uri::parse(named.uri).ok()).and_then(|uri| self.user(&uri.user_unescaped()?));
        // No address is nobody's, so that without a name it is refused.
        Authenticated::As(user.unwrap_or_default())
    }

    /// The user that a name or a number means at the served domain.
    pub(crate) fn user(&self, name: &str) -> Option<String> {
        let known = self.accounts.resolve(name);
        known.or_else(|| (self.open_registration && account::name::is_user(name)).then(|| name.to_owned()))
    }

    /// A Warning in words of our own (RFC 3261 §20.43).
    pub(crate) fn warning(&self, text: &str) -> (Header, String) {
        (Header::Warning, format!("399 {} \"{text}\"", self.domain))
    }

    /// The address of an account: of the served domain, but for a person who has one of her own.
    pub(crate) fn address_of(&self, user: &str) -> String {
        if user.contains('@') { user.to_owned() } else { [user, "@", &self.domain].concat() }
    }

    /// The account that an address would be of: [`address_of`](Self::address_of) undone.
    pub(crate) fn account_of<'a>(&self, address: &'a str) -> &'a str {
        match address.rsplit_once('@') {
            Some((user, domain)) if domain.eq_ignore_ascii_case(&self.domain) => user,
            Some(_) | None => address,
        }
    }

    /// Whether this node may speak for an account's owner: always within the served domain, for a person with an address of her
    /// own while she says so.
    pub(crate) fn may_serve(&self, user: &str) -> bool {
        !user.contains('@') || self.members.speaks_for(user)
    }

    /// This machine's address for media towards `remote`.
    pub(crate) fn media_address(&self, remote: IpAddr) -> IpAddr {
        self.transports.address_facing_now(remote)
    }
}
