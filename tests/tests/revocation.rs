//! A node that its overlay's authority has revoked, with real phones.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use meshtone_tests::command::stderr;
use meshtone_tests::{Mesh, MeshNode, ScriptedPhone, eventually};
use serde_json::Value;

/// Within which every node has to know.
const MINUTE: Duration = Duration::from_secs(60);

fn id_of(node: &MeshNode) -> String {
    node.status()["node"].as_str().unwrap().to_owned()
}

fn listed(node: &MeshNode) -> Vec<Value> {
    let list: Value = serde_json::from_str(&node.must(&["node", "list", "--json"])).unwrap();
    list["nodes"].as_array().unwrap().clone()
}

#[test]
fn the_phones_of_a_revoked_node_neither_call_nor_are_called_within_a_minute() {
    let mut mesh = Mesh::start(3);
    let (alices, bobs, carols) = (mesh.user("alice"), mesh.user("bob"), mesh.user("carol"));
    let phone = |number: usize, user: &str, password: &str| {
        let mut phone = ScriptedPhone::udp(mesh.sip(number)).of(user, password);
        phone.register();
        phone
    };
    let mut alice = phone(1, "alice", &alices);
    let mut bob = phone(2, "bob", &bobs);
    let mut carol = phone(3, "carol", &carols);
    mesh.wait_announced(3);
    let call = |from: &mut ScriptedPhone, to: &mut ScriptedPhone, user: &str| {
        let invite = from.invite(&format!("sip:{user}@mesh.test"));
        let ringing = to.incoming("INVITE");
        to.reply(&ringing, 486, "Busy Here", "");
        to.incoming("ACK");
        assert_eq!(from.final_answer(&invite).status(), 486, "{user} is called");
    };
    call(&mut alice, &mut bob, "bob");
    call(&mut bob, &mut carol, "carol");

    let stolen = id_of(mesh.node(2));
    assert!(listed(mesh.node(1)).iter().any(|row| row["node"] == stolen.as_str() && row["revoked"].is_null()));
    let elsewhere = mesh.node(3).command(&["node", "revoke", &stolen]);
    assert!(!elsewhere.status.success() && stderr(&elsewhere).contains("authority"), "{}", stderr(&elsewhere));
    let own = mesh.node(1).command(&["node", "revoke", &id_of(mesh.node(1))]);
    assert!(!own.status.success() && stderr(&own).contains("own node"), "{}", stderr(&own));
    mesh.node(1).must(&["node", "revoke", &stolen, "--because", "stolen on the train"]);
    let since = Instant::now();
    let row = listed(mesh.node(1)).into_iter().find(|row| row["node"] == stolen.as_str()).unwrap();
    assert!(row["revoked"].is_u64() && row["because"] == "stolen on the train", "{row}");
    eventually(MINUTE, "nobody to be linked with it", || mesh.node(2).links() == 0);
    eventually(MINUTE, "it to say why", || mesh.node(2).status()["revoked"] == true);
    assert!(since.elapsed() < MINUTE);

    let not_called = |from: &mut ScriptedPhone, user: &str| {
        let invite = from.invite(&format!("sip:{user}@mesh.test"));
        let status = from.final_answer(&invite).status();
        assert!(status == 404 || status == 480, "{user}: {status}");
    };
    not_called(&mut alice, "bob");
    not_called(&mut carol, "bob");
    not_called(&mut bob, "alice");
    for phone in [&mut alice, &mut bob, &mut carol] {
        phone.assert_left_alone();
    }
    call(&mut alice, &mut carol, "carol");

    // It comes back no more, nor does anybody forget.
    mesh.node_mut(2).terminate();
    mesh.node_mut(2).restart();
    mesh.node_mut(3).terminate();
    mesh.node_mut(3).restart();
    eventually(MINUTE, "the others to find each other again", || {
        mesh.node(3).links() == 1 && mesh.node(1).links() == 1
    });
    assert_eq!(mesh.node(2).links(), 0);
    let told = mesh.node(2).must(&["status"]);
    assert!(told.contains("has taken this node's certificates back"), "{told}");
}
