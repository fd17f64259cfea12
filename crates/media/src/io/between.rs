//! Media over the links between nodes: what comes there finds its call by its flow, and a call sends by the other node's.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, Weak};

use super::MediaError;
use super::anchored::Shared;
use super::session::{lock, now, random};
use crate::relay::End;
use crate::roq::{Dropped, Flows};

/// What tells neighbours apart: whatever the links know them by.
pub type NeighbourId = [u8; 32];

/// The link to another node, as media needs it.
pub trait Link: Debug + Send + Sync {
    /// The node at the other end.
    fn neighbour(&self) -> NeighbourId;

    /// How large a datagram may be now; none while there is no link.
    fn max_datagram_len(&self) -> Option<usize>;

    /// Sends a datagram without waiting; where that cannot be, it is lost.
    fn send(&self, datagram: Vec<u8>);
}

/// The flows of all calls of a node that go over its links.
#[derive(Debug)]
pub struct Between {
    flows: Mutex<Flows<NeighbourId, Stream>>,
}

/// Where what comes by a flow belongs.
#[derive(Debug, Clone)]
struct Stream {
    call: Weak<Shared>,
    end: End,
    number: usize,
}

impl Between {
    /// Makes the table of a node.
    pub fn new() -> Arc<Between> {
        let [s0, s1, s2, s3, ..] = random().to_be_bytes();
        Arc::new(Between { flows: Mutex::new(Flows::new(u32::from_be_bytes([s0, s1, s2, s3]) >> 4)) })
    }

    /// Takes a datagram that a neighbour sent. It does not block; what belongs to none of that neighbour's calls is dropped.
    pub fn handle_datagram(&self, neighbour: NeighbourId, datagram: &[u8]) {
        let taken = lock(&self.flows).handle_datagram(now(), neighbour, datagram);
        let Some((Stream { call, end, number }, packet)) = taken else { return };
        if let Some(call) = call.upgrade() {
            let is_woken = {
                let mut relay = lock(&call.relay);
                relay.handle_flow(now(), end, number, &packet);
                relay.converts()
            };
            call.send();
            if is_woken {
                call.wake();
            }
        }
    }

    /// Returns how many flows there are.
    pub fn flows(&self) -> usize {
        lock(&self.flows).len()
    }

    /// Returns the neighbours with which there are calls, in no order.
    pub fn neighbours(&self) -> Vec<NeighbourId> {
        lock(&self.flows).neighbours()
    }

    /// Returns what was dropped since the start.
    pub fn dropped(&self) -> Dropped {
        lock(&self.flows).dropped()
    }
}

/// One end of a call that is another node; its flows are closed with it.
#[derive(Debug)]
pub(super) struct LinkEnd {
    between: Arc<Between>,
    link: Arc<dyn Link>,
    flows: Vec<u64>,
}

impl LinkEnd {
    pub(super) fn new(between: &Arc<Between>, link: Arc<dyn Link>) -> LinkEnd {
        LinkEnd { between: Arc::clone(between), link, flows: Vec::new() }
    }

    /// How many flows there are.
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Opens what is missing for so many streams of a call; returns all there are.
    pub(super) fn open(&mut self, call: &Arc<Shared>, end: End, streams: usize) -> Result<Vec<u64>, MediaError> {
        for number in self.flows.len()..streams {
            let stream = Stream { call: Arc::downgrade(call), end, number };
            let opened = lock(&self.between.flows).open(now(), self.link.neighbour(), stream);
            self.flows.push(opened.map_err(|_| MediaError::TooManyFlows)?);
        }
        Ok(self.flows.clone())
    }
}

impl Drop for LinkEnd {
    fn drop(&mut self) {
        let mut flows = lock(&self.between.flows);
        for flow in &self.flows {
            flows.close(*flow);
        }
    }
}
