//! The registrations of trunks, driven by a worker: each by one, chosen by its place in the configuration.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use meshtone_sip::agent::{AgentRequestId, OutgoingRequest};
use meshtone_sip::digest::Challenge;
use meshtone_sip::message::{Header, Message, Uri};
use meshtone_sip::transport::{Destination, Locals};
use tokio::sync::mpsc;

use super::registration::{Action, Registration, Reply, Trouble};
use super::{TrunkInput, TrunkState};
use crate::clock::unix_ms;
use crate::exchange::worker::{Input, Worker};
use crate::location::dns::{LocateError, Server, Wanted};
use crate::transport::LocalView;

/// The registration of one trunk.
pub(crate) struct Registrar {
    trunk: usize,
    machine: Registration<Server>,
    /// All registrations share it, and count on (RFC 3261 §10.2).
    call_id: String,
    cseq: u32,
    /// The REGISTER under way.
    asked: Option<(AgentRequestId, Server)>,
    /// Who waits for us to have left.
    leaving: Option<mpsc::Sender<()>>,
}

impl Registrar {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }
}

impl Worker {
    /// Begins with the trunks that are this worker's.
    pub(in crate::exchange) fn begin_trunks(&mut self, workers: usize) {
        let now = Instant::now();
        for (trunk, state) in self.exchange.clone().trunks.all().iter().enumerate() {
            if trunk % workers.max(1) != self.index {
                continue;
            }
            let settings = &state.settings;
            let machine = Registration::new(now, settings.register, settings.expires);
            let call_id = self.own_call_id();
            self.trunks.registrars.push(Registrar { trunk, machine, call_id, cseq: 1, asked: None, leaving: None });
        }
        self.drive_registrars(now);
    }

    /// Lets timers fire and does what the registrations ask for.
    pub(super) fn drive_registrars(&mut self, now: Instant) {
        for place in 0..self.trunks.registrars.len() {
            while let Some((trunk, action)) = self.next_action(place, now) {
                match action {
                    Action::Locate => self.locate_trunk(trunk),
                    Action::Register(server, expires_s) => self.register_at(place, trunk, server, expires_s),
                }
            }
            self.show(place, now);
        }
    }

    fn next_action(&mut self, place: usize, now: Instant) -> Option<(usize, Action<Server>)> {
        let registrar = self.trunks.registrars.get_mut(place)?;
        registrar.machine.handle_timeout(now);
        Some((registrar.trunk, registrar.machine.poll_action()?))
    }

    fn locate_trunk(&self, trunk: usize) {
        let Some(state) = self.exchange.trunks.get(trunk).cloned() else { return };
        let (exchange, answers) = (self.exchange.clone(), self.answers.clone());
        tokio::spawn(async move {
            let (servers, addresses) = match Wanted::read(&state.settings.server) {
                Ok(wanted) => {
                    let addresses = exchange.dns.addresses(&wanted).await.unwrap_or_default();
                    (exchange.dns.locate(&wanted).await, addresses)
                }
                Err(error) => (Err(error), Vec::new()),
            };
            let _ = answers.send(Input::Trunk(TrunkInput::Located { trunk, servers, addresses })).await;
        });
    }

    pub(super) fn on_trunk_located(
        &mut self,
        trunk: usize,
        servers: Result<Vec<Server>, LocateError>,
        addresses: Vec<IpAddr>,
    ) {
        let Some(state) = self.exchange.trunks.get(trunk) else { return };
        // A name server that fails for a while does not move the provider.
        let mut board = state.board();
        if !addresses.is_empty() {
            board.addresses = addresses;
        }
        if board.server.is_none() || !state.settings.register {
            board.server = servers.as_ref().ok().and_then(|servers| servers.first().copied());
        }
        drop(board);
        let now = Instant::now();
        let found = servers.map_err(|error| error.to_string());
        if let Some(registrar) = self.trunks.registrars.iter_mut().find(|registrar| registrar.trunk == trunk) {
            registrar.machine.located(now, found, chance());
        }
        self.drive_registrars(now);
    }

