//! What the SIP engine costs by itself, without sockets: `engine [REPEATS [NAME]]`.
//!
//! *Parsing*: a message is parsed and six of its header fields are touched. *Registration*, *call* and *message*: every message of the
//! exchange goes through [`meshtone_sip::server::Server`], as in a node's worker; *forward*: a MESSAGE and its answer go through the
//! proxy without state. Prints nanoseconds and allocations of one.
//!
//! On a machine with other work, count instructions: `valgrind --tool=callgrind --toggle-collect='*Registrar::register'
//! engine 100 registration` counts a thousand of them. What to collect is `touch`, `validate`, `Registrar::register`,
//! `Proxy::call`, `Proxy::message` and `FirstStage::message`.

mod counting;
mod flows;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flows::{FirstStage, Phone, Proxy, Registrar};
use meshtone_sip::message::{Header, Message, Parsed};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const INVITE: &[u8] = include_bytes!("../../messages/invite.sip");
const REGISTER: &[u8] = include_bytes!("../../messages/register.sip");

/// The numbers to meet, in nanoseconds.
const INVITE_MAX_NS: f64 = 500.0;
const REGISTER_MAX_NS: f64 = 350.0;

/// A figure is the median of so many runs.
const RUNS: usize = 9;

/// Transactions kept at a time: one begins each millisecond and stays for 32 s.
const KEPT: usize = 30_000;

/// So many are prepared at once, so that a look at the clock costs nothing beside them.
const BATCH: u32 = 500;

fn main() -> std::process::ExitCode {
    let repeats = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let only = std::env::args().nth(2);
    let is_wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    let mut meets = true;
    for (name, bytes, max_ns) in
        [("parse INVITE", INVITE, INVITE_MAX_NS), ("parse REGISTER", REGISTER, REGISTER_MAX_NS)]
    {
        if is_wanted(name) {
            let (ns, allocations) = measure(name, repeats, || Bytes::from_static(bytes), |datagram| touch(&datagram));
            meets &= ns <= max_ns && allocations == 0.0;
        }
    }
    for (name, bytes) in [("validate INVITE", INVITE), ("validate REGISTER", REGISTER)] {
        if is_wanted(name) {
            let message = Message::parse(Bytes::from_static(bytes)).expect("the message is a good one");
            measure(name, repeats, || (), |()| validate(&message));
        }
    }
    for (name, mut phone) in [("registration", Phone::open()), ("digest", Phone::with_password())] {
        if is_wanted(name) {
            let mut registrar = Registrar::new(&phone);
            measure(name, repeats, || phone.request(), |datagram| registrar.register(datagram));
        }
    }
    if is_wanted("finished transaction") {
        kept();
    }
    if is_wanted("call") {
        let mut proxy = Proxy::new();
        measure("call", repeats / 10, || (), |()| proxy.call());
    }
    if is_wanted("message") {
        let mut proxy = Proxy::new();
        measure("message", repeats / 10, || (), |()| proxy.message());
    }
    if is_wanted("forward") {
        let mut first_stage = FirstStage::new();
        measure("forward", repeats / 10, || (), |()| first_stage.message());
    }
    if meets { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// Parses a message and reads what a proxy looks at.
#[inline(never)]
fn touch(datagram: &Bytes) {
    let message = Parsed::parse(black_box(datagram.clone())).expect("the message is a good one");
    black_box(message.from().expect("a good From").tag());
    black_box(message.to().expect("a good To").uri);
    black_box(message.call_id());
    black_box(message.cseq().expect("a good CSeq").number);
    black_box(message.top_via().expect("a good Via").branch());
    black_box(message.header(Header::Contact));
}

/// Checks a message as a server does before it acts on it.
#[inline(never)]
fn validate(message: &Message) {
    black_box(message).validate().expect("the message is a good one");
}

/// Bytes that an answered REGISTER leaves behind, to answer when it comes again: many of them, all younger than Timer J.
fn kept() {
    let mut phone = Phone::open();
    let mut registrar = Registrar::new(&phone);
    registrar.register(phone.request());
    let before = counting::live();
    for _ in 0..KEPT {
        registrar.register(phone.request());
    }
    let bytes = counting::live() - before;
    println!("{:18} {:9} bytes", "finished transaction", bytes / KEPT);
}

/// The median nanoseconds of one, and its allocations; what `prepare` does is not counted.
fn measure<T>(name: &str, repeats: u32, mut prepare: impl FnMut() -> T, mut one: impl FnMut(T)) -> (f64, f64) {
    let mut runs = Vec::with_capacity(RUNS);
    let mut allocated = 0;
    let mut batch = Vec::with_capacity(BATCH as usize);
    // The first run warms up.
    for run in 0..=RUNS {
        let mut passed = Duration::ZERO;
        let mut left = repeats;
        while left > 0 {
            let size = left.min(BATCH);
            left -= size;
            batch.extend((0..size).map(|_| prepare()));
            let (start, before) = (Instant::now(), counting::count());
            batch.drain(..).for_each(&mut one);
            passed += start.elapsed();
            allocated += if run > 0 { counting::count() - before } else { 0 };
        }
        if run > 0 {
            runs.push(passed.as_nanos() as f64 / f64::from(repeats));
        }
    }
    let allocations = allocated as f64 / (RUNS as f64 * f64::from(repeats));
    runs.sort_by(f64::total_cmp);
    println!(
        "{name:18} {:9.1} ns  [{:.1}-{:.1}]  {allocations:.1} allocations",
        runs[RUNS / 2],
        runs[0],
        runs[RUNS - 1]
    );
    (runs[RUNS / 2], allocations)
}
