//! Bodies made to hurt (threat 17): the node reads those that it answers itself, the echo's, and passes the rest by.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::scripted::is_alive;
use meshtone_tests::{Mesh, SOON, ScriptedPhone, Transport};

/// What a node may have grown by, in KiB.
const GROWTH_KIB: u64 = 48 * 1024;

/// The beginning of every description here.
const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\n";
const ADDRESS: &str = "c=IN IP4 127.0.0.1\r\nt=0 0\r\n";
const AUDIO: &str = "m=audio 9 RTP/AVP 0\r\n";

fn descriptions() -> Vec<(&'static str, String)> {
    let with = |lines: String| format!("{HEAD}{ADDRESS}{lines}");
    vec![
        ("thousands of media", with(AUDIO.repeat(2_500))),
        (
            "thousands of candidates",
            with(format!("{AUDIO}{}", "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n".repeat(1_300))),
        ),
        ("thousands of formats", with(format!("m=audio 9 RTP/AVP{}\r\n", " 0".repeat(25_000)))),
        ("a format's parameters without end", with(format!("{AUDIO}a=fmtp:0 {}\r\n", "x".repeat(55_000)))),
        ("port 0", with("m=audio 0 RTP/AVP 0\r\n".to_owned())),
        ("port 65536", with("m=audio 65536 RTP/AVP 0\r\n".to_owned())),
        ("a negative port", with("m=audio -1/4294967296 RTP/AVP 0\r\n".to_owned())),
        ("a multicast address of many layers", format!("{HEAD}c=IN IP4 224.2.1.1/255/4294967296\r\nt=0 0\r\n{AUDIO}")),
        ("an address that is none", format!("{HEAD}c=IN IP4 999.1.1.1\r\nt=0 0\r\n{AUDIO}")),
        ("no line at all", String::new()),
        ("half a line", "v=".to_owned()),
        ("lines without ends", format!("{HEAD}{ADDRESS}{AUDIO}").replace("\r\n", " ")),
        ("NUL and controls", format!("{HEAD}{ADDRESS}{AUDIO}a=\0\u{1}\u{7f}\r\n")),
        ("ptime of centuries", with(format!("{AUDIO}a=ptime:99999999999999999999\r\na=maxptime:-5\r\n"))),
    ]
}

#[test]
fn descriptions_made_to_hurt_are_answered_and_leave_the_node_as_it_was() {
    let mesh = Mesh::start(1);
    let password = mesh.user("alice");
    let before = mesh.node(1).rss_kib();
    for transport in [Transport::Udp, Transport::Tcp] {
        for (what, body) in descriptions() {
            if transport == Transport::Udp && body.len() > 50_000 {
                // With its fields it would fit no datagram.
                continue;
            }
            let mut alice = ScriptedPhone::new(transport, mesh.at(1, transport)).of("alice", &password);
            let request = alice.request("INVITE", "sip:echo@mesh.test").with_body("application/sdp", &body);
            let sent = alice.start(&request);
            let answer = alice.final_answer(&sent);
            assert!((200..500).contains(&answer.status()), "{what}:\n{answer}");
            if answer.status() == 200 {
                assert!(answer.raw.len() < 2 * body.len() + 2_000, "{what}: an answer of {} bytes", answer.raw.len());
                let mut dialog = alice.established_by(&sent, &answer);
                let bye = alice.send(&dialog.next_request("BYE"));
                assert_eq!(alice.final_answer(&bye).status(), 200, "{what}");
            }
            assert!(is_alive(transport, mesh.sip(1)), "no answer after {what}");
        }
    }
    assert!(mesh.node(1).status()["calls"].as_array().unwrap().is_empty());
    let after = mesh.node(1).rss_kib();
    assert!(after < before + GROWTH_KIB, "{before} KiB before, {after} KiB after");
}

#[test]
fn bodies_of_other_kinds_are_refused_by_the_echo_and_passed_to_phones_byte_for_byte() {
    let mesh = Mesh::start(1);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::tcp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::tcp(mesh.sip(1)).of("bob", &bob);
    bob.register();
    let nested = (0..1_000).fold("x".to_owned(), |inner, level| format!("--b{level}\r\n\r\n{inner}\r\n--b{level}--"));
    for (content_type, encoding, body) in [
        ("multipart/mixed;boundary=b999", None, nested.as_str()),
        ("application/sdp", Some("gzip"), "\u{1f}\u{8b}\u{8}bomb"),
        ("application/x-bomb", None, "x"),
    ] {
        let ask = |method: &str, target: &str, alice: &ScriptedPhone| {
            let request = alice.request(method, target).with_body(content_type, body);
            if let Some(encoding) = encoding { request.with("Content-Encoding", encoding) } else { request }
        };
        let request = ask("INVITE", "sip:echo@mesh.test", &alice);
        let sent = alice.start(&request);
        let answer = alice.final_answer(&sent);
        assert!((400..500).contains(&answer.status()), "{content_type}:\n{answer}");

        let request = ask("MESSAGE", "sip:bob@mesh.test", &alice);
        let sent = alice.start(&request);
        let message = bob.incoming_within("MESSAGE", SOON).unwrap();
        assert_eq!(message.body, body.as_bytes(), "{content_type}");
        bob.reply(&message, 200, "OK", "");
        assert_eq!(alice.final_answer(&sent).status(), 200);
    }
}

#[test]
fn a_body_beyond_the_bound_is_refused_on_every_transport_before_it_is_held() {
    let mut mesh = Mesh::start(1);
    let before = mesh.node(1).rss_kib();
    let ten_megabytes = 10 << 20;
    for transport in [Transport::Tcp, Transport::Tls, Transport::Ws] {
        let mut phone = ScriptedPhone::new(transport, mesh.at(1, transport));
        let head = format!(
            "INVITE sip:bob@mesh.test SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:1;branch=z9hG4bKlarge\r\nMax-Forwards: 70\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:bob@mesh.test>\r\nCall-ID: large\r\nCSeq: 1 INVITE\r\n\
             Content-Type: application/sdp\r\nContent-Length: {ten_megabytes}\r\n\r\n"
        );
        let mut message = head.into_bytes();
        message.resize(message.len() + ten_megabytes, b'a');
        // The node may close the connection in the middle of it.
        let _ = phone.try_send_bytes(&message);
        let answer = phone.next(SOON);
        assert!(answer.as_ref().is_none_or(|answer| answer.status() >= 400), "{transport:?}: {answer:?}");
        assert!(answer.is_some() || phone.is_closed(), "{transport:?}: neither answered nor cut off");
        assert!(mesh.node_mut(1).is_running() && is_alive(transport, mesh.at(1, transport)), "{transport:?}");
    }
    let after = mesh.node(1).rss_kib();
    assert!(after < before + GROWTH_KIB, "{before} KiB before, {after} KiB after");
}
