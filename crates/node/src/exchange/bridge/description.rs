//! What one side's session description becomes for the other: the same, as long as media goes from phone to phone. A node that
//! carries the media puts its own addresses in here, and nowhere else.

use meshtone_sip::agent::Body;
use meshtone_sip::message::{Header, Message};

use super::Side;

/// The description of a side for the side it is going to.
pub(super) fn towards(_side: Side, body: &Body) -> Body {
    body.clone()
}

/// The description in a message; bodies of other kinds are nobody's business but the hop's.
pub(super) fn of(message: &Message) -> Option<Body> {
    let kind = message.header(Header::ContentType)?;
    let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_description = media == "application/sdp" || media.starts_with("multipart/");
    (is_description && !message.body().is_empty()).then(|| Body::new(kind, message.body()))
}
