//! Calls of phones and browsers that nothing reaches: through the node's TURN server, in networks in which there is no other way.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use meshtone_tests::browser::{assert_heard, browse_on, phone_task};
use meshtone_tests::lan::{Host, OWN_ADDRESS, in_own_network};
use meshtone_tests::phone::{HangsUp, Transport, talk};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ, write_wav};
use meshtone_tests::turn::{TurnPorts, put_behind_a_symmetric_box, put_behind_a_wall};
use meshtone_tests::{DOMAIN, Mesh, MeshNode, PhoneOptions};
use serde_json::{Value, json};

/// Where the browser's page comes from, in its host's own namespace.
const PAGE_PORT: u16 = 8099;

/// Three seconds of the smallest sound (Opus at 20 kbit/s and its headers, 50 packets a second), once.
const SOUND: u64 = 3 * 50 * 60;

fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 81, 0, last)
}

/// A node on the first of these hosts; the others have addresses and nothing else.
fn node_and_hosts(ports: &TurnPorts, more: &str) -> (Mesh, [Host; 3]) {
    let hosts = [1, 2, 3].map(Host::new);
    for (host, last) in hosts.iter().zip(1..) {
        host.move_to(at(last));
    }
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    node.live_on(&hosts[0], at(1));
    let settings = ports.settings(IpAddr::V4(Ipv4Addr::UNSPECIFIED), "allow_private = true");
    // Keys before tables.
    node.run_configured(&format!("ws_origin = \"http://127.0.0.1:{PAGE_PORT}\"\nno_mdns = true\n{settings}\n{more}\n"));
    (Mesh { nodes: vec![node] }, hosts)
}

fn relayed(mesh: &Mesh) -> u64 {
    mesh.node(1).status()["turn"]["relayed_bytes"].as_u64().unwrap()
}

/// What a browser is told to do that finds its way by the node's TURN server.
fn task(mesh: &Mesh, user: &str, tone: &Path, calls: &Value) -> Value {
    let password = mesh.user(user);
    let mut task = phone_task(mesh, 1, (user, &password), tone, calls);
    let ice: Value = serde_json::from_str(&mesh.node(1).must(&["turn-credentials", user])).unwrap();
    task["phone"]["ice"] = json!([ice]);
    task["pagePort"] = json!(PAGE_PORT);
    task
}

#[test]
fn phones_behind_walls_call_each_other_through_the_node() {
    if !in_own_network("phones_behind_walls_call_each_other_through_the_node") {
        return;
    }
    let ports = TurnPorts::reserve();
    let (mesh, hosts) = node_and_hosts(&ports, "[media]\nanchor = \"never\"");
    let turn = (at(1), ports.plain().port()).into();
    for number in [2, 3] {
        put_behind_a_wall(number, &hosts[usize::from(number) - 1], &[ports.plain().port()]);
    }
    let phone = |user: &str, number: usize, tone| {
        let password = mesh.user(user);
        let phone = PhoneOptions::new(user, &password, mesh.sip(1), tone).over(Transport::Tcp);
        phone.living_on(&hosts[number - 1], at(u8::try_from(number).unwrap())).relayed_by(turn).start()
    };
    let (mut alice, mut bob) = (phone("alice", 2, ALICE_HZ), phone("bob", 3, BOB_HZ));
    talk(&mut alice, &mut bob, "sip:bob@mesh.test", HangsUp::Caller);
    assert!(relayed(&mesh) > 2 * SOUND, "{} bytes", relayed(&mesh));
}

#[test]
fn browsers_behind_symmetric_boxes_call_each_other_through_the_node() {
    if !in_own_network("browsers_behind_symmetric_boxes_call_each_other_through_the_node") {
        return;
    }
    let ports = TurnPorts::reserve();
    let (mesh, hosts) = node_and_hosts(&ports, "[media]\nanchor = \"never\"");
    for host in &hosts[1..] {
        put_behind_a_symmetric_box(host);
    }
    let folder = tempfile::tempdir().unwrap();
    let [alices, bobs] = ["alice.wav", "bob.wav"].map(|name| folder.path().join(name));
    write_wav(&alices, ALICE_HZ, 60);
    write_wav(&bobs, BOB_HZ, 60);
    let (caller, callee) =
        (task(&mesh, "alice", &alices, &json!(["bob"])), task(&mesh, "bob", &bobs, &json!([Value::Null])));
    let (alice, bob) = std::thread::scope(|scope| {
        let bob = scope.spawn(|| browse_on(&hosts[2], "browser.mjs", &callee));
        meshtone_tests::eventually(meshtone_tests::SOON, "bob to be registered", || {
            !mesh.node(1).contacts("bob@mesh.test").is_empty()
        });
        let alice = browse_on(&hosts[1], "browser.mjs", &caller);
        (alice, bob.join().unwrap())
    });
    assert_eq!((&alice["error"], &bob["error"]), (&Value::Null, &Value::Null), "{alice:#} {bob:#}");
    assert_heard(&alice, 1, BOB_HZ);
    assert_heard(&bob, 1, ALICE_HZ);
    assert!(relayed(&mesh) > 2 * SOUND, "{} bytes", relayed(&mesh));
}

#[test]
fn a_browser_without_any_udp_and_a_desk_phone_hear_each_other() {
    if !in_own_network("a_browser_without_any_udp_and_a_desk_phone_hear_each_other") {
        return;
    }
    let ports = TurnPorts::reserve();
    let (mesh, hosts) = node_and_hosts(&ports, "");
    put_behind_a_wall(2, &hosts[1], &[]);
    let password = mesh.user("bob");
    let mut bob = PhoneOptions::new("bob", &password, mesh.sip(1), BOB_HZ).living_at(OWN_ADDRESS).start();
    let folder = tempfile::tempdir().unwrap();
    let tone = folder.path().join("alice.wav");
    write_wav(&tone, ALICE_HZ, 60);
    let alice = browse_on(&hosts[1], "browser.mjs", &task(&mesh, "alice", &tone, &json!(["bob"])));
    assert_eq!(alice["error"], Value::Null, "{alice:#}");
    assert_heard(&alice, 1, BOB_HZ);
    bob.wait_closed(meshtone_tests::SOON);
    bob.assert_heard(ALICE_HZ);
    assert!(relayed(&mesh) > 2 * SOUND, "{} bytes", relayed(&mesh));
}
