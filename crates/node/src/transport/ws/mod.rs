//! SIP over WebSocket (RFC 7118), plain and over TLS: for browsers, which always are the ones to connect. Whoever asks for another path
//! gets the node's pages.

mod handshake;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use meshtone_sip::message::{MAX_MESSAGE_LEN, Message};
use meshtone_sip::transport::Flow;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_websockets::{CloseCode, Config, Error, Limits, Message as Frame, ServerBuilder, WebSocketStream};

pub(super) use handshake::Origins;

use super::Transports;
use super::dispatch::Outgoing;
use super::stream::{FIRST_MESSAGE_WITHIN, IDLE, WRITE_WITHIN};
use crate::web::{Arrival, Pages};

/// The largest upgrade request: browsers send about 1 KiB, cookies included.
const MAX_REQUEST: usize = 8 * 1024;
/// How long the upgrade request may take.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Control frames that may come between two messages. Keep-alives come every ten seconds at most, so a phone that has
/// nothing to say for an hour stays below; each registration makes room again.
const MAX_CONTROL_FRAMES: u32 = 512;
/// How long a closing handshake may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// What the first request of a connection makes of it.
enum Opened {
    /// It carries SIP from now on.
    Upgraded,
    /// It asks for a page; what was read so far.
    Page(Vec<u8>),
    /// It was refused, or has gone.
    Ended,
}

/// Serves a connection that is entered in the table: upgrades it, then carries messages until either side ends it.
///
/// One that asks for pages stays among those that have not said anything yet: where there are too many, it makes room for phones.
pub(super) async fn serve<S>(
    transports: Arc<Transports>,
    pages: Pages,
    flow: Flow,
    connection: u64,
    closed: Arc<Notify>,
    mut stream: S,
    mut outgoing: mpsc::Receiver<Outgoing>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opened = tokio::select! {
        opened = timeout(REQUEST_WITHIN, open(&mut stream, &transports.origins)) => opened.unwrap_or(Opened::Ended),
        () = closed.notified() => Opened::Ended,
    };
    match opened {
        Opened::Upgraded => {
            // In one frame or in fragments: what a message may have on any transport.
            let limits = Limits::default().max_payload_len(Some(MAX_MESSAGE_LEN));
            let config = Config::default().frame_size(usize::MAX);
            let mut socket = ServerBuilder::new().config(config).limits(limits).serve(stream);
            let code = carry(&transports, &flow, connection, &closed, &mut socket, &mut outgoing).await;
            transports.remove_connection(connection);
            let _ = timeout(CLOSE_WITHIN, close(&mut socket, code)).await;
        }
        Opened::Page(head) => tokio::select! {
            () = pages.serve(stream, head, Arrival::of(&flow)) => {}
            () = closed.notified() => {}
        },
        Opened::Ended => {}
    }
    transports.remove_connection(connection);
    transports.fail_all(&mut outgoing);
}

/// Reads the first request, and answers it where it is for SIP.
async fn open<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, origins: &Origins) -> Opened {
    let mut head = Vec::new();
    let judged = loop {
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => head.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Ok(_) | Err(_) => return Opened::Ended,
        }
        // Only the new bytes and the three before them can complete the empty line.
        let from = head.len().saturating_sub(buffer.len() + 3);
        if head.get(from..).is_some_and(|tail| tail.windows(4).any(|end| end == b"\r\n\r\n")) {
            if handshake::is_for_page(&head) {
                return Opened::Page(head);
            }
            break handshake::judge(&head, origins);
        }
        if head.len() >= MAX_REQUEST {
            break Err(handshake::TOO_LARGE);
        }
    };
    let (accepted, response) = match judged {
        Ok(response) => (true, response),
        Err(refusal) => {
            tracing::debug!(status = refusal.status, "WebSocket refused");
            (false, refusal.to_response())
        }
    };
    let written = stream.write_all(response.as_bytes()).await.is_ok() && stream.flush().await.is_ok();
    if !accepted {
        let _ = stream.shutdown().await;
    }
    if accepted && written { Opened::Upgraded } else { Opened::Ended }
}

/// Carries messages both ways; returns the code to close with, `None` when the library has answered already.
async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    transports: &Arc<Transports>,
    flow: &Flow,
    connection: u64,
    closed: &Notify,
    socket: &mut WebSocketStream<S>,
    outgoing: &mut mpsc::Receiver<Outgoing>,
) -> Option<CloseCode> {
    let mut deadline = Instant::now() + FIRST_MESSAGE_WITHIN;
    let mut control_frames = 0;
    loop {
        tokio::select! {
            () = closed.notified() => return Some(CloseCode::GOING_AWAY),
            next = outgoing.recv() => {
                let next = next?;
                if !matches!(timeout(WRITE_WITHIN, socket.send(to_frame(&next.bytes))).await, Ok(Ok(()))) {
                    transports.remove_connection(connection);
                    transports.dispatch.failed(next.report);
                    return Some(CloseCode::GOING_AWAY);
                }
            }
            arrived = timeout_at(deadline, socket.next()) => match arrived {
                Err(_) => return Some(CloseCode::POLICY_VIOLATION),
                Ok(None) => return None,
                Ok(Some(Err(error))) => return on_error(&error),
                Ok(Some(Ok(frame))) if frame.is_text() || frame.is_binary() => {
                    let payload = Bytes::from(frame.into_payload());
                    // RFC 5626 §4.4.1 in a frame of its own, as some clients send it.
                    if payload.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
                        control_frames += 1;
                        if payload.len() == 4 {
                            transports.pong(connection);
                        }
                    } else if on_message(transports, flow, payload) {
                        transports.prove_connection(connection);
                        control_frames = 0;
                        deadline = Instant::now() + IDLE;
                    }
                }
                Ok(Some(Ok(frame))) if frame.is_close() => return None,
                // The library answers pings; a flood of them would have it answer for ever.
                Ok(Some(Ok(_))) => control_frames += 1,
            },
        }
        if control_frames > MAX_CONTROL_FRAMES {
            return Some(CloseCode::POLICY_VIOLATION);
        }
    }
}

/// Hands on one message; a frame holds exactly one (RFC 7118 §5). True if it was one.
fn on_message(transports: &Arc<Transports>, flow: &Flow, payload: Bytes) -> bool {
    match Message::parse(payload.clone()) {
        Ok(message) => {
            transports.on_message(flow.clone(), message);
            true
        }
        Err(error) => {
            tracing::debug!(%error, "bad message over WebSocket");
            transports.on_bad(flow.clone(), &error, Message::parse_lenient(payload));
            false
        }
    }
}

/// Text where it is text: browsers hand binary frames to the page in another form.
fn to_frame(bytes: &Bytes) -> Frame {
    if std::str::from_utf8(bytes).is_ok() { Frame::text(bytes.clone()) } else { Frame::binary(bytes.clone()) }
}

fn on_error(error: &Error) -> Option<CloseCode> {
    tracing::debug!(%error, "WebSocket");
    // Of one frame the library has told the other side; of fragments that add up it has not.
    matches!(error, Error::PayloadTooLong { .. }).then_some(CloseCode::MESSAGE_TOO_BIG)
}

/// Says why, where nothing was said yet, and waits for the other side to agree.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, code: Option<CloseCode>) {
    if let Some(code) = code {
        let _ = socket.send(Frame::close(Some(code), "")).await;
    }
    // Whatever waits to be written is written, and what still comes is thrown away.
    let _ = socket.flush().await;
    while let Some(Ok(_)) = socket.next().await {}
    let _ = socket.get_mut().shutdown().await;
}
