//! Bytes over TCP or TLS, as a stranger's program would send them.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, StreamOwned,
};

use crate::{DOMAIN, SOON};

/// A connection, protected or not.
#[derive(Debug)]
pub enum Wire {
    /// TCP.
    Tcp(TcpStream),
    /// TLS.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Connects; with `tls`, does the handshake and takes any certificate.
    ///
    /// # Errors
    /// Those of the socket or the handshake.
    pub fn open(server: SocketAddr, tls: bool) -> Result<Wire> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(SOON))?;
        stream.set_read_timeout(Some(SOON))?;
        if !tls {
            return Ok(Wire::Tcp(stream));
        }
        Wire::shake(stream, trusting(), DOMAIN)
    }

    /// Connects as a browser does that believes certificates of this authority (PEM) alone, and wants this name or address proven.
    ///
    /// # Errors
    /// Those of the socket or the handshake; it is not proven.
    pub fn open_believing(server: SocketAddr, authority: &str, name: &str) -> Result<Wire> {
        let stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(SOON))?;
        let mut roots = RootCertStore::empty();
        for der in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(der.map_err(std::io::Error::other)?).map_err(std::io::Error::other)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Wire::shake(stream, config, name)
    }

    fn shake(stream: TcpStream, config: ClientConfig, name: &str) -> Result<Wire> {
        let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Wire::Tls(Box::new(stream)))
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Wire::Tcp(stream) => stream,
            Wire::Tls(stream) => &stream.sock,
        }
    }

    /// Our own address.
    pub fn local(&self) -> SocketAddr {
        self.socket().local_addr().expect("our own address")
    }

    /// The certificate that the other side has shown.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        match self {
            Wire::Tcp(_) => None,
            Wire::Tls(stream) => Some(stream.conn.peer_certificates()?.first()?.to_vec()),
        }
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Wire::Tcp(stream) => stream.write_all(bytes),
            Wire::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Adds what comes within `patience` to `received`; false once the other side has closed.
    pub fn receive(&mut self, received: &mut Vec<u8>, patience: Duration) -> bool {
        let _ = self.socket().set_read_timeout(Some(patience));
        let mut buffer = vec![0; 128 * 1024];
        let read = match self {
            Wire::Tcp(stream) => stream.read(&mut buffer),
            Wire::Tls(stream) => stream.read(&mut buffer),
        };
        match read {
            Ok(0) => false,
            Ok(length) => {
                received.extend_from_slice(&buffer[..length]);
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted),
        }
    }
}

/// A client that takes any certificate: what a node shows is judged by the tests that are about that.
fn trusting() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth()
}

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
