//! The certificates by which other SIP domains sign who calls: fetched by HTTPS from where a request says (RFC 8224 §6.2 step 3).
//!
//! A stranger names the place, so that little is done for him: one GET, to a host of the domain that he says he is of, at an address
//! where this node sends at all, within seconds, for a few kilobytes; a redirection is not followed. What was fetched, or could not be,
//! is remembered for a while. Nothing of it is believed here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use meshtone_identity::foreign::{MAX_CHAIN, MAX_CHAIN_LEN};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::dns::Dns;
use crate::transport::policy::may_send;
use crate::transport::tls::certificate::CertificateError;
use crate::transport::tls::web_client;

/// For how long what was fetched is used; a place that is named by what is there, as ours are, never changes.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// For how long it is not asked again for what could not be fetched.
const MISSED: Duration = Duration::from_secs(60);
/// Places remembered, with a few kilobytes each; of more, the oldest are fetched again.
const MAX_KNOWN: usize = 256;
/// Certificates fetched at once; a caller for whom there is no room is not verified.
const MAX_AT_ONCE: usize = 16;
/// How long a caller may be kept waiting: the phone rings unverified then.
const WITHIN: Duration = Duration::from_secs(3);
/// Addresses of a host that are tried.
const MAX_TRIED: usize = 2;
/// Largest answer: a chain in base64.
const MAX_ANSWER: usize = MAX_CHAIN_LEN * 3 / 2;
/// Longest place that is looked at.
const MAX_URI: usize = 512;

/// A certificate and those between it and its root, in DER.
pub(crate) type Chain = Arc<Vec<Vec<u8>>>;

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// The caller: its place is none that is asked.
    #[error("it is not at an https address of the caller's domain")]
    Place,
    /// The policy: nothing is sent there.
    #[error("nothing is sent to where it is")]
    Forbidden,
    /// The network, or the caller's domain.
    #[error("{0}")]
    Unreachable(String),
    /// The caller's domain: it gave something else.
    #[error("what is there is no certificate")]
    NoCertificate,
    /// Ours: too much to do.
    #[error("too many are being fetched")]
    Busy,
}

/// Fetches them.
pub(crate) struct ForeignCertificates {
    dns: Arc<Dns>,
    tls: TlsConnector,
    /// Whether servers may be in private networks.
    allow_private: bool,
    at_once: Semaphore,
    known: Mutex<BTreeMap<String, Known>>,
}

struct Known {
    at: Instant,
    what: Result<Chain, FetchError>,
}

impl ForeignCertificates {
    /// Trusts web servers that browsers trust, and those of the authorities in this PEM file.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub(crate) fn new(
        dns: Arc<Dns>,
        authorities: Option<&Path>,
        allow_private: bool,
    ) -> Result<Self, CertificateError> {
        let at_once = Semaphore::new(MAX_AT_ONCE);
        Ok(Self { dns, tls: web_client(authorities)?, allow_private, at_once, known: Mutex::default() })
    }

    /// The chain at this place, which has to be of this domain.
    pub(crate) async fn of(&self, place: &str, domain: &str) -> Result<Chain, FetchError> {
        let place = Place::read(place, domain)?;
        if let Some(known) = self.known(&place.uri) {
            return known;
        }
        let _permit = self.at_once.try_acquire().map_err(|_| FetchError::Busy)?;
        let fetched = timeout(WITHIN, self.fetch(&place)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(FetchError::Unreachable("no answer in time".to_owned())));
        self.remember(place.uri, fetched.clone());
        fetched
    }

    async fn fetch(&self, place: &Place) -> Result<Chain, FetchError> {
        let unreachable = |error: &dyn std::fmt::Display| FetchError::Unreachable(error.to_string());
        let found = self.dns.hosts(&place.host).await.map_err(|error| unreachable(&error))?;
        let addresses = found.into_iter().map(|address| SocketAddr::new(address, place.port));
        let allowed: Vec<_> = addresses.filter(|address| may_send(*address, None, self.allow_private)).collect();
        let mut failed = FetchError::Forbidden;
        for address in allowed.into_iter().take(MAX_TRIED) {
            match TcpStream::connect(address).await {
                Ok(stream) => return self.ask(place, stream).await,
                Err(error) => failed = unreachable(&error),
            }
        }
        Err(failed)
    }

    async fn ask(&self, place: &Place, stream: TcpStream) -> Result<Chain, FetchError> {
        let unreachable = |error: &dyn std::fmt::Display| FetchError::Unreachable(error.to_string());
        let name = ServerName::try_from(place.host.clone()).map_err(|_| FetchError::Place)?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        let request = Request::get(&place.path)
            .header(HOST, &place.authority)
            .header(ACCEPT, "application/pem-certificate-chain, application/pkix-cert")
            .body(Empty::<Bytes>::new())
            .map_err(|_| FetchError::Place)?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
            if answer.status() != StatusCode::OK {
                return Err(FetchError::NoCertificate);
            }
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            chain_in(&body.map_err(|error| unreachable(&error))?.to_bytes())
        };
        tokio::pin!(exchange, connection);
        // The connection ends with what it was for; where the server ends it, the answer has come before or never will.
        tokio::select! {
            answer = &mut exchange => answer,
            _ = &mut connection => exchange.await,
        }
    }

    fn known(&self, uri: &str) -> Option<Result<Chain, FetchError>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { at, what } = known.get(uri)?;
        let kept = if what.is_ok() { KEPT } else { MISSED };
        (at.elapsed() < kept).then(|| what.clone())
    }

    fn remember(&self, uri: String, what: Result<Chain, FetchError>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN && !known.contains_key(&uri) {
            let oldest = known.iter().min_by_key(|(_, known)| known.at).map(|(uri, _)| uri.clone());
            oldest.map(|oldest| known.remove(&oldest));
        }
        known.insert(uri, Known { at: Instant::now(), what });
    }
}

