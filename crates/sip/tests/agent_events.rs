//! Subscriptions of our own agent and with it (RFC 6665), REFER (RFC 3515) and Replaces (RFC 3891).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent_support;

use agent_support::*;
use meshtone_sip::agent::{
    Acceptance, AgentEvent, Body, OutgoingSubscription, Replaced, SubscriptionAnswer, SubscriptionId,
    SubscriptionState, Termination,
};
use meshtone_sip::message::{Header, Message, Method};
use meshtone_sip::server::{Event, RequestId};
use meshtone_sip::transport::Destination;

fn subscription(bob: &Phone, event: &str) -> OutgoingSubscription {
    let destination = Destination::Flow(bob.flow.clone());
    let (from, to) = ("<sip:service@example.org>", "<sip:bob@example.net>");
    OutgoingSubscription::new(event, "sip:bob@example.net", destination, from, to, CONTACT)
}

/// Bob's NOTIFY to a SUBSCRIBE or REFER of the node's.
fn notify(bob: &mut Caller, event: &str, state: &str) -> String {
    let fields = format!("Event: {event}\nSubscription-State: {state}\nContent-Length");
    bob.next("NOTIFY").replace("Content-Length", &fields)
}

fn subscribed(net: &mut Net, bob: &Phone) -> (SubscriptionId, Caller) {
    let order = subscription(bob, "dialog;id=7");
    let id = act(net, |server, now| server.subscribe(now, order));
    let subscribe = net.one(bob);
    assert_eq!(subscribe.header(Header::Event), Some("dialog;id=7"));
    let mut caller = bob_of(bob, &subscribe);
    // The NOTIFY may come before the 200.
    net.send(bob, &notify(&mut caller, "dialog;id=7", "active;expires=600"));
    assert_eq!(net.heard(bob), "200");
    net.answer(bob, &subscribe, 200, "bob-tag", &[(Header::Expires, "600")]);
    let AgentEvent::Notified { subscription, state, .. } = told(net) else { panic!("not notified") };
    assert_eq!((subscription, state), (id, SubscriptionState::Active));
    (id, caller)
}

#[test]
fn a_subscription_is_notified_refreshed_and_ended() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let (id, mut caller) = subscribed(&mut net, &bob);
    net.advance(seconds(535));
    assert_eq!(net.heard(&bob), "");
    net.advance(seconds(1));
    let refresh = net.one(&bob);
    assert_eq!((refresh.method_name(), refresh.to().unwrap().tag()), ("SUBSCRIBE", Some("bob-tag")));
    net.answer(&bob, &refresh, 200, "", &[(Header::Expires, "600")]);
    net.advance(seconds(500));
    act(&mut net, |server, now| server.unsubscribe(now, id));
    let end = net.one(&bob);
    assert_eq!(end.header(Header::Expires), Some("0"));
    net.answer(&bob, &end, 200, "", &[(Header::Expires, "0")]);
    net.send(&bob, &notify(&mut caller, "dialog;id=7", "terminated;reason=timeout"));
    assert_eq!(net.heard(&bob), "200");
    assert!(matches!(told(&mut net), AgentEvent::Notified { state: SubscriptionState::Terminated, .. }));
    assert!(matches!(told(&mut net), AgentEvent::SubscriptionEnded { reason: Termination::Timeout, .. }));
    assert_eq!(net.nodes[0].server.agent_load(), 0);
}

#[test]
fn a_notifier_that_ends_it_says_why_and_when_to_come_back() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let (_, mut caller) = subscribed(&mut net, &bob);
    net.send(&bob, &notify(&mut caller, "dialog;id=7", "terminated;reason=probation;retry-after=30"));
    told(&mut net);
    let AgentEvent::SubscriptionEnded { reason, retry_after, .. } = told(&mut net) else { panic!("not ended") };
    assert_eq!((reason, retry_after), (Termination::Probation, Some(seconds(30))));
}

