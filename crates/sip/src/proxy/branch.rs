//! The branches that we write: unique, and telling loops from spirals (RFC 3261 §16.6 item 8, RFC 5393 §4.2).

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::message::{Header, Message, Via};
use crate::transport::{Locals, Randomness};

/// Begins every branch of ours. The rest is the loop hash, a dot, and what makes the branch unique.
const PREFIX: &str = "z9hG4bK-";

/// Hash over all that decides where a request goes. RFC 5393 §4.2.4 asks for no secret here: whoever can make it
/// collide only harms his own request.
pub(crate) fn loop_hash(request: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.request_uri().hash(&mut hasher);
    for route in request.values(Header::Route) {
        route.hash(&mut hasher);
    }
    request.call_id().hash(&mut hasher);
    request.from().ok().and_then(|from| from.tag().map(str::to_owned)).hash(&mut hasher);
    request.to().ok().and_then(|to| to.tag().map(str::to_owned)).hash(&mut hasher);
    request.cseq().ok().map(|cseq| cseq.number).hash(&mut hasher);
    for values in [Header::ProxyAuthorization, Header::ProxyRequire] {
        for value in request.fields(values) {
            value.hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Whether this very request has passed through here before.
pub(crate) fn is_loop(request: &Message, locals: &dyn Locals, hash: u64) -> bool {
    let mark = format!("{PREFIX}{hash:016x}.");
    request
        .values(Header::Via)
        .filter_map(|value| Via::parse(value).ok())
        .any(|via| via.branch().is_some_and(|branch| branch.starts_with(&mark)) && locals.is_local(via.host, via.port))
}

/// A branch for forwarding a request of this loop hash.
pub(crate) fn fresh(hash: u64, randomness: &mut dyn Randomness) -> String {
    let mut unique = [0; 10];
    randomness.fill(&mut unique);
    format!("{PREFIX}{hash:016x}.{}", data_encoding::HEXLOWER.encode(&unique))
}

/// The branch of a request forwarded without state: the same each time the same request comes by (RFC 3261 §16.11).
pub(crate) fn stateless(request: &Message) -> String {
    let mut hasher = DefaultHasher::new();
    request.values(Header::Via).next().hash(&mut hasher);
    request.method_name().hash(&mut hasher);
    format!("{PREFIX}{:016x}.s{:016x}", loop_hash(request), hasher.finish())
}
