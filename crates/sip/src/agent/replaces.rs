//! Replaces (RFC 3891): which dialog a call takes the place of, and how to ask somebody for it.

use super::session::Phase;
use super::{Agent, DialogId, key};
use crate::message::{Header, Message};

/// What the Replaces field of an INVITE means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// There is none.
    Nothing,
    /// This dialog: accept the call with [`super::Acceptance::replaces`].
    Dialog(DialogId),
    /// It cannot be: refuse the call with this status.
    Refuse(u16),
}

impl Agent {
    pub(crate) fn find_replaced(&self, request: &Message) -> Replaced {
        let mut fields = request.fields(Header::Replaces);
        let Some(value) = fields.next() else { return Replaced::Nothing };
        if fields.next().is_some() {
            return Replaced::Refuse(400);
        }
        let Some(wanted) = Reference::parse(value) else { return Replaced::Refuse(400) };
        // "To" and "From" are meant as the called agent, which is us, sees them.
        let found = self.keys.get(key(wanted.call_id, wanted.to_tag, Some(wanted.from_tag)).as_str());
        let Some((id, session)) = found.and_then(|id| Some((*id, self.sessions.get(id)?))) else {
            return Replaced::Refuse(481);
        };
        match &session.phase {
            Phase::Confirmed | Phase::AnswerWanted { .. } if wanted.early_only => Replaced::Refuse(486),
            // What we placed and still rings may be replaced.
            Phase::Confirmed | Phase::AnswerWanted { .. } | Phase::Calling { .. } => Replaced::Dialog(id),
            Phase::Ringing(_) => Replaced::Refuse(481),
            // It is over (RFC 3891 §3).
            Phase::Over => Replaced::Refuse(603),
        }
    }

    /// The URI for Refer-To that makes its caller replace the other side's end of one of our dialogs.
    pub(crate) fn refer_to_replacing(&self, id: DialogId, uri: &str) -> Option<String> {
        let dialog = &self.sessions.get(&id)?.dialog;
        let remote = dialog.remote_tag.as_deref()?;
        let value = format!("{};to-tag={remote};from-tag={}", dialog.call_id, dialog.local_tag);
        let separator = if uri.contains('?') { '&' } else { '?' };
        Some(format!("{uri}{separator}Replaces={}", escaped(&value)))
    }
}

struct Reference<'a> {
    call_id: &'a str,
    to_tag: &'a str,
    from_tag: &'a str,
    early_only: bool,
}

impl<'a> Reference<'a> {
    fn parse(value: &'a str) -> Option<Reference<'a>> {
        let mut parts = value.split(';').map(str::trim);
        let call_id = parts.next().filter(|call_id| !call_id.is_empty())?;
        let (mut to_tag, mut from_tag, mut early_only) = (None, None, false);
        for part in parts {
            let (name, content) = part.split_once('=').map_or((part, ""), |(name, value)| (name.trim(), value.trim()));
            let place = match name.to_ascii_lowercase().as_str() {
                "to-tag" => &mut to_tag,
                "from-tag" => &mut from_tag,
                "early-only" => {
                    early_only = true;
                    continue;
                }
                _ => continue,
            };
            if place.replace(content).is_some() {
                return None;
            }
        }
        Some(Reference { call_id, to_tag: to_tag?, from_tag: from_tag?, early_only })
    }
}

/// Escapes what a header in a URI must not hold plainly (RFC 3261 §25.1).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()[]/?:+$".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
