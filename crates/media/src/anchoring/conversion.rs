//! Which codecs stand for which, where the two ends of a call have none in common: what is added to an offer, and what an answer of
//! that kind becomes for who offered.

use crate::codec::Codec;
use crate::sdp::{MAX_FORMATS, Media, RtpMap, named_codec, payload_type_of};
use crate::transcode::Speech;

/// What is offered besides, the best first: its name with the rates of RFC 7587 and RFC 3551, its static payload type.
const ADDED: &[(Codec, &str, u32, Option<&str>)] = &[
    (Codec::Opus, "opus/48000/2", 48_000, None),
    (Codec::G722, "G722/8000", 8000, Some("9")),
    (Codec::Pcmu, "PCMU/8000", 8000, Some("0")),
    (Codec::Pcma, "PCMA/8000", 8000, Some("8")),
];

/// Payload types for those that have no static one.
const DYNAMIC: &[&str] =
    &["96", "97", "98", "99", "100", "102", "103", "104", "105", "106", "107", "108", "109", "110", "111", "112"];

/// The rate of the timestamps of telephone events that all phones know.
const EVENT_RATE: u32 = 8000;

/// Adds to what a stream of sound offers whatever could be converted into it. The offer stays as it is where nothing could.
pub(super) fn added<'a>(media: &Media<'a>) -> Media<'a> {
    let mut extended = media.clone();
    let is_full = media.formats.len().max(media.rtpmaps.len()) + ADDED.len() > MAX_FORMATS;
    if media.kind != "audio" || is_full || first_converted(media).is_none() {
        return extended;
    }
    for (codec, description, clock_rate, number) in ADDED {
        let is_there = payload_types(media).any(|payload_type| named_codec(media, payload_type) == Some(*codec));
        let is_free = |number: &&&str| !extended.formats.contains(*number);
        let number = number.as_ref().into_iter().chain(DYNAMIC).find(is_free);
        let (Some(number), false) = (number, is_there) else { continue };
        let Some(payload_type) = payload_type_of(number) else { continue };
        extended.formats.push(number);
        let encoding = description.split('/').next().unwrap_or_default();
        extended.rtpmaps.push(RtpMap { payload_type, description, encoding, clock_rate: *clock_rate });
    }
    extended
}

/// What each end speaks, who offered first, and the answer as who offered has to read it; `None` where they have a codec in common, or
/// none that is converted.
pub(super) fn converted<'a>(offered: &Media<'a>, answered: &Media<'a>) -> Option<(Speech, Speech, Media<'a>)> {
    // The first that is answered is the one that is spoken (RFC 3264 §6.1).
    let spoken = payload_types(answered).find_map(|payload_type| Some((payload_type, speech(answered, payload_type)?)));
    let (_, answerer) = spoken?;
    let is_common =
        payload_types(offered).any(|payload_type| named_codec(offered, payload_type) == Some(answerer.codec));
    if is_common || offered.kind != "audio" {
        return None;
    }
    let offerer = speech(offered, first_converted(offered)?)?;
    let mut answer = answered.clone();
    let has_events = answerer.events.is_some();
    let is_kept = |payload_type: u8| {
        payload_type == offerer.payload_type
            || (has_events && offerer.events.is_some_and(|(events, _)| events == payload_type))
    };
    answer.formats =
        offered.formats.iter().copied().filter(|format| payload_type_of(format).is_some_and(is_kept)).collect();
    answer.rtpmaps = offered.rtpmaps.iter().copied().filter(|map| is_kept(map.payload_type)).collect();
    answer.fmtps = offered.fmtps.iter().copied().filter(|(payload_type, _)| is_kept(*payload_type)).collect();
    // The spoken one comes first, whatever stood before it.
    answer.formats.sort_by_key(|format| payload_type_of(format) != Some(offerer.payload_type));
    // The node is the source of what is converted.
    let is_gone = |line: &&str| ["ptime:", "maxptime:", "ssrc", "msid:"].iter().any(|name| line.starts_with(name));
    answer.attributes.retain(|line| !is_gone(line));
    Some((offerer, answerer, answer))
}

/// The answer without what only we had offered.
pub(super) fn without_added<'a>(offered: &Media<'_>, answered: &Media<'a>) -> Media<'a> {
    let mut answer = answered.clone();
    let is_offered = |format: &&str| offered.formats.contains(format);
    if answer.formats.iter().any(&is_offered) {
        answer.formats.retain(is_offered);
        answer.rtpmaps.retain(|map| payload_types(offered).any(|known| known == map.payload_type));
        answer.fmtps.retain(|(payload_type, _)| payload_types(offered).any(|known| known == *payload_type));
    }
    answer
}

fn first_converted(media: &Media<'_>) -> Option<u8> {
    payload_types(media).find(|payload_type| named_codec(media, *payload_type).is_some_and(Codec::is_converted))
}

fn speech(media: &Media<'_>, payload_type: u8) -> Option<Speech> {
    let codec = named_codec(media, payload_type).filter(|codec| codec.is_converted())?;
    let clock_rate = if codec == Codec::Opus { 48_000 } else { EVENT_RATE };
    let listed = |map: &&RtpMap<'_>| {
        map.encoding.eq_ignore_ascii_case("telephone-event")
            && payload_types(media).any(|known| known == map.payload_type)
    };
    let events: Vec<&RtpMap<'_>> = media.rtpmaps.iter().filter(listed).collect();
    let best = events.iter().find(|map| map.clock_rate == clock_rate).or(events.first());
    let events = best.filter(|map| map.clock_rate > 0).map(|map| (map.payload_type, map.clock_rate));
    Some(Speech { codec, payload_type, events })
}

fn payload_types(media: &Media<'_>) -> impl Iterator<Item = u8> {
    media.formats.iter().filter_map(|format| payload_type_of(format))
}
