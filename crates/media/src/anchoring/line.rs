//! One stream of a description: how it is protected, and how its lines are written for the other end.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use data_encoding::BASE64_NOPAD;

use super::{Own, OwnKeys, Profile};
use crate::relay::{DEFAULT_CLOCK_RATE, DtlsTerms, Fingerprint, Format, IceTerms, Protection, Terms};
use crate::roq::parse_flow;
use crate::sdes::Crypto;
use crate::sdp::{Connection, Direction, Media, SdpError, Session, clock_rate, named_codec, payload_type_of};
use crate::srtp::Suite;

/// Attributes that pass because they say what is sent, not where; rtpmap, fmtp and the direction are read by themselves.
const PASSED: &[&str] = &["ptime", "maxptime", "framerate", "framesize", "label", "content", "lang", "imageattr"];

/// What passes besides where both ends are told of sources as they are: browsers tell streams and their repairs apart by it (RFC 5576, RFC
/// 8830).
const SOURCES: &[&str] = &["ssrc", "ssrc-group", "msid"];

/// The attribute by which receivers ask for key frames and the like (RFC 4585), which only profiles with feedback know.
const FEEDBACK: &str = "rtcp-fb";

/// The attribute by which a node names its flow of a stream.
const FLOW: &str = "roq-flow-id";

/// How a stream is protected, by its profile and what stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Not at all.
    Plain,
    /// As the answer likes: keys beside a profile without protection.
    Optional,
    /// By keys in the description.
    Sdes,
    /// By a handshake on the media path.
    Dtls,
    /// By the same, once checks have found that path.
    WebRtc,
    /// By the link to another node, which all of it goes over.
    Link,
}

impl Class {
    /// Whether nothing comes of it without a certificate of ours.
    pub(super) fn needs_certificate(self) -> bool {
        matches!(self, Class::Dtls | Class::WebRtc)
    }

    /// The class of a line; `None` where it is nothing that can be carried.
    pub(super) fn of(session: &Session<'_>, media: &Media<'_>) -> Option<Class> {
        let has_key = media.values("crypto").any(|value| Crypto::parse(value).is_some());
        if !matches!(media.kind, "audio" | "video") {
            return None;
        }
        let peer = Peer::of(session, media);
        let by_handshake = peer.as_ref().map(|peer| if peer.fragment.is_some() { Class::WebRtc } else { Class::Dtls });
        match media.protocol {
            "RTP/AVP" | "RTP/AVPF" if has_key => Some(Class::Optional),
            // RFC 8643 §3.1: a handshake that is wished for, beside a profile without.
            "RTP/AVP" | "RTP/AVPF" => Some(if peer.is_some() { Class::Dtls } else { Class::Plain }),
            "RTP/SAVP" | "RTP/SAVPF" if has_key => Some(Class::Sdes),
            "RTP/SAVP" | "RTP/SAVPF" => peer.map(|_| Class::Dtls),
            "QUIC/RTP/AVP" | "QUIC/RTP/AVPF" => flow_of(media).map(|_| Class::Link),
            "UDP/TLS/RTP/SAVPF" | "UDP/TLS/RTP/SAVP" => by_handshake,
            _ => None,
        }
    }
}

/// What is known of a stream at one end.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) profile: Profile,
    /// By which profile it spoke last.
    pub(super) spoken: Option<(String, Class)>,
    /// Whether we insisted on keys, or offered them.
    offered: Class,
    keys: OwnKeys,
    /// Our fragment and password for checks, made when they are first needed.
    ice: Option<(String, String)>,
    /// Whether RTP and RTCP were offered one port (RFC 5761).
    offers_mux: bool,
    /// What it is called, as the end itself has called it.
    pub(super) called: Option<String>,
    /// With whom there was a handshake, and whether we began it: the roles stay (RFC 5763 §6.6).
    role: Option<(Fingerprint, bool)>,
}