    fn register_at(&mut self, place: usize, trunk: usize, server: Server, expires_s: u32) {
        let Some(state) = self.exchange.trunks.get(trunk).cloned() else { return };
        let Some(destination) = self.way_to(server) else {
            self.take_reply(place, Reply::Unreachable(503, None));
            return;
        };
        let settings = &state.settings;
        let us = format!("<{}>", settings.address_of(&settings.user));
        let mut order = OutgoingRequest::new("REGISTER", &settings.server, destination.clone(), &us, &us);
        order.headers = vec![
            (Header::Contact, format!("<{}>", self.trunk_contact(&state, &destination))),
            (Header::Expires, expires_s.to_string()),
        ];
        order.credentials = state.credentials();
        let Some(registrar) = self.trunks.registrars.get_mut(place) else { return };
        order.call_id = Some(registrar.call_id.clone());
        order.cseq = registrar.cseq;
        registrar.cseq = registrar.cseq.saturating_add(1);
        registrar.asked = Some((self.server.send_request(Instant::now(), order), server));
    }

    /// Our Contact at a provider, as it is reached by this way.
    pub(super) fn trunk_contact(&self, state: &TrunkState, destination: &Destination) -> String {
        let own = LocalView(self.exchange.transports.clone()).sent_by(destination);
        let scheme = if state.settings.server.starts_with("sips:") { "sips" } else { "sip" };
        let transport = destination.transport().uri_param();
        format!("{scheme}:{}@{own};transport={transport}", state.contact_user)
    }

    /// Takes a response; false when it is to no REGISTER of ours.
    pub(in crate::exchange) fn on_register_response(
        &mut self,
        id: AgentRequestId,
        status: u16,
        response: Option<&Message>,
        realm: Option<&str>,
    ) -> bool {
        let is_it = |registrar: &Registrar| registrar.asked.is_some_and(|(asked, _)| asked == id);
        let Some(place) = self.trunks.registrars.iter().position(is_it) else { return false };
        let Some(registrar) = self.trunks.registrars.get_mut(place) else { return false };
        let Some((_, server)) = registrar.asked.take() else { return false };
        if let Some(used) = response.and_then(|response| response.cseq().ok()) {
            registrar.cseq = used.number.saturating_add(1);
        }
        let Some(state) = self.exchange.trunks.get(registrar.trunk) else { return false };
        if matches!(status, 408 | 503) {
            self.exchange.dns.failed(server);
        } else {
            self.exchange.dns.answered(server);
            state.board().server = Some(server);
        }
        let reply = read_reply(state, status, response, realm);
        if matches!(reply, Reply::Granted(_))
            && let Some(realm) = realm
        {
            // From now on nobody else's challenge is answered.
            state.board().realm.get_or_insert_with(|| realm.to_owned());
        }
        self.take_reply(place, reply);
        true
    }

    fn take_reply(&mut self, place: usize, reply: Reply) {
        let now = Instant::now();
        if let Some(registrar) = self.trunks.registrars.get_mut(place) {
            registrar.machine.answered(now, reply, chance());
            registrar.leaving = None;
        }
        self.drive_registrars(now);
    }

    /// Takes all registrations back.
    pub(super) fn leave_trunks(&mut self, done: &mpsc::Sender<()>) {
        let now = Instant::now();
        for registrar in &mut self.trunks.registrars {
            registrar.leaving = registrar.machine.leave(now).then(|| done.clone());
        }
        self.drive_registrars(now);
    }

