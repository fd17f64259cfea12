//! A node that decides by itself whether it serves, over several runs with the same store.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::NodeId;
use meshtone_overlay::dht::body::{Ask, Reply};
use meshtone_overlay::dht::message::{Answer, Message};
use meshtone_overlay::dht::{Config, PersistChange, RoleChoice, RoleReason};

use crate::support::{BEGIN_MS, Lone, descriptor, neighbour};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Its neighbours, whom it tests its reach by.
const NEIGHBOURS: u8 = 4;

/// A machine with a disk.
struct Machine {
    lone: Lone,
    disk: BTreeMap<Bytes, Bytes>,
}

impl Machine {
    fn new() -> Self {
        Self { lone: lone_at(BEGIN_MS), disk: BTreeMap::new() }
    }

    /// It runs, with nobody about: only time passes.
    fn is_on(&mut self, duration: Duration) {
        self.lone.pass(duration);
        self.write_down();
    }

    /// It has met others, and does as long as it takes to find its role: there are hundreds of nodes, who find it reachable.
    fn meets_others(&mut self) -> (bool, RoleReason) {
        self.lone.dht.await_others(self.lone.now);
        (1..=NEIGHBOURS).for_each(|number| self.lone.link(neighbour(number)));
        let end = self.lone.now.instant + MINUTE * 13;
        while self.lone.now.instant < end {
            let next = self.lone.dht.poll_timeout().map_or(end, |(at, _)| at.min(end));
            self.lone.pass(next.saturating_duration_since(self.lone.now.instant));
            // Answers bring new questions.
            (0..4).for_each(|_| self.answer_all());
        }
        self.lone.events();
        self.write_down();
        (self.lone.dht.serves(), self.lone.dht.role_reason())
    }

    fn write_down(&mut self) {
        while let Some(change) = self.lone.dht.poll_persist() {
            match change {
                PersistChange::Put { key, value } => drop(self.disk.insert(key, value)),
                PersistChange::Remove { key } => drop(self.disk.remove(&key)),
            }
        }
    }

    fn answer_all(&mut self) {
        for (to, message) in self.lone.sent() {
            match message {
                Message::Request(request) => {
                    let Ok(Ask::Find(place)) = Ask::decode(&request.body) else { continue };
                    let responder = if request.exact { NodeId::from_bytes(request.target.0) } else { to };
                    let nodes = around(place.0).map(descriptor).collect();
                    let (origin, number, body) = (request.origin, request.request, Reply::Nodes.encode().into());
                    let answer = Answer { origin, request: number, responder, hops: 2, nodes, body };
                    self.lone.hear(to, &Message::Answer(answer).encode());
                }
                Message::Test { number } => {
                    let mut dialler = *to.as_bytes();
                    dialler[0] ^= 0x80;
                    let (dialler, reached) = (NodeId::from_bytes(dialler), Some(Bytes::from_static(b"here")));
                    self.lone.hear(to, &Message::Report { number, dialler, reached }.encode());
                }
                Message::Answer(_)
                | Message::Acknowledge { .. }
                | Message::Neighbours(_)
                | Message::Role { .. }
                | Message::DialBack(_)
                | Message::DialledBack { .. }
                | Message::Report { .. }
                | Message::Introduce { .. }
                | Message::Meet(_)
                | Message::Visit => {}
            }
        }
    }

    /// It is off, and starts again.
    fn is_off(&mut self, duration: Duration) {
        let passed = u64::try_from(duration.as_millis()).unwrap();
        self.lone = lone_at(self.lone.now.unix_ms + passed);
        self.lone.dht.restore(self.lone.now, self.disk.clone());
    }
}

fn lone_at(unix_ms: u64) -> Lone {
    Lone::started_at(unix_ms, Config { role: RoleChoice::Auto, persist: true, ..Config::default() })
}

/// Eight nodes as close to a place as where there are hundreds.
fn around(place: [u8; 32]) -> impl Iterator<Item = NodeId> {
    (1..=8).map(move |number| {
        let mut id = place;
        id[1] ^= number * 16;
        NodeId::from_bytes(id)
    })
}

#[test]
fn who_is_away_for_half_of_each_day_stays_ordinary_though_others_reach_it_and_serves_once_it_stays() {
    let mut machine = Machine::new();
    assert_eq!(machine.meets_others(), (true, RoleReason::Reached), "on its first day only this run counts");
    for _ in 0..2 {
        machine.is_on(HOUR * 12);
        machine.is_off(HOUR * 12);
    }
    assert_eq!(machine.meets_others(), (false, RoleReason::OftenAway));
    machine.is_on(HOUR * 60);
    assert_eq!(machine.meets_others(), (true, RoleReason::Reached));
}

#[test]
fn who_is_but_restarted_serves_again_as_soon_as_others_reach_it() {
    let mut machine = Machine::new();
    for _ in 0..5 {
        machine.is_on(HOUR * 12);
        machine.is_off(MINUTE * 4);
    }
    assert_eq!(machine.meets_others(), (true, RoleReason::Reached));
}

#[test]
fn a_machine_that_sleeps_all_day_while_its_node_runs_is_away_as_well() {
    let mut machine = Machine::new();
    for _ in 0..3 {
        machine.is_on(HOUR);
        machine.lone.pass_asleep(HOUR * 23);
    }
    assert_eq!(machine.meets_others(), (false, RoleReason::OftenAway));
}
