//! The first stage of a farm: this node forwards what arrives to servers behind it, and keeps nothing.
//!
//! No worker has a part in it: whoever brings a message sends it on. What the node has besides (its place in the overlay, its
//! administration) stays as it is. Servers are asked every two seconds whether they are there; users of one that is silent go to
//! others until it is back.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meshtone_sip::message::{Builder, Header, Message};
pub use meshtone_sip::proxy::stateless::Spread;
use meshtone_sip::proxy::stateless::StatelessProxy;
use meshtone_sip::transport::{Destination, Flow, Locals, Transmit, Transport};

use super::Exchange;
use crate::clock::unix_ms;
use crate::transport::{LocalView, Outbox};

/// Servers at most: each is asked for its health.
pub const SERVERS_MAX: usize = 64;

/// How often each server is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// So many questions in a row without an answer, and a server counts as lost: a datagram or two may be.
const UNANSWERED_MAX: u32 = 3;
/// Begins the branch of a question; what only this process knows follows.
const PROBE: &str = "z9hG4bK-p";

/// A server of the second stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecondStage {
    /// UDP or TCP.
    pub transport: Transport,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Why a server could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address of a server: an IP address and a port, perhaps with ;transport=tcp")]
pub struct NoServer(String);

impl FromStr for SecondStage {
    type Err = NoServer;

    /// Reads `192.0.2.1:5060`, over UDP, or `192.0.2.1:5060;transport=tcp`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NoServer(text.to_owned());
        let (address, params) = text.split_once(';').unwrap_or((text, "transport=udp"));
        let transport = params.strip_prefix("transport=").and_then(|name| name.parse().ok());
        match transport {
            Some(transport @ (Transport::Udp | Transport::Tcp)) => {
                Ok(SecondStage { transport, address: address.parse().map_err(|_| wrong())? })
            }
            Some(Transport::Tls | Transport::Ws | Transport::Wss | Transport::Peer) | None => Err(wrong()),
        }
    }
}

/// What the configuration says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The servers behind.
    pub servers: Vec<SecondStage>,
    /// What keeps requests together.
    pub spread: Spread,
}

/// The first stage at work.
pub(crate) struct FirstStage {
    proxy: StatelessProxy,
    exchange: Arc<Exchange>,
    locals: LocalView,
    /// Of each server, the questions in a row that it has not answered.
    unanswered: Vec<AtomicU32>,
    /// What makes the branches of our questions.
    probe: String,
}

impl FirstStage {
    /// Joins the settings to a node whose key seals what travels in messages.
    pub(crate) fn new(settings: &Settings, key: &[u8; 32], exchange: Arc<Exchange>) -> FirstStage {
        let target = |server: &SecondStage| Destination::Address {
            transport: server.transport,
            addr: server.address,
            listener: 0,
        };
        let targets: Vec<Destination> = settings.servers.iter().map(target).collect();
        FirstStage {
            unanswered: targets.iter().map(|_| AtomicU32::new(0)).collect(),
            proxy: StatelessProxy::new(targets, settings.spread, key),
            locals: LocalView(exchange.transports.clone()),
            exchange,
            probe: format!("{PROBE}{:016x}-", RandomState::new().hash_one("probe")),
        }
    }

    /// Sends a message one hop further.
    pub(crate) fn message(&self, flow: &Flow, message: &Message, outbox: &mut Outbox) {
        let now_ms = unix_ms();
        if !self.exchange.is_admitted(now_ms, flow, message) || self.is_answer_to_probe(message) {
            return;
        }
        let forwarded = self.proxy.forward(flow, message, &self.locals, |server| self.is_alive(server));
        if let Some(transmit) = forwarded.filter(|transmit| self.exchange.may_leave(now_ms, transmit)) {
            self.exchange.transports.send(0, transmit, outbox);
        }
    }

    /// The servers, and whether each of them answers.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (String, bool)> {
        self.proxy.targets().iter().enumerate().map(|(index, target)| {
            let address = match target {
                Destination::Address { addr, .. } => addr.to_string(),
                Destination::Flow(_) | Destination::Peer(_) => String::new(),
            };
            (format!("{} {address}", target.transport()), self.is_alive(index))
        })
    }

    /// Asks the servers whether they are there, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(PROBE_EVERY);
        for count in 0u32.. {
            ticks.tick().await;
            for (index, server) in self.proxy.targets().iter().enumerate() {
                self.ask(index, server, count);
            }
        }
    }

    fn ask(&self, index: usize, server: &Destination, count: u32) {
        let Some(unanswered) = self.unanswered.get(index) else { return };
        let Destination::Address { addr, transport, .. } = server else { return };
        if unanswered.fetch_add(1, Ordering::Relaxed) == UNANSWERED_MAX {
            tracing::warn!(server = %addr, "a server behind this first stage does not answer: its users go to others");
        }
        let sent_by = self.locals.sent_by(server);
        let (token, probe) = (transport.via_token(), &self.probe);
        let question = Builder::request("OPTIONS", &format!("sip:{addr}"))
            .header(Header::Via, &format!("SIP/2.0/{token} {sent_by};branch={probe}{index}-{count};rport"))
            // It concerns nobody but that server.
            .header(Header::MaxForwards, "0")
            .header(Header::From, &format!("<sip:{sent_by}>;tag={count}"))
            .header(Header::To, &format!("<sip:{addr}>"))
            .header(Header::CallId, &format!("{}{index}-{count}", self.probe))
            .header(Header::CSeq, "1 OPTIONS")
            .finish();
        let mut outbox = Outbox::default();
        let question = Transmit { destination: server.clone(), message: question, origin: None };
        self.exchange.transports.send(0, question, &mut outbox);
        self.exchange.transports.send_all(&mut outbox);
    }

    /// Takes note of a server that is there: whatever it answers.
    fn is_answer_to_probe(&self, message: &Message) -> bool {
        if message.is_request() {
            return false;
        }
        let index = message.top_via().ok().and_then(|via| {
            let (index, _) = via.branch()?.strip_prefix(self.probe.as_str())?.split_once('-')?;
            index.parse::<usize>().ok()
        });
        let Some(unanswered) = index.and_then(|index| self.unanswered.get(index)) else { return false };
        if unanswered.swap(0, Ordering::Relaxed) > UNANSWERED_MAX {
            tracing::info!(server = ?index, "a server behind this first stage answers again");
        }
        true
    }

    fn is_alive(&self, server: usize) -> bool {
        self.unanswered.get(server).is_some_and(|unanswered| unanswered.load(Ordering::Relaxed) <= UNANSWERED_MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_server_is_an_address_over_udp_or_tcp() {
        let server = |text: &str| text.parse::<SecondStage>();
        assert_eq!(server("192.0.2.1:5060").unwrap().transport, Transport::Udp);
        let tcp = server("[2001:db8::1]:5070;transport=tcp").unwrap();
        assert_eq!((tcp.transport, tcp.address.port()), (Transport::Tcp, 5070));
        for wrong in ["192.0.2.1", "example.org:5060", "192.0.2.1:5060;transport=tls", "192.0.2.1:5060;lr", ""] {
            assert_eq!(server(wrong), Err(NoServer(wrong.to_owned())));
        }
    }
}
