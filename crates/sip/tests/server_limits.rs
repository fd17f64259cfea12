//! What a server answers when a message is bad or too much comes at once, and that what it keeps is small.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server_support;

use bytes::Bytes;
use meshtone_sip::message::{Header, Message};
use meshtone_sip::registrar::{self, Grants};
use meshtone_sip::server::Event;
use meshtone_sip::transaction::{InviteClient, InviteServer, OtherClient, OtherServer};
use server_support::*;

const ALICE: &str = "10.0.1.1:5060";
const BOB: &str = "10.0.1.2:5060";

/// Threat 9: what is established outlives a flood.
#[test]
fn a_full_server_says_503_but_lets_calls_end() {
    let mut net = Net::with(1, |config| config.max_transactions = 4);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE"));
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![bob.target("bob")], false);
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 180, "b", &[]);
    net.received(&alice);
    let mut others = Caller::new(&alice);
    others.call_id = "flood".into();
    net.send(&alice, &others.next("MESSAGE"));
    net.send(&alice, &others.next("MESSAGE"));
    net.send(&alice, &others.next("MESSAGE"));
    let full = net.one(&alice);
    assert_eq!((full.status(), full.header(Header::RetryAfter)), (503, Some("5")));

    net.send(&alice, &caller.text("CANCEL"));
    assert_eq!(net.heard(&alice), "200");
    assert_eq!(net.heard(&bob), "CANCEL");
    let mut talking = Caller::new(&alice);
    talking.call_id = "talking".into();
    talking.to_tag = Some("b".into());
    for _ in 0..10 {
        net.send(&alice, &talking.next("BYE"));
    }
    assert!(net.heard(&alice).contains("503"), "even those have a bound");
}

#[test]
fn room_comes_back_when_transactions_end() {
    let mut net = Net::with(1, |config| config.max_transactions = 1);
    let alice = net.udp(0, ALICE);
    let mut caller = Caller::new(&alice);
    net.send(&alice, &caller.next("MESSAGE"));
    let (id, ..) = net.request(0);
    net.reject(0, id, 404);
    net.send(&alice, &caller.next("MESSAGE"));
    assert_eq!(net.heard(&alice), "404 503");
    net.advance(seconds(32));
    net.send(&alice, &caller.next("MESSAGE"));
    net.request(0);
}

#[test]
fn in_a_full_server_the_oldest_that_has_ended_makes_room_and_nothing_under_way_does() {
    let mut net = Net::with(1, |config| config.max_transactions = 3);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE"));
    let (call, ..) = net.request(0);
    net.forward(0, call, vec![bob.target("bob")], false);
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 180, "b", &[]);
    assert_eq!(net.heard(&alice), "100 180");
    let mut texting = Caller::new(&alice);
    texting.call_id = "texting".into();
    let first = texting.next("MESSAGE");
    net.send(&alice, &first);
    let (id, ..) = net.request(0);
    net.reject(0, id, 404);
    assert_eq!(net.heard(&alice), "404");

    net.advance(seconds(7));
    net.send(&alice, &first);
    net.send(&alice, &texting.next("MESSAGE"));
    assert_eq!(net.heard(&alice), "404 503", "what may be lost is still repeated");
    net.advance(seconds(1));
    net.send(&alice, &texting.next("MESSAGE"));
    net.request(0);
    net.send(&alice, &texting.next("MESSAGE"));
    assert_eq!(net.heard(&alice), "503", "only one had ended");
    net.answer(&bob, &invite, 200, "b", &[]);
    assert_eq!(net.heard(&alice), "200", "the call goes on");
}

#[test]
fn a_bad_request_is_answered_without_state_where_that_is_safe() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let good = Caller::new(&alice).text("MESSAGE");
    let cases = [
        (good.replace("CSeq: 1 MESSAGE", "CSeq: 1 INVITE"), "400"),
        (good.replace("Max-Forwards: 70", "Max-Forwards: many"), "400"),
        (good.replace("Call-ID: call-1@phone\n", ""), ""),
        (good.replace("MESSAGE", "ACK").replace("CSeq: 1 ACK", "CSeq: 1 BYE"), ""),
    ];
    for (text, heard) in cases {
        net.send(&alice, &text);
        assert_eq!(net.heard(&alice), heard, "{text}");
    }
    assert_eq!(net.nodes[0].server.transaction_count(), 0);
}

#[test]
fn what_cannot_be_parsed_is_answered_by_what_can_be_read_of_it() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let text = Caller::new(&alice).text("MESSAGE").replace("SIP/2.0\nVia", "SIP/7.0\nVia").replace('\n', "\r\n");
    let bytes = Bytes::from(text);
    let error = Message::parse(bytes.clone()).unwrap_err();
    let partial = Message::parse_lenient(bytes);
    let now = net.now;
    net.nodes[0].server.handle_bad_message(now, alice.flow.clone(), &error, partial);
    net.run();
    assert_eq!(net.heard(&alice), "505");
    net.nodes[0].server.handle_bad_message(now, alice.flow.clone(), &error, None);
    net.run();
    assert_eq!(net.heard(&alice), "");
}

