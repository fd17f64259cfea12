//! Hands what arrives to the worker that owns it: a message belongs to worker hash(Call-ID), so that the
//! transactions and dialogs of one call live together and need no lock.

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use bytes::Bytes;
use meshtone_sip::message::{Message, ParseError};
use meshtone_sip::server::opens_something;
use meshtone_sip::transaction::TransactionId;
use meshtone_sip::transport::Flow;
use tokio::sync::mpsc;

use crate::exchange::worker::Input;

/// Inputs that may wait for one worker. At about 30 µs a message this is a quarter of a second of work: what is
/// further behind than that is better dropped (UDP sends again) or held back (streams stop reading).
pub(crate) const WORKER_QUEUE: usize = 8192;

/// Places in an inbox that no datagram gets which would open something new: they are for what is established.
const ESTABLISHED_RESERVE: usize = WORKER_QUEUE / 4;

/// The workers' inboxes.
#[derive(Clone)]
pub(crate) struct Dispatch {
    workers: Vec<mpsc::Sender<Input>>,
    hasher: RandomState,
}

impl Dispatch {
    pub(crate) fn new(workers: Vec<mpsc::Sender<Input>>) -> Self {
        Self { workers, hasher: RandomState::new() }
    }

    /// Hands over a message from a datagram; dropped when its worker is that far behind.
    pub(crate) fn datagram(&self, flow: Flow, message: Message) {
        let Some(worker) = self.worker(message.call_id()) else { return };
        let is_refused = worker.capacity() < ESTABLISHED_RESERVE && opens_something(&message);
        if is_refused || worker.try_send(arrived(flow, message)).is_err() {
            tracing::debug!("worker queue full, datagram dropped");
        }
    }

    /// Hands over a message from a stream, waiting while its worker is behind (the sender then waits too).
    pub(crate) async fn stream(&self, flow: Flow, message: Message) {
        if let Some(worker) = self.worker(message.call_id()) {
            let _ = worker.send(arrived(flow, message)).await;
        }
    }

    /// Hands over what could not be parsed, so that it can be answered.
    pub(crate) fn bad(&self, flow: Flow, error: ParseError, partial: Option<Message>) {
        let call_id = partial.as_ref().map_or("", |message| message.call_id());
        if let Some(worker) = self.worker(call_id) {
            let _ = worker.try_send(Input::Bad { flow, error, partial });
        }
    }

    /// Tells the worker concerned that something could not be delivered.
    pub(crate) fn failed(&self, report: Option<Report>) {
        let Some(Report { worker, origin }) = report else { return };
        if let Some(worker) = self.workers.get(worker)
            && worker.try_send(Input::TransportError(origin)).is_err()
        {
            tracing::debug!("worker queue full, transport error lost: the transaction will time out instead");
        }
    }

    fn worker(&self, call_id: &str) -> Option<&mpsc::Sender<Input>> {
        self.worker_of(call_id).and_then(|index| self.workers.get(index))
    }

    /// The worker that messages with this Call-ID go to.
    pub(crate) fn worker_of(&self, call_id: &str) -> Option<usize> {
        let count = u64::try_from(self.workers.len()).unwrap_or(1).max(1);
        usize::try_from(self.hasher.hash_one(call_id) % count).ok()
    }
}

fn arrived(flow: Flow, message: Message) -> Input {
    Input::Message { flow, message, at: Instant::now() }
}

/// What is to be written, with whom to tell when that fails.
pub(crate) struct Outgoing {
    pub(crate) bytes: Bytes,
    pub(crate) report: Option<Report>,
}

/// The worker and the transaction that a failed delivery is reported to.
#[derive(Clone, Copy)]
pub(crate) struct Report {
    pub(crate) worker: usize,
    pub(crate) origin: TransactionId,
}
