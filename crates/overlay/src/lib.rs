//! The overlay: a DHT of signed records over encrypted links between nodes.
//!
//! [`dht`] and [`record`] are pure (no clock, socket or async); [`link`] is the only place that knows iroh;
//! [`Overlay`] joins them. The overlay knows nothing of SIP.
#![forbid(unsafe_code)]

pub mod dht;
pub mod link;
pub mod node;
pub mod record;

pub use link::enrol;
pub use link::{IncomingStream, LinkEvent, LinkStatus, Path, PeerAddress, Protocol, RecvStream, SendStream};
pub use node::{Config, Entry, Error, Overlay};
pub use record::{Kind, ResourceId};
