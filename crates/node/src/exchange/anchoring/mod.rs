//! Calls whose media runs through this node. A target that is to be reached so is put in another's place: the request goes to the
//! node itself, where a [`super::bridge`] takes that branch of the call and places it anew, with the media in between. So each phone of a
//! fork is offered what it can take, and everything else about forking, routes and hanging up stays the proxy's.

pub(crate) mod between;
mod decide;
mod limits;
mod rules;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;
use meshtone_media::anchoring::Profile;
use meshtone_media::io::{AnchoredCall, Monitor, Place};
use meshtone_media::relay::{End, Identity};
use meshtone_media::sdp::{Connection, Session};
use meshtone_sip::agent::OutgoingCall;
use meshtone_sip::message::{Header, Message, Method, NameAddr, Uri};
use meshtone_sip::proxy::Target;
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::{Destination, Flow, Locals, PeerHost};

use super::bridge::{BridgeEvent, BridgeId, NearCall};
use super::phone::PEER_ANSWERS_WITHIN;
use super::worker::{Input, Worker};
use super::{Exchange, sips};
use crate::transport::{LocalView, node_of};
use between::{Neighbour, PeerLink};
pub(super) use decide::is_about_media;

pub use decide::AnchorPolicy;
pub use limits::MediaLimits;
pub use rules::AnchorRules;

/// The user part that this node's own branches are addressed to, before their number.
const USER: &str = "anchor-";

/// What of an INVITE passes to the phone besides its ends, body and route: what the call is about, and what phones show.
const PASSED: &[Header] = &[
    Header::AcceptContact,
    Header::AlertInfo,
    Header::CallInfo,
    Header::Diversion,
    Header::HistoryInfo,
    Header::InReplyTo,
    Header::Organization,
    Header::PAssertedIdentity,
    Header::Priority,
    Header::Privacy,
    Header::Reason,
    Header::ReferredBy,
    Header::RejectContact,
    Header::Replaces,
    Header::ReplyTo,
    Header::Subject,
    Header::UserAgent,
];

/// What another node is told besides.
const TOLD_NODES: &[Header] = &[Header::AttestationInfo, Header::OriginationId, Header::Identity];

/// Marks, in Attestation-Info, a request that is signed for another domain when it leaves this node: not before is it known under which
/// keys its media will be. No request that leaves has that header.
pub(crate) const SIGNED_LATER: &str = "later";

/// What of a phone's refusal passes to the caller.
const PASSED_BACK: &[Header] = &[
    Header::Contact,
    Header::ErrorInfo,
    Header::ProxyAuthenticate,
    Header::Reason,
    Header::RetryAfter,
    Header::Unsupported,
    Header::Warning,
    Header::WwwAuthenticate,
];

/// A call that may have to be carried.
#[derive(Debug, Clone)]
pub(crate) struct Anchoring {
    /// What it offers is read when that matters, which for most calls is never.
    invite: Message,
    /// The phones here that were offered what the caller offers.
    tried: Vec<Target>,
    /// Other nodes to which a link was waited for.
    awaited: Vec<PeerHost>,
    /// Those that did not take the call over the link. They are asked once more, as if there were no such way.
    declined: Vec<Target>,
    is_direct: bool,
    /// What of this node's media is used up, if that kept the call from a phone, and the status that says so.
    pub(super) limit: Option<(u16, String)>,
}

/// The anchored branches of one worker.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    last: u64,
    /// Those that have not begun.
    waiting: HashMap<String, Branch>,
    /// Those that have.
    calls: HashMap<BridgeId, Branch>,
}

/// A branch of a call.
#[derive(Debug)]
struct Branch {
    request: RequestId,
    source: Option<IpAddr>,
    nodes: Nodes,
    target: Target,
    /// Ways to the phone that are left, and offers that are left.
    ways: VecDeque<Destination>,
    profiles: VecDeque<Profile>,
    /// The branch's INVITE, once it has come.
    invite: Option<Message>,
    /// The way being tried.
    destination: Destination,
    /// Whether codecs are offered that this node converts.
    converts: bool,
    /// Since when the call stands, in unix ms, and how it sounds.
    stands: Option<(u64, Monitor)>,
}

