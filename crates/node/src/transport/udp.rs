//! SIP over UDP (RFC 3261 §18): one socket a listener, one datagram a message.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use meshtone_sip::message::Message;
use meshtone_sip::transport::Flow;
use tokio::net::UdpSocket;

use super::dispatch::Dispatch;
use super::stun;
use crate::clock::unix_ms;

/// The largest datagram there is; the buffer is filled from its front and handed on without copying.
const MAX_DATAGRAM: usize = 65_535;
/// Room set aside at once for many datagrams, so that not each costs an allocation.
const BUFFER: usize = 1 << 20;

/// Binds with large kernel buffers, so that a burst of registrations is not lost while a worker is busy.
pub(super) fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Best effort: the kernel caps it at its own limit.
    let _ = socket.set_recv_buffer_size(4 << 20);
    let _ = socket.set_send_buffer_size(4 << 20);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Receives until the task is dropped.
pub(super) async fn receive(listener: u16, socket: Arc<UdpSocket>, dispatch: Dispatch) {
    let mut buffer = BytesMut::with_capacity(BUFFER);
    let mut keep_alives = stun::Budget::default();
    loop {
        buffer.reserve(MAX_DATAGRAM);
        match socket.recv_buf_from(&mut buffer).await {
            Ok((_, remote)) if stun::is_stun(&buffer) => {
                let datagram = buffer.split();
                if let Some(answer) = stun::answer(&datagram, remote)
                    && keep_alives.allows(unix_ms(), remote.ip())
                {
                    // A full queue loses it like any datagram; the phone asks again.
                    let _ = socket.try_send_to(&answer, remote);
                }
            }
            Ok((_, remote)) => on_datagram(listener, remote, buffer.split().freeze(), &dispatch),
            // A port-unreachable answer to something sent earlier: it says nothing of this socket.
            Err(error) => {
                tracing::debug!(%error, "UDP receive");
                tokio::task::yield_now().await;
            }
        }
    }
}

fn on_datagram(listener: u16, remote: SocketAddr, datagram: Bytes, dispatch: &Dispatch) {
    // RFC 5626 §4.4.1 keep-alives and bare line ends that phones send to keep a NAT binding open.
    if datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return;
    }
    let flow = Flow::Udp { listener, remote };
    match Message::parse(datagram.clone()) {
        Ok(message) => dispatch.datagram(flow, message),
        Err(error) => {
            tracing::debug!(%remote, %error, "bad datagram");
            let partial = Message::parse_lenient(datagram);
            dispatch.bad(flow, error, partial);
        }
    }
}
