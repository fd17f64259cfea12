//! 32 nodes over real links write and read while links are cut, the network falls apart, and heals. The history is judged by the
//! same checker as those of the simulator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::print_stdout)]

mod overlay_support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;
use meshtone_overlay::record::SipRegistration;
use meshtone_overlay::{Kind, Overlay};
use meshtone_sim::Seeded;
use meshtone_sim::chaos::SETTLING;
use meshtone_sim::history::{Entry, History};
use meshtone_sim::overlay::registration;
use overlay_support::network::{cut, cut_link, heal, in_own_network};
use overlay_support::{World, address, eventually};

const NODES: usize = 32;
/// Names that are written and read; few, so that calls meet.
const RECORDS: usize = 4;
/// Two writers on the one side, one on the other.
const WRITERS: [usize; 3] = [3, 7, 20];
const READERS: usize = 6;
/// What each writer, and each reader, does in one stretch.
const WRITES: usize = 12;
const READS: usize = 20;
/// Links cut one by one while the network is whole.
const CUT_LINKS: usize = 20;
const HOUR: Duration = Duration::from_secs(3600);
const SEED: u64 = 32;

#[test]
#[ignore = "32 nodes that wait for a processor lose their links: `make links` on a quiet machine"]
fn histories_over_real_links_that_are_cut_and_healed_stand_before_the_checker() {
    if in_own_network("histories_over_real_links_that_are_cut_and_healed_stand_before_the_checker") {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(play());
    }
}

