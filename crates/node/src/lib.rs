//! Meshtone node.

pub mod account;
pub mod control;
pub mod enrol;
pub mod store;
