//! Many calls between people whose networks are mixed in given shares, and what relaying them costs the public ones.

use std::time::Instant;

use super::{Network, Way, play};
use crate::random::Seeded;

/// Shares of networks, in thousandths of all nodes.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    /// Public ones.
    pub public: usize,
    /// Behind cones.
    pub cone: usize,
    /// Behind boxes that map by destination.
    pub symmetric: usize,
    /// Behind firewalls without UDP.
    pub blocked: usize,
}

/// What came of the calls, shares of all.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// From end to end.
    pub direct: f64,
    /// Relayed over UDP.
    pub relayed_udp: f64,
    /// Relayed, with one end at least over TCP.
    pub relayed_tcp: f64,
    /// What a public node carries, where its own calls are 1: each of others comes in and goes out.
    pub load: f64,
    /// The same where public nodes relay those over TCP alone.
    pub load_tcp: f64,
}

/// Nodes among whom the calls are: as many as thousandths, so that shares are exact.
const NODES: usize = 1000;

/// Plays `calls` calls of every node, and as many to every node: all stand in a ring by lot, another one each time, and each calls the next. So
/// everybody calls as often as he is called, and only who meets whom is left to the lot. One that needs a relay gets a public node by
/// lot. `None` where a call found no way, or nobody is public.
pub fn play_all(start: Instant, mix: Mix, calls: usize, seed: u64) -> Option<Outcome> {
    let kinds = [
        (Network::Public, mix.public),
        (Network::Cone, mix.cone),
        (Network::Symmetric, mix.symmetric),
        (Network::Blocked, mix.blocked),
    ];
    let nodes: Vec<Network> = kinds.iter().flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count)).collect();
    assert_eq!(nodes.len(), NODES, "shares are thousandths and come to a thousand");
    let mut random = Seeded::new(seed);
    // Streams that each public node carries: its own calls once, others' twice.
    let mut carried = vec![(0_usize, 0_usize); mix.public];
    let mut ways = [0_usize; 3];
    let mut ring: Vec<usize> = (0..NODES).collect();
    for _ in 0..calls {
        for last in (1..NODES).rev() {
            ring.swap(last, random.below(last + 1));
        }
        for (caller, callee) in ring.iter().copied().zip(ring.iter().copied().cycle().skip(1)) {
            let networks = [*nodes.get(caller)?, *nodes.get(callee)?];
            let way = play(start, networks, random.next());
            // The first ones are the public ones.
            if let Some((own, over_tcp)) = carried.get_mut(caller) {
                *own += 1;
                *over_tcp += 1;
            }
            let index = match way {
                Way::Direct => 0,
                Way::RelayedUdp => 1,
                Way::RelayedTcp => 2,
                Way::None => return None,
            };
            *ways.get_mut(index)? += 1;
            if way != Way::Direct {
                let (all, over_tcp) = carried.get_mut(random.below(mix.public))?;
                *all += 2;
                *over_tcp += if way == Way::RelayedTcp { 2 } else { 0 };
            }
        }
    }
    let share = |count: usize, of: usize| count as f64 / of as f64;
    let [direct, relayed_udp, relayed_tcp] = ways.map(|count| share(count, NODES * calls));
    let own = mix.public * calls;
    Some(Outcome {
        direct,
        relayed_udp,
        relayed_tcp,
        load: share(carried.iter().map(|(all, _)| all).sum(), own),
        load_tcp: share(carried.iter().map(|(_, over_tcp)| over_tcp).sum(), own),
    })
}
