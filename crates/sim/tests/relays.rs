//! How many calls need a relay, and what that costs those who relay: the figures of the articles on peer-to-peer SIP come out of calls that
//! are played packet by packet, within one percent.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "the start of a test's own time")]

use std::time::Instant;

use meshtone_sim::calls::mix::{Mix, play_all};

/// Calls of each of a thousand nodes: the share that is relayed then has a standard deviation of a sixth of a percent of all calls, and so
/// the load of public nodes, which is in proportion to it, one of a third of a percent.
const CALLS: usize = 20;

fn is_near(measured: f64, said: f64) -> bool {
    (measured - said).abs() < 0.01
}

#[test]
fn where_a_third_has_no_udp_three_of_five_calls_are_relayed_and_the_public_ones_carry_eleven_times_their_own() {
    let mix = Mix { public: 100, cone: 300, symmetric: 300, blocked: 300 };
    let outcome = play_all(Instant::now(), mix, CALLS, 1).unwrap();
    assert!(is_near(outcome.relayed_tcp, 0.51), "{outcome:?}");
    assert!(is_near(outcome.relayed_udp, 0.09), "{outcome:?}");
    assert!(is_near(outcome.direct, 0.40), "{outcome:?}");
    assert!(is_near(outcome.load_tcp / 11.2, 1.0), "{outcome:?}");
    assert!(is_near(outcome.load / 13.0, 1.0), "{outcome:?}");
}

#[test]
fn among_consumers_a_fifth_of_the_calls_is_relayed() {
    let mix = Mix { public: 150, cone: 500, symmetric: 300, blocked: 50 };
    let outcome = play_all(Instant::now(), mix, CALLS, 2).unwrap();
    assert!(is_near(outcome.relayed_tcp + outcome.relayed_udp, 0.1875), "{outcome:?}");
    assert!(is_near(outcome.relayed_tcp, 0.0975) && is_near(outcome.relayed_udp, 0.09), "{outcome:?}");
}

#[test]
fn the_fewer_are_public_the_more_each_of_them_carries() {
    let mix = Mix { public: 45, cone: 355, symmetric: 300, blocked: 300 };
    let outcome = play_all(Instant::now(), mix, CALLS, 3).unwrap();
    assert!(is_near(outcome.load_tcp / 23.67, 1.0), "{outcome:?}");
}