#[test]
fn a_notify_without_a_subscription_gets_481() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let (_, caller) = subscribed(&mut net, &bob);
    let mut other_event = caller.clone();
    net.send(&bob, &notify(&mut other_event, "presence", "active"));
    let mut other_id = caller.clone();
    other_id.cseq = 200;
    net.send(&bob, &notify(&mut other_id, "dialog;id=8", "active"));
    let mut guessed = caller.clone();
    guessed.to_tag = Some("guess".into());
    net.send(&bob, &notify(&mut guessed, "dialog;id=7", "active"));
    let eve = net.udp(0, "10.0.6.6:5060");
    let mut forged = caller.clone();
    forged.phone = eve.clone();
    forged.cseq = 300;
    net.send(&eve, &notify(&mut forged, "dialog;id=7", "active"));
    refuse_moved(&mut net);
    assert_eq!((net.heard(&bob), net.heard(&eve)), ("481 481 481".to_owned(), "481".to_owned()));
    assert!(net.event(0).is_none());
}

#[test]
fn a_subscription_that_is_refused_or_never_notified_ends() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    act(&mut net, |server, now| server.subscribe(now, subscription(&bob, "winfo")));
    let subscribe = net.one(&bob);
    net.answer(&bob, &subscribe, 489, "x", &[]);
    assert!(matches!(told(&mut net), AgentEvent::SubscriptionEnded { reason: Termination::Failed(489), .. }));
    act(&mut net, |server, now| server.subscribe(now, subscription(&bob, "dialog")));
    let subscribe = net.one(&bob);
    net.answer(&bob, &subscribe, 200, "x", &[(Header::Expires, "600")]);
    net.advance(seconds(65));
    assert!(matches!(told(&mut net), AgentEvent::SubscriptionEnded { reason: Termination::Failed(408), .. }));
    assert_eq!(net.nodes[0].server.agent_load(), 0);
}

#[test]
fn a_subscription_that_is_too_brief_asks_for_longer() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let mut order = subscription(&bob, "dialog");
    order.expires = seconds(60);
    act(&mut net, |server, now| server.subscribe(now, order));
    let subscribe = net.one(&bob);
    net.answer(&bob, &subscribe, 423, "x", &[(Header::MinExpires, "300")]);
    assert_eq!(net.one(&bob).header(Header::Expires), Some("300"));
}

fn alice_subscribes(net: &mut Net, expires: &str) -> (Phone, Caller, RequestId) {
    let alice = net.udp(0, ALICE);
    let mut caller = Caller::new(&alice);
    caller.uri = "sip:service@example.org".into();
    let fields = format!("Event: dialog\nExpires: {expires}\n");
    net.send_message(&alice, with(&caller.text("SUBSCRIBE"), &fields, &[]));
    let (id, ..) = net.request(0);
    (alice, caller, id)
}

fn serve(net: &mut Net, id: RequestId) -> SubscriptionId {
    let answer = SubscriptionAnswer {
        contact: CONTACT.into(),
        longest: seconds(3600),
        state: SubscriptionState::Active,
        body: Some(Body::new("text/plain", b"one")),
    };
    act(net, |server, now| server.accept_subscription(now, id, answer)).unwrap()
}

#[test]
fn a_subscriber_is_told_the_state_at_once_at_changes_and_at_the_end() {
    let mut net = Net::new(1);
    let (alice, mut caller, id) = alice_subscribes(&mut net, "600");
    let subscription = serve(&mut net, id);
    let both = net.received(&alice);
    assert_eq!(names(&both), "200 NOTIFY");
    assert_eq!(both[0].header(Header::Expires), Some("600"));
    assert_eq!(both[1].header(Header::SubscriptionState), Some("active;expires=600"));
    assert_eq!(both[1].body(), b"one");
    // What changes meanwhile waits, and only the last of it is told.
    for state in ["two", "three"] {
        let body = Some(Body::new("text/plain", state.as_bytes()));
        act(&mut net, |server, now| server.notify(now, subscription, SubscriptionState::Active, None, body));
    }
    assert_eq!(net.heard(&alice), "");
    net.answer(&alice, &both[1], 200, "", &[]);
    let news = net.one(&alice);
    assert_eq!(news.body(), b"three");
    net.answer(&alice, &news, 200, "", &[]);

    caller.learn(&both[0]);
    let refresh = caller.next("SUBSCRIBE").replace("Content-Length", "Event: dialog\nExpires: 300\nContent-Length");
    net.advance(seconds(100));
    net.send(&alice, &refresh);
    let both = net.received(&alice);
    assert_eq!((names(&both).as_str(), both[1].body()), ("200 NOTIFY", &b"three"[..]));
    assert!(matches!(told(&mut net), AgentEvent::SubscriptionRefreshed { expires, .. } if expires == seconds(300)));
    net.answer(&alice, &both[1], 200, "", &[]);
    net.advance(seconds(300));
    let last = net.one(&alice);
    assert_eq!(last.header(Header::SubscriptionState), Some("terminated;reason=timeout"));
    net.answer(&alice, &last, 200, "", &[]);
    assert!(matches!(told(&mut net), AgentEvent::SubscriptionEnded { reason: Termination::Timeout, .. }));
    assert_eq!(net.nodes[0].server.agent_load(), 0);
}