/// The ends of a branch that are other nodes, which media goes to over the link.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nodes {
    near: Option<NodeId>,
    far: Option<NodeId>,
}

/// Makes the certificate that browsers are shown in media. It is new at each start: descriptions say which one it is, and no more is asked
/// of it.
pub(crate) fn media_identity() -> Option<Arc<Identity>> {
    let made = rcgen::KeyPair::generate().and_then(|key| {
        let mut params = rcgen::CertificateParams::new(Vec::new())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "media");
        let certificate = params.self_signed(&key)?;
        Ok(Identity::new(certificate.der().to_vec(), key.serialize_der()))
    });
    if let Err(error) = &made {
        tracing::warn!(%error, "there is no certificate for media: browsers talk to browsers only");
    }
    made.ok().map(Arc::new)
}

impl Anchoring {
    /// What is known when an INVITE is to be forwarded.
    pub(super) fn of(request: &Message) -> Option<Anchoring> {
        let may_be = request.method() == Method::Invite && request.to_tag().is_none();
        may_be.then(|| Anchoring {
            invite: request.clone(),
            tried: Vec::new(),
            awaited: Vec::new(),
            declined: Vec::new(),
            is_direct: false,
            limit: None,
        })
    }
}

impl Worker {
    /// Puts this node in the place of those targets whose media it is to carry.
    pub(super) fn anchored(&mut self, id: RequestId, targets: Vec<Target>) -> Vec<Target> {
        let targets = self.with_links(id, targets);
        let Some(anchoring) = self.forwarded.get_mut(&id).and_then(|forwarded| forwarded.anchoring.as_mut()) else {
            return targets;
        };
        let policy = self.exchange.anchor_policy(&anchoring.invite);
        let near = between::described_by(&anchoring.invite);
        let mut chosen = Vec::new();
        for target in targets {
            let neighbour = neighbour(&self.exchange, &target).filter(|_| !anchoring.is_direct);
            let wanted = |(_, known): &(NodeId, Neighbour)| match near {
                Some(_) => known.version >= between::MEDIA_VERSION,
                None => between::is_wanted(policy, &anchoring.invite, *known),
            };
            let far = neighbour.filter(wanted).map(|(node, _)| node);
            let profiles = match (far, near) {
                (Some(_), _) => Some([Profile::Link].into()),
                (None, Some(_)) => decide::of_link(&anchoring.invite, &target.destination),
                (None, None) => decide::at_once(policy, &anchoring.invite, &target.destination),
            };
            match profiles.filter(|_| !is_own(&target)) {
                Some(profiles) => {
                    let source = source_of(&anchoring.invite);
                    let ends = (source, Nodes { near, far });
                    chosen.push(self.anchors.put(id, ends, target, profiles, &self.exchange.own_host));
                }
                None => {
                    if is_phone(&target) && !is_own(&target) {
                        anchoring.tried.push(target.clone());
                    }
                    chosen.push(target);
                }
            }
        }
        chosen
    }

    /// Those targets that can be judged now: for other nodes that there is no link to yet, one is waited for.
    fn with_links(&mut self, id: RequestId, targets: Vec<Target>) -> Vec<Target> {
        let Some(forwarded) = self.forwarded.get_mut(&id) else { return targets };
        let Some(anchoring) = forwarded.anchoring.as_mut().filter(|anchoring| !anchoring.is_direct) else {
            return targets;
        };
        let policy = self.exchange.anchor_policy(&anchoring.invite);
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for target in targets {
            match &target.destination {
                Destination::Peer(host)
                    if !is_own(&target)
                        && !anchoring.awaited.contains(host)
                        && neighbour(&self.exchange, &target).is_none()
                        && between::may_be_wanted(policy, &anchoring.invite) =>
                {
                    anchoring.awaited.push(host.clone());
                    unknown.push((host.clone(), target));
                }
                Destination::Peer(_) | Destination::Flow(_) | Destination::Address { .. } => known.push(target),
            }
        }
        forwarded.searches += unknown.len();
        for (host, target) in unknown {
            let (overlay, answers) = (self.exchange.overlay.clone(), self.answers.clone());
            tokio::spawn(async move {
                if let Some(node) = node_of(&host) {
                    // Without one the request is sent all the same, and fails as it does.
                    let _ = tokio::time::timeout(PEER_ANSWERS_WITHIN, overlay.version_of(node)).await;
                }
                let _ = answers.send(Input::Linked { id, target: Box::new(target) }).await;
            });
        }
        known
    }

