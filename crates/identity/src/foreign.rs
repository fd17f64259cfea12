//! Certificates of other authorities than the overlay's: a company's own, or one that certifies mailboxes (S/MIME, RFC 8550) or SIP
//! domains (RFC 5922, RFC 5924).
//!
//! Whoever holds such a certificate need not read a mail to prove an address: he signs the overlay's certification request with its
//! key, and the overlay's authority, which lists whom it believes and for which domains, certifies him as it does everybody. So every
//! other node goes by the overlay's authority alone, and no foreign authority says anything of nodes.
//!
//! The path is validated by webpki: signatures, validity, who may issue, path length, name constraints. Constraints about mail
//! addresses or URIs it does not read, and refuses what stands under them. Here is what is particular: the address, what the keys may
//! be used for, and the proof that the sender holds the certified key. Whether the foreign authority has revoked a certificate since is
//! not asked; what follows from one ends with it at the latest.

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert, aws_lc_rs as algorithms};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::id::sha256;
use crate::x509::read_key;
use crate::{Error, OverlayId, PublicKey, UserRequest, address, domain};

/// Most certificates of a chain, the first the sender's own: one or two stand between it and a root, as a rule.
pub const MAX_CHAIN: usize = 4;

/// Longest chain in bytes: two or three certificates with RSA keys.
pub const MAX_CHAIN_LEN: usize = 12 << 10;

/// How far the date of a proof and ours may be apart, in seconds: it is made for this one request. An old one would give whoever has a
/// lost key of the overlay a newer certificate for it.
pub const FRESH_S: u64 = 300;

/// What a proof is signed as, so that no other signature passes for one.
const CONTEXT: &[u8] = b"meshtone foreign certificate 1\n";

/// Extended key usages (RFC 5280 §4.2.1.12, RFC 5924 §3).
const EMAIL_PROTECTION: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 4];
const SIP_DOMAIN: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 20];
const SERVER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];

/// The signatures that are understood, in certificates and in proofs.
static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Why a foreign certificate, or the proof that comes with it, proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// The overlay's authority believes nobody about that domain.
    #[error("no other authority is listed for addresses of {0}")]
    Unlisted(String),
    /// It comes from elsewhere.
    #[error("no authority that is listed for {0} has issued it, or a certificate between is missing")]
    Issuer(String),
    /// It is somebody else's.
    #[error("it does not name {0}")]
    Name(String),
    /// It has run out, or one above it has.
    #[error("it, or one above it, has run out")]
    Expired,
    /// Its time has not come.
    #[error("it, or one above it, is not valid yet")]
    NotYetValid,
    /// One above it is none of an authority, or it is none of a person.
    #[error("a certificate in its chain is used for what it is not: {0}")]
    Role(&'static str),
    /// It is for something else.
    #[error("it is not meant for this: {0}")]
    Usage(&'static str),
    /// An authority above it may not certify that name.
    #[error(
        "an authority above it may not certify such names, or constrains them in a way that is not understood here"
    )]
    Constraint,
    /// The sender has not shown that the key is his.
    #[error("the proof is not signed by the key of the certificate")]
    Possession,
    /// The proof is of another time.
    #[error("the proof was made {0} seconds away from this authority's clock")]
    Stale(u64),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Malformed(String),
}

/// A certificate of another authority, and that its holder asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignProof {
    /// The holder's certificate, and those between it and a listed one, in DER.
    pub chain: Vec<Vec<u8>>,
    /// When the proof was made, in unix seconds.
    pub made: u64,
    /// Of [`input`](Self::input), by the key of the first certificate: ECDSA as DER, or RSA as PKCS #1 or PSS.
    pub signature: Vec<u8>,
}

impl ForeignProof {
    /// What the holder signs: that this request, for this overlay, is his.
    pub fn input(overlay: &OverlayId, certification: &[u8], made: u64) -> Vec<u8> {
        [CONTEXT, overlay.as_bytes(), &made.to_be_bytes(), &sha256(certification)].concat()
    }
}

/// Authorities that are believed about the addresses of some domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignAuthority {
    certificates: Vec<CertificateDer<'static>>,
    domains: Vec<String>,
}

impl ForeignAuthority {
    /// Lists these certificates, in DER, for these domains; subdomains are others.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no certificate, or none at all; [`Error::Domain`].
    pub fn new(certificates: Vec<Vec<u8>>, domains: &[String]) -> Result<Self, Error> {
        let malformed = |why| Error::Malformed { what: "list of authorities", why };
        let certificates: Vec<_> = certificates.into_iter().map(CertificateDer::from).collect();
        if certificates.iter().any(|der| anchor_from_trusted_cert(der).is_err()) {
            return Err(malformed("not a certificate"));
        }
        let domains: Vec<_> = domains.iter().map(|domain| domain::normalise(domain)).collect::<Result<_, _>>()?;
        if certificates.is_empty() || domains.is_empty() {
            return Err(malformed("nothing in it"));
        }
        Ok(Self { certificates, domains })
    }

