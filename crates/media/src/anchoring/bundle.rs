//! Several streams over one transport (RFC 8843), as browsers have them: which of a description's streams share one, and how that is said.

use super::line::Class;
use crate::sdp::{Media, SdpError, Session, payload_type_of};

/// The port that stands for one where all of a stream comes and goes elsewhere (RFC 863).
const ELSEWHERE: u16 = 9;

/// Reads a description. A stream that is there only together with others has no port of its own (RFC 8843 §6), and is there all the same.
pub(super) fn read(text: &[u8]) -> Result<Session<'_>, SdpError> {
    let mut session = Session::parse(text)?;
    let members = members(&session);
    for (index, media) in session.media.iter_mut().enumerate() {
        if media.port == 0 && members.contains(&index) && media.attributes.contains(&"bundle-only") {
            media.port = ELSEWHERE;
        }
    }
    Ok(session)
}

/// The streams that an end has over the transport of the first of them; none where each has its own.
pub(super) fn shared(session: &Session<'_>) -> Vec<usize> {
    let is_there =
        |index: &usize| session.media.get(*index).is_some_and(|media| media.port != 0 && is_web(session, media));
    let shared: Vec<usize> = members(session).into_iter().filter(is_there).collect();
    let are_distinct = are_distinct(session, &shared);
    if shared.len() < 2 || !are_distinct { Vec::new() } else { shared }
}

/// The streams of an offer that could share a transport at the other end: those told apart by their payload types alone, which is all that
/// is looked at here.
pub(super) fn sharable(session: &Session<'_>) -> Vec<usize> {
    let carried: Vec<usize> = (0..session.media.len())
        .filter(|index| {
            session.media.get(*index).is_some_and(|media| media.port != 0 && Class::of(session, media).is_some())
        })
        .collect();
    if carried.len() < 2 || !are_distinct(session, &carried) { Vec::new() } else { carried }
}

/// The line that says which streams share a transport.
pub(super) fn group(mids: &[String]) -> String {
    if mids.len() < 2 { String::new() } else { format!("a=group:BUNDLE {}\r\n", mids.join(" ")) }
}

/// What a stream is called.
pub(super) fn mid<'a>(media: &Media<'a>) -> Option<&'a str> {
    media
        .values("mid")
        .next()
        .filter(|mid| (1..=64).contains(&mid.len()) && mid.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// The streams of the first group, in its order.
fn members(session: &Session<'_>) -> Vec<usize> {
    let group = session.attributes.iter().find_map(|line| line.strip_prefix("group:BUNDLE"));
    let named = |name: &str| session.media.iter().position(|media| mid(media) == Some(name));
    let mut members: Vec<usize> = group.into_iter().flat_map(str::split_whitespace).filter_map(named).collect();
    let mut seen = Vec::new();
    members.retain(|index| {
        !seen.contains(index) && {
            seen.push(*index);
            true
        }
    });
    members
}

fn is_web(session: &Session<'_>, media: &Media<'_>) -> bool {
    Class::of(session, media) == Some(Class::WebRtc)
}

fn are_distinct(session: &Session<'_>, streams: &[usize]) -> bool {
    let media = streams.iter().filter_map(|index| session.media.get(*index));
    let mut types: Vec<u8> =
        media.flat_map(|media| media.formats.iter().filter_map(|format| payload_type_of(format))).collect();
    let count = types.len();
    types.sort_unstable();
    types.dedup();
    types.len() == count
}
