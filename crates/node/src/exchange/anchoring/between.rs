//! Which calls go over the link to another node, and how media finds that link.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::NodeId;
use meshtone_media::io::{Between, Link, NeighbourId};
use meshtone_overlay::node::Overlay;
use meshtone_sip::message::Message;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::decide::{AnchorPolicy, Kind, Offered};
use super::{described_address, source_of};
use crate::transport::{host_of, node_of};

/// From this version of the link protocol on, a node takes media in datagrams.
pub(super) const MEDIA_VERSION: u16 = 6;

/// What descriptions between nodes say in the place of a transport.
const PROTOCOL: &[u8] = b"QUIC/RTP/";

/// Another node, as far as it matters to media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// The version of the link protocol that it speaks.
    pub(super) version: u16,
    /// Where its packets come from; none where a relay passes them on.
    pub(super) place: Option<IpAddr>,
}

/// Whether a call of a phone here goes over the link to this node, where its phone is called: always where that is wanted; by default
/// unless the caller is in the network that the other node is in, where phones reach each other and nothing leaves the house. To a node
/// of before never.
pub(super) fn is_wanted(policy: AnchorPolicy, invite: &Message, neighbour: Neighbour) -> bool {
    if neighbour.version < MEDIA_VERSION || !may_be_wanted(policy, invite) {
        return false;
    }
    match policy {
        AnchorPolicy::Never => false,
        AnchorPolicy::Always => true,
        AnchorPolicy::Auto => {
            let caller = described_address(invite).or_else(|| source_of(invite));
            !caller.zip(neighbour.place).is_some_and(|(caller, node)| is_one_network(caller, node))
        }
    }
}

/// Whether that depends on the other node at all.
pub(super) fn may_be_wanted(policy: AnchorPolicy, invite: &Message) -> bool {
    policy != AnchorPolicy::Never
        && Offered::read(invite).is_some_and(|offered| match offered.kind {
            Kind::Plain | Kind::Sdes | Kind::Dtls | Kind::WebRtc => true,
            // Nobody knows yet who would answer how.
            Kind::Nothing | Kind::Link | Kind::Other => false,
        })
}

/// Whether a request describes media by flows, as only nodes do.
pub(crate) fn names_a_flow(request: &Message) -> bool {
    memchr::memmem::find(request.body(), PROTOCOL).is_some()
}

/// The node whose flows an INVITE describes. That it is the one at the other end of the link was seen when it came.
pub(super) fn described_by(invite: &Message) -> Option<NodeId> {
    if !names_a_flow(invite) {
        return None;
    }
    let via = invite.top_via().ok()?;
    node_of(&meshtone_sip::transport::PeerHost::parse(via.host)?)
}

/// Whether two addresses are so near that phones there reach each other: one machine, or a network as houses have it (a /24, a /64).
fn is_one_network(one: IpAddr, other: IpAddr) -> bool {
    match (one.to_canonical(), other.to_canonical()) {
        (one, other) if one.is_loopback() && other.is_loopback() => true,
        (IpAddr::V4(one), IpAddr::V4(other)) => one.to_bits() >> 8 == other.to_bits() >> 8,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() >> 64 == other.to_bits() >> 64,
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// The link to a node, whichever connection that is at the time: a call goes on when it breaks and comes again.
pub(super) struct PeerLink {
    overlay: Overlay,
    node: NodeId,
}

impl PeerLink {
    pub(super) fn to(overlay: &Overlay, node: NodeId) -> Arc<dyn Link> {
        Arc::new(PeerLink { overlay: overlay.clone(), node })
    }
}

impl std::fmt::Debug for PeerLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PeerLink").field(&host_of(self.node)).finish()
    }
}

impl Link for PeerLink {
    fn neighbour(&self) -> NeighbourId {
        *self.node.as_bytes()
    }

    fn max_datagram_len(&self) -> Option<usize> {
        self.overlay.max_datagram_len(self.node)
    }

    fn send(&self, datagram: Vec<u8>) {
        if !self.overlay.send_datagram(self.node, Bytes::from(datagram)) {
            tracing::trace!(node = %self.node.short(), "media for another node was lost here");
        }
    }
}

/// Makes the table of this node's flows, and lets it have what comes over the links.
pub(crate) fn between(overlay: &Overlay) -> Arc<Between> {
    let between = Between::new();
    let table = Arc::clone(&between);
    overlay.hear_datagrams(Arc::new(move |node: NodeId, datagram: Bytes| {
        table.handle_datagram(*node.as_bytes(), &datagram);
    }));
    between
}

