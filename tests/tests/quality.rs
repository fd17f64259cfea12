//! How a call sounds: what a node says of the calls it carries, over a good network and over a bad one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{SocketAddr, UdpSocket};

use meshtone_tests::phone::{HangsUp, Phone, Protection, talk};
use meshtone_tests::shaper::{Shape, send_tone};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{Mesh, PhoneOptions, SOON, ScriptedPhone, eventually, eventually_some};
use serde_json::Value;

const BOB: &str = "sip:bob@mesh.test";
const SECONDS: u32 = 10;

/// One node that carries all calls.
fn node() -> Mesh {
    let mut mesh = Mesh::start(1);
    mesh.node_mut(1).terminate();
    mesh.node_mut(1).run_configured("[media]\nanchor = \"always\"\n");
    mesh
}

/// A call in which a phone speaks through such a network; returns what the node says of it while it stands, and when it is over.
fn speak(mesh: &Mesh, alice: &mut ScriptedPhone, bob: &mut Phone, shape: Shape) -> [Value; 2] {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    );
    let finished = || mesh.node(1).status()["finished_calls"].as_array().unwrap().len();
    let before = finished();
    bob.forget_recordings();
    let invite = alice.request("INVITE", BOB).with_body("application/sdp", &sdp);
    let sent = alice.start(&invite);
    let answer = alice.final_answer(&sent);
    assert_eq!(answer.status(), 200, "{answer}");
    let mut dialog = alice.established_by(&sent, &answer);
    let described = String::from_utf8_lossy(&answer.body).into_owned();
    let line = described.lines().find_map(|line| line.strip_prefix("m=audio ")).expect("a stream");
    let port: u16 = line.split(' ').next().unwrap().parse().unwrap();
    send_tone(socket, SocketAddr::from(([127, 0, 0, 1], port)), ALICE_HZ, SECONDS, shape).join().unwrap();
    let during = mesh.node(1).status()["calls"][0]["sound"].clone();
    let bye = alice.send(&dialog.next_request("BYE"));
    assert_eq!(alice.final_answer(&bye).status(), 200);
    bob.wait_closed(SOON);
    let last = || mesh.node(1).status()["finished_calls"].as_array().unwrap().last().cloned();
    eventually(SOON, "the node to remember the call", || finished() > before);
    [during, last().unwrap()["sound"].clone()]
}

#[test]
fn a_network_that_loses_and_delays_is_seen_in_the_score_and_the_tone_still_arrives() {
    let mesh = node();
    let mut bob = PhoneOptions::new("bob", &mesh.user("bob"), mesh.sip(1), BOB_HZ).start();
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &mesh.user("alice"));

    let [good, _] = speak(&mesh, &mut alice, &mut bob, Shape::NONE);
    let by_bob = &good["heard_by_callee"];
    assert_eq!((by_bob["codec"].as_str(), by_bob["loss_percent"].as_f64()), (Some("PCMU"), Some(0.0)), "{good}");

    let shape = Shape { seed: 20_261_201, loss_percent: 5, late_packets: 2 };
    let [bad, over] = speak(&mesh, &mut alice, &mut bob, shape);
    let of = |sound: &Value, name: &str| sound["heard_by_callee"][name].as_f64().unwrap();
    assert!((2.0..10.0).contains(&of(&bad, "loss_percent")), "{bad}");
    assert!((5.0..60.0).contains(&of(&bad, "jitter_ms")), "{bad}");
    assert!(of(&bad, "mos") + 0.3 < of(&good, "mos"), "{good}, then {bad}");
    assert!(of(&over, "mos") + 0.3 < of(&good, "mos"), "{over}");
    // What comes to Alice is not disturbed.
    assert!(bad["heard_by_caller"]["mos"].as_f64().unwrap() > 4.0, "{bad}");

    let heard = eventually_some(SOON, "a finished recording", || bob.last_heard(ALICE_HZ));
    assert!(heard.voiced_frames >= 30 && heard.matching_frames * 100 >= heard.voiced_frames * 95, "{heard:?}");
    let shown = mesh.node(1).must(&["status"]);
    assert!(shown.contains("calls that were carried: 2") && shown.contains("hears MOS"), "{shown}");
}

#[test]
fn it_is_told_how_each_end_is_protected_and_how_far_away_it_is() {
    let mesh = node();
    let start = |user: &str, hz, protection| {
        PhoneOptions::new(user, &mesh.user(user), mesh.sip(1), hz).protected(protection).start()
    };
    let (mut alice, mut bob) = (start("alice", ALICE_HZ, Protection::Sdes), start("bob", BOB_HZ, Protection::None));
    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
    let over = eventually_some(SOON, "the node to remember the call", || {
        mesh.node(1).status()["finished_calls"].as_array()?.first().cloned()
    });
    let sound = &over["sound"];
    assert_eq!(
        (sound["protection_of_caller"].as_str(), sound["protection_of_callee"].as_str()),
        (Some("sdes"), Some("none"))
    );
    for side in ["heard_by_caller", "heard_by_callee"] {
        assert!(sound[side]["mos"].as_f64().unwrap() > 3.5, "{over}");
    }
    assert!(mesh.node(1).status()["calls"].as_array().is_some_and(Vec::is_empty));
}
