//! Enrolment: how a machine that holds a ticket, but no certificate yet, asks a node for one.
//!
//! ALPN `meshtone-join/1`, one stream: the whole request, then the whole reply. Both are opaque here. Who asks is known
//! by its link key; whether it may join is the [`EnrolHandler`]'s to say.

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use iroh::endpoint::{Connection, VarInt};
use iroh::{Endpoint, RelayConfig, RelayMap, RelayUrl};
use meshtone_identity::{LinkKey, OverlayId};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::limits::{ENROLMENT_TIMEOUT, GOODBYE_TIMEOUT, MAX_ENROLMENT, MAX_ENROLMENTS};
use super::pace::Paces;
use super::relay::book::Book;
use super::relay::trust::Trust;
use super::relay::{self};
use super::{JOIN_ALPN, LinkError, Path, PeerAddress, code, endpoint};
use crate::record::Revoked;

/// How long a direct answer is waited for before the inviter's relay is asked as well: two of QUIC's attempts.
const RELAY_HEAD_START: Duration = Duration::from_millis(1500);

/// Who asks for enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// Its link key, as proved by the connection.
    pub link_key: LinkKey,
    /// Where its packets come from; none over a relay.
    pub source: Option<IpAddr>,
}

/// Answers a request for enrolment: who asks, the request's bytes; returns the reply's.
///
/// It is called on a thread that may block.
pub type EnrolHandler = Arc<dyn Fn(Asker, Vec<u8>) -> Vec<u8> + Send + Sync>;

/// Why an enrolment came to nothing. Each variant says on whose side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// Ours: no socket.
    #[error("cannot open a socket: {0}")]
    Local(String),
    /// The network, or the inviter is not running.
    #[error("the inviting node does not answer: {0}")]
    Unreachable(String),
    /// The inviter hung up on us.
    #[error("the inviting node broke off: {0}")]
    BrokenOff(String),
    /// Ours or the inviter's: too large a request or reply.
    #[error("larger than {0} bytes")]
    TooLarge(usize),
}

/// Asks the inviter: one request, one reply, both opaque here and at most 64 KiB. Takes 10 s at most.
///
/// `link_secret` is the secret of the link key that the new node will have, so the inviter knows who asks. The inviter is asked
/// directly, and where nothing is heard of it soon, as where UDP is not let out, also through the relay that it may run, at the port that
/// a ticket names or one of the usual ones, which has to prove that it belongs to the overlay.
///
/// # Errors
/// See [`EnrolError`].
pub async fn ask(
    link_secret: [u8; 32],
    overlay: OverlayId,
    inviter: PeerAddress,
    relay_port: Option<u16>,
    request: &[u8],
) -> Result<Vec<u8>, EnrolError> {
    if request.len() > MAX_ENROLMENT {
        return Err(EnrolError::TooLarge(MAX_ENROLMENT));
    }
    let (map, book) = (RelayMap::empty(), Book::default());
    let trust = Trust { overlay, revoked: Revoked::default() };
    let relays = endpoint::RelayUse { map: map.clone(), book: book.clone(), trust };
    let endpoint = match endpoint::bind(&any_port(&inviter), link_secret, &[], relays).await {
        Ok(endpoint) => endpoint,
        Err(error) => return Err(EnrolError::Local(error.to_string())),
    };
    let places = relay::guesses(&inviter, relay_port).into_iter();
    let relays: Vec<RelayUrl> = places
        .filter_map(|place| {
            book.set(place.link_key, &place.hosts);
            let url = relay::name::url_of(place.link_key, place.ports.relay)?;
            map.insert(url.clone(), Arc::new(RelayConfig::new(url.clone(), None)));
            Some(url)
        })
        .collect();
    let asked = timeout(ENROLMENT_TIMEOUT, exchange(&endpoint, &inviter, &relays, request)).await;
    // The reply is here; whether the inviter hears our goodbye matters little.
    let _ = timeout(GOODBYE_TIMEOUT, endpoint.close()).await;
    asked.unwrap_or_else(|_| Err(EnrolError::Unreachable("it took too long".to_owned())))
}

