//! A phone without keys and screen, for the command line: it calls somebody through a node, as a phone of one of its users.
//!
//! It is a user agent of its own, over UDP, and has no other rights than any phone: what the node's policy says of calls holds for it
//! as well. It never registers, so nobody can call it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_media::io::{MediaError, PortRange, TalkSession};
use meshtone_media::relay::Heard;
use meshtone_media::sound::Player;
use meshtone_sip::agent::{AgentEvent, Body, Credentials, DialogId, OutgoingCall, Secret};
use meshtone_sip::digest::{Algorithm, Ha1};
use meshtone_sip::message::{Builder, Header, Message, Uri};
use meshtone_sip::server::{Event, RequestId, Server, ServerConfig};
use meshtone_sip::transport::{Destination, Flow, Locals, Transport, host_port};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::node::{SystemRandomness, random_key};

/// The largest datagram there is.
const MAX_DATAGRAM_LEN: usize = 65_535;

/// How often it is looked whether everything was played, or the longest time is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a goodbye waits for its answer: the node is near.
const GOODBYE: Duration = Duration::from_secs(4);

/// Where its sound may be received: apart from where nodes receive theirs.
const PORTS: std::ops::RangeInclusive<u16> = 40_000..=49_150;

/// A user as whom it calls.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The domain, which is the digest realm as well.
    pub domain: String,
    /// The node's address for SIP over UDP.
    pub server: SocketAddr,
    /// What proves who it is, for each digest algorithm that may be used.
    pub ha1: Vec<(Algorithm, Ha1)>,
}

/// What is to be done.
#[derive(Debug)]
pub struct Order {
    /// Whom to call: an address, or a name or number of the domain.
    pub target: String,
    /// As whom.
    pub login: Login,
    /// What is played.
    pub player: Player,
    /// What is said before anything is recorded; without it nothing is.
    pub announcement: Option<Player>,
    /// Whether it hangs up when that is over.
    pub hangs_up: bool,
    /// For how long it talks at most.
    pub longest: Option<Duration>,
}

/// What happens on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The INVITE is sent to this address.
    Calling(String),
    /// A phone rings.
    Ringing,
    /// Somebody answered.
    Answered,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Nobody answered, for this status and reason; status 0 where it was given up here.
    Unanswered {
        /// Status of SIP.
        status: u16,
        /// What the other side said.
        reason: String,
    },
    /// There was a call.
    Ended {
        /// For how long.
        lasted: Duration,
        /// Whether the other side hung up.
        by_them: bool,
        /// What it gave as its reason (RFC 3326).
        reason: Option<String>,
        /// For how long sound was heard.
        heard_for: Duration,
        /// How it sounded, if there was any.
        heard: Option<Heard>,
        /// What was recorded, 8000 samples a second.
        recorded: Vec<i16>,
    },
}

/// Why a call could not even be tried.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The address is none.
    #[error("{0:?} is no address that can be called")]
    Target(String),
    /// There is no socket for SIP.
    #[error("no socket towards the node at {server}")]
    Socket {
        /// The node.
        server: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// There are no ports for sound.
    #[error(transparent)]
    Media(#[from] MediaError),
}

/// Calls somebody; ends with the call, or when `stop` becomes true, upon which it hangs up.
///
/// # Errors
///
/// [`CallError`]: nothing was sent.
pub async fn call(
    order: Order,
    mut stop: watch::Receiver<bool>,
    mut tell: impl FnMut(Progress),
) -> Result<Ending, CallError> {
    let mut phone = Phone::start(order).await?;
    tell(Progress::Calling(phone.target.clone()));
    let mut buffer = vec![0; MAX_DATAGRAM_LEN];
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        phone.drain(&mut tell).await;
        if let Some(ending) = phone.ending.take() {
            return Ok(ending);
        }
        let next = phone.server.poll_timeout().map(|(at, _)| at);
        let next = next.unwrap_or_else(|| now() + LOOK_EVERY);
        tokio::select! {
            received = phone.socket.recv(&mut buffer) => {
                if let Ok(len) = received {
                    phone.handle_datagram(buffer.get(..len).unwrap_or_default());
                }
            }
            () = tokio::time::sleep_until(next.into()) => phone.server.handle_timeout(now()),
            _ = look.tick() => phone.look(),
            Ok(()) = stop.changed() => phone.hang_up(),
        }
    }
}

