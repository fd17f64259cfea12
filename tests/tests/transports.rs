//! Phones over every transport: TLS, WebSocket and IPv6 as well as the plain old ones.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{SocketAddr, UdpSocket};

use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::scripted::{Request, is_alive};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::wire::Wire;
use meshtone_tests::{Mesh, MeshNode, PhoneOptions, SOON, ScriptedPhone, Transport};

const BOB: &str = "sip:bob@mesh.test";

#[test]
fn phones_over_tls_hear_each_other_and_either_may_hang_up() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice =
        PhoneOptions::new("alice", &alice, mesh.at(1, Transport::Tls), ALICE_HZ).over(Transport::Tls).start();
    let mut bob = PhoneOptions::new("bob", &bob, mesh.at(2, Transport::Tls), BOB_HZ).over(Transport::Tls).start();

    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
    talk(&mut bob, &mut alice, "sip:alice@mesh.test", HangsUp::Callee);
    assert!(mesh.node(2).contacts("bob@mesh.test").iter().all(|contact| contact.contains("transport=tls")));
}

#[test]
fn a_call_and_a_message_go_both_ways_between_any_two_transports() {
    let mut mesh = Mesh::start(1);
    // These phones speak no WebRTC, not even those on WebSocket.
    mesh.node_mut(1).terminate();
    mesh.node_mut(1).run_configured("[media]\nanchor = \"never\"\n");
    let (alice_password, bob_password) = (mesh.user("alice"), mesh.user("bob"));
    let all = Transport::ALL;
    for (of_alice, of_bob) in all.into_iter().zip(all.into_iter().cycle().skip(3)) {
        let phone = |transport, user, password| {
            let mut phone = ScriptedPhone::new(transport, mesh.at(1, transport)).of(user, password);
            phone.register();
            phone
        };
        let mut alice = phone(of_alice, "alice", &alice_password);
        let mut bob = phone(of_bob, "bob", &bob_password);

        let sent = alice.invite(BOB);
        let invite = bob.incoming("INVITE");
        bob.reply(&invite, 180, "Ringing", "");
        alice.wait_status(&sent, 180);
        let mut of_callee = bob.accept_later(&invite);
        let mut of_caller = alice.established(&sent);
        bob.incoming("ACK");
        let bye = alice.send(&of_caller.next_request("INFO"));
        let info = bob.incoming("INFO");
        bob.reply(&info, 200, "OK", "");
        assert_eq!(alice.final_answer(&bye).status(), 200, "INFO, {of_alice:?} to {of_bob:?}");
        bob.hang_up(&mut of_callee, &mut alice);

        let request = bob.request("MESSAGE", "sip:alice@mesh.test").with_body("text/plain", "hi");
        let sent = bob.start(&request);
        let message = alice.incoming("MESSAGE");
        assert_eq!(message.body, b"hi");
        alice.reply(&message, 200, "OK", "");
        assert_eq!(bob.final_answer(&sent).status(), 200, "MESSAGE, {of_bob:?} to {of_alice:?}");
        for mut phone in [alice, bob] {
            assert_eq!(phone.try_register(0).status(), 200);
        }
    }
}

#[test]
fn phones_reach_a_node_over_ipv6() {
    let mut node = MeshNode::unstarted("v6").with_domain("mesh.test");
    let on_v6 = |address: SocketAddr| SocketAddr::new("::1".parse().unwrap(), address.port());
    let (sip, tls) = (on_v6(node.sip()), on_v6(node.tls()));
    node.run(&["--sip", &sip.to_string(), "--tls", &tls.to_string()]);
    let (alice, bob) = (node.user_add("alice"), node.user_add("bob"));
    let at = [(Transport::Udp, sip), (Transport::Tcp, sip), (Transport::Tls, tls)];
    for (one, other) in at.into_iter().zip(at.into_iter().cycle().skip(1)) {
        assert!(is_alive(one.0, one.1), "{one:?}");
        let mut alice = ScriptedPhone::new(one.0, one.1).of("alice", &alice);
        let mut bob = ScriptedPhone::new(other.0, other.1).of("bob", &bob);
        bob.register();
        let request = alice.request("MESSAGE", BOB).with_body("text/plain", "hi");
        let sent = alice.start(&request);
        let message = bob.incoming("MESSAGE");
        assert!(message.header("Via").unwrap().contains("[::1]:"), "{message}");
        bob.reply(&message, 200, "OK", "");
        assert_eq!(alice.final_answer(&sent).status(), 200);
        assert_eq!(bob.try_register(0).status(), 200);
    }
}

