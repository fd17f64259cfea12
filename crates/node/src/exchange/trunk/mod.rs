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
//!
//! Here is what all workers share of a trunk. A trunk is registered by one worker, and its calls are wherever they began.

pub mod digits;
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
use meshtone_sip::transport::Destination;
use tokio::sync::mpsc;

use super::bridge::{BridgeId, Bridges};
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
    /// Take the registrations back; the sender is dropped when that is done.
    Leave(mpsc::Sender<()>),
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
