//! The relay inside a node: connections that its page's listener hands over, since one port is all that many networks let out.
//!
//! What a connection says is iroh-relay's business. Ours is who gets in ([`gate`](super::gate)), how much each may send
//! ([`share`](super::share)), and how many may be on their way in.

use std::future::{Ready, ready};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use iroh_relay::KeyCache;
use iroh_relay::http::RELAY_PROBE_PATH;
use iroh_relay::server::http_server::{BytesBody, Handlers, HyperError, RelayService, RelayServiceWithNotify};
use iroh_relay::server::streams::MaybeTlsStream;
use iroh_relay::server::{ClientRateLimit, Metrics};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::discovery::Discovery;
use super::gate::{Expected, Gate};
use super::share::Share;
use super::trust::Shown;
use crate::link::LinkError;
use crate::link::table::unix_ms;
use crate::record::RelayPorts;

/// What a relay carries in all, unless told otherwise, in bytes a second: 150 calls at once, each both ways.
pub const DEFAULT_QUOTA: u32 = 4_000_000;

/// Connections that have not proved who they are yet.
const MAX_ESTABLISHING: usize = 64;

/// How long TLS, the upgrade and the proof may take.
const ESTABLISH_WITHIN: Duration = Duration::from_secs(10);

/// Largest head of a request, with a certificate in it.
const MAX_HEAD: usize = 16 * 1024;
const MAX_FIELDS: usize = 32;

/// Keys whose decoding is remembered: one each client, and those that they send to.
const KEY_CACHE: usize = 2048;

/// How often it is looked who has to leave and who takes how much.
const LOOK: Duration = Duration::from_secs(1);

/// What a relay is told at the start.
#[derive(Debug, Clone)]
pub struct RelayOffer {
    /// The TCP port at which connections for it arrive: whoever listens there hands them over by [`RelayServer::serve`].
    pub port: u16,
    /// UDP addresses for address discovery; those of one family at most each.
    pub discovery: Vec<SocketAddr>,
    /// Bytes a second that it is to carry in all.
    pub quota: u32,
    /// Whether machines without a certificate are let in for a moment, to get theirs.
    pub guests: Expected,
}

/// The relay of this node. Clones are the same.
#[derive(Debug, Clone)]
pub struct RelayServer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    offer: RelayOffer,
    service: RelayService,
    tls: Arc<rustls::ServerConfig>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    establishing: Arc<Semaphore>,
    is_open: AtomicBool,
    discovery: Mutex<Option<Discovery>>,
}

/// How a relay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLoad {
    /// Nodes connected.
    pub clients: usize,
    /// Bytes that were passed on since the start.
    pub carried: u64,
}

