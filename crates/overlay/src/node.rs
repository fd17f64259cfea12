//! The running overlay node: [`Overlay`], a handle that may be cloned, and the task behind it.
//!
//! One task drives the pure DHT core with the messages that links bring and the time; links, dialling and records of our
//! own are looked after beside it.

mod config;
mod error;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{NodeId, OverlayId};
use tokio::sync::{broadcast, mpsc};

use crate::link::{IncomingStream, LinkEvent, LinkStatus, PeerAddress, Protocol, RecvStream, SendStream};
use crate::record::Kind;

pub use config::{Config, DEFAULT_REPLICAS, EnrolHandler};
pub use error::Error;

/// A value that was found, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The node that wrote and signed it.
    pub writer: NodeId,
    /// The content.
    pub value: Bytes,
    /// When it was written, in unix milliseconds by the writer's clock.
    pub stored_ms: u64,
    /// When it ends, in unix milliseconds.
    pub expires_ms: u64,
}

/// A node of the overlay, running. Clones are the same node.
#[derive(Clone)]
pub struct Overlay {
    inner: Arc<Inner>,
}

struct Inner {}

impl Overlay {
    /// Opens the sockets and starts; links to the bootstrap nodes come up afterwards, by themselves.
    ///
    /// # Errors
    /// [`Error::Config`] when certificates, key and overlay do not fit together; [`Error::Socket`].
    pub async fn start(config: Config) -> Result<Self, Error> {
        let _ = config;
        Err(Error::Stopped)
    }

    /// Returns our node id.
    pub fn node_id(&self) -> NodeId {
        todo!()
    }

    /// Returns the overlay's id.
    pub fn overlay_id(&self) -> OverlayId {
        todo!()
    }

    /// Signs a value and stores it in the overlay; returns when three nodes hold it, or all there are.
    ///
    /// It is stored again by itself before its neighbourhood forgets it, until its lifetime ends.
    ///
    /// # Errors
    /// [`Error::Record`], [`Error::Refused`], [`Error::Timeout`], [`Error::Stopped`].
    pub async fn store(&self, kind: Kind, name: &str, value: Bytes, lifetime: Duration) -> Result<(), Error> {
        let _ = (kind, name, value, lifetime, &self.inner);
        Err(Error::Stopped)
    }

    /// Removes our value: stores a tombstone in its place.
    ///
    /// # Errors
    /// Those of [`store`](Self::store).
    pub async fn remove(&self, kind: Kind, name: &str) -> Result<(), Error> {
        let _ = (kind, name);
        Err(Error::Stopped)
    }

    /// Reads what stands under a name: verified, the newest of each writer, removals left out.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`]. Nothing found is no error but an empty list.
    pub async fn fetch(&self, kind: Kind, name: &str) -> Result<Vec<Entry>, Error> {
        let _ = (kind, name);
        Err(Error::Stopped)
    }

    /// As [`fetch`](Self::fetch), but returns at the first verified answer.
    ///
    /// # Errors
    /// Those of [`fetch`](Self::fetch).
    pub async fn fetch_first(&self, kind: Kind, name: &str) -> Result<Vec<Entry>, Error> {
        let _ = (kind, name);
        Err(Error::Stopped)
    }

    /// Returns the links that are up, by node id.
    pub fn links(&self) -> Vec<LinkStatus> {
        Vec::new()
    }

    /// Returns how many values we hold of each kind.
    pub fn records_held(&self) -> Vec<(Kind, usize)> {
        Vec::new()
    }

    /// Returns how many other nodes are known.
    pub fn nodes_known(&self) -> usize {
        0
    }

    /// Tells of links that come and go from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<LinkEvent> {
        todo!()
    }

    /// Makes sure that there is a link to this node: finds its addresses in the overlay and dials it if need be.
    ///
    /// # Errors
    /// [`Error::NoAddress`], [`Error::Unreachable`], [`Error::Timeout`], [`Error::Stopped`].
    pub async fn connect(&self, node: NodeId) -> Result<(), Error> {
        let _ = node;
        Err(Error::Stopped)
    }

    /// Opens a stream to this node, over a link that is made if need be.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    pub async fn open_stream(&self, node: NodeId, protocol: Protocol) -> Result<(SendStream, RecvStream), Error> {
        let _ = (node, protocol);
        Err(Error::Stopped)
    }

    /// Returns the streams of this protocol that other nodes open. Asked a second time, the first receiver ends.
    pub fn accept_streams(&self, protocol: Protocol) -> mpsc::Receiver<IncomingStream> {
        let _ = protocol;
        todo!()
    }

    /// Returns the addresses at which our links are reached: real ones, even when bound to all of them.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Returns the peers that are known, linked ones first, to be dialled at the next start.
    pub fn host_cache(&self) -> Vec<PeerAddress> {
        Vec::new()
    }

    /// Says goodbye on all links, so that peers know at once, and closes the sockets.
    pub async fn shutdown(self) {}
}
