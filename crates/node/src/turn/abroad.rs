//! TURN for users of other nodes. A node that is not reached itself gives its phones and browsers the server of one that is: which there
//! are stands in the overlay, and what makes logins that work there it is granted over the link, where it proves which node it is.
//!
//! A grant is a key that the server can make again from its own secret, the node and a time: nothing is kept of it, and no password is
//! shared. With it the node makes logins for an hour each by itself (`UNTIL:NODE:GRANTED-UNTIL`, and a tag over that). Who the
//! users of another node are only that node can say; so all of them together are one user to the server, with one quota and one share.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use meshtone_identity::NodeId;
use meshtone_overlay::{IncomingStream, Overlay, Protocol, RelayServer, TurnServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::credentials::{Credentials, GOOD_FOR_S, IceServer};
use crate::account::Accounts;
use crate::clock::unix_s;
use crate::transport::policy::Scope;

/// How long a grant is good for: a node asks once a day.
const GRANTED_FOR_S: u64 = 24 * 3600;
/// A grant that ends so soon is asked for anew: what is made with it is to last its hour.
const RENEWED_BEFORE_S: u64 = 2 * GOOD_FOR_S;
/// What is said first, by both sides; a later version is answered in this one.
const VERSION: u8 = 1;
/// Version, until when, key.
const ANSWER: usize = 1 + 8 + KEY;
const KEY: usize = 32;
/// How long asking may take, a link to be made included.
const WITHIN: Duration = Duration::from_secs(15);
/// Answers under way at once: each is made at once, and a node asks once a day.
const MAX_ANSWERS: usize = 16;
/// Servers that users are given: browsers try all of them, and warn of more than a few.
const MAX_SERVERS: usize = 2;
/// Addresses of a server that users are given: one of each family, as a rule.
const MAX_HOSTS: usize = 2;
/// How often it is looked which servers there are.
const LOOK: Duration = Duration::from_secs(3);

/// What makes logins at another node's server.
#[derive(Clone)]
pub(super) struct Grant {
    until_s: u64,
    key: [u8; KEY],
}

impl Grant {
    /// That of a node until then, of the server with this secret.
    pub(super) fn new(secret: &hmac::Key, node: NodeId, until_s: u64) -> Grant {
        let mut context = hmac::Context::with_key(secret);
        context.update(b"turn for users of a node");
        context.update(node.as_bytes());
        context.update(&until_s.to_be_bytes());
        let tag = context.sign();
        Grant { until_s, key: tag.as_ref().first_chunk().copied().unwrap_or_default() }
    }

    /// The password of a username that was made with it.
    pub(super) fn password(&self, username: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key);
        BASE64.encode(hmac::sign(&key, username.as_bytes()).as_ref())
    }

    fn encode(&self) -> [u8; ANSWER] {
        let mut answer = [0; ANSWER];
        let bytes = [VERSION].into_iter().chain(self.until_s.to_be_bytes()).chain(self.key);
        answer.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        answer
    }

    fn decode(answer: &[u8; ANSWER]) -> Option<Grant> {
        let (version, rest) = answer.split_first()?;
        let (until, key) = rest.split_first_chunk()?;
        let until_s = u64::from_be_bytes(*until);
        (*version == VERSION).then_some(Grant { until_s, key: key.try_into().ok()? })
    }
}

/// A username that another node made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) until_s: u64,
    pub(super) node: NodeId,
    pub(super) granted_until_s: u64,
}

impl Guest {
    /// Reads `UNTIL:NODE:GRANTED-UNTIL`, in the one way that it is written.
    pub(super) fn read(username: &str) -> Option<Guest> {
        let mut parts = username.splitn(3, ':');
        let (until, node, granted) = (parts.next()?, parts.next()?, parts.next()?);
        let guest =
            Guest { until_s: until.parse().ok()?, node: node.parse().ok()?, granted_until_s: granted.parse().ok()? };
        (guest.name() == username).then_some(guest)
    }

    fn name(&self) -> String {
        format!("{}:{}:{}", self.until_s, self.node, self.granted_until_s)
    }

    /// Whether it may be used at this second.
    pub(super) fn is_good(&self, now_s: u64) -> bool {
        self.until_s > now_s && self.until_s <= self.granted_until_s && self.granted_until_s <= now_s + GRANTED_FOR_S
    }

    /// Whose quota it is: all users of that node are one.
    pub(super) fn owner(node: NodeId) -> String {
        format!("{OWNER}{node}")
    }
}

