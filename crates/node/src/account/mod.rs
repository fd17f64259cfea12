//! The account table of a domain: who may register here, with which password, under which number.
//!
//! All home nodes of a domain hold the same table. [`table`] is its pure core: every change is stamped by a hybrid
//! logical clock ([`clock`]), the newest wins, removals are kept, so that tables agree in whatever order changes reach
//! them. [`session`] is the pure half of the replication between two home nodes, [`sync`] drives it over a stream and
//! [`mesh`] over the overlay's links. [`Accounts`] is the handle that the rest of the node uses.
//!
//! Nothing of this table ever enters the overlay: an HA1 is as good as the password it was made from.

pub mod clock;
mod error;
mod ha1;
mod handle;
pub mod mesh;
pub mod name;
pub mod password;
pub mod session;
pub mod sync;
pub mod table;
mod wire;

pub use error::AccountError;
pub use ha1::Ha1Set;
pub use handle::{Accounts, Change, Changes, Credentials};
pub use password::{Password, Random, SystemRandom, system_random};
pub use table::Account;
