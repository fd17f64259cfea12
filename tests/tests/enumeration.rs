//! Who exists (threat 1): five hundred questions each about a user who does and one who does not, told apart by nothing.
//!
//! What can be seen is compared in the ordinary run; how long it takes, in `make threats`, since that depends on a quiet machine.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::Ipv4Addr;
use std::time::Instant;

use meshtone_tests::crowd::sources;
use meshtone_tests::scripted::Sip;
use meshtone_tests::statistics::{mann_whitney_p, median};
use meshtone_tests::{Mesh, ScriptedPhone};

const METHODS: [&str; 5] = ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE"];
/// Names of one length, so that what is echoed is as long.
const USERS: [&str; 2] = ["alice", "zelda"];
/// Questions about each user, by each method.
const QUESTIONS: usize = 500;
/// A source asks so often, which no limit forbids.
const BY_SOURCE: usize = 10;
/// Below this, chance hardly explains the difference any more.
const SIGNIFICANT: f64 = 0.01;

/// What can be seen of an answer without reading it: status, names of fields in their order, and lengths.
fn shape(answer: &Sip) -> (u16, Vec<(String, usize)>) {
    let echoed = ["Via", "Call-ID", "From"];
    let length = |name: &str, value: &str| if echoed.contains(&name) { 0 } else { value.len() };
    let fields = answer.headers.iter().map(|(name, value)| (name.clone(), length(name, value))).collect();
    (answer.status(), fields)
}

/// The answer to one question, and how long it took in microseconds. With a wrong password, to the second attempt.
fn ask(mesh: &Mesh, source: Ipv4Addr, method: &str, user: &str, guesses: bool) -> (Sip, f64) {
    let mut phone = ScriptedPhone::udp_from(source, mesh.sip(1)).of(user, "wrong");
    let address = format!("sip:{user}@mesh.test");
    let uri = if method == "REGISTER" { "sip:mesh.test" } else { &address };
    let mut request = phone.request(method, uri);
    request.to = format!("<{address}>");
    if guesses {
        let challenge = phone.ask_once(&request);
        request = phone.authorize(&request, &challenge);
    }
    let begin = Instant::now();
    let answer = phone.ask_once(&request);
    (answer, begin.elapsed().as_secs_f64() * 1e6)
}

/// Asks about both users in turn, and returns how long each answer took. All of them look the same.
#[track_caller]
fn question(mesh: &Mesh, block: u8, method: &str, guesses: bool) -> [Vec<f64>; 2] {
    let from = sources(block, (2 * QUESTIONS / BY_SOURCE) as u32);
    let mut times = [Vec::new(), Vec::new()];
    let mut seen = None;
    for number in 0..QUESTIONS {
        // Each goes first as often as the other, and both from the same place.
        for which in [number % 2, 1 - number % 2] {
            let (answer, took) = ask(mesh, from[2 * number / BY_SOURCE], method, USERS[which], guesses);
            assert!(matches!(answer.status(), 401 | 407), "{method}:\n{answer}");
            let shape = shape(&answer);
            let first = seen.get_or_insert_with(|| shape.clone());
            assert_eq!(*first, shape, "{method} about {}, guessing: {guesses}\n{answer}", USERS[which]);
            times[which].push(took);
        }
    }
    times
}

#[test]
fn five_hundred_answers_about_a_user_and_about_nobody_look_the_same() {
    let mesh = Mesh::start(1);
    mesh.user(USERS[0]);
    for (block, method) in (80..).zip(METHODS) {
        for guesses in [false, true] {
            question(&mesh, block, method, guesses);
        }
    }
}

#[test]
#[ignore = "measures time: `make threats` on a quiet machine"]
fn five_hundred_answers_about_a_user_and_about_nobody_take_as_long() {
    let mesh = Mesh::start(1);
    mesh.user(USERS[0]);
    for (block, method) in (90..).zip(METHODS) {
        for guesses in [false, true] {
            let measure = |block: u8| {
                let [existing, missing] = question(&mesh, block, method, guesses);
                let p = mann_whitney_p(&existing, &missing);
                let (existing, missing) = (median(&existing), median(&missing));
                eprintln!("{method:<9} guessing {guesses:<5}  medians {existing:>7.1} {missing:>7.1} µs  p {p:.3}");
                p
            };
            // One in a hundred comparisons of equals is below by chance; a difference that is real is there again.
            let differs = measure(block) < SIGNIFICANT && measure(block + 10) < SIGNIFICANT;
            assert!(!differs, "{method}, guessing: {guesses}: the times tell who exists");
        }
    }
}
