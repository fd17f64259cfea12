//! Calls whose sound goes over the link between two nodes: no port is opened from node to node, whatever the phones at both ends speak.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ops::RangeInclusive;
use std::sync::mpsc;

use meshtone_tests::browser::{assert_heard, assert_seen, browse_along, phone_task, video_task};
use meshtone_tests::phone::{HangsUp, Phone, Protection, hold_and_resume, talk};
use meshtone_tests::scripted::SDP;
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ, write_wav};
use meshtone_tests::{Mesh, PhoneOptions, SOON, ScriptedPhone, eventually};
use serde_json::{Value, json};

const BOB: &str = "sip:bob@mesh.test";
const ALWAYS: &str = "[media]\nanchor = \"always\"\n";
const NEVER: &str = "[media]\nanchor = \"never\"\n";

/// Nodes with these settings.
fn nodes(settings: &[&str]) -> Mesh {
    let mut mesh = Mesh::start(settings.len());
    for (number, settings) in (1..).zip(settings) {
        mesh.node_mut(number).terminate();
        mesh.node_mut(number).run_configured(settings);
    }
    mesh.wait_linked();
    mesh
}

fn phone(mesh: &Mesh, node: usize, user: &str, hz: f64, protection: Protection) -> PhoneOptions {
    PhoneOptions::new(user, &mesh.user(user), mesh.sip(node), hz).protected(protection)
}

fn flows(mesh: &Mesh, node: usize) -> u64 {
    mesh.node(node).status()["media_between"]["flows"].as_u64().expect("a number")
}

/// How many of these UDP ports are open on this machine.
fn open_ports(ports: RangeInclusive<u16>) -> usize {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let local = lines.filter_map(|line| line.split_whitespace().nth(1)?.rsplit_once(':').map(|(_, port)| port));
    local.filter(|port| u16::from_str_radix(port, 16).is_ok_and(|port| ports.contains(&port))).count()
}

/// One call with sound both ways over the link: each node has a pair of ports for its own phone, and no other.
#[track_caller]
fn talk_between(mesh: &Mesh, caller: &mut Phone, callee: &mut Phone) {
    all_talk_between(mesh, vec![(caller, callee)]);
}

/// The same for several calls at once.
#[track_caller]
fn all_talk_between(mesh: &Mesh, mut calls: Vec<(&mut Phone, &mut Phone)>) {
    let count = calls.len();
    for (caller, callee) in &mut calls {
        caller.forget_recordings();
        callee.forget_recordings();
        caller.dial(&format!("sip:{}@mesh.test", callee.user()));
    }
    for (caller, callee) in &mut calls {
        callee.wait_established();
        caller.wait_established();
    }
    for node in [1, 2] {
        let open = (flows(mesh, node) as usize, open_ports(mesh.node(node).rtp()));
        assert_eq!(open, (count, 2 * count), "at node {node}");
    }
    for (caller, callee) in &mut calls {
        caller.wait_recorded();
        callee.wait_recorded();
    }
    for (caller, callee) in &mut calls {
        caller.hang_up();
        callee.wait_closed(SOON);
        caller.assert_heard(callee.tone_hz());
        callee.assert_heard(caller.tone_hz());
    }
    for node in [1, 2] {
        eventually(SOON, "the node to be done with the call", || {
            flows(mesh, node) == 0 && open_ports(mesh.node(node).rtp()) == 0
        });
    }
}

#[test]
fn phones_without_keys_with_keys_with_a_handshake_and_with_checks_talk_over_the_link_between_their_nodes_in_every_pairing()
 {
    let mesh = nodes(&[ALWAYS, ALWAYS]);
    let kinds = [Protection::None, Protection::Sdes, Protection::Dtls];
    let start = |node: usize, users: [&str; 4], hz: f64| {
        let phones = users.into_iter().zip(kinds).map(|(user, kind)| phone(&mesh, node, user, hz, kind));
        let checking = phone(&mesh, node, users[3], hz, Protection::Dtls).checking();
        phones.chain([checking]).map(PhoneOptions::start).collect::<Vec<_>>()
    };
    let mut here = start(1, ["alice", "carol", "erin", "grace"], ALICE_HZ);
    let mut there = start(2, ["bob", "dave", "frank", "heidi"], BOB_HZ);
    mesh.wait_announced(8);
    let checks = |phone: &Phone| phone.log_text().matches("connectivity check is complete").count();
    for round in 0..4 {
        // Each pair once, called from either side in turn; four at a time.
        there.rotate_left(usize::from(round > 0));
        let pairs = here.iter_mut().zip(&mut there);
        let calls = pairs.map(|(one, other)| if round % 2 == 0 { (one, other) } else { (other, one) });
        all_talk_between(&mesh, calls.collect());
    }
    for phone in [&here[3], there.iter().find(|phone| phone.user() == "heidi").unwrap()] {
        // With each of the four.
        assert_eq!(checks(phone), 4, "{}", phone.log_text());
    }
    let dropped = &mesh.node(1).status()["media_between"];
    assert_eq!((&dropped["foreign"], &dropped["excess"], &dropped["malformed"]), (&json!(0), &json!(0), &json!(0)));
}

