//! The flows that this node takes media by: each is one stream of one call with one neighbour.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::framing::{Framed, Joiner};
use super::{FLOW_STEP, MAX_FLOW};
use crate::relay::{MAX_DATAGRAM_LEN, MAX_PACKETS_PER_SECOND};

/// Flows of one link at a time: those of a thousand calls with sound and a picture. A call beyond that is carried as between phones.
pub const MAX_FLOWS_PER_LINK: usize = 2048;

/// Datagrams that a link may bring in a second for each of its flows: what a relay takes, in halves. More are dropped unread.
pub const DATAGRAMS_PER_FLOW: u32 = 2 * MAX_PACKETS_PER_SECOND;

/// Datagrams that were dropped, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Of no flow that there is: a call that has ended, as a rule.
    pub unknown: u64,
    /// Of a flow of another neighbour's.
    pub foreign: u64,
    /// More than a link may bring.
    pub excess: u64,
    /// Nothing that can be read.
    pub malformed: u64,
}

/// Why a flow is not opened: its link has as many as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// The table: neighbours are told apart by `N`, streams of calls by `C`.
#[derive(Debug)]
pub struct Flows<N, C> {
    next: u64,
    flows: HashMap<u64, Flow<N, C>>,
    /// The links that have flows.
    links: HashMap<N, Share>,
    dropped: Dropped,
}

#[derive(Debug)]
struct Flow<N, C> {
    neighbour: N,
    stream: C,
    joiner: Joiner,
}

/// What a link has, and what it brought in the second that is counted.
#[derive(Debug)]
struct Share {
    flows: usize,
    since: Instant,
    taken: u32,
}

impl<N: Copy + Eq + Hash, C: Clone> Flows<N, C> {
    /// Makes a table. Ids begin near `start`, so that those of another run mean nothing.
    pub fn new(start: u32) -> Self {
        let next = u64::from(start) * FLOW_STEP;
        Self { next, flows: HashMap::new(), links: HashMap::new(), dropped: Dropped::default() }
    }

    /// Opens a flow for a stream that a neighbour sends.
    ///
    /// # Errors
    ///
    /// [`Refused`] where its link has [`MAX_FLOWS_PER_LINK`].
    pub fn open(&mut self, now: Instant, neighbour: N, stream: C) -> Result<u64, Refused> {
        let share = self.links.entry(neighbour).or_insert(Share { flows: 0, since: now, taken: 0 });
        if share.flows >= MAX_FLOWS_PER_LINK {
            return Err(Refused);
        }
        share.flows += 1;
        while self.flows.contains_key(&self.next) {
            self.next = following(self.next);
        }
        let flow = self.next;
        self.next = following(flow);
        self.flows.insert(flow, Flow { neighbour, stream, joiner: Joiner::default() });
        Ok(flow)
    }

    /// Closes a flow.
    pub fn close(&mut self, flow: u64) {
        let Some(Flow { neighbour, .. }) = self.flows.remove(&flow) else { return };
        let Some(share) = self.links.get_mut(&neighbour) else { return };
        share.flows -= 1;
        if share.flows == 0 {
            self.links.remove(&neighbour);
        }
    }

    /// Takes a datagram that a neighbour sent; gives the packet that is whole now, and of which stream it is.
    pub fn handle_datagram(&mut self, now: Instant, neighbour: N, datagram: &[u8]) -> Option<(C, Vec<u8>)> {
        match self.links.get_mut(&neighbour).map(|share| share.is_within(now)) {
            Some(true) => {}
            Some(false) => {
                self.dropped.excess += 1;
                return None;
            }
            None => {
                self.dropped.unknown += 1;
                return None;
            }
        }
        let Some(Framed { flow, piece }) = Framed::parse(datagram) else {
            self.dropped.malformed += 1;
            return None;
        };
        match self.flows.get_mut(&flow) {
            None => {
                self.dropped.unknown += 1;
                None
            }
            Some(known) if known.neighbour != neighbour => {
                self.dropped.foreign += 1;
                None
            }
            Some(known) => Some((known.stream.clone(), known.joiner.take(piece, MAX_DATAGRAM_LEN)?)),
        }
    }

    /// The neighbours that have flows, in no order.
    pub fn neighbours(&self) -> Vec<N> {
        self.links.keys().copied().collect()
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// What was dropped so far.
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }
}

impl Share {
    fn is_within(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.taken) = (now, 0);
        }
        self.taken = self.taken.saturating_add(1);
        u64::from(self.taken) <= u64::from(DATAGRAMS_PER_FLOW) * u64::try_from(self.flows).unwrap_or(u64::MAX)
    }
}

/// Ids are used in turn, so that what is late of a call that ended is of no other.
fn following(flow: u64) -> u64 {
    if flow + 2 * FLOW_STEP < MAX_FLOW { flow + FLOW_STEP } else { 0 }
}
