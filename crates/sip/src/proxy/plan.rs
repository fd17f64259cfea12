//! Targets on their way: those that wait for their turn, by preference, and how widely each may fork on
//! (RFC 3261 §16.6, RFC 5393 §5.3), and the places that one target can be reached at (RFC 3263 §4.3).

use std::collections::VecDeque;

use super::Target;
use crate::transport::{Destination, Transport};

/// Max-Breadth of a request that came without one, and the most that is believed of one that has it
/// (RFC 5393 §5.3.3).
pub(crate) const MAX_BREADTH: u32 = 60;

/// Most places tried for one target: a name resolves to a few, and each may cost the caller seconds.
const ALTERNATIVES_MAX: usize = 8;

/// A target, and what the response context adds to it.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) target: Target,
    /// How many branches it may become further on.
    pub(crate) breadth: u32,
    /// Which of the request's targets it is, from 1.
    pub(crate) number: usize,
    /// The target whose redirection named this one.
    pub(crate) former: Option<Former>,
    /// The datagram destination that a connection was put in place of, because the request is large.
    instead_of: Option<Destination>,
    /// Whether a connection was tried already, in vain.
    datagram_only: bool,
}

/// A target that said: ask there instead.
#[derive(Debug, Clone)]
pub(crate) struct Former {
    pub(crate) uri: String,
    pub(crate) number: usize,
    pub(crate) status: u16,
}

/// What kept a target from being reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// Nothing was heard from there, or nothing could be sent.
    Unreachable,
    /// That server is there, but says that it cannot serve (503).
    Unavailable,
    /// A proxy before the phone says that its flow is gone, or brings nothing (430, 408).
    FlowFailed,
}

impl Planned {
    pub(crate) fn new(mut target: Target, former: Option<Former>) -> Planned {
        target.alternatives.truncate(ALTERNATIVES_MAX);
        Planned { target, breadth: 0, number: 0, former, instead_of: None, datagram_only: false }
    }

    /// Puts a connection in place of datagrams (RFC 3261 §18.1.1); false where there is nothing to change. A registered
    /// flow is the only way to its phone, so it stays as it is.
    pub(crate) fn prefer_connection(&mut self) -> bool {
        match self.target.destination {
            Destination::Address { transport: Transport::Udp, addr, listener } if !self.datagram_only => {
                let connection = Destination::Address { transport: Transport::Tcp, addr, listener };
                self.instead_of = Some(std::mem::replace(&mut self.target.destination, connection));
                true
            }
            Destination::Address { .. } | Destination::Flow(_) | Destination::Peer(_) => false,
        }
    }

    /// Whether there is another place to try, with no regard to why.
    pub(crate) fn has_next(&self) -> bool {
        self.instead_of.is_some() || !self.target.alternatives.is_empty()
    }

    /// Turns to the next place to try; false when there is none.
    ///
    /// The places of a server are asked in turn when one says 503 (RFC 3263 §4.3). Flows lead to one and the same phone:
    /// what it says over one stands, and but for a flow that failed no other is tried (RFC 5626 §7).
    pub(crate) fn turn(&mut self, obstacle: Obstacle) -> bool {
        let is_flow = matches!(self.target.destination, Destination::Flow(_));
        match (self.instead_of.take(), obstacle) {
            (Some(datagrams), Obstacle::Unreachable) => {
                self.target.destination = datagrams;
                self.datagram_only = true;
                true
            }
            (_, Obstacle::Unavailable) if is_flow => false,
            (_, Obstacle::FlowFailed) if !is_flow => false,
            (_, Obstacle::Unavailable | Obstacle::FlowFailed) | (None, Obstacle::Unreachable) => {
                if self.target.alternatives.is_empty() {
                    return false;
                }
                self.target.destination = self.target.alternatives.remove(0);
                self.datagram_only = false;
                true
            }
        }
    }
}

/// Targets that wait until those of a higher preference have failed.
#[derive(Debug, Default)]
pub(crate) struct Queue(VecDeque<Planned>);

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a target behind all of at least its preference.
    pub(crate) fn insert(&mut self, planned: Planned) {
        let at = self.0.partition_point(|earlier| earlier.target.q >= planned.target.q);
        self.0.insert(at, planned);
    }

    /// Takes all targets of the highest preference, and that preference.
    pub(crate) fn pop_group(&mut self) -> Option<(u16, Vec<Planned>)> {
        let q = self.0.front()?.target.q;
        let size = self.0.iter().take_while(|planned| planned.target.q == q).count();
        Some((q, self.0.drain(..size).collect()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn udp(port: u16) -> Destination {
        Destination::Address { transport: Transport::Udp, addr: ([192, 0, 2, 1], port).into(), listener: 0 }
    }

    #[test]
    fn groups_come_by_falling_preference_and_in_the_order_given_within_one() {
        let mut queue = Queue::default();
        for (uri, q) in [("sip:a", 300), ("sip:b", 900), ("sip:c", 300), ("sip:d", 1000)] {
            queue.insert(Planned::new(Target { q, ..Target::new(uri, udp(1)) }, None));
        }
        let mut groups = Vec::new();
        while let Some((_, group)) = queue.pop_group() {
            groups.push(group.into_iter().map(|planned| planned.target.uri).collect::<Vec<_>>().join(" "));
        }
        assert_eq!(groups, ["sip:d", "sip:b", "sip:a sip:c"]);
    }

    #[test]
    fn a_connection_that_fails_falls_back_to_datagrams_and_then_to_the_next_place() {
        let target = Target { alternatives: vec![udp(2)], ..Target::new("sip:a", udp(1)) };
        let mut planned = Planned::new(target, None);
        assert!(planned.prefer_connection());
        assert_eq!(planned.target.destination.transport(), Transport::Tcp);
        assert!(planned.turn(Obstacle::Unreachable));
        assert_eq!(planned.target.destination, udp(1));
        assert!(!planned.prefer_connection(), "that was in vain");
        assert!(planned.turn(Obstacle::Unreachable));
        assert_eq!(planned.target.destination, udp(2));
        assert!(planned.prefer_connection());
        assert!(planned.turn(Obstacle::Unreachable));
        assert!(!planned.turn(Obstacle::Unreachable));
    }

    #[test]
    fn a_server_that_says_503_is_not_asked_again_another_way() {
        let mut planned = Planned::new(Target::new("sip:a", udp(1)), None);
        assert!(planned.prefer_connection());
        assert!(!planned.turn(Obstacle::Unavailable));
    }
}