#[test]
fn a_fetch_is_told_once() {
    let mut net = Net::new(1);
    let (alice, _, id) = alice_subscribes(&mut net, "0");
    serve(&mut net, id);
    let both = net.received(&alice);
    assert_eq!(both[1].header(Header::SubscriptionState), Some("terminated;reason=timeout"));
    net.answer(&alice, &both[1], 200, "", &[]);
    assert_eq!(net.nodes[0].server.agent_load(), 0);
}

#[test]
fn a_subscriber_that_knows_nothing_or_is_gone_is_forgotten() {
    for status in [481, 408] {
        let mut net = Net::new(1);
        let (alice, _, id) = alice_subscribes(&mut net, "600");
        serve(&mut net, id);
        let sent = net.received(&alice).pop().unwrap();
        if status == 481 {
            net.answer(&alice, &sent, 481, "", &[]);
        } else {
            net.advance(seconds(33));
        }
        let AgentEvent::SubscriptionEnded { reason, .. } = told(&mut net) else { panic!("not ended") };
        assert_eq!(reason, Termination::Failed(status));
        assert_eq!(net.nodes[0].server.agent_load(), 0);
    }
}

#[test]
fn a_refer_of_ours_tells_how_the_new_call_goes() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let (call, invite) = talking(&mut net, &bob, order(&bob), &[]);
    let subscription = act(&mut net, |server, now| server.refer(now, call, "sip:carol@example.org", &[])).unwrap();
    let refer = net.one(&bob);
    assert_eq!(refer.header(Header::ReferTo), Some("<sip:carol@example.org>"));
    net.answer(&bob, &refer, 202, "", &[]);
    let mut caller = bob_of(&bob, &invite);
    for (state, line) in
        [("active;expires=60", "SIP/2.0 180 Ringing"), ("terminated;reason=noresource", "SIP/2.0 200 OK")]
    {
        let text = notify(&mut caller, "refer", state);
        let message = with(&text, "", format!("{line}\r\n").as_bytes());
        net.send_message(&bob, message);
        assert_eq!(net.heard(&bob), "200");
        let AgentEvent::ReferProgress { subscription: of, status, .. } = told(&mut net) else { panic!("no progress") };
        assert_eq!((of, status), (subscription, line[8..11].parse().unwrap()));
    }
    assert!(matches!(told(&mut net), AgentEvent::SubscriptionEnded { reason: Termination::NoResource, .. }));
    net.send(&bob, &notify(&mut caller, "refer", "active"));
    assert_eq!(net.heard(&bob), "481");
    net.send(&bob, &caller.next("BYE"));
    assert_eq!(net.heard(&bob), "200");
}

