//! An overlay's authority: it is asked once, when a node joins, and issues the node's certificates.
//!
//! The first node of an overlay makes it and holds its key. Which request deserves a certificate is decided outside
//! (by a ticket); here is only how one is written.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::certificate::{
    AUTHORITY, DOMAIN_URI, HOME, LINK_URI, NODE, NODE_URI, PAGE, RIGHTS_URI, SALT_URI, USER, USER_URI,
};
use crate::id::{SALT_LENGTH, sha256};
use crate::x509::{X509Signer, X509Subject};
use crate::{
    AuthorityCertificate, EnrolRequest, Error, Es256, HomeCertificate, LinkKey, NodeCertificate, NodeId, PublicKey,
    Rights, Signature, Signer, SigningKey, UserCertificate, Verifier, address, domain,
};

/// How long an authority's certificate is valid: an overlay cannot change it without becoming another.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long node and home certificates are valid by default.
pub const NODE_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// How long user certificates are valid by default: within that time a mailbox may have changed hands.
pub const USER_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// Certificates are valid from an hour before they are issued, for machines whose clock is behind.
const BACKDATE: u64 = 3600;

const AUTHORITY_NAME: &str = "Meshtone authority";

/// The authority of an overlay: its certificate and its key.
#[derive(Clone)]
pub struct Authority {
    certificate: AuthorityCertificate,
    signer: Arc<dyn Signer>,
    verifier: Arc<dyn Verifier>,
}

impl Authority {
    /// Founds an overlay: makes a key and signs itself a certificate. The key is returned as PKCS#8, to be kept.
    ///
    /// # Errors
    /// [`Error::PrivateKey`], [`Error::Encode`].
    pub fn create(now: u64) -> Result<(Self, Zeroizing<Vec<u8>>), Error> {
        let key = SigningKey::generate()?;
        let pkcs8 = key.to_pkcs8()?;
        Ok((Self::create_with(Arc::new(key), Arc::new(Es256), now)?, pkcs8))
    }

    /// Founds an overlay with a given signer and judge of signatures.
    ///
    /// # Errors
    /// [`Error::PrivateKey`], [`Error::Encode`].
    pub fn create_with(signer: Arc<dyn Signer>, verifier: Arc<dyn Verifier>, now: u64) -> Result<Self, Error> {
        let mut params = authority_params();
        set_validity(AUTHORITY, &mut params, now, now.saturating_add(AUTHORITY_LIFETIME.as_secs()))?;
        params.serial_number = Some(serial(signer.public_key(), AUTHORITY, now));
        let der = params.self_signed(&X509Signer(&*signer)).map_err(|error| encode(AUTHORITY, &error))?;
        let certificate = AuthorityCertificate::parse_with(&*verifier, der.der())?;
        Ok(Self { certificate, signer, verifier })
    }

    /// Takes up an authority that was made earlier.
    ///
    /// # Errors
    /// Those of [`AuthorityCertificate::parse`]; [`Error::PrivateKey`] when the key is not the certificate's.
    pub fn from_parts(der: &[u8], pkcs8: &[u8]) -> Result<Self, Error> {
        let certificate = AuthorityCertificate::parse(der)?;
        let key = SigningKey::from_pkcs8(pkcs8)?;
        if key.public_key() != certificate.public_key() {
            return Err(Error::PrivateKey("not the key of this authority certificate"));
        }
        Ok(Self { certificate, signer: Arc::new(key), verifier: Arc::new(Es256) })
    }

    /// Returns the authority's certificate.
    pub fn certificate(&self) -> &AuthorityCertificate {
        &self.certificate
    }

    /// Issues the certificate that a request asks for. The salt has to be fresh randomness.
    ///
    /// # Errors
    /// [`Error::Encode`]; [`Error::Expired`] when the authority itself is.
    pub fn issue_node(
        &self,
        request: &EnrolRequest,
        rights: Rights,
        salt: [u8; SALT_LENGTH],
        now: u64,
        lifetime: Duration,
    ) -> Result<NodeCertificate, Error> {
        self.certify(request.public_key(), request.link_key(), (salt, rights), now, lifetime)
    }

    /// Issues a node certificate for a key whose possession is known, such as our own.
    ///
    /// # Errors
    /// Those of [`issue_node`](Self::issue_node).
    pub fn certify_node(
        &self,
        key: &PublicKey,
        link_key: LinkKey,
        salt: [u8; SALT_LENGTH],
        now: u64,
        lifetime: Duration,
    ) -> Result<NodeCertificate, Error> {
        self.certify(key, link_key, (salt, Rights::Full), now, lifetime)
    }

    fn certify(
        &self,
        key: &PublicKey,
        link_key: LinkKey,
        (salt, rights): ([u8; SALT_LENGTH], Rights),
        now: u64,
        lifetime: Duration,
    ) -> Result<NodeCertificate, Error> {
        let node_id = NodeId::derive(key, &salt);
        let salt = data_encoding::HEXLOWER.encode(&salt);
        let mut uris = vec![format!("{LINK_URI}{link_key}"), format!("{SALT_URI}{salt}")];
        uris.extend(rights.word().map(|word| format!("{RIGHTS_URI}{word}")));
        let der = self.issue(NODE, key, &node_name(&node_id), &uris, now, lifetime)?;
        NodeCertificate::verify_with(&*self.verifier, &der, &self.certificate, now)
    }

    /// Issues a node's certificate anew: for the same keys and the same id.
    ///
    /// # Errors
    /// Those of [`issue_node`](Self::issue_node).
    pub fn renew_node(
        &self,
        old: &NodeCertificate,
        rights: Rights,
        now: u64,
        lifetime: Duration,
    ) -> Result<NodeCertificate, Error> {
        self.certify(old.public_key(), old.link_key(), (old.salt(), rights), now, lifetime)
    }

