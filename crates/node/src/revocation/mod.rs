//! Which nodes the overlay's authority has revoked, and how that gets around.
//!
//! Such a statement does not stand at a place in the overlay, which the revoked node might hold: every node keeps all of them and tells
//! its neighbours, at once when it hears of one, and whenever a link comes up. A node that is linked so knows within seconds; one that
//! is cut off goes by what it knew. Each statement is verified, so nobody revokes a node by telling so.

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meshtone_identity::revocation::ENCODED;
use meshtone_identity::{AuthorityCertificate, Es256, NodeId, Revocation};
use meshtone_overlay::record::Revoked;
use meshtone_overlay::record::revoked::MAX_REVOKED;
use meshtone_overlay::{LinkEvent, Overlay, Protocol};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock::unix_s;
use crate::store::cbor::{Blob, to_cbor};
use crate::store::{Setting, Store, StoreError};

/// Neighbours told at a time: each may take as long as its link is slow.
const TOLD_AT_ONCE: usize = 8;
/// Streams answered at once; a neighbour that is turned away comes again.
const ANSWERED_AT_ONCE: usize = 32;
/// How long telling one may take.
const WITHIN: Duration = Duration::from_secs(10);
/// When those are told again that could not be.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How often a neighbour is tried: programs of earlier releases do not listen.
const TRIES: u32 = 6;

/// What this node knows of revoked nodes. Clones are the same.
#[derive(Clone)]
pub(crate) struct Revocations(Arc<Inner>);

struct Inner {
    revoked: Revoked,
    authority: AuthorityCertificate,
    store: Store,
    own: NodeId,
    news: Notify,
    /// Nodes of which the overlay has still to be cleaned.
    fresh: Mutex<BTreeSet<NodeId>>,
}

impl Revocations {
    /// Takes up what was known before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn open(store: Store, authority: AuthorityCertificate, own: NodeId) -> Result<Self, StoreError> {
        let kept = store.setting(Setting::Revocations)?;
        // One that cannot be read is heard of again from any neighbour.
        let kept: Vec<Blob> = kept.and_then(|bytes| ciborium::from_reader(bytes.as_slice()).ok()).unwrap_or_default();
        let (revoked, news, fresh) = (Revoked::default(), Notify::new(), Mutex::default());
        let this = Self(Arc::new(Inner { revoked, authority, store, own, news, fresh }));
        let kept: Vec<[u8; ENCODED]> = kept.into_iter().filter_map(|Blob(bytes)| bytes.try_into().ok()).collect();
        for encoded in &kept {
            this.insert(encoded);
        }
        Ok(this)
    }

    /// What links and records are judged by.
    pub(crate) fn revoked(&self) -> Revoked {
        self.0.revoked.clone()
    }

    /// This node.
    pub(crate) fn own(&self) -> NodeId {
        self.0.own
    }

    /// Whether this node itself is revoked.
    pub(crate) fn of_own(&self) -> bool {
        self.0.revoked.contains(&self.0.own)
    }

    /// Whether there may be one more.
    pub(crate) fn has_room(&self) -> bool {
        self.0.revoked.forget_ended(unix_s());
        self.0.revoked.all().len() < MAX_REVOKED
    }

    /// Takes up statements, as their authority or somebody on the way sends them. What is not the authority's is passed over. Durable
    /// on return; blocks for an `fsync` where there is news.
    ///
    /// # Errors
    /// [`StoreError::Write`]: it counts here, but may be forgotten by a restart.
    pub(crate) fn take(&self, encoded: &[[u8; ENCODED]]) -> Result<(), StoreError> {
        let news: Vec<NodeId> = encoded.iter().filter_map(|encoded| self.insert(encoded)).collect();
        if news.is_empty() {
            return Ok(());
        }
        for node in &news {
            if *node == self.0.own {
                tracing::warn!("the overlay's authority has revoked this node: no other node speaks to it any more");
            } else {
                tracing::warn!(%node, "the overlay's authority has revoked a node");
            }
        }
        self.0.fresh.lock().unwrap_or_else(PoisonError::into_inner).extend(news);
        let all: Vec<Blob> = self.0.revoked.all().iter().map(|said| Blob(said.encoded().to_vec())).collect();
        self.0.store.put_setting(Setting::Revocations, to_cbor(&all));
        self.0.news.notify_one();
        self.0.store.flush()
    }

    /// Tells neighbours and hears from them, until the node stops.
    pub(crate) async fn run(self, overlay: Overlay) {
        let mut events = overlay.subscribe();
        let mut incoming = overlay.accept_streams(Protocol::Revocations);
        let mut again = interval(AGAIN_AFTER);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut neighbours = Neighbours::new(self.clone(), overlay.clone());
        neighbours.add_all();
        let mut answers = JoinSet::new();
        // What the last run held of them is held again.
        for said in self.0.revoked.all() {
            let _ = overlay.forget_writer(said.node()).await;
        }
        loop {
            neighbours.tell_some();
            tokio::select! {
                event = events.recv() => match event {
                    Ok(LinkEvent::Up { node, .. }) => neighbours.add(node),
                    Ok(LinkEvent::Down { node }) => neighbours.remove(node),
                    Err(RecvError::Lagged(_)) => neighbours.add_all(),
                    Err(RecvError::Closed) => return,
                },
                Some(stream) = incoming.recv() => {
                    if answers.len() < ANSWERED_AT_ONCE {
                        answers.spawn(timeout(WITHIN, wire::answer(self.clone(), stream)));
                    }
                }
                Some(_) = answers.join_next() => {}
                Some(Ok(told)) = neighbours.telling.join_next() => neighbours.on_told(told),
                () = self.0.news.notified() => {
                    let fresh = std::mem::take(&mut *self.0.fresh.lock().unwrap_or_else(PoisonError::into_inner));
                    for node in fresh {
                        // Stopped: nothing is held any more.
                        let _ = overlay.forget_writer(node).await;
                    }
                    neighbours.add_all();
                }
                _ = again.tick() => neighbours.later.clear(),
            }
        }
    }

    /// Which node it revokes, where that is news.
    fn insert(&self, encoded: &[u8; ENCODED]) -> Option<NodeId> {
        let said = Revocation::verify(&Es256, encoded, &self.0.authority).ok()?;
        let node = said.node();
        (said.ends() >= unix_s() && self.0.revoked.insert(said)).then_some(node)
    }

    async fn take_on_thread(&self, encoded: Vec<[u8; ENCODED]>) {
        let this = self.clone();
        let taken = tokio::task::spawn_blocking(move || this.take(&encoded)).await;
        if let Ok(Err(error)) = taken {
            tracing::error!(%error, "a revocation may be forgotten by a restart");
        }
    }
}

