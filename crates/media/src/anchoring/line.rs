//! One stream of a description: how it is protected, and how its lines are written for the other end.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use data_encoding::BASE64_NOPAD;

use super::{Own, OwnKeys, Profile, feedback};
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
    /// By the same, once checks have found that path, over which all of it goes.
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
        let is_web = fragment_of(session, media).is_some() && has_mux(media);
        let by_handshake = peer.as_ref().map(|_| if is_web { Class::WebRtc } else { Class::Dtls });
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
    /// Whether it did checks then.
    pub(super) checks: bool,
    /// Whether we insisted on keys, or offered them.
    offered: Class,
    keys: OwnKeys,
    /// Our fragment and password for checks, made when they are first needed.
    ice: Option<(String, String)>,
    /// Whether checks were offered.
    offers_ice: bool,
    /// Whether RTP and RTCP were offered one port (RFC 5761).
    offers_mux: bool,
    /// What it is called, as the end itself has called it.
    pub(super) called: Option<String>,
    /// With whom there was a handshake, and whether we began it: the roles stay (RFC 5763 §6.6).
    role: Option<(Fingerprint, bool)>,
}

/// How an end proves itself.
struct Peer<'a> {
    fingerprint: Fingerprint,
    /// `active`, `passive` or `actpass` (RFC 4145).
    setup: &'a str,
}

impl<'a> Peer<'a> {
    /// Reads it; what the stream does not say, the session may.
    fn of(session: &Session<'a>, media: &Media<'a>) -> Option<Peer<'a>> {
        let fingerprint = said(session, media, "fingerprint").find_map(Fingerprint::parse)?;
        let setup = said(session, media, "setup").next().unwrap_or("actpass");
        Some(Peer { fingerprint, setup })
    }
}

/// What is said of a stream, or else of all.
fn said<'a>(session: &Session<'a>, media: &Media<'a>, name: &str) -> impl Iterator<Item = &'a str> {
    let prefixed = |line: &&'a str| line.strip_prefix(name)?.strip_prefix(':');
    let lines = media.attributes.iter().chain(&session.attributes);
    lines.filter_map(prefixed).collect::<Vec<&str>>().into_iter()
}

/// The fragment of an end that does checks (RFC 8839 §5.4); none where it is one that only answers them, as we do: two of that kind go by
/// what is described (RFC 8445 §6.1.1).
pub(super) fn fragment_of<'a>(session: &Session<'a>, media: &Media<'a>) -> Option<&'a str> {
    let fragment = said(session, media, "ice-ufrag").next()?;
    let is_fragment = (4..=256).contains(&fragment.len()) && fragment.bytes().all(|byte| byte.is_ascii_graphic());
    let has_password = said(session, media, "ice-pwd").next().is_some();
    let is_lite = session.attributes.contains(&"ice-lite");
    (is_fragment && has_password && !is_lite).then_some(fragment)
}

impl Line {
    pub(super) fn new(profile: Profile) -> Line {
        Line {
            profile,
            spoken: None,
            checks: false,
            offered: Class::Plain,
            keys: OwnKeys::default(),
            ice: None,
            offers_ice: false,
            offers_mux: false,
            called: None,
            role: None,
        }
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
        write_codecs(text, (session, media), &protocol, own.port, None);
        self.offers_mux = matches!(class, Class::WebRtc | Class::Dtls);
        if !matches!(class, Class::Plain | Class::Link) {
            // Whoever answers begins, as browsers do. Beside keys it is for phones that know no such keys.
            self.write_handshake(text, own, "actpass");
        }
        // Phones that know nothing of checks pass over them (RFC 8839 §4.2.2).
        self.offers_ice = match &self.spoken {
            Some(_) => self.checks,
            None => class != Class::Link,
        };
        if self.offers_ice {
            self.make_ice(fill);
            self.write_checks(text, &self.mid(own.index), own, class);
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
            (Class::WebRtc, Some(_)) if fragment_of(session, answered).is_none() => Err(SdpError::NoAudio),
            (class, Some(peer)) => {
                let is_muxed = class == Class::WebRtc || (self.offers_mux && has_mux(answered));
                Ok(Some(self.dtls_terms(&peer, is_muxed)))
            }
            (Class::Optional | Class::Sdes | Class::Dtls | Class::WebRtc, None) => Err(SdpError::NoAudio),
        }
    }

