//! Seeded histories: nodes join, leave, crash and come back, clocks are off, the network falls apart and heals, and no read is ever
//! older than what was acknowledged before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use meshtone_sim::chaos::{Outcome, play, play_iteratively, play_with_roles};

/// Histories that CI plays: ten seconds of a processor. `make histories` plays more.
const HISTORIES: u64 = 120;

/// The same with iterative reads.
const ITERATIVE_HISTORIES: u64 = 30;

/// The same with nodes that decide by themselves whether they serve: those that start do not until they have looked around.
const HISTORIES_WITH_ROLES: u64 = 40;

/// Plays a seed; returns how many writes and reads it had.
fn holds(play: fn(u64) -> Outcome, seed: u64) -> Result<(usize, usize), String> {
    let outcome = play(seed);
    let mut wrong: Vec<String> = outcome.history.violations().iter().map(ToString::to_string).collect();
    wrong.extend(outcome.disagreements);
    if wrong.is_empty() { Ok(outcome.history.size()) } else { Err(format!("seed {seed}:\n  {}", wrong.join("\n  "))) }
}

/// Histories that were wrong once, and what was.
const WRONG_ONCE: [(u64, &str); 4] = [
    (
        813,
        "two partitions in a row: a writer read at those who had not heard of its write, and not what it held itself",
    ),
    (1135, "of a write and a removal under way, the write was refused as too old, dated anew, and so came back"),
    (80167, "a writer whose clock was set back forgot the date of a removal, and dated what it wrote next alike"),
    (1461, "a newcomer was left alone by the only node it knew, and counted as a member"),
];

#[test]
fn histories_that_were_wrong_once_hold() {
    for (seed, what) in WRONG_ONCE {
        holds(play, seed).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
    }
}

/// The same of histories in which nodes decide whether they serve.
const WRONG_ONCE_WITH_ROLES: [(u64, &str); 1] = [(
    50034,
    "the way of an ordinary node's read ended at one that had just come back with what it held before, and knew nobody yet",
)];

#[test]
fn histories_that_were_wrong_once_hold_where_nodes_decide_whether_they_serve() {
    for (seed, what) in WRONG_ONCE_WITH_ROLES {
        holds(play_with_roles, seed).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
    }
}

/// The same of histories in which all reads are made iteratively.
const WRONG_ONCE_ITERATIVELY: [(u64, &str); 1] = [(
    222_223,
    "a writer that crashed forgot that a date had run ahead of its clock, and dated a removal like the value before",
)];

#[test]
fn histories_that_were_wrong_once_hold_where_all_reads_are_made_iteratively() {
    for (seed, what) in WRONG_ONCE_ITERATIVELY {
        holds(play_iteratively, seed).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
    }
}

#[test]
fn no_read_is_older_than_what_was_acknowledged_and_replicas_agree_in_the_end() {
    hold(play, HISTORIES);
}

#[test]
fn no_iterative_read_is_older_than_what_was_acknowledged() {
    hold(play_iteratively, ITERATIVE_HISTORIES);
}

#[test]
fn no_read_is_older_than_what_was_acknowledged_while_nodes_change_their_roles() {
    hold(play_with_roles, HISTORIES_WITH_ROLES);
}

fn hold(play: fn(u64) -> Outcome, histories: u64) {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (first, count) = (number("HISTORY_SEED", 1), number("HISTORIES", histories));
    let (mut wrong, mut writes, mut reads) = (Vec::new(), 0, 0);
    for seed in first..first + count {
        match holds(play, seed) {
            Ok(size) => (writes, reads) = (writes + size.0, reads + size.1),
            Err(text) => wrong.push(text),
        }
    }
    println!("{count} histories: {writes} writes acknowledged, {reads} reads");
    assert!(wrong.is_empty(), "{} of {count} histories are wrong\n{}", wrong.len(), wrong.join("\n"));
    assert!(writes as u64 >= 10 * count && reads as u64 >= 50 * count, "these histories prove little");
}