struct Phone {
    socket: UdpSocket,
    flow: Flow,
    server: Server,
    target: String,
    media: TalkSession,
    call: DialogId,
    stands: Option<(DialogId, Instant)>,
    /// Since when we want it to be over.
    leaving: Option<Instant>,
    is_ringing: bool,
    hangs_up: bool,
    longest: Option<Duration>,
    end_reason: Option<String>,
    ending: Option<Ending>,
}

impl Phone {
    async fn start(order: Order) -> Result<Phone, CallError> {
        let Order { target, login, player, announcement, hangs_up, longest } = order;
        let target = completed(&target, &login.domain).ok_or(CallError::Target(target))?;
        let server = login.server;
        let failed = |source| CallError::Socket { server, source };
        let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        let socket = UdpSocket::bind((any, 0)).await.map_err(failed)?;
        socket.connect(server).await.map_err(failed)?;
        let own = socket.local_addr().map_err(failed)?;
        let ports = PortRange::new(PORTS, 1)?;
        let media = TalkSession::open(&ports, own.ip(), player, announcement)?;
        let flow = Flow::Udp { listener: 0, remote: server };
        let mut engine =
            Server::new(ServerConfig::new(random_key()), Box::new(Own(own)), Box::new(SystemRandomness::default()));
        let address =
            if login.user.contains('@') { login.user.clone() } else { format!("{}@{}", login.user, login.domain) };
        let from = format!("<sip:{address}>");
        let contact = format!("sip:call@{}", host_port(own));
        let mut order =
            OutgoingCall::new(&target, Destination::Flow(flow.clone()), &from, &format!("<{target}>"), &contact);
        order.body = Some(Body::sdp(&media.offer()));
        order.headers = vec![(Header::UserAgent, format!("Meshtone/{}", env!("CARGO_PKG_VERSION")))];
        let host = Uri::parse(&target).map(|uri| uri.host.to_owned()).unwrap_or_default();
        let secret = Secret::Ha1(login.ha1);
        order.credentials = Some(Credentials { realm: Some(login.domain), host, username: login.user, secret });
        let call = engine.place_call(now(), order);
        Ok(Phone {
            socket,
            flow,
            server: engine,
            target,
            media,
            call,
            stands: None,
            leaving: None,
            is_ringing: false,
            hangs_up,
            longest,
            end_reason: None,
            ending: None,
        })
    }

    fn handle_datagram(&mut self, datagram: &[u8]) {
        if let Ok(message) = Message::parse(Bytes::copy_from_slice(datagram)) {
            self.server.handle_message(now(), self.flow.clone(), message);
        }
    }

    /// Sends what is to be sent, and takes what happened.
    async fn drain(&mut self, tell: &mut impl FnMut(Progress)) {
        loop {
            let mut is_idle = true;
            while let Some(transmit) = self.server.poll_transmit() {
                is_idle = false;
                if self.socket.send(transmit.message.bytes()).await.is_err()
                    && let Some(origin) = transmit.origin
                {
                    self.server.handle_transport_error(now(), origin);
                }
            }
            while let Some(event) = self.server.poll_event() {
                is_idle = false;
                self.on_event(event, tell);
            }
            if is_idle {
                return;
            }
        }
    }

    fn on_event(&mut self, event: Event, tell: &mut impl FnMut(Progress)) {
        match event {
            Event::Agent(AgentEvent::Progress { response, .. }) => {
                // What is played before the answer is heard, where it is sound that we speak.
                if !response.body().is_empty() && self.media.accept(response.body()).is_err() {
                    tracing::debug!("the sound before the answer cannot be played");
                }
                if !std::mem::replace(&mut self.is_ringing, true) {
                    tell(Progress::Ringing);
                }
            }
            Event::Agent(AgentEvent::Answered { dialog, response, .. }) => {
                self.stands = Some((dialog, now()));
                tell(Progress::Answered);
                if !response.body().is_empty()
                    && let Err(error) = self.media.accept(response.body())
                {
                    self.end_reason = Some(format!("the other side's sound cannot be had: {error}"));
                    self.hang_up();
                }
            }
            Event::Agent(AgentEvent::Failed { status, response, .. }) => {
                let reason = response.map(|response| response.reason().to_owned()).unwrap_or_default();
                let status = if self.leaving.is_some() { 0 } else { status };
                self.ending = Some(Ending::Unanswered { status, reason });
            }
            Event::Agent(AgentEvent::EndReason { reason, .. }) => self.end_reason = Some(reason),
            Event::DialogEnded { dialog } if self.stands.is_some_and(|(stands, _)| stands == dialog) => self.end(),
            Event::Reinvite { id, request, .. } => self.on_change(id, &request),
            Event::Request { id, .. } => self.server.reject(now(), id, 480, "This phone only calls", &[]),
            Event::Agent(_)
            | Event::DialogEnded { .. }
            | Event::Acknowledged { .. }
            | Event::TargetsExhausted { .. }
            | Event::Redirected { .. }
            | Event::Cancelled { .. }
            | Event::Finished { .. } => {}
        }
    }

