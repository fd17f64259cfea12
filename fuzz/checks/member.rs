//! What strangers send of members: certification requests and lists of delegations. Reading never panics, and a list that is
//! read says the same when it is written again.

use meshtone_identity::{Delegations, UserRequest};

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    if let Ok(request) = UserRequest::parse(data) {
        assert_eq!(meshtone_identity::address::normalise(request.address()).as_deref(), Ok(request.address()));
    }
    if let Ok(list) = Delegations::peek(data) {
        assert!(list.nodes().len() <= meshtone_identity::member::MAX_NODES);
        // version, issued, expires, count, ids, signature
        assert_eq!(data.len(), 1 + 8 + 8 + 1 + list.nodes().len() * 32 + 64);
    }
}
