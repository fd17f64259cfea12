//! What one side's session description becomes for the other: the same, as long as media goes from phone to phone. Where the node
//! carries the media, this side's addresses, ports and keys make place for our own here, and nowhere else.

use meshtone_media::digit::Digit;
use meshtone_media::io::{AnchoredCall, MediaError};
use meshtone_media::relay::{End, Pressed};
use meshtone_sip::agent::Body;
use meshtone_sip::message::{Header, Message};

use super::Side;

const SDP: &str = "application/sdp";

/// What a description is to who gets it (RFC 3264).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Offer,
    Answer,
}

/// Why a description does not pass.
#[derive(Debug)]
pub(super) struct Uncarried {
    /// What it is refused with.
    pub(super) status: u16,
    /// What of this node's media is used up, if that is it.
    pub(super) limit: Option<String>,
}

impl From<&MediaError> for Uncarried {
    fn from(error: &MediaError) -> Uncarried {
        Uncarried { status: error.status(), limit: error.is_limit().then(|| error.to_string()) }
    }
}

/// The description of a side for the other one.
pub(super) fn passed(media: Option<&mut AnchoredCall>, from: Side, role: Role, body: &Body) -> Result<Body, Uncarried> {
    let Some(media) = media else { return Ok(body.clone()) };
    if !is_sdp(&body.content_type) {
        return Err(Uncarried { status: 415, limit: None });
    }
    let written = match role {
        Role::Offer => media.offer(end_of(from), &body.content),
        Role::Answer => media.answer(end_of(from), &body.content),
    };
    written.map(|text| Body::sdp(&text)).map_err(|error| {
        tracing::info!(%error, ?from, ?role, "a description cannot be carried");
        Uncarried::from(&error)
    })
}

/// Has the media face a side as it describes itself; true if what it was offered is void by that.
pub(super) fn follow(media: Option<&mut AnchoredCall>, from: Side, body: &Body) -> bool {
    let Some(media) = media.filter(|_| is_sdp(&body.content_type)) else { return false };
    let followed = media.follow(end_of(from), &body.content);
    followed
        .inspect_err(|error| tracing::info!(%error, ?from, "a side cannot be faced as it describes itself"))
        .unwrap_or(false)
}

/// Passes a digit that a side says in an INFO as its phone would send it beside the sound, and gives what answers the INFO; `None` where
/// it is none, or the other side takes digits by INFO alone.
pub(super) fn press(media: Option<&mut AnchoredCall>, from: Side, request: &Message) -> Option<(u16, &'static str)> {
    let media = media.filter(|_| request.header(Header::ContentType).is_some_and(Digit::is_body))?;
    match media.press(end_of(from.other()), Digit::parse(request.body())?) {
        Pressed::Sent => Some((200, "OK")),
        Pressed::TooMany => Some((503, "Too many digits at once")),
        Pressed::NoEvents => None,
    }
}

/// What a side is to be offered that has refused the sound of what it was offered; `None` where there is nothing more to offer.
pub(super) fn more(media: Option<&mut AnchoredCall>, from: Side, body: &Body) -> Result<Option<Body>, Uncarried> {
    let Some(media) = media.filter(|_| is_sdp(&body.content_type)) else { return Ok(None) };
    let more = media.offer_more(end_of(from), &body.content);
    more.map(|more| more.map(|text| Body::sdp(&text))).map_err(|error| {
        tracing::info!(%error, ?from, "what a side refuses cannot be converted");
        Uncarried::from(&error)
    })
}

/// The last offer, for the side that is to be told it again.
pub(super) fn offer_again(media: Option<&mut AnchoredCall>) -> Option<Body> {
    Some(Body::sdp(&media?.offer_again().ok()?))
}

/// The description in a message; bodies of other kinds are nobody's business but the hop's.
pub(super) fn of(message: &Message) -> Option<Body> {
    let kind = message.header(Header::ContentType)?;
    let is_description = is_sdp(kind) || media_type(kind).starts_with("multipart/");
    (is_description && !message.body().is_empty()).then(|| Body::new(kind, message.body()))
}

fn end_of(side: Side) -> End {
    match side {
        Side::Near => End::Near,
        Side::Far => End::Far,
    }
}

fn is_sdp(content_type: &str) -> bool {
    media_type(content_type) == SDP
}

fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