#[test]
fn a_refer_to_us_is_accepted_and_reported_on() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let mut order = order(&bob);
    order.handles = vec![Method::Refer];
    let (call, invite) = talking(&mut net, &bob, order, &[]);
    assert!(invite.header(Header::Allow).unwrap().contains("REFER"));
    let mut caller = bob_of(&bob, &invite);
    net.send(&bob, &caller.next("REFER"));
    assert_eq!(net.heard(&bob), "400", "it names nobody");
    let refer = caller.next("REFER").replace("Content-Length", "Refer-To: <sip:carol@example.org>\nContent-Length");
    net.send(&bob, &refer);
    let AgentEvent::Refer { id, dialog, refer_to, .. } = told(&mut net) else { panic!() };
    assert_eq!((dialog, refer_to.as_str()), (call, "sip:carol@example.org"));
    let subscription = act(&mut net, |server, now| server.accept_refer(now, id, CONTACT)).unwrap();
    let both = net.received(&bob);
    assert_eq!(names(&both), "202 NOTIFY");
    assert_eq!(both[1].body(), b"SIP/2.0 100 Trying\r\n");
    assert_eq!(both[1].header(Header::Event), Some("refer"));
    net.answer(&bob, &both[1], 200, "", &[]);
    act(&mut net, |server, now| server.tell_refer(now, subscription, 486));
    let last = net.one(&bob);
    assert_eq!(last.body(), b"SIP/2.0 486 Busy Here\r\n");
    assert_eq!(last.header(Header::SubscriptionState), Some("terminated;reason=noresource"));
}

#[test]
fn a_call_without_a_handler_refuses_refer() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let (_, invite) = talking(&mut net, &bob, order(&bob), &[]);
    let mut caller = bob_of(&bob, &invite);
    net.send(&bob, &caller.next("REFER"));
    assert_eq!(net.heard(&bob), "405");
}

#[test]
fn a_call_replaces_a_dialog_that_it_names_rightly() {
    let mut net = Net::new(1);
    let (bob, alice) = (net.udp(0, BOB), net.udp(0, ALICE));
    let (call, invite) = talking(&mut net, &bob, order(&bob), &[]);
    let (call_id, ours) = (invite.call_id(), invite.from().unwrap().tag().unwrap().to_owned());
    let cases = [
        (format!("{call_id};to-tag={ours};from-tag=bob-tag"), Replaced::Dialog(call)),
        (format!("{call_id};to-tag={ours};from-tag=bob-tag;early-only"), Replaced::Refuse(486)),
        (format!("{call_id};to-tag={ours};from-tag=guess"), Replaced::Refuse(481)),
        (format!("{call_id};to-tag={ours}"), Replaced::Refuse(400)),
    ];
    for (number, (value, expected)) in cases.into_iter().enumerate().rev() {
        let mut caller = Caller::new(&alice);
        caller.call_id = format!("new-{number}");
        let fields = format!("Require: replaces\nReplaces: {value}\n");
        net.send_message(&alice, with(&caller.text("INVITE"), &fields, OFFER));
        let (id, request, _) = net.request(0);
        assert_eq!(net.nodes[0].server.find_replaced(&request), expected, "{value}");
        if number == 0 {
            let mut answer = Acceptance::new(CONTACT).with_sdp(ANSWER);
            answer.replaces = Some(call);
            act(&mut net, |server, now| server.accept_with(now, id, &answer));
            assert_eq!((net.heard(&alice), net.heard(&bob)), ("200".to_owned(), "BYE".to_owned()));
            assert!(matches!(net.event(0), Some(Event::DialogEnded { dialog }) if dialog == call));
        }
    }
}

#[test]
fn an_attended_transfer_names_the_dialog_as_its_other_side_knows_it() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let (call, invite) = talking(&mut net, &bob, order(&bob), &[]);
    let uri = net.nodes[0].server.refer_to_replacing(call, "sip:bob@10.0.2.2:5060").unwrap();
    let ours = invite.from().unwrap().tag().unwrap();
    let expected =
        format!("sip:bob@10.0.2.2:5060?Replaces={}%3Bto-tag%3Dbob-tag%3Bfrom-tag%3D{ours}", invite.call_id());
    assert_eq!(uri, expected);
    act(&mut net, |server, now| server.refer(now, call, &uri, &[])).unwrap();
    let refer: Message = net.one(&bob);
    assert_eq!(refer.header(Header::ReferTo), Some(format!("<{uri}>").as_str()));
}

#[test]
fn a_lost_notify_is_repeated() {
    let mut net = Net::new(1);
    let (alice, _, id) = alice_subscribes(&mut net, "600");
    let mut first = true;
    net.lose =
        Box::new(move |transmit| transmit.message.method_name() == "NOTIFY" && std::mem::replace(&mut first, false));
    serve(&mut net, id);
    assert_eq!(net.heard(&alice), "200");
    net.advance(millis(500));
    assert_eq!(net.heard(&alice), "NOTIFY");
}

