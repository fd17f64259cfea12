//! What may go wrong on a WebSocket, or is meant to (RFC 6455, RFC 7118).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use meshtone_tests::scripted::{Request, Sip, is_alive};
use meshtone_tests::web_socket::{HANDSHAKE, WebSocket, frame_head, opcode};
use meshtone_tests::wire::Wire;
use meshtone_tests::{Mesh, SOON, ScriptedPhone, Transport, eventually};

fn options(branch: &str) -> Vec<u8> {
    let request = Request::new("OPTIONS", "sip:mesh.test", "sip:a@b.example", "sip:mesh.test");
    request.to_bytes(&format!("SIP/2.0/WS xyz.invalid;branch=z9hG4bK{branch}"))
}

#[track_caller]
fn status_on(socket: &mut WebSocket) -> Option<u16> {
    let (_, payload) = socket.next_frame(SOON)?;
    Sip::parse(&payload).map(|answer| answer.status())
}

#[test]
fn only_sip_from_a_page_of_this_host_is_let_in() {
    let mesh = Mesh::start(1);
    for (transport, tls) in [(Transport::Ws, false), (Transport::Wss, true)] {
        let server = mesh.at(1, transport);
        let with =
            |from: &str, to: &str| WebSocket::handshake(server, tls, &HANDSHAKE.replace(from, to)).err().flatten();
        let origin = |origin: &str| with("Upgrade: websocket", &format!("Upgrade: websocket\r\nOrigin: {origin}"));
        assert_eq!(origin("https://evil.example"), Some(403));
        assert_eq!(origin("null"), Some(403));
        assert_eq!(origin("https://127.0.0.1:8443"), None, "a page of this very host");
        assert_eq!(with("Protocol: sip", "Protocol: xmpp"), Some(400));
        assert_eq!(with("Sec-WebSocket-Protocol: sip\r\n", ""), Some(400));
        assert_eq!(with("GET /sip", "GET /other"), Some(404));
        assert_eq!(with("HTTP/1.1", "HTTP/1.0"), Some(505));
        assert_eq!(with("GET /sip", "POST /sip"), Some(405), "a form of another page");
        assert_eq!(with("GET /sip HTTP/1.1", "OPTIONS sip:mesh.test SIP/2.0"), Some(400));
        assert_eq!(with("Host:", &format!("X: {}\r\nHost:", "y".repeat(9_000))), Some(431));
        assert!(is_alive(transport, server), "{transport:?}");
    }
}

#[test]
fn a_page_of_an_allowed_site_is_let_in_too() {
    let mut mesh = Mesh::start(1);
    mesh.node_mut(1).kill9();
    mesh.node_mut(1).run(&["--ws-origin", "https://phone.example"]);
    let with = |origin: &str| {
        let request = HANDSHAKE.replace("Upgrade: websocket", &format!("Upgrade: websocket\r\nOrigin: {origin}"));
        WebSocket::handshake(mesh.at(1, Transport::Ws), false, &request).err()
    };
    assert_eq!(with("https://phone.example"), None);
    assert_eq!(with("https://evil.example"), Some(Some(403)));
}

#[test]
fn a_message_may_come_in_fragments_with_pings_between() {
    let mesh = Mesh::start(1);
    let mut socket = WebSocket::open(mesh.at(1, Transport::Ws), false);
    let message = options("fragments");
    let (first, rest) = message.split_at(100);
    socket.send_frame(opcode::TEXT, first, false).unwrap();
    socket.send_frame(opcode::PING, b"here?", true).unwrap();
    assert_eq!(socket.next_frame(SOON), Some((opcode::PONG, b"here?".to_vec())));
    socket.send_frame(opcode::CONTINUATION, rest, true).unwrap();
    assert_eq!(status_on(&mut socket), Some(200));
    socket.send(b"\r\n\r\n").unwrap();
    assert_eq!(socket.next_frame(SOON), Some((opcode::TEXT, b"\r\n".to_vec())), "RFC 5626 §4.4.1");
    socket.send_frame(opcode::CLOSE, &1000_u16.to_be_bytes(), true).unwrap();
    assert_eq!(socket.close_code(), Some(1000));
}

#[test]
fn what_breaks_the_rules_of_websocket_is_closed_with_the_code_for_it() {
    let mesh = Mesh::start(1);
    let server = mesh.at(1, Transport::Ws);
    let after = |name: &str, act: &dyn Fn(&mut WebSocket)| {
        let mut socket = WebSocket::open(server, false);
        act(&mut socket);
        let code = socket.close_code();
        assert!(socket.is_closed(), "{name}: the connection stays open");
        assert!(is_alive(Transport::Ws, server), "after {name}");
        code
    };
    let unmasked = |socket: &mut WebSocket| {
        let message = options("unmasked");
        let mut frame = frame_head(opcode::TEXT, message.len(), true, false);
        frame.extend(message);
        socket.send_raw(&frame).unwrap();
    };
    assert_eq!(after("an unmasked frame", &unmasked), Some(1002));
    let huge = |socket: &mut WebSocket| {
        let mut frame = frame_head(opcode::TEXT, 100_000_000, true, true);
        frame.extend([0; 1000]);
        socket.send_raw(&frame).unwrap();
    };
    assert_eq!(after("a frame of 100 MB", &huge), Some(1009));
    let endless = |socket: &mut WebSocket| {
        let _ = socket.send_frame(opcode::TEXT, &[b'x'; 1000], false);
        while !socket.is_closed() && socket.send_frame(opcode::CONTINUATION, &[b'x'; 1000], false).is_ok() {
            socket.next_frame(Duration::from_millis(1));
        }
    };
    assert_eq!(after("a message in fragments without end", &endless), Some(1009));
    let pings = |socket: &mut WebSocket| {
        for _ in 0..10_000 {
            if socket.send_frame(opcode::PING, b"", true).is_err() {
                break;
            }
        }
    };
    // What is still under way may reset the connection before the code is read.
    assert!(matches!(after("a flood of pings", &pings), Some(1008) | None));
    let reserved = |socket: &mut WebSocket| socket.send_raw(&[0xC1, 0x80, 0, 0, 0, 0]).unwrap();
    assert_eq!(after("a reserved bit", &reserved), Some(1002));
    let orphan = |socket: &mut WebSocket| socket.send_frame(opcode::CONTINUATION, b"x", true).unwrap();
    assert_eq!(after("a continuation of nothing", &orphan), Some(1002));
    let long_ping = |socket: &mut WebSocket| socket.send_frame(opcode::PING, &[0; 200], true).unwrap();
    assert_eq!(after("a ping of 200 octets", &long_ping), Some(1002));
}