    /// Asks phones again that did not take what the caller offers, with an offer of the other kind. False if that is not it.
    pub(super) fn try_anchored(&mut self, id: RequestId, status: u16) -> bool {
        let Some(anchoring) = self.forwarded.get_mut(&id).and_then(|forwarded| forwarded.anchoring.as_mut()) else {
            return false;
        };
        if !anchoring.declined.is_empty() && (is_about_media(status) || status == 503) {
            anchoring.is_direct = true;
            let declined = std::mem::take(&mut anchoring.declined);
            self.forward_to(id, declined, true);
            return true;
        }
        if anchoring.tried.is_empty() {
            return false;
        }
        let policy = self.exchange.anchor_policy(&anchoring.invite);
        let Some(profiles) = decide::after(policy, &anchoring.invite, status) else { return false };
        let (source, tried) = (source_of(&anchoring.invite), std::mem::take(&mut anchoring.tried));
        tracing::debug!(status, "phones are asked again, with their media carried");
        let own = self.exchange.own_host.clone();
        let ends = (source, Nodes::default());
        let put = |target: Target| self.anchors.put(id, ends, target, profiles.clone(), &own);
        let targets = tried.into_iter().map(put).collect();
        // No search has ended by this.
        self.forward_to(id, targets, true);
        true
    }

    /// Takes a branch that this node addressed to itself; false if it is none.
    pub(super) fn begin_anchored(&mut self, id: RequestId, request: &Message) -> bool {
        let user = Uri::parse(request.request_uri()).ok().and_then(|uri| uri.user);
        let Some(mut branch) = user.and_then(|user| self.anchors.waiting.remove(user)) else { return false };
        let profile = branch.profiles.pop_front().unwrap_or(Profile::Optional);
        let Some((near, far)) = self.places(&branch, request) else {
            self.reject(id, 488, "It is not said where the sound is to go");
            return true;
        };
        let exchange = &self.exchange;
        let shares = exchange.shares_of(request, Some(&branch.target), branch.source, branch.nodes);
        let mut media = exchange.carrier(near, far, profile, shares).converted_among(&exchange.conversions);
        for (end, node) in [(End::Near, branch.nodes.near), (End::Far, branch.nodes.far)] {
            if let Some(node) = node {
                media.use_link(end, &exchange.between, PeerLink::to(&exchange.overlay, node));
            }
        }
        let flow = Flow::Peer { host: self.exchange.own_host.clone() };
        let contact = self.own_contact(user.unwrap_or(USER), &flow, false);
        let call = NearCall {
            id,
            invite: request.clone(),
            contact,
            messages: true,
            media: Some(media),
            tag: Some(self.own_call_id()),
        };
        let bridge = self.trunks.bridges.begin(call);
        branch.invite = Some(request.clone());
        self.anchors.calls.insert(bridge, branch);
        self.place_anchored(bridge);
        self.on_bridge_events();
        true
    }

    /// What carries the media of a call to a provider, and how it is offered, one way after the other; `None` where media goes past this
    /// node.
    pub(super) fn carried_to(
        &self,
        invite: &Message,
        server: &Destination,
    ) -> Option<(AnchoredCall, VecDeque<Profile>)> {
        let exchange = &self.exchange;
        let mut profiles = decide::at_once(exchange.anchor_policy(invite), invite, server)?;
        let (source, far) = (source_of(invite), address_of(server)?);
        let near = described_address(invite).or(source).unwrap_or(far);
        let near = Place { local: exchange.media_address(near), signalling: source };
        let far = Place { local: exchange.media_address(far), signalling: Some(far) };
        let profile = profiles.pop_front()?;
        let shares = exchange.shares_of(invite, None, source, Nodes::default());
        let media = exchange.carrier(near, far, profile, shares).converted_among(&exchange.conversions);
        Some((media, profiles))
    }