impl std::fmt::Debug for Revocations {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Revocations").field("revoked", &self.0.revoked.all().len()).finish_non_exhaustive()
    }
}

/// Who has still to be told.
struct Neighbours {
    this: Revocations,
    overlay: Overlay,
    /// With how often that failed.
    untold: BTreeMap<NodeId, u32>,
    /// Who of them is tried again later.
    later: BTreeSet<NodeId>,
    busy: BTreeSet<NodeId>,
    telling: JoinSet<Told>,
}

/// How telling a neighbour ended.
struct Told {
    node: NodeId,
    failures: u32,
    is_told: bool,
}

impl Neighbours {
    fn new(this: Revocations, overlay: Overlay) -> Self {
        let (untold, later, busy) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { this, overlay, untold, later, busy, telling: JoinSet::new() }
    }

    fn add_all(&mut self) {
        for link in self.overlay.links() {
            self.add(link.node);
        }
    }

    fn add(&mut self, node: NodeId) {
        self.untold.insert(node, 0);
        self.later.remove(&node);
    }

    fn remove(&mut self, node: NodeId) {
        self.untold.remove(&node);
        self.later.remove(&node);
    }

    /// Begins to tell as many as may be told at a time. What is news meanwhile, they are told anew.
    fn tell_some(&mut self) {
        let room = TOLD_AT_ONCE.saturating_sub(self.busy.len());
        let ready = self.untold.iter().filter(|(node, _)| !self.later.contains(node) && !self.busy.contains(node));
        let ready: Vec<_> = ready.take(room).map(|(node, failures)| (*node, *failures)).collect();
        for (node, failures) in ready {
            self.untold.remove(&node);
            self.busy.insert(node);
            let (this, overlay) = (self.this.clone(), self.overlay.clone());
            self.telling.spawn(async move {
                let told = timeout(WITHIN, wire::tell(&this, &overlay, node)).await;
                Told { node, failures: failures + 1, is_told: matches!(told, Ok(Ok(()))) }
            });
        }
    }

    fn on_told(&mut self, told: Told) {
        let Told { node, failures, is_told } = told;
        self.busy.remove(&node);
        // Who is gone is told when it comes again.
        let is_linked = || self.overlay.links().iter().any(|link| link.node == node);
        if !is_told && failures < TRIES && !self.untold.contains_key(&node) && is_linked() {
            self.untold.insert(node, failures);
            self.later.insert(node);
        }
    }
}

#[cfg(test)]
mod tests;
