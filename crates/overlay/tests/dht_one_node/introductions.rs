//! Introductions: who is told of whom, and who makes whom dial.

use std::time::Duration;

use meshtone_identity::NodeId;
use meshtone_overlay::dht::message::Message;
use meshtone_overlay::dht::{Config, Event};

use crate::support::{Lone, descriptor, neighbour};

const STRANGER: u8 = 200;

fn lone(neighbours: std::ops::RangeInclusive<u8>) -> Lone {
    let mut lone = Lone::new(Config::default());
    neighbours.for_each(|number| lone.link(neighbour(number)));
    lone.sent();
    lone.events();
    lone
}

/// A neighbour wants to be introduced; returns whom this node tells of whom.
fn introductions(lone: &mut Lone, from: NodeId, to: NodeId) -> Vec<(NodeId, NodeId)> {
    lone.sent();
    lone.hear(from, &Message::Introduce { node: to }.encode());
    let told = lone.sent().into_iter().filter_map(|(whom, message)| {
        let Message::Meet(peer) = message else { return None };
        assert_eq!(peer, descriptor(peer.node), "where its packets come from");
        Some((whom, peer.node))
    });
    told.collect()
}

/// A neighbour says that somebody wants a link; returns whether this node dials, and on whose word.
fn meets(lone: &mut Lone, from: NodeId, whom: NodeId) -> bool {
    lone.events();
    lone.hear(from, &Message::Meet(descriptor(whom)).encode());
    let met = Event::Meet { peer: descriptor(whom), through: from };
    lone.events().contains(&met)
}

/// Returns whom this node asks to introduce it, and to whom.
fn asked(lone: &mut Lone) -> Vec<(NodeId, NodeId)> {
    let asked = lone.sent().into_iter().filter_map(|(whom, message)| {
        if let Message::Introduce { node } = message { Some((whom, node)) } else { None }
    });
    asked.collect()
}

#[test]
fn who_is_introduced_and_the_neighbour_meant_are_each_told_where_the_other_is() {
    let mut lone = lone(1..=3);
    lone.link_client(neighbour(4));
    let (asker, peer) = (neighbour(1), neighbour(4));
    assert_eq!(introductions(&mut lone, asker, peer), [(peer, asker), (asker, peer)]);
    assert_eq!(introductions(&mut lone, asker, neighbour(STRANGER)), [], "who is no neighbour");
    assert_eq!(introductions(&mut lone, asker, asker), []);
    assert_eq!(introductions(&mut lone, neighbour(STRANGER), peer), [], "a stranger asks");
}

#[test]
fn whoever_asks_all_the_time_is_introduced_once_a_second_and_leaves_others_theirs() {
    let mut lone = lone(1..=3);
    lone.link_client(neighbour(4));
    let of = |lone: &mut Lone, asker: u8| introductions(lone, neighbour(asker), neighbour(4)).len() / 2;
    assert_eq!((0..50).map(|_| of(&mut lone, 1)).sum::<usize>(), 8);
    assert_eq!(of(&mut lone, 2), 1);
    lone.pass(Duration::from_secs(3));
    assert_eq!((0..50).map(|_| of(&mut lone, 1)).sum::<usize>(), 3);
}

#[test]
fn neither_strangers_nor_visitors_nor_ordinary_nodes_make_a_node_dial() {
    let mut lone = lone(1..=3);
    lone.link_client(neighbour(4));
    // The closest are siblings, whatever they say: a visitor is one of many others.
    (10..=30).for_each(|number| lone.link(neighbour(number)));
    lone.hear(neighbour(30), &Message::Visit.encode());
    for from in [STRANGER, 30, 4] {
        assert!(!meets(&mut lone, neighbour(from), neighbour(STRANGER + 1)), "{from}");
    }
    assert!(meets(&mut lone, neighbour(1), neighbour(STRANGER + 1)));
    assert!(!meets(&mut lone, neighbour(1), neighbour(2)), "there is a link");
    assert!(!meets(&mut lone, neighbour(1), neighbour(1)), "of itself");
}

#[test]
fn neighbours_make_a_node_dial_so_often_and_no_more() {
    let mut lone = lone(1..=10);
    let by_one = (100..150).filter(|number| meets(&mut lone, neighbour(1), neighbour(*number))).count();
    assert_eq!(by_one, 8);
    let by_all = (100..150).filter(|number| meets(&mut lone, neighbour(2 + number % 9), neighbour(*number))).count();
    assert_eq!(by_all, 8, "sixteen of all together");
    lone.pass(Duration::from_secs(2));
    let later = (100..150).filter(|number| meets(&mut lone, neighbour(2 + number % 9), neighbour(*number))).count();
    assert_eq!(later, 4, "one in half a second");
}

#[test]
fn who_asked_for_an_introduction_dials_once_for_each_that_it_asked() {
    let mut lone = lone(1..=3);
    let wanted = neighbour(STRANGER);
    // Others have used up what they may ask for.
    assert!((100..150).any(|number| !meets(&mut lone, neighbour(1), neighbour(number))));
    lone.dht.introduce(lone.now, wanted, [1, 2].map(|number| descriptor(neighbour(number))).to_vec());
    lone.drain();
    assert_eq!(asked(&mut lone), [(neighbour(1), wanted), (neighbour(2), wanted)]);
    assert!(meets(&mut lone, neighbour(1), wanted));
    assert!(!meets(&mut lone, neighbour(1), wanted), "it was asked once");
    assert!(!meets(&mut lone, neighbour(1), neighbour(STRANGER + 1)), "and for another one");
}

#[test]
fn a_super_node_without_a_link_is_visited() {
    let mut lone = lone(1..=20);
    let (far, wanted) = (neighbour(150), neighbour(STRANGER));
    lone.dht.introduce(lone.now, wanted, vec![descriptor(far)]);
    lone.drain();
    assert_eq!(lone.events(), [Event::Dial { peer: descriptor(far) }]);
    lone.link(far);
    let sent: Vec<Message> = lone.sent().into_iter().filter(|(to, _)| *to == far).map(|(_, message)| message).collect();
    assert!(sent.contains(&Message::Visit) && sent.contains(&Message::Introduce { node: wanted }), "{sent:?}");
    assert!(meets(&mut lone, far, wanted));
    lone.pass(Duration::from_secs(6));
    assert!(lone.events().contains(&Event::Unlink { node: far }), "its link lasts no longer than needed");
}
