//! A link that is up, and its measured round trip: what decides how long a hop may take, and which of equal links are kept.

use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::dht::config::HOP_TIMEOUT;
use crate::dht::introduce::Courtesies;
use crate::dht::reach::Favours;
use crate::dht::{Descriptor, Subnet};

/// Round trip assumed of a link before it was measured.
pub(super) const ASSUMED_RTT: Duration = Duration::from_millis(100);

/// What a linked node may still make this one do.
#[derive(Debug, Default)]
pub(in crate::dht) struct Allowance {
    /// Signatures that are checked for it.
    pub(in crate::dht) checks: Bucket,
    /// Values that are passed on for it.
    pub(in crate::dht) forwards: Bucket,
    /// What is seldom asked for; nothing was before the first time.
    pub(super) rare: Option<Box<Rare>>,
}

/// What a linked node seldom makes this one do.
#[derive(Debug, Default)]
pub(in crate::dht) struct Rare {
    /// Times that it may change its role.
    pub(in crate::dht) roles: Bucket,
    /// Tests and dials that it may ask for.
    pub(in crate::dht) favours: Favours,
    /// Introductions that it may ask for, and dials for others that it may bring about.
    pub(in crate::dht) courtesies: Courtesies,
}

/// A link that is up.
#[derive(Debug)]
pub(in crate::dht) struct Link {
    pub(in crate::dht) descriptor: Descriptor,
    /// Where its packets come from, as the link layer sees it.
    pub(super) subnet: Option<Subnet>,
    pub(in crate::dht) up: Instant,
    pub(in crate::dht) rtt: Duration,
    /// The round trip was measured, and is not what was assumed.
    pub(super) measured: bool,
    pub(super) allowance: Allowance,
    /// It let a request time out and has said nothing since.
    pub(in crate::dht) suspect: bool,
    /// It counts us among its siblings.
    pub(in crate::dht) needs_us: bool,
    /// Dials that failed before it came up.
    pub(super) failures: u32,
    /// There is no room for it: it is closed by us, and its node is not to blame.
    pub(in crate::dht) turned_away: bool,
    /// How often that happened to its node before.
    pub(super) times_away: u32,
    /// It was opened by one end to ask the other, and for nothing else.
    pub(in crate::dht) visited: bool,
}

impl Link {
    /// Returns how long the peer may take to acknowledge a request before the next one is tried.
    pub(in crate::dht) fn soft_timeout(&self) -> Duration {
        (self.rtt * 2).clamp(HOP_TIMEOUT.0, HOP_TIMEOUT.1)
    }

    /// It let a request time out: it is passed over until it speaks again, and given more time then. Or a link slower than was
    /// assumed would never be measured.
    pub(in crate::dht) fn overdue(&mut self) {
        self.suspect = true;
        self.rtt = (self.rtt * 2).min(HOP_TIMEOUT.1);
    }

    /// Returns the round trip in doublings of a millisecond: what differs by less counts as equally near.
    pub(in crate::dht) fn farness(&self) -> u32 {
        farness(self.rtt)
    }

    /// Takes a measurement: the first as it is, later ones smoothed as TCP does (RFC 6298 §2.2, §2.3).
    pub(in crate::dht) fn measured(&mut self, rtt: Duration) {
        self.rtt = if std::mem::replace(&mut self.measured, true) { (self.rtt * 7 + rtt) / 8 } else { rtt };
    }
}

/// Returns a round trip in doublings of a millisecond.
pub(super) fn farness(rtt: Duration) -> u32 {
    rtt.as_millis().max(1).ilog2()
}
