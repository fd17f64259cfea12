//! What passes during a call: changes of the session (re-INVITE, UPDATE), and requests such as INFO.

use std::time::Instant;

use meshtone_sip::agent::{Body, DialogId};
use meshtone_sip::message::{Builder, Header, Message, Method};
use meshtone_sip::server::{RequestId, Server};

use super::description::{Role, Uncarried, passed};
use super::ending::{UNHEARD_REASON, within_status};
use super::{Ask, Bridges, description};

/// What of a request within a call passes besides its body: what it is about.
const PASSED: &[Header] = &[Header::ContentDisposition, Header::ContentEncoding, Header::ContentLanguage];

/// The package of an INFO (RFC 6086 §7.2), which the engine has no name for.
const INFO_PACKAGE: &str = "Info-Package";

impl Bridges {
    /// One side wants to change the session: the other one is asked, by the same means where it knows them.
    pub(super) fn on_change(
        &mut self,
        server: &mut Server,
        now: Instant,
        id: RequestId,
        dialog: DialogId,
        request: &Message,
    ) {
        let Some((bridge, side)) = self.bridge_of(dialog) else { return };
        let offer = description::of(request);
        let own = bridge.leg(side);
        own.learn(request);
        if offer.is_some()
            && offer == own.said
            && let Some(told) = own.told.clone()
        {
            // Nothing new: it refreshes its session, which is this side's alone (RFC 4028 §7.4, RFC 3264 §8).
            respond(server, now, id, request, &told);
            return;
        }
        // One change at a time: a second offer would take the place of the one that waits for its answer.
        let is_changing = [&bridge.near, &bridge.far].into_iter().any(|leg| leg.asks.is_some() || leg.is_told_anew);
        let other = bridge.leg(side.other());
        let (Some(asked), false) = (other.dialog, is_changing) else {
            server.reject(now, id, 491, "", &[]);
            return;
        };
        let is_update = request.method() != Method::Invite && other.updates;
        let told = offer.as_ref().map(|offer| passed(bridge.media.as_mut(), side, Role::Offer, offer));
        let told = match told.transpose() {
            Ok(told) => told,
            Err(Uncarried { status, limit }) => {
                let reason = limit.as_deref().unwrap_or("This change cannot be carried");
                server.reject(now, id, status, reason, &[]);
                return;
            }
        };
        let towards = told.clone();
        let sent = if is_update { server.update(now, asked, towards) } else { server.reinvite(now, asked, towards) };
        match sent {
            Ok(()) => bridge.leg(side).asks = Some(Ask { id, request: request.clone(), offer, told }),
            // A change of the other side's is under way, or it has not answered yet.
            Err(_) => server.reject(now, id, 491, "", &[]),
        }
    }

    /// A side has agreed to a change: the side that asked hears so.
    pub(super) fn on_changed(
        &mut self,
        server: &mut Server,
        now: Instant,
        dialog: DialogId,
        response: &Message,
        wants_answer: bool,
    ) {
        let Some((bridge, side)) = self.bridge_of(dialog) else { return };
        bridge.leg(side).learn(response);
        if std::mem::take(&mut bridge.leg(side).is_told_anew) {
            let said = description::of(response);
            if bridge.open.is_some() {
                // The near side has waited for this.
                if let Some((id, _)) = self.of_dialog(dialog) {
                    self.answer_near(server, now, (id, dialog), said, false);
                }
                return;
            }
            if said.is_none_or(|said| passed(bridge.media.as_mut(), side, Role::Answer, &said).is_err()) {
                self.end_unheard(server, now, dialog);
            }
            return;
        }
        // The agent's own refreshes are answered as well.
        let Some(ask) = bridge.leg(side.other()).asks.take() else { return };
        let Some(said) = description::of(response) else {
            server.reject(now, ask.id, 502, "The other side describes no session", &[]);
            return;
        };
        let role = if wants_answer { Role::Offer } else { Role::Answer };
        let towards = match passed(bridge.media.as_mut(), side, role, &said) {
            Ok(towards) => towards,
            Err(_) => {
                server.reject(now, ask.id, 502, "The other side's answer cannot be carried", &[]);
                return;
            }
        };
        let leg = bridge.leg(side);
        (leg.said, leg.told) = (Some(said), ask.told.or_else(|| leg.told.take()));
        let asker = bridge.leg(side.other());
        (asker.said, asker.told) = (ask.offer.or_else(|| asker.said.take()), Some(towards.clone()));
        asker.acknowledges_offer = wants_answer;
        respond(server, now, ask.id, &ask.request, &towards);
    }

    /// A side refuses a change: all stays as it was.
    pub(super) fn on_change_failed(&mut self, server: &mut Server, now: Instant, dialog: DialogId, status: u16) {
        let Some((bridge, side)) = self.bridge_of(dialog) else { return };
        if let Some(ask) = bridge.leg(side.other()).asks.take() {
            server.reject(now, ask.id, within_status(status), "", &[]);
        } else if bridge.leg(side).is_told_anew {
            self.end_unheard(server, now, dialog);
        }
    }

    /// A side does not take what it must know to be heard: no call is better than a silent one.
    pub(super) fn end_unheard(&mut self, server: &mut Server, now: Instant, dialog: DialogId) {
        let Some((id, _)) = self.of_dialog(dialog) else { return };
        if let Some(open) = self.bridges.get_mut(&id).and_then(|bridge| bridge.open.take()) {
            self.by_invite.remove(&open);
            server.reject(now, open, 488, "The other side takes no sound that can be had", &[]);
        }
        self.end(server, now, id, Some(UNHEARD_REASON));
    }

    /// A request that is no business of the session's: digits (INFO), text (MESSAGE).
    pub(super) fn on_request(
        &mut self,
        server: &mut Server,
        now: Instant,
        id: RequestId,
        dialog: DialogId,
        request: &Message,
    ) {
        if request.method() == Method::Info
            && let Some((bridge, side)) = self.bridge_of(dialog)
            && let Some((status, reason)) = description::press(bridge.media.as_mut(), side, request)
        {
            server.respond(now, id, Builder::response(request, status, reason).finish());
            return;
        }
        let other = self.bridge_of(dialog).and_then(|(bridge, side)| bridge.leg(side.other()).dialog);
        let kind = request.header(Header::ContentType).unwrap_or("text/plain");
        let body = (!request.body().is_empty()).then(|| Body::new(kind, request.body()));
        let passed = |header: &Header| Some((*header, request.header(*header)?.to_owned()));
        let headers: Vec<(Header, String)> = PASSED.iter().filter_map(passed).collect();
        if request.header_named(INFO_PACKAGE).is_some() {
            // Packages are agreed upon in the INVITE (RFC 6086 §5.2), where none passes.
            server.reject(now, id, 469, "Bad Info Package", &[]);
            return;
        }
        let sent = other.map(|other| server.send_in_dialog(now, other, request.method(), &headers, body.as_ref()));
        match sent {
            Some(Ok(passed)) => {
                self.passed.insert(passed, id);
            }
            Some(Err(_)) | None => server.reject(now, id, 480, "The other side is not there yet", &[]),
        }
    }
}

fn respond(server: &mut Server, now: Instant, id: RequestId, request: &Message, body: &Body) {
    let response = Builder::response(request, 200, "").body(&body.content_type, &body.content).finish();
    server.respond(now, id, response);
}
