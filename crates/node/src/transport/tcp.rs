//! Connections come and go here: accepted or opened, wrapped in what their transport asks for, and then served.

use std::sync::Arc;
use std::time::Duration;

use meshtone_sip::transport::{Flow, Transport};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connections::{Handle, Target};
use super::dispatch::Outgoing;
use super::{Transports, stream, tls, ws};
use crate::web::Pages;

/// How long opening a connection may take; the transaction layer has its own, longer, limit.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long a TLS handshake may take: two round trips of a phone far away, with time to spare.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// After this long without a word the kernel asks whether the other side is still there. It keeps the binding in a NAT
/// alive as well, many of which forget one after some minutes.
const PROBE_AFTER: Duration = Duration::from_secs(60);
/// Then it asks this often, nine times; a phone whose plug was pulled is noticed after some three minutes.
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// Accepts until the task is dropped.
pub(super) async fn accept(
    transports: Arc<Transports>,
    pages: Pages,
    listener: u16,
    transport: Transport,
    socket: TcpListener,
) {
    loop {
        match socket.accept().await {
            Ok((stream, remote)) => {
                prepare(&stream);
                let (queue, outgoing) = mpsc::channel(stream::STREAM_QUEUE);
                let target = Target { transport, remote, name: None };
                match transports.connections().add(target, queue, Some(listener)) {
                    Some(handle) => {
                        let flow = Flow::Stream { transport, listener, connection: handle.id, remote };
                        let (transports, pages) = (transports.clone(), pages.clone());
                        tokio::spawn(serve_accepted(transports, pages, flow, handle, stream, outgoing));
                    }
                    None => tracing::debug!(%remote, "too many SIP connections: closed"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "TCP accept");
                // Out of descriptors, most likely: let others close theirs.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_accepted(
    transports: Arc<Transports>,
    pages: Pages,
    flow: Flow,
    Handle { id, closed }: Handle,
    stream: TcpStream,
    outgoing: mpsc::Receiver<Outgoing>,
) {
    let transport = flow.transport();
    if let (Transport::Wss, Some(relay), Flow::Stream { remote, .. }) = (transport, transports.relay(), &flow) {
        let named = timeout(HANDSHAKE_WITHIN, tls::named_host(&stream));
        let named = tokio::select! {
            named = named => named.ok().flatten(),
            () = closed.notified() => return,
        };
        if named.is_some_and(|host| meshtone_overlay::is_relay(&host)) {
            // It has bounds of its own.
            transports.remove_connection(id);
            return relay.serve(stream, remote.ip()).await;
        }
    }
    let tls = if transport == Transport::Wss { &transports.page_tls } else { &transports.tls };
    let protected = match transport {
        Transport::Tls | Transport::Wss => match tls.as_ref() {
            Some(tls) => {
                let handshake = timeout(HANDSHAKE_WITHIN, tls.accept(stream));
                tokio::select! {
                    shaken = handshake => match shaken {
                        Ok(Ok(stream)) => Ok(stream),
                        Ok(Err(_)) | Err(_) => return transports.remove_connection(id),
                    },
                    // It had to make room; its descriptor must go at once.
                    () = closed.notified() => return,
                }
            }
            None => return transports.remove_connection(id),
        },
        Transport::Udp | Transport::Tcp | Transport::Ws | Transport::Peer => Err(stream),
    };
    let is_web_socket = matches!(transport, Transport::Ws | Transport::Wss);
    match (protected, is_web_socket) {
        (Err(plain), false) => stream::serve(transports, flow, id, closed, plain, outgoing).await,
        (Ok(tls), false) => stream::serve(transports, flow, id, closed, tls, outgoing).await,
        (Err(plain), true) => ws::serve(transports, pages, flow, id, closed, plain, outgoing).await,
        (Ok(tls), true) => ws::serve(transports, pages, flow, id, closed, tls, outgoing).await,
    }
}

/// Opens a connection whose entry and queue exist already, then serves it.
pub(super) async fn connect(
    transports: Arc<Transports>,
    listener: u16,
    target: Target,
    Handle { id, closed }: Handle,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    let Target { transport, remote, name } = target;
    let flow = Flow::Stream { transport, listener, connection: id, remote };
    let Ok(Ok(stream)) = timeout(CONNECT_WITHIN, TcpStream::connect(remote)).await else {
        tracing::debug!(%remote, "TCP connection failed");
        return give_up(&transports, id, &mut outgoing);
    };
    prepare(&stream);
    match (transport, name) {
        (Transport::Tcp, _) => stream::serve(transports, flow, id, closed, stream, outgoing).await,
        (Transport::Tls, Some(name)) => {
            match timeout(HANDSHAKE_WITHIN, transports.connector.connect(&name, stream)).await {
                Ok(Ok(stream)) => stream::serve(transports, flow, id, closed, stream, outgoing).await,
                Ok(Err(error)) => {
                    tracing::info!(%remote, %name, %error, "TLS: the other side could not prove who it is");
                    give_up(&transports, id, &mut outgoing);
                }
                Err(_) => {
                    tracing::debug!(%remote, "TLS handshake timed out");
                    give_up(&transports, id, &mut outgoing);
                }
            }
        }
        // Browsers connect to us; nobody can connect to a browser (RFC 7118 §5).
        (Transport::Tls | Transport::Udp | Transport::Ws | Transport::Wss | Transport::Peer, _) => {
            give_up(&transports, id, &mut outgoing);
        }
    }
}

fn give_up(transports: &Arc<Transports>, connection: u64, outgoing: &mut mpsc::Receiver<Outgoing>) {
    transports.remove_connection(connection);
    transports.fail_all(outgoing);
}

/// Best effort: a connection without these works, but its end may go unnoticed.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let probes = socket2::TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&probes);
}
