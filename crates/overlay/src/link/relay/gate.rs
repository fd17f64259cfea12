//! Who may use the relay, and for how long.
//!
//! A client proves its link key, and shows the certificate of its node as a bearer token: whoever is certified by the overlay's authority
//! and not revoked gets in. A machine that wants to join has no certificate yet and may have no other way to whoever invited it: while
//! somebody is invited, a few such *guests* get in for half a minute. Until they are enrolled, nodes have nothing to say to them but that.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use iroh::EndpointId;
use iroh_relay::server::{Access, AccessControl, ClientRequest, ConnectionId};
use meshtone_identity::{AuthorityCertificate, LinkKey, NodeCertificate, NodeId};

use crate::link::table::unix_ms;
use crate::record::Revoked;

/// Connections at once: two for each node that counts on this relay, some 40 KiB each.
const MAX_CLIENTS: usize = 1024;

/// Connections of one node: one, and some that it has left and that are not known to be gone.
const MAX_CLIENTS_OF_ONE: usize = 4;

/// Guests at once, so that they never take much from anybody.
const MAX_GUESTS: usize = 8;

/// How long a guest may stay: an enrolment takes 10 s at most.
const GUEST_TIME: Duration = Duration::from_secs(30);

/// No node certificate is larger (`MAX_CERTIFICATE` of hellos), written as text.
const MAX_TOKEN: usize = 6 * 1024;

/// Returns what a node shows to get in.
pub(crate) fn token(certificate: &[u8]) -> String {
    BASE64URL_NOPAD.encode(certificate)
}

/// Whether this node waits for somebody whom it has invited.
#[derive(Clone)]
pub struct Expected(Arc<dyn Fn() -> bool + Send + Sync>);

impl Expected {
    /// As this says whenever a guest asks to be let in.
    pub fn when(is_invited: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_invited))
    }
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expected").finish_non_exhaustive()
    }
}

/// The door of a relay.
#[derive(Debug)]
pub(crate) struct Gate {
    authority: AuthorityCertificate,
    revoked: Revoked,
    guests: Expected,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    clients: HashMap<ConnectionId, Client>,
    /// Whether there is more to carry than there should be already.
    overcommitted: bool,
}

#[derive(Debug)]
struct Client {
    key: EndpointId,
    who: Who,
}

#[derive(Debug)]
enum Who {
    Node(Box<NodeCertificate>),
    Guest { until: Instant },
}

/// Why somebody does not get in. It is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) &'static str);

impl Gate {
    pub(crate) fn new(authority: AuthorityCertificate, revoked: Revoked, guests: Expected) -> Self {
        Self { authority, revoked, guests, inside: Mutex::default() }
    }

    /// Nobody new gets in while there is more to carry than there should be.
    pub(crate) fn set_overcommitted(&self, overcommitted: bool) {
        self.inside().overcommitted = overcommitted;
    }

    /// How many are inside.
    pub(crate) fn clients(&self) -> usize {
        self.inside().clients.len()
    }

    /// Returns those who have to leave: guests whose time is over, and nodes that are none any longer.
    pub(crate) fn to_leave(&self, now: Instant, unix_s: u64) -> Vec<(EndpointId, ConnectionId)> {
        let inside = self.inside();
        let leaves = inside.clients.iter().filter(|(_, client)| match &client.who {
            Who::Guest { until } => *until <= now,
            Who::Node(node) => node.check_time(unix_s).is_err() || self.revoked.contains(&node.node_id()),
        });
        leaves.map(|(connection, client)| (client.key, *connection)).collect()
    }

    /// Lets somebody in who has proved `key`, if his token says that he may.
    fn admit(
        &self,
        connection: ConnectionId,
        key: EndpointId,
        token: Option<&str>,
        now: Instant,
        unix_s: u64,
    ) -> Result<Option<NodeId>, Refusal> {
        let who = match token {
            Some(token) => Who::Node(Box::new(self.verify(token, LinkKey::from_bytes(*key.as_bytes()), unix_s)?)),
            None if (self.guests.0)() => Who::Guest { until: now + GUEST_TIME },
            None => return Err(Refusal("a certificate of this overlay is needed")),
        };
        let mut inside = self.inside();
        let count = |is: fn(&Who) -> bool| inside.clients.values().filter(|client| is(&client.who)).count();
        let guests = count(|who| matches!(who, Who::Guest { .. }));
        let is_guest = matches!(who, Who::Guest { .. });
        let of_one = inside.clients.values().filter(|client| client.key == key).count();
        if inside.clients.len() >= MAX_CLIENTS
            || is_guest && guests >= MAX_GUESTS
            || inside.overcommitted && of_one == 0
        {
            return Err(Refusal("there are too many already"));
        }
        if of_one >= MAX_CLIENTS_OF_ONE {
            return Err(Refusal("this node has too many connections already"));
        }
        let node = match &who {
            Who::Node(node) => Some(node.node_id()),
            Who::Guest { .. } => None,
        };
        inside.clients.insert(connection, Client { key, who });
        Ok(node)
    }

