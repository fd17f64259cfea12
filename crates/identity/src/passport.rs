//! PASSporT: a signed statement of who calls whom, when, and with which media keys (RFC 8225); its types `shaken`, which says how
//! well the signer knows the caller (RFC 8588), and `div`, which says from whom a call was diverted (RFC 8946).
//!
//! Whoever verifies one does not take from it who calls: that is in the request, and the statement must say the same
//! (RFC 8224 §6.2.4). How old it may be is his to judge too.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::{Error, PublicKey, Signature, Signer, Verifier};

/// Longest text that is looked at: a statement with a few media keys has 600 bytes, and a header field 8 KiB at most.
pub const PASSPORT_LEN_MAX: usize = 4096;

/// Most parties called, and media keys, in one statement: a call has one of each for every medium at most.
const LIST_MAX: usize = 16;

const WHAT: &str = "PASSporT";

/// Somebody who calls, is called, or was called before (RFC 8225 §5.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Party {
    /// A telephone number in canonical form: digits, `*` and `#` (RFC 8224 §8.3).
    Number(String),
    /// A URI without parameters (RFC 8224 §8.5).
    Uri(String),
}

/// How well the signer knows the caller (RFC 8588 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attestation {
    /// Who calls is known, and may use this identity.
    A,
    /// Who calls is known, not that the identity is his.
    B,
    /// Only where the call came in is known.
    C,
}

/// A fingerprint of a key that media are encrypted with (RFC 8225 §5.2.2, RFC 8122 §5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediaKey {
    alg: String,
    dig: String,
}

impl FromStr for MediaKey {
    type Err = Error;

    /// Reads the value of an `a=fingerprint` attribute: `sha-256 4A:AD:B9…`.
    fn from_str(value: &str) -> Result<MediaKey, Error> {
        let wrong = Error::Malformed { what: "fingerprint", why: "not a hash function and its octets in hexadecimal" };
        let (alg, octets) = value.trim().split_once(' ').ok_or(wrong.clone())?;
        let is_octet = |octet: &str| octet.len() == 2 && octet.bytes().all(|digit| digit.is_ascii_hexdigit());
        if alg.is_empty() || !octets.split(':').all(is_octet) {
            return Err(wrong);
        }
        Ok(MediaKey { alg: alg.to_ascii_lowercase(), dig: octets.replace(':', "").to_ascii_uppercase() })
    }
}

/// What kind of statement it is, with the claims of that kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The basic one (RFC 8225).
    Plain,
    /// `shaken`.
    Shaken {
        /// How well the caller is known.
        attestation: Attestation,
        /// A UUID that tells the signer where the call came from.
        origin: String,
    },
    /// `div`.
    Diverted {
        /// Who was called before.
        from: Party,
    },
}

impl Kind {
    /// The `ppt` of the header, which the Identity header field repeats (RFC 8224 §4.1).
    pub fn ppt(&self) -> Option<&'static str> {
        match self {
            Kind::Plain => None,
            Kind::Shaken { .. } => Some("shaken"),
            Kind::Diverted { .. } => Some("div"),
        }
    }
}

/// What is stated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Which kind.
    pub kind: Kind,
    /// Who calls.
    pub orig: Party,
    /// Who is called.
    pub dest: Vec<Party>,
    /// When this was stated, in unix seconds.
    pub iat: u64,
    /// The media keys offered, in any order.
    pub media_keys: Vec<MediaKey>,
}

impl Claims {
    /// Signs the statement; `x5u` is where the signer's certificate is found. Returns the full form.
    ///
    /// # Errors
    /// [`Error::PrivateKey`] when the key cannot be used, [`Error::Encode`] when a text cannot be JSON.
    pub fn sign(&self, x5u: &str, signer: &dyn Signer) -> Result<String, Error> {
        let mut text = self.signing_input(x5u)?;
        let signature = signer.sign(text.as_bytes())?;
        text.push('.');
        BASE64URL_NOPAD.encode_append(signature.as_bytes(), &mut text);
        Ok(text)
    }

