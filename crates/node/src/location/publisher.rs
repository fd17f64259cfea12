//! Announces in the overlay which addresses are registered here: on change, not at every refresh (the overlay
//! itself refreshes what it was given at half life).
//!
//! What is registered is read where it is kept when its turn comes; only which addresses have changed is remembered. Until the
//! first other node is there nobody could ask, so that nothing is signed: then all that is registered is announced.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshtone_overlay::node::{Error, Overlay};
use meshtone_overlay::record::{Kind, SipRegistration};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::memory::{Registrations, SHARDS};
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
    /// What is announced beside the registrations, by name.
    services: BTreeMap<String, Announcement>,
    /// Addresses whose entry in the overlay may differ from what is true here.
    dirty: BTreeSet<String>,
    under_way: BTreeSet<String>,
    /// Another node has been there since the start.
    has_company: bool,
    stopping: bool,
}

/// What is said of an address: how many phones it has here, and how much the best of them is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) contacts: usize,
    pub(crate) q: u16,
}

impl Publisher {
    /// Says that this node offers a service under a name that is nobody's address.
    pub(crate) fn offer(&self, name: &str, announcement: Announcement) {
        self.shared.state().services.insert(name.to_owned(), announcement);
        self.changed(name, true);
    }

    /// Takes note that what is to be said of an address has changed, `is_registered` whether there is anything to say. Called
    /// with the address locked, or one change could overtake another.
    pub(crate) fn changed(&self, address: &str, is_registered: bool) {
        let mut state = self.shared.state();
        // What is gone may have been announced by an earlier run, and still be held here.
        if state.has_company || !is_registered {
            state.dirty.insert(address.to_owned());
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    /// Brings the overlay in line with what is registered, until the node stops.
    pub(crate) async fn run(self, overlay: Overlay, registrations: Arc<Registrations>) {
        let mut jobs: JoinSet<(String, bool)> = JoinSet::new();
        let mut pauses: JoinSet<String> = JoinSet::new();
        let mut failures: BTreeMap<String, Duration> = BTreeMap::new();
        // Parts of the registrations that have not been announced yet.
        let mut unannounced: Range<usize> = 0..0;
        let company = company(&overlay);
        tokio::pin!(company);
        let mut is_alone = true;
        loop {
            while jobs.len() < CONCURRENT {
                let Some(address) = self.shared.next() else {
                    let Some(part) = unannounced.next() else { break };
                    let addresses = registrations.addresses(part);
                    self.shared.state().dirty.extend(addresses);
                    continue;
                };
                let overlay = overlay.clone();
                let wanted = self.wanted(&registrations, &address);
                jobs.spawn(async move {
                    let done = announce(&overlay, &address, wanted).await;
                    (address, done)
                });
            }
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = &mut company, if is_alone => {
                    is_alone = false;
                    self.shared.on_company();
                    unannounced = 0..SHARDS;
                }
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
    pub(crate) async fn withdraw(&self, overlay: &Overlay, registrations: &Registrations) {
        let services = {
            let mut state = self.shared.state();
            state.stopping = true;
            state.dirty.clear();
            if !state.has_company {
                return;
            }
            std::mem::take(&mut state.services).into_keys()
        };
        let removing = async {
            let mut jobs = JoinSet::new();
            for address in services.chain((0..SHARDS).flat_map(|part| registrations.addresses(part))) {
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

    fn wanted(&self, registrations: &Registrations, address: &str) -> Option<Announcement> {
        let service = self.shared.state().services.get(address).copied();
        service.or_else(|| registrations.announcement(address))
    }
}

/// Waits until another node is there.
async fn company(overlay: &Overlay) {
    let mut events = overlay.subscribe();
    // The first that happens to a node without links is that it gets one, even if that was missed.
    if overlay.links().is_empty() && matches!(events.recv().await, Err(RecvError::Closed)) {
        std::future::pending().await
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
        // For whom this node does not speak any more, nothing it has said counts.
        Err(Error::Record(_)) if wanted.is_none() => true,
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

    fn on_company(&self) {
        let mut state = self.state();
        state.has_company = true;
        let services: Vec<String> = state.services.keys().cloned().collect();
        state.dirty.extend(services);
    }

    /// The next address to bring in line; one address is never worked on twice at a time, so that entries
    /// cannot overtake each other.
    fn next(&self) -> Option<String> {
        let mut state = self.state();
        if state.stopping {
            return None;
        }
        let address = state.dirty.iter().find(|address| !state.under_way.contains(*address))?.clone();
        state.dirty.remove(&address);
        state.under_way.insert(address.clone());
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: &str = "bob@example.org";

    #[test]
    fn alone_a_node_announces_nobody_and_withdraws_whom_an_earlier_run_may_have_announced() {
        let publisher = Publisher::default();
        publisher.changed(BOB, true);
        assert_eq!(publisher.shared.next(), None);
        publisher.changed(BOB, false);
        assert_eq!(publisher.shared.next().as_deref(), Some(BOB));
    }

    #[test]
    fn what_it_offers_itself_is_announced_to_the_first_who_comes() {
        let publisher = Publisher::default();
        publisher.offer("trunk@example.org", Announcement { contacts: 1, q: 1000 });
        assert_eq!(publisher.shared.next(), None);
        publisher.shared.on_company();
        assert_eq!(publisher.shared.next().as_deref(), Some("trunk@example.org"));
    }

    #[test]
    fn an_address_is_never_worked_on_twice_at_a_time() {
        let publisher = Publisher::default();
        publisher.shared.on_company();
        publisher.changed(BOB, true);
        assert_eq!(publisher.shared.next().as_deref(), Some(BOB));
        publisher.changed(BOB, false);
        assert_eq!(publisher.shared.next(), None);
        publisher.shared.state().under_way.remove(BOB);
        assert_eq!(publisher.shared.next().as_deref(), Some(BOB));
    }
}
