//! The first stage of a farm: a proxy that keeps nothing (RFC 3261 §16.11).
//!
//! It spreads requests over the servers of the second stage, so that all about one user comes to the same one, and it is the way
//! from those to the phones: what it must know later travels in the messages, under its seal. A REGISTER takes a Path along
//! (RFC 3327), a request that opens a dialog a Record-Route, both with the flow to the phone (RFC 5626 §5.1); the branch of
//! our Via holds the flow that its responses take. So nobody but who was asked through it can send anything through it, and
//! any copy of it with the same key could take over.

use std::hash::{Hash, Hasher};

use data_encoding::HEXLOWER;
use siphasher::sip::SipHasher13;

use super::flow_token::TokenKey;
use super::outgoing::{next_max_forwards, wants_record_route};
use super::route::OwnRoutes;
use super::via::{reply_flow, stamp, stamped};
use crate::message::{Builder, Editor, Header, Message, Method, Uri, Via};
use crate::short::Short;
use crate::text::Decimal;
use crate::transport::{Destination, Flow, Locals, Transmit};

/// Begins the branches written here; a hash of the request's own branch follows, a dot, and the way back.
const PREFIX: &str = "z9hG4bK-f";

/// In place of a Call-ID in the seal of what outlives calls.
const PATH: &str = "";

/// What all of one user's requests have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spread {
    /// By the user that is registered or called, so that his calls come to the server where he is registered.
    #[default]
    User,
    /// By Call-ID.
    CallId,
}

/// A proxy without state.
pub struct StatelessProxy {
    targets: Vec<Destination>,
    /// What each target is ranked by, the same wherever it is in the list.
    seeds: Vec<u64>,
    spread: Spread,
    tokens: TokenKey,
}

impl StatelessProxy {
    /// Forwards to these servers; `key` seals what comes back with later messages.
    pub fn new(targets: Vec<Destination>, spread: Spread, key: &[u8; 32]) -> StatelessProxy {
        let seed = |target: &Destination| {
            let address = match target {
                Destination::Address { addr, .. } => Some(*addr),
                Destination::Flow(flow) => flow.remote(),
                Destination::Peer(_) => None,
            };
            hash((target.transport().via_token(), address))
        };
        StatelessProxy { seeds: targets.iter().map(seed).collect(), targets, spread, tokens: TokenKey::new(key) }
    }

    /// The servers.
    pub fn targets(&self) -> &[Destination] {
        &self.targets
    }

    /// Takes a message that came over `flow`, and gives what leaves: the message, one hop further, or its refusal; `None` where
    /// there is nobody to tell. `is_alive` says which of the targets are there; without any, all of them may be tried.
    pub fn forward(
        &self,
        flow: &Flow,
        message: &Message,
        locals: &dyn Locals,
        is_alive: impl Fn(usize) -> bool,
    ) -> Option<Transmit> {
        if message.is_request() {
            self.request(flow, message, locals, is_alive)
        } else {
            self.response(message, locals)
        }
    }

    fn request(
        &self,
        flow: &Flow,
        message: &Message,
        locals: &dyn Locals,
        is_alive: impl Fn(usize) -> bool,
    ) -> Option<Transmit> {
        let read = match message.read_essentials() {
            Ok(read) => read,
            Err(error) => return self.refuse(flow, message, error.status(), error.reason()),
        };
        let Some(max_forwards) = next_max_forwards(message) else {
            return self.refuse(flow, message, 483, "");
        };
        let mut ours = OwnRoutes::default();
        let next_route = ours.take(message.values(Header::Route), locals);
        let side = match self.side(&ours, message, flow) {
            Ok(side) => side,
            // Somebody made up a flow token (RFC 5626 §5.3).
            Err(()) => return self.refuse(flow, message, 403, ""),
        };
        let (destination, phone) = match side {
            Some(phone) if !locals.flow_is_open(&phone) => return self.refuse(flow, message, 430, "Flow Failed"),
            Some(phone) => (Destination::Flow(phone.clone()), phone),
            None => {
                let named = next_route.and_then(|next| self.named_target(next));
                let Some(target) = named.or_else(|| self.target_of(message, is_alive)) else {
                    return self.refuse(flow, message, 503, "");
                };
                (target.clone(), flow.clone())
            }
        };
        let mut editor = message.edit();
        if let Some(via) = stamped(message, &read.via, flow) {
            editor.replace_first_value(Header::Via, &via);
        }
        for _ in 0..ours.count {
            editor.pop_value(Header::Route);
        }
        editor.set(Header::MaxForwards, Decimal::from(max_forwards).as_str());
        let phone = Destination::Flow(phone);
        let sent_by = locals.sent_by(&destination);
        if message.method() == Method::Register {
            // `ob`: the flow stays, and the registrar may take several of one phone (RFC 5626 §5.1).
            editor.prepend(Header::Path, &format!("<{};ob>", self.way_to(&phone, PATH, locals)));
        } else if wants_record_route(message) {
            self.record_route(&mut editor, message, &phone, &destination, flow, locals);
        }
        let reply = Destination::Flow(reply_flow(flow, &read.via));
        let branch = self.branch(&read.via, &reply, message.call_id());
        let transport = destination.transport().via_token();
        editor.prepend_parts(Header::Via, &["SIP/2.0/", transport, " ", &sent_by, ";branch=", branch.as_str()]);
        Some(Transmit { destination, message: editor.finish(), origin: None })
    }

