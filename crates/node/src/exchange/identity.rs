//! Who calls, signed (RFC 8224, RFC 8225).
//!
//! A request that leaves for another node and says who makes it carries a PASSporT of this node's key: who calls, whom, when, and
//! the fingerprints of the keys that its media will be under. That node verifies it before anything rings. The certificate of the
//! key is what the node at the other end of the link proved to be, so that nothing is fetched: `info` names that node.
//!
//! Whom a request is for stands in its Request-URI, since To may say anything at all ("201", an address of the node): both are
//! signed, so that nobody can send it to somebody else.

mod replays;

use std::sync::Arc;

use meshtone_identity::passport::{Claims, Kind, MediaKey, Party, SignedPassport};
use meshtone_identity::{Error, Es256, Signer};
use meshtone_media::sdp::fingerprints;
use meshtone_sip::date::HttpDate;
use meshtone_sip::message::{Header, Identity, Message, Method, NameAddr, Uri};
use meshtone_sip::transport::PeerHost;

use crate::transport::Proven;
use replays::{Nonce, Replays};

/// How old or how early a statement may be, in seconds (RFC 8224 §6.2.3).
const FRESH_S: u64 = 60;

/// What this node needs to sign, and what it has believed lately.
pub(crate) struct Identities {
    signer: Arc<dyn Signer>,
    /// Where others find the certificate of this node's key.
    info: String,
    replays: Replays,
}

/// Why a request is refused (RFC 8224 §6.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

const MISSING: Refusal = Refusal { status: 428, reason: "Use Identity Header" };
const BAD_INFO: Refusal = Refusal { status: 436, reason: "Bad Identity Info" };
const UNSUPPORTED: Refusal = Refusal { status: 437, reason: "Unsupported Credential" };
const INVALID: Refusal = Refusal { status: 438, reason: "Invalid Identity Header" };
const REPLAYED: Refusal = Refusal { status: 403, reason: "Identity Of Another Call" };
const STALE: Refusal = Refusal { status: 403, reason: "Stale Date" };

impl Identities {
    /// Signs with the key of this node's certificate.
    pub(crate) fn new(signer: Arc<dyn Signer>, own_host: &PeerHost) -> Self {
        Self { signer, info: info_of(own_host), replays: Replays::default() }
    }

    /// The request with a statement of who makes it, or nothing where that is said of nobody, or needs no word of its own: an ACK and
    /// a CANCEL go with the request that they are for.
    pub(crate) fn signed(&self, request: &Message, now_s: u64) -> Option<Message> {
        if !request.is_request() || matches!(request.method(), Method::Ack | Method::Cancel) {
            return None;
        }
        let claims = Claims {
            kind: Kind::Plain,
            orig: of_address(&asserted_address(request)?),
            dest: called(request),
            iat: now_s,
            media_keys: media_keys(request),
        };
        let passport = claims.sign(&self.info, &*self.signer);
        let passport = passport.inspect_err(|error| tracing::error!(%error, "a request leaves unsigned")).ok()?;
        let mut edit = request.edit();
        // A phone's own clock may be wrong (RFC 8224 §4.1 step 3).
        edit.set(Header::Date, HttpDate::new(now_s).as_str());
        edit.set(Header::Identity, &Identity::write(&passport, &self.info, claims.kind.ppt()));
        Some(edit.finish())
    }

    /// Judges a request that came from the node `host`, which has proved this much, and which asserts that `caller` makes it. A request
    /// of which nothing is asserted states nothing. A statement is good for one call.
    pub(crate) fn verify(
        &self,
        request: &Message,
        caller: Option<&str>,
        host: &PeerHost,
        proven: &Proven,
        now_s: u64,
    ) -> Result<(), Refusal> {
        let Some(nonce) = verify(request, caller, host, proven, now_s)? else { return Ok(()) };
        let call_id = request.call_id();
        if self.replays.admit(nonce, call_id, now_s) { Ok(()) } else { Err(REPLAYED) }
    }
}

/// As [`Identities::verify`], of this request alone; returns what tells its statement from all others, where there is one.
fn verify(
    request: &Message,
    caller: Option<&str>,
    host: &PeerHost,
    proven: &Proven,
    now_s: u64,
) -> Result<Option<Nonce>, Refusal> {
    let Some(caller) = caller else { return Ok(None) };
    let mut fields = request.fields(Header::Identity);
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => Identity::parse(field).map_err(|_| INVALID)?,
        (None, _) if !proven.signs => return Ok(None),
        (None, _) => return Err(MISSING),
        // One alone can be the word of this node.
        (Some(_), Some(_)) => return Err(INVALID),
    };
    let info = info_of(host);
    if !field.info.eq_ignore_ascii_case(&info) {
        return Err(BAD_INFO);
    }
    if field.alg.is_some_and(|alg| alg != "ES256") || field.ppt.is_some() {
        return Err(UNSUPPORTED);
    }
    let is_unsupported = |error: &Error| matches!(error, Error::Unsupported { .. });
    let passport = SignedPassport::read(field.passport);
    let passport = passport.map_err(|error| if is_unsupported(&error) { UNSUPPORTED } else { INVALID })?;
    if passport.x5u() != field.info {
        return Err(BAD_INFO);
    }
    let claims = passport.verify(&proven.key, &Es256).map_err(|_| INVALID)?;
    let says_so = claims.kind == Kind::Plain
        && claims.orig == of_address(caller)
        && called(request).iter().all(|party| claims.dest.contains(party))
        && claims.media_keys == media_keys(request);
    if !says_so {
        return Err(INVALID);
    }
    if claims.iat.abs_diff(now_s) > FRESH_S {
        return Err(STALE);
    }
    Ok(Some(passport.nonce()))
}

fn info_of(host: &PeerHost) -> String {
    format!("sip:{host}")
}

/// The address of who is said to make a request (RFC 3325 §9.1), if that is one.
pub(super) fn asserted_address(request: &Message) -> Option<String> {
    let asserted = NameAddr::parse(request.header(Header::PAssertedIdentity)?).ok()?;
    Some(Uri::parse(asserted.uri).ok()?.address_of_record())
}

/// Whom a request is for, and whom its caller meant.
fn called(request: &Message) -> Vec<Party> {
    let meant = request.to().ok().map(|to| to.uri);
    let mut called: Vec<Party> = Vec::new();
    for uri in [Some(request.request_uri()), meant].into_iter().flatten().filter_map(|uri| Uri::parse(uri).ok()) {
        let party = party(&uri);
        if !called.contains(&party) {
            called.push(party);
        }
    }
    called
}

fn party(uri: &Uri<'_>) -> Party {
    if uri.is_sip() { of_address(&uri.address_of_record()) } else { Party::Uri(uri.address_of_record()) }
}

/// Somebody with an address, `user@domain`.
fn of_address(address: &str) -> Party {
    Party::Uri(format!("sip:{address}"))
}

/// The keys that its media will be under, in the order in which they are stated.
fn media_keys(request: &Message) -> Vec<MediaKey> {
    let mut keys: Vec<MediaKey> = fingerprints(request.body()).filter_map(|value| value.parse().ok()).collect();
    keys.sort();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests;
