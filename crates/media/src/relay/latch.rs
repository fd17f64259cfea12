//! Whose packets are heard, and where to send: symmetric RTP (RFC 4961) that nobody else can steer (threat 19 of the design).
//!
//! A description says where a phone receives; behind NAT that is not where its packets come from. So the address is learned from
//! packets, but only from places that the signalling vouches for. Where SRTP proves the sender, the proof decides.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a stream must have been silent before another source (SSRC) at its address is taken for the same phone: longer than any
/// loss, shorter than a person waits.
pub const SOURCE_CHANGE_AFTER: Duration = Duration::from_secs(1);

/// How long the described address has, before another port of the same host is believed: such a phone has a NAT before it that gives
/// each destination another port.
const DESCRIBED_FIRST: Duration = Duration::from_secs(2);

/// Packets in a row, from one place and of one source, that make a phone known which is not where its description says.
const CANDIDATE_PACKETS: u32 = 5;

/// How long is sent to a place from where nothing was heard, and which is not where the signalling came from: it may have been named
/// to flood a third party.
const UNHEARD_LIMIT: Duration = Duration::from_secs(10);

/// One address at the other end.
#[derive(Debug)]
pub(super) struct Latch {
    described: Option<SocketAddr>,
    /// Where the signalling came from, if it came from the phone itself.
    signalling: Option<IpAddr>,
    since: Instant,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nobody was heard.
    Waiting,
    /// Somebody who may be the phone sends.
    Candidate { address: SocketAddr, ssrc: u32, packets: u32 },
    /// The phone is known.
    Known { address: SocketAddr, ssrc: Option<u32>, heard: Instant },
}

impl Latch {
    pub(super) fn new(now: Instant) -> Latch {
        Latch { described: None, signalling: None, since: now, state: State::Waiting }
    }

    /// Takes what a new description says. A phone that stays where it was may begin a new stream.
    pub(super) fn describe(&mut self, now: Instant, described: Option<SocketAddr>, signalling: Option<IpAddr>) {
        let described = described.map(canonical);
        let signalling = signalling.map(|source| source.to_canonical());
        self.state = match self.state {
            State::Known { address, heard, .. } if described == self.described && signalling == self.signalling => {
                State::Known { address, ssrc: None, heard }
            }
            State::Known { .. } | State::Candidate { .. } | State::Waiting => State::Waiting,
        };
        (self.described, self.signalling, self.since) = (described, signalling, now);
    }

    /// Whether a packet is the phone's; `proven` where SRTP says so.
    pub(super) fn admit(&mut self, now: Instant, source: SocketAddr, ssrc: u32, proven: bool) -> bool {
        let source = canonical(source);
        let known = State::Known { address: source, ssrc: Some(ssrc), heard: now };
        if proven {
            self.state = known;
            return true;
        }
        let is_described = Some(source) == self.described;
        match self.state {
            State::Known { address, ssrc: last, heard } if address == source => {
                let is_silent = now.saturating_duration_since(heard) >= SOURCE_CHANGE_AFTER;
                if last.is_some_and(|last| last != ssrc) && !is_silent {
                    return false;
                }
                self.state = known;
                true
            }
            // Whoever was believed for want of better: the description is better.
            State::Known { address, .. } if is_described && Some(address) != self.described => {
                self.state = known;
                true
            }
            State::Known { .. } => false,
            State::Waiting | State::Candidate { .. } if is_described => {
                self.state = known;
                true
            }
            State::Waiting | State::Candidate { .. } => self.consider(now, source, ssrc),
        }
    }

    /// Whether the signalling says that the phone may be there: where it is described, or where its signalling came from through a NAT.
    pub(super) fn is_vouched_for(&self, source: SocketAddr) -> bool {
        let source = canonical(source);
        let is_behind_nat = self.signalling == Some(source.ip())
            && self.described.is_none_or(|described| described.ip() != source.ip());
        Some(source) == self.described || is_behind_nat
    }

    /// Where it was heard from.
    pub(super) fn known(&self) -> Option<SocketAddr> {
        match self.state {
            State::Known { address, .. } => Some(address),
            State::Waiting | State::Candidate { .. } => None,
        }
    }

    /// Where to send.
    pub(super) fn destination(&self, now: Instant) -> Option<SocketAddr> {
        match self.state {
            State::Known { address, .. } => Some(address),
            State::Waiting | State::Candidate { .. } => {
                let is_fresh = now.saturating_duration_since(self.since) < UNHEARD_LIMIT;
                self.described.filter(|described| is_fresh || Some(described.ip()) == self.signalling)
            }
        }
    }

