//! Trunks: accounts at providers, by which calls leave for the telephone network and come in from it.
//!
//! | module | what |
//! | --- | --- |
//! | [`settings`] | what the configuration says; pure |
//! | [`digits`] | digit rules; pure |
//! | `plan` | which trunks may carry a call; pure |
//! | `lines` | how many calls there are |
//! | `registration` | staying registered, as a machine without time of its own |
//! | `register` | that machine, driven by a worker |
//! | `outbound`, `inbound` | calls, by way of a [`super::bridge`] |
//! | `home` | calls out by the trunk of another home node |
//!
//! Here is what all workers share of a trunk. A trunk is registered by one worker, and its calls are wherever they began.

pub mod digits;
mod home;
mod inbound;
mod lines;
mod outbound;
mod plan;
mod register;
mod registration;
pub mod settings;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aws_lc_rs::hmac;
use meshtone_sip::agent::Credentials;
use meshtone_sip::message::{Message, Uri};
use meshtone_sip::proxy::Target;
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::Destination;
use tokio::sync::mpsc;

use super::bridge::{BridgeId, Bridges, Replacements};
use super::policy::number;
use super::worker::Worker;
use crate::location::dns::{LocateError, Server};
use lines::Lines;
use outbound::TrunkCall;
use register::Registrar;
use registration::Trouble;
use settings::Trunk;

/// The trunks of a node.
#[derive(Debug, Default)]
pub(crate) struct Trunks(Vec<Arc<TrunkState>>);

/// A trunk, and how it stands.
#[derive(Debug)]
pub(crate) struct TrunkState {
    pub(crate) settings: Trunk,
    /// User part of our Contact there: nobody but the provider knows it, so that a stranger who finds the provider's address out, or
    /// forges it, still finds no way in.
    contact_user: String,
    pub(crate) lines: Lines,
    board: Mutex<Board>,
}

/// What changes.
#[derive(Debug, Default)]
struct Board {
    /// Where the provider's servers are.
    addresses: Vec<IpAddr>,
    /// The one that answered last, or is the best.
    server: Option<Server>,
    /// The realm that our registration was asked for.
    realm: Option<String>,
    registered_until_ms: Option<u64>,
    failing: Option<(u64, Trouble)>,
}

/// How a trunk stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Until when it is registered, milliseconds since the Unix epoch.
    pub(crate) registered_until_ms: Option<u64>,
    /// Since when it fails, why, and what to do.
    pub(crate) failing: Option<(u64, String, String)>,
}

/// What a worker does for trunks.
#[derive(Default)]
pub(crate) struct TrunkWork {
    pub(crate) bridges: Bridges,
    calls: HashMap<BridgeId, TrunkCall>,
    registrars: Vec<Registrar>,
}

/// What a worker is told of trunks.
pub(crate) enum TrunkInput {
    /// Where a trunk's servers are, for its registration.
    Located { trunk: usize, servers: Result<Vec<Server>, LocateError>, addresses: Vec<IpAddr> },
    /// Where a trunk's servers are, for a call.
    Ways { bridge: BridgeId, servers: Result<Vec<Server>, LocateError> },
    /// The home nodes that a call out may go to.
    HomeNodes { id: RequestId, request: Message, targets: Vec<Target> },
    /// Take the registrations back; the sender is dropped when that is done.
    Leave(mpsc::Sender<()>),
}

impl TrunkWork {
    /// That of a worker whose node has these calls that transfers may name.
    pub(crate) fn sharing(replacements: Replacements) -> TrunkWork {
        TrunkWork { bridges: Bridges::sharing(replacements), ..TrunkWork::default() }
    }
}

impl Trunks {
    /// The trunks of the configuration. The key is kept over a restart, and with it our Contacts: a new REGISTER replaces the old one.
    pub(crate) fn new(settings: &[Trunk], key: &[u8; 32]) -> Trunks {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let trunk = |settings: &Trunk| {
            let tag = hmac::sign(&key, format!("trunk contact\n{}", settings.name).as_bytes());
            let contact_user = data_encoding::HEXLOWER.encode(tag.as_ref().get(..16).unwrap_or_default());
            let (settings, lines) = (settings.clone(), Lines::default());
            Arc::new(TrunkState { settings, contact_user, lines, board: Mutex::default() })
        };
        Trunks(settings.iter().map(trunk).collect())
    }

    /// All of them, in the order of the configuration.
    pub(crate) fn all(&self) -> &[Arc<TrunkState>] {
        &self.0
    }

    pub(super) fn get(&self, index: usize) -> Option<&Arc<TrunkState>> {
        self.0.get(index)
    }

    /// The trunk of this name.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|trunk| trunk.settings.name == name)
    }

    /// Whether packets from there are a provider's: it brings everybody's calls, so it is not limited as one stranger is.
    pub(crate) fn is_provider(&self, source: IpAddr) -> bool {
        self.0.iter().any(|trunk| trunk.is_from(source))
    }

    /// The trunk that a request comes in by: it names the Contact that we registered, or where we do not register a number, and it
    /// comes from an address of the provider.
    fn of_request(&self, request: &Message, source: IpAddr) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        let uri = Uri::parse(request.request_uri()).ok()?;
        let user = uri.user_unescaped()?;
        self.0.iter().position(|trunk| {
            let is_named =
                if trunk.settings.register { user == trunk.contact_user.as_str() } else { number(&user).is_some() };
            is_named && trunk.is_from(source)
        })
    }
}

