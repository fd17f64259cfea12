//! The parser: one pass over the lines, each of the form `letter=value`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Connection, Direction, MAX_ATTRIBUTES, MAX_FORMATS, MAX_MEDIA, MAX_SDP_LEN, Media, RtpMap, SdpError, Session,
};

pub(super) fn session(text: &[u8]) -> Result<Session<'_>, SdpError> {
    if text.len() > MAX_SDP_LEN {
        return Err(SdpError::TooLarge);
    }
    let text = std::str::from_utf8(text).map_err(|_| SdpError::Malformed("it is not UTF-8"))?;
    let mut lines =
        text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).filter(|line| !line.is_empty());
    if lines.next() != Some("v=0") {
        return Err(SdpError::Malformed("it does not begin with v=0"));
    }
    let mut session =
        Session { timing: "", connection: None, direction: None, attributes: Vec::new(), media: Vec::new() };
    let mut attributes = 0;
    for line in lines {
        if line.contains(['\r', '\0']) {
            return Err(SdpError::Malformed("a control character"));
        }
        let (letter, value) = line.split_once('=').ok_or(SdpError::Malformed("a line without ="))?;
        match letter {
            "m" if session.media.len() == MAX_MEDIA => return Err(SdpError::TooMany),
            "m" => session.media.push(media(value)?),
            "c" => {
                let connection = Some(connection(value)?);
                match session.media.last_mut() {
                    // Further lines are for layers of a multicast.
                    Some(media) => media.connection = media.connection.or(connection),
                    None => session.connection = session.connection.or(connection),
                }
            }
            "t" if session.timing.is_empty() => session.timing = timing(value)?,
            "a" => {
                attributes += 1;
                if attributes > MAX_ATTRIBUTES {
                    return Err(SdpError::TooMany);
                }
                attribute(&mut session, value)?;
            }
            _ if letter.len() == 1 => {}
            _ => return Err(SdpError::Malformed("a line that begins with more than a letter")),
        }
    }
    if session.timing.is_empty() {
        session.timing = "0 0";
    }
    Ok(session)
}

fn media(value: &str) -> Result<Media<'_>, SdpError> {
    const MALFORMED: SdpError = SdpError::Malformed("a media line");
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    let (kind, port, protocol) = match (words.next(), words.next(), words.next()) {
        (Some(kind), Some(port), Some(protocol)) => (kind, port, protocol),
        _ => return Err(MALFORMED),
    };
    // A number of ports behind a slash is for layered streams; only the first is of interest.
    let port = port.split_once('/').map_or(port, |(port, _)| port);
    let formats: Vec<&str> = words.by_ref().take(MAX_FORMATS).collect();
    if words.next().is_some() {
        return Err(SdpError::TooMany);
    }
    if formats.is_empty() {
        return Err(MALFORMED);
    }
    Ok(Media {
        kind,
        port: decimal(port).and_then(|port| u16::try_from(port).ok()).ok_or(MALFORMED)?,
        protocol,
        formats,
        connection: None,
        direction: None,
        rtpmaps: Vec::new(),
        fmtps: Vec::new(),
        rtcp: None,
        attributes: Vec::new(),
    })
}

fn connection(value: &str) -> Result<Connection, SdpError> {
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    let (Some(network), Some(family), Some(address)) = (words.next(), words.next(), words.next()) else {
        return Err(SdpError::Malformed("a connection line"));
    };
    let address = address.split_once('/').map_or(address, |(address, _)| address);
    let address = match (network, family) {
        ("IN", "IP4") => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        ("IN", "IP6") => address.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical()),
        _ => None,
    };
    Ok(address.map_or(Connection::Other, Connection::Address))
}

fn timing(value: &str) -> Result<&str, SdpError> {
    let is_timing = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b' ') && !value.is_empty();
    is_timing.then_some(value).ok_or(SdpError::Malformed("a timing line"))
}

fn attribute<'a>(session: &mut Session<'a>, line: &'a str) -> Result<(), SdpError> {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    if let Some(direction) = Direction::from_name(name) {
        match session.media.last_mut() {
            Some(media) => media.direction = Some(direction),
            None => session.direction = Some(direction),
        }
        return Ok(());
    }
    let Some(media) = session.media.last_mut() else {
        session.attributes.push(line);
        return Ok(());
    };
    match name {
        "rtpmap" => {
            if media.rtpmaps.len() == MAX_FORMATS {
                return Err(SdpError::TooMany);
            }
            media.rtpmaps.push(rtpmap(value).ok_or(SdpError::Malformed("an rtpmap"))?);
        }
        "fmtp" => {
            if media.fmtps.len() == MAX_FORMATS {
                return Err(SdpError::TooMany);
            }
            // Formats that are no payload types have parameters of their own kind.
            if let Some((payload_type, parameters)) = value.split_once(' ')
                && let Some(payload_type) = payload_type_of(payload_type)
            {
                media.fmtps.push((payload_type, parameters));
            }
        }
        "rtcp" => {
            let port = value.split_once(' ').map_or(value, |(port, _)| port);
            let port = decimal(port).and_then(|port| u16::try_from(port).ok());
            media.rtcp = Some(port.ok_or(SdpError::Malformed("an rtcp attribute"))?);
        }
        _ => media.attributes.push(line),
    }
    Ok(())
}

fn rtpmap(value: &str) -> Option<RtpMap<'_>> {
    let (payload_type, description) = value.split_once(' ')?;
    let description = description.trim_matches(' ');
    let (encoding, rest) = description.split_once('/')?;
    let clock_rate = decimal(rest.split_once('/').map_or(rest, |(clock_rate, _)| clock_rate))?;
    (!encoding.is_empty() && clock_rate > 0).then_some(())?;
    Some(RtpMap { payload_type: payload_type_of(payload_type)?, description, encoding, clock_rate })
}

/// Reads a payload type, which has seven bits.
pub(crate) fn payload_type_of(format: &str) -> Option<u8> {
    decimal(format).and_then(|number| u8::try_from(number).ok()).filter(|number| *number < 128)
}

/// Reads digits only; `str::parse` would take a plus sign too.
fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
