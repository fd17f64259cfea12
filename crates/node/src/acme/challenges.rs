//! What is shown to prove that a name leads here: a text at a place of the pages (HTTP-01, RFC 8555 §8.3), or a certificate with a hash in it
//! (TLS-ALPN-01, RFC 8737).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::transport::tls::provider;

/// The protocol by which a server asks for the certificate (RFC 8737 §4).
pub(crate) const ALPN: &[u8] = b"acme-tls/1";

/// What is asked for at the moment. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Challenges {
    open: Arc<RwLock<BTreeMap<String, Open>>>,
}

/// One name that is to be proven.
struct Open {
    token: String,
    text: String,
    certificate: Arc<CertifiedKey>,
}

impl Challenges {
    /// Shows from now on what proves this name; `text` is the key authorization (RFC 8555 §8.1), `hash` its SHA-256.
    pub(super) fn open(&self, name: &str, token: &str, text: &str, hash: &[u8; 32]) -> Result<(), String> {
        let certificate = Arc::new(certificate(name, hash)?);
        let open = Open { token: token.to_owned(), text: text.to_owned(), certificate };
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_ascii_lowercase(), open);
        Ok(())
    }

    /// Shows nothing more.
    pub(super) fn close(&self) {
        self.open.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The text at the place of this token.
    pub(crate) fn text(&self, token: &str) -> Option<String> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.values().find(|open| open.token == token).map(|open| open.text.clone())
    }
}

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&name).map(|open| open.certificate.clone())
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Challenges").finish_non_exhaustive()
    }
}

/// RFC 8737 §3: signed by itself, for this name alone, with the hash in a critical extension.
fn certificate(name: &str, hash: &[u8; 32]) -> Result<CertifiedKey, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(|error| error.to_string())?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(hash)];
    let made = params.self_signed(&key).map_err(|error| error.to_string())?;
    let der = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = provider().key_provider.load_private_key(der.into()).map_err(|error| error.to_string())?;
    // Whether both fit is not asked: whoever reads certificates refuses this extension, since it is critical.
    Ok(CertifiedKey::new(vec![made.der().clone()], key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    #[test]
    fn a_text_is_found_by_its_token_until_it_is_over() {
        let challenges = Challenges::default();
        challenges.open("Mesh.example", "t0ken", "t0ken.print", &[7; 32]).unwrap();
        assert_eq!(challenges.text("t0ken").as_deref(), Some("t0ken.print"));
        assert_eq!(challenges.text("other"), None);
        challenges.close();
        assert_eq!(challenges.text("t0ken"), None);
    }

    #[test]
    fn the_certificate_names_one_host_and_has_the_hash_where_the_rfc_wants_it() {
        let made = certificate("mesh.example", &[7; 32]).unwrap();
        let (_, parsed) = X509Certificate::from_der(&made.cert[0]).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(format!("{:?}", names.value.general_names), "[DNSName(\"mesh.example\")]");
        let extension =
            parsed.extensions().iter().find(|extension| extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").unwrap();
        assert!(extension.critical);
        assert_eq!(extension.value, [&[4, 32][..], &[7; 32]].concat());
    }
}
