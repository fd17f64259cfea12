//! One dialog of our own agent, which is always the called side (RFC 3261 §12).

use crate::message::{Builder, Header, Message, NameAddr, ParseError, Uri};
use crate::transport::Flow;

/// Most Record-Routes that a dialog keeps. A path has a few; whoever sends more wants to fill memory.
const ROUTE_SET_MAX: usize = 32;

/// A hop count for requests of our own (RFC 3261 §8.1.1.6).
const MAX_FORWARDS: &str = "70";

/// State of a dialog (RFC 3261 §12): what its requests are made of.
#[derive(Debug)]
pub(crate) struct Dialog {
    pub(crate) call_id: String,
    pub(crate) local_tag: String,
    pub(crate) remote_tag: Option<String>,
    /// What our requests say in From: the To of the INVITE, with our tag.
    local: String,
    /// What our requests say in To: the From of the INVITE.
    remote: String,
    /// Request-URI of our requests: the caller's latest Contact.
    remote_target: String,
    route_set: Vec<String>,
    local_cseq: u32,
    pub(crate) remote_cseq: u32,
    /// Where the latest request came from. Our own requests go back there: it is the first hop of the route set.
    pub(crate) flow: Flow,
    /// Our Contact, as a header value.
    pub(crate) contact: String,
}

impl Dialog {
    /// The dialog that a 2xx to this INVITE makes.
    pub(crate) fn new(invite: &Message, flow: Flow, local_tag: String, contact: String) -> Result<Dialog, ParseError> {
        let from = invite.from()?;
        let to = invite.header(Header::To).ok_or(ParseError::Missing(Header::To))?;
        let routes: Vec<String> = invite.values(Header::RecordRoute).map(str::to_owned).collect();
        if routes.len() > ROUTE_SET_MAX {
            return Err(ParseError::TooManyFields);
        }
        Ok(Dialog {
            call_id: invite.call_id().to_owned(),
            remote_tag: from.tag().map(str::to_owned),
            local: format!("{to};tag={local_tag}"),
            local_tag,
            remote: invite.header(Header::From).unwrap_or_default().to_owned(),
            remote_target: contact_of(invite)?,
            route_set: routes,
            local_cseq: 0,
            remote_cseq: invite.cseq()?.number,
            flow,
            contact,
        })
    }

    /// Whether a request belongs here; the key has matched Call-ID and our own tag already.
    pub(crate) fn is_from_peer(&self, request: &Message) -> bool {
        request.from().is_ok_and(|from| from.tag() == self.remote_tag.as_deref())
    }

    /// Takes the new Contact of a target refresh (RFC 3261 §12.2.2).
    pub(crate) fn refresh(&mut self, request: &Message, flow: &Flow) {
        if let Ok(contact) = contact_of(request) {
            self.remote_target = contact;
        }
        self.flow = flow.clone();
    }

    /// A request of ours within the dialog (RFC 3261 §12.2.1.1); `via` is the whole value.
    pub(crate) fn request(&mut self, method: &str, via: &str) -> Message {
        self.local_cseq += 1;
        let strict = self.route_set.first().and_then(|first| strict_router(first));
        let uri = strict.unwrap_or(&self.remote_target);
        let mut builder = Builder::request(method, uri)
            .header(Header::Via, via)
            .header(Header::MaxForwards, MAX_FORWARDS)
            .header(Header::From, &self.local)
            .header(Header::To, &self.remote)
            .header(Header::CallId, &self.call_id)
            .header(Header::CSeq, &format!("{} {method}", self.local_cseq));
        let skipped = usize::from(strict.is_some());
        for route in self.route_set.iter().skip(skipped) {
            builder = builder.header(Header::Route, route);
        }
        if strict.is_some() {
            builder = builder.header(Header::Route, &format!("<{}>", self.remote_target));
        }
        builder.finish()
    }
}

fn contact_of(request: &Message) -> Result<String, ParseError> {
    let contact = request.contacts().next().ok_or(ParseError::Missing(Header::Contact))??;
    if contact.is_wildcard() { Err(ParseError::Malformed(Header::Contact)) } else { Ok(contact.uri.to_owned()) }
}

fn strict_router(route: &str) -> Option<&str> {
    let address = NameAddr::parse(route).ok()?;
    let uri = Uri::parse(address.uri).ok()?;
    (uri.is_sip() && uri.param("lr").is_none()).then_some(address.uri)
}
