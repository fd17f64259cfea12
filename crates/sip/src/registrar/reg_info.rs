//! What subscribers to the event package `reg` are told of an address (RFC 3680): `application/reginfo+xml`.
//!
//! Documents only; subscriptions and their dialogs are the node's.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

use super::{Binding, FULL_PREFERENCE};

/// The media type of the documents.
pub const MEDIA_TYPE: &str = "application/reginfo+xml";

/// The name of the event package.
pub const EVENT: &str = "reg";

/// Why contacts are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// By the phone, or because their time was over: each contact tells which.
    Usual,
    /// By whoever runs the node: phones may not come back.
    Rejected,
}

/// Whether a subscriber who knows `before` wants to know `after`. A mere refresh is no news.
pub fn is_news(before: &[Binding], after: &[Binding]) -> bool {
    before.len() != after.len() || after.iter().any(|binding| event(before, binding) != Some("registered"))
}

/// The state of an address, `after`, for a subscriber who knows `before`: every contact, and those that are gone.
///
/// Always in full. A part of the state would be worth nothing if the NOTIFY before it was overtaken by another change, and
/// an address has ten contacts at most.
pub fn document(
    now_ms: u64,
    version: u32,
    address: &str,
    before: &[Binding],
    after: &[Binding],
    removal: Removal,
) -> String {
    let mut contacts = String::new();
    for binding in after {
        contacts.push_str(&contact(now_ms, binding, "active", event(before, binding).unwrap_or("registered")));
    }
    for gone in before.iter().filter(|known| !after.iter().any(|binding| is_same(known, binding))) {
        let event = match removal {
            Removal::Rejected => "rejected",
            Removal::Usual if gone.expires_ms <= now_ms => "expired",
            Removal::Usual => "unregistered",
        };
        contacts.push_str(&contact(now_ms, gone, "terminated", event));
    }
    let state = match (before.is_empty(), after.is_empty()) {
        (_, false) => "active",
        (true, true) => "init",
        (false, true) => "terminated",
    };
    let id = id(&[address]);
    let address = escaped(address);
    format!(
        "<?xml version=\"1.0\"?>\n<reginfo xmlns=\"urn:ietf:params:xml:ns:reginfo\" version=\"{version}\" \
         state=\"full\">\n<registration aor=\"sip:{address}\" id=\"{id}\" state=\"{state}\">\n{contacts}\
         </registration>\n</reginfo>\n"
    )
}

/// What happened to a contact last; `None`: it is new.
fn event(before: &[Binding], binding: &Binding) -> Option<&'static str> {
    let known = before.iter().find(|known| is_same(known, binding))?;
    Some(if binding.expires_ms < known.expires_ms {
        "shortened"
    } else if known.contact != binding.contact || known.q != binding.q {
        "refreshed"
    } else {
        "registered"
    })
}

/// Whether both are one contact: the same flow of the same instance, or else the same URI.
fn is_same(one: &Binding, other: &Binding) -> bool {
    identity(one) == identity(other)
}

fn identity(binding: &Binding) -> (Option<&str>, Option<u32>, &str) {
    match (&binding.instance, binding.reg_id) {
        (Some(instance), Some(reg_id)) => (Some(instance), Some(reg_id), ""),
        _ => (None, None, &binding.contact),
    }
}

fn contact(now_ms: u64, binding: &Binding, state: &str, event: &str) -> String {
    let (instance, reg_id, uri) = identity(binding);
    let id = id(&[instance.unwrap_or_default(), &reg_id.map(|id| id.to_string()).unwrap_or_default(), uri]);
    let left = binding.expires_ms.saturating_sub(now_ms).div_ceil(1000);
    let mut text = format!("<contact id=\"{id}\" state=\"{state}\" event=\"{event}\" expires=\"{left}\"");
    if binding.q != FULL_PREFERENCE {
        text.push_str(&format!(" q=\"0.{:03}\"", binding.q.min(FULL_PREFERENCE - 1)));
    }
    text.push_str(&format!(" callid=\"{}\" cseq=\"{}\">\n", escaped(&binding.call_id), binding.cseq));
    text.push_str(&format!("<uri>{}</uri>\n", escaped(&binding.contact)));
    if let Some(instance) = &binding.instance {
        text.push_str(&format!("<unknown-param name=\"+sip.instance\">{}</unknown-param>\n", escaped(instance)));
    }
    text.push_str("</contact>\n");
    text
}

/// An XML name that is the same for the same thing in every document.
fn id(parts: &[&str]) -> String {
    let hash = HEXLOWER.encode(digest(&SHA256, parts.join("\n").as_bytes()).as_ref());
    format!("r{}", hash.get(..16).unwrap_or_default())
}

/// Text for an element or an attribute in double quotes; what XML cannot hold is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}
