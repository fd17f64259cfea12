//! A bridge between alice's phone and a provider's server, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../../sip/tests/agent_support/mod.rs"]
mod agent_support;

use std::time::Duration;

use agent_support::{ANSWER, Caller, Net, OFFER, Phone, answer_with, millis, names, seconds, with};
use meshtone_sip::agent::{Credentials, OutgoingCall, Secret};
use meshtone_sip::message::{Header, Message};
use meshtone_sip::transport::Destination;

use super::{BridgeEvent, BridgeId, Bridges, NearCall};

const ALICE: &str = "10.0.1.1:40001";
const PROVIDER: &str = "198.51.100.1:5060";
const INSIDE: &str = "sip:near@10.0.0.1:5060";
const OUTSIDE: &str = "sip:far@10.0.0.1:5060";
/// Before the first refresh of a session is due.
const LONGEST: Duration = Duration::from_secs(600);

struct World {
    net: Net,
    bridges: Bridges,
    bridge: BridgeId,
    alice: Phone,
    caller: Caller,
    provider: Phone,
    news: Vec<BridgeEvent>,
    longest: Option<Duration>,
}

/// Alice calls a number; her INVITE has been put to a bridge whose far call is under way.
fn calling(fields: &str, offer: &[u8]) -> (World, Message) {
    calling_for(None, fields, offer)
}

fn calling_for(longest: Option<Duration>, fields: &str, offer: &[u8]) -> (World, Message) {
    let mut net = Net::new(1);
    let (alice, provider) = (net.udp(0, ALICE), net.udp(0, PROVIDER));
    let caller = Caller::new(&alice);
    net.send_message(&alice, with(&caller.text("INVITE"), fields, offer));
    let (id, invite, _) = net.request(0);
    let mut bridges = Bridges::default();
    let call = NearCall { id, invite, contact: INSIDE.to_owned(), messages: false, media: None, tag: None };
    let bridge = bridges.begin(call);
    let mut world = World { net, bridges, bridge, alice, caller, provider, news: Vec::new(), longest };
    world.place();
    let invite = world.at_provider();
    (world, invite)
}

/// Alice and the provider are in a call.
fn talking() -> (World, Caller) {
    let (mut world, invite) = calling("", OFFER);
    let side = world.take(&invite, &[], ANSWER);
    (world, side)
}

impl World {
    fn place(&mut self) {
        let destination = Destination::Flow(self.provider.flow.clone());
        let mut order = OutgoingCall::new(
            "sip:+49301@provider.example",
            destination,
            "<sip:+49302@provider.example>",
            "<sip:+49301@provider.example>",
            OUTSIDE,
        );
        order.credentials = Some(Credentials {
            realm: Some("provider".to_owned()),
            host: "provider.example".to_owned(),
            username: "trunk".to_owned(),
            secret: Secret::Password("secret".to_owned()),
        });
        let now = self.net.now;
        self.bridges.call(&mut self.net.nodes[0].server, now, self.bridge, order, self.longest);
        self.settle();
    }

    /// Delivers everything, and gives the bridges what the server has to say.
    fn settle(&mut self) {
        loop {
            self.net.run();
            let Some(event) = self.net.event(0) else { break };
            let now = self.net.now;
            self.bridges.on_event(&mut self.net.nodes[0].server, now, event);
        }
        while let Some(event) = self.bridges.poll_event() {
            self.news.push(event);
        }
    }

    fn advance(&mut self, time: Duration) {
        let end = self.net.now + time;
        while self.net.now < end {
            let step = self.bridges.poll_timeout().map_or(end, |at| at.min(end));
            let step = step.saturating_duration_since(self.net.now).min(seconds(1)).max(millis(1));
            self.net.advance(step);
            let now = self.net.now;
            self.bridges.handle_timeout(&mut self.net.nodes[0].server, now);
            self.settle();
        }
    }

    fn at_provider(&mut self) -> Message {
        let provider = self.provider.clone();
        self.net.one(&provider)
    }

    fn at_alice(&mut self) -> Message {
        let alice = self.alice.clone();
        self.net.one(&alice)
    }

    fn provider_answers(&mut self, request: &Message, status: u16, extra: &[(Header, &str)], sdp: &[u8]) {
        let provider = self.provider.clone();
        answer_with(&mut self.net, &provider, request, status, "far-tag", extra, sdp);
        self.settle();
    }

    fn alice_answers(&mut self, request: &Message, status: u16, sdp: &[u8]) {
        let alice = self.alice.clone();
        answer_with(&mut self.net, &alice, request, status, "", &[], sdp);
        self.settle();
    }

