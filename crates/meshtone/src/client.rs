//! Speaks to the running node over its administration socket.

use std::io::{ErrorKind, Write};
use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use meshtone_node::control::{self, SOCKET};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::failure::Failure;

/// A connection to the node; `None` when no node runs on the data folder.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    stream: UnixStream,
}

impl Client {
    pub(crate) fn connect(data: &Path) -> Result<Option<Client>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("the runtime cannot be started: {error}"), ""))?;
        let path = data.join(SOCKET);
        match runtime.block_on(UnixStream::connect(&path)) {
            Ok(stream) => Ok(Some(Client { runtime, stream })),
            // No socket, or one whose process has died.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) => Err(Failure::new(
                format!("the node at {} cannot be spoken to: {error}", path.display()),
                "run this as the user who runs the node",
            )),
        }
    }

    /// One request; the answer is parsed as what the caller expects (`()` for an empty one).
    pub(crate) fn ask<T: DeserializeOwned>(
        self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let request = request(method, path, body)?;
        let Client { runtime, stream } = self;
        let exchanged = async {
            let answer = exchange(stream, request).await?;
            let status = answer.status();
            Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
        };
        let (status, answer) = runtime.block_on(exchanged).map_err(|error| broken(&error))?;
        if status.is_success() {
            let answer = if answer.is_empty() { "null".as_bytes() } else { &answer };
            return serde_json::from_slice(answer).map_err(|error| broken(&error));
        }
        Err(refused(&answer))
    }

    /// One request whose answer is written as it comes.
    pub(crate) fn download(self, path: &str, body: &impl Serialize, out: &mut impl Write) -> Result<(), Failure> {
        let request = request(Method::POST, path, Some(body))?;
        let Client { runtime, stream } = self;
        runtime.block_on(async {
            let answer = exchange(stream, request).await.map_err(|error| broken(&error))?;
            let is_success = answer.status().is_success();
            let mut answer = answer.into_body();
            if !is_success {
                let failure = answer.collect().await.map_err(|error| broken(&error))?;
                return Err(refused(&failure.to_bytes()));
            }
            while let Some(frame) = answer.frame().await {
                let ended = |error| Failure::new(format!("the node broke off: {error}"), "look at the node's log");
                let Ok(bytes) = frame.map_err(ended)?.into_data() else { continue };
                out.write_all(&bytes).map_err(|error| {
                    Failure::new(format!("it cannot be written: {error}"), "is there room on the disk?")
                })?;
            }
            Ok(())
        })
    }
}

fn request(method: Method, path: &str, body: Option<&impl Serialize>) -> Result<Request<Full<Bytes>>, Failure> {
    let body = body.map(serde_json::to_vec).transpose().map_err(|error| broken(&error))?;
    Request::builder()
        .method(method)
        .uri(path)
        .header("Host", "node")
        .header("Content-Type", "application/json")
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| broken(&error))
}

async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// Why the node would not.
fn refused(answer: &[u8]) -> Failure {
    match serde_json::from_slice::<control::Failure>(answer) {
        Ok(failure) => Failure::new(failure.error, failure.hint),
        Err(error) => broken(&error),
    }
}

fn broken(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("the node's answer cannot be read: {error}"), "run the same version of meshtone as the node")
}

/// A user name as a path segment (RFC 3986 §3.3); what is no letter or digit is escaped.
pub(crate) fn segment(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_reach_beyond_its_path_segment() {
        assert_eq!(segment("alice"), "alice");
        assert_eq!(segment("../a?b#c d"), "%2E%2E%2Fa%3Fb%23c%20d");
    }
}
