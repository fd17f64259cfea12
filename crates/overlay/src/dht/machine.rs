//! The machine: inputs, outputs and commands of the DHT.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_identity::NodeId;

use super::{Config, Descriptor, Event, Now, OperationId, Position, Randomness, Timer, Transmit};
use crate::record::{Kind, RecordError, Validator, Writer};

/// One node's part of the distributed hash table.
pub struct Dht {
    events: VecDeque<Event>,
    transmits: VecDeque<Transmit>,
}

impl Dht {
    /// Makes a node without links. `me` is what others will dial.
    pub fn new(
        config: Config,
        me: Descriptor,
        writer: Arc<dyn Writer>,
        validator: Arc<dyn Validator>,
        randomness: Box<dyn Randomness>,
        now: Now,
    ) -> Self {
        let _ = (config, me, writer, validator, randomness, now);
        Self { events: VecDeque::new(), transmits: VecDeque::new() }
    }

    /// Takes a message that came over the link to `from`.
    pub fn handle_input(&mut self, now: Now, from: NodeId, bytes: &[u8]) {
        let _ = (now, from, bytes);
    }

    /// Takes note of a link, whoever opened it; once for each node.
    pub fn handle_link_up(&mut self, now: Now, peer: Descriptor) {
        let _ = (now, peer);
    }

    /// Takes note that a link is gone, for whatever reason.
    pub fn handle_link_down(&mut self, now: Now, node: NodeId) {
        let _ = (now, node);
    }

    /// Takes note that a dial wished for did not come to a link.
    pub fn handle_dial_failed(&mut self, now: Now, node: NodeId) {
        let _ = (now, node);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let _ = now;
    }

    /// Takes note that others reach this node otherwise than before.
    pub fn set_address(&mut self, address: Bytes) {
        let _ = address;
    }

    /// Returns the next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is due, and for what.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        None
    }

    /// Reads all values of the kind at this name: asks several replicas and merges by newest.
    /// Answered by [`Event::Fetched`].
    pub fn fetch(&mut self, now: Now, kind: Kind, name: &str) -> OperationId {
        let _ = (now, kind, name);
        OperationId(0)
    }

    /// As [`fetch`](Self::fetch), but ends with the first verified value.
    pub fn fetch_first(&mut self, now: Now, kind: Kind, name: &str) -> OperationId {
        let _ = (now, kind, name);
        OperationId(0)
    }

    /// Writes a value once. Answered by [`Event::Stored`].
    ///
    /// # Errors
    /// When this node cannot write it.
    pub fn store(&mut self, now: Now, kind: Kind, name: &str, content: Bytes, lifetime: Duration) -> Result<OperationId, RecordError> {
        let _ = (now, kind, name, content, lifetime);
        Ok(OperationId(0))
    }

    /// Writes a value and keeps it stored: again at half life, and soon again when too few replicas acknowledged, until
    /// [`remove`](Self::remove). Answered by one [`Event::Stored`] for the first round.
    ///
    /// # Errors
    /// When this node cannot write it.
    pub fn publish(&mut self, now: Now, kind: Kind, name: &str, content: Bytes, lifetime: Duration) -> Result<OperationId, RecordError> {
        let _ = (now, kind, name, content, lifetime);
        Ok(OperationId(0))
    }

    /// Stores a removal in the place of this node's value, and stops publishing it. Answered by [`Event::Stored`].
    ///
    /// # Errors
    /// When this node cannot write it.
    pub fn remove(&mut self, now: Now, kind: Kind, name: &str) -> Result<OperationId, RecordError> {
        let _ = (now, kind, name);
        Ok(OperationId(0))
    }

    /// Looks for the nodes closest to a place. Answered by [`Event::Found`].
    pub fn find(&mut self, now: Now, target: Position) -> OperationId {
        let _ = (now, target);
        OperationId(0)
    }

    /// Returns how many values are held of each kind, removals not counted.
    pub fn records_held(&self) -> Vec<(Kind, usize)> {
        Vec::new()
    }

    /// Returns the nodes that links exist to, in the order of their ids.
    pub fn links(&self) -> Vec<Descriptor> {
        Vec::new()
    }

    /// Returns nodes worth dialling at the next start: those linked, then those known.
    pub fn known_peers(&self) -> Vec<Descriptor> {
        Vec::new()
    }
}
