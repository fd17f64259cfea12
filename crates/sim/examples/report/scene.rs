//! What experiments share: an overlay that has grown, records in it, and reads of them.

use std::time::Duration;

use bytes::Bytes;
use meshtone_overlay::dht::{Config, Fetched};
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::workload::Done;
use meshtone_sim::{Conditions, Overlay, Seeded, Traffic, Trust};

use crate::figures::{Figures, percent};

pub(crate) const KIND: Kind = Kind::SipRegistration;

/// The domain of all nodes.
pub(crate) const DOMAINS: [&str; 1] = ["example.org"];

/// Reads whose figures make one point: one that fails is a tenth of a percent.
pub(crate) const READS: usize = 1000;

/// An overlay with records in it.
pub(crate) struct Scene {
    pub(crate) overlay: Overlay,
    pub(crate) random: Seeded,
    /// The numbers of the records that there are.
    pub(crate) records: Vec<usize>,
}

/// What many reads took.
pub(crate) struct Reads {
    /// Reads that found what there is, in percent.
    pub(crate) found: f64,
    /// Reads that were shown something else.
    pub(crate) wrong: usize,
    pub(crate) hops: Figures,
    pub(crate) requests: Figures,
    pub(crate) times_ms: Figures,
}

impl Scene {
    /// Grows an overlay of forgeable signatures.
    pub(crate) fn grown(seed: u64, nodes: usize, config: Config) -> Self {
        let mut overlay = Overlay::new(seed, Conditions::default(), config);
        overlay.grow_in_waves(nodes, &DOMAINS);
        Self::of(overlay, seed)
    }

    /// Grows an overlay whose records are signed and judged like this.
    pub(crate) fn trusting(seed: u64, nodes: usize, trust: Trust) -> Self {
        let mut overlay = Overlay::with_trust(seed, Conditions::default(), Config::default(), trust);
        overlay.grow_in_waves(nodes, &DOMAINS);
        Self::of(overlay, seed)
    }

    /// Goes on with an overlay that has grown.
    pub(crate) fn of(overlay: Overlay, seed: u64) -> Self {
        Self { overlay, random: Seeded::new(seed), records: Vec::new() }
    }

    /// Draws one of these.
    pub(crate) fn pick(&mut self, of: &[usize]) -> usize {
        of[self.random.below(of.len())]
    }

    /// Draws a share of the nodes; returns those drawn, then the others.
    pub(crate) fn split(&mut self, share_percent: usize) -> (Vec<usize>, Vec<usize>) {
        let mut others = self.overlay.network.alive();
        let count = others.len() * share_percent / 100;
        let drawn = (0..count).map(|_| others.remove(self.random.below(others.len()))).collect();
        (drawn, others)
    }

    /// Stores so many records more, each once, by writers drawn from these. Returns how many of the writes were acknowledged, in
    /// percent.
    pub(crate) fn store(&mut self, records: usize, writers: &[usize]) -> f64 {
        let begin = self.records.len();
        let writes: Vec<(usize, String)> =
            (begin..begin + records).map(|record| (self.pick(writers), name(record))).collect();
        self.records.extend(begin..begin + records);
        let done = self.overlay.store_all(KIND, &writes, &content());
        percent(done.iter().filter(|write| write.result.is_ok()).count(), records)
    }

    /// Makes so many reads on nodes drawn from these, a millisecond apart, each until its first verified value.
    pub(crate) fn reads(&mut self, reads: usize, readers: &[usize]) -> Reads {
        let reads: Vec<(usize, String)> = (0..reads)
            .map(|_| (self.pick(readers), name(self.records[self.random.below(self.records.len())])))
            .collect();
        Reads::of(&self.overlay.fetch_all(KIND, &reads))
    }

    /// Forgets the records of which nobody alive has a copy, so that none of them is read. Returns how many these are.
    pub(crate) fn forget_what_is_gone(&mut self) -> usize {
        let before = self.records.len();
        let overlay = &self.overlay;
        self.records.retain(|record| !overlay.holders(KIND, &name(*record)).is_empty());
        before - self.records.len()
    }

    /// Lets time pass and returns what was sent meanwhile.
    pub(crate) fn traffic_in(&mut self, time: Duration) -> Traffic {
        let before = self.overlay.network.traffic();
        self.overlay.network.run_for(time);
        self.overlay.network.traffic().since(before)
    }
}

impl Reads {
    fn of(done: &[Done<Fetched>]) -> Self {
        let answers: Vec<(Duration, &Fetched)> =
            done.iter().filter_map(|read| Some((read.took, read.result.as_ref().ok()?))).collect();
        let (right, wrong): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .filter(|(_, fetched)| !fetched.entries.is_empty())
            .partition(|(_, fetched)| fetched.entries.iter().all(|entry| entry.value == content()));
        Self {
            found: percent(right.len(), done.len()),
            wrong: wrong.len(),
            hops: Figures::new(right.iter().map(|(_, fetched)| fetched.hops.into())),
            requests: Figures::new(right.iter().map(|(_, fetched)| fetched.requests.into())),
            times_ms: Figures::of_times(right.iter().map(|(took, _)| *took)),
        }
    }
}

pub(crate) fn name(record: usize) -> String {
    format!("user{record}@example.org")
}

pub(crate) fn content() -> Bytes {
    registration(1)
}