#[test]
fn a_call_over_the_link_is_held_and_resumed_and_outlives_the_link() {
    let mesh = nodes(&[ALWAYS, ALWAYS]);
    let mut alice = phone(&mesh, 1, "alice", ALICE_HZ, Protection::None).start();
    let mut bob = phone(&mesh, 2, "bob", BOB_HZ, Protection::Sdes).start();
    mesh.wait_announced(2);
    alice.dial(BOB);
    bob.wait_established();
    alice.wait_established();
    alice.wait_recorded();
    bob.wait_recorded();
    assert_eq!((flows(&mesh, 1), flows(&mesh, 2)), (1, 1));
    hold_and_resume(&mut alice, &mut bob);
    // The other node stands still until it is given up, and goes on over a new link.
    mesh.node(2).freeze();
    eventually(SOON, "the link to be given up", || mesh.node(1).links() == 0);
    eventually(SOON, "silence", || alice.bit_rates().1 < 20_000);
    mesh.node(2).thaw();
    mesh.wait_linked();
    eventually(SOON, "sound over the new link", || [&alice, &bob].iter().all(|phone| phone.bit_rates().1 > 40_000));
    alice.hang_up();
    bob.wait_closed(SOON);
    alice.assert_heard(BOB_HZ);
    bob.assert_heard(ALICE_HZ);
}

#[test]
fn a_phone_with_ipv4_alone_and_one_with_ipv6_alone_talk_through_their_nodes() {
    let mut mesh = nodes(&[ALWAYS, ALWAYS]);
    let mut v6 = mesh.sip(2);
    v6.set_ip("::1".parse().unwrap());
    mesh.node_mut(2).terminate();
    let config = mesh_config(&mesh, 2);
    mesh.node_mut(2).run(&["--sip", &v6.to_string(), "--config", &config]);
    mesh.wait_linked();
    let mut alice = phone(&mesh, 1, "alice", ALICE_HZ, Protection::None).start();
    let bob = PhoneOptions::new("bob", &mesh.user("bob"), v6, BOB_HZ);
    let mut bob = bob.living_at("::1".parse::<std::net::IpAddr>().unwrap()).start();
    mesh.wait_announced(2);
    talk_between(&mesh, &mut alice, &mut bob);
    talk_between(&mesh, &mut bob, &mut alice);
}

fn mesh_config(mesh: &Mesh, node: usize) -> String {
    mesh.node(node).data().parent().unwrap().join("config.toml").to_str().unwrap().to_owned()
}

#[test]
fn a_call_over_links_rings_at_several_nodes_and_can_be_redirected_and_given_up() {
    let mesh = nodes(&[ALWAYS, ALWAYS, ALWAYS]);
    let mut alice = phone(&mesh, 1, "alice", ALICE_HZ, Protection::None).start();
    let password = mesh.user("bob");
    let mut bobs =
        [2, 3].map(|node| PhoneOptions::new("bob", &password, mesh.sip(node), BOB_HZ).answered_by_hand().start());
    mesh.wait_announced(2);
    eventually(SOON, "both of Bob's nodes to be known", || mesh.node(1).records("sip-registration") >= 3);
    // Nobody answers: both stop ringing.
    alice.dial(BOB);
    bobs.iter_mut().for_each(Phone::wait_incoming);
    alice.wait_ringing();
    alice.hang_up();
    for bob in &mut bobs {
        bob.wait_closed(SOON);
        assert!(!bob.has_event("CALL_ESTABLISHED"));
    }
    // One answers: the other stops ringing.
    alice.dial(BOB);
    bobs.iter_mut().for_each(Phone::wait_incoming);
    let [one, other] = &mut bobs;
    other.answer();
    other.wait_established();
    alice.wait_established();
    one.wait_closed(SOON);
    alice.wait_recorded();
    other.wait_recorded();
    alice.hang_up();
    other.wait_closed(SOON);
    alice.assert_heard(BOB_HZ);
    other.assert_heard(ALICE_HZ);
    // A phone at the second node sends callers to Bob, who is at the third one as well.
    let mut carol = ScriptedPhone::udp(mesh.sip(2)).of("carol", &mesh.user("carol"));
    carol.register();
    mesh.wait_announced(4);
    alice.forget_recordings();
    other.forget_recordings();
    alice.dial("sip:carol@mesh.test");
    let ringing = carol.incoming("INVITE");
    assert!(!String::from_utf8_lossy(&ringing.body).contains("QUIC"), "{ringing}");
    carol.redirect(&ringing, BOB);
    other.wait_incoming();
    other.answer();
    alice.wait_established();
    alice.wait_recorded();
    other.wait_recorded();
    alice.hang_up();
    other.wait_closed(SOON);
    alice.assert_heard(BOB_HZ);
    other.assert_heard(ALICE_HZ);
}

