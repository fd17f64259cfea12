//! What neighbours say of their role, and a node that is told its own by what it sees.

use std::time::Duration;

use meshtone_identity::NodeId;
use meshtone_overlay::dht::body::{Ask, OfferState, Reply};
use meshtone_overlay::dht::message::Message;
use meshtone_overlay::dht::{Config, Event, RoleChoice, RoleReason};
use meshtone_overlay::record::Kind;

use crate::support::{Lone, neighbour};

fn linked(lone: &Lone) -> Vec<NodeId> {
    lone.dht.links().iter().map(|peer| peer.node).collect()
}

fn say(lone: &mut Lone, from: u8, serves: bool) {
    lone.hear(neighbour(from), &Message::Role { serves }.encode());
}

#[test]
fn a_neighbour_that_stops_to_serve_is_counted_on_no_more_until_it_does_again() {
    let mut lone = Lone::new(Config::default());
    [1, 2].into_iter().for_each(|number| lone.link(neighbour(number)));
    say(&mut lone, 2, false);
    assert_eq!((linked(&lone), lone.dht.clients()), (vec![neighbour(1)], vec![neighbour(2)]));
    assert!(lone.dht.known_peers().iter().all(|peer| peer.node != neighbour(2)));
    // Said twice, it is said once.
    say(&mut lone, 2, false);
    say(&mut lone, 2, true);
    say(&mut lone, 2, true);
    assert_eq!((linked(&lone), lone.dht.clients()), (vec![neighbour(1), neighbour(2)], vec![]));
    lone.unlink(neighbour(2));
    assert_eq!((linked(&lone), lone.dht.clients()), (vec![neighbour(1)], vec![]));
}

#[test]
fn whoever_said_too_soon_that_it_serves_is_offered_what_it_refused_once_it_does() {
    let mut lone = Lone::new(Config::default());
    lone.link(neighbour(1));
    let record = crate::support::registration("bob@example.org", neighbour(1), crate::support::BEGIN_MS, 1);
    let store = Ask::Store(vec![meshtone_overlay::dht::body::Handed { remaining_s: 600, record }]).encode();
    assert!(matches!(&lone.ask(neighbour(1), 1, store), Reply::Stored(results) if results[0].is_ok()));
    let offered = |lone: &mut Lone| {
        lone.pass(Duration::from_secs(1));
        let asked = lone.asked().into_iter().filter(|(to, _, _)| *to == neighbour(2));
        asked.filter(|(_, _, ask)| matches!(ask, Ask::Offer(_))).map(|(_, request, _)| request).collect::<Vec<_>>()
    };
    offered(&mut lone);
    lone.link(neighbour(2));
    let first = offered(&mut lone);
    assert_eq!(first.len(), 1);
    lone.answer(neighbour(2), &first[0], &Reply::Offered { states: vec![OfferState::Refused], newer: Vec::new() });
    assert!(offered(&mut lone).is_empty());
    say(&mut lone, 2, true);
    assert_eq!(offered(&mut lone).len(), 1);
    // Whoever says it again and again makes nobody work.
    for _ in 0..100 {
        say(&mut lone, 2, true);
    }
    assert!(offered(&mut lone).len() <= 1);
}

#[test]
fn whoever_changes_its_role_all_the_time_is_not_linked_with() {
    let mut lone = Lone::new(Config::default());
    [1, 2].into_iter().for_each(|number| lone.link(neighbour(number)));
    lone.events();
    for change in 0..4 {
        say(&mut lone, 2, change % 2 == 1);
    }
    let unlinked = |events: Vec<Event>| events.contains(&Event::Unlink { node: neighbour(2) });
    assert!(!unlinked(lone.events()));
    say(&mut lone, 2, false);
    assert!(unlinked(lone.events()));
    assert!(linked(&lone).contains(&neighbour(2)), "the change itself counts for nothing");
    // Once an hour is nobody's trouble.
    for change in 0..20 {
        lone.pass(Duration::from_secs(3600));
        lone.events();
        say(&mut lone, 2, change % 2 == 1);
        assert!(!unlinked(lone.events()));
    }
}

#[test]
fn whoever_may_only_use_the_overlay_serves_nobody_whatever_it_says() {
    let mut lone = Lone::new(Config::default());
    lone.link(neighbour(1));
    lone.dht.hold_to_use(neighbour(2));
    // Its hello says that it serves, and so does what it says later.
    lone.link(neighbour(2));
    assert_eq!((linked(&lone), lone.dht.clients()), (vec![neighbour(1)], vec![neighbour(2)]));
    lone.events();
    say(&mut lone, 2, true);
    assert_eq!((linked(&lone), lone.dht.clients()), (vec![neighbour(1)], vec![neighbour(2)]));
    assert!(lone.events().contains(&Event::Unlink { node: neighbour(2) }));
    // With its next certificate it may.
    lone.unlink(neighbour(2));
    lone.link(neighbour(2));
    assert_eq!(linked(&lone), vec![neighbour(1), neighbour(2)]);
}

#[test]
fn a_stranger_has_no_role_here() {
    let mut lone = Lone::new(Config::default());
    say(&mut lone, 7, true);
    say(&mut lone, 7, false);
    assert_eq!((linked(&lone), lone.dht.clients()), (vec![], vec![]));
}

#[test]
fn who_waits_for_others_and_meets_nobody_serves_and_tells_those_it_meets_later() {
    let mut lone = Lone::new(Config { role: RoleChoice::Auto, ..Config::default() });
    lone.dht.await_others(lone.now);
    assert_eq!((lone.dht.serves(), lone.dht.role_reason()), (false, RoleReason::Starting));
    lone.link_client(neighbour(1));
    lone.pass(Duration::from_secs(4));
    assert!(lone.events().contains(&Event::Role { serves: true }));
    assert_eq!((lone.dht.serves(), lone.dht.role_reason()), (true, RoleReason::Alone));
    assert!(lone.sent().contains(&(neighbour(1), Message::Role { serves: true })));
    // A hello that was written before said otherwise.
    lone.link(neighbour(2));
    assert!(lone.sent().contains(&(neighbour(2), Message::Role { serves: true })));
}

#[test]
fn who_counts_few_serves_and_stores_from_then_on() {
    let mut lone = Lone::new(Config { role: RoleChoice::Auto, ..Config::default() });
    lone.dht.await_others(lone.now);
    lone.link(neighbour(1));
    let handed = || crate::support::registration("bob@example.org", neighbour(1), crate::support::BEGIN_MS, 1);
    let store =
        || Ask::Store(vec![meshtone_overlay::dht::body::Handed { remaining_s: 600, record: handed() }]).encode();
    assert!(matches!(&lone.ask(neighbour(1), 1, store()), Reply::Stored(results) if results[0].is_err()));
    for _ in 0..4 {
        lone.pass(Duration::from_millis(100));
        for (to, request, _) in lone.asked() {
            lone.answer(to, &request, &Reply::Nodes);
        }
    }
    assert_eq!((lone.dht.serves(), lone.dht.role_reason()), (true, RoleReason::Few));
    assert!(matches!(&lone.ask(neighbour(1), 2, store()), Reply::Stored(results) if results[0].is_ok()));
    assert!(lone.dht.holds(Kind::SipRegistration, "bob@example.org"));
}
