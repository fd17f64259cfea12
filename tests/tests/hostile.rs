//! What the open Internet sends to port 5060. The node answers or drops it, and lives.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::UdpSocket;
use std::path::PathBuf;

use meshtone_tests::scripted::{Request, is_alive};
use meshtone_tests::{Mesh, MeshNode, SOON, ScriptedPhone, Transport};

/// The torture messages that the parser's own tests replay.
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/sip/tests/corpus");

#[track_caller]
fn assert_alive(node: &mut MeshNode, after: &str) {
    assert!(node.is_running(), "the node ended after {after}");
    for transport in [Transport::Udp, Transport::Tcp] {
        assert!(is_alive(transport, node.sip()), "no answer over {transport:?} after {after}");
    }
}

#[track_caller]
fn assert_unharmed(node: &mut MeshNode) {
    assert_alive(node, "all of it");
    let log = std::fs::read_to_string(node.log()).unwrap();
    assert!(!log.contains("panicked"), "a panic is in the log");
}

fn torture_messages() -> Vec<(String, Vec<u8>)> {
    let mut messages = Vec::new();
    for set in ["rfc4475", "rfc5118"] {
        let folder = PathBuf::from(CORPUS).join(set);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "dat"))
        {
            messages.push((
                format!("{set}/{}", path.file_stem().unwrap().to_string_lossy()),
                std::fs::read(&path).unwrap(),
            ));
        }
    }
    messages.sort();
    assert!(messages.len() >= 60, "the corpus holds all messages of RFC 4475 and RFC 5118");
    messages
}

/// Sends every torture message, whole and in pieces where the transport has pieces.
#[track_caller]
fn torment(transport: Transport) {
    let mut mesh = Mesh::start(1);
    let server = mesh.at(1, transport);
    for (name, message) in torture_messages() {
        let mut whole = ScriptedPhone::new(transport, server);
        let _ = whole.try_send_bytes(&message);
        if transport != Transport::Udp {
            let mut torn = ScriptedPhone::new(transport, server);
            // The node may close the connection in the middle of it.
            let _ = message.chunks(7).try_for_each(|piece| torn.try_send_bytes(piece));
        }
        assert!(mesh.node_mut(1).is_running(), "the node ended after {name}");
        assert!(is_alive(transport, server), "no answer over {transport:?} after {name}");
    }
    assert_unharmed(mesh.node_mut(1));
}

#[test]
fn every_torture_message_over_udp_leaves_the_node_alive() {
    torment(Transport::Udp);
}

#[test]
fn every_torture_message_over_tcp_leaves_the_node_alive() {
    torment(Transport::Tcp);
}

#[test]
fn every_torture_message_over_tls_leaves_the_node_alive() {
    torment(Transport::Tls);
}

#[test]
fn every_torture_message_over_websocket_leaves_the_node_alive() {
    torment(Transport::Ws);
    torment(Transport::Wss);
}

#[test]
fn a_method_and_headers_nobody_knows_reach_the_callee_unchanged() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::tcp(mesh.sip(2)).of("bob", &bob);
    bob.register();

    let odd = "a , \"b;c\"  <sip:d@e>;;f=g";
    let request = alice.request("FROB", "sip:bob@mesh.test").with("X-Odd", odd).with_body("x/y", "\u{1}\u{2}body");
    let sent = alice.start(&request);
    let received = bob.incoming("FROB");
    assert_eq!(received.header("X-Odd"), Some(odd));
    assert_eq!(received.body, b"\x01\x02body");
    assert_eq!(received.header("Proxy-Authorization"), None, "credentials for this node go no further");
    bob.reply(&received, 299, "Frobbed", "");
    assert_eq!(alice.final_answer(&sent).status(), 299);
}

