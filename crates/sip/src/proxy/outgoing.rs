//! The copy of a request that goes to one target (RFC 3261 §16.6 items 1 to 8).

use super::Target;
use super::flow_token::TokenKey;
use crate::message::{Header, Message, Method, NameAddr, Uri};
use crate::text::Decimal;
use crate::transport::{Destination, Flow, Locals};

/// What Max-Forwards becomes where there was none (RFC 3261 §16.6 item 3).
const MAX_FORWARDS: u8 = 70;

/// Whether we want to stay in the path of what follows a request (RFC 3261 §16.6 item 4): it may open a dialog. One
/// within a dialog changes no route set, but for the NOTIFY that may be the first to arrive (RFC 6665 §4.4.1).
pub(crate) fn wants_record_route(request: &Message) -> bool {
    match request.method() {
        Method::Invite | Method::Subscribe | Method::Refer => request.to().is_ok_and(|to| to.tag().is_none()),
        Method::Notify => true,
        Method::Ack
        | Method::Bye
        | Method::Cancel
        | Method::Register
        | Method::Options
        | Method::Info
        | Method::Update
        | Method::Prack
        | Method::Publish
        | Method::Message
        | Method::Other => false,
    }
}

/// Max-Forwards of the copy; `None` when the request must go no further.
pub(crate) fn next_max_forwards(request: &Message) -> Option<u8> {
    match request.max_forwards() {
        Ok(None) => Some(MAX_FORWARDS),
        Ok(Some(hops)) => hops.checked_sub(1),
        Err(_) => None,
    }
}

/// What the copy says beside its target.
pub(crate) struct Leg<'a> {
    /// Where the request came from.
    pub(crate) upstream: &'a Flow,
    /// Branch of our Via.
    pub(crate) branch: &'a str,
    pub(crate) max_forwards: u8,
    /// Max-Breadth; none where nothing is forked.
    pub(crate) max_breadth: Option<u32>,
    /// History-Info values to add.
    pub(crate) history: &'a [String],
}

/// Writes the copy of `request` for one target.
pub(crate) fn copy_for(
    request: &Message,
    target: &Target,
    leg: &Leg<'_>,
    locals: &dyn Locals,
    tokens: &TokenKey,
) -> Message {
    let mut editor = request.edit();
    let sent_by = locals.sent_by(&target.destination);
    editor.request_uri(&target.uri).set(Header::MaxForwards, Decimal::from(leg.max_forwards).as_str());
    if let Some(breadth) = leg.max_breadth {
        editor.set(Header::MaxBreadth, Decimal::from(breadth).as_str());
    }
    if wants_record_route(request) {
        // Always two, even where the transports are the same: each carries the flow of its own side, and which one a
        // request pops last tells its direction (RFC 5658 §3, RFC 5626 §5.2). The callee's side goes on top.
        let call_id = request.call_id();
        let caller_side = Destination::Flow(leg.upstream.clone());
        let caller_sent_by = locals.sent_by(&caller_side);
        for (side, sent_by) in [(&caller_side, &caller_sent_by), (&target.destination, &sent_by)] {
            let token = tokens.issue(side, call_id);
            let transport = side.transport().uri_param();
            editor.prepend_parts(
                Header::RecordRoute,
                &["<sip:", token.as_str(), "@", sent_by, ";transport=", transport, ";lr>"],
            );
        }
    }
    for entry in leg.history {
        editor.append(Header::HistoryInfo, entry);
    }
    for header in &target.remove {
        editor.remove(*header);
    }
    for (header, value) in &target.extra {
        editor.append(*header, value);
    }
    let first_route = target.prepend_route.as_deref().or_else(|| request.values(Header::Route).next());
    match first_route.and_then(strict_router) {
        Some(strict) => {
            // A strict router wants itself in the Request-URI and the real one as the last Route (§16.6 item 6).
            if target.prepend_route.is_none() {
                editor.pop_value(Header::Route);
            }
            editor.append(Header::Route, &format!("<{}>", target.uri)).request_uri(strict);
        }
        None => {
            if let Some(route) = &target.prepend_route {
                editor.prepend(Header::Route, route);
            }
        }
    }
    let transport = target.destination.transport().via_token();
    editor.prepend_parts(Header::Via, &["SIP/2.0/", transport, " ", &sent_by, ";branch=", leg.branch]);
    editor.finish()
}

/// The URI of a Route value without `lr`.
fn strict_router(route: &str) -> Option<&str> {
    let address = NameAddr::parse(route).ok()?;
    let uri = Uri::parse(address.uri).ok()?;
    (uri.is_sip() && uri.param("lr").is_none()).then_some(address.uri)
}
