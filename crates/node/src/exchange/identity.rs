//! Who calls, signed (RFC 8224, RFC 8225).
//!
//! A request that leaves for another node and says who makes it carries a PASSporT of this node's key: who calls, whom, when, and
//! the fingerprints of the keys that its media will be under. That node verifies it before anything rings. The certificate of the
//! key is what the node at the other end of the link proved to be, so that nothing is fetched: `info` names that node.
//!
//! Whom a request is for stands in its Request-URI, since To may say anything at all ("201", an address of the node): both are
//! signed, so that nobody can send it to somebody else.

pub(crate) mod abroad;
pub(crate) mod diverted;
mod replays;

use std::sync::Arc;

use meshtone_identity::passport::{Attestation, Claims, Kind, MediaKey, Party, SignedPassport};
use meshtone_identity::{AuthorityCertificate, Error, Es256, NodeId, PublicKey, Signer};
use meshtone_media::sdp::fingerprints;
use meshtone_overlay::record::Revoked;
use meshtone_sip::date::HttpDate;
use meshtone_sip::message::{Editor, Header, Identity, Message, Method, NameAddr, Uri};
use meshtone_sip::transport::PeerHost;

use super::attestation::{self, Origination};
use super::shown::ANONYMOUS;
use crate::transport::{Proven, node_of};
use replays::{Nonce, Replays};

/// How old or how early a statement may be, in seconds (RFC 8224 §6.2.3).
const FRESH_S: u64 = 60;

/// What this node needs to sign, and what it has believed lately.
pub(crate) struct Identities {
    signer: Arc<dyn Signer>,
    /// Where others find the certificate of this node's key.
    info: String,
    /// Who certifies nodes, and which of them it has revoked: those of a diverted request are not at the other end of the link.
    authority: AuthorityCertificate,
    revoked: Revoked,
    replays: Replays,
    /// Those that were diverted: they may be older.
    diverted: Replays,
}

/// A node that signed a part of what is said of a request, and for whom it spoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Speaker {
    pub(crate) node: NodeId,
    /// The caller, or who was called before and diverted the request.
    pub(crate) address: String,
    /// Whether its certificates say that it may. If not, that is for the person with that address to say.
    pub(crate) is_certified: bool,
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
    pub(crate) fn new(
        signer: Arc<dyn Signer>,
        own_host: &PeerHost,
        authority: AuthorityCertificate,
        revoked: Revoked,
    ) -> Self {
        let info = info_of(own_host);
        let (replays, diverted) = (Replays::new(2 * FRESH_S), Replays::new(diverted::FRESH_S + FRESH_S));
        Self { signer, info, authority, revoked, replays, diverted }
    }

    /// The request with a statement of who makes it, or nothing where that is said of nobody, or needs no word of its own: an ACK and
    /// a CANCEL go with the request that they are for. With `origin` it says how well he is known, too, and so also of a caller of
    /// whom nothing is asserted, where he came in.
    pub(crate) fn signed(&self, request: &Message, origin: Option<Origination>, now_s: u64) -> Option<Message> {
        if !request.is_request() || matches!(request.method(), Method::Ack | Method::Cancel) {
            return None;
        }
        if diverted::is_diverted(request) {
            // It says so already.
            return None;
        }
        let is_marked = request.header(Header::AttestationInfo).is_some();
        let caller = asserted_address(request).or_else(|| claimed_address(request).filter(|_| is_marked));
        // A node of before is told nothing of whom nothing is asserted.
        let is_told = caller.is_some() && (origin.is_some() || request.header(Header::PAssertedIdentity).is_some());
        let Some(caller) = caller.filter(|_| is_told) else { return is_marked.then(|| unmarked(request).finish()) };
        let kind = match origin {
            Some(Origination { attestation, id: origin }) => Kind::Shaken { attestation, origin },
            None => Kind::Plain,
        };
        let claims = Claims {
            kind,
            orig: of_address(&caller),
            dest: called(request),
            iat: now_s,
            media_keys: media_keys(request),
        };
        let identity = self.said(&claims)?;
        let mut edit = unmarked(request);
        // A phone's own clock may be wrong (RFC 8224 §4.1 step 3).
        edit.set(Header::Date, HttpDate::new(now_s).as_str());
        edit.set(Header::Identity, &identity);
        Some(edit.finish())
    }

    /// An Identity header that says this, signed.
    fn said(&self, claims: &Claims) -> Option<String> {
        let passport = claims.sign(&self.info, &*self.signer);
        let passport = passport.inspect_err(|error| tracing::error!(%error, "a request leaves unsigned")).ok()?;
        Some(Identity::write(&passport, &self.info, claims.kind.ppt()))
    }

    /// Judges a request that came from the node `host`, which has proved this much, and which asserts that `caller` makes it. A
    /// statement is good for one call. Returns who has spoken for whom: whether each may is not judged here.
    pub(crate) fn verify(
        &self,
        request: &Message,
        caller: &str,
        host: &PeerHost,
        proven: &Proven,
        now_s: u64,
    ) -> Result<Vec<Speaker>, Refusal> {
        let call_id = request.call_id();
        if diverted::is_diverted(request) {
            let chain = self.verify_chain(request, caller, host, proven, now_s)?;
            let is_of_call = chain.nonces.iter().all(|nonce| self.diverted.admit(*nonce, call_id, now_s));
            return if is_of_call { Ok(chain.speakers) } else { Err(REPLAYED) };
        }
        let nonce = verify(request, caller, host, proven, now_s)?;
        if nonce.is_some_and(|nonce| !self.replays.admit(nonce, call_id, now_s)) {
            return Err(REPLAYED);
        }
        let node = node_of(host).ok_or(BAD_INFO)?;
        tracing::debug!(%host, %caller, attestation = ?attestation::of(request), "who calls is verified");
        let is_certified = caller == ANONYMOUS || domain_of(caller).is_some_and(|domain| proven.home(domain).is_some());
        Ok(vec![Speaker { node, address: caller.to_owned(), is_certified }])
    }
}

