//! The branches that we write: unique, and telling loops from spirals (RFC 3261 §16.6 item 8, RFC 5393 §4.2).

use std::hash::{DefaultHasher, Hash, Hasher};

use data_encoding::HEXLOWER;

use super::via::host_address;
use crate::message::{Header, Message, Uri, Via};
use crate::short::Short;
use crate::texts::Texts;
use crate::transport::{Locals, Randomness};

/// Begins every branch of ours. The rest is the loop hash, a dot, and what makes the branch unique.
const PREFIX: &str = "z9hG4bK-";

/// Length of a loop hash as it is written.
const HASH_DIGITS: usize = 16;

/// Fields by which a caller picks among the contacts of whom he calls (RFC 3841).
const PREFERENCES: [Header; 3] = [Header::AcceptContact, Header::RejectContact, Header::RequestDisposition];

/// Hash over all that decides where a request goes, once our own Routes are off it (RFC 5393 §4.2.4): for whom it is, however
/// that is spelled, over which proxies, and which contacts the caller wants. No secret: whoever can make it collide only harms
/// his own request.
pub(crate) fn loop_hash(request: &Message, locals: &dyn Locals) -> u64 {
    let mut texts = Texts::new();
    push_place(request.request_uri(), locals, &mut texts);
    for header in [Header::Route].into_iter().chain(PREFERENCES) {
        for value in request.fields(header) {
            texts.push(header.as_str());
            texts.push(value);
        }
    }
    texts.push(request.call_id());
    texts.push_option(request.from_tag());
    texts.push_option(request.to_tag());
    texts.push_number(request.cseq().map_or(0, |cseq| cseq.number));
    let mut hasher = DefaultHasher::new();
    texts.hash_into(&mut hasher);
    hasher.finish()
}

/// What a Request-URI is looked up by: its address of record, at whichever name or port of ours, and the instance that a GRUU
/// names. All else would let a phone make contacts that differ without leading elsewhere.
fn push_place(uri: &str, locals: &dyn Locals, texts: &mut Texts) {
    let Ok(uri) = Uri::parse(uri) else { return texts.push(uri) };
    if !uri.is_sip() {
        // The separators and parameters of a number (RFC 3966 §5.1.1).
        let number = uri.opaque.split(';').next().unwrap_or_default();
        return texts.push_lowercase(&number.replace(['-', '.', '(', ')'], ""));
    }
    let address = uri.address_of_record();
    let (user, host) = match address.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, address.as_str()),
    };
    match user {
        Some(user) => texts.push_lowercase(user),
        None => texts.push_option(None),
    }
    if !locals.is_local(uri.host, uri.port) {
        match host_address(host) {
            Some(ip) => texts.push(&ip.to_string()),
            None => texts.push_lowercase(host),
        }
    }
    texts.push_option(uri.param("gr").map(Option::unwrap_or_default));
}

/// Whether this very request has passed through here before; its own Routes of ours are off it.
pub(crate) fn is_loop(request: &Message, locals: &dyn Locals) -> bool {
    let mut mark: Option<Short> = None;
    request.values(Header::Via).filter_map(|value| Via::parse(value).ok()).any(|via| {
        via.branch().is_some_and(|branch| {
            // Most requests never were here, and need no hash.
            is_ours(branch)
                && locals.is_local(via.host, via.port)
                && branch.starts_with(mark.get_or_insert_with(|| mark_of(loop_hash(request, locals))).as_str())
        })
    })
}

/// Whether a branch may be one of ours: they begin alike, as do those of some phones, and have a dot behind the loop hash.
pub(crate) fn is_ours(branch: &str) -> bool {
    branch.starts_with(PREFIX) && branch.as_bytes().get(PREFIX.len() + HASH_DIGITS) == Some(&b'.')
}

/// A branch for forwarding a request of this loop hash.
pub(crate) fn fresh(hash: u64, randomness: &mut dyn Randomness) -> Short {
    let mut unique = [0; 10];
    randomness.fill(&mut unique);
    let mut branch = mark_of(hash);
    branch.push_encoded(&HEXLOWER, &unique);
    branch
}

/// The branch of a request forwarded without state: the same each time the same request comes by (RFC 3261 §16.11).
pub(crate) fn stateless(request: &Message, locals: &dyn Locals) -> Short {
    let mut hasher = DefaultHasher::new();
    request.values(Header::Via).next().hash(&mut hasher);
    request.method_name().hash(&mut hasher);
    let mut branch = mark_of(loop_hash(request, locals));
    branch.push("s");
    branch.push_encoded(&HEXLOWER, &hasher.finish().to_be_bytes());
    branch
}

/// What every branch of a request of this loop hash begins with.
fn mark_of(hash: u64) -> Short {
    let mut mark = Short::new(PREFIX);
    mark.push_encoded(&HEXLOWER, &hash.to_be_bytes());
    mark.push(".");
    mark
}