    /// Returns the domains about whose addresses they are believed.
    pub fn domains(&self) -> &[String] {
        &self.domains
    }
}

/// Judges whether the sender of a request, which proves to hold the key to be certified, has the address that it names: by a
/// certificate that one of the listed authorities issued. Returns when that ends, in unix seconds.
///
/// # Errors
/// [`ForeignError`].
pub fn verify(
    listed: &[ForeignAuthority],
    overlay: &OverlayId,
    (request, certification): (&UserRequest, &[u8]),
    proof: &ForeignProof,
    now: u64,
) -> Result<u64, ForeignError> {
    let address = request.address();
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let chain = certificates(&proof.chain)?;
    let path = Path::read(listed, domain, &chain)?;
    let Path { holder, shown, .. } = &path;
    // Cheap things first; nothing is believed before all of it is found true.
    let usage = Naming::of(shown, address, domain).ok_or_else(|| ForeignError::Name(address.to_owned()))?.usage();
    check_holder_key(shown)?;
    let apart = proof.made.abs_diff(now);
    if apart > FRESH_S {
        return Err(ForeignError::Stale(apart));
    }
    path.validate(domain, usage, now)?;
    let input = ForeignProof::input(overlay, certification, proof.made);
    let is_signed = |algorithm: &&dyn SignatureVerificationAlgorithm| {
        holder.verify_signature(*algorithm, &input, &proof.signature).is_ok()
    };
    if !ALGORITHMS.iter().any(is_signed) {
        return Err(ForeignError::Possession);
    }
    u64::try_from(shown.validity().not_after.timestamp())
        .map_err(|_| ForeignError::Malformed("a time before 1970".to_owned()))
}

/// Judges the certificate by which a SIP domain signs who calls from there (RFC 8224 §6.2 step 3), and returns its key: one of a listed
/// authority that names the domain (RFC 5922 §7.1) and is for SIP or for servers, if it says for what.
///
/// # Errors
/// [`ForeignError`].
pub fn domain_key(
    listed: &[ForeignAuthority],
    domain: &str,
    chain: &[Vec<u8>],
    now: u64,
) -> Result<PublicKey, ForeignError> {
    let chain = certificates(chain)?;
    let path = Path::read(listed, domain, &chain)?;
    if !names_domain(&path.shown, domain) {
        return Err(ForeignError::Name(domain.to_owned()));
    }
    check_holder_key(&path.shown)?;
    let for_sip = path.validate(domain, KeyUsage::required_if_present(SIP_DOMAIN), now);
    for_sip.or_else(|_| path.validate(domain, KeyUsage::required_if_present(SERVER), now))?;
    read_key("certificate of a domain", &path.shown.subject_pki)
        .map_err(|_| ForeignError::Usage("its key is not on the curve P-256"))
}

/// The certificates of a chain, if there are no more than one needs.
fn certificates(chain: &[Vec<u8>]) -> Result<Vec<CertificateDer<'_>>, ForeignError> {
    if chain.len() > MAX_CHAIN || chain.iter().map(Vec::len).sum::<usize>() > MAX_CHAIN_LEN {
        return Err(ForeignError::Malformed("more certificates than one needs".to_owned()));
    }
    Ok(chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect())
}

/// A chain, and where it may lead to.
struct Path<'a> {
    anchors: Vec<TrustAnchor<'a>>,
    holder: EndEntityCert<'a>,
    /// The holder's certificate once more, as it reads.
    shown: X509Certificate<'a>,
    between: &'a [CertificateDer<'a>],
}

impl<'a> Path<'a> {
    fn read(
        listed: &'a [ForeignAuthority],
        domain: &str,
        chain: &'a [CertificateDer<'a>],
    ) -> Result<Path<'a>, ForeignError> {
        let malformed = |why: &str| ForeignError::Malformed(why.to_owned());
        let for_domain = listed.iter().filter(|listed| listed.domains.iter().any(|listed| listed == domain));
        let anchors: Vec<_> = for_domain
            .flat_map(|listed| &listed.certificates)
            .filter_map(|der| anchor_from_trusted_cert(der).ok())
            .collect();
        if anchors.is_empty() {
            return Err(ForeignError::Unlisted(domain.to_owned()));
        }
        let (first, between) = chain.split_first().ok_or(malformed("no certificate"))?;
        let holder = EndEntityCert::try_from(first).map_err(|error| judged(&error, domain))?;
        let (rest, shown) = X509Certificate::from_der(first).map_err(|_| malformed("not X.509"))?;
        if !rest.is_empty() {
            return Err(malformed("bytes after its end"));
        }
        Ok(Path { anchors, holder, shown, between })
    }

    /// Whether it leads there, for this usage.
    fn validate(&self, domain: &str, usage: KeyUsage, now: u64) -> Result<(), ForeignError> {
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        let checks_issuers: &dyn Fn(&VerifiedPath<'_>) -> Result<(), webpki::Error> = &check_issuer_keys;
        let path = self.holder.verify_for_usage(
            ALGORITHMS,
            &self.anchors,
            self.between,
            time,
            usage,
            None,
            Some(checks_issuers),
        );
        path.map(drop).map_err(|error| judged(&error, domain))
    }
}

