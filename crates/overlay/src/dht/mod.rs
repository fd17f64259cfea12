//! The distributed hash table: who is linked with whom, where records live, how they are found and kept (RFC 6940 §6, §7).
//!
//! Kademlia's metric over 256-bit ids, on a bounded mesh of links. Requests travel recursively along links, so they cross NATs;
//! each hop acknowledges at once and the hop before tries its next candidate when that fails to come. Records live on the
//! nodes closest to their resource id.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`machine`] | [`Dht`]: the one machine, its inputs and outputs |
//! | [`message`], [`body`] | what peers say to each other, and its encoding |
//! | `table` | links and known nodes, and which links are worth having |
//! | `subnet` | the part of the Internet a node is reached in, of which no table takes too many |
//! | `membership` | joining, siblings, buckets, closing what is too much |
//! | `relay` | requests under way: next hops, soft timeouts, the way back |
//! | `operation`, `lookup`, `answers` | commands under way: whom they know of, whom they ask, what comes back |
//! | `fetch`, `store` | what is read and written by them |
//! | `clock` | how far this node's clock is off |
//! | `absence` | what was confirmed to be nowhere, a moment ago |
//! | `hedge` | what is done when a read that ends with its first value waits for somebody late |
//! | `doubt` | what is done before "not found" is believed |
//! | `visit` | what is done when doubts do not help |
//! | `publish` | what this node keeps stored as its owner |
//! | `serve`, `storage` | what others ask of it, and what it holds for them |
//! | `listen`, `listeners` | hearing of changes, and telling those who want to hear of them |
//! | [`evidence`] | two signed statements of one writer that contradict each other |
//! | `rooms` | who takes how much of the storage, and who makes room |
//! | `refusals` | what others had no room for |
//! | `dates` | what this node dated ahead of its clock |
//! | [`persist`] | what of the storage outlives the process |
//! | `hand_over` | moving records when neighbours change, and repair |
//! | `role`, `roles` | whether this node serves, and what follows when that changes |
//! | `presence` | how it was there in the last days |
//! | `reach` | whether others reach this node |
//! | `introduce` | reaching those who cannot be dialled, through nodes that they have links to |
//! | `tuning` | how often all that is looked after, by the churn seen |
//! | [`config`] | every bound and period, with its reason |
//! | [`event`] | commands' answers, wishes to the link layer, timers |
//! | [`id`] | the metric |
//!
//! Pure: no clock, socket, async or randomness of its own. The runtime drives it like this:
//!
//! ```
//! use std::time::Instant;
//! use meshtone_overlay::dht::{Dht, Event, Now};
//!
//! /// Call this after every input (bytes from a link, a link up or down, a command, a timer).
//! fn drain(dht: &mut Dht, now: Now) -> Option<Instant> {
//!     while let Some(change) = dht.poll_persist() {
//!         drop(change); // for the store, before anything is acknowledged; only with Config::persist
//!     }
//!     while let Some(transmit) = dht.poll_transmit() {
//!         let _ = (transmit.to, transmit.bytes); // write to the link to that node; drop it if there is none
//!     }
//!     while let Some(event) = dht.poll_event() {
//!         match event {
//!             Event::Dial { peer } => drop(peer), // open a link, then handle_link_up or handle_dial_failed
//!             Event::Unlink { node } => { let _ = node; } // close that link, then handle_link_down
//!             Event::Fetched { id, result } => drop((id, result)), // answer of the command that returned this id
//!             Event::Stored { id, result } => drop((id, result)),
//!             Event::Found { id, result } => drop((id, result)),
//!             Event::Changed { kind, name, entries } => drop((kind, name, entries)), // for whoever listens there
//!             Event::Joined => {}
//!             Event::Role { serves } => { let _ = serves; } // say so in the hellos from now on
//!             Event::DialBack { peer, asker } => drop((peer, asker)), // dial without making a link, then handle_dialled_back
//!             Event::Meet { peer, through } => drop((peer, through)), // dial, a link it is to be
//!             Event::ClockOff { behind_ms } => { let _ = behind_ms; } // tell the operator
//!             Event::Contradiction { evidence } => drop(evidence), // show it
//!             Event::PeerMisbehaved { node, error } => drop((node, error)), // log it; closing the link is the runtime's choice
//!         }
//!     }
//!     let _ = now;
//!     // Sleep until then at the latest, then call handle_timeout; ask again after every input.
//!     dht.poll_timeout().map(|(at, _reason)| at)
//! }
//! ```

mod absence;
mod answers;
pub mod body;
mod clock;
pub mod config;
mod dates;
mod doubt;
pub mod event;
pub mod evidence;
mod fetch;
mod hand_over;
mod hedge;
pub mod id;
mod introduce;
mod listen;
mod listeners;
mod lookup;
pub mod machine;
mod membership;
pub mod message;
mod operation;
pub mod persist;
mod presence;
mod publish;
mod reach;
mod refusals;
mod relay;
mod role;
mod roles;
mod rooms;
mod serve;
mod storage;
mod store;
mod subnet;
mod table;
mod timers;
mod tuning;
mod visit;

pub use config::Config;
pub use event::{DhtError, Entry, Event, Fetched, OperationId, StoreReceipt, Timer, Transmit};
pub use evidence::Evidence;
pub use id::{Descriptor, Distance, Position};
pub use machine::Dht;
pub use persist::PersistChange;
pub use reach::{DIAL_BACK_TIMEOUT, Tested};
pub use role::{FEW, MANY, RoleChoice, RoleReason};
pub use subnet::Subnet;
pub use table::SubnetOf;

use std::time::Instant;

/// The two clocks, passed in everywhere: one that only moves forward, and the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For timers.
    pub instant: Instant,
    /// For storage times, in unix milliseconds.
    pub unix_ms: u64,
}

/// Where random numbers come from: the system's generator in a node, a seeded one in a simulation.
pub trait Randomness: Send {
    /// Returns 64 random bits.
    fn next_u64(&mut self) -> u64;
}
