//! One stream of a description: how it is protected, and how its lines are written for the other end.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{OwnKeys, Profile};
use crate::relay::{DEFAULT_CLOCK_RATE, Protection, Terms};
use crate::sdes::Crypto;
use crate::sdp::{Connection, Direction, Media, SdpError, Session, clock_rate, payload_type_of};
use crate::srtp::Suite;

/// Attributes that pass because they say what is sent, not where; rtpmap, fmtp and the direction are read by themselves.
const PASSED: &[&str] = &["ptime", "maxptime", "framerate", "framesize", "label", "content", "lang", "imageattr"];

/// The attribute by which receivers ask for key frames and the like (RFC 4585), which only profiles with feedback know.
const FEEDBACK: &str = "rtcp-fb";

/// How a stream is protected, by its profile and what stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Not at all.
    Plain,
    /// As the answer likes: keys beside a profile without protection.
    Optional,
    /// By keys in the description.
    Sdes,
}

impl Class {
    /// The class of a line; `None` where it is nothing that can be carried.
    pub(super) fn of(media: &Media<'_>) -> Option<Class> {
        let has_key = media.values("crypto").any(|value| Crypto::parse(value).is_some());
        if !matches!(media.kind, "audio" | "video") {
            return None;
        }
        match media.protocol {
            "RTP/AVP" | "RTP/AVPF" if has_key => Some(Class::Optional),
            "RTP/AVP" | "RTP/AVPF" => Some(Class::Plain),
            "RTP/SAVP" | "RTP/SAVPF" if has_key => Some(Class::Sdes),
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
}

impl Line {
    pub(super) fn new(profile: Profile) -> Line {
        Line { profile, spoken: None, offered: Class::Plain, keys: OwnKeys::default() }
    }

    /// Writes the lines of a stream that is offered to this end.
    pub(super) fn write_offer(
        &mut self,
        text: &mut String,
        session: &Session<'_>,
        media: &Media<'_>,
        port: u16,
        fill: &mut dyn FnMut(&mut [u8]),
    ) {
        let (protocol, class) = match (&self.spoken, self.profile) {
            (Some((protocol, class)), _) => (protocol.clone(), *class),
            (None, Profile::Optional) => ("RTP/AVP".to_owned(), Class::Optional),
            (None, Profile::Sdes) => ("RTP/SAVP".to_owned(), Class::Sdes),
        };
        self.offered = class;
        write_codecs(text, (session, media), &protocol, port);
        if class != Class::Plain {
            for (suite, tag) in Suite::ALL.into_iter().zip(1..) {
                let line = Crypto { tag, key: self.keys.get(suite, fill) };
                let _ = write!(text, "a=crypto:{}\r\n", line.to_value());
            }
        }
    }

    /// The keys that this end's answer has chosen among those that we offered.
    pub(super) fn protection_answered(&self, answered: &Media<'_>) -> Result<Option<Protection>, SdpError> {
        let chosen = answered.values("crypto").find_map(Crypto::parse).filter(|_| self.offered != Class::Plain);
        let protection = chosen.and_then(|chosen| {
            let index = usize::try_from(chosen.tag).ok()?.checked_sub(1)?;
            let suite = *Suite::ALL.get(index).filter(|suite| **suite == chosen.key.suite())?;
            Some(Protection { ours: self.keys.known(suite)?, theirs: chosen.key })
        });
        match (self.offered, protection) {
            (Class::Sdes, None) => Err(SdpError::NoAudio),
            (Class::Plain | Class::Optional | Class::Sdes, protection) => Ok(protection),
        }
    }

    /// The keys for what this end offered: its first line that is known here, and ours. With them the line of the answer.
    pub(super) fn protection_offered(
        &mut self,
        class: Class,
        offered: &Media<'_>,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Option<(Crypto, Protection)> {
        if class == Class::Plain {
            return None;
        }
        let theirs = offered.values("crypto").find_map(Crypto::parse)?;
        let ours = self.keys.get(theirs.key.suite(), fill);
        let line = Crypto { tag: theirs.tag, key: ours.clone() };
        Some((line, Protection { ours, theirs: theirs.key }))
    }
}

/// What one end's line means for the relay, next to the other end's.
pub(super) fn terms(
    (session, media): (&Session<'_>, &Media<'_>),
    (other_session, other): (&Session<'_>, &Media<'_>),
    protection: Option<Protection>,
    is_ipv4: bool,
) -> Result<Terms, SdpError> {
    let remote = match session.connection_of(media) {
        Some(Connection::Address(address)) if address.is_unspecified() => None,
        Some(Connection::Address(address)) if address.is_multicast() || address.is_ipv4() != is_ipv4 => {
            return Err(SdpError::Address);
        }
        Some(Connection::Address(address)) => Some(address),
        Some(Connection::Other) => None,
        None => return Err(SdpError::Malformed("there is no connection line")),
    };
    // Its own port, unless it is the last there is (RFC 3550 §11).
    let rtcp = media.rtcp.or(media.port.checked_add(1));
    let sends = direction(session, media).sends() && direction(other_session, other).receives();
    let mut formats = Vec::new();
    for media in [media, other] {
        for payload_type in media.formats.iter().filter_map(|format| payload_type_of(format)) {
            if !formats.iter().any(|(known, _)| *known == payload_type) {
                formats.push((payload_type, clock_rate(media, payload_type).unwrap_or(DEFAULT_CLOCK_RATE)));
            }
        }
    }
    Ok(Terms {
        remote: remote.map(|address| SocketAddr::new(address, media.port)),
        remote_rtcp: remote.zip(rtcp).map(|(address, port)| SocketAddr::new(address, port)),
        sends,
        formats,
        protection,
    })
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
        if PASSED.contains(&name) || (has_feedback && name == FEEDBACK) {
            let _ = write!(text, "a={line}\r\n");
        }
    }
    let _ = write!(text, "a={}\r\n", direction(session, media).as_str());
}

/// A stream's direction, with the hold of RFC 2543: who is at the zero address receives nothing.
fn direction(session: &Session<'_>, media: &Media<'_>) -> Direction {
    let said = session.direction_of(media);
    match session.connection_of(media) {
        Some(Connection::Address(address)) if address.is_unspecified() => {
            if said.sends() {
                Direction::SendOnly
            } else {
                Direction::Inactive
            }
        }
        Some(Connection::Address(_) | Connection::Other) | None => said,
    }
}