impl Identities {
    /// Judges a request of whose caller the node `host` asserts nothing: all that it may say is where it came in.
    pub(crate) fn verify_unasserted(
        &self,
        request: &Message,
        host: &PeerHost,
        proven: &Proven,
        now_s: u64,
    ) -> Result<(), Refusal> {
        if request.header(Header::Identity).is_none() {
            return Ok(());
        }
        if diverted::is_diverted(request) {
            return Err(INVALID);
        }
        let caller = claimed_address(request).ok_or(INVALID)?;
        let Word { nonce, kind } = word(request, &caller, host, proven, now_s)?;
        let Kind::Shaken { attestation: Attestation::B | Attestation::C, origin } = kind else { return Err(INVALID) };
        if !self.replays.admit(nonce, request.call_id(), now_s) {
            return Err(REPLAYED);
        }
        tracing::info!(%host, %origin, claimed = %caller, "a request came in by another node of this domain");
        Ok(())
    }
}

/// As [`Identities::verify`], of this request alone and not diverted; returns what tells its statement from all others, where there
/// is one.
fn verify(
    request: &Message,
    caller: &str,
    host: &PeerHost,
    proven: &Proven,
    now_s: u64,
) -> Result<Option<Nonce>, Refusal> {
    match request.header(Header::Identity) {
        Some(_) => {}
        None if !proven.signs() => return Ok(None),
        None => return Err(MISSING),
    }
    let Word { nonce, kind } = word(request, caller, host, proven, now_s)?;
    if says_who_calls(&kind) { Ok(Some(nonce)) } else { Err(INVALID) }
}

/// What a node said of a request.
struct Word {
    nonce: Nonce,
    kind: Kind,
}

/// Whether this is a statement of who calls, not but of where he came in.
fn says_who_calls(kind: &Kind) -> bool {
    match kind {
        Kind::Plain | Kind::Shaken { attestation: Attestation::A | Attestation::B, .. } => true,
        Kind::Shaken { attestation: Attestation::C, .. } | Kind::Diverted { .. } => false,
    }
}

/// The one statement of a request that is not diverted, where it is the node's at the other end of the link, and fresh.
fn word(request: &Message, caller: &str, host: &PeerHost, proven: &Proven, now_s: u64) -> Result<Word, Refusal> {
    let field = Field::read(request.header(Header::Identity).ok_or(MISSING)?)?;
    if !field.info.eq_ignore_ascii_case(&info_of(host)) {
        return Err(BAD_INFO);
    }
    let claims = field.verify(proven.key())?;
    let says_so = claims.orig == of_address(caller)
        && called(request).iter().all(|party| claims.dest.contains(party))
        && claims.media_keys == media_keys(request);
    if !says_so {
        return Err(INVALID);
    }
    if claims.iat.abs_diff(now_s) > FRESH_S {
        return Err(STALE);
    }
    Ok(Word { nonce: field.passport.nonce(), kind: claims.kind.clone() })
}

/// An Identity field that can be read in one way.
struct Field<'a> {
    info: &'a str,
    ppt: Option<&'a str>,
    /// The signer's certificate, where it came with its word.
    certificate: Option<&'a str>,
    passport: SignedPassport,
}

impl Field<'_> {
    fn read(value: &str) -> Result<Field<'_>, Refusal> {
        let Identity { passport, info, alg, ppt, certificate } = Identity::parse(value).map_err(|_| INVALID)?;
        if alg.is_some_and(|alg| alg != "ES256") {
            return Err(UNSUPPORTED);
        }
        let is_unsupported = |error: &Error| matches!(error, Error::Unsupported { .. });
        let passport = SignedPassport::read(passport);
        let passport = passport.map_err(|error| if is_unsupported(&error) { UNSUPPORTED } else { INVALID })?;
        if passport.x5u() != info {
            return Err(BAD_INFO);
        }
        Ok(Field { info, ppt, certificate, passport })
    }

    /// What is stated, once the signature is found to be this key's.
    fn verify(&self, key: &PublicKey) -> Result<&Claims, Refusal> {
        let claims = self.passport.verify(key, &Es256).map_err(|_| INVALID)?;
        // RFC 8224 §4.1: the parameter says what the header of the statement says.
        if claims.kind.ppt() == self.ppt { Ok(claims) } else { Err(UNSUPPORTED) }
    }
}

fn info_of(host: &PeerHost) -> String {
    format!("sip:{host}")
}

/// The address of who is said to make a request (RFC 3325 §9.1), if that is one.
pub(super) fn asserted_address(request: &Message) -> Option<String> {
    let asserted = NameAddr::parse(request.header(Header::PAssertedIdentity)?).ok()?;
    Some(Uri::parse(asserted.uri).ok()?.address_of_record())
}

/// Who a request says that makes it, without any proof.
fn claimed_address(request: &Message) -> Option<String> {
    Some(Uri::parse(request.from().ok()?.uri).ok()?.address_of_record())
}

/// The request without what is written on it for this node alone.
fn unmarked(request: &Message) -> Editor<'_> {
    let mut edit = request.edit();
    edit.remove(Header::AttestationInfo).remove(Header::OriginationId);
    edit
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

fn domain_of(address: &str) -> Option<&str> {
    address.rsplit_once('@').map(|(_, domain)| domain)
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
