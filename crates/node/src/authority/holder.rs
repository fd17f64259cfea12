//! Whoever holds a certificate of another authority: reads it and its key as they stand in PEM files, and signs with the key.

use meshtone_identity::foreign::{MAX_CHAIN, MAX_CHAIN_LEN};
use meshtone_identity::{Error as IdentityError, ForeignAuthority, ForeignProof, OverlayId};
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;

use super::error::AskError;

/// Largest PEM file that is read: a chain in base64, with what people put between.
pub const MAX_PEM: usize = 24 << 10;

/// How proofs are signed, by kind of key.
const SCHEMES: [SignatureScheme; 3] =
    [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ECDSA_NISTP384_SHA384, SignatureScheme::RSA_PKCS1_SHA256];

/// Lists the authorities in a PEM file for these domains.
///
/// # Errors
/// What is wrong with the file or the domains.
pub fn listed(pem: &[u8], domains: &[String]) -> Result<ForeignAuthority, IdentityError> {
    let malformed = |why| IdentityError::Malformed { what: "list of authorities", why };
    let ders: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).map(|der| der.map(|der| der.to_vec())).collect();
    ForeignAuthority::new(ders.map_err(|_| malformed("not in PEM"))?, domains)
}

/// A certificate with its chain, and its key.
pub struct Holder {
    chain: Vec<Vec<u8>>,
    key: std::sync::Arc<dyn SigningKey>,
}

impl Holder {
    /// Reads the certificate, followed by those between it and its root, and its key (PKCS #8, PKCS #1 or SEC 1).
    ///
    /// # Errors
    /// [`AskError::Foreign`].
    pub fn read(certificates: &str, key: &str) -> Result<Holder, AskError> {
        if certificates.len() > MAX_PEM || key.len() > MAX_PEM {
            return Err(AskError::Foreign("the certificate or its key is larger than such things are"));
        }
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates.as_bytes()).collect();
        let chain = chain.map_err(|_| AskError::Foreign("the certificate is not in PEM"))?;
        let chain: Vec<Vec<u8>> = chain.into_iter().map(|der| der.to_vec()).collect();
        if chain.is_empty() {
            return Err(AskError::Foreign("there is no certificate in that file"));
        }
        if chain.len() > MAX_CHAIN || chain.iter().map(Vec::len).sum::<usize>() > MAX_CHAIN_LEN {
            return Err(AskError::Foreign("there are more certificates in that file than one needs"));
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| AskError::Foreign("there is no private key in that file, or it is encrypted"))?;
        let key = any_supported_type(&key).map_err(|_| AskError::Foreign("that kind of key is not supported"))?;
        Ok(Holder { chain, key })
    }

    /// Signs that this certification request, for this overlay, is the holder's.
    pub(super) fn prove(&self, overlay: &OverlayId, certification: &[u8], now: u64) -> Result<ForeignProof, AskError> {
        let signer = self.key.choose_scheme(&SCHEMES).ok_or(AskError::Foreign("that kind of key is not supported"))?;
        let signature = signer.sign(&ForeignProof::input(overlay, certification, now));
        let signature = signature.map_err(|_| AskError::Foreign("that key cannot sign"))?;
        Ok(ForeignProof { chain: self.chain.clone(), made: now, signature })
    }
}