#[test]
fn oversized_messages_are_answered_or_dropped() {
    let mut mesh = Mesh::start(1);
    let long = "x".repeat(60_000);
    let options = |padding: &str| {
        Request::new("OPTIONS", "sip:mesh.test", "sip:a@b.example", "sip:mesh.test").with("X-Long", padding)
    };
    let mut phone = ScriptedPhone::udp(mesh.sip(1));
    phone.send(&options(&long));
    assert_alive(mesh.node_mut(1), "a datagram of 60 kB");

    let mut phone = ScriptedPhone::tcp(mesh.sip(1));
    let endless = options(&long.repeat(20)).to_bytes("SIP/2.0/TCP 127.0.0.1:1;branch=z9hG4bKendless");
    let _ = phone.try_send_bytes(&endless);
    let answer = phone.next(SOON);
    assert!(answer.as_ref().is_none_or(|answer| answer.status() >= 400), "{answer:?}");
    assert!(answer.is_some() || phone.is_closed(), "a head without end is neither answered nor cut off");
    assert_alive(mesh.node_mut(1), "a head of more than a megabyte");

    for length in ["99999999", "4294967296", "18446744073709551616", "-1"] {
        let mut phone = ScriptedPhone::tcp(mesh.sip(1));
        let text = format!(
            "OPTIONS sip:mesh.test SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:1;branch=z9hG4bKlong\r\nMax-Forwards: 70\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:mesh.test>\r\nCall-ID: long\r\nCSeq: 1 OPTIONS\r\nContent-Length: {length}\r\n\r\n"
        );
        phone.send_bytes(text.as_bytes());
        let answer = phone.next(SOON);
        assert!(answer.as_ref().is_none_or(|answer| answer.status() >= 400), "{length}: {answer:?}");
        assert!(answer.is_some() || phone.is_closed(), "Content-Length {length}: neither answered nor cut off");
        assert_alive(mesh.node_mut(1), length);
    }
    assert_unharmed(mesh.node_mut(1));
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    let mut mesh = Mesh::start(1);
    let options = |phone: &ScriptedPhone, branch: &str| {
        let request = Request::new("OPTIONS", "sip:mesh.test", "sip:a@b.example", "sip:mesh.test")
            .with_body("text/plain", "hello");
        request.to_bytes(&format!("SIP/2.0/TCP {};branch=z9hG4bK{branch};rport", phone.local()))
    };
    let mut phone = ScriptedPhone::tcp(mesh.sip(1));
    let text = options(&phone, "slow");
    for byte in text.chunks(1) {
        phone.send_bytes(byte);
    }
    assert_eq!(phone.next(SOON).map(|answer| answer.status()), Some(200), "byte by byte");

    let mut both = options(&phone, "first");
    both.extend(options(&phone, "second"));
    both.splice(0..0, *b"\r\n\r\n");
    phone.send_bytes(&both);
    let mut branches: Vec<String> = (0..2).map(|_| phone.next(SOON).unwrap().branch().unwrap()).collect();
    branches.sort();
    assert_eq!(branches, ["z9hG4bKfirst", "z9hG4bKsecond"], "two in one segment");

    for cut in [1, text.len() / 2, text.len() - 1] {
        let mut phone = ScriptedPhone::tcp(mesh.sip(1));
        phone.send_bytes(&text[..cut]);
        drop(phone);
        let mut phone = ScriptedPhone::udp(mesh.sip(1));
        phone.send_bytes(&text[..cut]);
        assert_alive(mesh.node_mut(1), "a torn message");
    }
    assert_unharmed(mesh.node_mut(1));
}

#[test]
fn what_is_no_sip_at_all_is_ignored() {
    let mut mesh = Mesh::start(1);
    let noise: Vec<u8> = (0..=255_u8).cycle().take(4_000).map(|byte| byte.wrapping_mul(167) ^ 0x5A).collect();
    let samples: [&[u8]; 8] = [
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"\0\0\0\0",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SIP/2.0 200 OK\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &noise,
    ];
    for sample in samples {
        ScriptedPhone::udp(mesh.sip(1)).send_bytes(sample);
        let _ = ScriptedPhone::tcp(mesh.sip(1)).try_send_bytes(sample);
        assert_alive(mesh.node_mut(1), &format!("{sample:?}"));
    }
    assert_unharmed(mesh.node_mut(1));
}

#[test]
fn a_route_to_a_third_party_is_not_followed() {
    let mesh = Mesh::start(1);
    let alice = mesh.user("alice");
    let victim = UdpSocket::bind("127.0.0.1:0").unwrap();
    let victim_at = victim.local_addr().unwrap();
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    for (target, route) in [
        ("sip:bob@mesh.test".to_owned(), Some(format!("<sip:{victim_at};lr>"))),
        (format!("sip:bob@mesh.test;maddr={}", victim_at.ip()), None),
        (format!("sip:bob@{victim_at}"), None),
    ] {
        let mut request = alice.request("MESSAGE", &target).with_body("text/plain", "relayed?");
        if let Some(route) = &route {
            request = request.with("Route", route);
        }
        let answer = alice.ask(request);
        assert!(answer.status() >= 400, "{target} {route:?}:\n{answer}");
    }
    victim.set_nonblocking(true).unwrap();
    assert!(victim.recv(&mut [0; 2_048]).is_err(), "something was sent to the third party");
}
