//! Where a request came from, noted in its top Via, and where its responses go (RFC 3261 §18.2, RFC 3581).

use std::net::{IpAddr, SocketAddr};

use crate::message::{Header, Message, Via};
use crate::text::{push_address, push_number};
use crate::transport::{Destination, Flow, Transport};

/// About as long as a Via is beside its host and parameters, with an address of IPv6 for `received`.
const VIA_LEN: usize = 96;

/// As long as a note may be: a port, and an address of IPv6.
const NOTE_LEN: usize = "=65535;received=".len() + 39;

/// Notes the source address in `received` and `rport` of the top Via, which is `via`; `None` when there is nothing to note.
///
/// What the client wrote there itself is thrown away: responses follow it. A peer link needs neither, since its
/// responses go back over the link.
pub(crate) fn stamp(request: &Message, via: &Via<'_>, flow: &Flow) -> Option<Message> {
    let note = note(via, flow)?;
    match place_of_note(via) {
        Some(at) => Some(request.with_insertion(Header::Via, at, &note)),
        None => Some(request.with_first_value(Header::Via, &rewritten(via, &note))),
    }
}

/// The top Via, which is `via`, as [`stamp`] writes it; `None` when there is nothing to note.
pub(crate) fn stamped(request: &Message, via: &Via<'_>, flow: &Flow) -> Option<String> {
    let note = note(via, flow)?;
    let whole = request.values(Header::Via).next()?;
    match place_of_note(via).and_then(|at| whole.split_at_checked(at)) {
        Some((before, behind)) => Some([before, &note, behind].concat()),
        None => Some(rewritten(via, &note)),
    }
}

/// Behind how many bytes of a Via a note may be put as it is: its client wrote nothing of its own address there.
fn place_of_note(via: &Via<'_>) -> Option<usize> {
    via.behind_rport().filter(|_| via.received().is_none()).map(|behind| via.len().saturating_sub(behind))
}

/// What is to be noted in a Via: the port, where that is asked for, and `received`.
fn note(via: &Via<'_>, flow: &Flow) -> Option<String> {
    let remote = flow.remote()?;
    let asks_for_port = via.rport().is_some();
    let address = remote.ip().to_canonical();
    let says_where = || host_address(via.host) == Some(address);
    if !asks_for_port && via.received().is_none() && says_where() {
        return None;
    }
    let mut note = String::with_capacity(NOTE_LEN);
    if asks_for_port {
        note.push('=');
        push_number(&mut note, remote.port());
    }
    // RFC 3581 §4 wants it wherever there is an rport, even if it says the same as sent-by.
    note.push_str(";received=");
    push_address(&mut note, address);
    Some(note)
}

/// A Via without what its client wrote of its own address, and with this note.
fn rewritten(via: &Via<'_>, note: &str) -> String {
    let mut value = String::with_capacity(VIA_LEN + via.host.len() + via.params.as_str().len());
    value.extend(["SIP/2.0/", via.transport, " ", via.host]);
    if let Some(port) = via.port {
        value.push(':');
        push_number(&mut value, port);
    }
    for (name, content) in via.params.iter() {
        if name.eq_ignore_ascii_case("received") || name.eq_ignore_ascii_case("rport") {
            continue;
        }
        value.extend([";", name]);
        if let Some(content) = content {
            value.extend(["=", content]);
        }
    }
    if via.rport().is_some() {
        value.push_str(";rport");
    }
    value.push_str(note);
    value
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The first Via of a request that came from 192.0.2.9:4711, as it is noted.
    fn noted(via: &str) -> Option<String> {
        let text = format!(
            "OPTIONS sip:a@b SIP/2.0\r\nCall-ID: c\r\nVia: , {via},SIP/2.0/UDP z;rport\r\nCSeq: 1 OPTIONS\r\n\r\n"
        );
        let request = Message::parse(text.into()).unwrap();
        let flow = Flow::Udp { listener: 0, remote: "192.0.2.9:4711".parse().unwrap() };
        let top = request.top_via().unwrap();
        let value = stamped(&request, &top, &flow);
        let noted = stamp(&request, &top, &flow)?;
        assert_eq!(noted.values(Header::Via).next(), value.as_deref(), "{via}");
        assert_eq!(noted.values(Header::Via).nth(1), Some("SIP/2.0/UDP z;rport"), "{via}");
        assert_eq!((noted.call_id(), noted.cseq().unwrap().number), ("c", 1), "{via}");
        let top = noted.top_via().unwrap();
        assert_eq!(top.received(), Some("192.0.2.9"), "{via}");
        assert!(matches!(top.rport(), None | Some(Some("4711"))), "{via}");
        noted.values(Header::Via).next().map(str::to_owned)
    }

    #[test]
    fn a_source_is_noted_whatever_its_client_wrote_of_itself() {
        let cases = [
            ("SIP/2.0/UDP h;branch=x;rport", "SIP/2.0/UDP h;branch=x;rport=4711;received=192.0.2.9"),
            ("SIP/2.0/UDP h:5070;RPort;branch=x", "SIP/2.0/UDP h:5070;RPort=4711;received=192.0.2.9;branch=x"),
            ("SIP/2.0/UDP h;rport ; branch=x", "SIP/2.0/UDP h;branch=x;rport=4711;received=192.0.2.9"),
            ("SIP/2.0/UDP h;rport=9;branch=x", "SIP/2.0/UDP h;branch=x;rport=4711;received=192.0.2.9"),
            ("SIP/2.0/UDP h;rport;x=\"y\"", "SIP/2.0/UDP h;x=\"y\";rport=4711;received=192.0.2.9"),
            ("SIP/2.0/UDP h;rport;rport;branch=x", "SIP/2.0/UDP h;branch=x;rport=4711;received=192.0.2.9"),
            ("SIP/2.0/UDP h;received=192.0.2.1;rport", "SIP/2.0/UDP h;rport=4711;received=192.0.2.9"),
            ("SIP/2.0/UDP h;branch=x;received", "SIP/2.0/UDP h;branch=x;received=192.0.2.9"),
            ("SIP/2.0/UDP h", "SIP/2.0/UDP h;received=192.0.2.9"),
        ];
        for (via, expected) in cases {
            assert_eq!(noted(via).as_deref(), Some(expected));
        }
        assert_eq!(noted("SIP/2.0/UDP 192.0.2.9:5060;branch=x"), None, "there is nothing to note");
    }
}
