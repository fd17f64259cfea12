//! The bindings of one address-of-record (RFC 3261 §10.3).
//!
//! Pure data and one decision: who may register, and where bindings are kept, is the node's business.

use crate::message::{Header, Message};
use crate::transport::{Destination, Flow};

/// One contact of an address-of-record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The contact URI as registered, without the header field's parameters.
    pub contact: String,
    /// Preference in thousandths, 1000 when none was given.
    pub q: u16,
    /// When the binding ends, milliseconds since 1970.
    pub expires_ms: u64,
    /// Call-ID of the last REGISTER that touched it.
    pub call_id: String,
    /// CSeq number of that REGISTER.
    pub cseq: u32,
    /// The flow that REGISTER came over.
    pub flow: Flow,
    /// `+sip.instance` as given, quotes included (RFC 5626 §4.1).
    pub instance: Option<String>,
    /// User-Agent of the phone.
    pub user_agent: String,
    /// When the binding was last written, milliseconds since 1970.
    pub updated_ms: u64,
}

/// What a registrar grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Shortest interval granted, seconds; less is refused with 423.
    pub min: u32,
    /// Interval granted when none was asked for, seconds.
    pub default: u32,
    /// Longest interval granted, seconds.
    pub max: u32,
    /// Most contacts of one address.
    pub max_contacts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { min: 60, default: 3600, max: 7200, max_contacts: 10 }
    }
}

/// Why a REGISTER was refused, as the response that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: &'static str,
    /// Header fields that the response must carry.
    pub extra: Vec<(Header, String)>,
}

/// Applies a REGISTER to the bindings of its address, wholly or not at all; says whether anything changed.
pub fn register(
    now_ms: u64,
    limits: &Limits,
    bindings: &mut Vec<Binding>,
    request: &Message,
    flow: &Flow,
) -> Result<bool, Rejection> {
    let _ = (now_ms, limits, bindings, request, flow);
    todo!()
}

/// The 200 to a REGISTER: all current contacts, each with the seconds it has left (RFC 3261 §10.3 item 8).
pub fn ok(now_ms: u64, bindings: &[Binding], request: &Message) -> Message {
    let _ = (now_ms, bindings, request);
    todo!()
}

impl Binding {
    /// Where a request for this contact goes: its flow, or the contact's own address when the flow was a connection
    /// that is lost and the contact is an IP literal. None: there is no way to this phone until it registers again.
    pub fn destination(&self, flow_is_open: bool) -> Option<Destination> {
        let _ = flow_is_open;
        todo!()
    }
}