/// Whether a certificate names a SIP domain, by itself or as that of its server (RFC 5922 §7.1); a wildcard names none.
fn names_domain(certificate: &X509Certificate<'_>, domain: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    // All other kinds of names are treated alike.
    #[allow(clippy::wildcard_enum_match_arm)]
    names.value.general_names.iter().any(|name| match name {
        GeneralName::URI(uri) => {
            uri.strip_prefix("sip:").and_then(|named| domain::normalise(named).ok()).as_deref() == Some(domain)
        }
        GeneralName::DNSName(named) => domain::normalise(named).ok().as_deref() == Some(domain),
        _ => false,
    })
}

/// How a certificate names an address.
enum Naming {
    /// As a mailbox (RFC 5280 §4.2.1.6), or as a SIP address.
    Person,
    /// By its domain (RFC 5922 §7.1), all of which it speaks for.
    Domain,
}

impl Naming {
    fn of(certificate: &X509Certificate<'_>, address: &str, domain: &str) -> Option<Naming> {
        let names = certificate.subject_alternative_name().ok().flatten()?;
        let mut found = None;
        for name in &names.value.general_names {
            let is_address = |text: &str| address::normalise(text).is_ok_and(|text| text == address);
            // All other kinds of names are treated alike.
            #[allow(clippy::wildcard_enum_match_arm)]
            match name {
                GeneralName::RFC822Name(mailbox) if is_address(mailbox) => return Some(Naming::Person),
                GeneralName::URI(uri) => {
                    let Some(named) = uri.strip_prefix("sip:") else { continue };
                    if is_address(named) {
                        return Some(Naming::Person);
                    }
                    if domain::normalise(named).is_ok_and(|named| named == domain) {
                        found = Some(Naming::Domain);
                    }
                }
                _ => {}
            }
        }
        found
    }

    fn usage(&self) -> KeyUsage {
        match self {
            Naming::Person => KeyUsage::required_if_present(EMAIL_PROTECTION),
            // Certificates of web servers name domains, too, and are not for this.
            Naming::Domain => KeyUsage::required(SIP_DOMAIN),
        }
    }
}

/// Whether the holder's key may sign (RFC 8550 §4.4.2).
fn check_holder_key(certificate: &X509Certificate<'_>) -> Result<(), ForeignError> {
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.digital_signature() && !usage.value.non_repudiation() => {
            Err(ForeignError::Usage("its key may not sign"))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(ForeignError::Malformed("its key usage appears twice".to_owned())),
    }
}

/// Whether the keys of those between may issue certificates (RFC 5280 §6.1.4 n), of which webpki takes no notice.
fn check_issuer_keys(path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
    for issuer in path.intermediate_certificates() {
        let der = issuer.der();
        let (_, issuer) = X509Certificate::from_der(&der).map_err(|_| webpki::Error::BadDer)?;
        let may_not = |extension: &ParsedExtension<'_>| matches!(extension, ParsedExtension::KeyUsage(usage) if !usage.key_cert_sign());
        if issuer.extensions().iter().any(|extension| may_not(extension.parsed_extension())) {
            return Err(webpki::Error::EndEntityUsedAsCa);
        }
    }
    Ok(())
}

/// What webpki says, in words for whoever holds the certificate.
fn judged(error: &webpki::Error, domain: &str) -> ForeignError {
    use webpki::Error as Found;
    // There are more ways in which a certificate can be unreadable than anybody can do something about.
    #[allow(clippy::wildcard_enum_match_arm)]
    match error {
        Found::UnknownIssuer | Found::InvalidSignatureForPublicKey => ForeignError::Issuer(domain.to_owned()),
        Found::CertExpired { .. } => ForeignError::Expired,
        Found::CertNotValidYet { .. } => ForeignError::NotYetValid,
        Found::CaUsedAsEndEntity => ForeignError::Role("the first is an authority's"),
        Found::EndEntityUsedAsCa => ForeignError::Role("one that issued another is no authority's"),
        Found::PathLenConstraintViolated => ForeignError::Role("more authorities in a row than are allowed"),
        Found::RequiredEkuNotFoundContext(_) | Found::EmptyEkuExtension => {
            ForeignError::Usage("it is neither for mail (emailProtection) nor for a SIP domain (sipDomain)")
        }
        Found::NameConstraintViolation => ForeignError::Constraint,
        other => ForeignError::Malformed(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
