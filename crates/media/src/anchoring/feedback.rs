//! How ends ask each other for key frames: by PLI (RFC 4585 §6.3.1) or by FIR (RFC 5104 §4.3.1). Who offers one is offered as both to the other
//! end, and answered as itself; packets are rewritten where the ends have none in common ([`crate::relay`]).

use std::fmt::Write as _;

use crate::relay::Wishes;
use crate::sdp::Media;

/// The attribute by which receivers ask for key frames and the like (RFC 4585), which only profiles with feedback know.
const FEEDBACK: &str = "rtcp-fb";

const PICTURE_LOSS: &str = "nack pli";
const FULL_INTRA: &str = "ccm fir";

/// The wishes that an end understands.
pub(super) fn wishes_of(media: &Media<'_>) -> Wishes {
    let has = |kind: &str| wishes(media).any(|(_, known)| known == kind);
    Wishes { picture_loss: has(PICTURE_LOSS), full_intra: has(FULL_INTRA) }
}

/// Writes how feedback may be given: as the end has it, where it offers that itself; as it was `offered`, where it answers.
pub(super) fn write(text: &mut String, media: &Media<'_>, offered: Option<&Media<'_>>) {
    for value in media.values(FEEDBACK) {
        let Some((payload_type, kind)) = value.split_once(' ').filter(|(_, kind)| other(kind).is_some()) else {
            let _ = write!(text, "a={FEEDBACK}:{value}\r\n");
            continue;
        };
        let Some(other) = other(kind) else { continue };
        let has_other = wishes(media).any(|known| known == (payload_type, other));
        let was_offered = |wanted: &str| offered.is_none_or(|offered| wishes(offered).any(|(_, kind)| kind == wanted));
        if was_offered(kind) {
            let _ = write!(text, "a={FEEDBACK}:{payload_type} {kind}\r\n");
        }
        if !has_other && was_offered(other) && (offered.is_none() || !was_offered(kind)) {
            let _ = write!(text, "a={FEEDBACK}:{payload_type} {other}\r\n");
        }
    }
}

/// The wishes for key frames, with the payload types that they are for.
fn wishes<'a>(media: &Media<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    media.values(FEEDBACK).filter_map(|value| value.split_once(' ')).filter(|(_, kind)| other(kind).is_some())
}

/// What stands for the same wish.
fn other(kind: &str) -> Option<&'static str> {
    match kind {
        PICTURE_LOSS => Some(FULL_INTRA),
        FULL_INTRA => Some(PICTURE_LOSS),
        _ => None,
    }
}
