//! Certificates of other domains' servers, right ones and wrong ones, as PEM files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;

/// A certificate authority that nobody knows but whoever is told.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

/// A chain and its key.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The chain, PEM.
    pub chain: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one.
    pub fn new() -> Authority {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        // Two of one name would be taken for one that signs wrongly.
        params.distinguished_name.push(DnType::CommonName, format!("authority {}", crate::scripted::unique()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("authority.pem"), certificate.pem()).expect("the authority's certificate");
        Authority { issuer: Issuer::new(params, key), folder }
    }

    /// What to trust, PEM.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// A certificate for these DNS names that is good until the beginning of the year `until`.
    pub fn issue(&self, names: &[&str], until: i32) -> CertificateFiles {
        let (params, key) = leaf(names, until);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        write(self.folder.path(), &certificate.pem(), &key)
    }

    /// A certificate for this mailbox, as companies give them to their people; with a key of RSA or on a curve.
    pub fn issue_person(&self, mailbox: &str, until: i32, key: &KeyPair) -> CertificateFiles {
        let (mut params, _) = leaf(&[], until);
        params.subject_alt_names = vec![SanType::Rfc822Name(mailbox.try_into().expect("a mailbox"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        let certificate = params.signed_by(key, &self.issuer).expect("a certificate");
        write(self.folder.path(), &certificate.pem(), key)
    }

    /// One that nobody but its owner vouches for.
    pub fn self_signed(&self, names: &[&str]) -> CertificateFiles {
        let (params, key) = leaf(names, 2100);
        let certificate = params.self_signed(&key).expect("a certificate");
        write(self.folder.path(), &certificate.pem(), &key)
    }
}

/// A key of RSA, of 2048 bits.
pub fn rsa_key() -> KeyPair {
    KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key")
}

/// A key on the curve P-256.
pub fn curve_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

fn leaf(names: &[&str], until: i32) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.subject_alt_names =
        names.iter().map(|name| SanType::DnsName((*name).try_into().expect("a DNS name"))).collect();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    (params, KeyPair::generate().expect("a key"))
}

fn write(folder: &Path, chain: &str, key: &KeyPair) -> CertificateFiles {
    let name = crate::scripted::unique();
    let files = CertificateFiles { chain: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
    std::fs::write(&files.chain, chain).expect("the chain");
    std::fs::write(&files.key, key.serialize_pem()).expect("the key");
    files
}
