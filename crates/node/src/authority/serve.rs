//! Answers the streams by which other nodes speak to the authority.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use meshtone_identity::NodeId;
use meshtone_overlay::{IncomingStream, Overlay, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{Id, JoinSet};
use tokio::time::timeout;

use super::Service;
use super::error::Refusal;
use super::wire::{Answer, MAX_MESSAGE, Request};

/// Requests answered at once: each costs a signature to be verified, and a thread if one is issued.
const MAX_AT_ONCE: usize = 32;
/// And of one node: it asks for one person after the other.
const MAX_OF_NODE: usize = 4;
/// How long a request may take to arrive and its answer to leave.
const WITHIN: Duration = Duration::from_secs(20);

/// Answers until the overlay stops.
pub(super) async fn run(service: &Arc<Service>, overlay: &Overlay) {
    let mut incoming = overlay.accept_streams(Protocol::Authority);
    let mut running = JoinSet::new();
    let mut sources: HashMap<Id, NodeId> = HashMap::new();
    loop {
        tokio::select! {
            stream = incoming.recv() => {
                let Some(stream) = stream else { return };
                let of_node = sources.values().filter(|source| **source == stream.from).count();
                if running.len() >= MAX_AT_ONCE || of_node >= MAX_OF_NODE {
                    tracing::debug!(peer = %stream.from, "too many requests to the authority at once");
                    stream.send.abort();
                    continue;
                }
                let (from, service) = (stream.from, Arc::clone(service));
                let task = running.spawn(async move {
                    if timeout(WITHIN, answer(service, stream)).await.is_err() {
                        tracing::debug!(peer = %from, "a request to the authority took too long");
                    }
                });
                sources.insert(task.id(), from);
            }
            Some(ended) = running.join_next_with_id() => {
                let task = match &ended {
                    Ok((task, ())) => *task,
                    Err(error) => error.id(),
                };
                sources.remove(&task);
            }
        }
    }
}

async fn answer(service: Arc<Service>, stream: IncomingStream) {
    let IncomingStream { from, mut send, recv, .. } = stream;
    let mut request = Vec::new();
    let bound = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX).saturating_add(1);
    if recv.take(bound).read_to_end(&mut request).await.is_err() {
        return;
    }
    let answer = match Request::decode(&request) {
        Some(request) => Service::answer_on_thread(service, from, request).await,
        None => Answer::Refused(Refusal::Malformed),
    };
    // A node that has gone asks again, and gets the same answer.
    let _ = send.write_all(&answer.encode()).await;
    let _ = send.shutdown().await;
}