    fn alice_sends(&mut self, text: &str, fields: &str, body: &[u8]) {
        let alice = self.alice.clone();
        self.net.send_message(&alice, with(text, fields, body));
        self.settle();
    }

    fn provider_sends(&mut self, text: &str, fields: &str, body: &[u8]) {
        let provider = self.provider.clone();
        self.net.send_message(&provider, with(text, fields, body));
        self.settle();
    }

    /// The provider takes the call, alice acknowledges; gives the provider's side of the dialog.
    fn take(&mut self, invite: &Message, extra: &[(Header, &str)], sdp: &[u8]) -> Caller {
        self.provider_answers(invite, 200, extra, sdp);
        assert_eq!(self.at_provider().method_name(), "ACK");
        let ok = self.at_alice();
        assert_eq!((ok.status(), ok.body()), (200, sdp));
        self.caller.learn(&ok);
        let ack = self.caller.text("ACK");
        self.alice_sends(&ack, "", &[]);
        let mut side = Caller::callee(&self.provider, invite, "far-tag");
        side.uri = OUTSIDE.into();
        side
    }

    fn is_over(&mut self) -> bool {
        self.advance(seconds(64));
        let node = &self.net.nodes[0].server;
        let is_empty = self.bridges.bridges.is_empty()
            && self.bridges.by_dialog.is_empty()
            && self.bridges.by_invite.is_empty()
            && self.bridges.passed.is_empty()
            && self.bridges.deadlines.is_empty();
        let ends = self.news.iter().filter(|event| matches!(event, BridgeEvent::Ended { .. })).count();
        assert!(ends <= 1, "{:?}", self.news);
        is_empty && ends == 1 && node.agent_load() == 0 && node.transaction_count() == 0
    }
}

