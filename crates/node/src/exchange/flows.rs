//! What goes with a connection when it closes (RFC 5626 §4.2, RFC 7118 §6.4): contacts that nothing reaches any other way, and calls that
//! ring there; and what goes with a session of the page when that ends.
//!
//! A contact goes at once, so that a tab that was closed is nobody's phone any more. A call that rings there has a while: a browser whose
//! network has changed comes back by itself, with the same contact, and answers it then.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshtone_sip::transport::Flow;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::Exchange;
use crate::clock::unix_ms;
use crate::login::Hash;

/// How long a browser may take to come back to a call that rings: JsSIP tries again after two seconds.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// Addresses that are registered over one connection: one in a browser, some over that of a proxy, which reaches its phones by a path anyway.
const MAX_OF_CONNECTION: usize = 32;
/// Flows that a session has registered by: the tabs of one browser; the oldest are gone by then.
const MAX_OF_SESSION: usize = 32;
/// Closed connections whose calls are waited for; more at once are not.
const MAX_WAITING: usize = 4096;

/// Which connections and sessions registrations depend on.
#[derive(Default)]
pub(crate) struct Flows {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// By the number of the connection.
    bound: HashMap<u64, Bound>,
    of_session: HashMap<Hash, VecDeque<(Flow, String)>>,
    closed: Vec<Bound>,
}

struct Bound {
    flow: Flow,
    addresses: Vec<String>,
}

/// A connection that was closed, and whom it was a phone's.
struct Gone {
    until: Instant,
    flow: Flow,
    /// The address and the contacts that went.
    lost: Vec<(String, Vec<String>)>,
}

impl Flows {
    /// Takes note that somebody has registered by this flow, with the credential of a session where it is one.
    pub(crate) fn note(&self, flow: &Flow, address: &str, session: Option<Hash>) {
        let mut state = self.state();
        if let Flow::Stream { connection, .. } = flow {
            let bound = state.bound.entry(*connection);
            let bound = bound.or_insert_with(|| Bound { flow: flow.clone(), addresses: Vec::new() });
            if bound.addresses.len() < MAX_OF_CONNECTION && !bound.addresses.iter().any(|known| known == address) {
                bound.addresses.push(address.to_owned());
            }
        }
        if let Some(session) = session {
            let flows = state.of_session.entry(session).or_default();
            if !flows.iter().any(|(known, of)| known == flow && of == address) {
                flows.push_back((flow.clone(), address.to_owned()));
            }
            if flows.len() > MAX_OF_SESSION {
                flows.pop_front();
            }
        }
    }

    /// Takes note that a connection has closed.
    pub(crate) fn closed(&self, connection: u64) {
        let mut state = self.state();
        if let Some(bound) = state.bound.remove(&connection) {
            state.closed.push(bound);
            drop(state);
            self.wake.notify_one();
        }
    }

    fn take_closed(&self) -> Vec<Bound> {
        std::mem::take(&mut self.state().closed)
    }

    fn take_session(&self, session: &Hash) -> VecDeque<(Flow, String)> {
        self.state().of_session.remove(session).unwrap_or_default()
    }

    /// The sessions that have registered.
    fn sessions(&self) -> Vec<Hash> {
        self.state().of_session.keys().copied().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what goes with closed connections and ended sessions, until the node stops.
pub(crate) async fn follow(exchange: Arc<Exchange>) {
    let mut ends = exchange.sessions.ends();
    let mut waiting: VecDeque<Gone> = VecDeque::new();
    loop {
        let next = waiting.front().map_or_else(|| Instant::now() + Duration::from_secs(3600), |gone| gone.until);
        tokio::select! {
            () = exchange.flows.wake.notified() => {
                for Bound { flow, addresses } in exchange.flows.take_closed() {
                    // Who closes is this node: what is registered is wanted at its next start.
                    if exchange.transports.is_closed() {
                        return;
                    }
                    let drop_of = |address: String| {
                        let lost = exchange.registrations.drop_flow(&address, &flow, false);
                        (address, lost)
                    };
                    let lost = addresses.into_iter().map(drop_of).collect();
                    if waiting.len() < MAX_WAITING {
                        waiting.push_back(Gone { until: Instant::now() + BACK_WITHIN, flow, lost });
                    }
                }
            }
            () = sleep_until(next), if !waiting.is_empty() => {
                if let Some(gone) = waiting.pop_front() && !is_back(&exchange, &gone) {
                    exchange.transports.flow_failed(&gone.flow);
                }
            }
            end = ends.recv() => {
                let over = match end {
                    Ok(session) => vec![session],
                    Err(RecvError::Lagged(_)) => exchange.flows.sessions(),
                    Err(RecvError::Closed) => return,
                };
                for session in over.iter().filter(|session| !exchange.sessions.is_open(unix_ms(), session)) {
                    for (flow, address) in exchange.flows.take_session(session) {
                        exchange.registrations.drop_flow(&address, &flow, true);
                    }
                }
            }
        }
    }
}

/// Whether a phone that was lost is registered again, with the contact that it had: a page that was loaded anew has another, and knows of
/// no call.
fn is_back(exchange: &Exchange, gone: &Gone) -> bool {
    gone.lost.iter().any(|(address, contacts)| {
        let bindings = exchange.registrations.bindings(unix_ms(), address);
        bindings.iter().any(|binding| contacts.contains(&binding.contact))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use meshtone_sip::transport::Transport;

    use super::*;

    fn flow(connection: u64) -> Flow {
        Flow::Stream { transport: Transport::Ws, listener: 0, connection, remote: ([192, 0, 2, 1], 40_000).into() }
    }

    #[test]
    fn what_was_registered_over_a_connection_is_told_once_it_has_closed() {
        let flows = Flows::default();
        flows.note(&flow(1), "alice@mesh.test", None);
        flows.note(&flow(1), "alice@mesh.test", None);
        flows.note(&flow(2), "bob@mesh.test", None);
        flows.closed(3);
        assert!(flows.take_closed().is_empty());
        flows.closed(1);
        flows.closed(1);
        let closed = flows.take_closed();
        assert_eq!(closed.len(), 1);
        assert_eq!(
            (&closed[0].flow, closed[0].addresses.as_slice()),
            (&flow(1), ["alice@mesh.test".to_owned()].as_slice())
        );
        assert!(flows.take_closed().is_empty());
    }

    #[test]
    fn what_is_kept_of_a_session_and_a_connection_is_bounded() {
        let (flows, session) = (Flows::default(), [7; 32]);
        for connection in 0..1000 {
            flows.note(&flow(connection), "alice@mesh.test", Some(session));
            flows.note(&flow(0), &format!("{connection}@mesh.test"), None);
        }
        assert_eq!(flows.state().bound[&0].addresses.len(), MAX_OF_CONNECTION);
        let kept = flows.take_session(&session);
        assert_eq!((kept.len(), &kept[0].0), (MAX_OF_SESSION, &flow(1000 - 32)));
        assert!(flows.sessions().is_empty());
    }
}
