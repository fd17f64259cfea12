//! Why a call reaches somebody, or does not: every step that a call from here would take up to the other node, taken, with what came of
//! each and on whose side it is. The other node's phone is not rung. Of a call that runs or ran, what this node saw of it as well.

mod call;
mod description;
pub(crate) mod ladder;

use std::sync::Arc;
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;
use meshtone_overlay::record::{NodeAddress, SipRegistration, Via};
use meshtone_overlay::{Entry, Kind, Path};
use tokio::time::timeout;

use meshtone_sip::registrar::Binding;

use crate::clock::unix_ms;
use crate::control::{Trace, TraceStep};
use crate::exchange::Exchange;
use crate::text::harmless;
use call::Ended;

pub(crate) use call::protection;

/// Nodes whose links are tried: a call tries as many before it gives up.
const MAX_NODES: usize = 4;

/// How long a link may take: a dial, an introduction and a relay, at the same time.
const LINK_WITHIN: Duration = Duration::from_secs(12);

/// Phones of one address that are told of, and characters of what one calls itself.
const MAX_PHONES: usize = 10;
const MAX_AGENT: usize = 80;

/// Longest text that is looked for.
const MAX_TARGET: usize = 320;

/// Whose side something is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Caller,
    Here,
    Overlay,
    Network,
    Callee,
}

impl Side {
    fn as_str(self) -> &'static str {
        match self {
            Side::Caller => "whoever calls",
            Side::Here => "this node",
            Side::Overlay => "the overlay",
            Side::Network => "the network",
            Side::Callee => "whoever is called",
        }
    }
}

/// Follows a call to this address, or of this Call-ID.
pub(crate) async fn trace(exchange: Arc<Exchange>, target: String) -> Trace {
    let mut trace = Tracer::new(&target);
    let call = trace.follow_call(&exchange, &target);
    let wanted = call.as_ref().map_or(target, |call| call.to.clone());
    let nodes = call.as_ref().map(|call| call.nodes.clone()).unwrap_or_default();
    trace.follow_address(&exchange, &wanted, &nodes).await;
    if let Some(call) = call {
        trace.judge(call.end);
    }
    trace.trace
}

/// Collects the steps.
struct Tracer {
    trace: Trace,
    since: Instant,
}

impl Tracer {
    fn new(target: &str) -> Tracer {
        let trace = Trace {
            target: target.to_owned(),
            address: None,
            works: false,
            verdict: String::new(),
            side: None,
            hint: None,
            steps: Vec::new(),
            call: None,
        };
        Tracer { trace, since: Instant::now() }
    }

    fn ok(&mut self, side: Side, what: &str, says: String) {
        self.step(side, what, true, says);
    }

    fn failed(&mut self, side: Side, what: &str, says: String) {
        self.trace.side = Some(side.as_str().to_owned());
        self.step(side, what, false, says);
    }

