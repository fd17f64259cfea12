//! Calls out: a user dials a number that a trunk carries. One server after the other, and one trunk after the other, is tried until
//! somebody is there (RFC 3263 §4.3); what a provider answers goes back to the caller, never to where a provider points.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use meshtone_media::anchoring::Profile;
use meshtone_media::io::Monitor;
use meshtone_media::relay::End;
use meshtone_sip::agent::OutgoingCall;
use meshtone_sip::message::{Header, Message, Method};
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::Flow;

use super::lines::{Line, NoLine};
use super::plan::{self, Candidate, NoTrunk};
use super::settings::{Identity, Trunk};
use super::{TrunkInput, TrunkState};
use crate::clock::unix_ms;
use crate::exchange::anchoring::is_about_media;
use crate::exchange::bridge::{BridgeEvent, BridgeId, NearCall};
use crate::exchange::policy;
use crate::exchange::shown::{ANONYMOUS_FROM, is_private};
use crate::exchange::sips;
use crate::exchange::worker::{Input, Worker};
use crate::location::dns::{LocateError, Server, Wanted};
use crate::text::harmless;
use crate::transport::policy::is_sendable;

/// An INVITE that a server says nothing about within this goes to the next one; a live one answers 100 at once.
const SERVER_ANSWERS_WITHIN: Duration = Duration::from_secs(4);
/// Most characters of a provider's reason phrase that a caller is shown.
const REASON_MAX: usize = 80;

/// A call over a trunk.
#[derive(Debug)]
pub(super) struct TrunkCall {
    /// What `status` knows it by, if it is this call's to tell.
    pub(super) shown: Option<String>,
    /// Its line; given back with the call.
    pub(super) line: Option<Line>,
    /// How it leaves; `None` for one that came in.
    pub(super) out: Option<Outgoing>,
    /// The INVITE, since when the call stands in unix ms, and how it sounds, where its media runs through here.
    pub(super) carried: Option<(Message, u64, Monitor)>,
}

/// A call on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    user: String,
    is_anonymous: bool,
    is_emergency: bool,
    wants_sips: bool,
    /// The trunk being tried, and those left.
    candidate: Option<Candidate>,
    left: VecDeque<Candidate>,
    /// Likewise the servers of that trunk.
    server: Option<Server>,
    ways: VecDeque<Server>,
    /// Offers that are left for that server, where media runs through here.
    profiles: VecDeque<Profile>,
    /// What the caller hears if nothing remains to be tried.
    excuse: Excuse,
}

/// A refusal.
type Excuse = (u16, String, Vec<(Header, String)>);

impl Worker {
    /// Calls out, if what is dialled is a number that a trunk carries; false if it is none.
    pub(in crate::exchange) fn dial_out(
        &mut self,
        id: RequestId,
        request: &Message,
        flow: &Flow,
        caller: &str,
    ) -> bool {
        let exchange = self.exchange.clone();
        let Some(dialled) = policy::dialled(request.request_uri(), |uri| self.is_own_host(uri)) else { return false };
        let user = self.exchange.account_of(caller);
        let settings = exchange.trunks.all().iter().map(|trunk| &trunk.settings);
        let candidates = match plan::plan(settings, user, &dialled) {
            Ok(candidates) => candidates,
            Err(NoTrunk::Unknown) => return false,
            Err(NoTrunk::NotAllowed) => {
                self.reject(id, 403, "This account may not call out");
                return true;
            }
            Err(NoTrunk::Refused(prefix)) => {
                tracing::info!(%caller, %prefix, "a call to a refused number was not placed");
                self.reject(id, 403, &format!("Numbers that begin with {prefix} are not called from here"));
                return true;
            }
        };
        let method = request.method();
        if method == Method::Invite {
            self.call_out(id, request, flow, user, candidates, false);
        } else if method == Method::Message {
            self.send_text_out(id, request, user, &candidates);
        } else {
            self.reject_with(id, 405, "Method Not Allowed", &[(Header::Allow, "INVITE, MESSAGE".to_owned())]);
        }
        true
    }

