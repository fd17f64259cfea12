//! Brings what arrives to the worker that owns it: a message belongs to worker hash(Call-ID), so that the
//! transactions and dialogs of one call live together, behind one lock.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use meshtone_sip::message::{Message, ParseError};
use meshtone_sip::transaction::TransactionId;
use meshtone_sip::transport::Flow;
use tokio::sync::mpsc;

use super::outbox::Outbox;
use crate::exchange::first_stage::FirstStage;
use crate::exchange::overload::Load;
use crate::exchange::shard::Shard;
use crate::exchange::worker::Input;

/// Datagrams that may have arrived and wait for their turn. At about 15 µs a message this is an eighth of a second of work:
/// what is further behind than that is better dropped, as UDP sends again.
pub(crate) const ARRIVED_MAX: usize = 8192;

/// Answers of look-ups and reports that may wait for one worker.
pub(crate) const INBOX: usize = 8192;

/// The workers, and how to leave them a message.
#[derive(Clone)]
pub(crate) struct Dispatch {
    shared: Arc<Shared>,
}

struct Shared {
    inboxes: Vec<mpsc::Sender<Input>>,
    /// There from the moment that the node receives.
    shards: OnceLock<Vec<Arc<Shard>>>,
    /// Where this node is the first stage of a farm: it has what comes from phones and servers.
    first_stage: OnceLock<Arc<FirstStage>>,
    is_closed: AtomicBool,
    hasher: RandomState,
}

impl Dispatch {
    pub(crate) fn new(inboxes: Vec<mpsc::Sender<Input>>) -> Self {
        let (shards, first_stage, is_closed) = (OnceLock::new(), OnceLock::new(), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { inboxes, shards, first_stage, is_closed, hasher: RandomState::new() }) }
    }

    /// Takes the workers, as many as there are inboxes. What arrived before is lost.
    pub(crate) fn open(&self, shards: Vec<Arc<Shard>>, first_stage: Option<Arc<FirstStage>>) {
        if let Some(first_stage) = first_stage {
            let _ = self.shared.first_stage.set(first_stage);
        }
        // A second time would be a mistake of this node's, and changes nothing.
        let _ = self.shared.shards.set(shards);
    }

    /// Lets nothing in any more.
    pub(crate) fn close(&self) {
        self.shared.is_closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::Relaxed)
    }

    /// Lets its worker handle a message from a datagram.
    pub(crate) fn datagram(&self, flow: Flow, message: Message, load: Load, outbox: &mut Outbox) {
        if let Some(first_stage) = self.first_stage() {
            first_stage.message(&flow, &message, outbox);
        } else if let Some(shard) = self.shard(message.call_id()) {
            shard.message(flow, message, Some(load), outbox);
        }
    }

    /// Lets its worker handle a message from a stream. The stream is not read meanwhile, so who sends too much has to wait.
    pub(crate) fn stream(&self, flow: Flow, message: Message, outbox: &mut Outbox) {
        // Other nodes want this one.
        if let Some(first_stage) = self.first_stage().filter(|_| !matches!(flow, Flow::Peer { .. })) {
            first_stage.message(&flow, &message, outbox);
        } else if let Some(shard) = self.shard(message.call_id()) {
            shard.message(flow, message, None, outbox);
        }
    }

    /// Hands over what could not be parsed, so that it can be answered.
    pub(crate) fn bad(&self, flow: Flow, error: &ParseError, partial: Option<Message>, outbox: &mut Outbox) {
        let call_id = partial.as_ref().map_or("", |message| message.call_id());
        if let Some(shard) = self.shard(call_id) {
            shard.bad(flow, error, partial, outbox);
        }
    }

    /// Tells the worker concerned that something could not be delivered.
    pub(crate) fn failed(&self, report: Option<Report>) {
        let Some(Report { worker, origin }) = report else { return };
        if let Some(inbox) = self.shared.inboxes.get(worker)
            && inbox.try_send(Input::TransportError(origin)).is_err()
        {
            tracing::debug!("worker queue full, transport error lost: the transaction will time out instead");
        }
    }

    /// Tells every worker that nothing comes over this flow any more: which of them waits for something, they know themselves.
    pub(crate) fn flow_failed(&self, flow: &Flow) {
        for inbox in &self.shared.inboxes {
            let _ = inbox.try_send(Input::FlowFailed(flow.clone()));
        }
    }

    fn first_stage(&self) -> Option<&Arc<FirstStage>> {
        self.shared.first_stage.get().filter(|_| !self.is_closed())
    }

    fn shard(&self, call_id: &str) -> Option<&Arc<Shard>> {
        let shards = self.shared.shards.get().filter(|_| !self.is_closed())?;
        self.worker_of(call_id).and_then(|index| shards.get(index))
    }

    /// The worker that messages with this Call-ID go to.
    pub(crate) fn worker_of(&self, call_id: &str) -> Option<usize> {
        let count = u64::try_from(self.shared.inboxes.len()).unwrap_or(1).max(1);
        usize::try_from(self.shared.hasher.hash_one(call_id) % count).ok()
    }
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
