//! Who calls from another SIP domain, where that domain signs it (RFC 8224 §6), by a certificate of an authority that is listed for it.
//!
//! Strangers are let in or not by the policy, whatever they sign: what is signed decides what the phone is shown. Who signs nothing, or
//! what cannot be verified for want of a certificate, is shown as a stranger. What is wrong is refused: somebody has copied or forged it.

use meshtone_identity::PublicKey;
use meshtone_identity::passport::{Attestation, Kind};
use meshtone_sip::message::{Header, Identity, Message, Uri};

use super::{
    FRESH_S, Field, INVALID, Identities, REPLAYED, Refusal, STALE, UNSUPPORTED, claimed_address, domain_of, media_keys,
    of_address, party,
};

/// Where the certificate of a stranger's domain is said to be, if a request from there says anything that can be verified.
pub(crate) struct Abroad {
    /// The domain that the caller says he is of.
    pub(crate) domain: String,
    /// The place, by https.
    pub(crate) place: String,
}

impl Abroad {
    /// What a request says. Of several statements none is believed: they are about who diverted the call, too (RFC 8946).
    pub(crate) fn of(request: &Message) -> Option<Abroad> {
        let mut fields = request.fields(Header::Identity);
        let (field, None) = (Identity::parse(fields.next()?).ok()?, fields.next()) else { return None };
        let is_read = field.alg.is_none_or(|alg| alg == "ES256") && matches!(field.ppt, None | Some("shaken"));
        // The compact form leaves out what it states; hardly anybody writes it.
        let is_read = is_read && !field.passport.starts_with("..");
        let place = Some(field.info).filter(|info| is_read && info.starts_with("https:"))?.to_owned();
        let caller = claimed_address(request)?;
        Some(Abroad { domain: domain_of(&caller)?.to_owned(), place })
    }
}

impl Identities {
    /// Judges a request of another SIP domain for the user with this address, by the key that signs for that domain. Returns the
    /// caller, who is who his domain says, or `None` where it does not say that.
    pub(crate) fn verify_abroad(
        &self,
        request: &Message,
        callee: &str,
        key: &PublicKey,
        now_s: u64,
    ) -> Result<Option<String>, Refusal> {
        let caller = claimed_address(request).ok_or(INVALID)?;
        let value = request.header(Header::Identity).ok_or(INVALID)?;
        let field = Field::read(value)?;
        let claims = field.verify(key)?;
        // To could say anybody whom the caller has called.
        let asked_for = Uri::parse(request.request_uri()).map_err(|_| INVALID)?;
        let is_for_us = [of_address(callee), party(&asked_for)].iter().any(|party| claims.dest.contains(party));
        // Some domains leave the keys out.
        let are_keys_right = claims.media_keys.is_empty() || claims.media_keys == media_keys(request);
        if claims.orig != of_address(&caller) || !is_for_us || !are_keys_right {
            return Err(INVALID);
        }
        if claims.iat.abs_diff(now_s) > FRESH_S {
            return Err(STALE);
        }
        if !self.replays.admit(field.passport.nonce(), request.call_id(), now_s) {
            return Err(REPLAYED);
        }
        match &claims.kind {
            Kind::Plain | Kind::Shaken { attestation: Attestation::A | Attestation::B, .. } => Ok(Some(caller)),
            Kind::Shaken { attestation: Attestation::C, .. } => Ok(None),
            Kind::Diverted { .. } => Err(UNSUPPORTED),
        }
    }
}