#[test]
fn where_the_other_node_carries_nothing_phones_talk_as_before() {
    let mesh = nodes(&[ALWAYS, NEVER]);
    let mut alice = phone(&mesh, 1, "alice", ALICE_HZ, Protection::None).start();
    let mut bob = phone(&mesh, 2, "bob", BOB_HZ, Protection::None).start();
    mesh.wait_announced(2);
    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
    talk(&mut bob, &mut alice, "sip:alice@mesh.test", HangsUp::Caller);
    assert_eq!(flows(&mesh, 2), 0);
}

#[test]
fn a_phone_that_names_a_flow_as_nodes_do_is_refused() {
    let mesh = nodes(&[ALWAYS, ALWAYS]);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::udp(mesh.sip(2)).of("bob", &bob);
    bob.register();
    mesh.wait_announced(1);
    let body = SDP.replace("RTP/AVP", "QUIC/RTP/AVP") + "a=roq-flow-id:4\r\n";
    let invite = alice.request("INVITE", BOB).with_body("application/sdp", &body);
    let sent = alice.send(&invite);
    assert_eq!(alice.final_answer(&sent).status(), 488);
}

#[test]
fn browsers_talk_to_a_desk_phone_and_to_each_other_over_the_link_between_their_nodes() {
    let mesh = nodes(&[ALWAYS, ALWAYS]);
    let mut bob = phone(&mesh, 2, "bob", BOB_HZ, Protection::None).start();
    mesh.wait_announced(1);
    let folder = tempfile::tempdir().unwrap();
    let tones = [("alice.wav", ALICE_HZ), ("carol.wav", BOB_HZ)].map(|(name, hz)| {
        let path = folder.path().join(name);
        write_wav(&path, hz, 60);
        path
    });
    let (alice, carol) = (mesh.user("alice"), mesh.user("carol"));
    let (alice, carol) = (("alice", alice.as_str()), ("carol", carol.as_str()));
    let task = phone_task(&mesh, 1, alice, &tones[0], &json!(["bob", null]));
    let result = browse_along("browser.mjs", &task, |line| {
        if line == "waiting" {
            bob.wait_closed(SOON);
            bob.assert_heard(ALICE_HZ);
            bob.forget_recordings();
            mesh.wait_announced(2);
            bob.dial("sip:alice@mesh.test");
            bob.wait_established();
            assert_eq!((flows(&mesh, 1), flows(&mesh, 2)), (1, 1));
        }
    });
    assert_eq!(result["error"], Value::Null, "{result:#}");
    assert_heard(&result, 2, BOB_HZ);
    bob.wait_closed(SOON);
    bob.assert_heard(ALICE_HZ);

    let (ready, waits) = mpsc::channel();
    let callers = phone_task(&mesh, 1, alice, &tones[0], &json!(["carol"]));
    let callees = phone_task(&mesh, 2, carol, &tones[1], &json!([null]));
    let (heard_by_alice, heard_by_carol) = std::thread::scope(|scope| {
        let carol = scope.spawn(move || {
            browse_along("browser.mjs", &callees, |line| {
                if line == "waiting" {
                    ready.send(()).unwrap();
                }
            })
        });
        waits.recv().expect("Carol's browser waits");
        eventually(SOON, "Carol to be known", || mesh.node(1).records("sip-registration") >= 2);
        let alice = browse_along("browser.mjs", &callers, |_| {});
        (alice, carol.join().unwrap())
    });
    assert_heard(&heard_by_alice, 1, BOB_HZ);
    assert_heard(&heard_by_carol, 1, ALICE_HZ);
}

#[test]
fn browsers_see_each_other_over_the_link_between_their_nodes() {
    let mesh = nodes(&[ALWAYS, ALWAYS]);
    let folder = tempfile::tempdir().unwrap();
    let tones = [("alice.wav", ALICE_HZ), ("carol.wav", BOB_HZ)].map(|(name, hz)| {
        let path = folder.path().join(name);
        write_wav(&path, hz, 60);
        path
    });
    let (alice, carol) = (mesh.user("alice"), mesh.user("carol"));
    let callers = video_task(&mesh, 1, ("alice", &alice), &tones[0], &json!(["carol"]), None);
    let callees = video_task(&mesh, 2, ("carol", &carol), &tones[1], &json!([null]), None);
    let (ready, waits) = mpsc::channel();
    let (by_alice, by_carol) = std::thread::scope(|scope| {
        let carol = scope.spawn(move || {
            browse_along("browser.mjs", &callees, |line| {
                if line == "waiting" {
                    ready.send(()).unwrap();
                }
            })
        });
        waits.recv().expect("Carol's browser waits");
        eventually(SOON, "Carol to be known", || mesh.node(1).records("sip-registration") >= 1);
        let alice = browse_along("browser.mjs", &callers, |_| {});
        (alice, carol.join().unwrap())
    });
    assert_heard(&by_alice, 1, BOB_HZ);
    assert_heard(&by_carol, 1, ALICE_HZ);
    for result in [&by_alice, &by_carol] {
        assert_seen(result);
        // Sound and pictures go over one transport (RFC 8843).
        assert_eq!(result["seen"][0]["counted"]["transports"], json!(1), "{result:#}");
    }
}
