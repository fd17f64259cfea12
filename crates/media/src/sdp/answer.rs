//! Offer and answer (RFC 3264) for a party that sends back whatever codec it is sent.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::parse::payload_type_of;
use super::{Connection, Direction, Media, RtpMap, SdpError, Session};
use crate::codec::Codec;

/// The only profile spoken here: plain RTP (RFC 3551).
const PROFILE: &str = "RTP/AVP";

/// Clock rate of the static audio payload types but for those of MPEG, L16 and DVI4 (RFC 3551 §6).
const TELEPHONE_CLOCK_RATE: u32 = 8000;

/// Our side of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    /// The address to be sent to.
    pub address: IpAddr,
    /// The RTP port.
    pub port: u16,
    /// The number of this session, the same in all its descriptions.
    pub session_id: u64,
    /// The number of this description, one more with each change (RFC 3264 §8).
    pub version: u64,
}

/// What both sides agreed upon for the one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// Where the peer says it receives; without an address it may only be learned from where its packets come.
    pub remote_address: Option<IpAddr>,
    /// The port there.
    pub remote_port: u16,
    /// The payload type of the codec.
    pub payload_type: u8,
    /// The codec's RTP clock rate in Hz.
    pub clock_rate: u32,
    /// The payload type of telephone events (RFC 4733).
    pub event_payload_type: Option<u8>,
    /// The direction as we see it.
    pub direction: Direction,
}

/// Answers an offer: the first audio stream over RTP/AVP is taken with its first codec and its telephone events, every other
/// stream is refused with port 0. Formats and their parameters are repeated as they were offered.
///
/// # Errors
///
/// [`SdpError::NoAudio`] where there is no such stream, [`SdpError::Address`] where it could not be sent to.
pub fn answer(offer: &Session<'_>, local: &Local) -> Result<(String, Agreement), SdpError> {
    let index = offer.media.iter().position(is_answerable).ok_or(SdpError::NoAudio)?;
    let media = offer.media.get(index).ok_or(SdpError::NoAudio)?;
    let agreement = agree(offer, media, local)?;
    let mut text = head(local, offer.timing);
    for (at, media) in offer.media.iter().enumerate() {
        if at == index {
            write_stream(&mut text, media, local, &agreement);
        } else {
            let _ = write!(text, "m={} 0 {} {}\r\n", media.kind, media.protocol, media.formats.join(" "));
        }
    }
    Ok((text, agreement))
}

/// Makes an offer, for an INVITE that brought none: PCMU, PCMA and telephone events.
pub fn offer(local: &Local) -> String {
    let mut text = head(local, "0 0");
    let _ = write!(text, "m=audio {} {PROFILE} 0 8 101\r\n", local.port);
    text.push_str("a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n");
    text.push_str("a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n");
    text
}

/// Reads the answer to [`offer`].
///
/// # Errors
///
/// As for [`answer`]: the peer took no stream.
pub fn accept(answer: &Session<'_>, local: &Local) -> Result<Agreement, SdpError> {
    let media = answer.media.first().filter(|media| is_answerable(media)).ok_or(SdpError::NoAudio)?;
    agree(answer, media, local)
}

fn is_answerable(media: &Media<'_>) -> bool {
    media.kind == "audio" && media.port != 0 && media.protocol == PROFILE && codec(media).is_some()
}

/// Finds the first format that is a codec, with its clock rate. A dynamic payload type says nothing without its rtpmap.
fn codec(media: &Media<'_>) -> Option<(u8, u32)> {
    media.formats.iter().filter_map(|format| payload_type_of(format)).find_map(|payload_type| {
        match rtpmap(media, payload_type) {
            Some(map) => is_codec(map.encoding).then_some((payload_type, map.clock_rate)),
            None => static_clock_rate(payload_type).map(|clock_rate| (payload_type, clock_rate)),
        }
    })
}

