//! What the SIP engine costs by itself, without sockets: `engine [REPEATS]`.
//!
//! *Parsing*: a message is parsed and six of its header fields are touched. *Registration* and *call*: every message of the
//! exchange goes through [`meshtone_sip::server::Server`], as in a node's worker. Prints nanoseconds and allocations of one.

mod counting;
mod flows;

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use meshtone_sip::message::{Header, Message};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const INVITE: &[u8] = include_bytes!("../../messages/invite.sip");
const REGISTER: &[u8] = include_bytes!("../../messages/register.sip");

/// The numbers to meet, in nanoseconds.
const INVITE_MAX_NS: f64 = 500.0;
const REGISTER_MAX_NS: f64 = 350.0;

/// A figure is the median of so many runs.
const RUNS: usize = 9;

fn main() -> std::process::ExitCode {
    let repeats = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let invite = measure("parse INVITE", repeats, || touch(&Bytes::from_static(INVITE)));
    let register = measure("parse REGISTER", repeats, || touch(&Bytes::from_static(REGISTER)));
    let validated = Message::parse(Bytes::from_static(INVITE)).expect("the message is a good one");
    measure("validate INVITE", repeats, || {
        black_box(&validated).validate().expect("the message is a good one");
    });
    let mut registrar = flows::Registrar::new();
    measure("registration", repeats, || registrar.register());
    let mut proxy = flows::Proxy::new();
    measure("call", repeats / 10, || proxy.call());
    let meets = invite.0 <= INVITE_MAX_NS && register.0 <= REGISTER_MAX_NS && invite.1 == 0.0 && register.1 == 0.0;
    if meets { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// Parses a message and reads what a proxy looks at.
fn touch(datagram: &Bytes) {
    let message = Message::parse(black_box(datagram.clone())).expect("the message is a good one");
    black_box(message.from().expect("a good From").tag());
    black_box(message.to().expect("a good To").uri);
    black_box(message.call_id());
    black_box(message.cseq().expect("a good CSeq").number);
    black_box(message.top_via().expect("a good Via").branch());
    black_box(message.header(Header::Contact));
}

/// The median nanoseconds of one, and its allocations.
fn measure(name: &str, repeats: u32, mut one: impl FnMut()) -> (f64, f64) {
    for _ in 0..repeats / 10 {
        one();
    }
    let mut runs = Vec::with_capacity(RUNS);
    let allocated = counting::count();
    for _ in 0..RUNS {
        let start = Instant::now();
        for _ in 0..repeats {
            one();
        }
        runs.push(start.elapsed().as_nanos() as f64 / f64::from(repeats));
    }
    let allocations = (counting::count() - allocated) as f64 / (RUNS as f64 * f64::from(repeats));
    runs.sort_by(f64::total_cmp);
    println!("{name:16} {:9.1} ns  [{:.1}-{:.1}]  {allocations:.1} allocations", runs[RUNS / 2], runs[0], runs[RUNS - 1]);
    (runs[RUNS / 2], allocations)
}