#[test]
fn of_several_notifiers_the_first_is_watched_or_all_as_the_node_wants() {
    for keep_forks in [false, true] {
        let mut net = Net::new(1);
        let (bob, desk) = (net.udp(0, BOB), net.udp(0, BOB));
        let order = OutgoingSubscription { keep_forks, ..subscription(&bob, "presence") };
        let id = act(&mut net, |server, now| server.subscribe(now, order));
        let subscribe = net.one(&bob);
        let mut callers = [("bob-tag", &bob), ("desk-tag", &desk)].map(|(tag, phone)| {
            let mut caller = bob_of(phone, &subscribe);
            caller.tag = tag.into();
            caller
        });
        let heard = callers.each_mut().map(|caller| {
            net.send(&bob, &notify(caller, "presence", "active;expires=600"));
            net.heard(&bob)
        });
        assert_eq!(heard, ["200", if keep_forks { "200" } else { "481" }]);
        assert!(matches!(told(&mut net), AgentEvent::Notified { subscription, .. } if subscription == id));
        net.answer(&bob, &subscribe, 200, "bob-tag", &[(Header::Expires, "600")]);
        if !keep_forks {
            assert!(net.event(0).is_none());
            continue;
        }
        let AgentEvent::Forked { subscription, fork } = told(&mut net) else { panic!("not forked") };
        assert_eq!(subscription, id);
        assert!(matches!(told(&mut net), AgentEvent::Notified { subscription, .. } if subscription == fork));
        // Each is refreshed in its own dialog, and ended alone.
        net.advance(seconds(536));
        let refreshes = net.received(&bob);
        let tags: Vec<&str> = refreshes.iter().map(|refresh| refresh.to().unwrap().tag().unwrap()).collect();
        assert_eq!((names(&refreshes).as_str(), tags), ("SUBSCRIBE SUBSCRIBE", vec!["bob-tag", "desk-tag"]));
        net.send(&bob, &notify(&mut callers[1], "presence", "terminated;reason=noresource"));
        assert!(matches!(told(&mut net), AgentEvent::Notified { subscription, .. } if subscription == fork));
        assert!(matches!(told(&mut net), AgentEvent::SubscriptionEnded { subscription, .. } if subscription == fork));
        assert!(net.event(0).is_none(), "the other goes on");
    }
}

#[test]
fn a_notifier_that_comes_too_late_or_is_one_too_many_is_refused() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let order = OutgoingSubscription { keep_forks: true, ..subscription(&bob, "presence") };
    act(&mut net, |server, now| server.subscribe(now, order));
    let subscribe = net.one(&bob);
    net.answer(&bob, &subscribe, 200, "tag-0", &[(Header::Expires, "3600")]);
    let from = |net: &mut Net, number: usize| {
        let mut caller = bob_of(&bob, &subscribe);
        caller.tag = format!("tag-{number}");
        net.send(&bob, &notify(&mut caller, "presence", "active;expires=3600"));
        net.heard(&bob)
    };
    let heard: Vec<String> = (0..18).map(|number| from(&mut net, number)).collect();
    assert_eq!(heard.iter().filter(|heard| *heard == "200").count(), 17, "sixteen beside the first");

    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let order = OutgoingSubscription { keep_forks: true, ..subscription(&bob, "presence") };
    act(&mut net, |server, now| server.subscribe(now, order));
    let subscribe = net.one(&bob);
    net.answer(&bob, &subscribe, 200, "tag-0", &[(Header::Expires, "3600")]);
    let mut heard = Vec::new();
    for (number, wait) in [(0, 0), (1, 63), (2, 2)] {
        net.advance(seconds(wait));
        let mut caller = bob_of(&bob, &subscribe);
        caller.tag = format!("tag-{number}");
        net.send(&bob, &notify(&mut caller, "presence", "active;expires=3600"));
        heard.push(net.heard(&bob));
    }
    assert_eq!(heard, ["200", "200", "481"]);
}
