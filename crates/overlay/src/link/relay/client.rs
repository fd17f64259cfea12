//! Which relays this node is connected to.
//!
//! iroh measures the delay to every relay that it is told of and stays connected to the nearest, its *home*. What is added here: a
//! *second* that is kept open too, so that there is a way when the first dies; relays of others, for as long as they are reached through
//! them; and doubts. A relay that dies, or takes packets and passes nothing on (iroh#4476), is left out where there is another, until iroh
//! has let the connection go, and is connected to anew after that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iroh::endpoint::Connection;
use iroh::{Endpoint, EndpointAddr, RelayConfig, RelayMap, RelayUrl, SecretKey, TransportAddr, Watcher};
use iroh_relay::RelayQuicConfig;
use meshtone_identity::LinkKey;
use meshtone_identity::id::sha256;
use tokio::time::timeout;
use tracing::{debug, info};

use super::book::Book;
use super::{RelayPlace, name};
use crate::link::ALPN;

/// Relays that this node measures and may be found at: iroh asks five at most for our address.
pub(crate) const MAX_KEPT: usize = 4;

/// Relays of others that are known at once; whoever was needed longest ago is forgotten.
const MAX_VISITED: usize = 16;

/// How long a relay is left out that was found dead, where there is another: iroh lets a connection go that was not used for a minute.
const DOUBT: Duration = Duration::from_secs(75);

/// Links through one relay that have to fall silent within [`SILENCES_WITHIN`] before it is doubted: one alone tells of its node.
const SILENCES: u32 = 3;
const SILENCES_WITHIN: Duration = Duration::from_secs(20);

/// How long the connection to the home relay may be down before it is given up: a restart of the connection alone takes less.
const DEAD_AFTER: Duration = Duration::from_millis(1000);

/// iroh lets a connection go that was not written to for a minute.
const KEEP_OPEN_EVERY: Duration = Duration::from_secs(20);

/// How long is waited for nobody's answer, so that one packet leaves.
const KNOCK: Duration = Duration::from_millis(300);

/// How a node shows what it is, as it is now.
pub(crate) type Token = Arc<dyn Fn() -> String + Send + Sync>;

/// The relays of a node. Clones are the same.
#[derive(Clone)]
pub(crate) struct RelayClient(Arc<Inner>);

struct Inner {
    own: LinkKey,
    endpoint: Endpoint,
    map: RelayMap,
    book: Book,
    token: Token,
    /// Makes keys that nobody has.
    salt: [u8; 32],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By key: those that this node may be found at.
    kept: BTreeMap<LinkKey, Known>,
    /// Those of others, by the port as well: it may be a guess.
    visited: BTreeMap<(LinkKey, u16), Known>,
    second: Option<LinkKey>,
    down_since: Option<Instant>,
    /// Links that fell silent, by relay, and since when they are counted.
    silences: BTreeMap<LinkKey, (Instant, u32)>,
    kept_open_at: Option<Instant>,
}

struct Known {
    place: RelayPlace,
    url: RelayUrl,
    generation: u64,
    doubted_until: Option<Instant>,
    /// It is doubted since it did not answer.
    was_down: bool,
    needed: Instant,
}

/// A relay that this node is found at.
#[derive(Debug, Clone, PartialEq)]
pub struct RelayUse {
    /// The link key of the node that runs it.
    pub link_key: LinkKey,
    /// It is the nearest, to which most go.
    pub is_home: bool,
    /// Whether it answers.
    pub is_connected: bool,
    /// The delay as measured last, in milliseconds.
    pub rtt_ms: Option<f64>,
}

impl RelayClient {
    pub(crate) fn new(endpoint: Endpoint, map: RelayMap, book: Book, token: Token, salt: [u8; 32]) -> Self {
        let own = LinkKey::from_bytes(*endpoint.id().as_bytes());
        Self(Arc::new(Inner { own, endpoint, map, book, token, salt, state: Mutex::default() }))
    }

