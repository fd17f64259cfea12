//! SIP engine: messages, transactions, dialogs, proxy, registrar, digest (RFC 3261 and its extensions).
//!
//! Pure: it owns no clock, no socket, no file, no async and no randomness; all of that is handed in. It knows
//! nothing of the overlay or of media.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test's virtual clock starts at a real instant"))]

pub mod agent;
pub mod date;
pub mod digest;
mod effort;
pub mod message;
pub mod proxy;
pub mod registrar;
pub mod server;
mod short;
pub mod stream;
mod text;
mod texts;
pub mod transaction;
pub mod transport;