    fn verify(&self, token: &str, key: LinkKey, unix_s: u64) -> Result<NodeCertificate, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal("the certificate is too large"));
        }
        let der = BASE64URL_NOPAD.decode(token.as_bytes()).map_err(|_| Refusal("the certificate cannot be read"))?;
        let node = NodeCertificate::verify(&der, &self.authority, unix_s)
            .map_err(|_| Refusal("the certificate is none of this overlay, or has run out"))?;
        if node.link_key() != key {
            return Err(Refusal("the certificate is another node's"));
        }
        if self.revoked.contains(&node.node_id()) {
            return Err(Refusal("the authority has revoked this node"));
        }
        Ok(node)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessControl for Gate {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        let (connection, key, token) = (request.connection_id(), request.endpoint_id(), request.auth_token());
        match self.admit(connection, key, token.as_deref(), Instant::now(), unix_ms() / 1000) {
            Ok(node) => {
                tracing::debug!(node = %node.map_or_else(|| "a guest".to_owned(), |node| node.short()), "uses the relay");
                Access::Allow
            }
            Err(Refusal(why)) => {
                tracing::debug!(why, "somebody was refused the relay");
                Access::Deny { reason: Some(why.to_owned()) }
            }
        }
    }

    fn on_disconnect(&self, _key: EndpointId, connection: ConnectionId) {
        self.inside().clients.remove(&connection);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::time::Duration;

    use iroh_relay::http::ProtocolVersion;
    use meshtone_identity::{Authority, Revocation, Signer, SigningKey};

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(3600);

    fn now_s() -> u64 {
        unix_ms() / 1000
    }

    fn key(number: u8) -> EndpointId {
        iroh::SecretKey::from_bytes(&[number; 32]).public()
    }

    fn certificate(authority: &Authority, number: u8) -> NodeCertificate {
        let (signing, link_key) = (SigningKey::generate().unwrap(), LinkKey::from_bytes(*key(number).as_bytes()));
        authority.certify_node(signing.public_key(), link_key, [number; 16], now_s(), LIFETIME).unwrap()
    }

    /// How a client asks that has proved this key and shows this token.
    fn request(number: u8, token: Option<&str>) -> ClientRequest {
        let mut request = hyper::Request::get("/relay");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        ClientRequest::new(key(number), ProtocolVersion::default(), request.body(()).unwrap().into_parts().0)
    }

    async fn enters(gate: &Gate, request: &ClientRequest) -> bool {
        gate.on_connect(request).await == Access::Allow
    }

    #[tokio::test]
    async fn nodes_of_this_overlay_get_in_with_their_own_certificates_and_nobody_else_does() {
        let authority = Authority::create(now_s()).unwrap().0;
        let (other, revoked) = (Authority::create(now_s()).unwrap().0, Revoked::default());
        let gate = Gate::new(authority.certificate().clone(), revoked.clone(), Expected::when(|| false));
        let own = certificate(&authority, 1);
        let shown = token(own.der());
        assert!(enters(&gate, &request(1, Some(&shown))).await);
        assert!(!enters(&gate, &request(2, Some(&shown))).await, "another's certificate");
        let foreign = token(certificate(&other, 3).der());
        assert!(!enters(&gate, &request(3, Some(&foreign))).await, "another overlay's");
        for nothing in [None, Some(""), Some("AAAA"), Some("?"), Some("A".repeat(100_000).as_str())] {
            assert!(!enters(&gate, &request(4, nothing)).await);
        }
        let late = now_s() + LIFETIME.as_secs() + 1;
        assert_eq!(gate.to_leave(Instant::now(), now_s()), []);
        assert_eq!(gate.to_leave(Instant::now(), late).len(), 1, "its certificate has run out");
        revoked.insert(Revocation::sign(&authority, own.node_id(), now_s(), late).unwrap());
        assert_eq!(gate.to_leave(Instant::now(), now_s()).len(), 1, "it is a node no more");
        assert!(!enters(&gate, &request(1, Some(&shown))).await, "nor does it come in again");
    }

    #[tokio::test]
    async fn who_wants_to_join_stays_for_a_moment_and_takes_nobodys_place() {
        let authority = Authority::create(now_s()).unwrap().0;
        let gate = Gate::new(authority.certificate().clone(), Revoked::default(), Expected::when(|| true));
        let mut guests = Vec::new();
        for number in 0..20 {
            let request = request(number, None);
            if enters(&gate, &request).await {
                guests.push(request);
            }
        }
        assert_eq!(guests.len(), MAX_GUESTS);
        assert!(enters(&gate, &request(50, Some(&token(certificate(&authority, 50).der())))).await);
        assert_eq!(gate.to_leave(Instant::now() + GUEST_TIME, now_s()).len(), MAX_GUESTS);
        for request in guests {
            gate.on_disconnect(request.endpoint_id(), request.connection_id());
        }
        assert_eq!(gate.clients(), 1);
    }

    #[tokio::test]
    async fn a_relay_with_too_much_to_carry_keeps_those_it_has_and_takes_no_others() {
        let authority = Authority::create(now_s()).unwrap().0;
        let gate = Gate::new(authority.certificate().clone(), Revoked::default(), Expected::when(|| true));
        let [first, second] = [1, 2].map(|number| token(certificate(&authority, number).der()));
        assert!(enters(&gate, &request(1, Some(&first))).await);
        gate.set_overcommitted(true);
        assert!(!enters(&gate, &request(2, Some(&second))).await);
        for _ in 1..MAX_CLIENTS_OF_ONE {
            assert!(enters(&gate, &request(1, Some(&first))).await, "its connection is made anew");
        }
        assert!(!enters(&gate, &request(1, Some(&first))).await, "nobody needs so many");
        gate.set_overcommitted(false);
        assert!(enters(&gate, &request(2, Some(&second))).await);
    }
}
