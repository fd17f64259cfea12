//! Writing down what the DHT holds before anybody is told that it is held.
//!
//! One thread commits. What comes in while it does so shares the next commit: a busy moment costs few of them. Messages
//! of the DHT that may acknowledge a change wait for it here; all others do not come this way.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::Error;
use crate::dht::{PersistChange, Transmit};
use crate::link::Links;

/// Where a node keeps the records it holds for the overlay, over restarts. Keys and values are opaque.
pub trait RecordStore: Send + Sync {
    /// Returns all that is kept. Called once, at the start.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn load(&self) -> Result<Vec<(Bytes, Bytes)>, String>;

    /// Keeps values under their keys, or forgets those without a value. Durable on return; it may block.
    ///
    /// # Errors
    /// Why it could not; it is asked again with the next changes.
    fn write(&self, changes: &[(Bytes, Option<Bytes>)]) -> Result<(), String>;
}

/// Messages that wait for a commit; a disk this slow is a broken one, and further ones are lost as on any network.
const MAX_WAITING: usize = 4096;

/// Whoever waits to hear that a value is stored.
pub(super) type StoreReply = (oneshot::Sender<Result<(), Error>>, Result<(), Error>);

/// The thread that commits; it ends, having written everything, when this is dropped.
pub(super) struct Committer {
    shared: Arc<Shared>,
    ended: Option<oneshot::Receiver<()>>,
}

struct Shared {
    pending: Mutex<Pending>,
    work: Condvar,
}

#[derive(Default)]
struct Pending {
    /// By key, so that it is no larger than what is held.
    changes: BTreeMap<Bytes, Option<Bytes>>,
    transmits: Vec<Transmit>,
    replies: Vec<StoreReply>,
    committing: bool,
    closing: bool,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn start(store: Arc<dyn RecordStore>, links: Links) -> Result<Self, Error> {
        let shared = Arc::new(Shared { pending: Mutex::default(), work: Condvar::new() });
        let (end, ended) = oneshot::channel();
        let of_thread = Arc::clone(&shared);
        let run = move || {
            run(&of_thread, &*store, &links);
            // Nobody may be waiting.
            let _ = end.send(());
        };
        std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(run)
            .map_err(|error| Error::Records(error.to_string()))?;
        Ok(Self { shared, ended: Some(ended) })
    }

    /// Commits changes, and only then sends messages that may acknowledge them.
    pub(super) fn commit(&self, changes: Vec<PersistChange>, transmits: Vec<Transmit>) {
        let mut pending = self.shared.lock();
        for change in changes {
            match change {
                PersistChange::Put { key, value } => pending.changes.insert(key, Some(value)),
                PersistChange::Remove { key } => pending.changes.insert(key, None),
            };
        }
        let room = MAX_WAITING.saturating_sub(pending.transmits.len());
        if room < transmits.len() {
            warn!("the disk is so slow that acknowledgements are lost");
        }
        pending.transmits.extend(transmits.into_iter().take(room));
        self.shared.work.notify_one();
    }

    /// Answers when everything before is committed: our own copy may be the one that counts.
    pub(super) fn reply(&self, reply: StoreReply) {
        let mut pending = self.shared.lock();
        if pending.changes.is_empty() && !pending.committing {
            drop(pending);
            answer(reply);
        } else {
            pending.replies.push(reply);
        }
    }

    /// Waits until all is written.
    pub(super) async fn finish(mut self) {
        self.close();
        if let Some(ended) = self.ended.take() {
            // An error says that the thread is gone, too.
            let _ = ended.await;
        }
    }

    fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// A panic while the lock was held leaves only whole values behind.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(shared: &Shared, store: &dyn RecordStore, links: &Links) {
    // What a failed commit leaves to the next one.
    let mut left: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
    loop {
        let (changes, transmits, replies, closing) = {
            let mut pending = shared.lock();
            while pending.changes.is_empty() && pending.replies.is_empty() && !pending.closing {
                pending = shared.work.wait(pending).unwrap_or_else(PoisonError::into_inner);
            }
            pending.committing = true;
            (
                std::mem::take(&mut pending.changes),
                std::mem::take(&mut pending.transmits),
                std::mem::take(&mut pending.replies),
                pending.closing,
            )
        };
        left.extend(changes);
        let batch: Vec<_> = left.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        match store.write(&batch) {
            Ok(()) => {
                left.clear();
                for transmit in transmits {
                    // Without a link or room the message is lost; the DHT's timers see to it.
                    links.send(transmit.to, transmit.bytes);
                }
            }
            // Nothing is acknowledged then: whoever stores looks for another node.
            Err(why) => error!(why, "the records held cannot be written down; it is tried again with the next ones"),
        }
        shared.lock().committing = false;
        replies.into_iter().for_each(answer);
        if closing {
            return;
        }
    }
}

fn answer((reply, result): StoreReply) {
    // Whoever asked may have given up.
    let _ = reply.send(result);
}
