//! The 200 to a REGISTER (RFC 3261 §10.3 item 8, RFC 3327 §5.3, RFC 3608 §5, RFC 5626 §6, RFC 5627 §5.2).

use super::gruu::GruuKey;
use super::{Binding, FULL_PREFERENCE, Feature, is_first_hop, is_outbound, supports};
use crate::date;
use crate::message::{Builder, Header, Message, Uri};
use crate::text::push_number;

/// How often a phone should show that its flow lives, seconds (RFC 5626 §4.4.1: 120 for connections). A listener that
/// closes idle connections must wait longer.
const FLOW_TIMER_S: u32 = 120;

/// Room for the parameters of most contacts: `expires`, an instance and its `reg-id`.
const CONTACT_PARAMS_LEN: usize = 96;

/// What the answer grants besides the bindings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Grants<'a> {
    /// The address-of-record, `user@domain`, and what seals its temporary GRUUs; without it there are no GRUUs.
    pub gruu: Option<(&'a str, &'a GruuKey)>,
    /// The tag of To, as [`Server::to_tag`](crate::server::Server::to_tag) gives it; without one the server adds it afterwards, to a copy.
    pub to_tag: Option<&'a str>,
    /// Routes for the phone's own requests (RFC 3608): one value, for a phone behind proxies.
    pub service_route: Option<&'a str>,
}

/// The 200 to a REGISTER: all current contacts, each with the seconds it has left.
pub fn ok(now_ms: u64, bindings: &[Binding], request: &Message, grants: Grants<'_>) -> Message {
    let mut builder = Builder::response(request, 200, "");
    if let Some(tag) = grants.to_tag {
        builder.put_to_tag(tag);
    }
    // A GRUU is an instance's, and few contacts name theirs.
    let has_instance = bindings.iter().any(|binding| binding.instance.is_some());
    let gruu = grants.gruu.filter(|_| has_instance && supports(request, "gruu"));
    for binding in bindings.iter().filter(|binding| binding.expires_ms > now_ms) {
        let mut value = contact(now_ms, binding);
        if let Some((address, key)) = gruu
            && let Some(gruu) = binding.public_gruu(address, scheme(request))
        {
            value.push_str(&format!(";pub-gruu=\"{gruu}\""));
            if let Some(temporary) = key.issue(now_ms, address, binding, scheme(request)) {
                value.push_str(&format!(";temp-gruu=\"{temporary}\""));
            }
        }
        builder.put(Header::Contact, &value);
    }
    for proxy in request.fields(Header::Path) {
        builder.put(Header::Path, proxy);
    }
    if let Some(route) = grants.service_route {
        builder.put(Header::ServiceRoute, route);
    }
    if is_outbound(request) {
        builder.put(Header::Require, "outbound");
        if is_first_hop(request) {
            builder = builder.header_named("Flow-Timer", &FLOW_TIMER_S.to_string());
        }
    }
    builder.put(Header::Supported, "path, outbound, gruu");
    builder.put(Header::Date, date::HttpDate::new(now_ms / 1000).as_str());
    builder.finish()
}

fn contact(now_ms: u64, binding: &Binding) -> String {
    // Rounded up, so that no phone hears 0 for a contact that it still has.
    let left = (binding.expires_ms - now_ms).div_ceil(1000);
    let mut value = String::with_capacity(binding.contact.len() + CONTACT_PARAMS_LEN);
    value.extend(["<", &binding.contact, ">;expires="]);
    push_number(&mut value, left);
    if binding.q != FULL_PREFERENCE {
        value.push_str(&format!(";q=0.{:03}", binding.q.min(FULL_PREFERENCE - 1)));
    }
    if let Some(instance) = &binding.instance {
        value.extend([";+sip.instance=", instance]);
    }
    if let Some(reg_id) = binding.reg_id {
        value.push_str(";reg-id=");
        push_number(&mut value, reg_id);
    }
    for feature in &binding.features {
        value.push_str(&feature.to_param());
    }
    value
}

/// `sips` where the phone registers a `sips` address.
fn scheme(request: &Message) -> &'static str {
    let is_sips = request.to().is_ok_and(|to| Uri::parse(to.uri).is_ok_and(|to| to.is_sips()));
    if is_sips { "sips" } else { "sip" }
}

impl Feature {
    /// The parameter as it is written in Contact, with its semicolon.
    fn to_param(&self) -> String {
        let plus = if super::BASE_TAGS.contains(&self.name.as_str()) { "" } else { "+" };
        match &self.value {
            Some(value) => format!(";{plus}{}=\"{value}\"", self.name),
            None => format!(";{plus}{}", self.name),
        }
    }
}