/// How an end proves itself.
struct Peer<'a> {
    /// Of its checks, if it does them.
    fragment: Option<&'a str>,
    fingerprint: Fingerprint,
    /// `active`, `passive` or `actpass` (RFC 4145).
    setup: &'a str,
}

impl<'a> Peer<'a> {
    /// Reads it; what the stream does not say, the session may.
    fn of(session: &Session<'a>, media: &Media<'a>) -> Option<Peer<'a>> {
        let said = |name: &str| {
            let for_all = session.attributes.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            media.values(name).chain(for_all).collect::<Vec<&str>>()
        };
        let fragment = said("ice-ufrag").first().copied();
        let is_fragment = fragment.is_none_or(|fragment| {
            (4..=256).contains(&fragment.len()) && fragment.bytes().all(|byte| byte.is_ascii_graphic())
        });
        let fingerprint = said("fingerprint").into_iter().find_map(Fingerprint::parse)?;
        let setup = said("setup").first().copied().unwrap_or("actpass");
        is_fragment.then_some(Peer { fragment, fingerprint, setup })
    }
}

impl Line {
    pub(super) fn new(profile: Profile) -> Line {
        let (keys, ice) = (OwnKeys::default(), None);
        Line { profile, spoken: None, offered: Class::Plain, keys, ice, offers_mux: false, called: None, role: None }
    }

    /// Whether it is offered as browsers have it.
    pub(super) fn is_offered_web(&self) -> bool {
        match &self.spoken {
            Some((_, class)) => *class == Class::WebRtc,
            None => self.profile == Profile::WebRtc,
        }
    }

    /// What it is called towards this end: as that calls it, or by its place.
    pub(super) fn mid(&self, index: usize) -> String {
        self.called.clone().unwrap_or_else(|| index.to_string())
    }

    /// Writes the lines of a stream that is offered to this end.
    pub(super) fn write_offer(
        &mut self,
        text: &mut String,
        session: &Session<'_>,
        media: &Media<'_>,
        own: &Own,
        fill: &mut dyn FnMut(&mut [u8]),
    ) {
        let (protocol, class) = match (&self.spoken, self.profile) {
            (Some((protocol, class)), _) => (protocol.clone(), *class),
            (None, Profile::Optional) => ("RTP/AVP".to_owned(), Class::Optional),
            (None, Profile::Sdes) => ("RTP/SAVP".to_owned(), Class::Sdes),
            (None, Profile::Dtls) => ("UDP/TLS/RTP/SAVP".to_owned(), Class::Dtls),
            (None, Profile::WebRtc) => ("UDP/TLS/RTP/SAVPF".to_owned(), Class::WebRtc),
            (None, Profile::Link) => ("QUIC/RTP/AVPF".to_owned(), Class::Link),
        };
        self.offered = class;
        write_codecs(text, (session, media), &protocol, own.port);
        if class == Class::WebRtc {
            self.make_ice(fill);
        }
        self.offers_mux = matches!(class, Class::WebRtc | Class::Dtls);
        if !matches!(class, Class::Plain | Class::Link) {
            // Whoever answers begins, as browsers do. Beside keys it is for phones that know no such keys.
            self.write_transport_as(text, &self.mid(own.index), own, class, "actpass");
        }
        if class == Class::Link {
            write_flow(text, own.flow);
        }
        if matches!(class, Class::Optional | Class::Sdes) {
            for (suite, tag) in Suite::ALL.into_iter().zip(1..) {
                let line = Crypto { tag, key: self.keys.get(suite, fill) };
                let _ = write!(text, "a=crypto:{}\r\n", line.to_value());
            }
        }
    }

