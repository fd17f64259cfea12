//! Who takes how much of the storage, and who makes room when there is none left (threat 29).
//!
//! An owner's values of one kind share a room. When the storage is full, whoever takes most of it makes room for whoever takes
//! less: a flood of values ends where the flooder would take more than anybody else, and everybody else's values stay. Of the
//! owner that makes room those values go that lie farthest from this node: others are more likely to hold them.

use std::collections::{BTreeMap, BTreeSet};

use super::storage::Slot;
use super::{Distance, Position};
use crate::record::validator::domain_of;
use crate::record::value::Record;
use crate::record::{Kind, ResourceId, StoredValue};

/// Memory that a value takes beside its name, key and content: numbers, signature, its places in the maps. Certificates are
/// shared by all values of a writer.
const OVERHEAD: usize = 500;

/// Whose values share a room, by kind. Registrations written by home nodes are their domain's: these trust each other, and another
/// home node must not double what a domain may take. Those written for people who named their nodes themselves are their writer's:
/// people of one mail provider have nothing to do with each other, and a flooder among them needs another member node for each room,
/// while proving another mailbox gets him none. Everything else is its writer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    kind: Kind,
    id: [u8; 32],
}

/// What one owner has.
#[derive(Debug, Default)]
struct Room {
    bytes: usize,
    values: BTreeSet<(Distance, ResourceId, Vec<u8>)>,
}

/// The rooms of all owners.
#[derive(Debug)]
pub(super) struct Rooms {
    own: Position,
    rooms: BTreeMap<Owner, Room>,
    /// The owners by what they take; the last takes most.
    by_size: BTreeSet<(usize, Owner)>,
    bytes: usize,
}

impl Owner {
    /// Returns the owner of a value.
    pub(super) fn of(record: &Record) -> Self {
        let value = &record.value;
        let signer = *value.signer.as_bytes();
        let id = match value.kind {
            Kind::SipRegistration if record.is_delegated() => signer,
            Kind::SipRegistration => {
                domain_of(value.kind, &value.name).map_or(signer, |domain| *ResourceId::of_name(domain).as_bytes())
            }
            // Whoever hands it on, it is hers.
            Kind::Member => *value.resource().as_bytes(),
            Kind::NodeAddress | Kind::Certificate => signer,
        };
        Self { kind: value.kind, id }
    }
}

/// Returns about how many bytes of memory a value may take: with the largest content of its kind, so that a newer one in its place
/// always finds room.
pub(super) fn weight(value: &StoredValue) -> usize {
    // The name is held once, the key in three maps.
    OVERHEAD + value.name.len() + value.kind.rules().max_size + 3 * value.key.len()
}

impl Rooms {
    /// Makes the rooms of a node at this place, all empty.
    pub(super) fn new(own: Position) -> Self {
        Self { own, rooms: BTreeMap::new(), by_size: BTreeSet::new(), bytes: 0 }
    }

    /// Returns how many bytes all values take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A value is held from now on.
    pub(super) fn add(&mut self, record: &Record) {
        let value = &record.value;
        let (owner, resource) = (Owner::of(record), value.resource());
        let place = (self.distance(resource), resource, value.key.clone());
        self.change(owner, |room| {
            if room.values.insert(place) {
                room.bytes += weight(value);
            }
        });
    }

    /// A value is no longer held.
    pub(super) fn remove(&mut self, record: &Record) {
        let value = &record.value;
        let (owner, resource) = (Owner::of(record), value.resource());
        let place = (self.distance(resource), resource, value.key.clone());
        self.change(owner, |room| {
            if room.values.remove(&place) {
                room.bytes = room.bytes.saturating_sub(weight(value));
            }
        });
    }

    /// Returns the value that makes room for another one of this weight; none when its owner would take most himself.
    pub(super) fn makes_room(&self, owner: Owner, weight: usize) -> Option<(ResourceId, Slot)> {
        let (most, greediest) = self.by_size.last()?;
        if *most <= self.rooms.get(&owner).map_or(0, |room| room.bytes).saturating_add(weight) {
            return None;
        }
        let (_, resource, key) = self.rooms.get(greediest)?.values.last()?;
        Some((*resource, (greediest.kind, key.clone())))
    }

    fn change(&mut self, owner: Owner, act: impl FnOnce(&mut Room)) {
        let room = self.rooms.entry(owner).or_default();
        let before = room.bytes;
        act(room);
        let after = room.bytes;
        self.bytes = self.bytes.saturating_sub(before).saturating_add(after);
        self.by_size.remove(&(before, owner));
        if room.values.is_empty() {
            self.rooms.remove(&owner);
        } else {
            self.by_size.insert((after, owner));
        }
    }

    fn distance(&self, resource: ResourceId) -> Distance {
        self.own.distance(resource.into())
    }
}
