//! Who wants to know when the registrations of an address change: the workers with subscribers to it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use meshtone_sip::registrar::reg_info::Removal;
use tokio::sync::mpsc;

use crate::exchange::worker::Input;

/// Most subscriptions to one address: as many as it may have contacts, each phone watching for itself.
const WATCHERS_MAX: usize = 10;

/// The subscriptions of each address, by the worker that holds them. A worker appears once for each.
#[derive(Default)]
pub(crate) struct Watchers(Mutex<HashMap<String, Vec<Watcher>>>);

/// Number and inbox of a worker.
type Watcher = (usize, mpsc::Sender<Input>);

impl Watchers {
    /// Adds a subscription held by worker number `worker`; false when the address has too many.
    pub(crate) fn add(&self, address: &str, worker: usize, inbox: mpsc::Sender<Input>) -> bool {
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let watching = watchers.entry(address.to_owned()).or_default();
        if watching.len() >= WATCHERS_MAX {
            return false;
        }
        watching.push((worker, inbox));
        true
    }

    /// Takes one subscription of a worker away again.
    pub(crate) fn remove(&self, address: &str, worker: usize) {
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watching) = watchers.get_mut(address) else { return };
        if let Some(at) = watching.iter().position(|(holder, _)| *holder == worker) {
            watching.remove(at);
        }
        if watching.is_empty() {
            watchers.remove(address);
        }
    }

    /// Tells the workers concerned that an address has changed. One whose inbox is full learns it at the next change: it
    /// compares with what its subscribers know.
    pub(crate) fn tell(&self, address: &str, removal: Removal) {
        let watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told: Vec<usize> = Vec::new();
        for (worker, inbox) in watchers.get(address).into_iter().flatten() {
            if !told.contains(worker) {
                told.push(*worker);
                let _ = inbox.try_send(Input::Registered { address: address.to_owned(), removal });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_worker_is_told_once_and_no_more_when_its_last_subscriber_is_gone() {
        let watchers = Watchers::default();
        let (inbox, mut told) = mpsc::channel(8);
        assert!(watchers.add("bob@example.org", 1, inbox.clone()) && watchers.add("bob@example.org", 1, inbox.clone()));
        watchers.tell("bob@example.org", Removal::Usual);
        watchers.tell("carol@example.org", Removal::Usual);
        assert!(matches!(told.try_recv(), Ok(Input::Registered { address, .. }) if address == "bob@example.org"));
        assert!(told.try_recv().is_err());
        watchers.remove("bob@example.org", 1);
        watchers.tell("bob@example.org", Removal::Usual);
        assert!(told.try_recv().is_ok());
        watchers.remove("bob@example.org", 1);
        watchers.tell("bob@example.org", Removal::Usual);
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn an_address_has_a_bounded_number_of_subscriptions() {
        let watchers = Watchers::default();
        let (inbox, _told) = mpsc::channel(1);
        let taken = (0..100).filter(|worker| watchers.add("bob@example.org", *worker, inbox.clone())).count();
        assert_eq!(taken, WATCHERS_MAX);
    }
}
