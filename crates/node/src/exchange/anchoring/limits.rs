//! Who answers for a call that is carried, and how much of this node's media he may have: a stolen password, a stranger or a neighbour
//! must not leave others without sound.

use std::net::IpAddr;

use meshtone_identity::NodeId;
use meshtone_media::anchoring::Profile;
use meshtone_media::io::{AnchoredCall, Facing, Most, Place, Share};
use meshtone_sip::message::{Header, Message, NameAddr, Uri};
use meshtone_sip::proxy::Target;

use super::super::identity::asserted_address;
use super::Nodes;
use crate::exchange::Exchange;

/// How much media runs through a node at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaLimits {
    /// Streams of one user, or of strangers of one network, counted at either end: a call with sound has two.
    pub streams_per_user: usize,
    /// Calls converted between codecs at once, of everybody.
    pub converted_calls: usize,
}

impl Default for MediaLimits {
    /// 64 calls with sound, as many as a switchboard of a small office has: with the node's 2048 it takes sixteen people to use it up.
    /// Coding Opus takes a hundredth of a processor's time both ways, so that sixteen conversions leave most of a small machine
    /// to calls that are only carried.
    fn default() -> MediaLimits {
        MediaLimits { streams_per_user: 128, converted_calls: 16 }
    }
}

/// What a whole node, or what comes by trunks, may have is this many times what one user may: a quarter of the node's with the default.
const USERS_OF_A_NODE: usize = 4;

impl MediaLimits {
    fn of_one(self) -> Most {
        // A quarter, so that it takes four.
        Most { streams: self.streams_per_user, conversions: self.converted_calls.div_ceil(4) }
    }

    fn of_many(self) -> Most {
        let streams = self.streams_per_user.saturating_mul(USERS_OF_A_NODE);
        Most { streams, conversions: self.converted_calls.div_ceil(2) }
    }
}

impl Exchange {
    /// What carries the media of a call between these places, charged to whoever answers for it.
    pub(in crate::exchange) fn carrier(
        &self,
        near: Place,
        far: Place,
        profile: Profile,
        shares: Vec<Share>,
    ) -> AnchoredCall {
        let transports = self.transports.clone();
        AnchoredCall::new(&self.anchor_ports, near, far, profile, self.media_identity.clone())
            .faced_by(Facing::new(move |remote| transports.address_facing_now(remote)))
            .charged_to(shares)
    }

    /// The shares that a branch of a call is charged to.
    pub(in crate::exchange) fn shares_of(
        &self,
        invite: &Message,
        target: Option<&Target>,
        source: Option<IpAddr>,
        nodes: Nodes,
    ) -> Vec<Share> {
        let (one, many) = (self.anchor.limits.of_one(), self.anchor.limits.of_many());
        let mut shares = Vec::new();
        if let Some(node) = nodes.near {
            shares.push(self.shares.of(by_node(node), many));
        }
        match self.caller_of(invite, target).or_else(|| source.map(network)) {
            Some(party) => shares.push(self.shares.of(party, one)),
            None if nodes.near.is_none() => shares.push(self.shares.of("trunks".to_owned(), many)),
            None => {}
        }
        shares
    }

    /// Whoever has proved to call: what is asserted of the caller where he was believed, or an address that nobody else may write
    /// into From.
    fn caller_of(&self, invite: &Message, target: Option<&Target>) -> Option<String> {
        let asserted =
            target.and_then(|target| target.extra.iter().find(|(header, _)| *header == Header::PAssertedIdentity));
        let asserted = asserted.and_then(|(_, value)| address_of(NameAddr::parse(value).ok()?.uri));
        asserted.or_else(|| asserted_address(invite)).or_else(|| {
            let address = address_of(invite.from().ok()?.uri)?;
            self.user(self.account_of(&address)).map(|_| address)
        })
    }
}

fn address_of(uri: &str) -> Option<String> {
    Some(Uri::parse(uri).ok()?.address_of_record())
}

fn by_node(node: NodeId) -> String {
    format!("node {node}")
}

/// Strangers of one network answer for each other: addresses in it are to be had by the million (RFC 6177), or by the two hundred.
fn network(source: IpAddr) -> String {
    match source.to_canonical() {
        IpAddr::V4(address) => format!("{}/24", std::net::Ipv4Addr::from_bits(address.to_bits() >> 8 << 8)),
        IpAddr::V6(address) => format!("{}/64", std::net::Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_told_apart_by_their_network() {
        let of = |address: &str| network(address.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)));
        assert_eq!(of("192.0.2.7"), "192.0.2.0/24");
        assert_eq!(of("::ffff:192.0.2.9"), of("192.0.2.7"));
        assert_eq!(of("2001:db8::1:2:3:4"), "2001:db8::/64");
    }
}
