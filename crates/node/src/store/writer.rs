//! The one thread that writes to the database.
//!
//! Pending writes are kept by key, so a phone that refreshes ten times within one commit is written once, and what
//! waits is bounded by the number of distinct keys: the callers' own bounds on accounts and bindings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::Database;

use super::{StoreError, Table};

/// A write is committed at latest this long after it was put. Long enough to share one `fsync` among the
/// registrations of a busy moment, short enough that a crash forgets nothing a phone would not send again anyway.
pub const COMMIT_WITHIN: Duration = Duration::from_millis(20);

/// How far the thread stands back: a tenth of the processor is its when others want all of it, which writes more than there can be to
/// write.
const NICENESS: i32 = 10;

/// After a failed commit (a full disk, say) the next attempt waits this long, unless somebody asks for a flush.
const RETRY_AFTER: Duration = Duration::from_secs(1);

type Pending = BTreeMap<(Table, String), Option<Vec<u8>>>;

#[derive(Default)]
struct State {
    pending: Pending,
    /// What the thread is committing right now; still read from here until it is on disk.
    committing: Arc<Pending>,
    /// Puts so far, and how many of them are on disk.
    put: u64,
    durable: u64,
    /// How often a commit failed, and why it did the last time.
    failures: u64,
    reason: String,
    flush_wanted: bool,
    closing: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the thread.
    work: Condvar,
    /// Wakes those who flush.
    done: Condvar,
    path: PathBuf,
}

impl Shared {
    /// A panic while the lock was held leaves only whole values behind, so poison is no reason to lose the rest.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(database: Arc<Database>, path: PathBuf) -> Result<Writer, StoreError> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            path: path.clone(),
        });
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&shared, &database)
            })
            .map_err(|source| StoreError::Io { path, source })?;
        Ok(Writer { shared, thread: Some(thread) })
    }

    pub(super) fn put(&self, table: Table, key: &str, value: Option<Vec<u8>>) {
        let mut state = self.shared.lock();
        let was_idle = state.pending.is_empty();
        state.pending.insert((table, key.to_owned()), value);
        state.put += 1;
        if was_idle {
            self.shared.work.notify_one();
        }
    }

    /// The value put last, while it is not on disk yet.
    pub(super) fn pending(&self, table: Table, key: &str) -> Option<Option<Vec<u8>>> {
        let state = self.shared.lock();
        let key = (table, key.to_owned());
        state.pending.get(&key).or_else(|| state.committing.get(&key)).cloned()
    }

    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let mut state = self.shared.lock();
        let (target, failures) = (state.put, state.failures);
        while state.durable < target {
            if state.failures > failures {
                return Err(StoreError::Write { path: self.shared.path.clone(), reason: state.reason.clone() });
            }
            state.flush_wanted = true;
            self.shared.work.notify_one();
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread catches its own failures; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, database: &Database) {
    // Whoever waits for an answer comes first: on a busy processor a commit, which may take milliseconds, gives way. Where the
    // system does not let us be modest, it is as before.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    loop {
        let (batch, upto, closing) = {
            let mut state = shared.lock();
            while state.pending.is_empty() && !state.closing {
                state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if !state.closing && !state.flush_wanted {
                state = wait(shared, state, COMMIT_WITHIN);
            }
            state.flush_wanted = false;
            state.committing = Arc::new(std::mem::take(&mut state.pending));
            (Arc::clone(&state.committing), state.put, state.closing)
        };
        let outcome = if batch.is_empty() { Ok(()) } else { commit(database, &batch) };
        drop(batch);

        let mut state = shared.lock();
        let committed = std::mem::take(&mut state.committing);
        match outcome {
            Ok(()) => state.durable = upto,
            Err(error) => {
                tracing::error!(%error, path = %shared.path.display(), "the store cannot be written; it is tried again");
                state.failures += 1;
                state.reason = error.to_string();
                // What was put meanwhile is newer.
                let newer = std::mem::take(&mut state.pending);
                state.pending = Arc::unwrap_or_clone(committed);
                state.pending.extend(newer);
            }
        }
        shared.done.notify_all();
        if closing {
            return;
        }
        if !state.pending.is_empty() && state.durable < upto {
            drop(wait(shared, state, RETRY_AFTER));
        }
    }
}

/// Waits until the time is up, or somebody wants a flush or the end.
fn wait<'a>(shared: &'a Shared, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
    shared
        .work
        .wait_timeout_while(state, limit, |state| !state.flush_wanted && !state.closing)
        .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state)
}

fn commit(database: &Database, batch: &Pending) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    for table in Table::ALL {
        let mut rows = batch.iter().filter(|((of, _), _)| *of == table).peekable();
        if rows.peek().is_none() {
            continue;
        }
        let mut opened = write.open_table(table.definition())?;
        for ((_, key), value) in rows {
            match value {
                Some(value) => opened.insert(key.as_str(), value.as_slice())?,
                None => opened.remove(key.as_str())?,
            };
        }
    }
    write.commit()?;
    Ok(())
}
