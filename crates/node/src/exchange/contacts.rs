//! From a user's bindings to the places a request is sent to: which phones (RFC 3841), one flow of each (RFC 5626 §7),
//! over which proxies (RFC 3327), and which phone alone where the request is for a GRUU (RFC 5627).

use std::time::Duration;

use meshtone_sip::message::{Header, Message, Method, Uri};
use meshtone_sip::proxy::Target;
use meshtone_sip::registrar::Binding;
use meshtone_sip::registrar::gruu::Gruu;
use meshtone_sip::registrar::preference::{Choice, choose};
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::{Destination, Locals};

use super::phone::{OWN_HEADERS_WITHIN, PEER_ANSWERS_WITHIN, asserted};
use super::shown::shown_as;
use super::worker::Worker;
use crate::transport::{LocalView, host_of, policy};

/// How long a flow may be silent before the phone's next one is tried. Phones answer 100 at once, and over UDP the INVITE
/// has been sent four times by then.
const FLOW_ANSWERS_WITHIN: Duration = Duration::from_secs(4);

/// Where a user's phones are reached.
#[derive(Default)]
pub(super) struct Phones {
    /// One target each phone.
    pub(super) targets: Vec<Target>,
    /// Their further flows, for when those have failed: [`Worker::keep_spare`].
    pub(super) spare: Vec<Target>,
}

impl Worker {
    /// The phones that are registered here for `address`: all that the caller may mean, or the one that a GRUU names.
    pub(super) fn local_phones(&self, address: &str, caller: Option<&str>, request: &Message) -> Phones {
        let mut bindings = self.exchange.registrations.bindings(self.now.unix_ms, address);
        if let Some(Gruu::Public { instance }) = gruu_of(request) {
            bindings.retain(|binding| binding.is_of_instance(&instance));
        }
        self.phones(&bindings, caller, request)
    }

    /// Whether a request is for one phone only.
    pub(super) fn wants_one_phone(&self, request: &Message) -> bool {
        gruu_of(request).is_some()
    }

    /// Takes care of a request for a temporary GRUU: to that phone if it is of this node, else to the node that issued
    /// the GRUU. False if the request is for something else. What came from a node (`from_peer`) goes to no other one.
    pub(super) fn forward_to_temporary(
        &mut self,
        id: RequestId,
        request: &Message,
        caller: Option<&str>,
        from_peer: bool,
    ) -> bool {
        let Some(Gruu::Temporary { node }) = gruu_of(request) else { return false };
        let Ok(uri) = Uri::parse(request.request_uri()) else { return false };
        let opened = self.exchange.gruus.as_ref().and_then(|key| key.open(uri.user?, &self.exchange.domain));
        if let Some(opened) = opened {
            let address = self.exchange.address_of(&opened.user);
            let mut bindings = self.exchange.registrations.bindings(self.now.unix_ms, &address);
            bindings.retain(|binding| opened.means(&address, binding));
            if bindings.is_empty() {
                // It was withdrawn with the registration that it was given to (RFC 5627 §5.4).
                self.reject(id, 404, "No such phone any more");
                return true;
            }
            let Phones { targets, spare } = self.phones(&bindings, caller, request);
            self.begin_forwarding(id, request, targets, false);
            self.keep_spare(id, spare);
            return true;
        }
        let elsewhere = node.parse().ok().filter(|node| *node != self.exchange.overlay.node_id()).and_then(host_of);
        match elsewhere {
            Some(host) if !from_peer => {
                let target = Target {
                    remove: OWN_HEADERS_WITHIN.to_vec(),
                    extra: asserted(caller.map(|caller| shown_as(request, caller))),
                    answer_within: Some(PEER_ANSWERS_WITHIN),
                    ..Target::new(request.request_uri(), Destination::Peer(host))
                };
                self.begin_forwarding(id, request, vec![target], false);
            }
            Some(_) | None => self.reject(id, 404, "No such phone"),
        }
        true
    }

