//! Who is who in an overlay: keys, node ids, certificates, enrolment and tickets.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`id`] | [`NodeId`], [`OverlayId`], [`LinkKey`] and their texts |
//! | [`key`] | P-256 keys and ES256 signatures behind the [`Signer`] and [`Verifier`] traits |
//! | [`address`] | addresses of people |
//! | [`backup`] | what stands in a backup |
//! | [`certificate`] | X.509 certificates of authority, nodes and home nodes, and their verification (RFC 5280, RFC 5922) |
//! | [`authority`] | the overlay's own authority, which issues them |
//! | [`enrol`] | the certification requests of new nodes and users (PKCS#10, RFC 2986) |
//! | [`member`] | people with an address of their own, and which nodes may speak for it |
//! | [`passport`] | who calls whom, stated and signed (RFC 8225) |
//! | [`passphrase`] | what a passphrase has to be |
//! | [`revocation`] | that a node is one no longer |
//! | [`sealed_stream`] | many bytes encrypted under a passphrase, piece by piece |
//! | [`soft_card`] | a person's key and certificate as one encrypted text |
//! | [`ticket`] | the text by which a new machine joins |
//! | [`dangerous_deterministic`] | signatures that anybody can forge, for reproducible simulations |
//!
//! Everything here is pure: time comes in as unix seconds, nothing is read or written. Only the making of a key
//! ([`SigningKey::generate`]) draws on the crypto library's own randomness.
#![forbid(unsafe_code)]

pub mod address;
pub mod authority;
pub mod backup;
pub mod certificate;
pub mod dangerous_deterministic;
mod der;
pub mod domain;
pub mod enrol;
mod error;
pub mod foreign;
pub mod id;
pub mod key;
pub mod member;
pub mod passphrase;
pub mod passport;
pub mod revocation;
pub mod sealed_stream;
pub mod soft_card;
pub mod ticket;
mod x509;

pub use authority::Authority;
pub use certificate::{AuthorityCertificate, HomeCertificate, NodeCertificate, Rights};
pub use enrol::{EnrolRequest, UserRequest};
pub use error::Error;
pub use foreign::{ForeignAuthority, ForeignError, ForeignProof};
pub use id::{LinkKey, NodeId, OverlayId};
pub use key::{Es256, PublicKey, Signature, Signer, SigningKey, Verifier};
pub use member::{Delegations, UserCertificate};
pub use revocation::Revocation;
pub use soft_card::SoftCard;
pub use ticket::{Role, Ticket};
