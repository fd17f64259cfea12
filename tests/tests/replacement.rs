//! A mesh is renewed while people talk: machines die or are switched off, new ones join, and nobody's call fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use meshtone_tests::{Mesh, MeshNode, SOON, ScriptedPhone, eventually};

const BOB: &str = "sip:bob@mesh.test";
/// The nodes that are replaced; the caller's and the callee's stay.
const REPLACED: std::ops::RangeInclusive<usize> = 3..=6;
/// Copies of a record.
const REPLICAS: usize = 5;
/// Calls that must complete after each change, before the next one comes.
const CALLS_EACH: usize = 5;
/// How often the callee looks whether the test is over.
const LOOK: Duration = Duration::from_millis(100);

#[test]
fn every_call_completes_while_half_of_seven_nodes_are_replaced_one_by_one() {
    let mut mesh = Mesh::start(7);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut caller = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut callee = ScriptedPhone::udp(mesh.sip(7)).of("bob", &bob);
    callee.register();
    // Another phone of Bob's, which nobody answers, at a node that will be gone.
    ScriptedPhone::udp(mesh.sip(3)).of("bob", &bob).register();
    eventually(SOON, "Bob's two records to be stored", || {
        mesh.nodes.iter().filter(|node| node.records("sip-registration") >= 2).count() >= REPLICAS
    });

    let (completed, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let answering = scope.spawn(|| answer_calls(&mut callee, &is_over));
        let calling = scope.spawn(|| make_calls(&mut caller, &completed, &is_over));
        // Whatever goes wrong below, the phones must not go on for ever.
        let _ending = Ending(&is_over);
        let calls_go_on = |after: &str| {
            let wanted = completed.load(Ordering::SeqCst) + CALLS_EACH;
            eventually(SOON, &format!("{CALLS_EACH} calls after {after}"), || {
                assert!(!calling.is_finished() && !answering.is_finished(), "a phone gave up after {after}");
                completed.load(Ordering::SeqCst) >= wanted
            });
        };

        calls_go_on("the start");
        for number in REPLACED {
            if number % 2 == 0 {
                assert_eq!(mesh.node_mut(number).terminate(), Some(0));
            } else {
                mesh.node_mut(number).kill9();
            }
            calls_go_on(&format!("the end of node {number}"));
            let ticket = mesh.node(1).invite();
            *mesh.node_mut(number) = MeshNode::joining(&format!("n{number}b"), &ticket);
            calls_go_on(&format!("a new node took the place of node {number}"));
        }
    });
    mesh.wait_linked();
}

/// Ends the stream of calls when it is dropped.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One call after the other, each answered and properly ended.
fn make_calls(phone: &mut ScriptedPhone, completed: &AtomicUsize, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        let invite = phone.invite(BOB);
        let mut dialog = phone.established(&invite);
        let bye = phone.send(&dialog.next_request("BYE"));
        assert_eq!(phone.final_answer(&bye).status(), 200, "BYE of call {}", completed.load(Ordering::SeqCst));
        completed.fetch_add(1, Ordering::SeqCst);
    }
}

fn answer_calls(phone: &mut ScriptedPhone, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        let Some(invite) = phone.incoming_within("INVITE", LOOK) else { continue };
        phone.accept(&invite);
        let bye = phone.incoming("BYE");
        phone.reply(&bye, 200, "OK", "");
    }
}
