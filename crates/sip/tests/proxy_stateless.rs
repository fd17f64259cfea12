//! The first stage of a farm: it keeps nothing, and yet every message finds its way (RFC 3261 §16.11, RFC 3327, RFC 5626 §5.1).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;

use bytes::Bytes;
use meshtone_sip::message::{Builder, Header, Message};
use meshtone_sip::proxy::stateless::{Spread, StatelessProxy};
use meshtone_sip::transport::{Destination, Flow, Locals, Transmit, Transport};

const FRONT: &str = "10.0.0.1:5060";
const SERVERS: [&str; 4] = ["10.0.1.1:5060", "10.0.1.2:5060", "10.0.1.3:5060", "10.0.1.4:5060"];
const PHONE: &str = "198.51.100.7:40001";

/// The front has one address, and every connection is open but number 13.
struct Front;

impl Locals for Front {
    fn sent_by(&self, _: &Destination) -> String {
        FRONT.to_owned()
    }

    fn is_local(&self, host: &str, port: Option<u16>) -> bool {
        format!("{host}:{}", port.unwrap_or(5060)) == FRONT
    }

    fn flow_is_open(&self, flow: &Flow) -> bool {
        !matches!(flow, Flow::Stream { connection: 13, .. })
    }
}

fn front(spread: Spread) -> StatelessProxy {
    StatelessProxy::new(SERVERS.iter().map(|server| server_at(server)).collect(), spread, &[7; 32])
}

fn server_at(address: &str) -> Destination {
    Destination::Address { transport: Transport::Udp, addr: address.parse().unwrap(), listener: 0 }
}

fn udp(address: &str) -> Flow {
    Flow::Udp { listener: 0, remote: address.parse().unwrap() }
}

fn tcp(connection: u64) -> Flow {
    Flow::Stream { transport: Transport::Tcp, listener: 0, connection, remote: PHONE.parse().unwrap() }
}

/// A request of a phone; `more` are whole lines.
fn request(method: &str, uri: &str, to: &str, more: &str) -> Message {
    let text = format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP phone:5060;branch=z9hG4bK-77;rport\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.org>;tag=a1\r\nTo: {to}\r\nCall-ID: call-1\r\nCSeq: 7 {method}\r\n{more}Content-Length: 0\r\n\r\n"
    );
    Message::parse(Bytes::from(text)).unwrap()
}

fn call(user: &str) -> Message {
    request("INVITE", &format!("sip:{user}@example.org"), "<sip:x@example.org>", "")
}

fn register(user: &str) -> Message {
    request("REGISTER", "sip:example.org", &format!("<sip:{user}@example.org>"), "")
}

fn passed(front: &StatelessProxy, flow: &Flow, message: &Message) -> Transmit {
    front.forward(flow, message, &Front, |_| true).expect("something leaves")
}

fn branch(message: &Message) -> String {
    message.top_via().unwrap().branch().unwrap().to_owned()
}

/// The URI of the first value of a field, without its brackets.
fn first_uri(message: &Message, header: Header) -> String {
    message.values(header).next().unwrap().trim_matches(['<', '>']).to_owned()
}

#[test]
fn a_user_is_called_at_the_server_where_he_registers() {
    let front = front(Spread::User);
    let mut users: HashMap<Destination, usize> = HashMap::new();
    for number in 0..100 {
        let user = format!("user{number}");
        let registered = passed(&front, &udp(PHONE), &register(&user)).destination;
        assert_eq!(passed(&front, &udp("203.0.113.5:5060"), &call(&user.to_uppercase())).destination, registered);
        *users.entry(registered).or_default() += 1;
    }
    assert!(users.len() == SERVERS.len() && users.values().all(|users| *users > 10), "{users:?}");
}

