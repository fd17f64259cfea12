//! A simulated world for pure cores: virtual time and a seeded network. For tests only.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`random`] | the seeded generator everything draws from |
//! | [`network`] | nodes, links with latency and loss, partitions, deaths; generic over what runs on the nodes |
//! | [`driver`] | the seam: what a core has to offer to run on a simulated node |
//! | [`history`] | what was written and read, and the checker that judges it |
//! | [`chaos`] | seeded histories of a small overlay in which everything goes wrong |
//! | [`liars`] | nodes that drop, misroute, deny and forge |
//! | [`overlay`] | the DHT as such a core, with certificates whose signatures are forgeable and reproducible |
//!
//! The same seed gives the same run, event by event. NAT boxes are a later step; [`network::Network::set_reachable`] is where
//! they will stand. Nothing here sleeps or opens a socket.
#![forbid(unsafe_code)]

pub mod chaos;
pub mod driver;
pub mod history;
pub mod liars;
pub mod network;
pub mod overlay;
pub mod random;

pub use driver::{Action, Driver, Input};
pub use network::{Conditions, Network};
pub use overlay::{Overlay, OverlayEvent, OverlayNode};
pub use random::Seeded;
