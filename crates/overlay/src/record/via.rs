//! By whom a node is reached that cannot be dialled: the super-nodes that it names in its address record, which introduce others to it
//! and, those that run a relay, pass packets on; and whether it runs a relay itself.
//!
//! All of it stands where the record has the URL of what reaches the node, as a URI of a scheme of its own, so that programs that know
//! nothing of it read, verify and store the record all the same. Those that know super-nodes alone pass over what they cannot read.

use meshtone_identity::NodeId;

/// Most that are named: some may be gone or silent, and a URI of four, with a relay, fits.
pub const MAX_SUPER_NODES: usize = 4;

const SCHEME: &str = "meshtone-via:";
const RELAY: &str = "relay=";
const TURN: &str = "turn=";

/// What an address record says of how else its node is reached, and what it does for others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Via {
    /// The ports of the relay that the node runs, if it does, at each of its addresses.
    pub relay: Option<RelayPorts>,
    /// The port, UDP and TCP, of the TURN server that it runs for users of other nodes too, if it does, at each of its addresses.
    pub turn: Option<u16>,
    /// The nodes that introduce others to it; first those whose relays it is connected to.
    pub super_nodes: Vec<NodeId>,
}

/// Where a relay listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayPorts {
    /// TCP, for packets.
    pub relay: u16,
    /// UDP, where nodes learn which address their packets come from; 0 where they cannot.
    pub discovery: u16,
}

impl Via {
    /// Returns what the record says, if there is anything to say.
    pub fn encode(&self) -> Option<String> {
        let relay = self.relay.map(|ports| format!("{RELAY}{}+{}", ports.relay, ports.discovery));
        let nodes = self.super_nodes.iter().take(MAX_SUPER_NODES).map(ToString::to_string);
        let turn = self.turn.map(|port| format!("{TURN}{port}"));
        let items: Vec<String> = relay.into_iter().chain(turn).chain(nodes).collect();
        (!items.is_empty()).then(|| format!("{SCHEME}{}", items.join(",")))
    }

    /// Reads what a record says; what is not understood is passed over.
    pub fn decode(text: &str) -> Self {
        let mut via = Self::default();
        for item in text.strip_prefix(SCHEME).unwrap_or_default().split(',') {
            if let Some(ports) = item.strip_prefix(RELAY) {
                via.relay = via.relay.or_else(|| RelayPorts::decode(ports));
            } else if let Some(port) = item.strip_prefix(TURN) {
                via.turn = via.turn.or_else(|| port.parse().ok().filter(|port| *port != 0));
            } else if let Ok(node) = item.parse()
                && via.super_nodes.len() < MAX_SUPER_NODES
            {
                via.super_nodes.push(node);
            }
        }
        via
    }
}

impl RelayPorts {
    fn decode(text: &str) -> Option<Self> {
        let (relay, discovery) = text.split_once('+')?;
        let ports = Self { relay: relay.parse().ok()?, discovery: discovery.parse().ok()? };
        (ports.relay != 0).then_some(ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn via(relay: Option<(u16, u16)>, nodes: &[u8]) -> Via {
        let relay = relay.map(|(relay, discovery)| RelayPorts { relay, discovery });
        Via { relay, turn: None, super_nodes: nodes.iter().copied().map(node).collect() }
    }

    #[test]
    fn what_is_said_reads_back_and_fits_where_releases_without_it_have_a_url() {
        let most = via(Some((65_535, 65_535)), &[255, 254, 253, 252]);
        let most = Via { turn: Some(65_535), ..most };
        for said in [via(None, &[255, 254, 1, 0]), most] {
            let text = said.encode().unwrap_or_default();
            assert!(text.len() <= 256, "{} bytes", text.len());
            assert_eq!(Via::decode(&text), said);
        }
        assert_eq!(Via::decode(&via(Some((443, 0)), &[]).encode().unwrap_or_default()), via(Some((443, 0)), &[]));
        assert_eq!(Via::default().encode(), None);
    }

    /// As the release reads it that knew super-nodes alone.
    #[test]
    fn an_older_program_finds_the_super_nodes_beside_a_relay() {
        let text = via(Some((8443, 7842)), &[1, 2, 3, 4]).encode().unwrap_or_default();
        let ids = text.strip_prefix(SCHEME).unwrap_or_default().split(',');
        let found: Vec<NodeId> = ids.filter_map(|id| id.parse().ok()).take(MAX_SUPER_NODES).collect();
        assert_eq!(found, [1, 2, 3, 4].map(node));
    }

    #[test]
    fn what_is_not_understood_is_passed_over() {
        let one = node(7);
        for text in [
            "",
            "https://relay.example:8443/",
            "meshtone-via:",
            "meshtone-via:nobody,,",
            "meshtone-via:relay=,relay=0+1,relay=1,relay=a+b,relay=70000+1,relay=1+70000",
            "meshtone-via:turn=,turn=0,turn=a,turn=70000,turn=1+2",
            &one.to_string(),
        ] {
            assert_eq!(Via::decode(text), Via::default(), "{text}");
        }
        let many = vec![one.to_string(); 9].join(",");
        assert_eq!(Via::decode(&format!("{SCHEME}{many}")).super_nodes.len(), MAX_SUPER_NODES);
        assert_eq!(Via::decode(&format!("{SCHEME}mallory,later=1,{one}")).super_nodes, [one]);
    }
}