/// What the owners begin with that are other nodes; no user is called so.
const OWNER: &str = "node:";

/// The node that an owner stands for.
pub(super) fn node_of_owner(owner: &str) -> Option<NodeId> {
    owner.strip_prefix(OWNER)?.parse().ok()
}

/// Where users of this node find STUN and TURN: its own server and those of others. Clones are the same.
#[derive(Clone)]
pub struct IceServers {
    own: Option<Credentials>,
    abroad: Abroad,
}

impl std::fmt::Debug for IceServers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("IceServers").field("own", &self.own).finish_non_exhaustive()
    }
}

impl IceServers {
    pub(crate) fn new(own: Option<Credentials>, abroad: Abroad) -> IceServers {
        IceServers { own, abroad }
    }

    /// Fresh logins for a user, this node's own first; none where there is no such user, or no server.
    pub fn for_user(&self, user: &str) -> Vec<IceServer> {
        let own = self.own.as_ref().and_then(|own| own.for_user(user));
        own.into_iter().chain(self.abroad.for_user(user)).collect()
    }
}

/// The servers of others. Clones are the same.
#[derive(Clone)]
pub(crate) struct Abroad {
    overlay: Overlay,
    accounts: Accounts,
    granted: Arc<Mutex<BTreeMap<NodeId, Granted>>>,
}

struct Granted {
    grant: Grant,
    /// Of those that were found, which comes first.
    rank: usize,
    urls: Vec<String>,
}

impl Abroad {
    pub(crate) fn new(overlay: Overlay, accounts: Accounts) -> Abroad {
        Abroad { overlay, accounts, granted: Arc::default() }
    }

    fn for_user(&self, user: &str) -> Vec<IceServer> {
        if self.accounts.resolve(user).is_none() {
            return Vec::new();
        }
        let (now_s, node) = (unix_s(), self.overlay.node_id());
        let granted = self.granted();
        let mut known: Vec<&Granted> = granted.values().collect();
        known.sort_by_key(|granted| granted.rank);
        let servers = known.into_iter().filter_map(|Granted { grant, urls, .. }| {
            let until_s = (now_s + GOOD_FOR_S).min(grant.until_s);
            let expires_s = until_s.checked_sub(now_s).filter(|left| *left > 0)?;
            let username = Guest { until_s, node, granted_until_s: grant.until_s }.name();
            let credential = grant.password(&username);
            Some(IceServer { urls: urls.clone(), username, credential, expires_s })
        });
        servers.collect()
    }

    fn granted(&self) -> MutexGuard<'_, BTreeMap<NodeId, Granted>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for servers, and asks for what is needed there, as long as this node is not reached itself.
    pub(crate) async fn run(self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let is_reached = self.overlay.relay().is_some_and(|relay: RelayServer| relay.is_open());
            let mut servers = if is_reached { Vec::new() } else { self.overlay.turn_servers() };
            servers.retain(|server| !urls(server).is_empty());
            servers.truncate(MAX_SERVERS);
            self.granted().retain(|node, _| servers.iter().any(|server| server.node == *node));
            for (rank, server) in servers.into_iter().enumerate() {
                let known = self.granted().get(&server.node).map(|granted| granted.grant.clone());
                let known = known.filter(|grant| grant.until_s > unix_s() + RENEWED_BEFORE_S);
                let grant = match known {
                    Some(grant) => Some(grant),
                    None => timeout(WITHIN, ask(&self.overlay, server.node)).await.ok().flatten(),
                };
                let Some(grant) = grant else {
                    tracing::debug!(node = %server.node.short(), "a TURN server grants nothing to our users");
                    continue;
                };
                let granted = Granted { grant, rank, urls: urls(&server) };
                if self.granted().insert(server.node, granted).is_none() {
                    tracing::info!(node = %server.node.short(), "our users find a TURN server at another node");
                }
            }
        }
    }
}

/// Asks a node for a grant.
async fn ask(overlay: &Overlay, node: NodeId) -> Option<Grant> {
    let (mut send, mut recv) = overlay.open_stream(node, Protocol::Turn).await.ok()?;
    send.write_all(&[VERSION]).await.ok()?;
    send.shutdown().await.ok()?;
    let mut answer = [0; ANSWER];
    recv.read_exact(&mut answer).await.ok()?;
    let grant = Grant::decode(&answer)?;
    // Whatever the other one's clock says: it is not believed for longer than a day.
    (grant.until_s <= unix_s() + 2 * GRANTED_FOR_S).then_some(grant)
}

