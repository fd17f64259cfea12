//! A simulated world for pure cores: virtual time and a seeded network. For tests only.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`random`] | the seeded generator everything draws from |
//! | [`network`] | nodes, links with latency and loss, partitions, deaths; generic over what runs on the nodes |
//! | [`driver`] | the seam: what a core has to offer to run on a simulated node |
//! | [`history`] | what was written and read, and the checker that judges it |
//! | [`calls`] | calls between two ends behind boxes, packet by packet: how their sound goes |
//! | [`chaos`] | seeded histories of a small overlay in which everything goes wrong |
//! | [`liars`] | nodes that drop, misroute, deny and forge |
//! | [`nat`] | NAT boxes: who can be dialled by whom |
//! | [`overlay`] | the DHT as such a core |
//! | [`trust`] | certificates and signatures: forgeable and reproducible, real, or none |
//! | [`workload`] | many commands at once |
//!
//! The same seed gives the same run, event by event. Nothing here sleeps or opens a socket.
#![forbid(unsafe_code)]

pub mod calls;
pub mod chaos;
pub mod driver;
pub mod history;
pub mod liars;
pub mod nat;
pub mod network;
pub mod overlay;
mod queue;
pub mod random;
pub mod trust;
pub mod workload;

pub use driver::{Action, Driver, Input};
pub use nat::Nat;
pub use network::{Conditions, Network, Traffic};
pub use overlay::{Overlay, OverlayEvent, OverlayNode};
pub use random::Seeded;
pub use trust::Trust;
