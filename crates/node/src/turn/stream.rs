//! Clients over TCP and TLS: connections accepted, bounded, and cut into messages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use meshtone_media::turn::{Client, Frame, MAX_FRAME_LEN, next_frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::streams;
use super::worker::{Command, QUEUE, ToConnection, Way};
use crate::crowd::Crowd;
use crate::exchange::guard::Source;
use crate::transport::tls::Tls;

/// Connections at once, and those of one source: a household.
const MAX_CONNECTIONS: usize = 1024;
const MAX_OF_SOURCE: usize = 64;
/// How long a TLS handshake, and then the first message, may take.
const BEGIN_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may be silent: an allocation of ten minutes is refreshed before.
const SILENT_FOR: Duration = Duration::from_secs(660);
/// How long a client may take for what is written to it.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// What is read at once.
pub(super) const READ: usize = 16 << 10;

/// The connections that there are. Clones are the same.
#[derive(Clone)]
pub(super) struct Connections {
    last: Arc<AtomicU64>,
    crowd: Crowd<Source>,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections { last: Arc::default(), crowd: Crowd::new(MAX_CONNECTIONS, MAX_OF_SOURCE) }
    }
}

/// Accepts until the task is dropped.
pub(super) async fn accept(listener: TcpListener, tls: Option<Arc<Tls>>, connections: Connections, way: Way) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let Some(place) = connections.crowd.enter(Source::of(remote.ip())) else {
                    tracing::debug!(%remote, "too many TURN connections: closed");
                    continue;
                };
                let number = connections.last.fetch_add(1, Ordering::Relaxed);
                let (tls, way) = (tls.clone(), way.clone());
                tokio::spawn(async move {
                    let _place = place;
                    begin(stream, remote, tls, number, way).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a TURN connection");
                // Out of descriptors, most likely: let others close theirs.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn begin(stream: TcpStream, remote: SocketAddr, tls: Option<Arc<Tls>>, number: u64, way: Way) {
    let _ = stream.set_nodelay(true);
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let client = Client::Connection { number, remote };
    match tls {
        None => serve(stream, client, number, way).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(BEGIN_WITHIN, tls.accept(stream)).await {
                serve(stream, client, number, way).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + 'static, client: Client, number: u64, way: Way) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (queue, mut outgoing) = mpsc::channel(QUEUE);
    if !way.send(Command::Opened(number, queue)).await {
        return;
    }
    let writes = async {
        loop {
            let (bytes, joined) = match outgoing.recv().await? {
                ToConnection::Message(bytes) => (bytes, None),
                ToConnection::Join(bytes, joined) => (bytes, Some(joined)),
            };
            let written = async {
                writer.write_all(&bytes).await?;
                writer.flush().await
            };
            if !matches!(timeout(WRITE_WITHIN, written).await, Ok(Ok(()))) {
                return None;
            }
            if joined.is_some() {
                return joined;
            }
        }
    };
    let mut buffer = BytesMut::with_capacity(READ);
    let joined = tokio::select! {
        () = read(&mut reader, &mut buffer, client, &way) => None,
        joined = writes => joined,
    };
    if let Some(joined) = joined {
        streams::pass(reader, writer, buffer, joined, &way).await;
    }
    way.send(Command::Closed(client)).await;
}

/// Reads messages until the stream ends, is silent for too long, or makes no sense.
async fn read(reader: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut, client: Client, way: &Way) {
    let mut patience = BEGIN_WITHIN;
    loop {
        loop {
            match next_frame(buffer) {
                Frame::Whole { len, next } => {
                    // It is taken out before anything is waited for: what is left may be somebody else's to read.
                    let message = buffer.split_to(next).get(..len).unwrap_or_default().to_vec();
                    patience = SILENT_FOR;
                    if !way.send(Command::Message(client, message)).await {
                        return;
                    }
                }
                Frame::Partial if buffer.len() < MAX_FRAME_LEN => break,
                Frame::Partial | Frame::Malformed => return,
            }
        }
        buffer.reserve(READ);
        match timeout(patience, reader.read_buf(buffer)).await {
            Ok(Ok(count)) if count > 0 => {}
            Ok(Ok(_) | Err(_)) | Err(_) => return,
        }
    }
}