#[test]
fn several_listeners_of_each_kind_serve_their_own_phones() {
    let mut node = MeshNode::unstarted("many").with_domain("mesh.test");
    let further = ["127.0.0.2", "::1"];
    let at = |transport, ip: &str| SocketAddr::new(ip.parse().unwrap(), node.at(transport).port());
    let kinds =
        [("--sip", Transport::Udp), ("--tls", Transport::Tls), ("--ws", Transport::Ws), ("--wss", Transport::Wss)];
    let texts: Vec<[String; 2]> = kinds
        .iter()
        .flat_map(|(flag, transport)| further.map(|ip| [(*flag).to_owned(), at(*transport, ip).to_string()]))
        .collect();
    let listeners: Vec<(Transport, SocketAddr)> = Transport::ALL
        .into_iter()
        .flat_map(|transport| ["127.0.0.1", "127.0.0.2", "::1"].map(|ip| (transport, at(transport, ip))))
        .collect();
    let arguments: Vec<&str> = texts.iter().flatten().map(String::as_str).collect();
    node.run(&arguments);
    assert!(texts.iter().all(|[_, address]| node.printed().contains(address)), "{}", node.printed());
    let (alice, bob) = (node.user_add("alice"), node.user_add("bob"));
    let mut alice = ScriptedPhone::udp(node.sip()).of("alice", &alice);
    for (transport, address) in listeners {
        let mut bob = ScriptedPhone::new(transport, address).of("bob", &bob);
        bob.register();
        let request = alice.request("MESSAGE", BOB).with_body("text/plain", "hi");
        let sent = alice.start(&request);
        let message = bob.incoming("MESSAGE");
        let via = message.header("Via").unwrap();
        assert!(via.contains(&address.to_string()), "{transport:?} at {address}: {via}");
        bob.reply(&message, 200, "OK", "");
        assert_eq!(alice.final_answer(&sent).status(), 200);
        assert_eq!(bob.try_register(0).status(), 200);
    }
}

#[test]
fn a_node_keeps_the_certificate_that_it_made() {
    let mut mesh = Mesh::start(1);
    let shown = |mesh: &Mesh| Wire::open(mesh.at(1, Transport::Tls), true).unwrap().certificate().unwrap();
    let first = shown(&mesh);
    let text = String::from_utf8_lossy(&first).into_owned();
    assert!(text.contains("sip:mesh.test"), "RFC 5922 §4: the domain as a SIP URI");
    mesh.node_mut(1).kill9();
    mesh.node_mut(1).restart();
    assert_eq!(shown(&mesh), first);
}

#[test]
fn a_stun_request_on_the_sip_port_tells_the_phone_its_address() {
    let mesh = Mesh::start(1);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    request.extend(*b"twelve bytes");
    socket.send_to(&request, mesh.sip(1)).unwrap();
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!(length, 32, "no larger than need be");
    assert_eq!(answer[..4], [1, 1, 0, 12]);
    assert_eq!(answer[8..20], *b"twelve bytes");
    let port = u16::from_be_bytes([answer[26] ^ 0x21, answer[27] ^ 0x12]);
    assert_eq!(port, socket.local_addr().unwrap().port());
}

#[test]
fn a_double_line_break_is_answered_over_tcp_and_tls() {
    let mesh = Mesh::start(1);
    for transport in [Transport::Tcp, Transport::Tls] {
        let mut wire = Wire::open(mesh.at(1, transport), transport == Transport::Tls).unwrap();
        let mut received = Vec::new();
        wire.send(b"\r\n\r\n").unwrap();
        assert!(wire.receive(&mut received, SOON));
        assert_eq!(received, b"\r\n", "{transport:?}");
    }
}

#[test]
fn a_client_of_tls_1_0_or_1_1_is_turned_away() {
    let mesh = Mesh::start(1);
    for minor in [1, 2] {
        // A ClientHello with the usual suites of its day and no further extension.
        let mut hello = vec![3, minor];
        hello.extend([7; 32]);
        hello.extend([0, 0, 6, 0xC0, 0x13, 0xC0, 0x14, 0x00, 0x2F, 1, 0]);
        let mut record = vec![22, 3, 1, 0, u8::try_from(hello.len() + 4).unwrap()];
        record.extend([1, 0, 0, u8::try_from(hello.len()).unwrap()]);
        record.extend(hello);
        let mut wire = Wire::open(mesh.at(1, Transport::Tls), false).unwrap();
        wire.send(&record).unwrap();
        let mut received = Vec::new();
        while wire.receive(&mut received, SOON) {}
        assert_eq!((received.first(), received.get(5)), (Some(&21), Some(&2)), "a fatal alert: {received:02x?}");
    }
}

