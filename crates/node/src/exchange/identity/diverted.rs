//! Requests that were diverted on their way (RFC 8946).
//!
//! Who diverts a request to another user leaves what was stated of it as it is, and adds a word of his own: the caller is the same, the
//! call was for this address of mine, and goes to that one. So a request carries a chain: the first statement is for whom the caller
//! called, each further one goes on from where the one before it ended, and the last is for whom the request is for now. A node
//! believes it when every link is signed by a node that may speak for the address in question: the first for the caller, the others
//! for who diverted.
//!
//! Only the last signer is at the other end of the link. The certificates of the others travel with their words (`cert`), added by
//! the node that heard them over its link: nothing has to be asked for before a phone rings, and that a certificate is the overlay's own
//! shows by itself. A node that was revoked is not believed, whoever carries its word.

use data_encoding::BASE64URL_NOPAD;
use meshtone_identity::passport::{Claims, Kind, Party};
use meshtone_identity::{HomeCertificate, NodeCertificate, NodeId, PublicKey};
use meshtone_sip::message::{Header, Identity, Message, Uri};
use meshtone_sip::transport::PeerHost;

use super::replays::Nonce;
use super::{
    ANONYMOUS, BAD_INFO, Field, INVALID, Identities, Proven, Refusal, STALE, Speaker, domain_of, info_of, media_keys,
    of_address, party, says_who_calls,
};
use crate::transport::node_of;

/// Most diversions of one request, as many as redirections of one request are followed by the engine.
pub(crate) const MAX_DIVERSIONS: usize = 5;

/// How old all but the last word may be, in seconds: a phone may ring for three minutes (RFC 3261 §16.6, Timer C) before it says
/// where to ask instead.
pub(super) const FRESH_S: u64 = super::FRESH_S + 180;

/// Longest certificate that is read, in bytes: as in a hello of the link.
const CERTIFICATE_MAX: usize = 4096;

/// What is found to be stated of a diverted request.
pub(super) struct Chain {
    pub(super) nonces: Vec<Nonce>,
    pub(super) speakers: Vec<Speaker>,
}

/// Whoever signed one word of it.
struct Signer {
    node: NodeId,
    key: PublicKey,
    /// The domains that it may speak for, as far as that was shown.
    domains: Vec<String>,
}

/// Whether a request says that it was diverted: it carries more than the word of one node.
pub(crate) fn is_diverted(request: &Message) -> bool {
    request.fields(Header::Identity).nth(1).is_some()
}

impl Identities {
    /// The Identity fields of a request that came from the node `host` and was verified, with one more that says: it was for `from`,
    /// who may be spoken for here, and goes to `to`. None where nothing was stated, or it was diverted too often.
    pub(crate) fn diverted(
        &self,
        request: &Message,
        (caller, from, to): (&str, &str, &str),
        (host, proven): (&PeerHost, &Proven),
        now_s: u64,
    ) -> Option<Vec<String>> {
        let words: Vec<&str> = request.fields(Header::Identity).collect();
        if words.is_empty() || words.len() > MAX_DIVERSIONS {
            return None;
        }
        let certified = |value: &&str| {
            let identity = Identity::parse(value).ok()?;
            if identity.certificate.is_some() || !identity.info.eq_ignore_ascii_case(&info_of(host)) {
                return Some((*value).to_owned());
            }
            let field = Field::read(value).ok()?;
            let claims = field.verify(proven.key()).ok()?;
            let spoken_for = address_of(claims)?;
            let home = domain_of(spoken_for).and_then(|domain| proven.home(domain));
            let der = home.map_or(proven.certificate.der(), HomeCertificate::der);
            Some(identity.with_certificate(&BASE64URL_NOPAD.encode(der)))
        };
        let mut words: Vec<String> = words.iter().map(certified).collect::<Option<_>>()?;
        let claims = Claims {
            kind: Kind::Diverted { from: of_address(from) },
            orig: of_address(caller),
            dest: vec![party(&Uri::parse(to).ok()?)],
            iat: now_s,
            // RFC 8946 §3: nothing else is said again.
            media_keys: Vec::new(),
        };
        words.push(self.said(&claims)?);
        Some(words)
    }

