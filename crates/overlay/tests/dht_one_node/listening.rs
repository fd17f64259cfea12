//! What a replica does for those who listen to it, and what it does not.

use std::time::Duration;

use meshtone_identity::NodeId;
use meshtone_overlay::dht::body::{Ask, Handed, Reply};
use meshtone_overlay::dht::message::{Answer, Message, Request};
use meshtone_overlay::dht::{Config, Position};
use meshtone_overlay::record::{Kind, ResourceId};

use crate::support::{BEGIN_MS, Lone, OWN, neighbour, registration};

const NAME: &str = "bob@example.org";
const KIND: Kind = Kind::SipRegistration;

fn stranger(number: u32) -> NodeId {
    let mut id = [0xee; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(id)
}

/// A node asks to be told of changes at a name; the question comes over the link to `from`. Returns whether that is promised.
fn ask_as(lone: &mut Lone, from: NodeId, origin: NodeId, name: &str) -> bool {
    let body = Ask::Listen { resource: ResourceId::of_name(name), kind: KIND, lifetime_s: 600 }.encode().into();
    let request = Request { origin, request: 7, target: Position::from(OWN), exact: true, hops: 1, body };
    lone.sent();
    lone.hear(from, &Message::Request(request).encode());
    let answer = lone.sent().into_iter().find_map(|(to, message)| {
        if let Message::Answer(Answer { body, .. }) = message { (to == from).then_some(body) } else { None }
    });
    matches!(Reply::decode(&answer.expect("an answer")), Ok(Reply::Listening { promised: true, .. }))
}

/// Somebody writes there.
fn write(lone: &mut Lone, writer: u8, number: u64) {
    let record = registration(NAME, neighbour(writer), BEGIN_MS + number, number);
    lone.ask(neighbour(1), 1_000_000 + number, Ask::Store(vec![Handed { remaining_s: 600, record }]).encode());
}

/// Returns who is told what within a time: the requests, with the number of changes in each.
fn told(lone: &mut Lone, duration: Duration) -> Vec<(NodeId, Request, usize)> {
    lone.pass(duration);
    let told = lone.asked().into_iter().filter_map(|(_, request, ask)| {
        let Ask::Changed(offers) = ask else { return None };
        Some((NodeId::from_bytes(request.target.0), request, offers.len()))
    });
    told.collect()
}

fn linked(count: u8) -> Lone {
    let mut lone = Lone::new(Config::default());
    (1..=count).for_each(|number| lone.link(neighbour(number)));
    lone
}

#[test]
fn whoever_was_said_to_listen_and_does_not_is_told_once() {
    let mut lone = linked(3);
    assert!(ask_as(&mut lone, neighbour(1), neighbour(2), NAME));
    assert!(ask_as(&mut lone, neighbour(3), neighbour(3), NAME));
    write(&mut lone, 9, 1);
    let first = told(&mut lone, Duration::from_millis(100));
    assert_eq!(first.iter().map(|(who, ..)| *who).collect::<Vec<_>>(), [neighbour(2), neighbour(3)]);
    for (who, request, _) in &first {
        lone.answer(*who, request, &Reply::Heard { wanted: *who == neighbour(3) });
    }
    write(&mut lone, 9, 2);
    let second: Vec<_> = told(&mut lone, Duration::from_millis(100)).into_iter().map(|(who, ..)| who).collect();
    assert_eq!((second, lone.dht.listeners()), (vec![neighbour(3)], 1));
}

#[test]
fn one_link_that_brings_many_listeners_leaves_the_others_their_place() {
    let mut lone = linked(3);
    let brought = (0..200).filter(|number| ask_as(&mut lone, neighbour(1), stranger(*number), NAME)).count();
    assert!((1..=64).contains(&brought), "{brought} of 200");
    assert!(
        ask_as(&mut lone, neighbour(2), neighbour(2), NAME) && ask_as(&mut lone, neighbour(3), stranger(999), NAME)
    );
    assert_eq!(lone.dht.listeners(), 64);
    assert!(!ask_as(&mut lone, neighbour(1), stranger(1000), NAME), "and nobody of its own");
}

#[test]
fn a_flood_of_listeners_takes_bounded_room_and_is_forgotten_with_its_time() {
    let mut lone = linked(3);
    for number in 0..20_000 {
        // As fast as a link may.
        lone.pass(Duration::from_millis(1));
        ask_as(&mut lone, neighbour(1), stranger(number), &format!("user{}@example.org", number / 50));
    }
    assert_eq!(lone.dht.listeners(), 16_384);
    assert!(ask_as(&mut lone, neighbour(2), neighbour(2), NAME));
    lone.pass(Duration::from_secs(700));
    assert!(ask_as(&mut lone, neighbour(2), neighbour(2), NAME));
    assert_eq!(lone.dht.listeners(), 1);
}

#[test]
fn what_changes_all_the_time_is_told_once_a_second_and_nothing_of_it_is_left_out() {
    let mut lone = linked(3);
    assert!(ask_as(&mut lone, neighbour(2), neighbour(2), NAME));
    let (mut messages, mut last) = (0, 0);
    for number in 1..=100 {
        write(&mut lone, u8::try_from(10 + number % 10).unwrap(), number);
        for (_, request, changes) in told(&mut lone, Duration::from_millis(100)) {
            (messages, last) = (messages + 1, changes);
            lone.answer(neighbour(2), &request, &Reply::Heard { wanted: true });
        }
    }
    assert!((10..=15).contains(&messages), "{messages} messages in ten seconds");
    assert_eq!(last, 10, "of each of the ten that wrote meanwhile");
}

#[test]
fn a_place_that_is_none_of_this_nodes_is_not_listened_to_here() {
    let mut lone = linked(60);
    // The node under test lies at the lowest place, the place of this name where many others are closer.
    let far = (0..).map(|number| format!("user{number}@example.org"));
    let far = far.into_iter().find(|name| ResourceId::of_name(name).as_bytes()[0] > 30).unwrap();
    assert!(!ask_as(&mut lone, neighbour(1), neighbour(1), &far));
    assert_eq!(lone.dht.listeners(), 0);
}