    fn step(&mut self, side: Side, what: &str, ok: bool, says: String) {
        let took_ms = (self.since.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        self.trace.steps.push(TraceStep { what: what.to_owned(), ok, says, side: side.as_str().to_owned(), took_ms });
        self.since = Instant::now();
    }

    fn end(&mut self, verdict: &str, hint: Option<&str>) {
        verdict.clone_into(&mut self.trace.verdict);
        self.trace.hint = hint.map(str::to_owned);
        if self.trace.works {
            self.trace.side = None;
        }
    }

    /// Says what came of a call, after all that is known of the way there now.
    fn judge(&mut self, ended: Ended) {
        let would = if self.trace.works { "a call now would get there" } else { "a call now would not get there" };
        let (works, side, verdict) = match ended {
            Ended::Not => (self.trace.works, None, "The call rings; nobody has answered yet.".to_owned()),
            Ended::Stands => (true, None, "The call stands.".to_owned()),
            Ended::Well => (true, None, "The call was answered, and one side hung up.".to_owned()),
            Ended::Silent(side) => {
                let hint = "a firewall before that phone may keep its sound back; the addresses above say which way it should take";
                self.trace.hint = Some(hint.to_owned());
                (false, Some(side), "The call was answered, and sound does not arrive.".to_owned())
            }
            Ended::Failed { side, status, says } => {
                (false, Some(side), format!("The call failed with {status}: {says}; {would}."))
            }
        };
        if works {
            self.trace.hint = None;
        }
        let side = side.map(|side| side.as_str().to_owned());
        (self.trace.works, self.trace.side, self.trace.verdict) = (works, side, verdict);
    }

    /// Follows a call to an address, and looks for the ways to these other nodes as well.
    async fn follow_address(&mut self, exchange: &Exchange, wanted: &str, nodes: &[NodeId]) {
        let Some(address) = address_of(wanted, &exchange.domain) else {
            let says = format!("`{wanted}` is no address, and no call of this node is called so.");
            self.failed(Side::Caller, "address", says);
            return self.end("Nobody can be called by that.", Some("an address looks like alice@example.org"));
        };
        self.trace.address = Some(address.clone());
        self.ok(Side::Caller, "address", format!("It means {address}."));
        let here = self.look_here(exchange, &address);
        for node in nodes.iter().copied().take(MAX_NODES) {
            self.link(exchange, node).await;
        }
        let Some(entries) = self.look_up(exchange, &address).await else {
            let verdict =
                if here { "Phones here ring; whether there are others is not known." } else { "Nobody is found." };
            return self.end(verdict, Some("`meshtone netcheck` says how this node is connected"));
        };
        let own = exchange.overlay.node_id();
        let others: Vec<NodeId> = entries.iter().map(|entry| entry.writer).filter(|writer| *writer != own).collect();
        let mut reached = 0;
        for node in others.iter().copied().take(MAX_NODES) {
            self.read_address(exchange, node).await;
            reached += usize::from(self.link(exchange, node).await);
        }
        self.trace.works = here || reached > 0;
        match (here, others.len(), reached) {
            (true, ..) => self.end("A call rings the phones that are registered at this node.", None),
            (false, 0, _) => self.end(
                "A call ends with 480: no node says that this address is registered with it.",
                Some("a phone of that address has to be on and registered, and its node linked to this overlay"),
            ),
            (false, _, 0) => self.end(
                "A call ends with 480: the node is known, and there is no way to it.",
                Some("`meshtone netcheck`, there and here, says what is in between; `meshtone run --relay on` at a node that both reach is one way"),
            ),
            (false, ..) => self.end("A call gets as far as the other node, which rings the phone.", None),
        }
    }

    /// Whether phones here ring.
    fn look_here(&mut self, exchange: &Exchange, address: &str) -> bool {
        let bindings = exchange.registrations.bindings(unix_ms(), address);
        let phones = bindings.len();
        let is_ours = address.rsplit_once('@').is_some_and(|(_, domain)| domain == exchange.domain);
        let is_user = exchange.user(exchange.account_of(address)).is_some();
        match (phones, is_ours, is_user) {
            (1.., ..) => {
                let says = format!("{} registered at this node.", count(phones, "phone is", "phones are"));
                self.ok(Side::Callee, "here", says);
            }
            (0, true, false) => {
                let says = format!("There is no user of that name in {}, as far as this node knows.", exchange.domain);
                self.failed(Side::Caller, "here", says);
            }
            (0, true, true) => {
                self.ok(Side::Callee, "here", "It is a user of this domain, with no phone at this node.".to_owned());
            }
            (0, false, _) => {
                self.ok(
                    Side::Here,
                    "here",
                    "It is no address of this node's domain; other nodes are asked.".to_owned(),
                );
            }
        }
        for binding in bindings.iter().take(MAX_PHONES) {
            self.tell_phone(exchange, binding);
        }
        phones > 0
    }

    /// How a phone is registered, and by what it was last heard to speak.
    fn tell_phone(&mut self, exchange: &Exchange, binding: &Binding) {
        let agent = match binding.user_agent.as_str() {
            "" => "A phone".to_owned(),
            agent => format!("A phone ({})", harmless(agent, MAX_AGENT)),
        };
        let from = binding.flow.remote().map(|remote| format!(" from {remote}")).unwrap_or_default();
        let expires_s = binding.expires_ms.saturating_sub(unix_ms()) / 1000;
        let said = exchange.watches.last_said(&binding.flow, description::streams);
        let said = match said {
            Some(streams) => format!("in its last call it said {}", description::sentence(&streams)),
            None => "which codecs it has shows in a call, and none is remembered".to_owned(),
        };
        let transport = binding.flow.transport();
        let says = format!("{agent} is registered over {transport}{from} for {expires_s} s more; {said}.");
        self.ok(Side::Callee, "phone", says);
    }

    /// What the overlay says of who is registered where.
    async fn look_up(&mut self, exchange: &Exchange, address: &str) -> Option<Vec<Entry>> {
        let overlay = &exchange.overlay;
        if overlay.is_alone() {
            self.ok(Side::Here, "look-up", "This node knows no other: there is nobody to ask.".to_owned());
            return Some(Vec::new());
        }
        match overlay.fetch(Kind::SipRegistration, address).await {
            Ok(entries) => {
                let says = match entries.len() {
                    0 => "The nodes that would hold it say that nobody is registered under this address.".to_owned(),
                    found => format!("{} found in the overlay.", count(found, "registration is", "registrations are")),
                };
                if entries.is_empty() {
                    self.failed(Side::Callee, "look-up", says)
                } else {
                    self.ok(Side::Overlay, "look-up", says)
                }
                for entry in &entries {
                    self.tell_entry(entry);
                }
                Some(entries)
            }
            Err(error) => {
                self.failed(
                    Side::Overlay,
                    "look-up",
                    format!("The overlay gave no answer that can be relied on: {error}."),
                );
                None
            }
        }
    }

    /// Readers are shown nothing but what they have verified.
    fn tell_entry(&mut self, entry: &Entry) {
        let now = unix_ms();
        let phones = SipRegistration::decode(&entry.value).map_or(0, |said| usize::from(said.contacts));
        let right = if entry.delegated {
            "for which the person herself lets it speak"
        } else {
            "whose domain it may speak for"
        };
        let says = format!(
            "Node {} signed it, {right}: {}, said {} s ago, good for {} s more. The signature and the certificates hold.",
            entry.writer.short(),
            count(phones, "phone", "phones"),
            now.saturating_sub(entry.stored_ms) / 1000,
            entry.expires_ms.saturating_sub(now) / 1000,
        );
        self.ok(Side::Callee, "record", says);
    }

    /// Where the other node says that it is.
    async fn read_address(&mut self, exchange: &Exchange, node: NodeId) {
        let read = exchange.overlay.fetch_first(Kind::NodeAddress, &node.to_string()).await;
        let entries = read.unwrap_or_default();
        let record = entries
            .iter()
            .filter(|entry| entry.writer == node)
            .find_map(|entry| NodeAddress::decode(&entry.value).ok());
        match record {
            Some(record) => {
                let via = record.relay.as_deref().map(Via::decode).unwrap_or_default();
                let addresses: Vec<String> = record.addresses.iter().map(ToString::to_string).collect();
                let relays = match (via.relay.is_some(), via.super_nodes.len()) {
                    (true, _) => "it runs a relay itself".to_owned(),
                    (false, 0) => "it names nobody else who reaches it".to_owned(),
                    (false, named) => format!("it names {} through which it is reached", count(named, "node", "nodes")),
                };
                let says = format!(
                    "Node {} (version {}) says that it is at {}; {relays}.",
                    node.short(),
                    record.version,
                    if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") }
                );
                self.ok(Side::Callee, "node", says);
            }
            None => {
                let says = format!(
                    "Node {} has not said where it is, or not lately: it may have been off for long.",
                    node.short()
                );
                self.failed(Side::Callee, "node", says);
            }
        }
    }

    /// Whether there is a way to the other node, and which.
    async fn link(&mut self, exchange: &Exchange, node: NodeId) -> bool {
        let overlay = &exchange.overlay;
        let was_linked = overlay.link_version(node).is_some();
        let connected = timeout(LINK_WITHIN, overlay.connect(node)).await;
        let link = overlay.links().into_iter().find(|link| link.node == node);
        match (connected, link) {
            (Ok(Ok(())), Some(link)) => {
                let before = if was_linked { "There is a link to it already" } else { "A link was made to it" };
                let way = match (link.path, link.relay.and_then(|key| overlay.relay_node(key))) {
                    (Path::Direct(address), _) => format!("directly ({address})"),
                    (Path::Relayed, Some(relay)) => format!("through the relay of node {}", relay.short()),
                    (Path::Relayed, None) => "through a relay".to_owned(),
                };
                let says = format!(
                    "{before}, {way}; {:.1} ms there and back. It has proved its key and speaks version {} of the link protocol.",
                    link.rtt_ms,
                    overlay.link_version(node).unwrap_or_default()
                );
                self.ok(Side::Network, "link", says);
                true
            }
            (Ok(Err(error)), _) => {
                self.failed(Side::Network, "link", format!("{}.", capitalised(&error.to_string())));
                false
            }
            (Ok(Ok(())) | Err(_), _) => {
                self.failed(
                    Side::Network,
                    "link",
                    format!("Node {} does not answer, by any way there is.", node.short()),
                );
                false
            }
        }
    }
}

/// How a call sounds, as far as it runs through this node.
fn heard(sound: &crate::exchange::calls::Sound) -> String {
    let one = |who: &str, heard: Option<meshtone_media::relay::Heard>| match heard {
        Some(heard) => format!(
            "{who} hears {} with {:.1} % lost",
            heard.codec.map_or("a codec unknown to this node", |codec| codec.name()),
            heard.loss * 100.0
        ),
        None => format!("{who} has not said what is heard"),
    };
    format!("{}, {}", one("the caller", sound.by_caller), one("the callee", sound.by_callee))
}

/// The address that somebody means, of this domain where none is named; none where it is no address.
fn address_of(text: &str, domain: &str) -> Option<String> {
    let text = text.trim();
    let text = text.split_once('<').map_or(text, |(_, rest)| rest.split('>').next().unwrap_or(rest));
    let text = ["sip:", "sips:", "tel:"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let text = text.split([';', '?']).next().unwrap_or(text);
    let (user, host) = text.rsplit_once('@').unwrap_or((text, domain));
    let host = host.split(':').next().unwrap_or(host).to_ascii_lowercase();
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@');
    (text.len() <= MAX_TARGET && is_word(user) && is_word(&host) && !user.contains('/'))
        .then(|| format!("{user}@{host}"))
}

fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_people_write_for_an_address_means_one() {
        let bob = Some("bob@example.org".to_owned());
        for text in [
            "bob",
            "bob@example.org",
            "sip:bob@EXAMPLE.org",
            "sips:bob@example.org:5061;transport=tls",
            "\"Bob\" <sip:bob@example.org>;tag=1",
        ] {
            assert_eq!(address_of(text, "example.org"), bob, "{text}");
        }
        for text in ["", "@", "bob@", "@example.org", "b ob", "a@b@", "<>", "../x@example.org"] {
            assert_eq!(address_of(text, "example.org"), None, "{text}");
        }
        assert_eq!(address_of(&"b".repeat(MAX_TARGET + 1), "example.org"), None);
    }
}