    /// Checks a compact form, `..signature`, which states these claims without repeating them (RFC 8225 §7).
    ///
    /// # Errors
    /// [`Error::Signature`] when it is not `key`'s over these claims, [`Error::Malformed`] when it is no compact form.
    pub fn verify_compact(
        &self,
        compact: &str,
        x5u: &str,
        key: &PublicKey,
        verifier: &dyn Verifier,
    ) -> Result<(), Error> {
        let signature = compact.strip_prefix("..").ok_or(malformed("not a compact form"))?;
        verifier.verify(key, self.signing_input(x5u)?.as_bytes(), &read_signature(signature)?)
    }

    /// What is signed: header and claims in their deterministic form (RFC 8225 §9).
    fn signing_input(&self, x5u: &str) -> Result<String, Error> {
        let header = Header {
            alg: "ES256".into(),
            ppt: self.kind.ppt().map(Into::into),
            typ: "passport".into(),
            x5u: x5u.into(),
        };
        let mut media_keys = self.media_keys.clone();
        media_keys.sort();
        media_keys.dedup();
        let (attest, origid, div) = match &self.kind {
            Kind::Plain => (None, None, None),
            Kind::Shaken { attestation, origin } => (Some(*attestation), Some(origin.clone()), None),
            Kind::Diverted { from } => (None, None, Some(One::from(from))),
        };
        let payload = Payload {
            attest,
            dest: Many::from(self.dest.as_slice()),
            div,
            iat: self.iat,
            mky: media_keys,
            orig: One::from(&self.orig),
            origid,
        };
        let json = |value: Result<String, serde_json::Error>| {
            value.map_err(|error| Error::Encode { what: WHAT, why: error.to_string() })
        };
        let mut text = BASE64URL_NOPAD.encode(json(serde_json::to_string(&header))?.as_bytes());
        text.push('.');
        BASE64URL_NOPAD.encode_append(json(serde_json::to_string(&payload))?.as_bytes(), &mut text);
        Ok(text)
    }
}

/// A statement in its full form, of which nothing is believed before [`SignedPassport::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPassport {
    claims: Claims,
    x5u: String,
    signed: String,
    signature: Signature,
}