    /// The keys that this end's answer has chosen among those that we offered.
    pub(super) fn protection_answered(
        &self,
        (session, answered): (&Session<'_>, &Media<'_>),
    ) -> Result<Option<Protection>, SdpError> {
        let proves_itself = Peer::of(session, answered).is_some();
        let chosen = answered
            .values("crypto")
            .find_map(Crypto::parse)
            .filter(|_| matches!(self.offered, Class::Optional | Class::Sdes));
        let protection = chosen.and_then(|chosen| {
            let index = usize::try_from(chosen.tag).ok()?.checked_sub(1)?;
            let suite = *Suite::ALL.get(index).filter(|suite| **suite == chosen.key.suite())?;
            Some(Protection { ours: self.keys.known(suite)?, theirs: chosen.key })
        });
        match (self.offered, protection) {
            (Class::Sdes, None) if !proves_itself => Err(SdpError::NoAudio),
            (Class::Plain | Class::Optional | Class::Sdes | Class::Dtls | Class::WebRtc | Class::Link, protection) => {
                Ok(protection)
            }
        }
    }

    /// The keys for what this end offered: its first line that is known here, and ours. With them the line of the answer.
    pub(super) fn protection_offered(
        &mut self,
        class: Class,
        offered: &Media<'_>,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Option<(Crypto, Protection)> {
        if matches!(class, Class::Plain | Class::Dtls | Class::WebRtc | Class::Link) {
            return None;
        }
        let theirs = offered.values("crypto").find_map(Crypto::parse)?;
        let ours = self.keys.get(theirs.key.suite(), fill);
        let line = Crypto { tag: theirs.tag, key: ours.clone() };
        Some((line, Protection { ours, theirs: theirs.key }))
    }
}

impl Line {
    /// How this end proves itself, having answered what we offered. `has_keys` where it has chosen keys in the description instead.
    pub(super) fn dtls_answered(
        &mut self,
        (session, answered): (&Session<'_>, &Media<'_>),
        has_keys: bool,
    ) -> Result<Option<DtlsTerms>, SdpError> {
        let peer = Peer::of(session, answered);
        match (self.offered, peer) {
            (Class::Plain | Class::Link, _) => Ok(None),
            (Class::Optional | Class::Sdes, peer) if has_keys || peer.is_none() => Ok(None),
            (Class::WebRtc, Some(peer)) if peer.fragment.is_none() => Err(SdpError::NoAudio),
            (class, Some(peer)) => {
                let is_muxed = class == Class::WebRtc || (self.offers_mux && has_mux(answered));
                Ok(self.dtls_terms(&peer, class, is_muxed))
            }
            (Class::Optional | Class::Sdes | Class::Dtls | Class::WebRtc, None) => Err(SdpError::NoAudio),
        }
    }