async fn play() {
    let run = Arc::new(Run::start().await);
    assert_eq!(run.stretch().await, 0, "nothing is wrong yet");

    run.cut_some_links();
    assert_eq!(run.stretch().await, 0, "around a link that is cut there are ways");

    heal();
    cut("127.0.1.0/24", "127.0.2.0/24");
    run.history().cut(run.now(), (0..NODES).map(|node| (node, side(node))).collect(), BTreeSet::new());
    // Nobody has noticed yet: what is written now may wait in vain for the other side.
    run.stretch().await;
    eventually(async || (0..NODES).all(|node| run.linked_sides(node) == BTreeSet::from([side(node)]))).await;
    assert_eq!(run.stretch().await, 0, "each side goes on by itself");

    heal();
    let healed = run.now();
    run.history().cut(healed, BTreeMap::new(), BTreeSet::new());
    run.agreed().await;
    // One right answer each is not all that was promised for then.
    tokio::time::sleep((healed + SETTLING).saturating_sub(run.now())).await;
    assert_eq!(run.stretch().await, 0, "it is one network again");
    run.agreed().await;

    let history = run.history();
    let (written, read) = history.size();
    println!("{written} writes acknowledged, {read} reads ended, {:?}", run.now());
    assert!(written >= 4 * WRITERS.len() * WRITES && read >= 4 * READERS * READS, "{written} writes, {read} reads");
    let violations: Vec<String> = history.violations().iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{violations:#?}");
}

/// 32 nodes and what they did.
struct Run {
    nodes: Vec<Overlay>,
    numbers: BTreeMap<NodeId, usize>,
    history: Mutex<History>,
    /// What was last begun to be written, and whether it exists.
    last: Mutex<BTreeMap<Entry, (u64, bool)>>,
    random: Mutex<Seeded>,
    started: Instant,
}

/// The first half of the nodes is on one side of the cut.
fn side(node: usize) -> usize {
    usize::from(node >= NODES / 2)
}

fn ip(node: usize) -> Ipv4Addr {
    let side = u8::try_from(side(node)).unwrap();
    Ipv4Addr::new(127, 0, side + 1, u8::try_from(node + 1).unwrap())
}

fn name(record: usize) -> String {
    format!("user{record}@example.org")
}

impl Run {
    /// Starts the nodes and waits until each has found its place.
    async fn start() -> Run {
        let world = World::new();
        let mut nodes: Vec<Overlay> = Vec::new();
        for number in 0..NODES {
            let mut config = world.config(Some("example.org"));
            config.bind = vec![SocketAddr::from((ip(number), 0))];
            config.bootstrap = nodes.first().map(address).into_iter().collect();
            nodes.push(Overlay::start(config).await.unwrap());
        }
        // Nobody needs to know everybody; who knows most knows its neighbourhood.
        eventually(async || nodes.iter().all(|node| node.nodes_known() >= NODES * 2 / 3)).await;
        Run {
            numbers: nodes.iter().map(Overlay::node_id).zip(0..).collect(),
            nodes,
            history: Mutex::new(History::new(SETTLING)),
            last: Mutex::default(),
            random: Mutex::new(Seeded::new(SEED)),
            started: Instant::now(),
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn below(&self, bound: usize) -> usize {
        self.random.lock().unwrap().below(bound)
    }

    /// The sides that a node has links to.
    fn linked_sides(&self, node: usize) -> BTreeSet<usize> {
        self.nodes[node]
            .links()
            .iter()
            .filter_map(|link| self.numbers.get(&link.node))
            .map(|number| side(*number))
            .collect()
    }

    fn cut_some_links(&self) {
        for _ in 0..CUT_LINKS {
            let one = self.below(NODES);
            let other = (one + 1 + self.below(NODES - 1)) % NODES;
            cut_link(ip(one), ip(other));
        }
    }

    /// Has all writers and readers do their part at the same time; returns how many calls failed.
    async fn stretch(self: &Arc<Self>) -> usize {
        let mut tasks = Vec::new();
        for writer in WRITERS {
            let run = Arc::clone(self);
            tasks.push(tokio::spawn(async move { run.write_on(writer).await }));
        }
        for _ in 0..READERS {
            let run = Arc::clone(self);
            tasks.push(tokio::spawn(async move { run.read_on().await }));
        }
        let mut failed = 0;
        for task in tasks {
            failed += task.await.unwrap();
        }
        failed
    }

    async fn write_on(&self, writer: usize) -> usize {
        let mut failed = 0;
        for _ in 0..WRITES {
            let entry = Entry { record: self.below(RECORDS), writer };
            let exists = self.below(4) > 0;
            let (call, sequence) = self.history().write_began(self.now(), entry, exists);
            self.last.lock().unwrap().insert(entry, (sequence, exists));
            let (node, name) = (&self.nodes[writer], name(entry.record));
            let written = if exists {
                node.publish(Kind::SipRegistration, &name, registration(sequence), HOUR).await
            } else {
                node.remove(Kind::SipRegistration, &name).await
            };
            match written {
                Ok(()) => self.history().write_acknowledged(self.now(), call),
                Err(error) => {
                    println!("{:?}: writer {writer}: {error}", self.now());
                    failed += 1;
                }
            }
        }
        failed
    }

    async fn read_on(&self) -> usize {
        let mut failed = 0;
        for _ in 0..READS {
            let (node, record) = (self.below(NODES), self.below(RECORDS));
            let call = self.history().read_began(self.now(), node, record);
            match self.read(node, record).await {
                Some(found) => self.history().read_ended(self.now(), call, found),
                None => failed += 1,
            }
        }
        failed
    }

    /// What a node is shown of a name: the number of the write, by writer.
    async fn read(&self, node: usize, record: usize) -> Option<BTreeMap<usize, u64>> {
        let entries = match self.nodes[node].fetch(Kind::SipRegistration, &name(record)).await {
            Ok(entries) => entries,
            Err(error) => {
                println!("{:?}: reader {node}: {error}", self.now());
                return None;
            }
        };
        let shown = entries.iter().map(|entry| {
            // A writer or a content that nobody knows shows up as a write that never was.
            let writer = self.numbers.get(&entry.writer).copied().unwrap_or(usize::MAX);
            (writer, SipRegistration::decode(&entry.value).map_or(u64::MAX, |value| value.updated_ms))
        });
        Some(shown.collect())
    }

    /// Waits until everybody is shown the last that each writer wrote.
    async fn agreed(&self) {
        for node in 0..NODES {
            for record in 0..RECORDS {
                let last = self.last.lock().unwrap().clone();
                let of_record = last.into_iter().filter(|(entry, (_, exists))| entry.record == record && *exists);
                let wanted: BTreeMap<usize, u64> =
                    of_record.map(|(entry, (sequence, _))| (entry.writer, sequence)).collect();
                eventually(async || self.read(node, record).await.as_ref() == Some(&wanted)).await;
            }
        }
    }
}
