//! What a relay shows over TLS, and how that is judged: the certificate that the overlay's authority gave its node, and the authority's
//! own, known by its fingerprint. So nothing has to be issued for relays, and a machine that holds a ticket alone can tell as well.
//!
//! TLS 1.3 only (RFC 8446): there the key that signs records signs what nobody else chooses and what no record looks like.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use meshtone_identity::{AuthorityCertificate, LinkKey, NodeCertificate, OverlayId, Signer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureAlgorithm, SignatureScheme};

use super::{name, provider};
use crate::record::{Renewed, Revoked};

/// What relays have to prove to be used.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    pub(crate) overlay: OverlayId,
    pub(crate) revoked: Revoked,
}

impl Trust {
    /// Returns the judge of relays' certificates.
    pub(crate) fn verifier(self, provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
        Arc::new(Verifier { trust: self, provider })
    }
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn judge(&self, shown: &[u8], issuer: &[u8], name: Option<LinkKey>, now: Duration) -> Result<(), CertificateError> {
        let now = now.as_secs();
        let authority = AuthorityCertificate::verify(issuer, &self.trust.overlay, now);
        let authority = authority.map_err(|_| CertificateError::UnknownIssuer)?;
        let node = NodeCertificate::verify(shown, &authority, now).map_err(|_| CertificateError::UnknownIssuer)?;
        if self.trust.revoked.contains(&node.node_id()) {
            return Err(CertificateError::Revoked);
        }
        if name != Some(node.link_key()) {
            return Err(CertificateError::NotValidForName);
        }
        if !node.rights().may_serve() {
            return Err(CertificateError::InvalidPurpose);
        }
        Ok(())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = if let ServerName::DnsName(host) = server_name { name::key_of(host.as_ref()) } else { None };
        let [issuer] = intermediates else { return Err(CertificateError::UnknownIssuer.into()) };
        self.judge(end_entity, issuer, name, Duration::from_secs(now.as_secs()))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("relays speak TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// What this node shows as a relay: its certificate as it is now.
pub(crate) struct Shown {
    pub(crate) authority: Vec<u8>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) renewed: Renewed,
    pub(crate) signer: Arc<dyn Signer>,
}

impl Shown {
    /// Returns how TLS is spoken here.
    ///
    /// # Errors
    /// When the crypto provider cannot do TLS 1.3.
    pub(crate) fn config(self) -> Result<rustls::ServerConfig, Error> {
        let builder = rustls::ServerConfig::builder_with_provider(provider());
        let mut config = builder
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self));
        // Nobody stays away for so long that it would pay, and tickets would outlive a revocation.
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let renewed = self.renewed.get().map(|(certificate, _)| certificate.der().to_vec());
        let leaf = renewed.unwrap_or_else(|| self.certificate.clone());
        let chain = vec![leaf.into(), self.authority.clone().into()];
        Some(Arc::new(CertifiedKey::new(chain, Arc::new(NodeKey(Arc::clone(&self.signer))))))
    }
}

/// The node's signing key, wherever it is kept.
struct NodeKey(Arc<dyn Signer>);

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey")
    }
}

impl rustls::sign::SigningKey for NodeKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let offered = offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        offered.then(|| Box::new(NodeKey(Arc::clone(&self.0))) as Box<dyn rustls::sign::Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl rustls::sign::Signer for NodeKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.0.sign(message).map_err(|error| Error::General(error.to_string()))?;
        Ok(signature.to_der())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use meshtone_identity::{Authority, Revocation, SigningKey};

    use super::*;

    const NOW: u64 = 1_900_000_000;
    const LIFETIME: Duration = Duration::from_secs(3600);

    #[test]
    fn a_relay_has_to_be_the_node_that_it_is_called_after_in_this_overlay() {
        let [authority, other] = [(); 2].map(|()| Authority::create(NOW).unwrap().0);
        let key = SigningKey::generate().unwrap();
        let link_key = LinkKey::from_bytes([7; 32]);
        let node = authority.certify_node(key.public_key(), link_key, [1; 16], NOW, LIFETIME).unwrap();
        let revoked = Revoked::default();
        let trust = Trust { overlay: authority.certificate().overlay(), revoked: revoked.clone() };
        let verifier = Verifier { trust, provider: provider() };
        let judge = |shown: &[u8], issuer: &Authority, name, now| {
            verifier.judge(shown, issuer.certificate().der(), name, Duration::from_secs(now))
        };
        assert_eq!(judge(node.der(), &authority, Some(link_key), NOW), Ok(()));
        let another = Some(LinkKey::from_bytes([8; 32]));
        assert_eq!(judge(node.der(), &authority, another, NOW), Err(CertificateError::NotValidForName));
        assert_eq!(judge(node.der(), &authority, None, NOW), Err(CertificateError::NotValidForName));
        assert_eq!(judge(node.der(), &other, Some(link_key), NOW), Err(CertificateError::UnknownIssuer));
        assert_eq!(judge(&[], &authority, Some(link_key), NOW), Err(CertificateError::UnknownIssuer));
        let late = NOW + LIFETIME.as_secs() + 1;
        assert_eq!(judge(node.der(), &authority, Some(link_key), late), Err(CertificateError::UnknownIssuer));
        let strange = other.certify_node(key.public_key(), link_key, [1; 16], NOW, LIFETIME).unwrap();
        assert_eq!(judge(strange.der(), &authority, Some(link_key), NOW), Err(CertificateError::UnknownIssuer));
        revoked.insert(Revocation::sign(&authority, node.node_id(), NOW, late).unwrap());
        assert_eq!(judge(node.der(), &authority, Some(link_key), NOW), Err(CertificateError::Revoked));
    }
}