#[test]
fn when_a_server_is_lost_only_its_users_move() {
    let front = front(Spread::User);
    let place = |user: &str, lost: Option<usize>| {
        front.forward(&udp(PHONE), &register(user), &Front, |index| Some(index) != lost).unwrap().destination
    };
    for number in 0..100 {
        let user = format!("user{number}");
        let (before, after) = (place(&user, None), place(&user, Some(2)));
        assert_ne!(after, server_at(SERVERS[2]));
        assert!(before == after || before == server_at(SERVERS[2]), "{user} moved for nothing");
    }
    let nobody = front.forward(&udp(PHONE), &register("alice"), &Front, |_| false);
    assert_eq!(nobody.unwrap().destination, place("alice", None), "there is nothing to lose by trying");
}

#[test]
fn spread_by_call_a_call_stays_together() {
    let front = front(Spread::CallId);
    let place = passed(&front, &udp(PHONE), &call("bob")).destination;
    assert_eq!(passed(&front, &udp(PHONE), &call("carol")).destination, place);
}

#[test]
fn cancel_and_the_ack_of_a_refusal_follow_their_invite() {
    let front = front(Spread::User);
    let invite = passed(&front, &udp(PHONE), &call("bob"));
    for method in ["CANCEL", "ACK"] {
        let follows = request(method, "sip:bob@example.org", "<sip:x@example.org>", "");
        let follows = passed(&front, &udp(PHONE), &follows);
        assert_eq!(
            (follows.destination, branch(&follows.message)),
            (invite.destination.clone(), branch(&invite.message))
        );
    }
    assert_eq!(branch(&passed(&front, &udp(PHONE), &call("bob")).message), branch(&invite.message), "sent again");
}

#[test]
fn a_response_takes_the_way_of_its_request_and_what_nobody_asked_for_takes_none() {
    let front = front(Spread::User);
    for flow in [udp(PHONE), tcp(4)] {
        let invite = passed(&front, &flow, &call("bob")).message;
        let answer = Builder::response(&invite, 180, "").to_tag("b1").finish();
        let passed = front.forward(&udp(SERVERS[0]), &answer, &Front, |_| true).unwrap();
        assert_eq!(passed.destination, Destination::Flow(flow));
        assert_eq!(passed.message.values(Header::Via).count(), 1);
        assert_eq!(branch(&passed.message), "z9hG4bK-77");

        let elsewhere = answer.edit().set(Header::CallId, "another").finish();
        assert!(front.forward(&udp(SERVERS[0]), &elsewhere, &Front, |_| true).is_none(), "a branch of another call");
        let alone = answer.edit().remove(Header::Via).append(Header::Via, answer.header(Header::Via).unwrap()).finish();
        assert!(front.forward(&udp(SERVERS[0]), &alone, &Front, |_| true).is_none(), "nobody is behind us");
    }
    let never = Builder::response(&call("bob"), 200, "").to_tag("b1").finish();
    assert!(front.forward(&udp(SERVERS[0]), &never, &Front, |_| true).is_none());
}

#[test]
fn a_registration_holds_the_way_back_to_the_phone() {
    let front = front(Spread::User);
    let phone = tcp(4);
    let registered = passed(&front, &phone, &register("alice")).message;
    let path = first_uri(&registered, Header::Path);
    assert!(path.contains(";lr;ob") && path.contains(&format!("@{FRONT};transport=tcp")), "{path}");

    let route = format!("Route: <{path}>\r\n");
    let ringing = request("INVITE", "sip:alice@10.9.9.9", "<sip:x@example.org>", &route);
    let rings = passed(&front, &udp(SERVERS[1]), &ringing);
    assert_eq!(rings.destination, Destination::Flow(phone));
    assert_eq!((rings.message.request_uri(), rings.message.header(Header::Route)), ("sip:alice@10.9.9.9", None));

    let closed = passed(&front, &tcp(13), &register("alice")).message;
    let route = format!("Route: <{}>\r\n", first_uri(&closed, Header::Path));
    let gone = request("INVITE", "sip:alice@10.9.9.9", "<sip:x@example.org>", &route);
    assert_eq!(passed(&front, &udp(SERVERS[1]), &gone).message.status(), 430);

    let mut made_up = path.clone();
    made_up.replace_range(4..5, if path.as_bytes()[4] == b'A' { "B" } else { "A" });
    let forged = request("INVITE", "sip:alice@10.9.9.9", "<sip:x@example.org>", &format!("Route: <{made_up}>\r\n"));
    assert_eq!(passed(&front, &udp(SERVERS[1]), &forged).message.status(), 403);
}

