//! What signing costs: registrations and calls between two real nodes, with signatures and without, in turn (`make prices`).
//!
//! Both pairs of nodes run all the time, and take turns, so that what else the machine does is spread over both. Counted are the CPU time
//! of the two nodes, the bytes that pass between them, and how long a phone waits. This measures; what it judges is only that nobody
//! was turned away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use meshtone_tests::capture::Capture;
use meshtone_tests::lan::in_own_network;
use meshtone_tests::scripted::SDP;
use meshtone_tests::{DOMAIN, Mesh, MeshNode, ScriptedPhone};

/// Turns of each pair.
const ROUNDS: usize = 10;
/// Changes of a registration in one turn: half of them begin one, half end it.
const REGISTRATIONS: usize = 100;
/// Phones that register: one alone would be told that it does so too often.
const PHONES: usize = 20;
/// Calls in one turn.
const CALLS: usize = 100;
/// From one to the next, so that each change of a registration is announced by itself, and a call finds nodes that have nothing to do.
const PACE: Duration = Duration::from_millis(20);
/// Ticks of the kernel's clock in a second, by which it counts CPU time for processes (`USER_HZ`).
const TICKS_S: f64 = 100.0;

/// Two nodes with a phone each, which sign or do not.
struct Pair {
    name: &'static str,
    mesh: Mesh,
    phones: Vec<ScriptedPhone>,
    alice: ScriptedPhone,
    bob: ScriptedPhone,
    registration: Cost,
    call: Cost,
}

/// What was spent on so many of something.
#[derive(Default)]
struct Cost {
    cpu_s: f64,
    bytes: usize,
    waits_us: Vec<u128>,
}

impl Pair {
    fn start(name: &'static str, more: &[&str]) -> Pair {
        let mut first = MeshNode::unstarted(&format!("{name}-1")).with_domain(DOMAIN);
        first.run(more);
        let ticket = first.invite();
        let mut second = MeshNode::unstarted(&format!("{name}-2"));
        second.run(&[&["--join", ticket.as_str()], more].concat());
        let mesh = Mesh { nodes: vec![first, second] };
        let [alices, bobs] = ["alice", "bob"].map(|user| mesh.user(user));
        let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alices);
        let mut bob = ScriptedPhone::udp(mesh.sip(2)).of("bob", &bobs);
        alice.register();
        bob.register();
        mesh.wait_announced(2);
        let phone = |number| {
            let user = format!("user{number}");
            let password = mesh.user(&user);
            ScriptedPhone::udp(mesh.sip(1)).of(&user, &password)
        };
        let phones = (0..PHONES).map(phone).collect();
        Pair { name, mesh, phones, alice, bob, registration: Cost::default(), call: Cost::default() }
    }

    /// CPU time of both nodes, in seconds.
    fn cpu_s(&self) -> f64 {
        self.mesh.nodes.iter().map(|node| node.cpu_ticks() as f64 / TICKS_S).sum()
    }

    fn bytes(&self, capture: &Capture) -> usize {
        // What passes between the two has the port of either; over loopback it is seen as it leaves and as it arrives (packet(7)).
        capture.len(self.mesh.nodes[0].link().port()) / 2
    }

    fn register(&mut self, capture: &Capture) {
        let (cpu_s, bytes) = (self.cpu_s(), self.bytes(capture));
        for number in 0..REGISTRATIONS {
            let begin = Instant::now();
            let expires = if number % 2 == 0 { 600 } else { 0 };
            assert_eq!(self.phones[number / 2 % PHONES].try_register(expires).status(), 200);
            self.registration.waits_us.push(begin.elapsed().as_micros());
            std::thread::sleep(PACE.saturating_sub(begin.elapsed()));
        }
        self.registration.cpu_s += self.cpu_s() - cpu_s;
        self.registration.bytes += self.bytes(capture) - bytes;
    }

    fn call(&mut self, capture: &Capture) {
        let (cpu_s, bytes) = (self.cpu_s(), self.bytes(capture));
        for _ in 0..CALLS {
            let begin = Instant::now();
            let invite = self.alice.request("INVITE", "sip:bob@mesh.test").with_body("application/sdp", SDP);
            let sent = self.alice.start(&invite);
            let ringing = self.bob.incoming("INVITE");
            // Until it rings, which is when a caller would notice.
            self.call.waits_us.push(begin.elapsed().as_micros());
            self.bob.reply(&ringing, 486, "Busy Here", "");
            self.bob.incoming("ACK");
            assert_eq!(self.alice.final_answer(&sent).status(), 486);
            std::thread::sleep(PACE.saturating_sub(begin.elapsed()));
        }
        self.call.cpu_s += self.cpu_s() - cpu_s;
        self.call.bytes += self.bytes(capture) - bytes;
    }
}

impl Cost {
    fn row(&mut self, what: &str, signed: &str) -> String {
        let count = self.waits_us.len();
        self.waits_us.sort_unstable();
        let at = |share: usize| self.waits_us[(count - 1) * share / 100];
        let cpu_us = self.cpu_s * 1e6 / count as f64;
        format!("{what},{signed},{count},{cpu_us:.0},{},{},{}", self.bytes / count, at(50), at(99))
    }
}

#[test]
#[ignore = "it measures, for two minutes, and wants a quiet machine: make prices"]
fn prices() {
    if !in_own_network("prices") {
        return;
    }
    let capture = Capture::start();
    let mut pairs = [Pair::start("signed", &[]), Pair::start("unsigned", &["--dangerous-unsigned"])];
    // The first of everything opens streams, verifies certificates that are known from then on, and fills caches.
    for pair in &mut pairs {
        pair.register(&capture);
        pair.call(&capture);
        (pair.registration, pair.call) = Default::default();
    }
    for _ in 0..ROUNDS {
        for pair in &mut pairs {
            pair.register(&capture);
        }
        for pair in &mut pairs {
            pair.call(&capture);
        }
    }
    let mut table = "what,nodes,count,cpu_us,bytes_between_nodes,wait_p50_us,wait_p99_us\n".to_owned();
    for pair in &mut pairs {
        for (what, cost) in [("registration", &mut pair.registration), ("call", &mut pair.call)] {
            writeln!(table, "{}", cost.row(what, pair.name)).unwrap();
        }
    }
    println!("{}", table.replace(',', "\t"));
    if let Some(path) = std::env::var_os("PRICES") {
        std::fs::write(path, table).expect("the table is written");
    }
}