impl SignedPassport {
    /// Reads the full form.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no PASSporT, [`Error::Unsupported`] for one of an algorithm or type that is not known.
    pub fn read(text: &str) -> Result<SignedPassport, Error> {
        if text.len() > PASSPORT_LEN_MAX {
            return Err(malformed("too long"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(malformed("not three parts"))?;
        let (header, payload) = signed.split_once('.').ok_or(malformed("not three parts"))?;
        let header: Header = read_part(header)?;
        if header.typ != "passport" {
            return Err(malformed("its typ is another"));
        }
        if header.alg != "ES256" {
            return Err(Error::Unsupported { what: WHAT, which: header.alg });
        }
        let claims = read_part::<Payload>(payload)?.claims(header.ppt)?;
        Ok(SignedPassport { claims, x5u: header.x5u, signature: read_signature(signature)?, signed: signed.to_owned() })
    }

    /// Where the signer says that his certificate is.
    pub fn x5u(&self) -> &str {
        &self.x5u
    }

    /// Which kind it says that it is; as unproved as all of it.
    pub fn kind(&self) -> &Kind {
        &self.claims.kind
    }

    /// The signature's first number, r (RFC 7518 §3.4): no two that one key made have the same, though anybody can write a signature in
    /// two ways.
    pub fn nonce(&self) -> [u8; 32] {
        self.signature.as_bytes().first_chunk().copied().unwrap_or_default()
    }

    /// The claims, once the signature is found to be `key`'s.
    ///
    /// # Errors
    /// [`Error::Signature`].
    pub fn verify(&self, key: &PublicKey, verifier: &dyn Verifier) -> Result<&Claims, Error> {
        verifier.verify(key, self.signed.as_bytes(), &self.signature)?;
        Ok(&self.claims)
    }
}

/// The protected header; the members stand in the order that RFC 8225 §9 wants.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ppt: Option<String>,
    typ: String,
    x5u: String,
}

/// The claims as they are written; the members stand in the order that RFC 8225 §9 wants.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    #[serde(skip_serializing_if = "Option::is_none")]
    attest: Option<Attestation>,
    dest: Many,
    #[serde(skip_serializing_if = "Option::is_none")]
    div: Option<One>,
    iat: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mky: Vec<MediaKey>,
    orig: One,
    #[serde(skip_serializing_if = "Option::is_none")]
    origid: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct One {
    #[serde(skip_serializing_if = "Option::is_none")]
    tn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Many {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tn: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    uri: Vec<String>,
}

impl Payload {
    fn claims(self, ppt: Option<String>) -> Result<Claims, Error> {
        let kind = match (ppt.as_deref(), self.attest, self.origid, self.div) {
            (None, None, None, None) => Kind::Plain,
            (Some("shaken"), Some(attestation), Some(origin), None) => Kind::Shaken { attestation, origin },
            (Some("div"), None, None, Some(div)) => Kind::Diverted { from: div.party()? },
            (None | Some("shaken" | "div"), ..) => return Err(malformed("its claims are not those of its type")),
            (Some(other), ..) => return Err(Error::Unsupported { what: WHAT, which: other.to_owned() }),
        };
        let Many { tn, uri } = self.dest;
        let dest: Vec<Party> = tn.into_iter().map(Party::Number).chain(uri.into_iter().map(Party::Uri)).collect();
        if dest.is_empty() {
            return Err(malformed("nobody is called"));
        }
        if dest.len() > LIST_MAX || self.mky.len() > LIST_MAX {
            return Err(malformed("too many entries"));
        }
        let mut media_keys = self.mky;
        media_keys.sort();
        media_keys.dedup();
        Ok(Claims { kind, orig: self.orig.party()?, dest, iat: self.iat, media_keys })
    }
}

impl One {
    fn party(self) -> Result<Party, Error> {
        match (self.tn, self.uri) {
            (Some(number), None) => Ok(Party::Number(number)),
            (None, Some(uri)) => Ok(Party::Uri(uri)),
            (None, None) | (Some(_), Some(_)) => Err(malformed("a party has one number or one URI")),
        }
    }
}

impl From<&Party> for One {
    fn from(party: &Party) -> One {
        match party {
            Party::Number(number) => One { tn: Some(number.clone()), uri: None },
            Party::Uri(uri) => One { tn: None, uri: Some(uri.clone()) },
        }
    }
}

impl From<&[Party]> for Many {
    fn from(parties: &[Party]) -> Many {
        let mut many = Many { tn: Vec::new(), uri: Vec::new() };
        for party in parties {
            match party {
                Party::Number(number) => many.tn.push(number.clone()),
                Party::Uri(uri) => many.uri.push(uri.clone()),
            }
        }
        many
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Number(text) | Party::Uri(text) => f.write_str(text),
        }
    }
}

fn read_part<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, Error> {
    let json = BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| malformed("not in base64url"))?;
    serde_json::from_slice(&json).map_err(|_| malformed("a part is not the JSON it should be"))
}

fn read_signature(text: &str) -> Result<Signature, Error> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| malformed("not in base64url"))?;
    Signature::from_slice(&bytes)
}