/// Grants to nodes of the overlay what they ask for, until that stops.
pub(crate) async fn serve(overlay: Overlay, credentials: Credentials) {
    let mut incoming = overlay.accept_streams(Protocol::Turn);
    let mut answering = JoinSet::new();
    while let Some(stream) = incoming.recv().await {
        while answering.try_join_next().is_some() {}
        if answering.len() >= MAX_ANSWERS {
            continue;
        }
        let Some(grant) = credentials.grant(stream.from, unix_s() + GRANTED_FOR_S) else { continue };
        answering.spawn(async move {
            let _ = timeout(WITHIN, answer(stream, grant)).await;
        });
    }
}

async fn answer(stream: IncomingStream, grant: Grant) -> Option<()> {
    let IncomingStream { mut send, mut recv, .. } = stream;
    recv.read_u8().await.ok()?;
    send.write_all(&grant.encode()).await.ok()?;
    send.shutdown().await.ok()
}

/// A server's URIs (RFC 7065), of addresses that the world knows where it has any.
fn urls(server: &TurnServer) -> Vec<String> {
    let is_global = |host: &IpAddr| matches!(Scope::of(SocketAddr::new(*host, server.port)), Scope::Global);
    let has_global = server.hosts.iter().any(is_global);
    let hosts = server.hosts.iter().filter(|host| !has_global || is_global(host)).take(MAX_HOSTS);
    let uris = hosts.flat_map(|host| {
        let at = SocketAddr::new(*host, server.port);
        ["udp", "tcp"].map(|over| format!("turn:{at}?transport={over}"))
    });
    uris.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    #[test]
    fn a_grant_is_made_again_from_the_node_and_the_time_alone_and_is_nobody_elses() {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let grant = Grant::new(&secret, node(1), 1000);
        let heard = Grant::decode(&grant.encode()).unwrap();
        assert_eq!((heard.until_s, heard.password("a")), (1000, Grant::new(&secret, node(1), 1000).password("a")));
        for other in [Grant::new(&secret, node(2), 1000), Grant::new(&secret, node(1), 1001)] {
            assert_ne!(other.password("a"), grant.password("a"));
        }
        let mut later = grant.encode();
        later[0] = VERSION + 1;
        assert!(Grant::decode(&later).is_none());
    }

    #[test]
    fn a_guests_name_is_read_in_one_form_and_is_good_for_its_time() {
        let guest = Guest { until_s: 1500, node: node(7), granted_until_s: 2000 };
        assert_eq!(Guest::read(&guest.name()), Some(guest));
        let id = node(7).to_string();
        for other in [
            format!("01500:{id}:2000"),
            format!("1500:{}:2000", id.to_uppercase()),
            format!("1500:{id}:02000"),
            format!("1500:{id}"),
            format!("1500:{id}:2000:1"),
            "1500:alice".to_owned(),
            "alice".to_owned(),
            "::".to_owned(),
        ] {
            assert_eq!(Guest::read(&other), None, "{other}");
        }
        let is_good =
            |until_s, granted_until_s, now_s| Guest { until_s, node: node(7), granted_until_s }.is_good(now_s);
        assert!(is_good(1500, 2000, 1499) && !is_good(1500, 2000, 1500), "it ends");
        assert!(!is_good(2001, 2000, 1000), "later than its grant");
        assert!(!is_good(200_000, 200_000, 1000), "nothing is granted for so long");
        assert_eq!(node_of_owner(&Guest::owner(node(7))), Some(node(7)));
        assert_eq!(node_of_owner("alice"), None);
    }

    #[test]
    fn users_are_told_addresses_that_the_world_knows_where_there_are_any() {
        let server = |hosts: &[&str]| TurnServer {
            node: node(1),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            port: 3478,
        };
        assert_eq!(
            urls(&server(&["10.0.0.1", "8.8.8.8", "2606:4700::1"])),
            [
                "turn:8.8.8.8:3478?transport=udp",
                "turn:8.8.8.8:3478?transport=tcp",
                "turn:[2606:4700::1]:3478?transport=udp",
                "turn:[2606:4700::1]:3478?transport=tcp"
            ]
        );
        assert_eq!(urls(&server(&["10.0.0.1"])).len(), 2);
    }
}
