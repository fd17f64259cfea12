//! Where a request came from, noted in its top Via, and where its responses go (RFC 3261 §18.2, RFC 3581).

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use crate::message::{Header, Message, Via};
use crate::transport::{Destination, Flow, Transport};

/// Notes the source address in `received` and `rport` of the top Via; `None` when there is nothing to note.
///
/// What the client wrote there itself is thrown away: responses follow it. A peer link needs neither, since its
/// responses go back over the link.
pub(crate) fn stamp(request: &Message, flow: &Flow) -> Option<Message> {
    let remote = flow.remote()?;
    let via = request.top_via().ok()?;
    let asks_for_port = via.rport().is_some();
    let address = remote.ip().to_canonical();
    let says_where = host_address(via.host) == Some(address);
    if says_where && !asks_for_port && via.received().is_none() {
        return None;
    }
    let mut value = format!("SIP/2.0/{} {}", via.transport, via.host);
    if let Some(port) = via.port {
        let _ = write!(value, ":{port}");
    }
    for (name, content) in via.params.iter() {
        if name.eq_ignore_ascii_case("received") || name.eq_ignore_ascii_case("rport") {
            continue;
        }
        let _ = match content {
            Some(content) => write!(value, ";{name}={content}"),
            None => write!(value, ";{name}"),
        };
    }
    if asks_for_port {
        let _ = write!(value, ";rport={}", remote.port());
    }
    // RFC 3581 §4 wants it wherever there is an rport, even if it says the same as sent-by.
    let _ = write!(value, ";received={address}");
    Some(request.edit().replace_first_value(Header::Via, &value).finish())
}

/// The flow that responses take. For a datagram whose client did not ask for its source port, they go to the port of
/// sent-by at the address it came from (RFC 3261 §18.2.2).
pub(crate) fn reply_flow(flow: &Flow, via: &Via<'_>) -> Flow {
    match flow {
        Flow::Udp { listener, remote } if via.rport().is_none() => {
            let port = via.port.unwrap_or(Transport::Udp.default_port());
            Flow::Udp { listener: *listener, remote: SocketAddr::new(remote.ip(), port) }
        }
        Flow::Udp { .. } | Flow::Stream { .. } | Flow::Peer { .. } => flow.clone(),
    }
}

/// Where a response goes when the connection of its request is lost: to the address it came from, at the port of
/// sent-by (RFC 3261 §18.2.2). The address is what the transport saw, never what the header says.
pub(crate) fn reply_without_flow(flow: &Flow, via: &Via<'_>) -> Destination {
    match flow {
        Flow::Udp { .. } => Destination::Flow(flow.clone()),
        Flow::Stream { transport, listener, remote, .. } => Destination::Address {
            transport: *transport,
            addr: SocketAddr::new(remote.ip(), via.port.unwrap_or(transport.default_port())),
            listener: *listener,
        },
        Flow::Peer { host } => Destination::Peer(host.clone()),
    }
}

/// The address that a host is, brackets of IPv6 allowed; none for a name.
pub(crate) fn host_address(host: &str) -> Option<IpAddr> {
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}