    /// The same for an end that has offered it.
    pub(super) fn dtls_offered(
        &mut self,
        class: Class,
        (session, offered): (&Session<'_>, &Media<'_>),
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Option<DtlsTerms> {
        let peer = Peer::of(session, offered).filter(|_| matches!(class, Class::Dtls | Class::WebRtc))?;
        if class == Class::WebRtc {
            self.make_ice(fill);
        }
        self.offers_mux = class == Class::WebRtc || has_mux(offered);
        self.dtls_terms(&peer, class, self.offers_mux)
    }

    fn dtls_terms(&mut self, peer: &Peer<'_>, class: Class, is_muxed: bool) -> Option<DtlsTerms> {
        let is_active = match (peer.setup, self.role) {
            ("passive", _) => true,
            ("actpass", Some((fingerprint, is_active))) if fingerprint == peer.fingerprint => is_active,
            _ => false,
        };
        self.role = Some((peer.fingerprint, is_active));
        let ice = match (class, &self.ice, peer.fragment) {
            (Class::WebRtc, Some((fragment, password)), Some(theirs)) => {
                Some(IceTerms { username: format!("{fragment}:{theirs}"), password: password.clone() })
            }
            (Class::WebRtc, _, _) => return None,
            (Class::Plain | Class::Optional | Class::Sdes | Class::Dtls | Class::Link, _, _) => None,
        };
        Some(DtlsTerms { fingerprint: peer.fingerprint, is_active, is_muxed, ice })
    }

    /// RFC 8445 §5.3 wants 24 and 128 bits of chance at least.
    fn make_ice(&mut self, fill: &mut dyn FnMut(&mut [u8])) {
        if self.ice.is_none() {
            let (mut fragment, mut password) = ([0; 6], [0; 18]);
            fill(&mut fragment);
            fill(&mut password);
            self.ice = Some((BASE64_NOPAD.encode(&fragment), BASE64_NOPAD.encode(&password)));
        }
    }

    /// Writes where and how we are reached, for an answer.
    pub(super) fn write_transport(
        &self,
        text: &mut String,
        media: &Media<'_>,
        own: &Own,
        class: Class,
        is_active: bool,
    ) {
        let mid = super::bundle::mid(media).map_or_else(|| self.mid(own.index), str::to_owned);
        self.write_transport_as(text, &mid, own, class, if is_active { "active" } else { "passive" });
    }

    fn write_transport_as(&self, text: &mut String, mid: &str, own: &Own, class: Class, setup: &str) {
        let Some(fingerprint) = own.fingerprint else { return };
        if self.offers_mux {
            let _ = write!(text, "a=rtcp-mux\r\n");
        }
        let _ = write!(text, "a=fingerprint:{fingerprint}\r\na=setup:{setup}\r\n");
        let (Some((fragment, password)), Class::WebRtc) = (&self.ice, class) else { return };
        let _ = write!(text, "a=mid:{mid}\r\na=ice-ufrag:{fragment}\r\na=ice-pwd:{password}\r\n");
        // One component of a host (RFC 8839 §5.1): the priority of RFC 8445 §5.1.2.1 with all preferences at their highest.
        let Own { address, port, .. } = own;
        let _ = write!(text, "a=candidate:1 1 UDP 2130706431 {address} {port} typ host\r\na=end-of-candidates\r\n");
    }
}

/// Whether RTP and RTCP may go over one port.
fn has_mux(media: &Media<'_>) -> bool {
    media.attributes.contains(&"rtcp-mux")
}

/// What one end's line means for the relay, next to the other end's.
pub(super) fn terms(
    (session, media): (&Session<'_>, &Media<'_>),
    (other_session, other): (&Session<'_>, &Media<'_>),
    protection: Option<Protection>,
    is_ipv4: bool,
) -> Result<Terms, SdpError> {
    if session.connection_of(media).is_none() {
        return Err(SdpError::Malformed("there is no connection line"));
    }
    let remote = address_of(session, media);
    if remote.is_some_and(|address| address.is_multicast() || address.is_ipv4() != is_ipv4) {
        return Err(SdpError::Address);
    }
    // Its own port, unless it is the last there is (RFC 3550 §11).
    let rtcp = media.rtcp.or(media.port.checked_add(1));
    let sends = direction(session, media).sends() && direction(other_session, other).receives();
    let mut formats = Vec::new();
    for media in [media, other] {
        for payload_type in media.formats.iter().filter_map(|format| payload_type_of(format)) {
            if !formats.iter().any(|known: &Format| known.payload_type == payload_type) {
                let clock_rate = clock_rate(media, payload_type).unwrap_or(DEFAULT_CLOCK_RATE);
                let codec = named_codec(media, payload_type);
                formats.push(Format { payload_type, clock_rate, codec });
            }
        }
    }
    Ok(Terms {
        remote: remote.map(|address| SocketAddr::new(address, media.port)),
        remote_rtcp: remote.zip(rtcp).map(|(address, port)| SocketAddr::new(address, port)),
        sends,
        formats,
        protection,
        dtls: None,
        carrier: None,
        events: events_of(media),
        flow: flow_of(media).filter(|_| Class::of(session, media) == Some(Class::Link)),
    })
}

/// By which payload type an end takes telephone events, and at which rate: that of its sound, if it lists one.
fn events_of(media: &Media<'_>) -> Option<(u8, u32)> {
    let sound = media.formats.first().and_then(|format| payload_type_of(format));
    let sound_rate = sound.and_then(|sound| clock_rate(media, sound)).unwrap_or(DEFAULT_CLOCK_RATE);
    let events = media.rtpmaps.iter().filter(|map| {
        let is_listed = media.formats.iter().any(|format| payload_type_of(format) == Some(map.payload_type));
        is_listed && map.encoding.eq_ignore_ascii_case("telephone-event") && map.clock_rate > 0
    });
    let best = events.max_by_key(|map| map.clock_rate == sound_rate)?;
    Some((best.payload_type, best.clock_rate))
}

/// Where a stream is received, where that is said.
pub(super) fn address_of(session: &Session<'_>, media: &Media<'_>) -> Option<IpAddr> {
    match session.connection_of(media)? {
        // Checks find out where such an end is, whatever it writes here.
        Connection::Address(_) if has_own_way(session, media) => None,
        Connection::Address(address) if address.is_unspecified() => None,
        Connection::Address(address) => Some(address),
        Connection::Other => None,
    }
}

/// Writes the lines of a stream that was agreed to, for who offered it.
pub(super) fn write_answer(
    text: &mut String,
    (answer, answered): (&Session<'_>, &Media<'_>),
    offered: &Media<'_>,
    port: u16,
    crypto: Option<Crypto>,
) {
    write_codecs(text, (answer, answered), offered.protocol, port);
    if let Some(crypto) = crypto {
        let _ = write!(text, "a=crypto:{}\r\n", crypto.to_value());
    }
}

/// Writes by which flow we take a stream.
pub(super) fn write_flow(text: &mut String, flow: Option<u64>) {
    if let Some(flow) = flow {
        let _ = write!(text, "a=rtcp-mux\r\na={FLOW}:{flow}\r\n");
    }
}

/// By which flow an end takes a stream.
fn flow_of(media: &Media<'_>) -> Option<u64> {
    media.values(FLOW).next().and_then(parse_flow)
}

/// Whether an end is found otherwise than by the address that it writes.
fn has_own_way(session: &Session<'_>, media: &Media<'_>) -> bool {
    matches!(Class::of(session, media), Some(Class::WebRtc | Class::Link))
}

/// Writes the line of a stream that is refused or over.
pub(super) fn write_refused(text: &mut String, media: &Media<'_>) {
    let _ = write!(text, "m={} 0 {} {}\r\n", media.kind, media.protocol, media.formats.join(" "));
}

fn write_codecs(text: &mut String, (session, media): (&Session<'_>, &Media<'_>), protocol: &str, port: u16) {
    let _ = write!(text, "m={} {port} {protocol} {}\r\n", media.kind, media.formats.join(" "));
    for map in &media.rtpmaps {
        let _ = write!(text, "a=rtpmap:{} {}\r\n", map.payload_type, map.description);
    }
    for (payload_type, parameters) in &media.fmtps {
        let _ = write!(text, "a=fmtp:{payload_type} {parameters}\r\n");
    }
    let has_feedback = protocol.ends_with("AVPF");
    for line in &media.attributes {
        let name = line.split_once(':').map_or(*line, |(name, _)| name);
        if PASSED.contains(&name) || (has_feedback && (name == FEEDBACK || SOURCES.contains(&name))) {
            let _ = write!(text, "a={line}\r\n");
        }
    }
    let _ = write!(text, "a={}\r\n", direction(session, media).as_str());
}

/// A stream's direction, with the hold of RFC 2543: who is at the zero address receives nothing.
fn direction(session: &Session<'_>, media: &Media<'_>) -> Direction {
    let said = session.direction_of(media);
    let is_hold = !has_own_way(session, media);
    match session.connection_of(media) {
        // A browser that knows no address of its own yet writes the same, and means nothing by it.
        Some(Connection::Address(address)) if address.is_unspecified() && is_hold => {
            if said.sends() {
                Direction::SendOnly
            } else {
                Direction::Inactive
            }
        }
        Some(Connection::Address(_) | Connection::Other) | None => said,
    }
}
