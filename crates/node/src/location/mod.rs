//! Where an address can be reached: the phones registered here, the nodes the overlay names for it, and the servers of other
//! SIP domains.

pub(crate) mod certificates;
mod compact;
pub(crate) mod dns;
pub(crate) mod memory;
mod persist;
pub(crate) mod publisher;
pub(crate) mod watchers;