/// Returns the clock rate of a payload type, where it is known.
pub(crate) fn clock_rate(media: &Media<'_>, payload_type: u8) -> Option<u32> {
    rtpmap(media, payload_type).map(|map| map.clock_rate).or_else(|| static_clock_rate(payload_type))
}

/// Returns the codec of a payload type, where it is one that is known by name.
pub(crate) fn named_codec(media: &Media<'_>, payload_type: u8) -> Option<Codec> {
    match rtpmap(media, payload_type) {
        Some(map) => Codec::named(map.encoding),
        None => Codec::of_static(payload_type),
    }
}

fn rtpmap<'m, 'a>(media: &'m Media<'a>, payload_type: u8) -> Option<&'m RtpMap<'a>> {
    media.rtpmaps.iter().find(|map| map.payload_type == payload_type)
}

/// Events, comfort noise and redundancy go beside a codec, never alone.
fn is_codec(encoding: &str) -> bool {
    !["telephone-event", "tone", "CN", "red"].iter().any(|beside| encoding.eq_ignore_ascii_case(beside))
}

/// The static audio payload types (RFC 3551 table 4).
const fn static_clock_rate(payload_type: u8) -> Option<u32> {
    match payload_type {
        0 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 15 | 18 => Some(TELEPHONE_CLOCK_RATE),
        6 => Some(16_000),
        10 | 11 => Some(44_100),
        14 => Some(90_000),
        16 => Some(11_025),
        17 => Some(22_050),
        _ => None,
    }
}

fn agree(theirs: &Session<'_>, media: &Media<'_>, local: &Local) -> Result<Agreement, SdpError> {
    let (payload_type, clock_rate) = codec(media).ok_or(SdpError::NoAudio)?;
    let mut direction = theirs.direction_of(media).reversed();
    let remote_address = match theirs.connection_of(media) {
        // The hold of RFC 2543: the zero address means that nothing shall be sent.
        Some(Connection::Address(address)) if address.is_unspecified() => {
            direction = if direction == Direction::Inactive { direction } else { Direction::RecvOnly };
            None
        }
        Some(Connection::Address(address)) => Some(address),
        Some(Connection::Other) => None,
        None => return Err(SdpError::Malformed("there is no connection line")),
    };
    if remote_address.is_some_and(|remote| remote.is_multicast() || remote.is_ipv4() != local.address.is_ipv4()) {
        return Err(SdpError::Address);
    }
    let event = |map: &&RtpMap<'_>| {
        map.encoding.eq_ignore_ascii_case("telephone-event")
            && map.clock_rate == clock_rate
            && media.formats.iter().any(|format| payload_type_of(format) == Some(map.payload_type))
    };
    let event_payload_type = media.rtpmaps.iter().find(event).map(|map| map.payload_type);
    let remote_port = media.port;
    Ok(Agreement { remote_address, remote_port, payload_type, clock_rate, event_payload_type, direction })
}

/// Writes what stands before the media lines.
pub(crate) fn head(local: &Local, timing: &str) -> String {
    let family = if local.address.is_ipv4() { "IP4" } else { "IP6" };
    let Local { address, session_id, version, .. } = local;
    format!(
        "v=0\r\no=- {session_id} {version} IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt={timing}\r\n"
    )
}

fn write_stream(text: &mut String, media: &Media<'_>, local: &Local, agreement: &Agreement) {
    let formats = [Some(agreement.payload_type), agreement.event_payload_type];
    let _ = write!(text, "m=audio {} {PROFILE}", local.port);
    for format in formats.into_iter().flatten() {
        let _ = write!(text, " {format}");
    }
    text.push_str("\r\n");
    for format in formats.into_iter().flatten() {
        if let Some(map) = rtpmap(media, format) {
            let _ = write!(text, "a=rtpmap:{format} {}\r\n", map.description);
        }
        if let Some((_, parameters)) = media.fmtps.iter().find(|(payload_type, _)| *payload_type == format) {
            let _ = write!(text, "a=fmtp:{format} {parameters}\r\n");
        }
    }
    let _ = write!(text, "a={}\r\n", agreement.direction.as_str());
}