    /// The same for an end that has offered it.
    pub(super) fn dtls_offered(
        &mut self,
        class: Class,
        (session, offered): (&Session<'_>, &Media<'_>),
    ) -> Option<DtlsTerms> {
        let peer = Peer::of(session, offered).filter(|_| class.needs_certificate());
        self.offers_mux = peer.is_some() && has_mux(offered);
        Some(self.dtls_terms(&peer?, self.offers_mux))
    }

    /// The checks of this end, having answered what we offered.
    pub(super) fn ice_answered(&self, (session, answered): (&Session<'_>, &Media<'_>)) -> Option<IceTerms> {
        self.ice_terms(fragment_of(session, answered).filter(|_| self.offers_ice)?)
    }

    /// The same for an end that has offered them.
    pub(super) fn ice_offered(
        &mut self,
        class: Class,
        (session, offered): (&Session<'_>, &Media<'_>),
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Option<IceTerms> {
        let theirs = fragment_of(session, offered).filter(|_| class != Class::Link)?;
        self.make_ice(fill);
        self.ice_terms(theirs)
    }

    fn ice_terms(&self, theirs: &str) -> Option<IceTerms> {
        let (fragment, password) = self.ice.as_ref()?;
        Some(IceTerms { username: format!("{fragment}:{theirs}"), password: password.clone() })
    }

    fn dtls_terms(&mut self, peer: &Peer<'_>, is_muxed: bool) -> DtlsTerms {
        let is_active = match (peer.setup, self.role) {
            ("passive", _) => true,
            ("actpass", Some((fingerprint, is_active))) if fingerprint == peer.fingerprint => is_active,
            _ => false,
        };
        self.role = Some((peer.fingerprint, is_active));
        DtlsTerms { fingerprint: peer.fingerprint, is_active, is_muxed }
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

    /// Writes where and how we are reached, for an answer to who does what `terms` say.
    pub(super) fn write_transport(&self, text: &mut String, media: &Media<'_>, own: &Own, class: Class, terms: &Terms) {
        if let Some(dtls) = &terms.dtls {
            self.write_handshake(text, own, if dtls.is_active { "active" } else { "passive" });
        }
        if terms.ice.is_some() {
            let mid = super::bundle::mid(media).map_or_else(|| self.mid(own.index), str::to_owned);
            self.write_checks(text, &mid, own, class);
        }
    }

    fn write_handshake(&self, text: &mut String, own: &Own, setup: &str) {
        let Some(fingerprint) = own.fingerprint else { return };
        if self.offers_mux {
            let _ = write!(text, "a=rtcp-mux\r\n");
        }
        let _ = write!(text, "a=fingerprint:{fingerprint}\r\na=setup:{setup}\r\n");
    }

    /// Writes how checks of ours are answered, and the candidates (RFC 8839 §5.1): those of a host, with the priorities of RFC 8445 §5.1.2.1, all
    /// preferences at their highest.
    fn write_checks(&self, text: &mut String, mid: &str, own: &Own, class: Class) {
        let Some((fragment, password)) = &self.ice else { return };
        let Own { address, port, .. } = own;
        let is_web = class == Class::WebRtc;
        if is_web {
            let _ = write!(text, "a=mid:{mid}\r\n");
        }
        let _ = write!(text, "a=ice-ufrag:{fragment}\r\na=ice-pwd:{password}\r\n");
        let _ = write!(text, "a=candidate:1 1 UDP 2130706431 {address} {port} typ host\r\n");
        match port.checked_add(1).filter(|_| !is_web) {
            Some(rtcp) => {
                let _ = write!(text, "a=candidate:1 2 UDP 2130706430 {address} {rtcp} typ host\r\n");
            }
            None => text.push_str("a=end-of-candidates\r\n"),
        }
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
        ice: None,
        carrier: None,
        events: events_of(media),
        wishes: feedback::wishes_of(media),
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
    write_codecs(text, (answer, answered), offered.protocol, port, Some(offered));
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
    Class::of(session, media) == Some(Class::Link) || fragment_of(session, media).is_some()
}

/// Writes the line of a stream that is refused or over.
pub(super) fn write_refused(text: &mut String, media: &Media<'_>) {
    let _ = write!(text, "m={} 0 {} {}\r\n", media.kind, media.protocol, media.formats.join(" "));
}

/// `offered` is what it answers, where it does.
fn write_codecs(
    text: &mut String,
    (session, media): (&Session<'_>, &Media<'_>),
    protocol: &str,
    port: u16,
    offered: Option<&Media<'_>>,
) {
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
        if PASSED.contains(&name) || (has_feedback && SOURCES.contains(&name)) {
            let _ = write!(text, "a={line}\r\n");
        }
    }
    if has_feedback {
        feedback::write(text, media, offered);
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