    /// Where the ends of a branch are, and we towards them; `None` where that is not known. Another node is nowhere: the link finds it.
    fn places(&self, branch: &Branch, request: &Message) -> Option<(Place, Place)> {
        let nowhere = Place { local: Ipv4Addr::UNSPECIFIED.into(), signalling: None };
        let far_source = address_of(&branch.destination);
        let described = described_address(request).filter(|_| branch.nodes.near.is_none());
        let near_remote = branch.source.or(described).or(far_source);
        let near = match branch.nodes.near {
            Some(_) => nowhere,
            None => {
                // Where the description is of another family than the signalling, the description counts.
                let remote = near_remote?;
                let remote = described.filter(|described| described.is_ipv4() != remote.is_ipv4()).unwrap_or(remote);
                Place { local: self.exchange.media_address(remote), signalling: branch.source }
            }
        };
        let far = match branch.nodes.far {
            Some(_) => nowhere,
            None => {
                let remote = far_source.or(near_remote)?;
                Place { local: self.exchange.media_address(remote), signalling: far_source }
            }
        };
        Some((near, far))
    }

    /// Takes what became of a bridge; false if it is not one of these.
    pub(super) fn on_anchored_event(&mut self, event: &BridgeEvent) -> bool {
        match event {
            BridgeEvent::Unanswered { bridge, status, response, rang, limit } => {
                if !self.anchors.calls.contains_key(bridge) {
                    return false;
                }
                match limit {
                    Some(limit) => self.on_limit(*bridge, *status, limit),
                    None => self.on_anchored_unanswered(*bridge, *status, response.as_ref(), *rang),
                }
                true
            }
            BridgeEvent::Answered { bridge } => {
                let Some(branch) = self.anchors.calls.get_mut(bridge) else { return false };
                if let (Some(invite), Some(media)) = (&branch.invite, self.trunks.bridges.media(*bridge)) {
                    self.exchange.calls.carried(invite.call_id(), media.monitor());
                    branch.stands = Some((self.now.unix_ms, media.monitor()));
                }
                true
            }
            BridgeEvent::Ended { bridge } => {
                let Some(branch) = self.anchors.calls.remove(bridge) else { return false };
                if let (Some(invite), Some((began_ms, monitor))) = (&branch.invite, &branch.stands) {
                    self.exchange.calls.finished(self.now.unix_ms, *began_ms, invite, monitor);
                }
                true
            }
        }
    }

    /// Forgets the branches of a request that never began.
    pub(super) fn forget_anchors(&mut self, id: RequestId) {
        self.anchors.waiting.retain(|_, branch| branch.request != id);
    }

    fn on_anchored_unanswered(&mut self, bridge: BridgeId, status: u16, response: Option<&Message>, rang: bool) {
        let Some(branch) = self.anchors.calls.get_mut(&bridge) else { return };
        if !rang && is_about_media(status) && !branch.profiles.is_empty() {
            if let Some((profile, media)) = branch.profiles.pop_front().zip(self.trunks.bridges.media(bridge)) {
                media.prefer(End::Far, profile);
                self.place_anchored(bridge);
                return;
            }
        } else if !rang && is_about_media(status) && !branch.converts {
            branch.converts = true;
            if self.convert_anchored(bridge) {
                return;
            }
        } else if !rang
            && matches!(status, 408 | 430 | 503)
            && let Some(next) = branch.ways.pop_front()
        {
            branch.destination = next;
            self.place_anchored(bridge);
            return;
        }
        // Here it failed already: it is nothing that is carried.
        let is_own = rang && response.is_none() && status == 488;
        if is_own || (!rang && is_about_media(status)) {
            self.decline(bridge);
        }
        let headers = PASSED_BACK.iter().filter_map(|header| Some((*header, response?.header(*header)?.to_owned())));
        let headers: Vec<(Header, String)> = headers.collect();
        let reason = response.map(|response| response.reason().to_owned()).unwrap_or_default();
        self.trunks.bridges.refuse(&mut self.server, Instant::now(), bridge, status, &reason, &headers);
    }

