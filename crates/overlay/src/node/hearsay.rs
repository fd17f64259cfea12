//! Which places are worth a dial of those that were heard of from anybody, such as on the local network. Pure.
//!
//! Whoever says that a node is somewhere need not be that node. So it costs us one dial, each place and in all only so often, and
//! the link's handshake decides (threat: forged answers that keep us busy, or make us knock at others' doors).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use meshtone_identity::LinkKey;

use crate::bucket::{Bucket, Rate};

/// How soon one peer is dialled again at one place: what is heard is repeated, and a dial takes up to five seconds.
const AGAIN: Duration = Duration::from_secs(30);

/// Dials in a row, and the time after which one more is allowed: a home's nodes come up together, and there are few.
const PACE: Rate = (16, Duration::from_secs(2));

/// Dials of one host within [`AGAIN`]: as many nodes as run on one machine for a trial, so that a host which names ever more
/// keys leaves the others their turn.
const MAX_HOST: usize = 4;

/// Dials that are remembered: more than the pace allows within [`AGAIN`].
const MAX_DIALLED: usize = 64;

/// When and where the peers that were heard of were dialled.
#[derive(Debug, Default)]
pub(super) struct Hearsay {
    dialled: BTreeMap<(LinkKey, SocketAddr), Instant>,
    pace: Bucket,
}

impl Hearsay {
    /// Whether to dial this peer at this place now; if so, that counts as done.
    pub(super) fn is_worth_a_dial(&mut self, now: Instant, key: LinkKey, place: SocketAddr) -> bool {
        self.dialled.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        if self.dialled.contains_key(&(key, place))
            || self.dialled.len() >= MAX_DIALLED
            || self.dials_of(place.ip()) >= MAX_HOST
            || !self.pace.take(now, 1, PACE)
        {
            return false;
        }
        self.dialled.insert((key, place), now);
        true
    }

    fn dials_of(&self, host: IpAddr) -> usize {
        self.dialled.keys().filter(|(_, place)| place.ip() == host).count()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn key(number: u32) -> LinkKey {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        LinkKey::from_bytes(bytes)
    }

    fn place(host: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::V4((0x0a00_0000 + host).into()), 6084)
    }

    #[test]
    fn a_peer_that_is_heard_of_again_and_again_is_dialled_every_half_minute() {
        let (start, mut hearsay) = (Instant::now(), Hearsay::default());
        let mut dialled = |second| hearsay.is_worth_a_dial(start + Duration::from_secs(second), key(1), place(1));
        assert_eq!((0..120).filter(|second| dialled(*second)).count(), 4);
    }

    #[test]
    fn a_false_place_of_a_peer_does_not_keep_us_from_the_right_one() {
        let (start, mut hearsay) = (Instant::now(), Hearsay::default());
        assert!(hearsay.is_worth_a_dial(start, key(1), place(66)));
        assert!(hearsay.is_worth_a_dial(start, key(1), place(1)));
    }

    #[test]
    fn a_flood_of_names_from_everywhere_costs_few_dials_and_little_room() {
        let (start, mut hearsay) = (Instant::now(), Hearsay::default());
        let at = |number: u32| start + Duration::from_millis(u64::from(number));
        let dials = (0..60_000).filter(|number| hearsay.is_worth_a_dial(at(*number), key(*number), place(*number)));
        let dials = dials.count();
        assert!(dials <= 16 + 30, "{dials} dials in a minute");
        assert!(hearsay.dialled.len() <= MAX_DIALLED);
    }

    #[test]
    fn one_host_that_names_ever_more_peers_leaves_the_others_their_turn() {
        let (start, mut hearsay) = (Instant::now(), Hearsay::default());
        for number in 0..60_000 {
            let now = start + Duration::from_millis(u64::from(number));
            hearsay.is_worth_a_dial(now, key(number), place(66));
        }
        assert!(hearsay.is_worth_a_dial(start + Duration::from_secs(60), key(1), place(1)));
    }
}
