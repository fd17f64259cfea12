//! A phone whose address changes while it talks to our agent, and whoever else has learnt its tags (threat 16).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent_support;

use agent_support::*;
use meshtone_sip::agent::{Acceptance, AgentEvent, DialogId};
use meshtone_sip::message::Header;
use meshtone_sip::server::{Event, RequestId};

const MOBILE: &str = "10.7.7.7:40009";

/// The next event, which must ask about a phone that moved; whose it is said to be.
fn moved(net: &mut Net, dialog: DialogId) -> (RequestId, String) {
    let AgentEvent::Moved { id, dialog: named, peer, .. } = told(net) else { panic!("nobody moved") };
    assert_eq!(named, dialog);
    (id, peer)
}

#[test]
fn a_phone_in_another_network_proves_itself_and_the_call_goes_on_there() {
    let mut net = Net::new(1);
    let (_, mut caller, dialog) = taken(&mut net, &Acceptance::new(CONTACT).with_sdp(ANSWER));
    let mobile = net.udp(0, MOBILE);
    caller.phone = mobile.clone();
    net.send_message(&mobile, with(&caller.next("INVITE"), "", OFFER));
    let (id, peer) = moved(&mut net, dialog);
    assert_eq!(peer, "sip:alice@example.org");
    let challenge = [(Header::ProxyAuthenticate, "Digest realm=\"example.org\", nonce=\"n\"".to_owned())];
    act(&mut net, |server, now| server.challenge(now, id, 407, "", &challenge));
    let refusal = net.one(&mobile);
    assert_eq!(refusal.status(), 407);
    net.send(&mobile, &caller.ack_failure(&refusal));

    net.send_message(&mobile, with(&caller.next("INVITE"), "", OFFER));
    let (id, _) = moved(&mut net, dialog);
    act(&mut net, |server, now| server.admit(now, id));
    let Some(Event::Reinvite { id, dialog: named, request }) = net.event(0) else { panic!("no re-INVITE") };
    assert_eq!((named, request.body()), (dialog, OFFER));
    let response = meshtone_sip::message::Builder::response(&request, 200, "").body("application/sdp", ANSWER).finish();
    act(&mut net, |server, now| server.respond(now, id, response));
    assert!(net.heard(&mobile).ends_with("200"));
    net.send(&mobile, &caller.text("ACK"));
    assert!(matches!(net.event(0), Some(Event::Acknowledged { .. })), "its ACK needs no proof");

    net.send(&mobile, &caller.next("OPTIONS"));
    assert_eq!(net.heard(&mobile), "200", "nor does what follows");
    act(&mut net, |server, now| server.hang_up(now, dialog));
    assert_eq!(net.heard(&mobile), "BYE");
}

/// Threat 16.
#[test]
fn whoever_has_learnt_the_tags_changes_nothing_without_proof() {
    let mut net = Net::new(1);
    let (_, mut caller, dialog) = taken(&mut net, &Acceptance::new(CONTACT).with_sdp(ANSWER));
    let (alice, eve) = (caller.phone.clone(), net.udp(0, "10.6.6.6:5060"));
    for method in ["BYE", "INVITE", "UPDATE", "REFER", "INFO", "NOTIFY"] {
        let mut forged = caller.clone();
        (forged.phone, forged.cseq) = (eve.clone(), 500);
        net.send(&eve, &forged.next(method));
        let (id, _) = moved(&mut net, dialog);
        net.reject(0, id, 481);
        assert!(net.heard(&eve).ends_with("481"), "{method}");
        net.send(&eve, &forged.text("ACK"));
    }
    assert!(net.event(0).is_none());
    net.send(&alice, &caller.next("OPTIONS"));
    assert_eq!(net.heard(&alice), "200", "not even the sequence numbers moved on");
    act(&mut net, |server, now| server.hang_up(now, dialog));
    assert_eq!((net.heard(&alice), net.heard(&eve)), ("BYE".into(), String::new()));
}

#[test]
fn proof_that_comes_when_the_call_is_over_gets_481() {
    let mut net = Net::new(1);
    let (_, mut caller, dialog) = taken(&mut net, &Acceptance::new(CONTACT).with_sdp(ANSWER));
    let mobile = net.udp(0, MOBILE);
    caller.phone = mobile.clone();
    net.send(&mobile, &caller.next("INFO"));
    let (id, _) = moved(&mut net, dialog);
    act(&mut net, |server, now| server.hang_up(now, dialog));
    act(&mut net, |server, now| server.admit(now, id));
    assert_eq!(net.heard(&mobile), "481");
}
