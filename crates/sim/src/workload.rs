//! Many commands at once: what measures an overlay, as tests and the report need it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use meshtone_overlay::dht::{Descriptor, DhtError, Event, Fetched, Now, OperationId, Position, StoreReceipt};
use meshtone_overlay::record::Kind;

use crate::overlay::{Overlay, OverlayNode};

/// Pause between commands that are begun one after the other: a thousand of them are under way long before anybody notices that a
/// peer has fallen silent.
const PACE: Duration = Duration::from_millis(1);

/// No command lives for as long as this.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done<T> {
    /// The node that gave it.
    pub node: usize,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub result: Result<T, DhtError>,
}

impl Overlay {
    /// Writes each name once at its node, without keeping it published, and waits until all writes have ended. In the order given.
    ///
    /// # Panics
    /// When a node may not write what it is told to, which is a mistake of the test.
    pub fn store_all(&mut self, kind: Kind, writes: &[(usize, String)], content: &Bytes) -> Vec<Done<StoreReceipt>> {
        self.store_all_by(kind, writes, content, false)
    }

    /// The same, recursively or iteratively.
    ///
    /// # Panics
    /// As [`store_all`](Self::store_all).
    pub fn store_all_by(
        &mut self,
        kind: Kind,
        writes: &[(usize, String)],
        content: &Bytes,
        iteratively: bool,
    ) -> Vec<Done<StoreReceipt>> {
        let lifetime = kind.rules().max_lifetime;
        let begin = |node: &mut OverlayNode, now: Now, name: &String| {
            let id = if iteratively {
                node.dht.store_iteratively(now, kind, name, content.clone(), lifetime)
            } else {
                node.dht.store(now, kind, name, content.clone(), lifetime)
            };
            id.unwrap_or_else(|error| panic!("{name} cannot be written: {error}"))
        };
        self.all(
            writes,
            begin,
            |event| if let Event::Stored { id, result } = event { Some((id, result)) } else { None },
        )
    }

    /// Reads each name at its node until the first verified value, and waits until all reads have ended. In the order given.
    pub fn fetch_all(&mut self, kind: Kind, reads: &[(usize, String)]) -> Vec<Done<Fetched>> {
        self.all(
            reads,
            |node, now, name| node.dht.fetch_first(now, kind, name),
            |event| {
                if let Event::Fetched { id, result } = event { Some((id, result)) } else { None }
            },
        )
    }

    /// Reads each name at its node until enough replicas have answered, recursively or iteratively, and waits until all reads have
    /// ended. In the order given.
    pub fn fetch_all_by(&mut self, kind: Kind, reads: &[(usize, String)], iteratively: bool) -> Vec<Done<Fetched>> {
        let begin = |node: &mut OverlayNode, now: Now, name: &String| {
            if iteratively { node.dht.fetch_iteratively(now, kind, name) } else { node.dht.fetch(now, kind, name) }
        };
        self.all(
            reads,
            begin,
            |event| if let Event::Fetched { id, result } = event { Some((id, result)) } else { None },
        )
    }

    /// Lets so many nodes join one after the other, each of which may settle for so long, and returns how many copies of what lies
    /// under these names they hold then.
    pub fn copies_moved(
        &mut self,
        domain: &str,
        kind: Kind,
        names: &[String],
        joins: usize,
        settling: Duration,
    ) -> usize {
        let join = |_| {
            let newcomer = self.add(&[domain], Some(0));
            self.network.run_for(settling);
            names.iter().filter(|name| self.holders(kind, name).contains(&newcomer)).count()
        };
        (0..joins).map(join).sum()
    }

    /// Looks at each node for the nodes closest to a place, recursively or iteratively, and waits until all look-ups have ended. In
    /// the order given.
    pub fn find_all(&mut self, places: &[(usize, Position)], iteratively: bool) -> Vec<Done<Vec<Descriptor>>> {
        let begin = |node: &mut OverlayNode, now: Now, place: &Position| {
            if iteratively { node.dht.find_iteratively(now, *place) } else { node.dht.find(now, *place) }
        };
        self.all(places, begin, |event| if let Event::Found { id, result } = event { Some((id, result)) } else { None })
    }

    fn all<C, T>(
        &mut self,
        commands: &[(usize, C)],
        begin: impl Fn(&mut OverlayNode, Now, &C) -> OperationId,
        answer: impl Fn(Event) -> Option<(OperationId, Result<T, DhtError>)>,
    ) -> Vec<Done<T>> {
        let mut under_way: BTreeMap<(usize, OperationId), (usize, Duration)> = BTreeMap::new();
        let mut done: BTreeMap<usize, Done<T>> = BTreeMap::new();
        let mut take = |at: Duration, node: usize, event: Event, under_way: &mut BTreeMap<_, (usize, Duration)>| {
            if let Some((id, result)) = answer(event)
                && let Some((index, since)) = under_way.remove(&(node, id))
            {
                done.insert(index, Done { node, took: at.saturating_sub(since), result });
            }
        };
        for (index, (node, command)) in commands.iter().enumerate() {
            let since = self.network.elapsed();
            let id = self.network.with(*node, |driver, now| begin(driver, now, command));
            under_way.insert((*node, id), (index, since));
            let next = since + PACE;
            while let Some((node, event)) = self.network.next_event(next.saturating_sub(self.network.elapsed())) {
                take(self.network.elapsed(), node, event, &mut under_way);
            }
            self.network.run_for(next.saturating_sub(self.network.elapsed()));
        }
        while !under_way.is_empty() {
            let Some((node, event)) = self.network.next_event(PATIENCE) else {
                panic!("{} commands never ended", under_way.len())
            };
            take(self.network.elapsed(), node, event, &mut under_way);
        }
        done.into_values().collect()
    }
}