impl RelayServer {
    /// Makes a relay that is closed yet.
    pub(crate) fn new(offer: RelayOffer, gate: Gate, shown: Shown) -> Result<Self, LinkError> {
        let tls = shown.config().map_err(|error| LinkError::Local(error.to_string()))?;
        let (gate, metrics) = (Arc::new(gate), Arc::new(Metrics::default()));
        let mut handlers = Handlers::default();
        let probed: fn() -> BytesBody = || Box::new(Empty::new());
        handlers.insert(
            (Method::GET, RELAY_PROBE_PATH),
            Box::new(move |_, response| Ok(response.status(StatusCode::OK).body(probed())?)),
        );
        let limit = rate_limit(Share::new(offer.quota).ceiling());
        let service = RelayService::new(
            handlers,
            HeaderMap::new(),
            limit,
            KeyCache::new(KEY_CACHE),
            Arc::clone(&gate) as _,
            Arc::clone(&metrics),
        );
        let inner = Arc::new(Inner {
            offer,
            service,
            tls: Arc::new(tls),
            gate,
            metrics,
            establishing: Arc::new(Semaphore::new(MAX_ESTABLISHING)),
            is_open: AtomicBool::new(false),
            discovery: Mutex::new(None),
        });
        tokio::spawn(look_after(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// Returns the TCP port at which it would serve.
    pub(crate) fn offered(&self) -> u16 {
        self.0.offer.port
    }

    /// Serves nodes from now on, or no new ones any more. Those that are there may stay.
    pub(crate) fn set_open(&self, open: bool) {
        if self.0.is_open.swap(open, Ordering::Relaxed) == open {
            return;
        }
        info!(open, port = self.0.offer.port, "this node's relay");
        let mut discovery = self.0.discovery.lock().unwrap_or_else(PoisonError::into_inner);
        if open && discovery.is_none() && !self.0.offer.discovery.is_empty() {
            match Discovery::start(&self.0.offer.discovery, (*self.0.tls).clone()) {
                Ok(started) => *discovery = Some(started),
                Err(error) => warn!(
                    addresses = ?self.0.offer.discovery, %error,
                    "nodes cannot learn here which address their packets come from; hint: is the port taken?"
                ),
            }
        }
    }

    /// Returns where others find it, while it is open.
    pub(crate) fn ports(&self) -> Option<RelayPorts> {
        let discovery = self.0.discovery.lock().unwrap_or_else(PoisonError::into_inner);
        let discovery = discovery.as_ref().map_or(0, Discovery::port);
        self.is_open().then_some(RelayPorts { relay: self.0.offer.port, discovery })
    }

    /// Whether new nodes are served.
    pub fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::Relaxed)
    }

    /// Returns how it stands.
    pub fn load(&self) -> RelayLoad {
        RelayLoad { clients: self.0.gate.clients(), carried: self.0.metrics.bytes_recv.get() }
    }

    /// Serves a connection whose client names this relay, until it has proved who it is; refuses it where there are too many. What comes
    /// after that goes on by itself.
    pub async fn serve(&self, stream: TcpStream, from: IpAddr) {
        let Ok(_place) = Arc::clone(&self.0.establishing).try_acquire_owned() else {
            return debug!(%from, "a connection to the relay was turned away, too many have not said who they are");
        };
        if !self.is_open() {
            return;
        }
        // Sound does not wait for more to be sent with it.
        let _ = stream.set_nodelay(true);
        // Once the connection speaks the relay's protocol it is no longer ours to drop.
        let Ok(socket) = SockRef::from(&stream).try_clone() else { return };
        if timeout(ESTABLISH_WITHIN, self.establish(stream)).await != Ok(true) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Speaks TLS and HTTP, and waits until the client has proved who it is. Whether it has, or wanted something else and got that.
    async fn establish(&self, stream: TcpStream) -> bool {
        let established = Arc::new(Notify::new());
        let proved = established.notified();
        tokio::pin!(proved);
        proved.as_mut().enable();
        let is_upgraded = Arc::new(AtomicBool::new(false));
        let service = RelayServiceWithNotify::new(self.0.service.clone(), Arc::clone(&established));
        let service = Watched { service, is_upgraded: Arc::clone(&is_upgraded) };
        let Ok(tls) = TlsAcceptor::from(Arc::clone(&self.0.tls)).accept(stream).await else { return false };
        let mut http = http1::Builder::new();
        http.max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS).keep_alive(false);
        let io = TokioIo::new(MaybeTlsStream::Tls(tls));
        if http.serve_connection(io, service).with_upgrades().await.is_err() {
            return false;
        }
        if is_upgraded.load(Ordering::Relaxed) {
            proved.await;
        }
        true
    }
}

/// The service, and whether it was asked to speak the relay's protocol and will.
struct Watched {
    service: RelayServiceWithNotify,
    is_upgraded: Arc<AtomicBool>,
}

impl Service<Request<Incoming>> for Watched {
    type Response = Response<BytesBody>;
    type Error = HyperError;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answer = self.service.call(request);
        let answered = answer.into_inner();
        let is_upgrade = answered.as_ref().is_ok_and(|answer| answer.status() == StatusCode::SWITCHING_PROTOCOLS);
        self.is_upgraded.fetch_or(is_upgrade, Ordering::Relaxed);
        ready(answered)
    }
}

/// Sees every second to who has to leave and to who may send how much, as long as the relay is there.
async fn look_after(relay: Weak<Inner>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut share, mut carried, mut looked) = (None, 0, Instant::now());
    loop {
        ticks.tick().await;
        let Some(relay) = relay.upgrade() else { return };
        let share = share.get_or_insert_with(|| Share::new(relay.offer.quota));
        let (now, total) = (Instant::now(), relay.metrics.bytes_recv.get());
        let passed = now.saturating_duration_since(looked).as_millis().max(1);
        let sent = u128::from(total.saturating_sub(carried)) * 1000 / passed;
        (carried, looked) = (total, now);
        let sent = u64::try_from(sent).unwrap_or(u64::MAX);
        if share.note(sent) {
            relay.service.set_client_rate_limit(rate_limit(share.ceiling()));
        }
        relay.gate.set_overcommitted(share.is_overcommitted(sent));
        for (key, connection) in relay.gate.to_leave(now, unix_ms() / 1000) {
            relay.service.clients().disconnect(key, Some(connection));
        }
    }
}

/// A second's worth may come at once: sound comes evenly, and what does not can wait.
fn rate_limit(ceiling: u32) -> Option<ClientRateLimit> {
    let ceiling = NonZeroU32::new(ceiling)?;
    let mut limit = ClientRateLimit::new(ceiling);
    limit.max_burst_bytes = Some(ceiling);
    Some(limit)
}