    /// Stays in the path of a dialog, with the way to the phone; where the other side is reached by another transport, with that
    /// side's address too (RFC 5658), the side that the request goes to on top.
    fn record_route(
        &self,
        editor: &mut Editor<'_>,
        request: &Message,
        phone: &Destination,
        next: &Destination,
        flow: &Flow,
        locals: &dyn Locals,
    ) {
        let to_phone = next == phone;
        let server = if to_phone { Destination::Flow(flow.clone()) } else { next.clone() };
        let phone_side = self.way_to(phone, request.call_id(), locals);
        let (sent_by, transport) = (locals.sent_by(&server), server.transport());
        let server_side = format!("sip:{sent_by};transport={};lr", transport.uri_param());
        let sides = if to_phone { [server_side, phone_side] } else { [phone_side, server_side] };
        for (index, side) in sides.iter().enumerate() {
            let is_servers = (index == 0) == to_phone;
            if !is_servers || transport != phone.transport() {
                editor.prepend_parts(Header::RecordRoute, &["<", side, ">"]);
            }
        }
    }

    /// Passes a response on if its request came by here: our branch says where from.
    fn response(&self, message: &Message, locals: &dyn Locals) -> Option<Transmit> {
        let read = message.read_essentials().ok()?;
        if !read.was_forwarded || !locals.is_local(read.via.host, read.via.port) {
            return None;
        }
        let (_, token) = read.via.branch()?.strip_prefix(PREFIX)?.split_once('.')?;
        let destination = self.tokens.open(token, message.call_id(), || None).ok()?;
        Some(Transmit { destination, message: message.without_first_value(Header::Via), origin: None })
    }

    /// Answers without state. An ACK is never answered (RFC 3261 §17.1.1.3).
    fn refuse(&self, flow: &Flow, request: &Message, status: u16, reason: &str) -> Option<Transmit> {
        let via = request.top_via().ok().filter(|_| request.is_answerable())?;
        let destination = Destination::Flow(reply_flow(flow, &via));
        let stamped = stamp(request, &via, flow);
        let request = stamped.as_ref().unwrap_or(request);
        let message = Builder::response(request, status, reason).to_tag(self.tokens.tag_for(request).as_str()).finish();
        Some(Transmit { destination, message, origin: None })
    }

    /// The phone that our own Routes lead to; none where they lead back to whoever sends, or there are none.
    fn side(&self, ours: &OwnRoutes<'_>, request: &Message, flow: &Flow) -> Result<Option<Flow>, ()> {
        let Some(token) = ours.last_token else { return Ok(None) };
        let opened =
            self.tokens.open(token, request.call_id(), || None).or_else(|_| self.tokens.open(token, PATH, || None));
        match opened {
            Ok(Destination::Flow(side)) => Ok((side != *flow).then_some(side)),
            Ok(Destination::Address { .. } | Destination::Peer(_)) | Err(_) => Err(()),
        }
    }

    /// A URI of ours that leads to a phone.
    fn way_to(&self, phone: &Destination, call_id: &str, locals: &dyn Locals) -> String {
        let token = self.tokens.issue(phone, call_id);
        format!("sip:{}@{};transport={};lr", token.as_str(), locals.sent_by(phone), phone.transport().uri_param())
    }

    /// The branch of a request forwarded: the same for each copy of it, for its CANCEL, and for the ACK of its refusal.
    fn branch(&self, via: &Via<'_>, reply: &Destination, call_id: &str) -> Short {
        let mut branch = Short::new(PREFIX);
        branch.push_encoded(&HEXLOWER, &hash((via.branch(), via.host, via.port)).to_be_bytes());
        branch.push(".");
        branch.push(self.tokens.issue(reply, call_id).as_str());
        branch
    }

    /// The target that a Route names by its address.
    fn named_target(&self, route: &str) -> Option<&Destination> {
        let route = Uri::parse(route).ok()?;
        let named = super::via::host_address(route.host)?;
        self.targets.iter().find(|target| match target {
            Destination::Address { transport, addr, .. } => {
                addr.ip().to_canonical() == named && addr.port() == route.port.unwrap_or(transport.default_port())
            }
            Destination::Flow(_) | Destination::Peer(_) => false,
        })
    }

    /// The target of the highest rank for what this request is about: when one is lost, only what it had moves.
    fn target_of(&self, request: &Message, is_alive: impl Fn(usize) -> bool) -> Option<&Destination> {
        let key = self.key_of(request);
        let ranked = self.targets.iter().zip(&self.seeds).enumerate();
        ranked.max_by_key(|(index, (_, seed))| (is_alive(*index), hash((key, **seed)))).map(|(_, (target, _))| target)
    }

    /// A number for what a request is about. Whoever can make it collide only chooses a server, which his name does anyway.
    fn key_of(&self, request: &Message) -> u64 {
        let user = match self.spread {
            Spread::User if request.method() == Method::Register => {
                request.to().ok().and_then(|to| Uri::parse(to.uri).ok())
            }
            Spread::User => Uri::parse(request.request_uri()).ok(),
            Spread::CallId => None,
        };
        match user.and_then(|uri| uri.user_unescaped()) {
            Some(user) => hash(user.to_ascii_lowercase()),
            None => hash(request.call_id()),
        }
    }
}

/// A hash without a secret: every copy of a first stage comes to the same.
fn hash(what: impl Hash) -> u64 {
    let mut hasher = SipHasher13::new();
    what.hash(&mut hasher);
    hasher.finish()
}
