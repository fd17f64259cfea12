//! Using a node against others (threats 10 and 12): whatever a request names, nothing is sent there but by policy.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{SocketAddr, UdpSocket};

use meshtone_tests::scripted::{Request, SDP, unique};
use meshtone_tests::{Mesh, ScriptedPhone};

const METHODS: [&str; 7] = ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE", "PUBLISH", "FROB"];

/// Somebody who has asked for nothing, at an address of his own.
struct Victim(UdpSocket);

impl Victim {
    fn new() -> Victim {
        let socket = UdpSocket::bind("127.0.0.200:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Victim(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Fails if anything has come; the node has answered whoever attacks since.
    #[track_caller]
    fn assert_left_alone(&self) {
        let mut buffer = [0; 2_048];
        let got = self.0.recv(&mut buffer).map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
        assert!(got.is_err(), "the victim got:\n{}", got.unwrap_or_default());
    }
}

/// Via values of a phone at `own` that name the victim in every place where an address can stand.
fn vias(own: SocketAddr, victim: SocketAddr) -> Vec<String> {
    let branch = || format!("branch=z9hG4bK{}", unique());
    let (ip, port) = (victim.ip(), victim.port());
    vec![
        format!("SIP/2.0/UDP {victim};{}", branch()),
        format!("SIP/2.0/UDP {victim};{};rport", branch()),
        format!("SIP/2.0/UDP {own};{};maddr={ip}", branch()),
        format!("SIP/2.0/UDP {own};{};received={ip}", branch()),
        format!("SIP/2.0/UDP {own};{};received={ip};rport={port}", branch()),
        format!("SIP/2.0/UDP {own};{};rport=99999;received=[::1", branch()),
        format!("SIP/2.0/UDP {own};{}\r\nVia: SIP/2.0/UDP {victim};{}", branch(), branch()),
        format!("SIP/2.0/TCP {victim};{}", branch()),
    ]
}

#[test]
fn nothing_is_sent_to_an_address_that_a_strangers_request_names() {
    let mesh = Mesh::start(1);
    mesh.user("alice");
    let victim = Victim::new();
    let there = victim.address();
    let mut attacker = ScriptedPhone::udp(mesh.sip(1));
    for method in METHODS {
        for via in vias(attacker.local(), there) {
            let uri = if method == "REGISTER" { "sip:mesh.test" } else { "sip:alice@mesh.test" };
            let mut request = Request::new(method, uri, &format!("sip:x@{there}"), "sip:alice@mesh.test")
                .with("Contact", &format!("<sip:x@{there}>"))
                .with("Record-Route", &format!("<sip:{there};lr>"))
                .with("Reply-To", &format!("<sip:x@{there}>"))
                .with("Route", &format!("<sip:{there};lr>"));
            if method == "INVITE" {
                request = request.with_body("application/sdp", SDP);
            }
            attacker.send_bytes(&request.to_bytes(&via));
            // What cannot be read is answered by what can be read of it.
            let broken = String::from_utf8(request.to_bytes(&via)).unwrap().replace("CSeq: 1", "CSeq: x");
            attacker.send_bytes(broken.as_bytes());
        }
        // An answer that nobody here has asked for goes no further.
        let answer = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{}\r\nVia: SIP/2.0/UDP {there};branch=z9hG4bK{}\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: {}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n",
            mesh.sip(1),
            unique(),
            unique(),
            unique()
        );
        attacker.send_bytes(answer.as_bytes());
        let own = attacker.ask_once(&Request::new("OPTIONS", "sip:mesh.test", "sip:a@b.example", "sip:mesh.test"));
        assert_eq!(own.status(), 200);
        victim.assert_left_alone();
    }
}

#[test]
fn a_users_route_leads_nowhere_but_to_where_a_call_went() {
    let mesh = Mesh::start(1);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &bob);
    bob.register();
    let victim = Victim::new();
    let routes = |one: &str, times: usize| vec![format!("<sip:{one};lr>"); times].join(", ");
    let (there, own, tls) = (victim.address().to_string(), mesh.sip(1).to_string(), mesh.node(1).tls().to_string());
    for route in [
        routes(&there, 1),
        routes(&there, 100),
        routes("169.254.169.254", 1),
        routes("224.0.1.75", 1),
        format!("{}, {}", routes(&own, 1), routes(&there, 1)),
        format!("{}, {}", routes(&tls, 3), routes(&there, 1)),
        format!("<sip:{tls};transport=tls;lr>, <sip:{there};lr>"),
    ] {
        let request = alice.request("MESSAGE", "sip:bob@mesh.test").with("Route", &route).with_body("text/plain", "x");
        let answer = alice.ask(request);
        assert!((400..600).contains(&answer.status()), "{route}:\n{answer}");
        victim.assert_left_alone();
    }
    // A Route of the node's own is taken off, whatever it adds.
    let route = format!("<sip:x@{own};lr;maddr={}>", victim.address().ip());
    let request = alice.request("MESSAGE", "sip:bob@mesh.test").with("Route", &route).with_body("text/plain", "x");
    let sent = alice.start(&request);
    let message = bob.incoming("MESSAGE");
    bob.reply(&message, 200, "OK", "");
    assert_eq!(alice.final_answer(&sent).status(), 200);
    victim.assert_left_alone();
    // Within a dialog too: the Routes of a call carry what vouches for them, others do not.
    let sent = alice.invite("sip:bob@mesh.test");
    let invite = bob.incoming("INVITE");
    bob.accept_later(&invite);
    let mut dialog = alice.established(&sent);
    bob.incoming("ACK");
    let mut astray = dialog.next_request("INFO");
    astray.headers = vec![("Route".to_owned(), format!("<sip:{there};lr>"))];
    let sent = alice.send(&astray);
    assert!(alice.final_answer(&sent).status() >= 400);
    let mut forged = dialog.next_request("INFO");
    for (_, value) in &mut forged.headers {
        *value = value.replacen("sip:", "sip:x", 1);
    }
    let sent = alice.send(&forged);
    assert!(alice.final_answer(&sent).status() >= 400);
    victim.assert_left_alone();
    bob.assert_left_alone();
}
