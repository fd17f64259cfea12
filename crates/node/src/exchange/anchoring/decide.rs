//! Which calls run their media through this node, and what their phones are offered. Pure.

use std::collections::VecDeque;

use meshtone_media::anchoring::Profile;
use meshtone_media::sdp::{Connection, Session};
use meshtone_sip::message::{Header, Message, Method};
use meshtone_sip::transport::{Destination, Flow, Transport};

/// When the media of a call runs through this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnchorPolicy {
    /// Where the two ends would not understand each other otherwise.
    #[default]
    Auto,
    /// Wherever it can be: neither end learns the other's address.
    Always,
    /// Never: phones that do not understand each other have no sound.
    Never,
}

/// What a caller offers, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) kind: Kind,
    /// Whether the media address is an IPv4 one; `None` where it is none.
    is_ipv4: Option<bool>,
}

/// How a caller's sound is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is not said yet: the called side offers.
    Nothing,
    /// Plain RTP.
    Plain,
    /// Keys in the description.
    Sdes,
    /// Keys by a handshake at the described address.
    Dtls,
    /// As browsers do.
    WebRtc,
    /// By another node's flows, over the link to it.
    Link,
    /// What is no RTP at all: not carried.
    Other,
}

impl Offered {
    /// Reads what an INVITE offers; `None` for what opens no session.
    pub(super) fn read(invite: &Message) -> Option<Offered> {
        if invite.method() != Method::Invite || invite.to_tag().is_some() {
            return None;
        }
        if invite.body().is_empty() {
            return Some(Offered { kind: Kind::Nothing, is_ipv4: None });
        }
        let content_type = invite.header(Header::ContentType)?;
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let session =
            Session::parse(invite.body()).ok().filter(|_| media_type.eq_ignore_ascii_case("application/sdp"))?;
        let media = session.media.iter().find(|media| media.port != 0 && matches!(media.kind, "audio" | "video"))?;
        let is_ipv4 = match session.connection_of(media) {
            Some(Connection::Address(address)) if !address.is_unspecified() => Some(address.is_ipv4()),
            Some(Connection::Address(_) | Connection::Other) | None => None,
        };
        let kind = match media.protocol {
            "RTP/AVP" | "RTP/AVPF" => Kind::Plain,
            "RTP/SAVP" | "RTP/SAVPF" => Kind::Sdes,
            "UDP/TLS/RTP/SAVPF" | "UDP/TLS/RTP/SAVP" => {
                let mut lines = session.attributes.iter().chain(&media.attributes);
                if lines.any(|line| line.starts_with("ice-ufrag:")) { Kind::WebRtc } else { Kind::Dtls }
            }
            "QUIC/RTP/AVP" | "QUIC/RTP/AVPF" => Kind::Link,
            _ => Kind::Other,
        };
        Some(Offered { kind, is_ipv4 })
    }

    /// As the caller does first, so that phones of one kind are asked once. A browser takes its own kind alone; what else speaks WebSocket
    /// says that it does not take that.
    fn profiles(self, is_browser: bool) -> Option<VecDeque<Profile>> {
        match (self.kind, is_browser) {
            (Kind::Plain, true) => Some([Profile::WebRtc, Profile::Optional, Profile::Sdes].into()),
            (Kind::Sdes, true) => Some([Profile::WebRtc, Profile::Sdes, Profile::Optional].into()),
            (Kind::Dtls, true) => Some([Profile::WebRtc, Profile::Dtls, Profile::Optional].into()),
            (Kind::WebRtc | Kind::Link, true) => Some([Profile::WebRtc].into()),
            (Kind::Plain | Kind::WebRtc | Kind::Nothing | Kind::Link, _) => {
                Some([Profile::Optional, Profile::Sdes, Profile::Dtls].into())
            }
            (Kind::Sdes, false) => Some([Profile::Sdes, Profile::Dtls, Profile::Optional].into()),
            (Kind::Dtls, false) => Some([Profile::Dtls, Profile::Sdes, Profile::Optional].into()),
            (Kind::Other, _) => None,
        }
    }
}

/// How to offer to who is reached there, one way after the other, if his media is to run through here from the beginning.
pub(super) fn at_once(policy: AnchorPolicy, invite: &Message, destination: &Destination) -> Option<VecDeque<Profile>> {
    match policy {
        AnchorPolicy::Never => None,
        AnchorPolicy::Always => Offered::read(invite)?.profiles(is_browser(destination)),
        AnchorPolicy::Auto => {
            let reached = family(destination)?;
            // Reading every description would cost each call more than finding this out.
            let says = |word: &str| memchr::memmem::find(invite.body(), word.as_bytes()).is_some();
            let is_browser = is_browser(destination);
            if !is_browser && !says("UDP/TLS/") && !says(if reached { "IP6" } else { "IP4" }) {
                return None;
            }
            let offered = Offered::read(invite)?;
            let fits = match offered.kind {
                Kind::WebRtc => is_browser,
                Kind::Plain | Kind::Sdes | Kind::Dtls => {
                    !is_browser && offered.is_ipv4.is_none_or(|is_ipv4| is_ipv4 == reached)
                }
                Kind::Nothing | Kind::Other | Kind::Link => true,
            };
            if fits { None } else { offered.profiles(is_browser) }
        }
    }
}

/// How to offer what another node offers by its flows: no phone understands that.
pub(super) fn of_link(invite: &Message, destination: &Destination) -> Option<VecDeque<Profile>> {
    Offered::read(invite).filter(|offered| offered.kind == Kind::Link)?.profiles(is_browser(destination))
}