impl TrunkState {
    /// How it stands.
    pub(crate) fn standing(&self) -> Standing {
        let board = self.board();
        let failing = board.failing.as_ref().map(|(since_ms, trouble)| (*since_ms, trouble.text(), trouble.hint()));
        Standing { registered_until_ms: board.registered_until_ms, failing }
    }

    /// Whether an address is one of the provider's.
    fn is_from(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.settings.addresses.iter().any(|network| network.contains(source))
            || self.board().addresses.iter().any(|known| known.to_canonical() == source)
    }

    /// The account, for answering the provider's challenges.
    fn credentials(&self) -> Option<Credentials> {
        let settings = &self.settings;
        Some(Credentials {
            realm: settings.realm.clone().or_else(|| self.board().realm.clone()),
            host: settings.host().to_owned(),
            username: settings.auth_user.clone().unwrap_or_else(|| settings.user.clone()),
            secret: settings.password.clone()?,
        })
    }

    /// The server that answered last, for what needs no other one to be tried.
    fn last_server(&self) -> Option<Server> {
        self.board().server
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.board().addresses.clone()
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    pub(super) fn on_trunk_input(&mut self, input: TrunkInput) {
        match input {
            TrunkInput::Located { trunk, servers, addresses } => self.on_trunk_located(trunk, servers, addresses),
            TrunkInput::Ways { bridge, servers } => self.on_ways(bridge, servers),
            TrunkInput::HomeNodes { id, request, targets } => self.on_home_nodes(id, &request, targets),
            TrunkInput::Leave(done) => self.leave_trunks(&done),
        }
    }

    /// When trunks want to be looked after next.
    pub(super) fn trunk_timeout(&self) -> Option<Instant> {
        let registrars = self.trunks.registrars.iter().filter_map(Registrar::poll_timeout);
        registrars.chain(self.trunks.bridges.poll_timeout()).min()
    }

    pub(super) fn on_trunk_timeout(&mut self, now: Instant) {
        self.trunks.bridges.handle_timeout(&mut self.server, now);
        self.drive_registrars(now);
        self.on_bridge_events();
    }

    /// Where to send what is for one server of a provider; `None` where no listener of ours faces it.
    fn way_to(&self, server: Server) -> Option<Destination> {
        let listener = self.exchange.transports.listener_facing(server.address.ip())?;
        Some(Destination::Address { transport: server.transport, addr: server.address, listener })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;

    const PROVIDER: &str = "198.51.100.7";
    const STRANGER: &str = "203.0.113.66";

    fn trunks(register: bool) -> Trunks {
        let mut settings = Trunk::new("provider", "sip:sip.example", "4930123");
        settings.register = register;
        settings.addresses = vec!["192.0.2.0/24".parse().unwrap()];
        let trunks = Trunks::new(&[settings], &[7; 32]);
        trunks.0[0].board().addresses = vec![PROVIDER.parse().unwrap()];
        trunks
    }

    fn comes_in(trunks: &Trunks, user: &str, source: &str) -> bool {
        let text = format!(
            "INVITE sip:{user}@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        trunks.of_request(&Message::parse(Bytes::from(text)).unwrap(), source.parse().unwrap()).is_some()
    }

    #[test]
    fn a_call_comes_in_at_the_registered_contact_and_from_the_provider_only() {
        let trunks = trunks(true);
        let contact = trunks.0[0].contact_user.clone();
        assert!(contact.len() >= 32, "nobody guesses it");
        for (user, source, is_in) in [
            (contact.as_str(), PROVIDER, true),
            (contact.as_str(), "::ffff:198.51.100.7", true),
            (contact.as_str(), "192.0.2.99", true),
            (contact.as_str(), STRANGER, false),
            ("+4930123", PROVIDER, false),
            ("alice", PROVIDER, false),
        ] {
            assert_eq!(comes_in(&trunks, user, source), is_in, "{user} from {source}");
        }
    }

    #[test]
    fn without_registration_a_number_comes_in_from_the_provider_only() {
        let trunks = trunks(false);
        for (user, source, is_in) in
            [("+4930123", PROVIDER, true), ("+4930123", STRANGER, false), ("alice", PROVIDER, false)]
        {
            assert_eq!(comes_in(&trunks, user, source), is_in, "{user} from {source}");
        }
    }

    #[test]
    fn a_contact_stays_over_a_restart_and_is_each_trunks_own() {
        let settings = ["a", "b"].map(|name| Trunk::new(name, "sip:sip.example", "u"));
        let contacts = |key: u8| Trunks::new(&settings, &[key; 32]).0.iter().map(|t| t.contact_user.clone()).collect();
        let (first, again, other): (Vec<String>, Vec<String>, Vec<String>) = (contacts(1), contacts(1), contacts(2));
        assert_eq!(first, again);
        assert!(first[0] != first[1] && first != other);
    }

    #[test]
    fn a_realm_once_learnt_is_the_only_one_answered() {
        let mut settings = Trunk::new("provider", "sip:sip.example", "u");
        settings.password = Some(settings::Secret::Password("p".to_owned()));
        let trunks = Trunks::new(&[settings], &[7; 32]);
        let realm = || trunks.0[0].credentials().unwrap().realm;
        assert_eq!(realm(), None);
        trunks.0[0].board().realm = Some("theirs".to_owned());
        assert_eq!(realm().as_deref(), Some("theirs"));
    }
}
