//! Session timers of our own calls (RFC 4028).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent_support;

use agent_support::*;
use meshtone_sip::agent::Acceptance;
use meshtone_sip::message::{Builder, Header};
use meshtone_sip::server::Event;

#[test]
fn the_refresher_refreshes_by_update_at_half_time() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let mut order = order(&bob);
    order.session_timer = Some(seconds(1800));
    let agreed = [(Header::SessionExpires, "1800;refresher=uac"), (Header::Allow, "INVITE, UPDATE")];
    let (_, invite) = talking(&mut net, &bob, order, &agreed);
    assert_eq!(invite.header(Header::SessionExpires), Some("1800"));
    net.advance(seconds(899));
    assert_eq!(net.heard(&bob), "");
    for _ in 0..3 {
        net.advance(seconds(1));
        let update = net.one(&bob);
        assert_eq!(update.method_name(), "UPDATE");
        assert_eq!(update.header(Header::SessionExpires), Some("1800;refresher=uac"));
        net.answer(&bob, &update, 200, "", &agreed);
        net.advance(seconds(899));
    }
    assert!(net.event(0).is_none(), "a refresh is nobody's business");
}

#[test]
fn a_phone_without_update_is_refreshed_by_what_was_agreed() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let agreed = [(Header::SessionExpires, "90;refresher=uac"), (Header::Allow, "INVITE")];
    talking(&mut net, &bob, order(&bob), &agreed);
    net.advance(seconds(45));
    let reinvite = net.one(&bob);
    assert_eq!((reinvite.method_name(), reinvite.body()), ("INVITE", OFFER));
    answer_with(&mut net, &bob, &reinvite, 200, "", &agreed, ANSWER);
    assert_eq!(net.heard(&bob), "ACK");
}

#[test]
fn a_session_that_nobody_refreshes_ends_by_bye() {
    for refresher in ["uac", "uas"] {
        let mut net = Net::new(1);
        let bob = net.udp(0, BOB);
        let value = format!("90;refresher={refresher}");
        let agreed = [(Header::SessionExpires, value.as_str()), (Header::Allow, "INVITE, UPDATE")];
        let (call, _) = talking(&mut net, &bob, order(&bob), &agreed);
        net.advance(seconds(59));
        assert!(!net.heard(&bob).contains("BYE"));
        net.advance(seconds(20));
        assert!(net.heard(&bob).contains("BYE"), "{refresher}");
        let mut ended = false;
        while let Some(event) = net.event(0) {
            ended |= matches!(event, Event::DialogEnded { dialog } if dialog == call);
        }
        assert!(ended);
    }
}

#[test]
fn a_call_that_is_refused_for_too_short_a_timer_asks_for_a_longer_one() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let mut order = order(&bob);
    order.session_timer = Some(seconds(90));
    act(&mut net, |server, now| server.place_call(now, order));
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 422, "x", &[(Header::MinSe, "600")]);
    let again = net.received(&bob).pop().unwrap();
    assert_eq!((again.header(Header::SessionExpires), again.header(Header::MinSe)), (Some("600"), Some("600")));
    assert_eq!((again.cseq().unwrap().number, again.call_id()), (2, invite.call_id()));
}

#[test]
fn a_caller_who_can_refresh_does_and_we_watch() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let mut caller = Caller::new(&alice);
    let fields = "Supported: timer\nSession-Expires: 90\n";
    net.send_message(&alice, with(&caller.text("INVITE"), fields, OFFER));
    let (id, ..) = net.request(0);
    act(&mut net, |server, now| server.accept_with(now, id, &Acceptance::new(CONTACT).with_sdp(ANSWER)));
    let ok = net.one(&alice);
    assert_eq!(
        (ok.header(Header::SessionExpires), ok.header(Header::Require)),
        (Some("90;refresher=uac"), Some("timer"))
    );
    caller.learn(&ok);
    net.send(&alice, &caller.text("ACK"));
    net.advance(seconds(45));
    let update = caller
        .next("UPDATE")
        .replace("Content-Length", "Supported: timer\nSession-Expires: 90;refresher=uac\nContent-Length");
    net.send(&alice, &update);
    let refreshed = net.one(&alice);
    assert_eq!((refreshed.status(), refreshed.header(Header::SessionExpires)), (200, Some("90;refresher=uac")));
    net.advance(seconds(59));
    assert_eq!(net.heard(&alice), "");
    net.advance(seconds(2));
    assert!(net.heard(&alice).starts_with("BYE"));
}

#[test]
fn we_refresh_for_a_caller_who_cannot() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let mut caller = Caller::new(&alice);
    net.send_message(&alice, with(&caller.text("INVITE"), "", OFFER));
    let (id, ..) = net.request(0);
    let mut answer = Acceptance::new(CONTACT).with_sdp(ANSWER);
    answer.session_timer = Some(seconds(600));
    act(&mut net, |server, now| server.accept_with(now, id, &answer));
    let ok = net.one(&alice);
    assert_eq!((ok.header(Header::SessionExpires), ok.header(Header::Require)), (Some("600;refresher=uas"), None));
    caller.learn(&ok);
    net.send(&alice, &caller.text("ACK"));
    net.advance(seconds(300));
    let reinvite = net.one(&alice);
    assert_eq!((reinvite.method_name(), reinvite.body()), ("INVITE", ANSWER));
    let response = Builder::response(&reinvite, 200, "").header(Header::Contact, "<sip:alice@10.0.1.1:40001>");
    net.send_message(&alice, response.body("application/sdp", OFFER).finish());
    assert_eq!(net.heard(&alice), "ACK");
}

#[test]
fn an_interval_below_90_seconds_gets_422() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let caller = Caller::new(&alice);
    let fields = "Supported: timer\nSession-Expires: 30\n";
    net.send_message(&alice, with(&caller.text("INVITE"), fields, OFFER));
    let (id, ..) = net.request(0);
    act(&mut net, |server, now| server.accept_with(now, id, &Acceptance::new(CONTACT).with_sdp(ANSWER)));
    let refusal = net.one(&alice);
    assert_eq!((refusal.status(), refusal.header(Header::MinSe)), (422, Some("90")));
}
