//! The way to an ACME server: HTTP/1.1 over TLS, one connection a request, bounded in time and size.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::transport::tls::certificate::CertificateError;
use crate::transport::tls::web_client;

/// How long a request and its answer may take.
const WITHIN: Duration = Duration::from_secs(30);
/// Largest answer: a chain of certificates has some 6 KiB.
const MAX_ANSWER: usize = 128 << 10;

/// Asks ACME servers.
#[derive(Clone)]
pub(super) struct WebClient(TlsConnector);

impl WebClient {
    /// Believes the authorities that browsers believe, and those of this PEM file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn new(authorities: Option<&Path>) -> Result<WebClient, CertificateError> {
        web_client(authorities).map(WebClient)
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Full<Bytes>>, String> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let uri = parts.uri.clone();
        let (host, port) = place(&uri)?;
        let text = |error: std::io::Error| format!("{host} port {port}: {error}");
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(text)?;
        let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
        let stream = self.0.connect(name, stream).await.map_err(text)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let mut asked = Request::new(Full::new(body));
        *asked.method_mut() = parts.method;
        *asked.uri_mut() = uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| path.clone().into());
        *asked.headers_mut() = parts.headers;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        asked.headers_mut().insert(HOST, HeaderValue::from_str(authority).map_err(|error| error.to_string())?);
        // RFC 8555 §6.1.
        asked
            .headers_mut()
            .insert(USER_AGENT, HeaderValue::from_static(concat!("meshtone/", env!("CARGO_PKG_VERSION"))));
        let exchange = async {
            let answer = sender.send_request(asked).await.map_err(|error| error.to_string())?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
            Ok(Response::from_parts(parts, Full::new(body.to_bytes())))
        };
        tokio::pin!(exchange, connection);
        // The connection ends with what it was for; where the server ends it, the answer has come before or never will.
        tokio::select! {
            answer = &mut exchange => answer,
            _ = &mut connection => exchange.await,
        }
    }
}

/// Where a URI leads; to https alone.
fn place(uri: &Uri) -> Result<(String, u16), String> {
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https"));
    let authority = authority.ok_or_else(|| format!("{uri} is no https address"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((host, authority.port_u16().unwrap_or(443)))
}

impl HttpClient for WebClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let answer = timeout(WITHIN, client.ask(request)).await;
            let answer = answer.unwrap_or_else(|_| Err("it does not answer in time".to_owned()));
            answer.map(BytesResponse::from).map_err(|error| Error::Other(error.into()))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_https_is_asked() {
        assert_eq!(place(&"https://acme.example/dir".parse().unwrap()).unwrap(), ("acme.example".to_owned(), 443));
        assert_eq!(place(&"https://[::1]:14000/dir".parse().unwrap()).unwrap(), ("::1".to_owned(), 14_000));
        assert!(place(&"http://acme.example/dir".parse().unwrap()).is_err());
        assert!(place(&"/dir".parse().unwrap()).is_err());
    }
}
