//! Announces in the overlay which addresses are registered here: on change, not at every refresh (the overlay
//! itself refreshes what it was given at half life).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshtone_overlay::node::Overlay;
use meshtone_overlay::record::{Kind, SipRegistration};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock::unix_ms;

/// How long a registration outlives a node that died without a word. Refreshed at half of it.
const LIFETIME: Duration = Duration::from_secs(600);
/// Announcements under way at once; a store costs one signature here and five verifications elsewhere.
const CONCURRENT: usize = 32;
/// First pause after a failure, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A clean stop waits this long for its removals to be acknowledged.
const WITHDRAW_WITHIN: Duration = Duration::from_secs(3);

/// What this node says of the addresses registered here.
#[derive(Clone, Default)]
pub(crate) struct Publisher {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// What should be true in the overlay, by address.
    wanted: BTreeMap<String, Announcement>,
    /// Addresses whose entry in the overlay may differ from what is wanted.
    dirty: BTreeSet<String>,
    under_way: BTreeSet<String>,
    stopping: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Announcement {
    contacts: usize,
    q: u16,
}

impl Publisher {
    /// Says that `contacts` phones are registered for `address`, the best with preference `q`; none removes the entry.
    pub(crate) fn set(&self, address: &str, contacts: usize, q: u16) {
        let mut state = self.shared.state();
        let wanted = Announcement { contacts, q };
        let unchanged = if contacts == 0 {
            state.wanted.remove(address).is_none()
        } else {
            state.wanted.insert(address.to_owned(), wanted) == Some(wanted)
        };
        if !unchanged {
            state.dirty.insert(address.to_owned());
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    /// Brings the overlay in line with what is wanted, until the node stops.
    pub(crate) async fn run(self, overlay: Overlay) {
        let mut jobs: JoinSet<(String, bool)> = JoinSet::new();
        let mut pauses: JoinSet<String> = JoinSet::new();
        let mut failures: BTreeMap<String, Duration> = BTreeMap::new();
        loop {
            while jobs.len() < CONCURRENT {
                let Some((address, wanted)) = self.shared.next() else { break };
                let overlay = overlay.clone();
                jobs.spawn(async move {
                    let done = announce(&overlay, &address, wanted).await;
                    (address, done)
                });
            }
            tokio::select! {
                () = self.shared.wake.notified() => {}
                Some(Ok((address, done))) = jobs.join_next() => {
                    self.shared.state().under_way.remove(&address);
                    if done {
                        failures.remove(&address);
                        continue;
                    }
                    let pause = failures.get(&address).map_or(FIRST_PAUSE, |last| (*last * 2).min(LONGEST_PAUSE));
                    failures.insert(address.clone(), pause);
                    pauses.spawn(async move {
                        tokio::time::sleep(pause).await;
                        address
                    });
                }
                Some(Ok(address)) = pauses.join_next() => {
                    self.shared.state().dirty.insert(address);
                }
            }
        }
    }

    /// Removes every entry of this node, as on a clean stop: callers elsewhere then learn at once that it is gone.
    pub(crate) async fn withdraw(&self, overlay: &Overlay) {
        let addresses: Vec<String> = {
            let mut state = self.shared.state();
            state.stopping = true;
            state.dirty.clear();
            std::mem::take(&mut state.wanted).into_keys().collect()
        };
        let removing = async {
            let mut jobs = JoinSet::new();
            for address in addresses {
                if jobs.len() >= CONCURRENT {
                    jobs.join_next().await;
                }
                let overlay = overlay.clone();
                jobs.spawn(async move { overlay.remove(Kind::SipRegistration, &address).await });
            }
            while jobs.join_next().await.is_some() {}
        };
        if timeout(WITHDRAW_WITHIN, removing).await.is_err() {
            tracing::warn!("not every registration could be withdrawn in time; the rest expire by themselves");
        }
    }
}

async fn announce(overlay: &Overlay, address: &str, wanted: Option<Announcement>) -> bool {
    let outcome = match wanted {
        None => overlay.remove(Kind::SipRegistration, address).await,
        Some(Announcement { contacts, q }) => {
            let value = SipRegistration {
                contacts: u16::try_from(contacts).unwrap_or(u16::MAX),
                max_q: q,
                updated_ms: unix_ms(),
            };
            overlay.publish(Kind::SipRegistration, address, value.encode(), LIFETIME).await
        }
    };
    match outcome {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "registration not announced in the overlay, will try again");
            false
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next address to bring in line; one address is never worked on twice at a time, so that entries
    /// cannot overtake each other.
    fn next(&self) -> Option<(String, Option<Announcement>)> {
        let mut state = self.state();
        if state.stopping {
            return None;
        }
        let address = state.dirty.iter().find(|address| !state.under_way.contains(*address))?.clone();
        state.dirty.remove(&address);
        state.under_way.insert(address.clone());
        let wanted = state.wanted.get(&address).copied();
        Some((address, wanted))
    }
}