#[test]
fn a_dialog_finds_the_phone_and_the_server_in_both_directions() {
    let front = front(Spread::User);
    // The phone over TCP, the server over UDP: each side has its own Route.
    let phone = tcp(4);
    let invite = passed(&front, &phone, &call("bob")).message;
    let routes: Vec<String> = invite.values(Header::RecordRoute).map(str::to_owned).collect();
    assert_eq!(routes.len(), 2);
    assert!(routes[0].contains("transport=udp") && routes[1].contains("transport=tcp"), "{routes:?}");

    let server = "<sip:10.0.1.3:5060;lr>";
    let within = |routes: &[&str]| {
        let routes: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        request("BYE", "sip:bob@10.9.9.9", "<sip:x@example.org>;tag=b1", &routes)
    };
    let from_phone = passed(&front, &phone, &within(&[&routes[1], &routes[0], server]));
    assert_eq!(from_phone.destination, server_at("10.0.1.3:5060"), "the server that a Route names");
    assert_eq!(from_phone.message.values(Header::Route).collect::<Vec<_>>(), [server]);

    let from_server = passed(&front, &udp(SERVERS[2]), &within(&[&routes[0], &routes[1]]));
    assert_eq!(from_server.destination, Destination::Flow(phone));

    // Over one transport one Route is enough, and it tells the sides apart by who sends.
    let phone = udp(PHONE);
    let invite = passed(&front, &phone, &call("bob")).message;
    let routes: Vec<&str> = invite.values(Header::RecordRoute).collect();
    assert_eq!(routes.len(), 1);
    assert_eq!(passed(&front, &phone, &within(&[routes[0], server])).destination, server_at("10.0.1.3:5060"));
    assert_eq!(passed(&front, &udp(SERVERS[2]), &within(&[routes[0]])).destination, Destination::Flow(phone));
}

#[test]
fn a_call_to_a_phone_behind_it_has_the_phone_on_top() {
    let front = front(Spread::User);
    let phone = tcp(4);
    let path = first_uri(&passed(&front, &phone, &register("alice")).message, Header::Path);
    let route = format!("Route: <{path}>\r\n");
    let call = request("INVITE", "sip:alice@10.9.9.9", "<sip:x@example.org>", &route);
    let invite = passed(&front, &udp(SERVERS[1]), &call).message;
    let routes: Vec<&str> = invite.values(Header::RecordRoute).collect();
    assert!(
        routes.len() == 2 && routes[0].contains("transport=tcp") && routes[1].contains("transport=udp"),
        "{routes:?}"
    );
}

#[test]
fn what_cannot_go_on_is_refused_and_an_ack_is_left_alone() {
    let front = front(Spread::User);
    let no_hops = call("bob").edit().set(Header::MaxForwards, "0").finish();
    let refused = passed(&front, &udp(PHONE), &no_hops);
    assert_eq!((refused.message.status(), refused.destination), (483, Destination::Flow(udp(PHONE))));
    let wrong = call("bob").edit().set(Header::CSeq, "7 BYE").finish();
    assert_eq!(passed(&front, &udp(PHONE), &wrong).message.status(), 400);
    let ack =
        request("ACK", "sip:bob@example.org", "<sip:x@example.org>", "").edit().set(Header::MaxForwards, "0").finish();
    assert!(front.forward(&udp(PHONE), &ack, &Front, |_| true).is_none());
    let none = StatelessProxy::new(Vec::new(), Spread::User, &[7; 32]);
    assert_eq!(passed(&none, &udp(PHONE), &call("bob")).message.status(), 503);
}
