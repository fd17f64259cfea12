//! The overlay: a DHT of signed records over encrypted links between nodes.
//!
//! [`dht`] and [`record`] are pure (no clock, socket or async); [`link`] is the only place that knows iroh;
//! [`Overlay`](node::Overlay) joins them. The overlay knows nothing of SIP.

pub mod dht;
pub mod link;
pub mod node;
pub mod record;