    /// Tells the board how a registration stands, and the log what is new.
    fn show(&self, place: usize, now: Instant) {
        let Some(registrar) = self.trunks.registrars.get(place) else { return };
        let Some(state) = self.exchange.trunks.get(registrar.trunk) else { return };
        let now_ms = unix_ms();
        let left = registrar.machine.registered_until(now).map(|until| until.saturating_duration_since(now));
        let until_ms = left.map(|left| now_ms.saturating_add(u64::try_from(left.as_millis()).unwrap_or(0)));
        let mut board = state.board();
        let (name, was_registered) = (&state.settings.name, board.registered_until_ms.is_some());
        if until_ms.is_some() && (!was_registered || board.failing.is_some()) && registrar.machine.trouble().is_none() {
            tracing::info!(trunk = %name, "registered");
        }
        board.registered_until_ms = until_ms;
        board.failing = registrar.machine.trouble().map(|trouble| match board.failing.take() {
            Some((since_ms, known)) if known == *trouble => (since_ms, known),
            other => {
                tracing::warn!(trunk = %name, hint = %trouble.hint(), "{}", trouble.text());
                (other.map_or(now_ms, |(since_ms, _)| since_ms), trouble.clone())
            }
        });
    }

    /// A Call-ID whose messages come to this worker.
    pub(in crate::exchange) fn own_call_id(&self) -> String {
        /// So unlikely not to meet this worker that it never happens: with 64 workers once in e^64.
        const TRIES: u32 = 4096;
        let mut bytes = [0; 16];
        // Without chance it is merely guessable; the tags are the engine's.
        let _ = rand::fill(&mut bytes);
        let base = data_encoding::HEXLOWER.encode(&bytes);
        let leads_here = |id: &String| self.exchange.transports.worker_of(id) == Some(self.index);
        (0..TRIES).map(|number| format!("{base}{number:x}")).find(leads_here).unwrap_or(base)
    }
}

/// What a provider's answer to REGISTER means.
fn read_reply(state: &TrunkState, status: u16, response: Option<&Message>, realm: Option<&str>) -> Reply {
    let retry_after = response.and_then(|response| {
        let value = response.header(Header::RetryAfter)?;
        let seconds = value.split([';', '(']).next()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    });
    let seconds = |header| response.and_then(|response| response.header(header)?.trim().parse::<u32>().ok());
    match status {
        200..=299 => Reply::Granted(response.and_then(|response| granted(state, response)).unwrap_or(0)),
        401 | 407 if realm.is_none() && state.settings.password.is_some() => {
            Reply::Denied(response.and_then(asked_realm).map_or(Trouble::Credentials(status), Trouble::Realm))
        }
        401 | 403 | 407 => Reply::Denied(Trouble::Credentials(status)),
        408 | 503 => Reply::Unreachable(status, retry_after),
        423 => Reply::TooBrief(seconds(Header::MinExpires).unwrap_or(0)),
        other => Reply::Refused(other, retry_after),
    }
}

/// For how long the provider keeps our Contact, of all those that it may know (RFC 3261 §10.2.4).
fn granted(state: &TrunkState, response: &Message) -> Option<u32> {
    let is_ours = |uri: &str| Uri::parse(uri).is_ok_and(|uri| uri.user == Some(state.contact_user.as_str()));
    let contact = response.contacts().filter_map(Result::ok).find(|contact| is_ours(contact.uri))?;
    let own = contact.params.find("expires").flatten().and_then(|value| value.parse().ok());
    own.or_else(|| response.expires().ok().flatten()).or(u32::try_from(state.settings.expires.as_secs()).ok())
}

fn asked_realm(refusal: &Message) -> Option<String> {
    let mut values = refusal.fields(Header::WwwAuthenticate).chain(refusal.fields(Header::ProxyAuthenticate));
    values.find_map(|value| Some(Challenge::parse(value)?.realm.into_owned()))
}

/// A number from 0 to 1000.
fn chance() -> u32 {
    let mut bytes = [0; 4];
    // Without chance the pauses are merely those of every other node.
    let _ = rand::fill(&mut bytes);
    u32::from_be_bytes(bytes) % 1001
}