/// Where a certificate is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    uri: String,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Place {
    /// Reads an https URI, whose host is the domain or under it: nobody makes this node ask others by signing something.
    fn read(uri: &str, domain: &str) -> Result<Place, FetchError> {
        if uri.len() > MAX_URI {
            return Err(FetchError::Place);
        }
        let parsed: Uri = uri.parse().map_err(|_| FetchError::Place)?;
        let authority = parsed.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.filter(|_| parsed.scheme_str() == Some("https")).ok_or(FetchError::Place)?;
        let host = authority.host().to_ascii_lowercase();
        let domain = domain.to_ascii_lowercase();
        let is_of_domain = host.strip_suffix(&domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let is_name = host.parse::<std::net::IpAddr>().is_err() && !host.starts_with('[');
        if domain.is_empty() || !is_of_domain || !is_name {
            return Err(FetchError::Place);
        }
        let path = parsed.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let port = authority.port_u16().unwrap_or(443);
        Ok(Place { uri: uri.to_owned(), host, port, authority: authority.as_str().to_owned(), path })
    }
}

/// The certificates of an answer: PEM, or one in DER.
fn chain_in(body: &[u8]) -> Result<Chain, FetchError> {
    let is_pem = body.windows(10).any(|window| window == b"-----BEGIN");
    let chain: Vec<Vec<u8>> = if is_pem {
        let pem: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(body).take(MAX_CHAIN + 1).collect();
        pem.map_err(|_| FetchError::NoCertificate)?.into_iter().map(|der| der.to_vec()).collect()
    } else {
        vec![body.to_vec()]
    };
    let is_chain = !chain.is_empty() && chain.len() <= MAX_CHAIN && chain.iter().all(|der| !der.is_empty());
    if is_chain { Ok(Arc::new(chain)) } else { Err(FetchError::NoCertificate) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_an_https_address_of_the_callers_domain_is_asked() {
        let place = Place::read("https://Node.Other.test:8443/certificates/a.pem?b", "other.TEST").unwrap();
        assert_eq!((place.host.as_str(), place.port), ("node.other.test", 8443));
        assert_eq!((place.authority.as_str(), place.path.as_str()), ("Node.Other.test:8443", "/certificates/a.pem?b"));
        assert_eq!(Place::read("https://other.test", "other.test").unwrap().path, "/");
        for wrong in [
            "http://other.test/a",
            "https://victim.test/a",
            "https://notother.test/a",
            "https://other.test.victim.test/a",
            "https://user@other.test/a",
            "https://192.0.2.1/a",
            "https://[2001:db8::1]/a",
            "sip:other.test",
            "/a",
            "",
            &format!("https://other.test/{}", "a".repeat(MAX_URI)),
        ] {
            assert_eq!(Place::read(wrong, "other.test"), Err(FetchError::Place), "{wrong}");
        }
        assert_eq!(Place::read("https://192.0.2.1/a", "192.0.2.1"), Err(FetchError::Place));
        assert_eq!(Place::read("https://other.test/a", ""), Err(FetchError::Place));
    }

    #[test]
    fn a_chain_is_pem_or_one_certificate_and_has_an_end() {
        let pem = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
        assert_eq!(*chain_in(pem.repeat(2).as_bytes()).unwrap(), [[1, 2, 3], [1, 2, 3]]);
        assert_eq!(*chain_in(&[0x30, 0]).unwrap(), [[0x30, 0]]);
        let key = "-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n";
        for wrong in [b"".to_vec(), pem.repeat(MAX_CHAIN + 1).into_bytes(), key.into(), b"-----BEGIN CERT".to_vec()] {
            assert_eq!(chain_in(&wrong), Err(FetchError::NoCertificate), "{wrong:?}");
        }
    }
}
