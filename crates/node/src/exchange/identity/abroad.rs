//! Who calls from another SIP domain, where that domain signs it (RFC 8224 §6), by a certificate of an authority that is listed for it;
//! and the same said of callers of ours, where others can fetch the certificate of what signs.
//!
//! Strangers are let in or not by the policy, whatever they sign: what is signed decides what the phone is shown. Who signs nothing, or
//! what cannot be verified for want of a certificate, is shown as a stranger. What is wrong is refused: somebody has copied or forged it.

use meshtone_identity::PublicKey;
use meshtone_identity::passport::{Attestation, Claims, Kind};
use meshtone_sip::date::HttpDate;
use meshtone_sip::message::{Header, Identity, Message, Uri};

use super::{
    FRESH_S, Field, INVALID, Identities, Origination, REPLAYED, Refusal, STALE, UNSUPPORTED, claimed_address,
    domain_of, media_keys, of_address, party,
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

    /// The fields by which a request for `request_uri` at another SIP domain says that its caller, a user of this node's domain, makes
    /// it; `place` is where the certificate of the key is fetched that signs for the domain. `None` where that is not to be said: he
    /// does not want to be shown, or has an address of his own, for which that key does not speak.
    pub(crate) fn signed_abroad(
        &self,
        request: &Message,
        request_uri: &str,
        (domain, place): (&str, &str),
        origin: Origination,
        now_s: u64,
    ) -> Option<[(Header, String); 2]> {
        let caller = claimed_address(request).filter(|caller| domain_of(caller) == Some(domain))?;
        let Origination { attestation, id: origin } = origin;
        let address = |uri: &str| Uri::parse(uri).ok().map(|uri| party(&uri));
        // RFC 8224 §4.1: for whom To says, and, since that may say anything, for whom it is sent to.
        let mut dest = vec![address(request.to().ok()?.uri)?];
        dest.extend(address(request_uri).filter(|party| !dest.contains(party)));
        let (kind, orig) = (Kind::Shaken { attestation, origin }, of_address(&caller));
        let claims = Claims { kind, orig, dest, iat: now_s, media_keys: media_keys(request) };
        let passport = claims.sign(place, &*self.signer);
        let passport = passport.inspect_err(|error| tracing::error!(%error, "a request leaves unsigned")).ok()?;
        let identity = Identity::write(&passport, place, claims.kind.ppt());
        Some([(Header::Identity, identity), (Header::Date, HttpDate::new(now_s).as_str().to_owned())])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use meshtone_identity::{ForeignAuthority, foreign};

    use super::super::tests::{INVITE, NOW, authority, message, node_of_domain};
    use super::*;

    const PLACE: &str = "https://www.mesh.test/certificates/a.pem";
    const CAROL: &str = "sip:carol@other.test";

    #[test]
    fn what_one_overlay_signs_another_verifies_that_lists_its_authority() {
        let (ours, theirs) = (authority(), authority());
        let (here, there) = (node_of_domain(&ours, "mesh.test"), node_of_domain(&theirs, "other.test"));
        let invite = message(&INVITE.replace("sip:201@127.0.0.1:5062", CAROL).replace("sip:bob@mesh.test", CAROL));
        let origin = Origination { attestation: Attestation::A, id: "00000000-0000-8000-8000-000000000001".to_owned() };
        let sign = |domain| here.identities.signed_abroad(&invite, CAROL, (domain, PLACE), origin.clone(), NOW);
        let mut edit = invite.edit();
        for (header, value) in sign("mesh.test").unwrap() {
            edit.set(header, &value);
        }
        let sent = edit.finish();
        let abroad = Abroad::of(&sent).unwrap();
        assert_eq!((abroad.domain.as_str(), abroad.place.as_str()), ("mesh.test", PLACE));
        // As the pages of that node show them.
        let chain = [here.proven.homes[0].der().to_vec(), ours.certificate().der().to_vec()];
        let listed = |authority: &meshtone_identity::Authority| {
            vec![
                ForeignAuthority::new(vec![authority.certificate().der().to_vec()], &["mesh.test".to_owned()]).unwrap(),
            ]
        };
        let key = foreign::domain_key(&listed(&ours), "mesh.test", &chain, NOW).unwrap();
        let caller = there.identities.verify_abroad(&sent, "carol@other.test", &key, NOW);
        assert_eq!(caller, Ok(Some("alice@mesh.test".to_owned())));
        assert!(foreign::domain_key(&listed(&theirs), "mesh.test", &chain, NOW).is_err());
        // An address that is not of the domain, such as that of who wants to be nobody, is not signed for.
        assert!(sign("elsewhere.test").is_none());
    }
}