#[test]
fn a_client_that_trickles_keeps_nobody_else_out() {
    /// Scaled down from ten thousand; more than one source may hold before it has said anything.
    const LORISES: usize = 200;
    let mesh = Mesh::start(1);
    let alice = mesh.user("alice");
    let mut known = ScriptedPhone::new(Transport::Tls, mesh.at(1, Transport::Tls)).of("alice", &alice);
    known.register();
    let trickle = |wire: &mut Wire, byte: u8| wire.send(&[byte]).is_ok();
    let mut lorises: Vec<Wire> = (0..LORISES).filter_map(|_| Wire::open(mesh.sip(1), false).ok()).collect();
    for byte in *b"OPTIONS sip:" {
        for wire in &mut lorises {
            trickle(wire, byte);
        }
    }
    assert_eq!(known.register().status(), 200, "who is known goes on undisturbed");
    assert!(is_alive(Transport::Udp, mesh.sip(1)));
    drop(lorises);
    eventually(SOON, "others to be let in again", || is_alive(Transport::Tcp, mesh.sip(1)));
}

#[test]
fn torn_handshakes_and_noise_on_every_port_leave_the_node_alive() {
    let mut mesh = Mesh::start(1);
    let noise: Vec<u8> = (0..=255_u8).cycle().take(4_000).map(|byte| byte.wrapping_mul(167) ^ 0x5A).collect();
    for transport in [Transport::Tls, Transport::Ws, Transport::Wss] {
        let server = mesh.at(1, transport);
        for cut in [1, 20, HANDSHAKE.len() - 1] {
            let _ =
                Wire::open(server, transport == Transport::Wss).map(|mut wire| wire.send(&HANDSHAKE.as_bytes()[..cut]));
        }
        let _ = Wire::open(server, false).map(|mut wire| wire.send(&noise));
        if transport != Transport::Tls {
            let mut socket = WebSocket::open(server, transport == Transport::Wss);
            let _ = socket.send_raw(&noise);
        }
        assert!(is_alive(transport, server), "{transport:?}");
    }
    assert!(mesh.node_mut(1).is_running());
    assert!(!std::fs::read_to_string(mesh.node(1).log()).unwrap().contains("panicked"));
}

#[test]
fn tabs_that_were_closed_are_nobodys_phones_any_more_and_leave_room_for_the_next() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.node(1).user_add("alice"), mesh.node(1).user_add("bob"));
    let tab = || ScriptedPhone::new(Transport::Ws, mesh.at(1, Transport::Ws)).of("alice", &alice);
    let registered = |count: usize| {
        eventually(SOON, "the registrations that are told", || {
            let status = mesh.node(1).status();
            let told = status["registrations"].as_array().map(Vec::len);
            told == Some(count)
        });
    };
    // As many at once as an account may have.
    let mut tabs: Vec<ScriptedPhone> = (0..9).map(|_| tab()).collect();
    tabs.iter_mut().for_each(|tab| drop(tab.register()));
    registered(9);
    drop(tabs);
    registered(0);
    let mut tabs: Vec<ScriptedPhone> = (0..9).map(|_| tab()).collect();
    tabs.iter_mut().for_each(|tab| drop(tab.register()));
    let mut last = tabs.pop().unwrap();
    drop(tabs);
    registered(1);

    // Who calls from another node hears at once that nobody is there, as soon as the last one has gone.
    eventually(SOON, "the accounts at the other node", || mesh.node(2).must(&["user", "list"]).contains("bob"));
    let mut caller = ScriptedPhone::udp(mesh.node(2).sip()).of("bob", &bob);
    caller.register();
    let ringing = caller.invite("sip:alice@mesh.test");
    let invite = last.incoming("INVITE");
    last.reply(&invite, 180, "Ringing", "");
    caller.wait_status(&ringing, 180);
    drop(last);
    assert_eq!(caller.final_answer_within(&ringing, SOON).status(), 480, "the tab that rang is gone");
    registered(0);
    let started = std::time::Instant::now();
    let again = caller.invite("sip:alice@mesh.test");
    assert_eq!(caller.final_answer_within(&again, SOON).status(), 480);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let mut tab = tab();
    tab.register();
    let found = caller.invite("sip:alice@mesh.test");
    let invite = tab.incoming("INVITE");
    tab.reply(&invite, 486, "Busy Here", "");
    assert_eq!(caller.final_answer(&found).status(), 486);
}
