//! Nodes that do not do what they should: liars, who know each other and lead whoever asks them to one another, and free riders.

use std::sync::Arc;

use bytes::Bytes;
use meshtone_identity::{NodeId, Signature};
use meshtone_overlay::dht::body::{Ask, Reply};
use meshtone_overlay::dht::message::{Answer, Message, Request};
use meshtone_overlay::dht::{Descriptor, Position, Transmit};
use meshtone_overlay::record::value::Record;

use crate::overlay::{Hijacker, Overlay};

/// Nodes in the list that a liar answers with.
const LISTED: usize = 8;

/// What a liar does with requests that reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Takes charge of it and does nothing.
    Drop,
    /// Answers in the place of whoever is meant: there is nothing, and the liars are the closest nodes.
    Misroute,
    /// As [`Misroute`](Self::Misroute), and acknowledges every write.
    DenyStorage,
    /// Shows a removal that nobody signed.
    Forge,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Drop, Self::Misroute, Self::DenyStorage, Self::Forge];
}

/// Makes liars of these nodes, each of another sort in turn.
pub fn corrupt(overlay: &mut Overlay, nodes: &[usize]) {
    let known = nodes.iter().map(|number| Descriptor {
        node: overlay.network.driver(*number).node_id(),
        address: Bytes::copy_from_slice(&number.to_be_bytes()),
    });
    let liars: Arc<[Descriptor]> = known.collect();
    for (turn, number) in nodes.iter().enumerate() {
        let lie = Lie::ALL[turn % Lie::ALL.len()];
        overlay.network.with(*number, |node, _| {
            let hijacker = hijacker(node.node_id(), lie, Arc::clone(&liars));
            node.set_hijacker(Some(hijacker));
        });
    }
}

/// Makes honest nodes of these again.
pub fn reform(overlay: &mut Overlay, nodes: &[usize]) {
    for number in nodes {
        overlay.network.with(*number, |node, _| node.set_hijacker(None));
    }
}

/// Lets these nodes take no request of anybody, while they ask others as before.
pub fn ride_free(overlay: &mut Overlay, nodes: &[usize]) {
    for number in nodes {
        overlay.network.with(*number, |node, _| {
            let me = node.node_id();
            node.set_hijacker(Some(Box::new(move |_, bytes| {
                let asked = matches!(Message::decode(bytes), Ok(Message::Request(_)));
                // Nobody is linked with itself, so this goes nowhere.
                asked.then(|| Transmit { to: me, bytes: Bytes::new() })
            })));
        });
    }
}

fn hijacker(me: NodeId, lie: Lie, liars: Arc<[Descriptor]>) -> Hijacker {
    let mut seen: Vec<Record> = Vec::new();
    Box::new(move |from, bytes| {
        let Ok(Message::Request(request)) = Message::decode(bytes) else { return None };
        let ask = Ask::decode(&request.body).ok()?;
        let reply = match (lie, ask) {
            (Lie::Drop, _) => {
                let acknowledge = Message::Acknowledge { origin: request.origin, request: request.request };
                return Some(Transmit { to: from, bytes: acknowledge.encode() });
            }
            (Lie::DenyStorage, Ask::Store(values)) => Reply::Stored(vec![Ok(()); values.len()]),
            (Lie::DenyStorage, Ask::Put(_)) => Reply::Merged { result: Ok(()), newer: Vec::new() },
            (Lie::Forge, Ask::Put(handed)) => {
                seen.push(handed.record);
                seen.truncate(LISTED);
                return None;
            }
            (Lie::Forge, Ask::Store(values)) => {
                seen.extend(values.into_iter().map(|handed| handed.record));
                seen.truncate(LISTED);
                return None;
            }
            (Lie::Forge, Ask::Fetch { .. }) => Reply::Values(seen.iter().map(forged).collect()),
            (Lie::Misroute | Lie::DenyStorage | Lie::Forge, Ask::Find(_)) => Reply::Nodes,
            (Lie::Misroute | Lie::DenyStorage, Ask::Fetch { .. }) => Reply::Values(Vec::new()),
            // As if it were 1970.
            (Lie::Misroute | Lie::DenyStorage | Lie::Forge, Ask::Clock) => Reply::Time(0),
            // Nobody is told by a liar.
            (_, Ask::Listen { .. }) => Reply::Listening { promised: true, held: Vec::new() },
            // Offers, what a storing liar is given and what it is told: as if honest.
            (_, Ask::Store(_) | Ask::Put(_) | Ask::Offer(_) | Ask::Changed(_) | Ask::Moved { .. }) => return None,
        };
        Some(Transmit { to: from, bytes: answer(me, &request, &liars, &reply) })
    })
}

fn forged(record: &Record) -> Record {
    let mut record = record.clone();
    record.value.exists = false;
    record.value.content = Bytes::new();
    record.value.storage_ms += 1;
    record.value.signature = Signature::from_bytes([1; 64]);
    record
}

fn answer(me: NodeId, request: &Request, liars: &[Descriptor], reply: &Reply) -> Bytes {
    // Whoever is asked by name is answered for by name.
    let responder = if request.exact { NodeId::from_bytes(request.target.0) } else { me };
    let place = match Ask::decode(&request.body) {
        Ok(ask) => ask.place().unwrap_or(request.target),
        Err(_) => request.target,
    };
    let mut nodes = liars.to_vec();
    nodes.sort_by_key(|liar| place.distance(Position::from(liar.node)));
    nodes.truncate(LISTED);
    let (origin, number, hops) = (request.origin, request.request, request.hops.saturating_add(1));
    Message::Answer(Answer { origin, request: number, responder, hops, nodes, body: reply.encode().into() }).encode()
}
