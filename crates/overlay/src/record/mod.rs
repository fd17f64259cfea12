//! Signed records: what the overlay stores, who may write it, and how it looks on the wire (RFC 6940 §7).
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`kind`] | the table of kinds: data model, who may write, sizes, lifetimes |
//! | [`value`] | [`StoredValue`]: encoding, signing input, which of two values is the newer one |
//! | [`typed`] | what is inside a value of each kind |
//! | [`via`] | by whom else a node is reached, and whether it runs a relay |
//! | [`validator`] | who may speak for what: the [`Validator`] seam and the one that believes certificates |
//! | [`renewed`] | a node's certificates while it runs |
//! | [`revoked`] | the nodes that are none any longer |
//! | [`writer`] | the writing side: the [`Writer`] seam and the one that signs with a node's key |
//! | [`cbor`] | deterministic CBOR (RFC 8949 §4.2), the subset that the overlay uses |
//!
//! Pure: time comes in, nothing is read or sent. Finding and keeping records is [`dht`](crate::dht)'s business.

pub mod cbor;
mod error;
pub mod kind;
pub mod renewed;
pub mod resource;
pub mod revoked;
pub mod typed;
pub mod validator;
pub mod value;
pub mod via;
pub mod writer;

pub use error::RecordError;
pub use kind::{DataModel, Kind, KindRules};
pub use renewed::Renewed;
pub use resource::ResourceId;
pub use revoked::Revoked;
pub use typed::{Member, NodeAddress, Role, SipRegistration};
pub use validator::{CertificateValidator, Validator};
pub use value::StoredValue;
pub use via::{RelayPorts, Via};
pub use writer::{CertifiedWriter, Delegated, Writer};

use meshtone_identity::id::sha256;