    /// Calls an emergency number over this trunk, whatever rules and caps say.
    pub(in crate::exchange) fn dial_emergency(
        &mut self,
        id: RequestId,
        request: &Message,
        flow: &Flow,
        caller: &str,
        (trunk, number): (&str, &str),
    ) {
        let exchange = self.exchange.clone();
        let user = self.exchange.account_of(caller);
        let found = exchange.trunks.named(trunk).and_then(|index| Some((index, exchange.trunks.get(index)?)));
        match found {
            Some((index, state)) => {
                let candidate = plan::emergency(index, &state.settings, number);
                self.call_out(id, request, flow, user, vec![candidate], true);
            }
            None => self.reject(id, 403, "No emergency calls from here: use another telephone"),
        }
    }

    fn call_out(
        &mut self,
        id: RequestId,
        request: &Message,
        flow: &Flow,
        user: &str,
        candidates: Vec<Candidate>,
        is_emergency: bool,
    ) {
        let wants_sips = sips::is_sips(request.request_uri());
        let number = candidates.first().map_or("", |candidate| candidate.number.as_str());
        let contact = self.own_contact(&format!("trunk-{number}"), flow, wants_sips);
        let messages = candidates
            .iter()
            .all(|candidate| self.exchange.trunks.get(candidate.trunk).is_some_and(|trunk| trunk.settings.messages));
        let bridge = self.trunks.bridges.begin(NearCall {
            id,
            invite: request.clone(),
            contact,
            messages,
            media: None,
            tag: None,
        });
        self.exchange.calls.begin(unix_ms(), request);
        let out = Outgoing {
            user: user.to_owned(),
            is_anonymous: is_private(request),
            is_emergency,
            wants_sips,
            candidate: None,
            left: candidates.into(),
            server: None,
            ways: VecDeque::new(),
            profiles: VecDeque::new(),
            excuse: (480, "No way to the telephone network".to_owned(), Vec::new()),
        };
        let shown = Some(request.call_id().to_owned());
        let call = TrunkCall { shown, line: None, out: Some(out), carried: None };
        self.trunks.calls.insert(bridge, call);
        self.try_next_trunk(bridge);
        self.on_bridge_events();
    }

    /// Takes a line of the next trunk, and asks where its servers are.
    fn try_next_trunk(&mut self, bridge: BridgeId) {
        let exchange = self.exchange.clone();
        loop {
            let Some(call) = self.trunks.calls.get_mut(&bridge) else { return };
            let Some(out) = call.out.as_mut() else { return };
            call.line = None;
            (out.candidate, out.server) = (None, None);
            let Some(candidate) = out.left.pop_front() else {
                let (status, reason, extra) = out.excuse.clone();
                self.refuse_bridge(bridge, status, &reason, &extra);
                return;
            };
            let Some(trunk) = exchange.trunks.get(candidate.trunk) else { continue };
            match take_line(trunk, out) {
                Ok(line) => call.line = Some(line),
                Err(excuse) => {
                    tracing::warn!(trunk = %trunk.settings.name, user = %out.user, "{}", excuse.1);
                    out.excuse = excuse;
                    continue;
                }
            }
            tracing::info!(trunk = %trunk.settings.name, user = %out.user, "a call out");
            out.candidate = Some(candidate);
            let (server, answers, exchange) = (trunk.settings.server.clone(), self.answers.clone(), exchange.clone());
            tokio::spawn(async move {
                let servers = match Wanted::read(&server) {
                    Ok(wanted) => exchange.dns.locate(&wanted).await,
                    Err(error) => Err(error),
                };
                let _ = answers.send(Input::Trunk(TrunkInput::Ways { bridge, servers })).await;
            });
            return;
        }
    }