#[test]
fn nothing_of_the_inside_shows_on_the_outside() {
    let inside =
        "User-Agent: phone/1\nSubject: secret\nRecord-Route: <sip:10.9.9.9;lr>\nP-Asserted-Identity: <sip:a@x>\n";
    let (mut world, invite) = calling(inside, OFFER);
    assert_eq!((invite.request_uri(), invite.body()), ("sip:+49301@provider.example", OFFER));
    let text = String::from_utf8_lossy(invite.bytes()).into_owned();
    for hidden in ["10.0.1.1", "alice", "phone/1", "secret", "10.9.9.9", "call-1@phone", "example.org", "P-Asserted"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    assert_eq!(invite.values(Header::Via).count(), 1);
    world.provider_answers(&invite, 486, &[(Header::Server, "their/1")], &[]);
    assert!(matches!(world.news[..], [BridgeEvent::Unanswered { status: 486, rang: false, .. }]));
}

#[test]
fn it_rings_is_answered_and_each_side_may_hang_up() {
    for caller_hangs_up in [true, false] {
        let (mut world, invite) = calling("", OFFER);
        world.provider_answers(&invite, 180, &[], &[]);
        assert_eq!(world.at_alice().status(), 180);
        let mut side = world.take(&invite, &[], ANSWER);
        assert!(matches!(world.news[..], [BridgeEvent::Answered { .. }]));
        let reason = "Reason: Q.850;cause=16\n";
        let bye = if caller_hangs_up {
            let bye = world.caller.next("BYE");
            world.alice_sends(&bye, reason, &[]);
            assert_eq!(world.at_alice().status(), 200);
            let bye = world.at_provider();
            world.provider_answers(&bye, 200, &[], &[]);
            bye
        } else {
            let bye = side.next("BYE");
            world.provider_sends(&bye, reason, &[]);
            assert_eq!(world.at_provider().status(), 200);
            let bye = world.at_alice();
            world.alice_answers(&bye, 200, &[]);
            bye
        };
        assert_eq!((bye.method_name(), bye.header(Header::Reason)), ("BYE", Some("Q.850;cause=16")));
        assert!(world.is_over());
    }
}

#[test]
fn early_media_of_several_branches_reaches_the_caller_and_the_answer_is_that_of_the_branch() {
    let (mut world, invite) = calling("", OFFER);
    let provider = world.provider.clone();
    for (tag, media) in [("one", b"v=1\r\n"), ("two", b"v=2\r\n")] {
        answer_with(&mut world.net, &provider, &invite, 183, tag, &[], media);
        world.settle();
        let progress = world.at_alice();
        assert_eq!((progress.status(), progress.body()), (183, media.as_slice()));
    }
    answer_with(&mut world.net, &provider, &invite, 200, "one", &[], &[]);
    world.settle();
    assert_eq!(world.at_alice().body(), b"v=1\r\n", "what this branch described before");
    assert_eq!(world.at_provider().method_name(), "ACK");
}

#[test]
fn a_reliable_response_is_acknowledged_for_a_caller_who_cannot() {
    let (mut world, invite) = calling("", OFFER);
    world.provider_answers(&invite, 183, &[(Header::Require, "100rel"), (Header::RSeq, "7")], ANSWER);
    let prack = world.at_provider();
    assert_eq!((prack.method_name(), prack.header(Header::RAck)), ("PRACK", Some("7 1 INVITE")));
    world.provider_answers(&prack, 200, &[], &[]);
    let progress = world.at_alice();
    assert_eq!((progress.status(), progress.body(), progress.header(Header::RSeq)), (183, ANSWER, None));
    world.provider_answers(&invite, 200, &[], &[]);
    assert_eq!(world.at_alice().body(), ANSWER);
}

#[test]
fn reliable_responses_on_both_sides_carry_a_late_offer_and_its_answer() {
    let (mut world, invite) = calling("Supported: 100rel\n", &[]);
    assert!(invite.body().is_empty());
    world.provider_answers(&invite, 183, &[(Header::Require, "100rel"), (Header::RSeq, "7")], OFFER);
    let progress = world.at_alice();
    assert_eq!((progress.body(), progress.header(Header::Require)), (OFFER, Some("100rel")));
    world.caller.learn(&progress);
    let rack = format!("RAck: {} 1 INVITE\n", progress.header(Header::RSeq).unwrap());
    let prack = world.caller.next("PRACK");
    world.alice_sends(&prack, &rack, ANSWER);
    assert_eq!(world.at_alice().status(), 200);
    let prack = world.at_provider();
    assert_eq!((prack.method_name(), prack.body()), ("PRACK", ANSWER));
    world.provider_answers(&prack, 200, &[], &[]);
    world.provider_answers(&invite, 200, &[], &[]);
    assert_eq!(world.at_alice().status(), 200);
    assert_eq!(world.at_provider().method_name(), "ACK");
}

#[test]
fn a_late_offer_is_answered_in_the_ack() {
    let (mut world, invite) = calling("", &[]);
    assert!(invite.body().is_empty() && !invite.values(Header::Supported).any(|tag| tag == "100rel"));
    world.provider_answers(&invite, 200, &[], OFFER);
    let ok = world.at_alice();
    assert_eq!((ok.status(), ok.body()), (200, OFFER));
    world.caller.learn(&ok);
    let ack = world.caller.text("ACK");
    world.alice_sends(&ack, "", ANSWER);
    let ack = world.at_provider();
    assert_eq!((ack.method_name(), ack.body()), ("ACK", ANSWER));
}

#[test]
fn hold_and_resume_pass_both_ways_and_a_refusal_leaves_all_as_it_was() {
    let (mut world, mut side) = talking();
    for round in 1..=2 {
        let held = format!("v=hold{round}\r\n").into_bytes();
        let text = world.caller.next("INVITE");
        world.alice_sends(&text, "", &held);
        let invite = world.at_provider();
        assert_eq!((invite.method_name(), invite.body()), ("INVITE", held.as_slice()));
        world.provider_answers(&invite, 200, &[], ANSWER);
        assert_eq!(world.at_provider().method_name(), "ACK");
        assert_eq!(world.at_alice().body(), ANSWER);
        let text = world.caller.text("ACK");
        world.alice_sends(&text, "", &[]);
    }
    let text = side.next("INVITE");
    world.provider_sends(&text, "", b"v=theirs\r\n");
    let invite = world.at_alice();
    assert_eq!((invite.method_name(), invite.body()), ("INVITE", b"v=theirs\r\n".as_slice()));
    world.alice_answers(&invite, 488, &[]);
    assert_eq!(world.net.heard(&world.alice.clone()), "ACK");
    assert_eq!(world.at_provider().status(), 488);
    assert!(world.news.iter().all(|event| matches!(event, BridgeEvent::Answered { .. })));
}

#[test]
fn a_change_without_an_offer_gets_the_other_sides_and_brings_the_answer_in_the_ack() {
    let (mut world, mut side) = talking();
    let text = side.next("INVITE");
    world.provider_sends(&text, "", &[]);
    let invite = world.at_alice();
    assert!(invite.method_name() == "INVITE" && invite.body().is_empty());
    world.alice_answers(&invite, 200, b"v=alice\r\n");
    let ok = world.at_provider();
    assert_eq!((ok.status(), ok.body()), (200, b"v=alice\r\n".as_slice()));
    let text = side.text("ACK");
    world.provider_sends(&text, "", b"v=provider\r\n");
    let ack = world.at_alice();
    assert_eq!((ack.method_name(), ack.body()), ("ACK", b"v=provider\r\n".as_slice()));
}

#[test]
fn an_update_passes_as_one_or_as_a_reinvite_to_a_side_that_knows_none() {
    for knows in [true, false] {
        let (mut world, invite) = calling("", OFFER);
        let allow = if knows { "INVITE, ACK, BYE, UPDATE" } else { "INVITE, ACK, BYE" };
        world.take(&invite, &[(Header::Allow, allow)], ANSWER);
        let text = world.caller.next("UPDATE");
        world.alice_sends(&text, "", b"v=new\r\n");
        let change = world.at_provider();
        assert_eq!(change.method_name(), if knows { "UPDATE" } else { "INVITE" });
        world.provider_answers(&change, 200, &[], ANSWER);
        let ok = world.at_alice();
        assert_eq!((ok.status(), ok.method_name(), ok.body()), (200, "UPDATE", ANSWER));
    }
}

#[test]
fn a_refresh_of_one_sides_session_does_not_trouble_the_other() {
    let (mut world, mut side) = talking();
    let text = side.next("INVITE");
    world.provider_sends(&text, "", ANSWER);
    let ok = world.at_provider();
    assert_eq!((ok.status(), ok.body()), (200, OFFER));
    assert_eq!(world.net.heard(&world.alice.clone()), "");
}

#[test]
fn each_side_has_a_session_timer_of_its_own_and_silence_on_one_ends_both() {
    let (mut world, invite) = calling("", OFFER);
    assert_eq!(invite.header(Header::SessionExpires), Some("1800"));
    let fields = [(Header::SessionExpires, "1800;refresher=uas"), (Header::Require, "timer")];
    world.provider_answers(&invite, 200, &fields, ANSWER);
    world.at_provider();
    let ok = world.at_alice();
    assert_eq!(ok.header(Header::SessionExpires), Some("1800;refresher=uas"));
    world.caller.learn(&ok);
    let text = world.caller.text("ACK");
    world.alice_sends(&text, "", &[]);
    // Nobody refreshes towards us; alice's phone is refreshed by us, and answers.
    world.advance(seconds(900));
    let refresh = world.at_alice();
    assert_eq!((refresh.method_name(), refresh.body()), ("INVITE", ANSWER));
    world.alice_answers(&refresh, 200, OFFER);
    assert_eq!(world.at_alice().method_name(), "ACK");
    assert_eq!(world.net.heard(&world.provider.clone()), "");
    world.advance(seconds(900));
    let (alice, provider) = (world.alice.clone(), world.provider.clone());
    assert!(names(&world.net.received(&provider)).starts_with("BYE"));
    assert!(names(&world.net.received(&alice)).starts_with("BYE"));
    assert!(world.is_over());
}

#[test]
fn a_cancel_reaches_the_far_side_with_its_reason() {
    let (mut world, invite) = calling("", OFFER);
    world.provider_answers(&invite, 180, &[], &[]);
    world.at_alice();
    let text = world.caller.text("CANCEL");
    world.alice_sends(&text, "Reason: SIP;cause=200;text=\"elsewhere\"\n", &[]);
    assert_eq!(world.net.heard(&world.alice.clone()), "200 487");
    let cancel = world.at_provider();
    assert_eq!(cancel.method_name(), "CANCEL");
    assert_eq!(cancel.header(Header::Reason), Some("SIP;cause=200;text=\"elsewhere\""));
    world.provider_answers(&cancel, 200, &[], &[]);
    world.provider_answers(&invite, 487, &[], &[]);
    assert!(world.is_over());
}

#[test]
fn a_cancel_that_crosses_the_answer_ends_the_call() {
    let (mut world, invite) = calling("", OFFER);
    let text = world.caller.text("CANCEL");
    world.alice_sends(&text, "", &[]);
    world.net.received(&world.alice.clone());
    world.provider_answers(&invite, 200, &[], ANSWER);
    let heard = world.net.heard(&world.provider.clone());
    assert_eq!(heard, "ACK BYE");
    assert!(world.is_over());
}

#[test]
fn digits_pass_and_the_answer_to_them_comes_back() {
    let (mut world, mut side) = talking();
    let text = world
        .caller
        .next("INFO")
        .replace("Content-Length: 0", "Content-Type: application/dtmf-relay\nContent-Length: 8");
    let alice = world.alice.clone();
    world.net.send(&alice, &format!("{text}Signal=5"));
    world.settle();
    let info = world.at_provider();
    assert_eq!((info.method_name(), info.body()), ("INFO", b"Signal=5".as_slice()));
    assert_eq!(info.header(Header::ContentType), Some("application/dtmf-relay"));
    world.provider_answers(&info, 415, &[], &[]);
    assert_eq!(world.at_alice().status(), 415);
    let text = side.next("INFO");
    world.provider_sends(&text, "", &[]);
    let info = world.at_alice();
    world.alice_answers(&info, 200, &[]);
    assert_eq!(world.at_provider().status(), 200);
}

#[test]
fn what_does_not_pass_is_refused_by_name() {
    let (mut world, mut side) = talking();
    let text = side.next("REFER");
    world.provider_sends(&text, "Refer-To: <sip:premium@evil.example>\n", &[]);
    let refusal = world.at_provider();
    assert_eq!(refusal.status(), 405);
    assert!(!refusal.header(Header::Allow).unwrap().contains("REFER"));
    let text = world.caller.next("MESSAGE");
    world.alice_sends(&text, "", &[]);
    assert_eq!(world.at_alice().status(), 405);
}

#[test]
fn the_longest_duration_ends_a_call_with_a_reason() {
    let (mut world, invite) = calling_for(Some(LONGEST), "", OFFER);
    world.take(&invite, &[], ANSWER);
    world.advance(LONGEST - seconds(1));
    assert!(!world.news.iter().any(|event| matches!(event, BridgeEvent::Ended { .. })));
    let (alice, provider) = (world.alice.clone(), world.provider.clone());
    let received = [world.net.received(&alice), world.net.received(&provider)];
    assert!(received.iter().flatten().all(|message| message.method_name() != "BYE"));
    world.advance(seconds(1));
    for phone in [alice, provider] {
        let messages = world.net.received(&phone);
        let bye = messages.iter().find(|message| message.is_request() && message.method_name() == "BYE").unwrap();
        assert!(bye.header(Header::Reason).unwrap().contains("longest duration"));
    }
}

#[test]
fn after_a_failure_another_server_is_called_or_the_caller_is_refused() {
    let (mut world, first) = calling("", OFFER);
    world.provider_answers(&first, 503, &[], &[]);
    world.at_provider();
    assert!(matches!(world.news[..], [BridgeEvent::Unanswered { status: 503, rang: false, .. }]));
    assert_eq!(world.net.heard(&world.alice.clone()), "");
    world.place();
    let second = world.at_provider();
    assert_eq!(second.body(), OFFER);
    assert_ne!(second.call_id(), first.call_id());
    world.provider_answers(&second, 486, &[], &[]);
    let (bridge, now) = (world.bridge, world.net.now);
    world.bridges.refuse(&mut world.net.nodes[0].server, now, bridge, 486, "Busy Here", &[]);
    world.settle();
    assert_eq!(world.at_alice().status(), 486);
    let text = world.caller.ack_failure(&Message::parse(first.bytes().clone()).unwrap());
    world.alice_sends(&text, "", &[]);
    assert!(world.is_over());
}

#[test]
fn the_providers_challenge_is_answered_in_the_call_and_a_foreign_realm_gets_nothing() {
    let challenge = |realm: &str| format!("Digest realm=\"{realm}\", nonce=\"n1\", qop=\"auth\", algorithm=MD5");
    let (mut world, first) = calling("", OFFER);
    world.provider_answers(&first, 407, &[(Header::ProxyAuthenticate, &challenge("provider"))], &[]);
    let received = world.net.received(&world.provider.clone());
    let invite = received.iter().find(|message| message.method_name() == "INVITE").unwrap().clone();
    assert!(invite.header(Header::ProxyAuthorization).unwrap().contains("username=\"trunk\""));
    world.take(&invite, &[], ANSWER);
    let text = world.caller.next("BYE");
    world.alice_sends(&text, "", &[]);
    let bye = world.at_provider();
    world.provider_answers(&bye, 407, &[(Header::ProxyAuthenticate, &challenge("provider"))], &[]);
    let bye = world.at_provider();
    assert!(bye.header(Header::ProxyAuthorization).is_some());

    let (mut world, first) = calling("", OFFER);
    world.provider_answers(&first, 407, &[(Header::ProxyAuthenticate, &challenge("evil"))], &[]);
    assert_eq!(world.net.heard(&world.provider.clone()), "ACK");
    assert!(matches!(world.news[..], [BridgeEvent::Unanswered { status: 407, .. }]));
}
