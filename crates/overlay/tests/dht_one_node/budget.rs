//! What one link may make this node check.

use std::time::Duration;

use meshtone_overlay::dht::body::{Ask, Failure, Handed, Reply};
use meshtone_overlay::dht::message::{Message, Request};
use meshtone_overlay::dht::{Config, DhtError, Event};
use meshtone_overlay::record::Kind;

use crate::support::{BEGIN_MS, Lone, OWN, neighbour, registration};

/// Values in one message.
const BATCH: u64 = 64;

/// Batches that a link may send at once.
const BURST: u64 = 4096 / BATCH;

/// A batch of values that were not seen before.
fn batch(number: u64) -> Vec<u8> {
    let handed = (0..BATCH).map(|value| {
        let name = format!("user{}@example.org", number * BATCH + value);
        Handed { remaining_s: 600, record: registration(&name, neighbour(9), BEGIN_MS, 1) }
    });
    Ask::Store(handed.collect()).encode()
}

fn is_taken(reply: &Reply) -> bool {
    if let Reply::Stored(results) = reply {
        return results.iter().all(Result::is_ok);
    }
    assert_eq!(*reply, Reply::Failed(Failure::Busy));
    false
}

#[test]
fn a_flood_of_values_is_refused_before_their_signatures_are_checked() {
    let mut lone = Lone::new(Config::default());
    lone.link(neighbour(1));
    lone.link(neighbour(2));
    let taken = (0..2 * BURST).filter(|number| is_taken(&lone.ask(neighbour(1), *number, batch(*number)))).count();
    assert_eq!((taken as u64, lone.checked()), (BURST, 4096));
    // Another link has a budget of its own, and this one has more after a while.
    assert!(is_taken(&lone.ask(neighbour(2), 9000, batch(9000))));
    lone.pass(Duration::from_secs(1));
    let before = lone.checked();
    (0..BURST).for_each(|number| drop(lone.ask(neighbour(1), 5000 + number, batch(5000 + number))));
    assert!((900..=1000).contains(&(lone.checked() - before)), "{} in a second", lone.checked() - before);
}

#[test]
fn who_floods_through_an_honest_node_leaves_it_most_of_what_others_check_for_it() {
    let mut lone = Lone::new(Config::default());
    let (flooder, other, victim) = (neighbour(1), neighbour(2), neighbour(3));
    [flooder, other, victim].into_iter().for_each(|node| lone.link(node));
    lone.sent();
    let mut passed_on = |from, numbers: std::ops::Range<u64>| {
        for number in numbers {
            let body = batch(number).into();
            let request = Request { origin: from, request: number, target: victim.into(), exact: true, hops: 0, body };
            lone.hear(from, &Message::Request(request).encode());
        }
        let values = |ask| if let Ask::Store(values) = ask { values.len() } else { 0 };
        lone.asked().into_iter().filter(|(to, ..)| *to == victim).map(|(.., ask)| values(ask)).sum::<usize>()
    };
    assert_eq!(passed_on(flooder, 0..2 * BURST), 4096 / 4);
    assert_eq!(passed_on(other, 5000..5002), 2 * 64, "another one is not to blame");
}

#[test]
fn what_honest_neighbours_hand_over_when_one_of_them_dies_fits() {
    let mut lone = Lone::new(Config::default());
    (1..=4).for_each(|number| lone.link(neighbour(number)));
    // Each has some thousand values of which this node is to become a replica, and does not know that others hand them over, too.
    for from in 1..=4 {
        for number in 0..BURST {
            assert!(is_taken(&lone.ask(neighbour(from), number, batch(number))), "neighbour {from}, batch {number}");
        }
    }
    assert_eq!(lone.checked(), 4096, "what is held already is checked again");
}

#[test]
fn a_writer_whom_storing_nodes_have_no_time_for_hears_so_and_counts_none_of_them_as_gone() {
    let mut lone = Lone::new(Config::default());
    (1..=4).for_each(|number| lone.link(neighbour(number)));
    let (name, kind) = ("bob@example.org", Kind::SipRegistration);
    let content = registration(name, OWN, 1, 1).value.content;
    let id = lone.dht.store(lone.now, kind, name, content, Duration::from_secs(600)).unwrap();
    lone.drain();
    for _ in 0..20 {
        for (to, request, ask) in lone.asked() {
            let busy = matches!(ask, Ask::Put(_));
            lone.answer(to, &request, &if busy { Reply::Failed(Failure::Busy) } else { Reply::Nodes });
        }
        lone.pass(Duration::from_millis(50));
    }
    let ended = lone.events().into_iter().find(|event| matches!(event, Event::Stored { id: of, .. } if *of == id));
    let Some(Event::Stored { result: Err(DhtError::Overloaded { .. }), .. }) = ended else { panic!("{ended:?}") };
}
