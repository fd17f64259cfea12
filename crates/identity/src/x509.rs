//! The X.509 profile of Meshtone (RFC 5280): what is read of a certificate, and the rules that all of them share.
//!
//! Stricter than the RFC allows for: version 3, P-256 keys, ECDSA with SHA-256, no extension twice, no critical
//! extension that is not understood here, nothing after the end.

use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Version};

use crate::der::{BIT_STRING, SEQUENCE, signature_from_der, signature_to_der};
use crate::{Error, PublicKey, Signature, Signer, Verifier};

/// Largest certificate or request that is looked at; ours have about 600 bytes.
pub(crate) const MAX_DER: usize = 4096;

/// What is read of a certificate: everything that any rule asks for.
pub(crate) struct Parsed<'a> {
    what: &'static str,
    pub(crate) public_key: PublicKey,
    pub(crate) subject: &'a [u8],
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
    extensions: Extensions,
    issuer: &'a [u8],
    signed: &'a [u8],
    signature: Signature,
}

/// The extensions that are understood.
#[derive(Default)]
pub(crate) struct Extensions {
    /// The URIs of the subject alternative name; any other form of name there is refused.
    pub(crate) uris: Vec<String>,
    constraints: Option<(bool, Option<u32>)>,
    digital_signature: bool,
    sign_certificates: bool,
}

impl<'a> Parsed<'a> {
    /// Reads a certificate; `what` names it in errors.
    pub(crate) fn read(what: &'static str, der: &'a [u8]) -> Result<Self, Error> {
        let malformed = |why| Error::Malformed { what, why };
        if der.len() > MAX_DER {
            return Err(malformed("larger than 4 KiB"));
        }
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| malformed("not an X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(malformed("bytes after its end"));
        }
        let signature = read_signature(what, &certificate.signature_algorithm, &certificate.signature_value)?;
        let tbs = certificate.tbs_certificate;
        if tbs.version != X509Version::V3 {
            return Err(malformed("not version 3"));
        }
        if tbs.signature != certificate.signature_algorithm {
            return Err(malformed("two different signature algorithms"));
        }
        let signed = signed_part(der, tbs.as_ref());
        check_envelope(what, der, signed, &signature)?;
        let seconds = |time: i64| u64::try_from(time).map_err(|_| malformed("a time before 1970"));
        Ok(Self {
            what,
            public_key: read_key(what, &tbs.subject_pki)?,
            subject: tbs.subject.as_raw(),
            not_before: seconds(tbs.validity.not_before.timestamp())?,
            not_after: seconds(tbs.validity.not_after.timestamp())?,
            extensions: Extensions::read(what, tbs.extensions())?,
            issuer: tbs.issuer.as_raw(),
            signed,
            signature,
        })
    }

    /// Checks that the holder of `key`, named `subject`, issued this certificate.
    pub(crate) fn check_issuer(&self, verifier: &dyn Verifier, subject: &[u8], key: &PublicKey) -> Result<(), Error> {
        let refuse = Error::Issuer { what: self.what };
        if self.issuer != subject {
            return Err(refuse);
        }
        verifier.verify(key, self.signed, &self.signature).map_err(|_| refuse)
    }

    /// Checks that this is an authority's certificate: it may sign certificates, and only of end entities.
    pub(crate) fn check_authority(&self) -> Result<(), Error> {
        let refuse = |why| Error::NotPermitted { what: self.what, why };
        match self.extensions.constraints {
            Some((true, Some(0))) => {}
            Some((true, _)) => return Err(refuse("it allows intermediate authorities")),
            Some((false, _)) | None => return Err(refuse("it is no authority's")),
        }
        if !self.extensions.sign_certificates {
            return Err(refuse("its key may not sign certificates"));
        }
        Ok(())
    }

    /// Checks that this is an end entity's certificate: it may sign, but no certificates.
    pub(crate) fn check_end_entity(&self) -> Result<(), Error> {
        let refuse = |why| Error::NotPermitted { what: self.what, why };
        if matches!(self.extensions.constraints, Some((true, _))) || self.extensions.sign_certificates {
            return Err(refuse("it claims to be an authority's"));
        }
        if !self.extensions.digital_signature {
            return Err(refuse("its key may not sign"));
        }
        Ok(())
    }

    /// Returns what follows each of the prefixes, when the subject alternative names are exactly one URI of each.
    pub(crate) fn names<const N: usize>(&self, prefixes: [&str; N]) -> Result<[&str; N], Error> {
        names(self.what, &self.extensions.uris, prefixes)
    }

    /// The same, where one more URI may be there; returns what follows its prefix.
    pub(crate) fn names_and<const N: usize>(
        &self,
        prefixes: [&str; N],
        optional: &str,
    ) -> Result<([&str; N], Option<&str>), Error> {
        let (more, uris): (Vec<&String>, Vec<&String>) =
            self.extensions.uris.iter().partition(|uri| uri.starts_with(optional));
        let more = match more.as_slice() {
            [] => None,
            [only] => only.strip_prefix(optional),
            [..] => return Err(Error::Malformed { what: self.what, why: "an alternative name twice" }),
        };
        Ok((names(self.what, uris, prefixes)?, more))
    }
}

