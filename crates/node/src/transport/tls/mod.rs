//! TLS (RFC 3261 §26.3.1, RFC 5922): 1.2 and 1.3 by rustls on aws-lc-rs, the one provider of this program.
//!
//! Phones are known by their digest, so they need no certificate. Other domains are known by theirs: a connection that
//! this node opens is used only when the certificate at its end proves the domain that it was opened for.

pub(crate) mod certificate;
pub(crate) mod showing;
mod verifier;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{Acceptor, ResolvesServerCert};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, client, server};

use certificate::CertificateError;
use showing::Showing;

use crate::acme::{ALPN, Challenges};
use verifier::SipDomainVerifier;

/// The serving side.
pub(crate) struct Tls {
    usual: Arc<ServerConfig>,
    /// For servers that look whether a name leads here.
    challenged: Option<Arc<ServerConfig>>,
}

impl Tls {
    /// Serves with the certificate that is shown at the time, and proves names that are challenged.
    ///
    /// # Errors
    /// TLS itself cannot be had.
    pub(crate) fn new(showing: Showing, challenges: Option<Challenges>) -> Result<Tls, CertificateError> {
        let config = |resolver: Arc<dyn ResolvesServerCert>| {
            let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
            let builder = builder.map_err(CertificateError::Unusable)?;
            Ok::<_, CertificateError>(builder.with_no_client_auth().with_cert_resolver(resolver))
        };
        let challenged = challenges.map(|challenges| config(Arc::new(challenges))).transpose()?;
        let challenged = challenged.map(|mut config| {
            config.alpn_protocols = vec![ALPN.to_vec()];
            Arc::new(config)
        });
        Ok(Tls { usual: Arc::new(config(Arc::new(showing))?), challenged })
    }

    /// Does the handshake. Whoever came only to see whether a name leads here has nothing more to say, so that is an error as well.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        let Some(challenged) = &self.challenged else {
            return TlsAcceptor::from(self.usual.clone()).accept(stream).await;
        };
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let is_challenge = begun.client_hello().alpn().is_some_and(|mut offered| offered.any(|one| one == ALPN));
        if !is_challenge {
            return begun.into_stream(self.usual.clone()).await;
        }
        begun.into_stream(challenged.clone()).await?.shutdown().await?;
        Err(io::Error::other("a challenge was answered"))
    }
}

/// Largest beginning of a connection that is looked at: a ClientHello with a key of a post-quantum exchange has 1.5 KiB.
const MAX_HELLO: usize = 8 * 1024;
/// How often it is looked whether more of it has come.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Returns the host that a TLS client names (RFC 6066 §3), and leaves all that it says to be read. None where it names none, or does not
/// speak TLS. It may take for ever.
pub(super) async fn named_host(stream: &TcpStream) -> Option<String> {
    let (mut buffer, mut looked_at) = (vec![0; MAX_HELLO], 0);
    loop {
        let count = stream.peek(&mut buffer).await.ok().filter(|count| *count > 0)?;
        if count == looked_at {
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        looked_at = count;
        let mut begun = buffer.get(..count)?;
        let mut acceptor = Acceptor::default();
        while !begun.is_empty() {
            acceptor.read_tls(&mut begun).ok()?;
        }
        match acceptor.accept() {
            Ok(Some(hello)) => return hello.client_hello().server_name().map(str::to_owned),
            Ok(None) if count < MAX_HELLO => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// The calling side.
pub(super) struct Connector(tokio_rustls::TlsConnector);

impl Connector {
    /// Trusts the certificate authorities that browsers trust, and those in the PEM file `authorities`.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub(super) fn new(authorities: Option<&Path>) -> Result<Connector, CertificateError> {
        Connector::trusting(roots(authorities)?)
    }

    fn trusting(roots: RootCertStore) -> Result<Connector, CertificateError> {
        let provider = provider();
        let verifier = Arc::new(SipDomainVerifier::new(roots, &provider));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Unusable)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Connector(tokio_rustls::TlsConnector::from(Arc::new(config))))
    }

    /// Does the handshake; `name` is the domain, host name or address that the other side has to prove.
    pub(super) async fn connect(&self, name: &str, stream: TcpStream) -> io::Result<client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.0.connect(name, stream).await
    }
}

/// For web servers: trusts whom [`Connector`] trusts, and names count as they do in the web (RFC 9110 §4.3.4).
///
/// # Errors
/// Those of [`Connector::new`].
pub(crate) fn web_client(authorities: Option<&Path>) -> Result<tokio_rustls::TlsConnector, CertificateError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(CertificateError::Unusable)?
        .with_root_certificates(roots(authorities)?)
        .with_no_client_auth();
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
}

/// The authorities that browsers trust, and those in this PEM file.
fn roots(authorities: Option<&Path>) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = authorities {
        let unreadable = |error| CertificateError::Unreadable { path: path.to_owned(), error };
        let before = roots.len();
        for der in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
            roots.add(der.map_err(unreadable)?).map_err(CertificateError::Unusable)?;
        }
        if roots.len() == before {
            return Err(CertificateError::Empty { path: path.to_owned() });
        }
    }
    Ok(roots)
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests;
