//! Requests from other nodes. They rang here because the overlay says that somebody is registered here, so only
//! the phones registered here are tried: a request wanders on only where one of these diverts it ([`divert`](super::divert)).

use meshtone_sip::message::{Header, Message, Method};
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::{Flow, PeerHost};

use super::anchoring::AnchorPolicy;
use super::anchoring::between::names_a_flow;
use super::callee::Callee;
use super::contacts::Phones;
use super::identity::{Refusal, Speaker, asserted_address};
use super::worker::{Input, Worker};
use crate::account::name::is_address;
use crate::member::Unknown;
use crate::transport::node_of;

/// Why a request is not believed whose signatures are right.
#[derive(Debug)]
pub(crate) enum Unvouched {
    /// A node may not speak for whom it spoke.
    Refused(Speaker),
    /// That could not be found out.
    Unknown,
}

/// Whether nodes may speak for those for whom they did.
enum Standing {
    /// Each may.
    Proven,
    /// Whether they may is for these people with addresses of their own to say, and has to be asked.
    Asking(Vec<Speaker>),
    /// One may not.
    Refused(Speaker),
}

impl Worker {
    pub(super) fn on_peer_request(&mut self, id: RequestId, request: &Message, host: &PeerHost) {
        let Some(proven) = node_of(host).and_then(|node| self.exchange.transports.proven(node)) else {
            self.reject(id, 403, "That node has not said who it is");
            return;
        };
        if request.header(Header::PAssertedIdentity).is_none() {
            // A home node of this very domain may bring somebody of whom it asserts nothing: a caller from a plain SIP domain,
            // whom its policy let in.
            let (exchange, now_s) = (&self.exchange, self.exchange.agreed_unix_s());
            if proven.home(&exchange.domain).is_none() {
                self.reject(id, 403, "That node may not speak for the caller");
            } else if let Err(refusal) = exchange.identities.verify_unasserted(request, host, &proven, now_s) {
                self.refuse(id, host, refusal);
            } else {
                self.on_request_of(id, request, host, None);
            }
            return;
        }
        let Some(caller) = asserted_address(request) else {
            self.reject(id, 403, "That node may not speak for the caller");
            return;
        };
        let (exchange, now_s) = (&self.exchange, self.exchange.agreed_unix_s());
        match exchange.identities.verify(request, &caller, host, &proven, now_s) {
            Ok(speakers) => match self.standing_of(speakers) {
                Standing::Proven => self.on_request_of(id, request, host, Some(caller)),
                Standing::Refused(speaker) => self.refuse_speaker(id, &speaker),
                Standing::Asking(speakers) => self.ask_for_speakers(id, request, host, caller, speakers),
            },
            Err(refusal) => self.refuse(id, host, refusal),
        }
    }

    fn refuse(&mut self, id: RequestId, host: &PeerHost, refusal: Refusal) {
        tracing::warn!(%host, refusal.status, refusal.reason, "a request of another node was refused");
        self.reject(id, refusal.status, refusal.reason);
    }

    /// Judges who spoke for whom: a node speaks for a domain that its certificates name, and for a person with an address of her own
    /// where she lets it.
    fn standing_of(&self, speakers: Vec<Speaker>) -> Standing {
        let mut asking = Vec::new();
        for speaker in speakers.into_iter().filter(|speaker| !speaker.is_certified) {
            if !is_address(&speaker.address) {
                return Standing::Refused(speaker);
            }
            match self.exchange.members.known(&speaker.address) {
                Some(Some(standing)) if standing.names(&speaker.node) => {}
                Some(_) => return Standing::Refused(speaker),
                None => asking.push(speaker),
            }
        }
        if asking.is_empty() { Standing::Proven } else { Standing::Asking(asking) }
    }

    /// Asks the overlay whether people let the nodes speak for them that did.
    fn ask_for_speakers(
        &mut self,
        id: RequestId,
        request: &Message,
        host: &PeerHost,
        caller: String,
        speakers: Vec<Speaker>,
    ) {
        let (members, answers) = (self.exchange.members.clone(), self.answers.clone());
        let (request, host) = (request.clone(), host.clone());
        tokio::spawn(async move {
            let mut vouched = Ok(());
            for speaker in speakers {
                let standing = members.standing(&speaker.address).await;
                let may = standing.map(|standing| standing.is_some_and(|standing| standing.names(&speaker.node)));
                vouched = match may {
                    Ok(true) => continue,
                    Ok(false) => Err(Unvouched::Refused(speaker)),
                    Err(Unknown) => Err(Unvouched::Unknown),
                };
                break;
            }
            let _ = answers.send(Input::Vouched { id, request, host, caller, vouched }).await;
        });
    }

    /// Takes what people with addresses of their own say of the nodes that spoke for them.
    pub(super) fn on_vouched(
        &mut self,
        id: RequestId,
        request: &Message,
        host: &PeerHost,
        caller: String,
        vouched: Result<(), Unvouched>,
    ) {
        match vouched {
            Ok(()) => self.on_request_of(id, request, host, Some(caller)),
            Err(Unvouched::Refused(speaker)) => self.refuse_speaker(id, &speaker),
            // Not 403: it may well be true.
            Err(Unvouched::Unknown) => self.reject(id, 480, "Who calls cannot be verified now"),
        }
    }

    fn refuse_speaker(&mut self, id: RequestId, speaker: &Speaker) {
        let Speaker { node, address, .. } = speaker;
        tracing::warn!(node = %node.short(), %address, "a node spoke for somebody for whom it may not");
        self.reject(id, 403, "That node may not speak for the caller");
    }

    /// A request of which all that is said of its caller was found to be true.
    fn on_request_of(&mut self, id: RequestId, request: &Message, host: &PeerHost, caller: Option<String>) {
        if self.forward_to_temporary(id, request, caller.as_deref(), true) {
            return;
        }
        if self.refuses_anonymous(id, request) {
            return;
        }
        let is_carried = names_a_flow(request);
        if is_carried && self.exchange.anchor_policy(request) == AnchorPolicy::Never {
            self.reject(id, 488, "This node carries no media");
            return;
        }
        match self.callee(request) {
            Callee::User { address } if !self.may_ring(id, request, &address, caller.as_deref()) => {}
            Callee::User { address } => {
                let Phones { targets, spare } = self.local_phones(&address, caller.as_deref(), request);
                self.begin_forwarding(id, request, targets, false);
                self.keep_spare(id, spare);
                self.may_be_diverted(id, address, host, caller);
            }
            // Providers are described to as phones are.
            Callee::Nobody { .. } if is_carried => self.reject(id, 488, "No media is carried to there"),
            Callee::Nobody { .. } if self.dial_out_for(id, request, host, caller.as_deref()) => {}
            Callee::Node if request.method() == Method::Options => self.answer_options(id, request),
            Callee::Node | Callee::Echo | Callee::Nobody { .. } => self.reject(id, 404, "No such user here"),
            Callee::Elsewhere { .. } => self.reject(id, 404, "That domain is not served here"),
            Callee::BadScheme => self.reject(id, 416, "Unsupported URI Scheme"),
            Callee::BadUri => self.reject(id, 400, "Bad Request-URI"),
        }
    }

    /// Calls out for a user of the domain who is registered at another home node of it.
    fn dial_out_for(&mut self, id: RequestId, request: &Message, host: &PeerHost, caller: Option<&str>) -> bool {
        let flow = Flow::Peer { host: host.clone() };
        caller.is_some_and(|caller| self.is_own_user(caller) && self.dial_out(id, request, &flow, caller))
    }
}
