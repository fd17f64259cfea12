//! Clients over TCP and TLS: connections accepted, bounded, and cut into messages.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meshtone_media::turn::{Client, Frame, MAX_FRAME_LEN, next_frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::worker::{Command, QUEUE, Way};
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
const READ: usize = 16 << 10;

/// The connections that there are. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Connections {
    last: Arc<AtomicU64>,
    of_source: Arc<Mutex<HashMap<Source, usize>>>,
}

/// A connection that counts, until this is dropped.
struct Counted {
    connections: Connections,
    source: Source,
}

impl Connections {
    fn count(&self, remote: IpAddr) -> Option<Counted> {
        let source = Source::of(remote);
        let mut all = self.of_source.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = all.get(&source).copied().unwrap_or_default();
        if of_source >= MAX_OF_SOURCE || all.values().sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        all.insert(source, of_source + 1);
        Some(Counted { connections: self.clone(), source })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut all = self.connections.of_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.source);
            }
        }
    }
}

/// Accepts until the task is dropped.
pub(super) async fn accept(listener: TcpListener, tls: Option<Arc<Tls>>, connections: Connections, way: Way) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let Some(counted) = connections.count(remote.ip()) else {
                    tracing::debug!(%remote, "too many TURN connections: closed");
                    continue;
                };
                let number = connections.last.fetch_add(1, Ordering::Relaxed);
                let (tls, way) = (tls.clone(), way.clone());
                tokio::spawn(async move {
                    let _counted = counted;
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
    let (queue, mut outgoing) = mpsc::channel::<Vec<u8>>(QUEUE);
    if !way.send(Command::Opened(number, queue)).await {
        return;
    }
    let writes = async {
        while let Some(bytes) = outgoing.recv().await {
            if !matches!(timeout(WRITE_WITHIN, writer.write_all(&bytes)).await, Ok(Ok(()))) {
                return;
            }
        }
    };
    tokio::select! {
        () = read(&mut reader, client, &way) => {}
        () = writes => {}
    }
    way.send(Command::Closed(client)).await;
}

/// Reads messages until the stream ends, is silent for too long, or makes no sense.
async fn read(reader: &mut (impl AsyncRead + Unpin), client: Client, way: &Way) {
    let mut buffer = Vec::with_capacity(READ);
    let mut patience = BEGIN_WITHIN;
    loop {
        let mut at = 0;
        loop {
            let rest = buffer.get(at..).unwrap_or_default();
            match next_frame(rest) {
                Frame::Whole { len, next } => {
                    let message = rest.get(..len).unwrap_or_default().to_vec();
                    at += next;
                    patience = SILENT_FOR;
                    if !way.send(Command::Message(client, message)).await {
                        return;
                    }
                }
                Frame::Partial if rest.len() < MAX_FRAME_LEN => break,
                Frame::Partial | Frame::Malformed => return,
            }
        }
        buffer.drain(..at);
        buffer.reserve(READ);
        match timeout(patience, reader.read_buf(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => {}
            Ok(Ok(_) | Err(_)) | Err(_) => return,
        }
    }
}