    fn on_change(&mut self, id: RequestId, request: &Message) {
        let answer = match request.body() {
            [] => Ok(self.media.offer()),
            offer => self.media.answer(offer),
        };
        match answer {
            Ok(answer) => {
                let response = Builder::response(request, 200, "OK").body("application/sdp", &answer).finish();
                self.server.respond(now(), id, response);
            }
            Err(error) => self.server.reject(now(), id, error.status(), &error.to_string(), &[]),
        }
    }

    /// Looks whether it is time to go.
    fn look(&mut self) {
        if self.leaving.is_some_and(|since| now().saturating_duration_since(since) >= GOODBYE) {
            self.end();
            return;
        }
        let Some((_, since)) = self.stands else { return };
        let is_long = self.longest.is_some_and(|longest| now().saturating_duration_since(since) >= longest);
        if is_long || (self.hangs_up && self.media.is_played()) {
            self.hang_up();
        }
    }

    fn hang_up(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(now());
            let dialog = self.stands.map_or(self.call, |(dialog, _)| dialog);
            self.server.hang_up(now(), dialog);
        }
    }

    fn end(&mut self) {
        let reason = self.end_reason.take();
        let (heard, heard_for) = self.media.hears();
        self.ending = Some(match self.stands {
            Some((_, since)) => Ending::Ended {
                lasted: self.leaving.unwrap_or_else(now).saturating_duration_since(since),
                by_them: self.leaving.is_none(),
                reason,
                heard_for,
                heard,
                recorded: self.media.recorded(),
            },
            None => Ending::Unanswered { status: 0, reason: String::new() },
        });
    }
}

/// The address that somebody means by what they type.
fn completed(target: &str, domain: &str) -> Option<String> {
    let uri = match (target.split_once(':'), target.contains('@')) {
        (Some(("sip" | "sips", _)), _) => target.to_owned(),
        (_, true) => format!("sip:{target}"),
        (_, false) => format!("sip:{target}@{domain}"),
    };
    Uri::parse(&uri).ok().filter(|parsed| parsed.user.is_some_and(|user| !user.is_empty()))?;
    (!uri.contains(|character: char| character.is_control() || " <>\"".contains(character))).then_some(uri)
}

/// The runtime's clock.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The one address that it has.
struct Own(SocketAddr);

impl Locals for Own {
    fn sent_by(&self, _: &Destination) -> String {
        host_port(self.0)
    }

    fn is_local(&self, host: &str, port: Option<u16>) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').parse();
        host == Ok(self.0.ip()) && port.unwrap_or(Transport::Udp.default_port()) == self.0.port()
    }

    fn flow_is_open(&self, _: &Flow) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_becomes_an_address() {
        let meant = |typed| completed(typed, "mesh.test");
        for (typed, address) in [
            ("bob", "sip:bob@mesh.test"),
            ("201", "sip:201@mesh.test"),
            ("bob@example.net", "sip:bob@example.net"),
            ("sip:bob@example.net", "sip:bob@example.net"),
            ("sips:bob@example.net", "sips:bob@example.net"),
        ] {
            assert_eq!(meant(typed).as_deref(), Some(address));
        }
        for wrong in ["", "@", "sip:", "sip:mesh.test", "a b@c", "bob@", "<sip:bob@mesh.test>", "bob\r\nX: y@mesh.test"]
        {
            assert_eq!(meant(wrong), None, "{wrong:?}");
        }
    }
}