    /// Reads and verifies the whole chain (RFC 8946 §4.2), but whether each signer may speak for its address where no certificate
    /// says so.
    pub(super) fn verify_chain(
        &self,
        request: &Message,
        caller: &str,
        host: &PeerHost,
        proven: &Proven,
        now_s: u64,
    ) -> Result<Chain, Refusal> {
        let fields: Vec<&str> = request.fields(Header::Identity).take(MAX_DIVERSIONS + 2).collect();
        if fields.len() > MAX_DIVERSIONS + 1 {
            return Err(INVALID);
        }
        let fields: Vec<Field<'_>> = fields.into_iter().map(Field::read).collect::<Result<_, _>>()?;
        let neighbour = node_of(host).ok_or(BAD_INFO)?;
        let mut words: Vec<(&Claims, Signer)> = Vec::new();
        for field in &fields {
            let signer = self.signer_of(field, neighbour, proven, now_s)?;
            words.push((field.verify(&signer.key)?, signer));
        }
        // Fields stand in no order (RFC 8946 §3).
        let first = words.iter().position(|(claims, _)| says_who_calls(&claims.kind)).ok_or(INVALID)?;
        let mut chain = vec![words.swap_remove(first)];
        while let Some(last) = chain.last().map(|(claims, _)| *claims).filter(|_| !words.is_empty()) {
            let goes_on = |(claims, _): &(&Claims, Signer)| match &claims.kind {
                Kind::Diverted { from } => last.dest.contains(from),
                Kind::Plain | Kind::Shaken { .. } => false,
            };
            let next = words.iter().position(goes_on).ok_or(INVALID)?;
            if words.iter().skip(next + 1).any(goes_on) {
                return Err(INVALID);
            }
            chain.push(words.swap_remove(next));
        }
        check(&chain, request, caller, neighbour, now_s)?;
        let speakers = chain.iter().map(|(claims, signer)| signer.speaks(claims)).collect::<Option<_>>();
        let nonces = fields.iter().map(|field| field.passport.nonce()).collect();
        Ok(Chain { nonces, speakers: speakers.ok_or(INVALID)? })
    }

    /// Who signed a word: the node at the other end of the link, or one whose certificate came along.
    fn signer_of(&self, field: &Field<'_>, neighbour: NodeId, proven: &Proven, now_s: u64) -> Result<Signer, Refusal> {
        let node = field.info.strip_prefix("sip:").and_then(PeerHost::parse).and_then(|host| node_of(&host));
        let node = node.ok_or(BAD_INFO)?;
        if node == neighbour {
            let domains = proven.homes.iter().map(|home| home.domain().to_owned()).collect();
            return Ok(Signer { node, key: *proven.key(), domains });
        }
        if self.revoked.contains(&node) {
            tracing::warn!(node = %node.short(), "a request carries the word of a node that was revoked");
            return Err(BAD_INFO);
        }
        let der = field.certificate.filter(|text| text.len() <= CERTIFICATE_MAX * 4 / 3);
        let der = der.and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok()).ok_or(BAD_INFO)?;
        let signer = match HomeCertificate::verify(&der, &self.authority, now_s) {
            Ok(home) => {
                Signer { node: home.node_id(), key: *home.public_key(), domains: vec![home.domain().to_owned()] }
            }
            Err(_) => {
                let certificate = NodeCertificate::verify(&der, &self.authority, now_s).map_err(|_| BAD_INFO)?;
                if !certificate.rights().may_speak() {
                    return Err(BAD_INFO);
                }
                Signer { node: certificate.node_id(), key: *certificate.public_key(), domains: Vec::new() }
            }
        };
        if signer.node == node { Ok(signer) } else { Err(BAD_INFO) }
    }
}

impl Signer {
    fn speaks(&self, claims: &Claims) -> Option<Speaker> {
        let address = address_of(claims)?;
        let is_certified = match claims.kind {
            Kind::Plain | Kind::Shaken { .. } if address == ANONYMOUS => true,
            Kind::Plain | Kind::Shaken { .. } | Kind::Diverted { .. } => domain_of(address)
                .is_some_and(|domain| self.domains.iter().any(|certified| certified.eq_ignore_ascii_case(domain))),
        };
        Some(Speaker { node: self.node, address: address.to_owned(), is_certified })
    }
}

/// Whether a chain says what the request says.
fn check(
    chain: &[(&Claims, Signer)],
    request: &Message,
    caller: &str,
    neighbour: NodeId,
    now_s: u64,
) -> Result<(), Refusal> {
    let ([(first, _), ..], [between @ .., (last, signer)]) = (chain, chain) else { return Err(INVALID) };
    let uri = |text: &str| Uri::parse(text).ok().map(|uri| party(&uri));
    let is_meant = |party: Option<Party>, claims: &Claims| party.is_some_and(|party| claims.dest.contains(&party));
    let says_so = chain.iter().all(|(claims, _)| claims.orig == of_address(caller))
        && is_meant(request.to().ok().and_then(|to| uri(to.uri)), first)
        && is_meant(uri(request.request_uri()), last)
        && first.media_keys == media_keys(request)
        // Nobody else has sent it here.
        && signer.node == neighbour;
    if !says_so {
        return Err(INVALID);
    }
    let is_early = |claims: &Claims| claims.iat > now_s.saturating_add(super::FRESH_S);
    let is_late = |claims: &Claims, fresh_s| now_s.saturating_sub(claims.iat) > fresh_s;
    let is_stale = is_late(last, super::FRESH_S) || between.iter().any(|(claims, _)| is_late(claims, FRESH_S));
    if is_stale || chain.iter().any(|(claims, _)| is_early(claims)) { Err(STALE) } else { Ok(()) }
}

/// The address that is spoken for.
fn address_of(claims: &Claims) -> Option<&str> {
    let spoken_for = match &claims.kind {
        Kind::Plain | Kind::Shaken { .. } => &claims.orig,
        Kind::Diverted { from } => from,
    };
    match spoken_for {
        Party::Uri(uri) => uri.strip_prefix("sip:"),
        Party::Number(_) => None,
    }
}

#[cfg(test)]
mod tests;