/// How often it is looked whether the links of calls are there: people wait in silence.
const LOOK: Duration = Duration::from_millis(250);

/// Nodes that are looked for at once; there are rarely calls with more.
const MAX_SEARCHES: usize = 32;

/// Sees to it that there is a link to every node with which there is a call: one that is lost is made anew at once, wherever the other
/// node is now and by whatever way leads there. Nobody else may want that link.
pub(crate) async fn keep_links(overlay: Overlay, between: Arc<Between>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut searches, mut searched) = (JoinSet::new(), BTreeSet::new());
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Some(ended) = searches.join_next() => {
                match ended {
                    Ok(node) => searched.remove(&node),
                    Err(_) => continue,
                };
                continue;
            }
        }
        for node in between.neighbours().into_iter().map(NodeId::from_bytes) {
            if searches.len() < MAX_SEARCHES && overlay.link_version(node).is_none() && searched.insert(node) {
                let overlay = overlay.clone();
                searches.spawn(async move {
                    match overlay.connect(node).await {
                        Ok(()) => tracing::info!(node = %node.short(), "the link of a call is back"),
                        Err(error) => tracing::debug!(node = %node.short(), %error, "the link of a call is lost"),
                    }
                    node
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn offering(protocol: &str, host: &str) -> Message {
        let family = if host.contains(':') { "IP6" } else { "IP4" };
        let body = format!(
            "v=0\r\no=- 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\nm=audio 4000 {protocol} 0\r\na=roq-flow-id:4\r\n"
        );
        let text = format!(
            "INVITE sip:b@c SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.7.9;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n\
             Call-ID: x\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn at(place: &str) -> Neighbour {
        Neighbour { version: MEDIA_VERSION, place: Some(place.parse().unwrap()) }
    }

    #[test]
    fn by_default_media_goes_over_the_link_unless_both_are_in_one_network() {
        let auto = |invite: &Message, place: &str| is_wanted(AnchorPolicy::Auto, invite, at(place));
        for protocol in ["RTP/AVP", "RTP/SAVP"] {
            let phone = offering(protocol, "192.168.7.5");
            assert!(!auto(&phone, "192.168.7.200"));
            assert!(auto(&phone, "203.0.113.9") && auto(&phone, "192.168.8.200") && auto(&phone, "fd00::1"));
        }
        assert!(!auto(&offering("RTP/AVP", "127.0.0.2"), "::1"));
        assert!(!auto(&offering("RTP/AVP", "2001:db8::5"), "2001:db8::99"));
        assert!(auto(&offering("RTP/AVP", "2001:db8::5"), "2001:db8:0:1::99"));
        // What browsers write is no address of theirs: where their signalling comes from is.
        let browser = offering("UDP/TLS/RTP/SAVPF", "0.0.0.0");
        assert!(!auto(&browser, "192.168.7.200") && auto(&browser, "203.0.113.9"));
        let relayed = Neighbour { version: MEDIA_VERSION, place: None };
        assert!(is_wanted(AnchorPolicy::Auto, &offering("RTP/AVP", "192.168.7.5"), relayed));
    }

    #[test]
    fn what_is_configured_counts_first_and_nodes_of_before_are_spared() {
        let plain = offering("RTP/AVP", "192.168.7.5");
        assert!(is_wanted(AnchorPolicy::Always, &plain, at("192.168.7.200")));
        assert!(!is_wanted(AnchorPolicy::Never, &plain, at("203.0.113.9")));
        let before = Neighbour { version: MEDIA_VERSION - 1, ..at("203.0.113.9") };
        assert!(!is_wanted(AnchorPolicy::Always, &plain, before));
        assert!(!is_wanted(AnchorPolicy::Always, &offering("QUIC/RTP/AVPF", "0.0.0.0"), at("203.0.113.9")));
    }

    #[test]
    fn whose_flows_are_described_is_read_where_some_are() {
        assert!(names_a_flow(&offering("QUIC/RTP/AVP", "0.0.0.0")) && !names_a_flow(&offering("RTP/AVP", "192.0.2.5")));
        assert_eq!(described_by(&offering("QUIC/RTP/AVP", "0.0.0.0")), None, "a phone has none");
    }
}