fn malformed(why: &'static str) -> Error {
    Error::Malformed { what: WHAT, why }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::{Es256, SigningKey};

    /// RFC 8225 appendix A.1.
    const RFC_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgi7q2TZvN9VDFg8VyqCP06bETrR2v8MRvr89rn4i+UAahRANCAAQWfaj1HUETpoNCrOtp9KA8o0V79IuWARKt9C1cFPkyd3FBP4SeiNZxQhDrD0tdBHls3/wFe8++K2FrPyQF9vuh";
    /// RFC 8225 appendix A, step 8.
    const RFC_PASSPORT: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6InBhc3Nwb3J0IiwieDV1IjoiaHR0cHM6Ly9jZXJ0LmV4YW1wbGUub3JnL3Bhc3Nwb3J0LmNlciJ9.eyJkZXN0Ijp7InVyaSI6WyJzaXA6YWxpY2VAZXhhbXBsZS5jb20iXX0sImlhdCI6MTQ3MTM3NTQxOCwib3JpZyI6eyJ0biI6IjEyMTU1NTUxMjEyIn19.VLBCIVDCaeK6M4hLJb6SHQvacAQVvoiiEOWQ_iUkqk79UD81fHQ0E1b3_GluIkba7UWYRM47ZbNFdOJquE35cw";
    const X5U: &str = "https://cert.example.org/passport.cer";

    fn rfc_key() -> SigningKey {
        SigningKey::from_pkcs8(&data_encoding::BASE64.decode(RFC_KEY.as_bytes()).unwrap()).unwrap()
    }

    fn rfc_claims() -> Claims {
        Claims {
            kind: Kind::Plain,
            orig: Party::Number("12155551212".to_owned()),
            dest: vec![Party::Uri("sip:alice@example.com".to_owned())],
            iat: 1_471_375_418,
            media_keys: Vec::new(),
        }
    }

    fn payload(passport: &str) -> String {
        String::from_utf8(BASE64URL_NOPAD.decode(passport.split('.').nth(1).unwrap().as_bytes()).unwrap()).unwrap()
    }

    /// A statement of these JSON texts, signed by `key` as it is.
    fn signed(key: &SigningKey, header: &str, payload: &str) -> String {
        let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let input = format!("{}.{}", encode(header), encode(payload));
        let signature = key.sign(input.as_bytes()).unwrap();
        format!("{input}.{}", BASE64URL_NOPAD.encode(signature.as_bytes()))
    }

    #[test]
    fn the_example_of_rfc_8225_is_read_and_written_alike() {
        let read = SignedPassport::read(RFC_PASSPORT).unwrap();
        assert_eq!((&read.claims, read.x5u()), (&rfc_claims(), X5U));
        let written = rfc_claims().sign(X5U, &rfc_key()).unwrap();
        // An ECDSA signature is never twice the same, and the one printed there is not that key's over that text.
        assert_eq!(written.rsplit_once('.').unwrap().0, RFC_PASSPORT.rsplit_once('.').unwrap().0);
        let read = SignedPassport::read(&written).unwrap();
        assert_eq!(read.verify(rfc_key().public_key(), &Es256).unwrap(), &rfc_claims());
    }

    #[test]
    fn a_compact_form_states_the_claims_that_it_leaves_out() {
        let key = rfc_key();
        let full = rfc_claims().sign(X5U, &key).unwrap();
        let compact = format!("..{}", full.rsplit_once('.').unwrap().1);
        rfc_claims().verify_compact(&compact, X5U, key.public_key(), &Es256).unwrap();
        let other = Claims { iat: 1, ..rfc_claims() };
        assert_eq!(other.verify_compact(&compact, X5U, key.public_key(), &Es256), Err(Error::Signature));
        assert!(rfc_claims().verify_compact(&full, X5U, key.public_key(), &Es256).is_err());
    }

    #[test]
    fn media_keys_are_written_in_the_order_of_rfc_8225() {
        let fingerprints = [
            "sha-256 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB:3E:4B:65:2E:7D:46:3F:54:42:CD:54:F1",
            "SHA-256 02:1a:CC:54:27:AB:EB:9C:53:3F:3E:4B:65:2E:7D:46:3F:54:42:CD:54:F1:7A:03:A2:7D:F9:B0:7F:46:19:B2",
        ];
        let media_keys = fingerprints.iter().map(|value| value.parse().unwrap()).collect();
        let claims = Claims { iat: 1_443_208_345, media_keys, ..rfc_claims() };
        assert_eq!(
            payload(&claims.sign(X5U, &rfc_key()).unwrap()),
            "{\"dest\":{\"uri\":[\"sip:alice@example.com\"]},\"iat\":1443208345,\"mky\":[{\"alg\":\"sha-256\",\"dig\":\"021ACC5427ABEB9C533F3E4B652E7D463F5442CD54F17A03A27DF9B07F4619B2\"},{\"alg\":\"sha-256\",\"dig\":\"4AADB9B13F82183B540212DF3E5D496B19E57CAB3E4B652E7D463F5442CD54F1\"}],\"orig\":{\"tn\":\"12155551212\"}}"
        );
        for wrong in ["", "sha-256", "sha-256 4A:A", "sha-256 zz", " 4A"] {
            assert!(wrong.parse::<MediaKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_kind_comes_back_as_it_was_signed_and_only_from_its_signer() {
        let key = SigningKey::generate().unwrap();
        let origin = "123e4567-e89b-12d3-a456-426655440000".to_owned();
        let kinds = [
            Kind::Plain,
            Kind::Shaken { attestation: Attestation::A, origin },
            Kind::Diverted { from: Party::Uri("sip:bob@example.org".to_owned()) },
        ];
        for kind in kinds {
            let claims = Claims { kind, ..rfc_claims() };
            let text = claims.sign(X5U, &key).unwrap();
            let read = SignedPassport::read(&text).unwrap();
            assert_eq!(read.verify(key.public_key(), &Es256).unwrap(), &claims);
            assert_eq!(read.verify(rfc_key().public_key(), &Es256), Err(Error::Signature));
        }
    }

    #[test]
    fn a_changed_statement_does_not_verify() {
        let claims = payload(RFC_PASSPORT).replace("alice", "carol");
        let signed = rfc_claims().sign(X5U, &rfc_key()).unwrap();
        let parts: Vec<&str> = signed.split('.').collect();
        let forged = format!("{}.{}.{}", parts[0], BASE64URL_NOPAD.encode(claims.as_bytes()), parts[2]);
        let read = SignedPassport::read(&forged).unwrap();
        assert_eq!(read.verify(rfc_key().public_key(), &Es256), Err(Error::Signature));
    }

    #[test]
    fn what_is_no_passport_or_of_an_unknown_kind_is_refused() {
        let key = rfc_key();
        let header =
            |alg: &str, more: &str| format!("{{\"alg\":\"{alg}\",{more}\"typ\":\"passport\",\"x5u\":\"{X5U}\"}}");
        let good = payload(RFC_PASSPORT);
        let unsupported = |which: &str| Err(Error::Unsupported { what: WHAT, which: which.to_owned() });
        assert_eq!(SignedPassport::read(&signed(&key, &header("none", ""), &good)), unsupported("none"));
        assert_eq!(
            SignedPassport::read(&signed(&key, &header("ES256", "\"ppt\":\"rph\","), &good)),
            unsupported("rph")
        );
        for (header, payload) in [
            (header("ES256", "\"ppt\":\"shaken\","), good.clone()),
            (header("ES256", ""), good.replace("\"iat\":1471375418", "\"iat\":\"1471375418\"")),
            (header("ES256", ""), good.replace("\"tn\":", "\"uri\":\"sip:eve@example.net\",\"tn\":")),
            (header("ES256", ""), good.replace("[\"sip:alice@example.com\"]", "[]")),
            (header("ES256", ""), good.replace("\"iat\"", "\"iat\":1,\"iat\"")),
            (header("ES256", "").replace("passport\"", "jwt\""), good.clone()),
            (String::new(), good.clone()),
        ] {
            let text = signed(&key, &header, &payload);
            assert!(matches!(SignedPassport::read(&text), Err(Error::Malformed { .. })), "{header} {payload}");
        }
        for text in ["", "..", "a.b", &"A".repeat(PASSPORT_LEN_MAX + 1), "é.é.é"] {
            assert!(SignedPassport::read(text).is_err(), "{text:.20}");
        }
    }
}