/// Threat 16: tags are not guessed.
#[test]
fn the_to_tag_of_a_stateless_refusal_is_the_same_each_time_and_cannot_be_guessed() {
    let mut net = Net::new(2);
    let (alice, at_other) = (net.udp(0, ALICE), net.udp(1, ALICE));
    let text = Caller::new(&alice).text("CANCEL");
    let mut tags = Vec::new();
    for phone in [&alice, &alice, &at_other] {
        net.send(phone, &text);
        tags.push(net.one(phone).to().unwrap().tag().unwrap().to_owned());
    }
    assert_eq!(tags[0], tags[1]);
    assert_ne!(tags[0], tags[2]);
}

/// Threats 9 and 10: a spoofed source gets no more messages than it is said to have sent, and takes no memory.
#[test]
fn a_challenge_is_sent_once_for_each_copy_of_its_request_and_leaves_nothing_behind() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let invite = Caller::new(&alice).text("INVITE");
    for _ in 0..2 {
        net.send(&alice, &invite);
        let (id, ..) = net.request(0);
        let now = net.now;
        net.nodes[0].server.challenge(now, id, 407, "", &[(Header::ProxyAuthenticate, "Digest x=\"y\"".into())]);
        net.run();
        assert_eq!(net.heard(&alice), "407");
        assert_eq!(net.nodes[0].server.transaction_count(), 0);
        net.advance(seconds(40));
        assert_eq!(net.heard(&alice), "", "whoever was named in a made-up request hears no more");
        assert_eq!(net.nodes[0].server.poll_timeout(), None);
    }
    net.send(&alice, &invite.replace("INVITE", "ACK"));
    assert_eq!(net.heard(&alice), "", "its ACK is swallowed");
}

#[test]
fn answers_to_a_request_that_is_over_do_nothing() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    net.send(&alice, &Caller::new(&alice).text("INVITE"));
    let (id, ..) = net.request(0);
    net.reject(0, id, 404);
    assert_eq!(net.heard(&alice), "404");
    net.reject(0, id, 403);
    net.forward(0, id, vec![bob.target("bob")], false);
    let now = net.now;
    net.nodes[0].server.accept(now, id, "sip:echo@10.0.0.1", ("", b""));
    net.run();
    assert_eq!((net.heard(&alice), net.heard(&bob)), (String::new(), String::new()));
    assert!(matches!(net.event(0), Some(Event::DialogEnded { .. })));
}

#[test]
fn two_runs_of_the_same_story_send_the_same_bytes() {
    let run = || {
        let mut net = Net::new(1);
        let alice = net.udp(0, ALICE);
        let bobs: Vec<Phone> = (2..10).map(|host| net.udp(0, &format!("10.0.1.{host}:5060"))).collect();
        net.send(&alice, &Caller::new(&alice).text("INVITE"));
        let (id, ..) = net.request(0);
        net.forward(0, id, bobs.iter().map(|bob| bob.target("bob")).collect(), false);
        net.advance(seconds(40));
        let heard = bobs.iter().chain([&alice]).flat_map(|phone| net.received(phone));
        let bytes: Vec<Bytes> = heard.map(|message| message.bytes().clone()).collect();
        (bytes, net.fired.clone())
    };
    assert!(run() == run());
}

#[test]
fn a_transaction_that_only_waits_is_small() {
    // With its keys and its place in the tables well below 1 KiB, the message that it may have to repeat aside.
    assert!(size_of::<InviteClient>() <= 128);
    assert!(size_of::<InviteServer>() <= 128);
    assert!(size_of::<OtherClient>() <= 128);
    assert!(size_of::<OtherServer>() <= 128);
}

#[test]
fn an_answer_that_has_its_tag_from_the_start_is_the_one_that_gets_it_later() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let mut caller = Caller::new(&alice);
    let mut answer = |has_tag: bool| {
        caller.call_id = format!("tagged {has_tag}").replace(' ', "-");
        net.send(&alice, &caller.next("REGISTER"));
        let (id, request, _) = net.request(0);
        let tag = net.nodes[0].server.to_tag(&request);
        let grants = Grants { to_tag: has_tag.then_some(tag.as_str()), ..Grants::default() };
        let now = net.now;
        net.nodes[0].server.respond(now, id, registrar::ok(0, &[], &request, grants));
        net.run();
        let answer = net.one(&alice);
        assert_eq!(answer.to().unwrap().tag(), Some(tag.as_str()));
        let text = String::from_utf8(answer.bytes().to_vec()).unwrap();
        // What tells the two requests apart.
        text.lines()
            .filter(|line| !["Via", "To", "Call-ID", "CSeq"].iter().any(|name| line.starts_with(name)))
            .collect::<String>()
    };
    assert_eq!(answer(true), answer(false));
}
