//! A call's messages as people and programs are shown them: who said what to whom.

use meshtone_sip::transport::{Destination, Flow, PeerHost};

use crate::control::LadderMessage;
use crate::exchange::watch::{Step, With, text_of};
use crate::transport::node_of;

/// This node, in a ladder.
pub(super) const NODE: &str = "node";
/// Longest text of a message that is shown, in characters.
const MAX_TEXT: usize = 16 * 1024;

/// A message of a ladder, seen from the node of this name.
pub(crate) fn message(own_host: &PeerHost, step: &Step) -> LadderMessage {
    let (other, transport) = match &step.with {
        With::Flow(flow) | With::Destination(Destination::Flow(flow)) => (of_flow(own_host, flow), flow.transport()),
        With::Destination(Destination::Address { transport, addr, .. }) => (addr.to_string(), *transport),
        With::Destination(destination @ Destination::Peer(host)) => (of_host(own_host, host), destination.transport()),
    };
    let text: String = text_of(&step.message).chars().take(MAX_TEXT).collect();
    let first_line = text.lines().next().unwrap_or_default().to_owned();
    let node = NODE.to_owned();
    let (from, to) = if step.is_sent { (node, other) } else { (other, node) };
    LadderMessage { at_ms: step.at_ms, from, to, transport: transport.to_string(), first_line, text }
}

/// The other node, where the message went over a link.
pub(super) fn neighbour(step: &Step) -> Option<&PeerHost> {
    match &step.with {
        With::Flow(Flow::Peer { host })
        | With::Destination(Destination::Flow(Flow::Peer { host }) | Destination::Peer(host)) => Some(host),
        With::Flow(Flow::Udp { .. } | Flow::Stream { .. })
        | With::Destination(Destination::Flow(Flow::Udp { .. } | Flow::Stream { .. }) | Destination::Address { .. }) => {
            None
        }
    }
}

fn of_flow(own_host: &PeerHost, flow: &Flow) -> String {
    match flow {
        Flow::Udp { remote, .. } | Flow::Stream { remote, .. } => remote.to_string(),
        Flow::Peer { host } => of_host(own_host, host),
    }
}

fn of_host(own_host: &PeerHost, host: &PeerHost) -> String {
    match node_of(host) {
        Some(_) if host == own_host => NODE.to_owned(),
        Some(node) => node.to_string(),
        None => host.to_string(),
    }
}