    /// Another node did not take a branch over the link: it is asked once more, as if there were no such way.
    fn decline(&mut self, bridge: BridgeId) {
        let branch = self.anchors.calls.get(&bridge).filter(|branch| branch.nodes.far.is_some());
        let Some((request, target)) = branch.map(|branch| (branch.request, branch.target.clone())) else { return };
        let anchoring = self.forwarded.get_mut(&request).and_then(|forwarded| forwarded.anchoring.as_mut());
        if let Some(anchoring) = anchoring.filter(|anchoring| between::described_by(&anchoring.invite).is_none()) {
            anchoring.declined.push(target);
        }
    }

    /// Something of the media here is used up: the caller hears what it is.
    fn on_limit(&mut self, bridge: BridgeId, status: u16, limit: &str) {
        let Some(branch) = self.anchors.calls.get(&bridge) else { return };
        let request = branch.request;
        let call_id = branch.invite.as_ref().map(|invite| invite.call_id()).unwrap_or_default();
        tracing::warn!(%call_id, %limit, "a call is refused");
        self.exchange.shares.count_refusal();
        if let Some(anchoring) = self.forwarded.get_mut(&request).and_then(|forwarded| forwarded.anchoring.as_mut()) {
            anchoring.limit = Some((status, limit.to_owned()));
        }
        // Of a caller's own share nobody else's way is to be used.
        if status == 503 {
            self.decline(bridge);
        }
        let warning = self.exchange.warning(limit);
        self.trunks.bridges.refuse(&mut self.server, Instant::now(), bridge, status, limit, &[warning]);
    }

    /// Asks a phone again that took nothing of what the caller can speak, and offers what this node converts. False where that is nothing.
    fn convert_anchored(&mut self, bridge: BridgeId) -> bool {
        let Some((branch, media)) = self.anchors.calls.get_mut(&bridge).zip(self.trunks.bridges.media(bridge)) else {
            return false;
        };
        let Some(invite) = &branch.invite else { return false };
        match media.convert() {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                self.on_limit(bridge, error.status(), &error.to_string());
                return true;
            }
        }
        branch.profiles = decide::converting(invite, &branch.destination);
        let Some(profile) = branch.profiles.pop_front() else { return false };
        media.prefer(End::Far, profile);
        self.place_anchored(bridge);
        true
    }

    /// Calls the phone of a branch.
    fn place_anchored(&mut self, bridge: BridgeId) {
        let Some(branch) = self.anchors.calls.get(&bridge) else { return };
        let (Some(invite), target, destination) = (&branch.invite, &branch.target, &branch.destination) else { return };
        let (Ok(from), Ok(to)) = (invite.from(), invite.to()) else { return };
        let own = LocalView(self.exchange.transports.clone()).sent_by(destination);
        let scheme = if sips::is_sips(&target.uri) { "sips" } else { "sip" };
        let contact = format!("{scheme}:anchor@{own};transport={}", destination.transport().uri_param());
        let mut order =
            OutgoingCall::new(&target.uri, destination.clone(), &without_tag(&from), &without_tag(&to), &contact);
        let values =
            |header: &Header| invite.fields(*header).map(|value| (*header, value.to_owned())).collect::<Vec<_>>();
        order.headers = PASSED.iter().flat_map(values).collect();
        if branch.nodes.far.is_some() {
            // How well the caller is known, and who diverted the call: the next node is told, as by a request that is but passed on.
            let told = target.extra.iter().filter(|(header, _)| TOLD_NODES.contains(header));
            order.headers.extend(told.cloned());
        }
        if branch.nodes.far.is_none() && target.extra.iter().any(|(header, _)| *header == Header::Identity) {
            order.headers.push((Header::AttestationInfo, SIGNED_LATER.to_owned()));
        }
        order.headers.extend(target.prepend_route.clone().map(|route| (Header::Route, route)));
        let call_id = self.own_call_id();
        self.exchange.watches.belongs(self.index, invite.call_id(), &call_id);
        order.call_id = Some(call_id);
        order.answer_within = target.answer_within.filter(|limit| *limit > Duration::ZERO);
        self.trunks.bridges.call(&mut self.server, Instant::now(), bridge, order, None);
    }
}

