//! Who a SIP domain's server is (RFC 5922 §7): the chain as everywhere in TLS, the name by the rules of SIP.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Verifies the certificates of the servers that this node connects to.
#[derive(Debug)]
pub(super) struct SipDomainVerifier {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SipDomainVerifier {
    pub(super) fn new(roots: RootCertStore, provider: &CryptoProvider) -> SipDomainVerifier {
        SipDomainVerifier { roots, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for SipDomainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all)?;
        if names(end_entity, server_name) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether a certificate names a SIP domain: by a URI `sip:domain` without a user part, or by a DNS name. Wildcards
/// match nothing (§7.2). The subject's common name is not looked at: no authority relies on it any more.
fn names(certificate: &CertificateDer<'_>, wanted: &ServerName<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(Some(alternative)) = certificate.subject_alternative_name() else { return false };
    alternative.value.general_names.iter().any(|name| match (name, wanted) {
        (GeneralName::URI(uri), ServerName::DnsName(domain)) => {
            sip_identity(uri).is_some_and(|identity| identity.eq_ignore_ascii_case(domain.as_ref()))
        }
        (GeneralName::DNSName(name), ServerName::DnsName(domain)) => name.eq_ignore_ascii_case(domain.as_ref()),
        (GeneralName::IPAddress(octets), ServerName::IpAddress(address)) => {
            let address = std::net::IpAddr::from(*address);
            match address {
                std::net::IpAddr::V4(address) => octets == &address.octets(),
                std::net::IpAddr::V6(address) => octets == &address.octets(),
            }
        }
        _ => false,
    })
}

/// The domain that a URI of the subject alternative name stands for (§7.1): scheme `sip`, no user, nothing after the
/// host.
fn sip_identity(uri: &str) -> Option<&str> {
    let (scheme, host) = uri.split_once(':')?;
    let is_bare = !host.is_empty() && !host.contains(['@', ':', ';', '?', '/']);
    (scheme.eq_ignore_ascii_case("sip") && is_bare).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sip_uri_without_a_user_names_a_domain() {
        assert_eq!(sip_identity("sip:example.org"), Some("example.org"));
        assert_eq!(sip_identity("SIP:Example.org"), Some("Example.org"));
        for wrong in
            ["sips:example.org", "sip:alice@example.org", "sip:", "example.org", "sip:example.org;x", "https://e"]
        {
            assert_eq!(sip_identity(wrong), None, "{wrong}");
        }
    }
}