    /// The contact behind a GRUU that a request within a dialog is sent to, where its flow ends at a phone of this node
    /// (RFC 5627 §6.1).
    pub(super) fn contact_of_gruu(&self, request: &Message, destination: &Destination) -> Option<String> {
        let gruu = gruu_of(request)?;
        let uri = Uri::parse(request.request_uri()).ok()?;
        let (Destination::Flow(_) | Destination::Address { .. }) = destination else { return None };
        let served = uri.host.eq_ignore_ascii_case(&self.exchange.domain);
        let (address, opened) = match &gruu {
            Gruu::Public { .. } => (uri.address_of_record(), None),
            Gruu::Temporary { .. } => {
                let opened = self.exchange.gruus.as_ref()?.open(uri.user?, &self.exchange.domain)?;
                (self.exchange.address_of(&opened.user), Some(opened))
            }
        };
        let mut bindings = self.exchange.registrations.bindings(self.now.unix_ms, &address);
        bindings.retain(|binding| match (&gruu, &opened) {
            (Gruu::Public { instance }, _) => served && binding.is_of_instance(instance),
            (Gruu::Temporary { .. }, Some(opened)) => opened.means(&address, binding),
            (Gruu::Temporary { .. }, None) => false,
        });
        let same_flow = |binding: &&Binding| *destination == Destination::Flow(binding.flow.clone());
        bindings.iter().find(same_flow).or_else(|| bindings.first()).map(|binding| binding.contact.clone())
    }

    fn phones(&self, bindings: &[Binding], caller: Option<&str>, request: &Message) -> Phones {
        let locals = LocalView(self.exchange.transports.clone());
        let is_invite = request.method() == Method::Invite;
        let caller = caller.map(|caller| shown_as(request, caller));
        let shown = self.exchange.callers.at_phone(caller, request);
        let mut phones = Phones::default();
        for choice in choose(bindings, request) {
            phones.add(&choice, &locals, &shown, is_invite);
        }
        phones
    }

    /// Keeps further flows to the phones that a request was just forwarded to.
    pub(super) fn keep_spare(&mut self, id: RequestId, spare: Vec<Target>) {
        if let Some(forwarded) = self.forwarded.get_mut(&id) {
            forwarded.spare = spare;
        }
    }

    /// Tries the flows kept back, once all others have failed because a phone was not reached (RFC 5626 §7).
    pub(super) fn try_spare_flows(&mut self, id: RequestId, status: u16) -> bool {
        let Some(forwarded) = self.forwarded.get_mut(&id) else { return false };
        if forwarded.spare.is_empty() || !matches!(status, 408 | 430 | 480 | 503) {
            return false;
        }
        let next = forwarded.spare.remove(0);
        // No search has ended by this.
        self.forward_to(id, vec![next], true);
        true
    }
}

impl Phones {
    /// Adds one phone. Of its flows, those that differ in nothing else are alternatives, which the engine turns to by
    /// itself; the rest are spare.
    fn add(
        &mut self,
        choice: &Choice<'_>,
        locals: &LocalView,
        (without, with): &(Vec<Header>, Vec<(Header, String)>),
        is_invite: bool,
    ) {
        let mut first: Option<(&Binding, Target)> = None;
        for flow in &choice.flows {
            let Some(destination) = flow.destination(locals.flow_is_open(&flow.flow)) else { continue };
            if let Destination::Address { addr, .. } = &destination
                && !policy::may_send(*addr, flow.flow.remote(), false)
            {
                continue;
            }
            let target = Target {
                q: choice.q,
                remove: without.clone(),
                extra: with.clone(),
                prepend_route: flow.route(),
                ..Target::new(flow.contact.clone(), destination)
            };
            match &mut first {
                None => first = Some((flow, target)),
                Some((binding, first)) => {
                    first.answer_within = is_invite.then_some(FLOW_ANSWERS_WITHIN);
                    if binding.contact == flow.contact && binding.path == flow.path {
                        first.alternatives.push(target.destination);
                    } else {
                        self.spare.push(target);
                    }
                }
            }
        }
        self.targets.extend(first.map(|(_, target)| target));
    }
}

fn gruu_of(request: &Message) -> Option<Gruu> {
    // A GRUU has a parameter, as few URIs that are called have.
    let uri = Some(request.request_uri()).filter(|uri| uri.contains(';'))?;
    Gruu::of(&Uri::parse(uri).ok()?)
}

/// The Request-URI for another node: the address, and which of its phones alone.
pub(super) fn peer_uri(address: &str, request: &Message) -> String {
    let with_params = Some(request.request_uri()).filter(|uri| uri.contains(';'));
    let instance = with_params.and_then(|uri| Uri::parse(uri).ok()?.param("gr").flatten());
    match instance {
        Some(instance) => format!("sip:{address};gr={instance}"),
        None => ["sip:", address].concat(),
    }
}
