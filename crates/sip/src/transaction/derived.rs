//! Requests that follow from another one: the ACK of a failure (RFC 3261 §17.1.1.3) and CANCEL (§9.1).

use bytes::Bytes;

use crate::message::{Builder, Header, Message};

/// A hop-by-hop request is not forwarded far, but must carry the field (RFC 3261 §8.1.1.6).
const MAX_FORWARDS: &str = "70";

/// A message kept as bytes, for sending it again.
pub(super) fn again(bytes: &Bytes) -> Option<Message> {
    Message::parse(bytes.clone()).ok()
}

/// The ACK of a final response other than 2xx.
pub(super) fn ack(invite: &Message, response: &Message) -> Option<Message> {
    derive(invite, "ACK", response.header(Header::To)?, None)
}

/// The CANCEL of an INVITE, with the Reason (RFC 3326) that there is for it.
pub(super) fn cancel(invite: &Message, reason: Option<&str>) -> Option<Message> {
    derive(invite, "CANCEL", invite.header(Header::To)?, reason)
}

fn derive(invite: &Message, method: &str, to: &str, reason: Option<&str>) -> Option<Message> {
    let number = invite.cseq().ok()?.number;
    let mut builder = Builder::request(method, invite.request_uri())
        .header(Header::Via, invite.values(Header::Via).next()?)
        .header(Header::MaxForwards, MAX_FORWARDS)
        .header(Header::From, invite.header(Header::From)?)
        .header(Header::To, to)
        .header(Header::CallId, invite.call_id())
        .header(Header::CSeq, &format!("{number} {method}"));
    for route in invite.fields(Header::Route) {
        builder = builder.header(Header::Route, route);
    }
    if let Some(reason) = reason {
        builder = builder.header(Header::Reason, reason);
    }
    Some(builder.finish())
}
