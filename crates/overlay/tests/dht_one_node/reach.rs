//! Dials for others: nobody makes a node dial whom or as often as he pleases, and who had to do with the node in question is no witness.

use std::time::Duration;

use meshtone_identity::NodeId;
use meshtone_overlay::dht::message::{DialBack, Message};
use meshtone_overlay::dht::{Config, Event};

use crate::support::{Lone, descriptor, neighbour};

const STRANGER: u8 = 200;

/// A node with neighbours of these numbers, of whom nothing is waited for.
fn lone(neighbours: std::ops::RangeInclusive<u8>) -> Lone {
    let mut lone = Lone::new(Config::default());
    neighbours.for_each(|number| lone.link(neighbour(number)));
    lone.pass(Duration::from_secs(20));
    speak(&mut lone);
    lone.sent();
    lone.events();
    lone
}

/// Everybody says something: whoever leaves requests unanswered is asked for nothing.
fn speak(lone: &mut Lone) {
    for peer in lone.dht.links() {
        lone.hear(peer.node, &Message::Neighbours(Vec::new()).encode());
    }
}

/// A neighbour asks for a dial; returns whether there is one.
fn dials(lone: &mut Lone, from: NodeId, whom: NodeId) -> bool {
    let asked = DialBack { number: 7, peer: descriptor(whom) };
    lone.hear(from, &Message::DialBack(asked).encode());
    lone.events().iter().any(|event| matches!(event, Event::DialBack { .. }))
}

/// The dial of this node has ended; returns what the one who asked for it is told.
fn ends(lone: &mut Lone, whom: NodeId, reached: Option<bool>) -> Vec<(NodeId, Message)> {
    lone.sent();
    lone.dht.handle_dialled_back(lone.now, whom, reached);
    lone.drain();
    lone.sent()
}

#[test]
fn who_asks_is_told_how_the_dial_ended_and_nobody_else() {
    for reached in [Some(true), Some(false), None] {
        let mut lone = lone(1..=3);
        assert!(dials(&mut lone, neighbour(1), neighbour(STRANGER)));
        assert_eq!(ends(&mut lone, neighbour(STRANGER + 1), Some(true)), []);
        let told = vec![(neighbour(1), Message::DialledBack { number: 7, reached })];
        assert_eq!(ends(&mut lone, neighbour(STRANGER), reached), told);
        assert_eq!(ends(&mut lone, neighbour(STRANGER), reached), []);
    }
}

#[test]
fn neither_strangers_nor_ordinary_nodes_make_a_node_dial() {
    let mut lone = lone(1..=3);
    assert!(!dials(&mut lone, neighbour(STRANGER), neighbour(STRANGER + 1)));
    lone.link_client(neighbour(9));
    assert!(!dials(&mut lone, neighbour(9), neighbour(STRANGER)));
}

#[test]
fn there_is_one_dial_at_a_time() {
    let mut lone = lone(1..=3);
    assert!(dials(&mut lone, neighbour(1), neighbour(STRANGER)));
    assert!(!dials(&mut lone, neighbour(2), neighbour(STRANGER + 1)));
    ends(&mut lone, neighbour(STRANGER), Some(true));
    assert!(dials(&mut lone, neighbour(2), neighbour(STRANGER + 1)));
}

#[test]
fn a_dial_that_never_ends_keeps_others_waiting_for_seconds_only() {
    let mut lone = lone(1..=3);
    assert!(dials(&mut lone, neighbour(1), neighbour(STRANGER)));
    lone.pass(Duration::from_secs(6));
    assert!(dials(&mut lone, neighbour(2), neighbour(STRANGER + 1)));
}

#[test]
fn a_neighbour_that_asks_all_the_time_gets_two_dials_a_minute_and_leaves_others_theirs() {
    let mut lone = lone(1..=3);
    let mut dialled = 0;
    for second in 0..600_u16 {
        let whom = NodeId::from_bytes([&[STRANGER], &second.to_be_bytes()[..], &[0; 29]].concat().try_into().unwrap());
        if dials(&mut lone, neighbour(1), whom) {
            dialled += 1;
            ends(&mut lone, whom, Some(false));
        }
        lone.pass(Duration::from_secs(1));
    }
    assert!((4..=4 + 20).contains(&dialled), "{dialled} dials in ten minutes");
    assert!(dials(&mut lone, neighbour(2), neighbour(STRANGER)));
}

#[test]
fn all_neighbours_together_get_a_dial_in_five_seconds() {
    let mut lone = lone(1..=60);
    let mut dialled = 0;
    for second in 0..600_u16 {
        for asker in 1..=60 {
            if dials(&mut lone, neighbour(asker), neighbour(STRANGER)) {
                dialled += 1;
                ends(&mut lone, neighbour(STRANGER), Some(false));
            }
        }
        lone.pass(Duration::from_secs(1));
        assert!(dialled <= 8 + second / 5 + 1, "{dialled} dials after {second} s");
    }
    assert!(dialled >= 100);
}