impl Extensions {
    /// Reads extensions, refusing any twice and any critical one that is not understood (RFC 5280 §4.2).
    pub(crate) fn read(what: &'static str, list: &[X509Extension<'_>]) -> Result<Self, Error> {
        let malformed = |why| Error::Malformed { what, why };
        let mut extensions = Self::default();
        for (index, extension) in list.iter().enumerate() {
            if list.iter().skip(index + 1).any(|later| later.oid == extension.oid) {
                return Err(malformed("an extension appears twice"));
            }
            // Every other kind of extension is treated alike, whether the parser has a name for it or not.
            #[allow(clippy::wildcard_enum_match_arm)]
            match extension.parsed_extension() {
                ParsedExtension::ParseError { .. } => {
                    return Err(malformed("an extension cannot be read"));
                }
                ParsedExtension::BasicConstraints(constraints) => {
                    extensions.constraints = Some((constraints.ca, constraints.path_len_constraint));
                }
                ParsedExtension::KeyUsage(usage) => {
                    extensions.digital_signature = usage.digital_signature();
                    extensions.sign_certificates = usage.key_cert_sign();
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        let GeneralName::URI(uri) = name else {
                            return Err(malformed("an alternative name that is no URI"));
                        };
                        extensions.uris.push((*uri).to_owned());
                    }
                }
                ParsedExtension::SubjectKeyIdentifier(_) | ParsedExtension::AuthorityKeyIdentifier(_) => {}
                _ if extension.critical => return Err(malformed("an unknown critical extension")),
                _ => {}
            }
        }
        Ok(extensions)
    }
}

/// Returns what follows each of the prefixes, when `uris` are exactly one of each.
pub(crate) fn names<'a, const N: usize>(
    what: &'static str,
    uris: impl IntoIterator<Item = &'a String>,
    prefixes: [&str; N],
) -> Result<[&'a str; N], Error> {
    let malformed = |why| Error::Malformed { what, why };
    let mut found = [None; N];
    for uri in uris {
        let Some((slot, value)) =
            found.iter_mut().zip(prefixes).find_map(|(slot, prefix)| Some((slot, uri.strip_prefix(prefix)?)))
        else {
            return Err(malformed("an alternative name it should not have"));
        };
        if slot.replace(value).is_some() {
            return Err(malformed("an alternative name twice"));
        }
    }
    let mut values = [""; N];
    for (value, slot) in values.iter_mut().zip(found) {
        *value = slot.ok_or(malformed("an alternative name is missing"))?;
    }
    Ok(values)
}

/// Reads a P-256 key (RFC 5480 §2).
pub(crate) fn read_key(what: &'static str, info: &SubjectPublicKeyInfo<'_>) -> Result<PublicKey, Error> {
    let refuse = Error::Malformed { what, why: "its key is not a P-256 key" };
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    if info.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != Some(OID_EC_P256) {
        return Err(refuse);
    }
    if info.subject_public_key.unused_bits != 0 {
        return Err(refuse);
    }
    PublicKey::from_sec1(&info.subject_public_key.data).map_err(|_| refuse)
}

/// Reads an ECDSA-with-SHA-256 signature (RFC 5758 §3.2).
pub(crate) fn read_signature(
    what: &'static str,
    algorithm: &AlgorithmIdentifier<'_>,
    value: &x509_parser::asn1_rs::BitString<'_>,
) -> Result<Signature, Error> {
    let malformed = |why| Error::Malformed { what, why };
    if algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 || algorithm.parameters.is_some() || value.unused_bits != 0 {
        return Err(malformed("not signed with ECDSA and SHA-256"));
    }
    signature_from_der(&value.data).ok_or(malformed("its signature cannot be read"))
}

/// Checks that the unsigned part around what is signed has the one form that DER gives it. The parser is lenient there, and
/// a certificate that can be rewritten without breaking its signature would have many fingerprints.
pub(crate) fn check_envelope(
    what: &'static str,
    der: &[u8],
    signed: &[u8],
    signature: &Signature,
) -> Result<(), Error> {
    // SEQUENCE { OBJECT IDENTIFIER ecdsa-with-SHA256 } (RFC 5758 §3.2).
    const ALGORITHM: [u8; 12] = [SEQUENCE, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let signature = signature_to_der(signature);
    let mut expected = signed.to_vec();
    expected.extend(ALGORITHM);
    expected.extend([BIT_STRING, (signature.len() + 1) as u8, 0]);
    expected.extend(signature);
    let length = expected.len();
    let head = match u8::try_from(length) {
        Ok(short @ ..0x80) => vec![SEQUENCE, short],
        Ok(byte) => vec![SEQUENCE, 0x81, byte],
        Err(_) => [&[SEQUENCE, 0x82][..], &(length as u16).to_be_bytes()].concat(),
    };
    let same = der.split_at_checked(head.len()).is_some_and(|(start, rest)| start == head && rest == expected);
    if same { Ok(()) } else { Err(Error::Malformed { what, why: "not DER" }) }
}

/// The part of `der` that is signed, borrowed from `der` itself so that it outlives the parser's own structures.
fn signed_part<'a>(der: &'a [u8], tbs: &[u8]) -> &'a [u8] {
    let offset = (tbs.as_ptr() as usize).wrapping_sub(der.as_ptr() as usize);
    der.get(offset..).and_then(|rest| rest.get(..tbs.len())).unwrap_or_default()
}

/// Lets any [`Signer`] sign what rcgen writes.
pub(crate) struct X509Signer<'a>(pub(crate) &'a dyn Signer);

impl PublicKeyData for X509Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for X509Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message).map(|signature| signature_to_der(&signature)).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// Lets a public key stand as the subject of what rcgen writes.
pub(crate) struct X509Subject<'a>(pub(crate) &'a PublicKey);

impl PublicKeyData for X509Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}