#[test]
fn a_call_to_the_echo_over_any_transport_is_answered_and_ended() {
    let mesh = Mesh::start(1);
    let alice = mesh.user("alice");
    for transport in Transport::ALL {
        let mut alice = ScriptedPhone::new(transport, mesh.at(1, transport)).of("alice", &alice);
        let sent = alice.invite("sip:echo@mesh.test");
        let mut dialog = alice.established(&sent);
        let bye = alice.send(&dialog.next_request("BYE"));
        assert_eq!(alice.final_answer(&bye).status(), 200, "{transport:?}");
    }
}

#[test]
fn plain_sip_on_a_tls_port_and_tls_on_a_plain_one_harm_nobody() {
    let mesh = Mesh::start(1);
    let options = Request::new("OPTIONS", "sip:mesh.test", "sip:a@b.example", "sip:mesh.test");
    let bytes = options.to_bytes("SIP/2.0/TCP 127.0.0.1:1;branch=z9hG4bKplain");
    for transport in [Transport::Tls, Transport::Wss] {
        let mut wire = Wire::open(mesh.at(1, transport), false).unwrap();
        wire.send(&bytes).unwrap();
        let mut received = Vec::new();
        while wire.receive(&mut received, SOON) {}
        assert!(!String::from_utf8_lossy(&received).contains("SIP/2.0 200"), "{transport:?}");
    }
    assert!(Wire::open(mesh.sip(1), true).is_err());
    for transport in Transport::ALL {
        assert!(is_alive(transport, mesh.at(1, transport)), "{transport:?}");
    }
}

#[test]
fn sips_is_carried_over_protected_hops_only() {
    let mesh = Mesh::start(2);
    let (alice, bob_password) = (mesh.user("alice"), mesh.user("bob"));
    let registered = |transport: Transport, scheme: &str| {
        let mut bob = ScriptedPhone::new(transport, mesh.at(2, transport)).of("bob", &bob_password);
        let contact = bob.contact().replacen("sip:", &format!("{scheme}:"), 1);
        let register = Request::new("REGISTER", "sip:mesh.test", &bob.address(), &bob.address());
        let answer = bob.ask(register.with("Contact", &format!("<{contact}>")).with("Expires", "600"));
        assert_eq!(answer.status(), 200, "{answer}");
        bob
    };
    let mut protected = ScriptedPhone::new(Transport::Tls, mesh.at(1, Transport::Tls)).of("alice", &alice);
    let ask = |phone: &mut ScriptedPhone, target: &str| {
        let request = phone.request("MESSAGE", target).with_body("text/plain", "hi");
        phone.start(&request)
    };

    let mut bob = registered(Transport::Tls, "sips");
    let sent = ask(&mut protected, "sips:bob@mesh.test");
    let message = bob.incoming("MESSAGE");
    assert!(message.request_uri().starts_with("sips:"), "{message}");
    bob.reply(&message, 200, "OK", "");
    assert_eq!(protected.final_answer(&sent).status(), 200);
    let sent = ask(&mut protected, BOB);
    let message = bob.incoming("MESSAGE");
    assert!(message.request_uri().starts_with("sip:"), "RFC 5630 §5.3:\n{message}");
    bob.reply(&message, 200, "OK", "");
    assert_eq!(protected.final_answer(&sent).status(), 200);
    bob.try_register(0);
    let star = Request::new("REGISTER", "sip:mesh.test", &bob.address(), &bob.address());
    bob.ask(star.with("Contact", "*").with("Expires", "0"));

    let mut bob = registered(Transport::Tcp, "sip");
    let sent = ask(&mut protected, "sips:bob@mesh.test");
    let answer = protected.final_answer(&sent);
    assert_eq!(answer.status(), 480, "{answer}");
    bob.assert_left_alone();

    let mut open = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let request = open.request("MESSAGE", "sips:bob@mesh.test").with_body("text/plain", "hi");
    assert_eq!(open.ask(request).status(), 416, "it has been read on its way already");
}
