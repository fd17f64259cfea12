//! The echo service: it answers and plays the caller's audio back, so that anybody can try a phone alone. The echo itself speaks plain
//! RTP; browsers and phones that protect their sound are carried to it, as they are to desk phones.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use meshtone_media::anchoring::Profile;
use meshtone_media::io::{AnchoredCall, EchoSession, MediaError, Place};
use meshtone_media::relay::End;
use meshtone_sip::agent::DialogId;
use meshtone_sip::message::{Builder, Header, Message};
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::Flow;

use super::anchoring::Nodes;
use super::callee::ECHO;
use super::phone::ALLOW;
use super::sips;
use super::worker::{Echo, Worker};
use crate::clock::unix_ms;

const SDP: &str = "application/sdp";

impl Worker {
    pub(super) fn on_echo_invite(&mut self, id: RequestId, request: &Message, flow: &Flow) {
        let Some(source) = source_of(flow) else {
            self.reject(id, 404, "No such user here");
            return;
        };
        if !self.carries_sdp_or_nothing(id, request) {
            return;
        }
        let offer = Some(request.body()).filter(|body| !body.is_empty());
        let facing = self.exchange.media_address(source);
        let plain = EchoSession::start(&self.exchange.rtp_ports, facing, facing, offer, source);
        let started = match (plain, offer) {
            (Err(MediaError::Sdp(_)), Some(offer)) => {
                self.carry_to_echo(request, Place { local: facing, signalling: Some(source) }, offer)
            }
            (plain, _) => plain.map(|session| (session.answer.clone(), session, None)),
        };
        match started {
            Ok((answer, session, carried)) => {
                let contact = self.own_contact(ECHO, flow, sips::is_sips(request.request_uri()));
                self.exchange.calls.begin(unix_ms(), request);
                let dialog = self.server.accept(Instant::now(), id, &contact, (SDP, &answer));
                let call_id = request.call_id().to_owned();
                self.echoes
                    .insert(dialog, Echo { session, carried, answered: answer, call_id, offered: offer.is_none() });
            }
            Err(error) => {
                tracing::info!(%error, "echo call refused");
                self.reject(id, error.status(), &error.to_string());
            }
        }
    }

    /// Starts an echo on this machine alone, and carries to it what the caller offers. Returns what is answered.
    fn carry_to_echo(
        &self,
        request: &Message,
        near: Place,
        offer: &[u8],
    ) -> Result<(Vec<u8>, EchoSession, Option<AnchoredCall>), MediaError> {
        let exchange = &self.exchange;
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        let far = Place { local: here, signalling: Some(here) };
        let shares = exchange.shares_of(request, None, near.signalling, Nodes::default());
        let mut carried = exchange.carrier(near, far, Profile::Optional, shares);
        let offered = carried.offer(End::Near, offer)?;
        let session = EchoSession::start(&exchange.rtp_ports, here, here, Some(&offered), here)?;
        let answer = carried.answer(End::Far, &session.answer)?;
        Ok((answer, session, Some(carried)))
    }

    pub(super) fn on_echo_reinvite(&mut self, id: RequestId, dialog: DialogId, request: &Message) {
        if !self.carries_sdp_or_nothing(id, request) {
            return;
        }
        let Some(echo) = self.echoes.get_mut(&dialog) else {
            self.reject(id, 481, "Call/Transaction Does Not Exist");
            return;
        };
        echo.offered = request.body().is_empty();
        let answer = match request.body() {
            // The phone asks for our offer: what was agreed already.
            [] => Ok(echo.answered.clone()),
            offer => echo.update(offer),
        };
        match answer {
            Ok(answer) => {
                let response =
                    Builder::response(request, 200, "OK").header(Header::Allow, ALLOW).body(SDP, &answer).finish();
                self.server.respond(Instant::now(), id, response);
            }
            Err(error) => self.reject(id, error.status(), &error.to_string()),
        }
    }

    /// The phone speaks from another address from now on, its sound as well once its next offer says so.
    pub(super) fn move_echo(&mut self, dialog: DialogId, flow: &Flow) {
        if let (Some(echo), Some(source)) = (self.echoes.get_mut(&dialog), source_of(flow)) {
            echo.session.move_to(source);
        }
    }

    /// The call is up; where the offer was ours, the ACK brings the answer that says where the phone listens.
    pub(super) fn on_echo_acknowledged(&mut self, dialog: DialogId, ack: &Message) {
        let Some(echo) = self.echoes.get_mut(&dialog) else { return };
        self.exchange.calls.answered(unix_ms(), &echo.call_id, 200);
        if !echo.offered || ack.body().is_empty() {
            return;
        }
        echo.offered = false;
        if let Err(error) = echo.accept_answer(ack.body()) {
            tracing::info!(%error, "echo call ended: the phone's answer cannot be used");
            self.server.hang_up(Instant::now(), dialog);
        }
    }

    /// A caller whose phone lost power sends no BYE: the session notices the silence, and the call is ended.
    pub(super) fn end_silent_echoes(&mut self) {
        let silent: Vec<DialogId> =
            self.echoes.iter().filter(|(_, echo)| echo.session.has_ended()).map(|(dialog, _)| *dialog).collect();
        for dialog in silent {
            self.server.hang_up(Instant::now(), dialog);
        }
    }

    fn carries_sdp_or_nothing(&mut self, id: RequestId, request: &Message) -> bool {
        let kind = request.header(Header::ContentType).unwrap_or(SDP);
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let understood = request.body().is_empty() || kind.eq_ignore_ascii_case(SDP);
        if !understood {
            self.reject_with(id, 415, "Unsupported Media Type", &[(Header::Accept, SDP.to_owned())]);
        }
        understood
    }
}

impl Echo {
    /// Answers another offer; if it cannot be, all goes on as it was.
    fn update(&mut self, offer: &[u8]) -> Result<Vec<u8>, MediaError> {
        let answer = match &mut self.carried {
            None => self.session.update(offer)?,
            Some(carried) => {
                let offered = carried.offer(End::Near, offer)?;
                let echoed = self.session.update(&offered)?;
                carried.answer(End::Far, &echoed)?
            }
        };
        self.answered.clone_from(&answer);
        Ok(answer)
    }

    /// Takes the answer to what was described to the phone last.
    fn accept_answer(&mut self, answer: &[u8]) -> Result<(), MediaError> {
        match &self.carried {
            None => self.session.accept_answer(answer),
            // What it was told was an answer before, and it has only said so again.
            Some(_) => Ok(()),
        }
    }
}

fn source_of(flow: &Flow) -> Option<IpAddr> {
    match flow {
        Flow::Udp { remote, .. } | Flow::Stream { remote, .. } => Some(remote.ip()),
        Flow::Peer { .. } => None,
    }
}
