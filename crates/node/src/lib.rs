//! A Meshtone node: the exchange that joins SIP, the overlay, identity and media.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `node` | [`Node`]: everything started in order, and stopped |
//! | `transport` | UDP, TCP, TLS, WebSocket, and SIP over the links between nodes |
//! | `exchange` | what is done with each request; several workers, each behind its lock |
//! | `location` | where an address can be reached |
//! | [`policy`] | who may call whom beyond the overlay |
//! | [`trunk`] | accounts at providers |
//! | [`first_stage`] | the servers of a farm that this node stands before |
//! | [`bootstrap`] | finding other nodes by name and on the local network |
//! | [`account`] | who may register here, replicated among home nodes |
//! | [`authority`] | certifying people who prove a mailbox, and asking for it |
//! | [`enrol`] | how a node comes by its identity, and tickets for others |
//! | [`backup`] | a node, or the authority alone, in one encrypted file |
//! | `dangerous` | a node that signs nothing, to measure against |
//! | [`journal`] | the last lines of the log, in memory |
//! | `login` | sessions of the page, keys and tokens for it |
//! | `metrics` | what is counted, for Prometheus |
//! | [`control`] | administration over a unix socket |
//! | [`turn`] | the STUN and TURN server for phones and browsers |
//! | `web` | the pages that browsers are served |
//! | `person` | contacts, calls and wishes of accounts' owners |
//! | `renewal` | this node's certificates, before they run out |
//! | `revocation` | which nodes the authority has revoked |
//! | [`softphone`] | a phone for the command line |
//! | [`store`] | the data folder |

pub mod account;
pub mod acme;
pub mod authority;
pub mod backup;
pub mod bootstrap;
mod clock;
pub mod control;
mod crowd;
mod dangerous;
pub mod enrol;
mod exchange;
mod homes;
pub mod journal;
mod location;
mod login;
mod member;
mod metrics;
mod node;
mod page_certificate;
mod person;
mod renewal;
mod revocation;
pub mod settings;
pub mod softphone;
mod status;
pub mod store;
mod text;
mod trace;
mod transport;
pub mod turn;
mod web;

pub use exchange::anchoring::{AnchorPolicy, AnchorRules, MediaLimits};
pub use exchange::digest::{DigestRule, Offered};
pub use exchange::first_stage;
pub use exchange::networks::Network;
pub use exchange::policy;
pub use exchange::shown::Callers;
pub use exchange::trunk;
pub use member::MemberError;
pub use meshtone_media::turn::Limits as TurnLimits;
pub use meshtone_media::{ogg, resample, sound, wav};
pub use meshtone_overlay::{DEFAULT_QUOTA, RelayChoice, RoleChoice};
pub use meshtone_sip::digest::{Algorithm, Ha1};
pub use node::{Config, Node, StartError, Summary};
pub use transport::tls::certificate::CertificateError;
pub use web::{Administration, EnrolHere, NotPublic, PublicUrl};