    /// A packet from elsewhere than described, before the phone is known.
    fn consider(&mut self, now: Instant, source: SocketAddr, ssrc: u32) -> bool {
        let described = self.described.map(|described| described.ip());
        let is_behind_nat = self.signalling.is_some_and(|signalling| {
            signalling == source.ip() && described.is_none_or(|described| described != signalling)
        });
        let is_late = now.saturating_duration_since(self.since) >= DESCRIBED_FIRST && described == Some(source.ip());
        if !is_behind_nat && !is_late {
            return false;
        }
        let packets = match self.state {
            State::Candidate { address, ssrc: last, packets } if (address, last) == (source, ssrc) => packets + 1,
            // A rival sets both back: as long as two claim to be the phone, neither is.
            State::Candidate { .. } | State::Waiting | State::Known { .. } => 1,
        };
        if packets < CANDIDATE_PACKETS {
            self.state = State::Candidate { address: source, ssrc, packets };
            return false;
        }
        self.state = State::Known { address: source, ssrc: Some(ssrc), heard: now };
        true
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;

    const PHONE: &str = "192.0.2.5:4000";
    const NAT: &str = "203.0.113.9";
    const MS: Duration = Duration::from_millis(1);

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    /// A phone described at `PHONE`, whose signalling came from there or from the NAT before it.
    fn described(signalling: &str) -> (Latch, Instant) {
        let now = Instant::now();
        let mut latch = Latch::new(now);
        latch.describe(now, Some(at(PHONE)), Some(signalling.parse().unwrap()));
        (latch, now)
    }

    #[test]
    fn the_described_address_is_believed_at_once_and_nobody_else() {
        let (mut latch, now) = described("192.0.2.5");
        for stranger in ["198.51.100.66:4000", "192.0.2.5:4002", "203.0.113.9:4000"] {
            for _ in 0..50 {
                assert!(!latch.admit(now, at(stranger), 1, false), "{stranger}");
            }
        }
        assert_eq!(latch.destination(now), Some(at(PHONE)));
        assert!(latch.admit(now, at(PHONE), 7, false));
        for _ in 0..50 {
            assert!(
                !latch.admit(now + 5000 * MS, at("192.0.2.5:4002"), 7, false),
                "not with the phone's own source either"
            );
        }
        assert_eq!(latch.destination(now), Some(at(PHONE)));
    }

    #[test]
    fn a_phone_behind_nat_is_learned_where_its_signalling_came_from() {
        let (mut latch, now) = described(NAT);
        let mapped = at("203.0.113.9:61000");
        let heard = (0..CANDIDATE_PACKETS).filter(|_| latch.admit(now, mapped, 7, false)).count();
        assert_eq!((heard, latch.destination(now)), (1, Some(mapped)));
        assert!(!latch.admit(now, at("203.0.113.9:61001"), 7, false));
        assert!(!latch.admit(now, at("198.51.100.66:61000"), 7, false));
    }

    #[test]
    fn two_who_claim_to_be_the_phone_are_both_not_heard() {
        let (mut latch, now) = described(NAT);
        for _ in 0..100 {
            assert!(!latch.admit(now, at("203.0.113.9:61000"), 7, false));
            assert!(!latch.admit(now, at("203.0.113.9:61001"), 8, false));
        }
    }

    #[test]
    fn another_port_is_believed_only_when_the_described_one_stays_silent_and_not_for_longer_than_that() {
        let (mut latch, now) = described("192.0.2.5");
        let other = at("192.0.2.5:61000");
        let late = now + DESCRIBED_FIRST;
        assert_eq!((0..10).filter(|_| latch.admit(late, other, 7, false)).count(), 6);
        assert!(latch.admit(late, at(PHONE), 8, false));
        assert!(!latch.admit(late, other, 7, false));
        assert_eq!(latch.destination(late), Some(at(PHONE)));
    }

    #[test]
    fn another_source_at_the_same_place_waits_for_silence_or_a_new_description() {
        let (mut latch, now) = described("192.0.2.5");
        assert!(latch.admit(now, at(PHONE), 7, false));
        assert!(!latch.admit(now + 20 * MS, at(PHONE), 8, false));
        assert!(latch.admit(now + 40 * MS, at(PHONE), 7, false));
        assert!(latch.admit(now + 1040 * MS, at(PHONE), 8, false));
        latch.describe(now + 1050 * MS, Some(at(PHONE)), Some("192.0.2.5".parse().unwrap()));
        assert!(latch.admit(now + 1060 * MS, at(PHONE), 9, false));
    }

    #[test]
    fn a_new_address_in_the_description_is_learned_anew() {
        let (mut latch, now) = described("192.0.2.5");
        assert!(latch.admit(now, at(PHONE), 7, false));
        latch.describe(now, Some(at("192.0.2.5:5000")), Some("192.0.2.5".parse().unwrap()));
        assert!(!latch.admit(now, at(PHONE), 7, false));
        assert_eq!(latch.destination(now), Some(at("192.0.2.5:5000")));
    }

    #[test]
    fn what_is_proven_moves_the_phone() {
        let (mut latch, now) = described("192.0.2.5");
        assert!(latch.admit(now, at(PHONE), 7, true));
        assert!(latch.admit(now, at("198.51.100.7:9"), 7, true));
        assert_eq!(latch.destination(now), Some(at("198.51.100.7:9")));
    }

    #[test]
    fn a_third_party_is_not_flooded() {
        let (latch, now) = described(NAT);
        assert_eq!(latch.destination(now), Some(at(PHONE)));
        assert_eq!(latch.destination(now + UNHEARD_LIMIT), None);
        let (latch, now) = described("192.0.2.5");
        assert_eq!(latch.destination(now + 100 * UNHEARD_LIMIT), Some(at(PHONE)), "it asked for it itself");
    }
}