    /// Uses these relays from now on, and no others. Whether that changes anything.
    pub(crate) fn keep(&self, relays: &[RelayPlace]) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        let relays = relays.get(..MAX_KEPT).unwrap_or(relays);
        let gone: Vec<LinkKey> =
            state.kept.keys().filter(|key| !relays.iter().any(|relay| relay.link_key == **key)).copied().collect();
        let mut changed = !gone.is_empty();
        for key in gone {
            if let Some(known) = state.kept.remove(&key) {
                self.remove(&known.url);
                self.0.book.forget(key);
            }
            state.second = state.second.filter(|second| *second != key);
        }
        for relay in relays {
            if state.kept.get(&relay.link_key).is_some_and(|known| known.place == *relay) {
                continue;
            }
            changed = true;
            if let Some(known) = state.kept.remove(&relay.link_key) {
                self.remove(&known.url);
            }
            for (_, known) in state.visited.extract_if(.., |(key, _), _| *key == relay.link_key) {
                self.remove(&known.url);
            }
            if let Some(known) = self.insert(relay, 0, true, now) {
                debug!(relay = %relay.link_key.short(), hosts = ?relay.hosts, "a relay is known");
                state.kept.insert(relay.link_key, known);
            }
        }
        changed
    }

    /// Returns what iroh calls a relay of others, and sees to it that it can be used.
    pub(crate) fn visit(&self, relay: &RelayPlace) -> Option<RelayUrl> {
        let (mut state, now) = (self.state(), Instant::now());
        let state = &mut *state;
        let place = (relay.link_key, relay.ports.relay);
        let known = [state.kept.get_mut(&relay.link_key), state.visited.get_mut(&place)];
        for known in known.into_iter().flatten() {
            if known.place == *relay || relay.link_key == self.0.own {
                known.needed = now;
                return Some(known.url.clone());
            }
        }
        if state.visited.len() >= MAX_VISITED {
            let oldest = state.visited.iter().min_by_key(|(_, known)| known.needed).map(|(key, _)| *key);
            if let Some((key, _)) = oldest {
                // Its other ports go with it, since its addresses do.
                for (_, known) in state.visited.extract_if(.., |(of, _), _| *of == key) {
                    self.remove(&known.url);
                }
                self.0.book.forget(key);
            }
        }
        let known = self.insert(relay, 0, false, now)?;
        let url = known.url.clone();
        if let Some(before) = state.visited.insert(place, known) {
            self.remove(&before.url);
        }
        Some(url)
    }

    /// Returns the relay that packets of a connection go through, if they do.
    pub(crate) fn relay_of(connection: &Connection) -> Option<LinkKey> {
        let paths = connection.paths();
        let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next())?;
        // The enum may grow.
        #[allow(clippy::wildcard_enum_match_arm, clippy::wildcard_in_or_patterns)]
        match path.remote_addr() {
            TransportAddr::Relay(url) => name::key_of_url(url),
            TransportAddr::Ip(_) | _ => None,
        }
    }

    /// Takes note that a link through a relay fell silent.
    pub(crate) fn doubt(&self, key: LinkKey) {
        let (mut state, now) = (self.state(), Instant::now());
        state.silences.retain(|_, (since, _)| now.saturating_duration_since(*since) < SILENCES_WITHIN);
        let (_, count) = state.silences.entry(key).or_insert((now, 0));
        *count += 1;
        if *count >= SILENCES {
            self.leave_out(&mut state, key, now);
        }
    }

    /// Has relays asked at once where our packets come from, instead of within half a minute.
    pub(crate) fn measure_again(&self) {
        self.tell();
    }

    /// Shows relays what this node's certificate is now. iroh keeps what it shows under the URL of a relay, so that a number in it makes
    /// another connection; the one of before goes by itself.
    pub(crate) fn show_again(&self) {
        let (mut state, now) = (self.state(), Instant::now());
        for known in state.kept.values_mut().filter(|known| known.doubted_until.is_none()) {
            self.make_anew(known, known.generation + 1, now);
        }
        for known in std::mem::take(&mut state.visited).into_values() {
            self.remove(&known.url);
            self.0.book.forget(known.place.link_key);
        }
    }

    /// Returns the relays that this node is found at, the nearest first.
    pub(crate) fn in_use(&self) -> Vec<RelayUse> {
        let state = self.state();
        let home = self.home();
        let keys = home.map(|(key, _)| key).into_iter().chain(state.second);
        let keys = keys.filter(|key| state.kept.contains_key(key));
        let latencies = self.latencies();
        keys.map(|key| {
            let rtt_ms = latencies.get(&key).map(|delay| delay.as_secs_f64() * 1000.0);
            let (is_home, is_up) = home.map_or((false, true), |(home, is_up)| (home == key, home != key || is_up));
            RelayUse { link_key: key, is_home, is_connected: is_up && self.0.book.down_since(key).is_none(), rtt_ms }
        })
        .collect()
    }

    /// Looks after the connections; to be called every half a second or so. Returns the relays through which nothing goes any more.
    pub(crate) fn look(&self) -> Vec<LinkKey> {
        let (mut state, now) = (self.state(), Instant::now());
        let home = self.home();
        self.choose_second(&mut state, home.map(|(key, _)| key));
        self.return_doubted(&mut state, now);
        if state.kept_open_at.is_none_or(|at| at + KEEP_OPEN_EVERY <= now) {
            state.kept_open_at = Some(now);
            if let Some(second) = state.second.and_then(|key| state.kept.get(&key)) {
                self.keep_open(second);
            }
        }
        let mut dead = self.0.book.down_for(now, DEAD_AFTER);
        match home {
            Some((key, false)) => {
                let since = *state.down_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= DEAD_AFTER && !dead.contains(&key) {
                    dead.push(key);
                }
            }
            Some((_, true)) | None => state.down_since = None,
        }
        for key in &dead {
            if self.leave_out(&mut state, *key, now) {
                info!(relay = %key.short(), "a relay is lost");
            }
        }
        dead
    }

    /// Leaves a relay out for a while, if there is another; whether there is. One alone comes back by itself, if it does.
    fn leave_out(&self, state: &mut State, key: LinkKey, now: Instant) -> bool {
        let others = state.kept.iter().any(|(other, known)| *other != key && known.doubted_until.is_none());
        let Some(known) = state.kept.get_mut(&key).filter(|known| others && known.doubted_until.is_none()) else {
            return false;
        };
        self.remove(&known.url);
        known.doubted_until = Some(now + DOUBT);
        known.was_down = self.0.book.down_since(key).is_some();
        state.silences.remove(&key);
        state.down_since = None;
        state.second = state.second.filter(|second| *second != key);
        state.kept_open_at = None;
        true
    }

    fn return_doubted(&self, state: &mut State, now: Instant) {
        for (key, known) in &mut state.kept {
            // Whoever did not answer is back when he does.
            let is_back = known.was_down && self.0.book.down_since(*key).is_none();
            if known.doubted_until.is_some_and(|until| until <= now || is_back) {
                self.make_anew(known, known.generation, now);
            }
        }
    }

    fn make_anew(&self, known: &mut Known, generation: u64, now: Instant) {
        self.remove(&known.url);
        if let Some(fresh) = self.insert(&known.place, generation, true, now) {
            *known = fresh;
        }
    }

    /// The second is the nearest of the others, and stays as long as it is there.
    fn choose_second(&self, state: &mut State, home: Option<LinkKey>) {
        let usable = |key: &LinkKey, known: &Known| Some(*key) != home && known.doubted_until.is_none();
        let stays = state.second.is_some_and(|key| state.kept.get(&key).is_some_and(|known| usable(&key, known)));
        if stays {
            return;
        }
        let latencies = self.latencies();
        let others = state.kept.iter().filter(|(key, known)| usable(key, known)).map(|(key, _)| *key);
        state.second = others.min_by_key(|key| latencies.get(key).copied().unwrap_or(Duration::MAX));
        state.kept_open_at = None;
    }

    /// Sends a packet to nobody through a relay, which keeps the connection to it open.
    fn keep_open(&self, known: &Known) {
        let nobody =
            SecretKey::from_bytes(&sha256(&[&self.0.salt[..], known.place.link_key.as_bytes()].concat())).public();
        let (endpoint, url) = (self.0.endpoint.clone(), known.url.clone());
        tokio::spawn(async move {
            let _ = timeout(KNOCK, endpoint.connect(EndpointAddr::new(nobody).with_relay_url(url), ALPN)).await;
        });
    }

    /// The relay that iroh has chosen, and whether it is connected to it.
    fn home(&self) -> Option<(LinkKey, bool)> {
        let status = self.0.endpoint.home_relay_status().get().into_iter().next()?;
        Some((name::key_of_url(status.url())?, status.is_connected()))
    }

    fn latencies(&self) -> BTreeMap<LinkKey, Duration> {
        let mut latencies: BTreeMap<LinkKey, Duration> = BTreeMap::new();
        if let Some(report) = self.0.endpoint.net_report().get() {
            for (_, url, delay) in report.relay_latency.iter() {
                if let Some(key) = name::key_of_url(url) {
                    let least = latencies.entry(key).or_insert(delay);
                    *least = delay.min(*least);
                }
            }
        }
        latencies
    }

    fn insert(&self, relay: &RelayPlace, generation: u64, kept: bool, now: Instant) -> Option<Known> {
        let mut url = name::url_of(relay.link_key, relay.ports.relay)?;
        if generation > 0 {
            url = format!("{url}?{generation}").parse().ok()?;
        }
        self.0.book.set(relay.link_key, &relay.hosts);
        // Our own relay sees us where nobody else does.
        let discovery = (kept && relay.ports.discovery != 0 && relay.link_key != self.0.own)
            .then(|| RelayQuicConfig::new(relay.ports.discovery));
        let config = Arc::new(RelayConfig::new(url.clone(), discovery).with_auth_token((self.0.token)()));
        self.0.map.insert(url.clone(), config);
        self.tell();
        Some(Known { place: relay.clone(), url, generation, doubted_until: None, was_down: false, needed: now })
    }

    fn remove(&self, url: &RelayUrl) {
        self.0.map.remove(url);
        self.tell();
    }

    /// Lets iroh know that the map has changed, so that it measures again. That an entry is taken out which is not there tells it so;
    /// what is done to the map itself is done at once and in order.
    fn tell(&self) {
        let Some(nobody) = name::url_of(self.0.own, 1) else { return };
        let endpoint = self.0.endpoint.clone();
        tokio::spawn(async move { endpoint.remove_relay(&nobody).await });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use iroh::RelayMode;
    use iroh::endpoint::presets;

    use super::super::provider;
    use super::*;
    use crate::record::RelayPorts;

    /// The relay of this number, where nobody is.
    fn place(number: u8) -> RelayPlace {
        let ports = RelayPorts { relay: 9, discovery: 0 };
        RelayPlace { link_key: LinkKey::from_bytes([number; 32]), hosts: vec![[127, 0, 0, 1].into()], ports }
    }

    async fn client(map: &RelayMap) -> RelayClient {
        let endpoint = Endpoint::builder(presets::Minimal)
            .crypto_provider(provider())
            .relay_mode(RelayMode::Custom(map.clone()))
            .clear_ip_transports()
            .bind_addr("127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap())
            .unwrap();
        let endpoint = endpoint.bind().await.unwrap();
        RelayClient::new(endpoint, map.clone(), Book::default(), Arc::new(String::new), [0; 32])
    }

    /// iroh#4476: a connection to a relay that is there and carries nothing.
    #[tokio::test]
    async fn a_relay_through_which_several_links_fell_silent_is_left_out_as_long_as_there_is_another() {
        let map = RelayMap::empty();
        let client = client(&map).await;
        client.keep(&[place(1), place(2)]);
        let is_used = |number: u8| map.contains(&name::url_of(place(number).link_key, 9).unwrap());
        assert!(is_used(1) && is_used(2));
        for _ in 1..SILENCES {
            client.doubt(place(1).link_key);
            assert!(is_used(1), "one link alone may have been its node's fault");
        }
        client.doubt(place(1).link_key);
        assert!(!is_used(1) && is_used(2));
        for _ in 0..SILENCES * 2 {
            client.doubt(place(2).link_key);
        }
        assert!(is_used(2), "there is no other");
        // What is said of relays meanwhile does not bring it back; a third one is another.
        client.keep(&[place(1), place(2), place(3)]);
        assert!(!is_used(1) && is_used(3));
        client.doubt(place(2).link_key);
        assert!(!is_used(2) && is_used(3));
    }
}