/// One socket for each family that the inviter has addresses of: a machine without IPv6 has none to bind.
fn any_port(inviter: &PeerAddress) -> Vec<SocketAddr> {
    let mut bind: Vec<SocketAddr> = Vec::new();
    if inviter.addrs.iter().any(SocketAddr::is_ipv4) {
        bind.push((Ipv4Addr::UNSPECIFIED, 0).into());
    }
    if inviter.addrs.iter().any(SocketAddr::is_ipv6) {
        bind.push((Ipv6Addr::UNSPECIFIED, 0).into());
    }
    bind
}

async fn exchange(
    endpoint: &Endpoint,
    inviter: &PeerAddress,
    relays: &[RelayUrl],
    request: &[u8],
) -> Result<Vec<u8>, EnrolError> {
    let connection = connect(endpoint, inviter, relays).await?;
    let broken = |_| EnrolError::BrokenOff(endpoint::why_closed(&connection).to_string());
    let (mut send, mut recv) = connection.open_bi().await.map_err(|_| broken(()))?;
    send.write_all(request).await.map_err(|_| broken(()))?;
    send.finish().map_err(|_| broken(()))?;
    let reply = recv.read_to_end(MAX_ENROLMENT).await.map_err(|_| broken(()))?;
    endpoint::close(&connection, code::GOODBYE);
    Ok(reply)
}

/// Connects directly, and a little later also through the relay; whichever is first. The request goes over one of them only: a ticket
/// is good once.
async fn connect(endpoint: &Endpoint, inviter: &PeerAddress, relays: &[RelayUrl]) -> Result<Connection, EnrolError> {
    let dial = async |relays: &[RelayUrl]| {
        let unreachable = |error: String| EnrolError::Unreachable(error);
        let address = endpoint::dial_address(inviter, relays).map_err(|error| unreachable(error.to_string()))?;
        endpoint.connect(address, JOIN_ALPN).await.map_err(|error| unreachable(format!("{error:#}")))
    };
    let relayed = async {
        if relays.is_empty() {
            return pending().await;
        }
        sleep(RELAY_HEAD_START).await;
        dial(relays).await
    };
    tokio::select! {
        connected = dial(&[]) => connected,
        connected = relayed => connected,
    }
}

/// Where enrolments are answered, at a bounded pace.
pub(super) struct Desk {
    handler: EnrolHandler,
    places: Semaphore,
    paces: Mutex<Paces>,
}

impl Desk {
    pub(super) fn new(handler: EnrolHandler) -> Self {
        Self { handler, places: Semaphore::new(MAX_ENROLMENTS), paces: Mutex::default() }
    }

    /// Answers one request, then waits for the asker to hang up, so that the reply arrives whole.
    pub(super) async fn serve(&self, connection: &Connection) {
        let asker = endpoint::remote_key(connection);
        let source = match endpoint::path(connection) {
            (Path::Direct(address), _) => Some(address.ip()),
            (Path::Relayed, _) => None,
        };
        let allowed = self.paces.lock().unwrap_or_else(PoisonError::into_inner).allow(Instant::now(), source);
        let Some(_place) = self.places.try_acquire().ok().filter(|_| allowed) else {
            debug!(asker = %asker.short(), "an enrolment was turned away, too many");
            return endpoint::close(connection, code::BUSY);
        };
        let served = timeout(ENROLMENT_TIMEOUT, self.answer(Asker { link_key: asker, source }, connection)).await;
        if !matches!(served, Ok(Ok(()))) {
            debug!(asker = %asker.short(), "an enrolment was broken off");
            endpoint::close(connection, code::MALFORMED);
        }
    }

    async fn answer(&self, asker: Asker, connection: &Connection) -> Result<(), LinkError> {
        let ended = || endpoint::why_closed(connection);
        let (mut send, mut recv) = connection.accept_bi().await.map_err(|_| ended())?;
        let request = recv.read_to_end(MAX_ENROLMENT).await.map_err(|_| ended())?;
        let handler = Arc::clone(&self.handler);
        let reply = tokio::task::spawn_blocking(move || handler(asker, request))
            .await
            .map_err(|_| LinkError::Local("the enrolment could not be answered".to_owned()))?;
        if send.write_all(&reply).await.is_err() || send.finish().is_err() {
            let _ = send.reset(VarInt::from_u32(code::ABORTED));
            return Err(ended());
        }
        connection.closed().await;
        Ok(())
    }
}
