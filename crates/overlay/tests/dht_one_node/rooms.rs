//! Whose values make room in a full storage, where people of one mail provider named their nodes themselves.

use bytes::Bytes;
use meshtone_identity::NodeId;
use meshtone_overlay::dht::Config;
use meshtone_overlay::dht::body::{Ask, Handed, Reply};
use meshtone_overlay::dht::message::RefusalReason;
use meshtone_overlay::record::Kind;

use crate::support::{BEGIN_MS, Lone, neighbour, registration};

const KIND: Kind = Kind::SipRegistration;
const MAX_VALUES: usize = 60;
const FLOODER: NodeId = NodeId::from_bytes([0xee; 32]);

struct Storing {
    lone: Lone,
    asked: u64,
}

impl Storing {
    fn new() -> Self {
        let mut lone = Lone::new(Config { max_values: MAX_VALUES, ..Config::default() });
        lone.link(neighbour(1));
        Self { lone, asked: 0 }
    }

    /// Somebody writes a registration: as one whom the person names, or as a home node of her domain. Returns whether it was
    /// taken, and not refused for want of room.
    fn write(&mut self, name: &str, signer: NodeId, for_a_person: bool) -> bool {
        let mut record = registration(name, signer, BEGIN_MS, 1);
        let certificates = if for_a_person { 3 } else { 2 };
        record.certificates = vec![Bytes::from_static(b"a certificate"); certificates];
        self.asked += 1;
        let store = Ask::Store(vec![Handed { remaining_s: 600, record }]).encode();
        let Reply::Stored(results) = self.lone.ask(neighbour(1), self.asked, store) else { panic!("no answer") };
        match results[0] {
            Ok(()) => true,
            Err(refusal) => {
                assert_eq!(refusal.reason, RefusalReason::Full, "{name}");
                false
            }
        }
    }

    fn holds(&self, name: &str) -> bool {
        self.lone.dht.holds(KIND, name)
    }
}

fn person(number: usize) -> String {
    format!("person{number}@mail.example")
}

/// The node of her own that she named.
fn node_of(number: usize) -> NodeId {
    let mut id = [7; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(id)
}

#[test]
fn who_floods_for_people_of_a_mail_provider_leaves_the_others_there_their_place() {
    let mut storing = Storing::new();
    let before = (0..20).filter(|number| storing.write(&person(*number), node_of(*number), true)).count();
    let flooded = (0..200).filter(|value| storing.write(&format!("flood{value}@mail.example"), FLOODER, true)).count();
    let after = (20..30).filter(|number| storing.write(&person(*number), node_of(*number), true)).count();
    assert_eq!((before, flooded, after), (20, MAX_VALUES - 20, 10));
    assert!((0..30).all(|number| storing.holds(&person(number))));
}

#[test]
fn more_mailboxes_at_more_providers_get_one_writer_no_more_room() {
    let mut storing = Storing::new();
    let names: Vec<String> = (0..25).map(|user| format!("user{user}@home.example")).collect();
    (0..200).for_each(|value| {
        storing.write(&format!("flood@mail{value}.example"), FLOODER, true);
    });
    for name in &names {
        assert!(storing.write(name, node_of(0), false), "{name}");
    }
    assert!(names.iter().all(|name| storing.holds(name)));
    assert!(!storing.write("another@mail999.example", FLOODER, true));
}

#[test]
fn home_nodes_of_one_domain_share_a_room_however_many_they_are() {
    let mut storing = Storing::new();
    let names: Vec<String> = (0..25).map(|user| format!("user{user}@home.example")).collect();
    for name in &names {
        assert!(storing.write(name, node_of(0), false), "{name}");
    }
    (0..200).for_each(|value| {
        storing.write(&format!("flood{value}@evil.example"), node_of(1 + value), false);
    });
    assert!(names.iter().all(|name| storing.holds(name)));
}