#[test]
fn who_has_a_link_or_had_one_lately_is_no_witness() {
    let mut lone = lone(1..=4);
    lone.link_client(neighbour(9));
    for whom in [1, 2, 9] {
        lone.sent();
        assert!(!dials(&mut lone, neighbour(1), neighbour(whom)), "{whom}");
        assert_eq!(lone.sent(), [(neighbour(1), Message::DialledBack { number: 7, reached: None })]);
    }
    for gone in [2, 9] {
        lone.unlink(neighbour(gone));
        lone.pass(Duration::from_secs(300));
        assert!(!dials(&mut lone, neighbour(1), neighbour(gone)), "{gone}");
        lone.pass(Duration::from_secs(301));
        assert!(dials(&mut lone, neighbour(1), neighbour(gone)), "{gone}");
        ends(&mut lone, neighbour(gone), None);
    }
    assert!(!dials(&mut lone, neighbour(1), lone_id()));
}

fn lone_id() -> NodeId {
    crate::support::OWN
}

/// Returns whom this node has asked to dial somebody, and under which number.
fn asked_to_dial(lone: &mut Lone, whom: NodeId) -> Vec<(NodeId, u64)> {
    let wanted = |(to, message)| {
        let Message::DialBack(DialBack { number, peer }) = message else { return None };
        // Where this node sees it, whatever it says.
        assert_eq!(peer, descriptor(whom));
        Some((to, number))
    };
    lone.sent().into_iter().filter_map(wanted).collect()
}

fn reports(lone: &mut Lone) -> Vec<(NodeId, Message)> {
    lone.sent().into_iter().filter(|(_, message)| matches!(message, Message::Report { .. })).collect()
}

#[test]
fn a_neighbour_is_tested_by_another_one_and_told_who_reached_it_where() {
    let mut lone = lone(1..=3);
    lone.link_client(neighbour(9));
    for (tested, reached) in [(1, true), (9, false)] {
        lone.sent();
        lone.hear(neighbour(tested), &Message::Test { number: 5 }.encode());
        let asked = asked_to_dial(&mut lone, neighbour(tested));
        let &[(dialler, number)] = &asked[..] else { panic!("{asked:?} were asked") };
        assert!(dialler != neighbour(tested) && dialler != neighbour(9));
        let other = neighbour(if dialler == neighbour(2) { 3 } else { 2 });
        // Nobody else speaks for it, and a number that was not given says nothing.
        lone.hear(other, &Message::DialledBack { number, reached: Some(!reached) }.encode());
        lone.hear(dialler, &Message::DialledBack { number: number ^ 1, reached: Some(!reached) }.encode());
        assert_eq!(reports(&mut lone), []);
        lone.hear(dialler, &Message::DialledBack { number, reached: Some(reached) }.encode());
        let address = reached.then(|| descriptor(neighbour(tested)).address);
        let told = Message::Report { number: 5, dialler, reached: address };
        assert_eq!(reports(&mut lone), [(neighbour(tested), told)]);
    }
}

#[test]
fn who_cannot_dial_or_says_nothing_is_passed_over_three_times_at_most() {
    let mut lone = lone(1..=9);
    lone.hear(neighbour(1), &Message::Test { number: 5 }.encode());
    let mut diallers = Vec::new();
    while let [(dialler, number)] = asked_to_dial(&mut lone, neighbour(1))[..] {
        assert!(!diallers.contains(&dialler), "asked twice");
        diallers.push(dialler);
        if diallers.len() == 2 {
            lone.pass(Duration::from_secs(6));
        } else {
            lone.hear(dialler, &Message::DialledBack { number, reached: None }.encode());
        }
    }
    assert_eq!(diallers.len(), 3);
}

#[test]
fn who_wants_to_be_tested_all_the_time_is_tested_every_two_minutes() {
    let mut lone = lone(1..=20);
    let mut dialled = 0;
    for _ in 0..1200 {
        speak(&mut lone);
        lone.hear(neighbour(1), &Message::Test { number: 5 }.encode());
        for (dialler, number) in asked_to_dial(&mut lone, neighbour(1)) {
            dialled += 1;
            lone.hear(dialler, &Message::DialledBack { number, reached: Some(true) }.encode());
        }
        lone.pass(Duration::from_secs(1));
    }
    assert!((3..=14).contains(&dialled), "{dialled} tests in twenty minutes");
}

#[test]
fn a_report_that_nobody_asked_for_is_nothing() {
    let mut lone = lone(1..=9);
    for from in 1..=9 {
        lone.hear(
            neighbour(from),
            &Message::Report { number: 0, dialler: neighbour(STRANGER + from), reached: None }.encode(),
        );
    }
    assert_eq!(lone.dht.last_test(), None);
    assert_eq!(lone.events(), []);
}