impl Anchors {
    /// Keeps a target, and gives the one that stands for it.
    fn put(
        &mut self,
        request: RequestId,
        (source, nodes): (Option<IpAddr>, Nodes),
        target: Target,
        profiles: VecDeque<Profile>,
        own_host: &PeerHost,
    ) -> Target {
        self.last += 1;
        let name = format!("{USER}{}", self.last);
        let stand_in = Target {
            q: target.q,
            remove: target.remove.clone(),
            extra: target.extra.clone(),
            ..Target::new(format!("sip:{name}@{own_host};transport=peer"), Destination::Peer(own_host.clone()))
        };
        let (ways, destination) = (target.alternatives.iter().cloned().collect(), target.destination.clone());
        let branch = Branch {
            request,
            source,
            nodes,
            target,
            ways,
            profiles,
            invite: None,
            destination,
            // Another node converts for its own phone.
            converts: nodes.far.is_some(),
            stands: None,
        };
        self.waiting.insert(name, branch);
        stand_in
    }
}

/// Which node a target is, and what is known of the link to it; `None` where there is none.
fn neighbour(exchange: &Exchange, target: &Target) -> Option<(NodeId, Neighbour)> {
    let Destination::Peer(host) = &target.destination else { return None };
    let node = node_of(host).filter(|_| *host != exchange.own_host)?;
    let version = exchange.overlay.link_version(node)?;
    let place = exchange.overlay.place_of(node).map(|place| place.ip().to_canonical());
    Some((node, Neighbour { version, place }))
}

/// Whether a target is a branch that this node takes itself.
fn is_own(target: &Target) -> bool {
    Uri::parse(&target.uri)
        .is_ok_and(|uri| uri.user.is_some_and(|user| user.starts_with(USER)) && uri.host.ends_with(".peer.alt"))
}

/// Whether a target is a phone, not another node.
fn is_phone(target: &Target) -> bool {
    address_of(&target.destination).is_some()
}

fn address_of(destination: &Destination) -> Option<IpAddr> {
    match destination {
        Destination::Flow(flow) => flow.remote().map(|remote| remote.ip().to_canonical()),
        Destination::Address { addr, .. } => Some(addr.ip().to_canonical()),
        Destination::Peer(_) => None,
    }
}

/// Where a request came from, as its topmost Via has it, unless another node brought it.
fn source_of(request: &Message) -> Option<IpAddr> {
    let via = request.top_via().ok()?;
    let source = via.received().unwrap_or(via.host);
    let source: IpAddr = source.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(source.to_canonical())
}

/// Where the first stream of an offer is received.
fn described_address(invite: &Message) -> Option<IpAddr> {
    let session = Session::parse(invite.body()).ok()?;
    let media = session.media.iter().find(|media| media.port != 0)?;
    let is_flow = media.protocol.starts_with("QUIC/");
    if is_flow || session.attributes.iter().chain(&media.attributes).any(|line| line.starts_with("ice-ufrag:")) {
        // Browsers write whatever came first; checks find out where they are.
        return None;
    }
    match session.connection_of(media)? {
        Connection::Address(address) if !address.is_unspecified() => Some(address),
        Connection::Address(_) | Connection::Other => None,
    }
}

/// The address of a From or To for a dialog of our own.
fn without_tag(address: &NameAddr<'_>) -> String {
    match address.display {
        Some(display) => format!("\"{display}\" <{}>", address.uri),
        None => format!("<{}>", address.uri),
    }
}
