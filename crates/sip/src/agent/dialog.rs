//! One dialog of our own agent, of either side (RFC 3261 §12): what its requests are made of, and who may send within it.

use std::net::IpAddr;

use super::login::Login;
use super::{Body, Stack};
use crate::message::{Builder, Header, Message, NameAddr, ParseError, Uri};
use crate::proxy::via::host_address;
use crate::transport::{Destination, Flow};

/// Most Record-Routes that a dialog keeps. A path has a few; whoever sends more wants to fill memory.
const ROUTE_SET_MAX: usize = 32;

/// A hop count for requests of our own (RFC 3261 §8.1.1.6).
pub(crate) const MAX_FORWARDS: &str = "70";

/// State of a dialog (RFC 3261 §12).
#[derive(Debug)]
pub(crate) struct Dialog {
    pub(crate) call_id: String,
    pub(crate) local_tag: String,
    pub(crate) remote_tag: Option<String>,
    /// What our requests say in From, our tag included.
    local: String,
    /// What our requests say in To, the other side's tag included.
    remote: String,
    /// Request-URI of our requests: the other side's latest Contact.
    pub(crate) remote_target: String,
    route_set: Vec<String>,
    pub(crate) local_cseq: u32,
    /// None until the other side sent a request (RFC 3261 §12.1.2).
    pub(crate) remote_cseq: Option<u32>,
    /// The first hop of our requests. The other side's come from there too.
    pub(crate) destination: Destination,
    /// Further addresses that its requests may come from.
    sources: Vec<IpAddr>,
    /// The address that it proved to have moved to last.
    admitted: Option<IpAddr>,
    /// Our Contact, as a header value.
    pub(crate) contact: String,
    /// The account that was asked for when the dialog began; none when nobody asked (threat 15).
    pub(crate) login: Option<Login>,
}

impl Dialog {
    /// The dialog of a request that came to us and gets this To tag (RFC 3261 §12.1.1).
    pub(crate) fn called(
        request: &Message,
        flow: Flow,
        local_tag: String,
        contact: &str,
    ) -> Result<Dialog, ParseError> {
        let to = request.header(Header::To).ok_or(ParseError::Missing(Header::To))?;
        let remote_target = contact_of(request)?;
        Ok(Dialog {
            call_id: request.call_id().to_owned(),
            remote_tag: request.from()?.tag().map(str::to_owned),
            local: if request.to()?.tag().is_some() { to.to_owned() } else { format!("{to};tag={local_tag}") },
            local_tag,
            remote: request.header(Header::From).unwrap_or_default().to_owned(),
            route_set: routes_of(request)?,
            local_cseq: 0,
            remote_cseq: Some(request.cseq()?.number),
            destination: Destination::Flow(flow),
            sources: address_of(&remote_target).into_iter().collect(),
            admitted: None,
            remote_target,
            contact: format!("<{contact}>"),
            login: None,
        })
    }

    /// The dialog that a response makes of a request of ours (RFC 3261 §12.1.2).
    pub(crate) fn calling(
        request: &Message,
        response: &Message,
        destination: Destination,
        sources: &[IpAddr],
        contact: &str,
    ) -> Result<Dialog, ParseError> {
        let remote_target = contact_of(response)?;
        let mut route_set = routes_of(response)?;
        route_set.reverse();
        Ok(Dialog {
            call_id: request.call_id().to_owned(),
            local_tag: request.from()?.tag().unwrap_or_default().to_owned(),
            remote_tag: response.to()?.tag().map(str::to_owned),
            local: request.header(Header::From).unwrap_or_default().to_owned(),
            remote: response.header(Header::To).unwrap_or_default().to_owned(),
            route_set,
            local_cseq: request.cseq()?.number,
            remote_cseq: None,
            destination,
            sources: sources.iter().copied().chain(address_of(&remote_target)).collect(),
            admitted: None,
            remote_target,
            contact: format!("<{contact}>"),
            login: None,
        })
    }

    /// Takes route set and target of the 2xx that confirms an early dialog (RFC 3261 §13.2.2.4).
    pub(crate) fn confirm(&mut self, response: &Message) {
        if let Ok(mut routes) = routes_of(response) {
            routes.reverse();
            self.route_set = routes;
        }
        self.retarget(response);
    }

    /// Whether a request belongs here: both tags are right, and it comes from where the dialog lives (threat 16).
    pub(crate) fn is_from_peer(&self, request: &Message, flow: &Flow) -> bool {
        request.from().is_ok_and(|from| from.tag() == self.remote_tag.as_deref()) && self.trusts(flow)
    }