    /// Takes the servers of the trunk being tried.
    pub(super) fn on_ways(&mut self, bridge: BridgeId, servers: Result<Vec<Server>, LocateError>) {
        let Some(out) = self.trunks.calls.get_mut(&bridge).and_then(|call| call.out.as_mut()) else { return };
        let wants_sips = out.wants_sips;
        let may_go =
            |server: &Server| is_sendable(server.address) && (!wants_sips || sips::is_protected(server.transport));
        match servers {
            Ok(found) => {
                let had_some = !found.is_empty();
                out.ways = found.into_iter().filter(may_go).collect();
                if had_some && out.ways.is_empty() && wants_sips {
                    let warning = sips::not_allowed(&self.exchange.domain);
                    out.excuse = (480, "Not reachable over protected hops".to_owned(), vec![warning]);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the servers of a trunk were not found");
                out.ways.clear();
                out.excuse = (502, "The provider's server is not found".to_owned(), Vec::new());
            }
        }
        self.try_next_server(bridge);
        self.on_bridge_events();
    }

    fn try_next_server(&mut self, bridge: BridgeId) {
        let Some(out) = self.trunks.calls.get_mut(&bridge).and_then(|call| call.out.as_mut()) else { return };
        let candidate = out.candidate.clone();
        let (Some(server), Some(candidate)) = (out.ways.pop_front(), candidate) else {
            self.try_next_trunk(bridge);
            return;
        };
        out.server = Some(server);
        let known = self.trunks.bridges.invite(bridge).cloned().zip(self.way_to(server));
        let carried = known.and_then(|(invite, destination)| self.carried_to(&invite, &destination));
        let (media, profiles) = carried.unzip();
        self.trunks.bridges.carry(bridge, media);
        if let Some(out) = self.trunks.calls.get_mut(&bridge).and_then(|call| call.out.as_mut()) {
            out.profiles = profiles.unwrap_or_default();
        }
        self.place_out(bridge, server, &candidate);
    }

    /// Calls the provider's server.
    fn place_out(&mut self, bridge: BridgeId, server: Server, candidate: &Candidate) {
        let exchange = self.exchange.clone();
        let Some(out) = self.trunks.calls.get_mut(&bridge).and_then(|call| call.out.as_mut()) else { return };
        let is_last = out.ways.is_empty() && out.left.is_empty();
        let (user, is_anonymous, wants_sips) = (out.user.clone(), out.is_anonymous, out.wants_sips);
        let is_emergency = out.is_emergency;
        let (Some(trunk), Some(destination)) = (exchange.trunks.get(candidate.trunk), self.way_to(server)) else {
            self.try_next_server(bridge);
            return;
        };
        let settings = &trunk.settings;
        let uri = settings.uri_of(&candidate.number);
        let uri = if wants_sips { sips::with_scheme("sips", &uri).unwrap_or(uri) } else { uri };
        let (from, headers) = shown(settings, &user, is_anonymous);
        let to = format!("<{}>", settings.address_of(&candidate.number));
        let contact = self.trunk_contact(trunk, &destination);
        let mut order = OutgoingCall::new(&uri, destination, &from, &to, &contact);
        order.headers = headers;
        let call_id = self.own_call_id();
        if let Some(near) = self.trunks.calls.get(&bridge).and_then(|call| call.shown.as_deref()) {
            exchange.watches.belongs(self.index, near, &call_id);
        }
        order.call_id = Some(call_id);
        order.credentials = trunk.credentials();
        order.sources = trunk.addresses();
        order.answer_within = (!is_last).then_some(SERVER_ANSWERS_WITHIN);
        let longest = (!is_emergency).then_some(settings.max_duration);
        self.trunks.bridges.call(&mut self.server, Instant::now(), bridge, order, longest);
    }

    /// Carries on with what has become of bridges.
    pub(in crate::exchange) fn on_bridge_events(&mut self) {
        while let Some(event) = self.trunks.bridges.poll_event() {
            if self.on_anchored_event(&event) {
                continue;
            }
            match event {
                BridgeEvent::Unanswered { bridge, status, limit: Some(limit), .. } => {
                    tracing::warn!(%limit, "a call over a trunk is refused");
                    self.exchange.shares.count_refusal();
                    let warning = self.exchange.warning(&limit);
                    self.refuse_bridge(bridge, status, &limit, &[warning]);
                }
                BridgeEvent::Unanswered { bridge, status, response, rang, limit: None } => {
                    self.on_unanswered(bridge, status, response.as_ref(), rang);
                }
                BridgeEvent::Answered { bridge } => {
                    let shown = self.trunks.calls.get(&bridge).and_then(|call| call.shown.as_deref());
                    if let Some(shown) = shown {
                        self.exchange.calls.answered(unix_ms(), shown, 200);
                    }
                    let monitor = self.trunks.bridges.media(bridge).map(|media| media.monitor());
                    let invite = self.trunks.bridges.invite(bridge).cloned();
                    if let (Some(monitor), Some(invite)) = (monitor, invite)
                        && let Some(call) = self.trunks.calls.get_mut(&bridge)
                    {
                        self.exchange.calls.carried(invite.call_id(), monitor.clone());
                        call.carried = Some((invite, unix_ms(), monitor));
                    }
                }
                BridgeEvent::Ended { bridge } => {
                    let Some(call) = self.trunks.calls.remove(&bridge) else { continue };
                    if let Some((invite, began_ms, monitor)) = &call.carried {
                        self.exchange.calls.finished(unix_ms(), *began_ms, invite, monitor);
                    }
                    if let Some(shown) = call.shown {
                        self.exchange.calls.end(&shown);
                    }
                }
            }
        }
    }

    fn on_unanswered(&mut self, bridge: BridgeId, status: u16, response: Option<&Message>, rang: bool) {
        let Some(call) = self.trunks.calls.get_mut(&bridge) else { return };
        let Some(out) = call.out.as_mut() else {
            let (status, reason) = refusal_inside(status);
            self.refuse_bridge(bridge, status, reason, &[]);
            return;
        };
        if !rang
            && is_about_media(status)
            && let (Some(server), Some(candidate)) = (out.server, out.candidate.clone())
            && let Some(profile) = out.profiles.pop_front()
            && let Some(media) = self.trunks.bridges.media(bridge)
        {
            media.prefer(End::Far, profile);
            self.place_out(bridge, server, &candidate);
            return;
        }
        let is_unreachable = !rang && matches!(status, 408 | 503);
        if let Some(server) = out.server {
            if is_unreachable { self.exchange.dns.failed(server) } else { self.exchange.dns.answered(server) }
        }
        let excuse = verdict(status, response, rang);
        if is_unreachable {
            out.excuse = excuse;
            self.try_next_server(bridge);
        } else if !rang && matches!(status, 401 | 407) {
            tracing::warn!(status, "a provider does not take the credentials of its trunk");
            out.excuse = excuse;
            self.try_next_trunk(bridge);
        } else {
            self.refuse_bridge(bridge, excuse.0, &excuse.1, &excuse.2);
        }
    }

    pub(super) fn refuse_bridge(&mut self, bridge: BridgeId, status: u16, reason: &str, extra: &[(Header, String)]) {
        self.trunks.bridges.refuse(&mut self.server, Instant::now(), bridge, status, reason, extra);
    }
}

fn take_line(trunk: &TrunkState, out: &Outgoing) -> Result<Line, Excuse> {
    if out.is_emergency {
        return Ok(trunk.lines.take_anyway(&out.user));
    }
    let Trunk { max_calls, max_calls_per_user, .. } = trunk.settings;
    trunk.lines.take(Some(&out.user), max_calls, max_calls_per_user).map_err(|why| match why {
        NoLine::Busy => (486, "All lines to the telephone network are in use".to_owned(), Vec::new()),
        NoLine::TooMany => (403, "Too many calls of this account at once".to_owned(), Vec::new()),
    })
}

/// From, and the fields beside it that say whose number is calling.
pub(super) fn shown(settings: &Trunk, user: &str, is_anonymous: bool) -> (String, Vec<(Header, String)>) {
    let own = format!("<{}>", settings.address_of(settings.caller_id_of(user)));
    let mut headers = match settings.identity {
        Identity::From => Vec::new(),
        Identity::Preferred => vec![(Header::PPreferredIdentity, own.clone())],
        Identity::Asserted => vec![(Header::PAssertedIdentity, own.clone())],
    };
    if !is_anonymous {
        return (own, headers);
    }
    headers.push((Header::Privacy, "id".to_owned()));
    (ANONYMOUS_FROM.to_owned(), headers)
}

/// What a caller hears of a provider's failure: what concerns the call passes with its words; what concerns this node and the
/// provider alone is no fault of the caller's.
fn verdict(status: u16, response: Option<&Message>, rang: bool) -> Excuse {
    let said = response.map(|response| harmless(response.reason(), REASON_MAX)).unwrap_or_default();
    let why = response.and_then(|response| response.header(Header::Reason)).map(|why| (Header::Reason, why.to_owned()));
    let (status, reason) = match status {
        300..=399 => (502, "The provider points elsewhere, which is not followed".to_owned()),
        401 | 407 => (502, "The provider does not take this node's credentials".to_owned()),
        408 if rang => (480, "Nobody answers".to_owned()),
        408 => (504, "The provider does not answer".to_owned()),
        503 => (502, "The provider cannot be reached".to_owned()),
        402 | 405 | 416 | 420..=423 | 481..=483 | 489 | 491 | 493 | 494 | 501 | 505 | 513 => {
            (502, format!("The provider refuses the call: {status} {said}"))
        }
        other => (other, said),
    };
    (status, reason, why.into_iter().collect())
}

/// What a provider hears when a user here was not reached.
fn refusal_inside(status: u16) -> (u16, &'static str) {
    match status {
        300..=399 | 401 | 407 | 408 | 430 | 482 | 483 | 503 => (480, "Temporarily Unavailable"),
        other => (other, ""),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;

    fn response(status: &str, fields: &str) -> Message {
        let text = format!(
            "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\
             Call-ID: x\r\nCSeq: 1 INVITE\r\n{fields}Content-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    #[test]
    fn what_concerns_the_call_passes_and_what_does_not_is_no_fault_of_the_callers() {
        for (status, heard) in [
            ("486 Besetzt", (486, "Besetzt")),
            ("404 No such number", (404, "No such number")),
            ("603 Decline", (603, "Decline")),
            ("302 Moved", (502, "The provider points elsewhere, which is not followed")),
            ("407 Authenticate", (502, "The provider does not take this node's credentials")),
            ("420 Bad Extension", (502, "The provider refuses the call: 420 Bad Extension")),
            ("503 Overload", (502, "The provider cannot be reached")),
        ] {
            let message = response(status, "");
            let (status, reason, _) = verdict(message.status(), Some(&message), false);
            assert_eq!((status, reason.as_str()), heard);
        }
        assert_eq!(verdict(408, None, false).0, 504);
        assert_eq!(verdict(408, None, true).0, 480);
    }

    #[test]
    fn the_providers_reason_passes_with_its_refusal() {
        let message = response("480 Gone", "Reason: Q.850;cause=19\r\n");
        assert_eq!(verdict(480, Some(&message), true).2, [(Header::Reason, "Q.850;cause=19".to_owned())]);
    }

    #[test]
    fn a_caller_is_shown_by_number_unless_he_wants_not_to_be() {
        let mut settings = Trunk::new("t", "sip:t.example:5070", "user");
        settings.caller_id = Some("+4930123".to_owned());
        let own = "<sip:+4930123@t.example>".to_owned();
        let preferred = (Header::PPreferredIdentity, own.clone());
        assert_eq!(shown(&settings, "alice", false), (own, vec![preferred.clone()]));
        let (from, headers) = shown(&settings, "alice", true);
        assert!(from.contains("anonymous.invalid") && !from.contains("4930123"));
        assert_eq!(headers, [preferred, (Header::Privacy, "id".to_owned())]);
        settings.identity = Identity::From;
        assert!(shown(&settings, "alice", false).1.is_empty());
    }
}