    /// Issues the certificate by which a node may speak for a domain.
    ///
    /// # Errors
    /// [`Error::Domain`], [`Error::Encode`]; [`Error::Expired`] when the authority itself is.
    pub fn issue_home(
        &self,
        node: &NodeCertificate,
        domain: &str,
        now: u64,
        lifetime: Duration,
    ) -> Result<HomeCertificate, Error> {
        let domain = domain::normalise(domain)?;
        let uris = [format!("{DOMAIN_URI}{domain}"), format!("{NODE_URI}{}", node.node_id())];
        let der = self.issue(HOME, node.public_key(), &node_name(&node.node_id()), &uris, now, lifetime)?;
        HomeCertificate::verify_with(&*self.verifier, &der, &self.certificate, now)
    }

    /// Issues the certificate that a key belongs to the owner of an address, who has proved both.
    ///
    /// # Errors
    /// [`Error::Text`], [`Error::Domain`], [`Error::Encode`]; [`Error::Expired`] when the authority itself is.
    pub fn issue_user(
        &self,
        address: &str,
        key: &PublicKey,
        now: u64,
        lifetime: Duration,
    ) -> Result<UserCertificate, Error> {
        let address = address::normalise(address)?;
        let der = self.issue(USER, key, &address, &[format!("{USER_URI}{address}")], now, lifetime)?;
        UserCertificate::verify(&*self.verifier, &der, &self.certificate, now)
    }

    /// Issues what the pages of a node show browsers that trust this authority: a TLS server's certificate for its domain, for names below
    /// that, and for `addresses`. It opens nothing in the overlay, where certificates have no such names.
    ///
    /// # Errors
    /// [`Error::Domain`] for a name that is not the domain's; [`Error::Encode`]; [`Error::Expired`] when the authority itself is.
    pub fn issue_page(
        &self,
        home: &HomeCertificate,
        key: &PublicKey,
        hosts: &[String],
        addresses: &[IpAddr],
        now: u64,
    ) -> Result<Vec<u8>, Error> {
        self.certificate.check_time(now)?;
        let mut names = vec![home.domain().to_owned()];
        for host in hosts {
            let host = domain::normalise(host)?;
            let is_below = host.strip_suffix(home.domain()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            if !is_below {
                return Err(Error::Domain { domain: host, why: "it is not the node's" });
            }
            names.push(host);
        }
        names.sort();
        names.dedup();
        let text = |name: &String| Ia5String::try_from(name.as_str()).map_err(|error| encode(PAGE, &error));
        let mut params = self.params(PAGE, key, (home.domain(), &names.join(" ")), now, home.not_after())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names =
            names.iter().map(|name| text(name).map(SanType::DnsName)).collect::<Result<_, _>>()?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        self.sign_params(PAGE, key, params)
    }

    /// Signs what is no certificate.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Signature, Error> {
        self.signer.sign(message)
    }

    fn issue(
        &self,
        what: &'static str,
        key: &PublicKey,
        name: &str,
        uris: &[String],
        now: u64,
        lifetime: Duration,
    ) -> Result<Vec<u8>, Error> {
        let end = now.saturating_add(lifetime.as_secs());
        let mut params = self.params(what, key, (name, &uris.join(" ")), now, end)?;
        params.subject_alt_names = uris
            .iter()
            .map(|uri| Ia5String::try_from(uri.as_str()).map(SanType::URI))
            .collect::<Result<_, _>>()
            .map_err(|error| encode(what, &error))?;
        self.sign_params(what, key, params)
    }

    /// What all that it issues have in common.
    fn params(
        &self,
        what: &'static str,
        key: &PublicKey,
        (name, names): (&str, &str),
        now: u64,
        end: u64,
    ) -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::default();
        set_validity(what, &mut params, now, end.min(self.certificate.not_after()))?;
        params.distinguished_name = named(name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial(key, names, now));
        Ok(params)
    }

    fn sign_params(&self, what: &'static str, key: &PublicKey, params: CertificateParams) -> Result<Vec<u8>, Error> {
        let issuer_params = authority_params();
        let issuer = Issuer::from_params(&issuer_params, X509Signer(&*self.signer));
        let certificate = params.signed_by(&X509Subject(key), &issuer).map_err(|error| encode(what, &error))?;
        Ok(certificate.der().to_vec())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// All that an authority's certificate and what it issues have to say alike.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn node_name(node_id: &NodeId) -> String {
    format!("Meshtone node {}", node_id.short())
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn set_validity(what: &'static str, params: &mut CertificateParams, now: u64, end: u64) -> Result<(), Error> {
    let time = |seconds: u64| {
        i64::try_from(seconds)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .ok_or(Error::Encode { what, why: "its time is out of range".to_owned() })
    };
    params.not_before = time(now.saturating_sub(BACKDATE))?;
    params.not_after = time(end)?;
    Ok(())
}

/// A serial number that no other certificate of this authority has (RFC 5280 §4.1.2.2), without asking for randomness.
fn serial(key: &PublicKey, what: &str, now: u64) -> SerialNumber {
    let digest = sha256(&[key.as_bytes(), what.as_bytes(), &now.to_be_bytes()].concat());
    let mut number = digest.get(..16).unwrap_or_default().to_vec();
    if let Some(first) = number.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    SerialNumber::from(number)
}

pub(crate) fn encode(what: &'static str, error: &rcgen::Error) -> Error {
    Error::Encode { what, why: error.to_string() }
}
