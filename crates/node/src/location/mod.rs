//! Where an address can be reached: the phones registered here, and the nodes the overlay names for it.

pub(crate) mod memory;
mod persist;
pub(crate) mod publisher;
pub(crate) mod watchers;
