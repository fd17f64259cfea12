//! Key files: secrets and certificates, one file each, readable by their owner only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{StoreError, write_atomically};

/// The files under `keys/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFile {
    /// The 32 secret bytes of the link's Ed25519 key.
    Link,
    /// The node's P-256 key, PKCS#8.
    Node,
    /// The overlay authority's P-256 key, PKCS#8; only where this node is the authority.
    Authority,
    /// The overlay authority's certificate, DER.
    AuthorityCertificate,
    /// This node's certificate, DER.
    NodeCertificate,
    /// This node's home certificate, DER. Written last: where it is, enrolment was completed.
    HomeCertificate,
    /// The certificate and key, PEM, that phones see over TLS; only where none is configured.
    Tls,
    /// The certificate and key, PEM, that browsers see, and who trusts the overlay's authority believes.
    Page,
    /// The certificate and key, PEM, that were obtained by ACME.
    Acme,
    /// The account at the ACME server and its key, JSON.
    AcmeAccount,
}

impl KeyFile {
    /// In the order in which they are written: the last of a node's own completes it.
    pub(crate) const ALL: [KeyFile; 10] = [
        KeyFile::Link,
        KeyFile::Node,
        KeyFile::Authority,
        KeyFile::AuthorityCertificate,
        KeyFile::Tls,
        KeyFile::Page,
        KeyFile::Acme,
        KeyFile::AcmeAccount,
        KeyFile::NodeCertificate,
        KeyFile::HomeCertificate,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            KeyFile::Link => "link.key",
            KeyFile::Node => "node.key",
            KeyFile::Authority => "authority.key",
            KeyFile::AuthorityCertificate => "authority.der",
            KeyFile::NodeCertificate => "node.der",
            KeyFile::HomeCertificate => "home.der",
            KeyFile::Tls => "tls.pem",
            KeyFile::Page => "page.pem",
            KeyFile::Acme => "acme.pem",
            KeyFile::AcmeAccount => "acme-account.json",
        }
    }
}

pub(super) fn folder(data: &Path) -> PathBuf {
    data.join("keys")
}

pub(super) fn read(data: &Path, file: KeyFile) -> Result<Option<Vec<u8>>, StoreError> {
    let path = folder(data).join(file.name());
    match fs::read(&path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Io { path, source }),
    }
}

pub(super) fn write(data: &Path, file: KeyFile, contents: &[u8]) -> Result<(), StoreError> {
    write_atomically(&folder(data).join(file.name()), contents, 0o600)
}
