//! The certificate that this node shows: the one configured, or one that it made and signed itself.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::showing::Origin;
use crate::store::{KeyFile, Store, StoreError};

/// How long a certificate of our own making is good for. Nobody but its owner vouches for it, so only a phone that was
/// told to trust it looks at the date; ten years spare him doing that again.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks of phones may be a day behind.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// A certificate chain and its key.
pub(crate) struct Certificate {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) origin: Origin,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file.
    #[error("{path} cannot be read as PEM: {error:?}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: rustls::pki_types::pem::Error,
    },
    /// A file without any certificate.
    #[error("there is no certificate in {path}")]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("a TLS certificate and its key must be given together")]
    Half,
    /// Certificate and key do not fit each other, or TLS.
    #[error("the TLS certificate cannot be used: {0}")]
    Unusable(rustls::Error),
    /// Making one.
    #[error("a TLS certificate could not be made: {0}")]
    Making(#[from] rcgen::Error),
    /// Keeping it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Certificate {
    /// The certificate itself, without those of who issued it.
    pub(crate) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// Reads a chain, leaf first, and its key from PEM files.
    pub(crate) fn read(chain: &Path, key: &Path) -> Result<Certificate, CertificateError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |error| CertificateError::Unreadable { path, error }
        };
        let certificates = CertificateDer::pem_file_iter(chain).map_err(unreadable(chain))?;
        let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(unreadable(chain))?;
        if certificates.is_empty() {
            return Err(CertificateError::Empty { path: chain.to_owned() });
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
        Ok(Certificate { chain: certificates, key, origin: Origin::File })
    }

    /// The node's own: kept from an earlier start if it fits the domain and addresses, otherwise made now.
    pub(crate) fn own(
        store: &Store,
        domain: &str,
        addresses: &[SocketAddr],
        now_ms: u64,
    ) -> Result<Certificate, CertificateError> {
        if let Some(kept) = store.read_key(KeyFile::Tls)?.and_then(|pem| from_pem(&pem, Origin::Own))
            && kept.chain.first().is_some_and(|leaf| fits(leaf, domain, addresses, now_ms))
        {
            return Ok(kept);
        }
        let pem = make(domain, addresses, now_ms)?;
        store.write_key(KeyFile::Tls, pem.as_bytes())?;
        from_pem(pem.as_bytes(), Origin::Own).ok_or(CertificateError::Making(rcgen::Error::CouldNotParseCertificate))
    }
}

/// Reads a chain and its key, as they stand in one file.
pub(crate) fn from_pem(pem: &[u8], origin: Origin) -> Option<Certificate> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()?;
    Some(Certificate { chain, key: PrivateKeyDer::from_pem_slice(pem).ok()?, origin })
}

/// Makes a certificate and its key, as PEM: the domain as DNS name and as SIP domain (RFC 5922 §4), and the addresses.
/// Both in one file, so that there is never one without the other.
fn make(domain: &str, addresses: &[SocketAddr], now_ms: u64) -> Result<Zeroizing<String>, CertificateError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![domain.to_owned()])?;
    params.subject_alt_names.push(SanType::URI(format!("sip:{domain}").try_into()?));
    params.subject_alt_names.extend(own_addresses(addresses).map(SanType::IpAddress));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, domain);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = epoch + Duration::from_millis(now_ms);
    params.not_before = now - BACKDATED;
    params.not_after = now + LIFETIME;
    let certificate = params.self_signed(&key)?;
    Ok(Zeroizing::new(certificate.pem() + &key.serialize_pem()))
}

/// The addresses that a certificate can name: real ones, since nobody connects to "all of them".
fn own_addresses(addresses: &[SocketAddr]) -> impl Iterator<Item = IpAddr> {
    let mut named: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect();
    named.sort();
    named.dedup();
    named.into_iter()
}

/// Whether a kept certificate still says what a new one would, and for some time to come.
fn fits(der: &[u8], domain: &str, addresses: &[SocketAddr], now_ms: u64) -> bool {
    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::FromDer;
    let Ok((_, certificate)) = x509_parser::certificate::X509Certificate::from_der(der) else { return false };
    let Ok(Some(alternative)) = certificate.subject_alternative_name() else { return false };
    let names = &alternative.value.general_names;
    let has_address = |ip: IpAddr| {
        names.iter().any(|name| match (name, ip) {
            (GeneralName::IPAddress(octets), IpAddr::V4(ip)) => *octets == ip.octets(),
            (GeneralName::IPAddress(octets), IpAddr::V6(ip)) => *octets == ip.octets(),
            _ => false,
        })
    };
    let end = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    names.iter().any(|name| matches!(name, GeneralName::DNSName(name) if name.eq_ignore_ascii_case(domain)))
        && own_addresses(addresses).all(has_address)
        && end > now_ms / 1000
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    #[test]
    fn an_own_certificate_is_kept_until_it_no_longer_fits() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let here = ["127.0.0.1:5061".parse().unwrap(), "[::1]:5061".parse().unwrap(), "0.0.0.0:5061".parse().unwrap()];
        let own = |domain, addresses: &[SocketAddr], now_ms| {
            Certificate::own(&store, domain, addresses, now_ms).unwrap().chain.remove(0).to_vec()
        };
        let first = own("home.example", &here, NOW_MS);
        assert_eq!(own("home.example", &here, NOW_MS + 1), first);
        assert_eq!(own("HOME.example", &here[..1], NOW_MS + 1), first, "one address less is no reason");
        let moved = own("home.example", &["192.0.2.1:5061".parse().unwrap()], NOW_MS);
        assert_ne!(moved, first);
        let later = NOW_MS + 11 * 365 * 24 * 3600 * 1000;
        assert_ne!(own("home.example", &["192.0.2.1:5061".parse().unwrap()], later), moved, "it has expired");
    }

    #[test]
    fn a_chain_and_a_key_are_read_from_pem() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let pair = KeyPair::generate().unwrap();
        let made = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&pair).unwrap();
        std::fs::write(&chain, made.pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        assert_eq!(Certificate::read(&chain, &key).unwrap().chain.len(), 1);
        assert!(matches!(Certificate::read(&key, &key), Err(CertificateError::Empty { .. })));
        assert!(matches!(Certificate::read(&chain, &chain), Err(CertificateError::Unreadable { .. })));
        assert!(matches!(
            Certificate::read(&folder.path().join("none"), &key),
            Err(CertificateError::Unreadable { .. })
        ));
    }
}
