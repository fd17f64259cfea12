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
        let value = value(&dialog.call_id, remote, &dialog.local_tag);
        let separator = if uri.contains('?') { '&' } else { '?' };
        Some(format!("{uri}{separator}Replaces={}", escaped(&value)))
    }
}

impl Agent {
    /// What Replaces names one of our dialogs by towards the other side, and what the other side has it named by towards us.
    pub(crate) fn replaces_values(&self, id: DialogId) -> Option<(String, String)> {
        let dialog = &self.sessions.get(&id)?.dialog;
        let (local, remote) = (dialog.local_tag.as_str(), dialog.remote_tag.as_deref()?);
        Some((value(&dialog.call_id, remote, local), value(&dialog.call_id, local, remote)))
    }
}

/// Returns the URI of a Refer-To with another dialog in its Replaces, where `map` knows one in the place of that which it names. All else,
/// and what is not understood, stays as it is.
pub fn with_replaces_mapped(uri: &str, map: impl Fn(&str) -> Option<String>) -> String {
    let Some((address, headers)) = uri.split_once('?') else { return uri.to_owned() };
    let mapped = |header: &str| {
        let (name, escaped_value) = header.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("Replaces"))?;
        let text = percent_decode(escaped_value)?;
        let named = Reference::parse(&text)?;
        let other = map(&value(named.call_id, named.to_tag, named.from_tag))?;
        let early_only = if named.early_only { ";early-only" } else { "" };
        Some(format!("{name}={}", escaped(&(other + early_only))))
    };
    let headers: Vec<String> =
        headers.split('&').map(|header| mapped(header).unwrap_or_else(|| header.to_owned())).collect();
    format!("{address}?{}", headers.join("&"))
}

/// The value of a Replaces field (RFC 3891 §6.1).
fn value(call_id: &str, to_tag: &str, from_tag: &str) -> String {
    format!("{call_id};to-tag={to_tag};from-tag={from_tag}")
}

/// The text behind escapes; `None` where they are broken or hide what is no text.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        out.push(if byte == b'%' { digit(bytes.next())? << 4 | digit(bytes.next())? } else { byte });
    }
    String::from_utf8(out).ok().filter(|text| !text.chars().any(char::is_control))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_referral_names_the_dialog_that_is_known_in_the_place_of_the_named_one() {
        let map = |value: &str| (value == "a@b;to-tag=1;from-tag=2").then(|| "c;to-tag=3;from-tag=4".to_owned());
        for (uri, mapped) in [
            ("sip:x@y?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2", "sip:x@y?Replaces=c%3Bto-tag%3D3%3Bfrom-tag%3D4"),
            (
                "sip:x@y;p?Subject=s&replaces=a%40b%3Bfrom-tag%3D2%3Bto-tag%3D1%3Bearly-only&Require=replaces",
                "sip:x@y;p?Subject=s&replaces=c%3Bto-tag%3D3%3Bfrom-tag%3D4%3Bearly-only&Require=replaces",
            ),
        ] {
            assert_eq!(with_replaces_mapped(uri, map), mapped);
        }
        for uri in [
            "sip:x@y",
            "sip:x@y?Replaces=other%3Bto-tag%3D1%3Bfrom-tag%3D2",
            "sip:x@y?Replaces=a%4",
            "sip:x@y?Replaces=a%0D%0A",
            "sip:x@y?Replaces",
            "sip:x@y?",
        ] {
            assert_eq!(with_replaces_mapped(uri, map), uri);
        }
    }
}
