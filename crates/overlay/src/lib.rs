//! The overlay: a DHT of signed records over encrypted links between nodes.
//!
//! [`dht`] and [`record`] are pure (no clock, socket or async); [`link`] is the only place that knows iroh;
//! [`Overlay`] joins them. The overlay knows nothing of SIP.
#![forbid(unsafe_code)]

mod bucket;
pub mod dht;
#[allow(clippy::disallowed_methods, reason = "links are where the overlay meets clock and network")]
pub mod link;
#[allow(clippy::disallowed_methods, reason = "the router is asked over sockets, again and again")]
pub mod mapping;
#[allow(clippy::disallowed_methods, reason = "the handle gives the pure machine its time")]
pub mod node;
pub mod record;

pub use link::changes::follow_network;
pub use link::enrol;
pub use link::enrol::{Asker, EnrolHandler};
pub use link::relay::client::RelayUse;
pub use link::relay::gate::Expected;
pub use link::relay::name::is_relay;
pub use link::relay::serve::{DEFAULT_QUOTA, RelayLoad, RelayOffer, RelayServer};
pub use link::{
    DatagramHandler, IncomingStream, LinkEvent, LinkQuality, LinkStatus, Network, Path, PeerAddress, Protocol,
    RecvStream, SendStream,
};
pub use mapping::{MappedPort, MappingProtocol, PortMapping, WantedPort};
pub use node::{
    Config, Entry, Error, Listener, Overlay, Presence, ReachTest, RecordStore, RelayChoice, RoleChoice, RoleReason,
    RoleStatus, Search, TurnServer,
};
pub use record::{Kind, ResourceId};
