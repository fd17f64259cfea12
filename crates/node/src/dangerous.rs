//! A node that signs nothing and believes everything, against which the price of signatures is measured (`make prices`).
//!
//! PROTECTS NOTHING: whoever reaches such a node writes any record and calls as anybody. It starts only at addresses that strangers do not
//! reach, and no other node believes what it writes.

use bytes::Bytes;
use meshtone_identity::{NodeId, Signature};
use meshtone_overlay::record::validator::check_form;
use meshtone_overlay::record::{Kind, RecordError, ResourceId, StoredValue, Validator, Writer};

/// Writes records with nothing in the place of signature and certificates.
pub(crate) struct Unsigned(pub(crate) NodeId);

impl Writer for Unsigned {
    fn node_id(&self) -> NodeId {
        self.0
    }

    fn sign(&self, _: &[u8]) -> Result<Signature, RecordError> {
        Ok(Signature::from_bytes([0; 64]))
    }

    fn certificates(&self, _: Kind, _: &str) -> Result<Vec<Bytes>, RecordError> {
        Ok(Vec::new())
    }
}

/// Believes every record that has the right form.
pub(crate) struct Credulous;

impl Validator for Credulous {
    fn validate(&self, now_ms: u64, resource: ResourceId, value: &StoredValue, _: &[Bytes]) -> Result<(), RecordError> {
        check_form(now_ms, resource, value)
    }
}
