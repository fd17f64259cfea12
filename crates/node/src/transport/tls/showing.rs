//! The certificate that this node shows over TLS, and where it comes from. Another one takes its place while connections come in.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use data_encoding::HEXUPPER;
use meshtone_identity::id::sha256;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::certificate::{Certificate, CertificateError};

/// Names of a certificate that are told; one with more is a provider's, for all of his customers.
const MAX_NAMES: usize = 32;

/// Who vouches for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Nobody: the node made it.
    Own,
    /// The overlay's authority.
    Authority,
    /// An authority that browsers know, asked by ACME (RFC 8555).
    Acme,
    /// Whoever issued the file of the configuration.
    File,
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Described {
    /// Its subject's common name; empty where it has none.
    pub name: String,
    /// Its issuer's.
    pub issuer: String,
    /// The host names and addresses that it is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Its fingerprint: SHA-256, as browsers show it.
    pub sha256: String,
    /// The first second of its validity, in unix seconds.
    pub starts: u64,
    /// The last one.
    pub expires: u64,
}

impl Described {
    /// Reads it; `None` where that is no certificate.
    pub(crate) fn of(der: &[u8]) -> Option<Described> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let name = |name: &x509_parser::x509::X509Name<'_>| {
            let found = name.iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned);
            found.unwrap_or_default()
        };
        let seconds = |time: i64| u64::try_from(time).unwrap_or_default();
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let alternative = alternative.iter().flat_map(|names| &names.value.general_names);
        Some(Described {
            name: name(certificate.subject()),
            issuer: name(certificate.issuer()),
            names: alternative.filter_map(host).take(MAX_NAMES).collect(),
            sha256: fingerprint(der),
            starts: seconds(certificate.validity().not_before.timestamp()),
            expires: seconds(certificate.validity().not_after.timestamp()),
        })
    }
}

/// The name or address that somebody opens a page by; `None` of other kinds of names.
fn host(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::DNSName(name) = name {
        return Some((*name).to_owned());
    }
    let GeneralName::IPAddress(octets) = name else { return None };
    let four = <[u8; 4]>::try_from(*octets).map(std::net::IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(*octets).map(std::net::IpAddr::from)).ok().map(|ip| ip.to_string())
}

/// SHA-256 as people compare it: pairs of digits between colons.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    let digits = HEXUPPER.encode(&sha256(der));
    let pairs: Vec<&str> = (0..digits.len()).step_by(2).filter_map(|at| digits.get(at..at + 2)).collect();
    pairs.join(":")
}

/// What is shown at a moment.
#[derive(Clone)]
struct Current {
    key: Arc<CertifiedKey>,
    origin: Origin,
    described: Option<Described>,
}

/// The certificate that listeners show. Clones are the same.
#[derive(Clone)]
pub(crate) struct Showing {
    current: Arc<RwLock<Current>>,
    provider: Arc<CryptoProvider>,
}

impl Showing {
    /// Shows this one from now on.
    ///
    /// # Errors
    /// The key does not belong to the certificate, or is of a kind that TLS does not know.
    pub(crate) fn new(certificate: Certificate) -> Result<Showing, CertificateError> {
        let provider = super::provider();
        let current = Current::of(certificate, &provider)?;
        Ok(Showing { current: Arc::new(RwLock::new(current)), provider })
    }

    /// Shows another one to whoever connects from now on; connections that are there go on.
    ///
    /// # Errors
    /// As above; then all stays as it was.
    pub(crate) fn replace(&self, certificate: Certificate) -> Result<(), CertificateError> {
        let current = Current::of(certificate, &self.provider)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(())
    }

    /// Who vouches for what is shown.
    pub(crate) fn origin(&self) -> Origin {
        self.current.read().unwrap_or_else(PoisonError::into_inner).origin
    }

    /// What is shown says this of itself.
    pub(crate) fn described(&self) -> Option<Described> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).described.clone()
    }
}

impl Current {
    fn of(certificate: Certificate, provider: &CryptoProvider) -> Result<Current, CertificateError> {
        let Certificate { chain, key, origin } = certificate;
        let described = chain.first().and_then(|leaf| Described::of(leaf));
        let key = CertifiedKey::from_der(chain, key, provider).map_err(CertificateError::Unusable)?;
        Ok(Current { key: Arc::new(key), origin, described })
    }
}

impl ResolvesServerCert for Showing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).key.clone())
    }
}

impl fmt::Debug for Showing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Showing").field("origin", &self.origin()).finish_non_exhaustive()
    }
}
