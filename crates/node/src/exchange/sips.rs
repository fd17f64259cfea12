//! What `sips` asks of each hop (RFC 3261 §26.2.2, RFC 5630 §5.3): to be protected. Pure.

use meshtone_sip::message::Header;
use meshtone_sip::proxy::Target;
use meshtone_sip::transport::Transport;

/// Whether nobody on the way can read or change what is sent. A link between nodes is protected as TLS is: both ends
/// prove who they are.
pub(crate) fn is_protected(transport: Transport) -> bool {
    match transport {
        Transport::Tls | Transport::Wss | Transport::Peer => true,
        Transport::Udp | Transport::Tcp | Transport::Ws => false,
    }
}

/// Whether a URI asks for protection.
pub(crate) fn is_sips(uri: &str) -> bool {
    uri.get(.."sips:".len()).is_some_and(|start| start.eq_ignore_ascii_case("sips:"))
}

/// What a 480 says when somebody is there, but not over protected hops (RFC 5630 §5.3).
pub(crate) fn not_allowed(domain: &str) -> (Header, String) {
    (Header::Warning, format!("380 {domain} \"SIPS Not Allowed\""))
}

/// The targets that a request may go to, `wants_sips` being whether its Request-URI is one.
///
/// A request for a SIPS URI goes to SIPS URIs only, over protected hops. One for a SIP URI goes to a SIPS contact over
/// a protected hop only, as a SIP URI.
pub(crate) fn permitted(wants_sips: bool, targets: Vec<Target>) -> Vec<Target> {
    targets.into_iter().filter_map(|target| permit(wants_sips, target)).collect()
}

fn permit(wants_sips: bool, mut target: Target) -> Option<Target> {
    let has_sips = is_sips(&target.uri);
    if !wants_sips && !has_sips {
        return Some(target);
    }
    if wants_sips && !has_sips {
        // The next node looks for SIPS contacts of its own; a phone has said what it wants to be called by.
        if target.destination.transport() != Transport::Peer {
            return None;
        }
        target.uri = with_scheme("sips", &target.uri)?;
    } else if !wants_sips {
        target.uri = with_scheme("sip", &target.uri)?;
    }
    target.alternatives.retain(|place| is_protected(place.transport()));
    if !is_protected(target.destination.transport()) {
        if target.alternatives.is_empty() {
            return None;
        }
        target.destination = target.alternatives.remove(0);
    }
    Some(target)
}

/// The same URI under another scheme; none where that means nothing, as for a telephone number.
pub(super) fn with_scheme(scheme: &str, uri: &str) -> Option<String> {
    let (old, rest) = uri.split_once(':')?;
    (old.eq_ignore_ascii_case("sip") || old.eq_ignore_ascii_case("sips")).then(|| format!("{scheme}:{rest}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use meshtone_sip::transport::{Destination, Flow, PeerHost};

    use super::*;

    fn over(transport: Transport) -> Destination {
        let remote = "192.0.2.1:5061".parse().unwrap();
        match transport {
            Transport::Peer => Destination::Peer(PeerHost::parse("4f2.peer.alt").unwrap()),
            Transport::Udp => Destination::Flow(Flow::Udp { listener: 0, remote }),
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                Destination::Flow(Flow::Stream { transport, listener: 0, connection: 1, remote })
            }
        }
    }

    /// The Request-URI that reaches a target, if it is reached.
    fn reached(wants_sips: bool, uri: &str, transport: Transport) -> Option<String> {
        permitted(wants_sips, vec![Target::new(uri, over(transport))]).pop().map(|target| target.uri)
    }

    const ALL: [Transport; 6] =
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss, Transport::Peer];

    #[test]
    fn a_sips_request_never_takes_an_unprotected_hop() {
        for transport in ALL {
            let reached = reached(true, "sips:bob@phone.example", transport);
            assert_eq!(reached.is_some(), is_protected(transport), "{transport}");
        }
    }

    #[test]
    fn a_sips_request_reaches_no_phone_that_registered_a_sip_contact() {
        assert_eq!(reached(true, "sip:bob@phone.example", Transport::Tls), None);
        assert_eq!(reached(true, "tel:+15551234", Transport::Peer), None);
        assert_eq!(reached(true, "sip:bob@home.example", Transport::Peer).unwrap(), "sips:bob@home.example");
    }

    #[test]
    fn a_sip_request_reaches_a_sips_contact_as_sip_and_only_over_a_protected_hop() {
        assert_eq!(
            reached(false, "sips:bob@phone.example:5061;x=y", Transport::Tls).unwrap(),
            "sip:bob@phone.example:5061;x=y"
        );
        assert_eq!(reached(false, "SIPS:bob@phone.example", Transport::Udp), None);
    }

    #[test]
    fn a_sip_request_for_a_sip_contact_goes_anywhere() {
        for transport in ALL {
            assert_eq!(reached(false, "sip:bob@phone.example", transport).unwrap(), "sip:bob@phone.example");
        }
    }

    #[test]
    fn of_several_places_only_the_protected_ones_are_tried() {
        let mut target = Target::new("sips:bob@b.example", over(Transport::Tcp));
        target.alternatives = vec![over(Transport::Udp), over(Transport::Tls), over(Transport::Ws)];
        let kept = permitted(true, vec![target]).pop().unwrap();
        assert_eq!((kept.destination, kept.alternatives), (over(Transport::Tls), vec![]));
    }
}