/// The same once a phone has refused what the caller offers.
pub(super) fn after(policy: AnchorPolicy, invite: &Message, status: u16) -> Option<VecDeque<Profile>> {
    if policy == AnchorPolicy::Never || !is_about_media(status) {
        return None;
    }
    match Offered::read(invite)?.kind {
        Kind::Plain => Some([Profile::Sdes, Profile::Dtls].into()),
        Kind::Sdes => Some([Profile::Dtls, Profile::Optional].into()),
        Kind::Dtls => Some([Profile::Sdes, Profile::Optional].into()),
        Kind::WebRtc | Kind::Link | Kind::Nothing | Kind::Other => None,
    }
}

/// The same with codecs that this node converts, once all that could be offered without was refused.
pub(super) fn converting(invite: &Message, destination: &Destination) -> VecDeque<Profile> {
    Offered::read(invite).and_then(|offered| offered.profiles(is_browser(destination))).unwrap_or_default()
}

/// Whether a refusal says that the description was the reason (RFC 3261 §21.4.26, §21.6.4).
pub(in crate::exchange) fn is_about_media(status: u16) -> bool {
    matches!(status, 415 | 488 | 606)
}

/// Whether a phone is taken for a browser: nothing else has a reason to speak WebSocket.
fn is_browser(destination: &Destination) -> bool {
    matches!(destination.transport(), Transport::Ws | Transport::Wss)
}

/// Whether a phone is reached over IPv4.
fn family(destination: &Destination) -> Option<bool> {
    let address = match destination {
        Destination::Flow(flow @ (Flow::Udp { .. } | Flow::Stream { .. })) => flow.remote(),
        Destination::Address { addr, .. } => Some(*addr),
        Destination::Flow(Flow::Peer { .. }) | Destination::Peer(_) => None,
    };
    address.map(|address| address.ip().to_canonical().is_ipv4())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;

    use super::*;

    fn invite(kind: &str, body: &str) -> Message {
        let text = format!(
            "INVITE sip:b@c SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n\
             Call-ID: x\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn offering(protocol: &str, host: &str) -> Message {
        let family = if host.contains(':') { "IP6" } else { "IP4" };
        let origin = format!("v=0\r\no=- 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\n");
        invite("application/sdp", &format!("{origin}m=audio 4000 {protocol} 0\r\n"))
    }

    fn browsers(host: &str) -> Message {
        let offer = String::from_utf8(offering("UDP/TLS/RTP/SAVPF", host).body().to_vec()).unwrap();
        invite("application/sdp", &format!("{offer}a=ice-ufrag:some\r\n"))
    }

    fn at(address: &str) -> Destination {
        Destination::Flow(Flow::Udp { listener: 0, remote: address.parse().unwrap() })
    }

    #[test]
    fn by_default_calls_are_carried_where_the_families_differ_only() {
        let plain = offering("RTP/AVP", "192.0.2.5");
        assert_eq!(at_once(AnchorPolicy::Auto, &plain, &at("192.0.2.6:5060")), None);
        assert_eq!(at_once(AnchorPolicy::Auto, &plain, &at("[::ffff:192.0.2.6]:5060")), None);
        assert!(at_once(AnchorPolicy::Auto, &plain, &at("[2001:db8::6]:5060")).is_some());
        assert!(at_once(AnchorPolicy::Auto, &offering("RTP/AVP", "2001:db8::5"), &at("192.0.2.6:5060")).is_some());
        assert_eq!(at_once(AnchorPolicy::Never, &plain, &at("[2001:db8::6]:5060")), None);
        assert!(at_once(AnchorPolicy::Always, &plain, &at("192.0.2.6:5060")).is_some());
    }

    #[test]
    fn a_refusal_of_the_description_is_answered_with_the_other_kinds() {
        for (protocol, profiles) in [
            ("RTP/AVP", [Profile::Sdes, Profile::Dtls]),
            ("RTP/SAVP", [Profile::Dtls, Profile::Optional]),
            ("UDP/TLS/RTP/SAVP", [Profile::Sdes, Profile::Optional]),
        ] {
            let invite = offering(protocol, "192.0.2.5");
            assert_eq!(after(AnchorPolicy::Auto, &invite, 488), Some(profiles.into()));
            assert_eq!(after(AnchorPolicy::Never, &invite, 488), None);
            assert_eq!(after(AnchorPolicy::Auto, &invite, 486), None);
        }
        assert_eq!(after(AnchorPolicy::Always, &browsers("192.0.2.5"), 488), None);
    }

    #[test]
    fn a_browser_and_a_phone_are_carried_and_two_of_a_kind_are_not() {
        let stream = |transport| {
            let remote = "192.0.2.6:5060".parse().unwrap();
            Destination::Flow(Flow::Stream { transport, listener: 0, connection: 1, remote })
        };
        let (phone, browser) = (stream(Transport::Tcp), stream(Transport::Wss));
        let (plain, web) = (offering("RTP/AVP", "192.0.2.5"), browsers("0.0.0.0"));
        let first = |invite, destination| Some(at_once(AnchorPolicy::Auto, invite, destination)?[0]);
        assert_eq!(first(&plain, &phone), None);
        assert_eq!(first(&web, &browser), None);
        assert_eq!(first(&plain, &browser), Some(Profile::WebRtc));
        assert_eq!(first(&web, &phone), Some(Profile::Optional));
        let certified = offering("UDP/TLS/RTP/SAVP", "192.0.2.5");
        assert_eq!((first(&certified, &phone), first(&certified, &browser)), (None, Some(Profile::WebRtc)));
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        assert_eq!(Offered::read(&invite("multipart/mixed;boundary=x", "--x--")), None);
        assert_eq!(Offered::read(&invite("application/sdp", "not a description")), None);
        assert_eq!(Offered::read(&invite("application/sdp", "")).map(|offered| offered.kind), Some(Kind::Nothing));
    }
}
