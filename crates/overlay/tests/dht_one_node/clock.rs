//! What neighbours say of the time.

use std::time::Duration;

use meshtone_identity::NodeId;
use meshtone_overlay::dht::body::{Ask, Failure, Reply};
use meshtone_overlay::dht::{Config, Event};
use meshtone_overlay::record::Kind;

use crate::support::{BEGIN_MS, Lone, OWN, neighbour, registration};

/// Links a neighbour, and lets it answer after this time, with its clock this far ahead.
fn told(lone: &mut Lone, node: NodeId, ahead_ms: i64, took: Duration) {
    lone.link(node);
    let asked = lone.asked().into_iter().find(|(to, _, ask)| *to == node && *ask == Ask::Clock);
    let (_, request, _) = asked.expect("the neighbour is asked for its time");
    let half = took / 2;
    lone.pass(half);
    let shown = lone.now.unix_ms.saturating_add_signed(ahead_ms);
    lone.pass(took - half);
    lone.answer(node, &request, &Reply::Time(shown));
}

fn clock_events(lone: &mut Lone) -> Vec<i64> {
    let behind = |event| if let Event::ClockOff { behind_ms } = event { Some(behind_ms) } else { None };
    lone.events().into_iter().filter_map(behind).collect()
}

#[test]
fn the_clock_is_judged_by_the_median_of_the_neighbours_half_a_round_trip_ago() {
    let mut lone = Lone::new(Config::default());
    for (number, ahead_ms) in [(1, 119_000), (2, 120_000), (3, 121_000), (4, 120_000)] {
        told(&mut lone, neighbour(number), ahead_ms, Duration::from_millis(300));
    }
    // Its own word counts as well.
    assert_eq!(lone.dht.clock_behind_ms(), 120_000);
    // Told when the second of them had said so.
    assert_eq!(clock_events(&mut lone), [119_000]);
}

#[test]
fn one_neighbour_alone_moves_nothing() {
    let mut lone = Lone::new(Config::default());
    told(&mut lone, neighbour(1), 600_000, Duration::from_millis(20));
    assert_eq!(lone.dht.clock_behind_ms(), 0);
    assert_eq!(clock_events(&mut lone), [0; 0]);
}

#[test]
fn a_minority_of_liars_moves_the_clock_no_further_than_honest_neighbours_are_off() {
    let mut lone = Lone::new(Config::default());
    for number in 1..=4 {
        told(&mut lone, neighbour(number), i64::from(number), Duration::from_millis(20));
    }
    for number in 5..=8 {
        told(&mut lone, neighbour(number), i64::MAX, Duration::from_millis(20));
    }
    assert!((0..=4).contains(&lone.dht.clock_behind_ms()), "{}", lone.dht.clock_behind_ms());
    assert_eq!(clock_events(&mut lone), [0; 0]);
}

#[test]
fn no_majority_moves_the_clock_by_more_than_an_hour() {
    let mut lone = Lone::new(Config::default());
    for number in 1..=4 {
        told(&mut lone, neighbour(number), -86_400_000, Duration::from_millis(20));
    }
    assert_eq!(corrected_by(&mut lone), -3_600_000);
}

#[test]
fn two_neighbours_alone_move_the_clock_by_no_more_than_a_date_may_be_off() {
    let mut lone = Lone::new(Config::default());
    for number in 1..=2 {
        told(&mut lone, neighbour(number), 86_400_000, Duration::from_millis(20));
    }
    assert_eq!(corrected_by(&mut lone), 300_000);
    // The operator hears of it all the same.
    assert_eq!(clock_events(&mut lone), [86_400_000]);
}

#[test]
fn a_third_neighbour_that_agrees_with_our_clock_outvotes_two_that_lie() {
    let mut lone = Lone::new(Config::default());
    for (number, ahead_ms) in [(1, 86_400_000), (2, 86_400_000), (3, 0)] {
        told(&mut lone, neighbour(number), ahead_ms, Duration::from_millis(20));
    }
    assert_eq!(corrected_by(&mut lone), 0);
}

#[test]
fn what_three_neighbours_have_told_holds_when_one_of_them_leaves() {
    let mut lone = Lone::new(Config::default());
    for number in 1..=3 {
        told(&mut lone, neighbour(number), 900_000, Duration::from_millis(20));
    }
    lone.unlink(neighbour(2));
    assert_eq!(corrected_by(&mut lone), 900_000);
}

/// How far from its clock the node dates what it writes.
fn corrected_by(lone: &mut Lone) -> i64 {
    let (name, kind) = ("bob@example.org", Kind::SipRegistration);
    let content = registration(name, OWN, 1, 1).value.content;
    lone.dht.publish(lone.now, kind, name, content, Duration::from_secs(600)).unwrap();
    lone.drain();
    let (_, dated_ms) = *lone.dht.held(kind, name).first().expect("this node is one of the five closest");
    i64::try_from(dated_ms).unwrap() - i64::try_from(lone.now.unix_ms).unwrap()
}

#[test]
fn who_asks_is_told_the_clock_as_it_is_and_not_as_others_correct_it() {
    let mut lone = Lone::new(Config::default());
    for number in 1..=4 {
        told(&mut lone, neighbour(number), 120_000, Duration::from_millis(20));
    }
    let shown = lone.now.unix_ms;
    assert!(shown < BEGIN_MS + 1000);
    assert_eq!(lone.ask(neighbour(1), 9, Ask::Clock.encode()), Reply::Time(shown));
}

#[test]
fn the_warning_ends_when_the_neighbours_that_caused_it_are_gone() {
    let mut lone = Lone::new(Config::default());
    for number in 1..=3 {
        told(&mut lone, neighbour(number), -45_000, Duration::from_millis(20));
    }
    assert_eq!(clock_events(&mut lone), [-45_000]);
    for number in 1..=3 {
        lone.unlink(neighbour(number));
    }
    assert_eq!(clock_events(&mut lone), [0]);
    assert_eq!(lone.dht.clock_behind_ms(), 0);
}

#[test]
fn a_neighbour_that_does_not_understand_the_question_has_no_say_and_keeps_its_link() {
    let mut lone = Lone::new(Config::default());
    lone.link(neighbour(1));
    let (_, request, _) = lone.asked().into_iter().find(|(_, _, ask)| *ask == Ask::Clock).unwrap();
    lone.answer(neighbour(1), &request, &Reply::Failed(Failure::NotUnderstood));
    assert_eq!(clock_events(&mut lone), [0; 0]);
    assert_eq!(lone.dht.links().len(), 1);
}