    fn trusts(&self, flow: &Flow) -> bool {
        let address = match (&self.destination, flow) {
            (Destination::Flow(Flow::Peer { host }) | Destination::Peer(host), Flow::Peer { host: other }) => {
                return host == other;
            }
            // The node at the other end of a link stays in the path: whoever is behind it comes over it.
            (Destination::Peer(_) | Destination::Flow(Flow::Peer { .. }), _) => return false,
            (Destination::Flow(known), _) => known.remote().map(|remote| remote.ip()),
            (Destination::Address { addr, .. }, _) => Some(addr.ip()),
        };
        let Some(source) = flow.remote().map(|remote| remote.ip().to_canonical()) else { return false };
        let known = address.into_iter().chain(self.sources.iter().copied()).chain(self.admitted);
        known.into_iter().any(|known| known.to_canonical() == source)
    }

    /// Lets requests come from the address of this flow, too.
    pub(crate) fn admit(&mut self, flow: &Flow) {
        self.admitted = flow.remote().map(|remote| remote.ip());
    }

    /// The other side's URI.
    pub(crate) fn peer(&self) -> Option<String> {
        NameAddr::parse(&self.remote).ok().map(|remote| remote.uri.to_owned())
    }

    /// Says who we are from now on (RFC 4916 §4.3): value of From without a tag.
    pub(crate) fn identify(&mut self, from: &str) {
        self.local = format!("{from};tag={}", self.local_tag);
    }

    /// Takes the new Contact of a target refresh, who the other side says it is now (RFC 4916 §4.4.2), and the flow it came
    /// over (RFC 3261 §12.2.2).
    pub(crate) fn refresh(&mut self, request: &Message, flow: &Flow) {
        self.retarget(request);
        if let Some(from) = request.header(Header::From) {
            from.clone_into(&mut self.remote);
        }
        self.destination = Destination::Flow(flow.clone());
    }

    /// Takes the Contact of a response to a target refresh of ours.
    pub(crate) fn retarget(&mut self, message: &Message) {
        if let Ok(contact) = contact_of(message) {
            self.remote_target = contact;
        }
    }

    /// A request of ours within the dialog (RFC 3261 §12.2.1.1).
    pub(crate) fn request(
        &mut self,
        stack: &mut Stack<'_>,
        method: &str,
        headers: &[(Header, String)],
        body: Option<&Body>,
    ) -> Message {
        self.local_cseq = self.local_cseq.saturating_add(1);
        let number = self.local_cseq;
        self.write(stack, method, number, headers, body)
    }

    /// The ACK of a 2xx to the INVITE of this number (RFC 3261 §13.2.2.4).
    pub(crate) fn ack(
        &self,
        stack: &mut Stack<'_>,
        number: u32,
        headers: &[(Header, String)],
        body: Option<&Body>,
    ) -> Message {
        self.write(stack, "ACK", number, headers, body)
    }

    fn write(
        &self,
        stack: &mut Stack<'_>,
        method: &str,
        number: u32,
        headers: &[(Header, String)],
        body: Option<&Body>,
    ) -> Message {
        let via = stack.via(&self.destination);
        let strict = self.route_set.first().and_then(|first| strict_router(first));
        let uri = strict.unwrap_or(&self.remote_target);
        let mut builder = Builder::request(method, uri)
            .header(Header::Via, &via)
            .header(Header::MaxForwards, MAX_FORWARDS)
            .header(Header::From, &self.local)
            .header(Header::To, &self.remote)
            .header(Header::CallId, &self.call_id)
            .header(Header::CSeq, &format!("{number} {method}"));
        let skipped = usize::from(strict.is_some());
        for route in self.route_set.iter().skip(skipped) {
            builder = builder.header(Header::Route, route);
        }
        if strict.is_some() {
            builder = builder.header(Header::Route, &format!("<{}>", self.remote_target));
        }
        if !stack.user_agent.is_empty() {
            builder = builder.header(Header::UserAgent, stack.user_agent);
        }
        for (header, value) in headers {
            builder = builder.header(*header, value);
        }
        match body {
            Some(body) => builder.body(&body.content_type, &body.content).finish(),
            None => builder.finish(),
        }
    }
}

fn contact_of(message: &Message) -> Result<String, ParseError> {
    let contact = message.contacts().next().ok_or(ParseError::Missing(Header::Contact))??;
    if contact.is_wildcard() { Err(ParseError::Malformed(Header::Contact)) } else { Ok(contact.uri.to_owned()) }
}

fn routes_of(message: &Message) -> Result<Vec<String>, ParseError> {
    let routes: Vec<String> = message.values(Header::RecordRoute).map(str::to_owned).collect();
    if routes.len() > ROUTE_SET_MAX { Err(ParseError::TooManyFields) } else { Ok(routes) }
}

/// The address that a URI names: where no proxy stays in the path, requests come from there.
fn address_of(uri: &str) -> Option<IpAddr> {
    host_address(Uri::parse(uri).ok()?.host)
}

fn strict_router(route: &str) -> Option<&str> {
    let address = NameAddr::parse(route).ok()?;
    let uri = Uri::parse(address.uri).ok()?;
    (uri.is_sip() && uri.param("lr").is_none()).then_some(address.uri)
}
