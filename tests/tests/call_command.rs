//! `meshtone call`: a phone for the command line, heard by real phones and hearing them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use meshtone_tests::command::{meshtone, signal, stderr, stdout};
use meshtone_tests::tone::{self, BOB_HZ};
use meshtone_tests::{Mesh, PhoneOptions, SOON, ScriptedPhone};
use serde_json::Value;

/// The tone of the command's file.
const FILE_HZ: f64 = 620.0;

fn events(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["event"].as_str()).collect()
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn with_tone(seconds: u32) -> Files {
        let files = Files { folder: tempfile::tempdir().unwrap() };
        tone::write_wav(&files.play(), FILE_HZ, seconds);
        files
    }

    fn play(&self) -> PathBuf {
        self.folder.path().join("play.wav")
    }

    fn record(&self) -> PathBuf {
        self.folder.path().join("heard.wav")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_echo_brings_back_what_was_played() {
    let mesh = Mesh::start(1);
    mesh.user("alice");
    let files = Files::with_tone(4);
    let (play, record) = (files.play(), files.record());
    let arguments = ["call", "echo", "--play", text(&play), "--hang-up", "--record", text(&record), "--json"];
    let output = mesh.node(1).command(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let events = events(&stdout(&output));
    assert_eq!(names(&events), ["calling", "answered", "ended"], "{events:?}");
    assert_eq!((events[0]["to"].as_str(), events[2]["by"].as_str()), (Some("sip:echo@mesh.test"), Some("us")));
    tone::assert_heard("the command", &record, FILE_HZ, None);
}

#[test]
fn what_was_recorded_as_opus_is_played_again() {
    let mesh = Mesh::start(1);
    mesh.user("alice");
    let files = Files::with_tone(6);
    let opus = files.folder.path().join("heard.opus");
    for (play, record) in [(files.play(), opus.clone()), (opus.clone(), files.record())] {
        let arguments = ["call", "echo", "--play", text(&play), "--hang-up", "--record", text(&record)];
        let output = mesh.node(1).command(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let file = std::fs::read(&opus).unwrap();
    assert!(file.starts_with(b"OggS") && file.len() < 40_000, "{} bytes", file.len());
    tone::assert_heard("the command", &files.record(), FILE_HZ, None);
    // What is no such file is not played, and it is said why.
    std::fs::write(&opus, b"OggS and nothing else").unwrap();
    let output = mesh.node(1).command(&["call", "echo", "--play", text(&opus)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no Ogg file with Opus"), "{}", stderr(&output));
}

#[test]
fn a_phone_and_the_command_hear_each_other_at_two_nodes() {
    let mesh = Mesh::start(2);
    mesh.user("alice");
    let mut bob = PhoneOptions::new("bob", &mesh.user("bob"), mesh.sip(2), BOB_HZ).start();
    let files = Files::with_tone(20);
    let (play, record) = (files.play(), files.record());
    let talk =
        ["call", "bob", "--as", "alice", "--for", "5s", "--play", text(&play), "--record", text(&record), "--json"];
    let output = mesh.node(1).command(&talk);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let events = events(&stdout(&output));
    assert_eq!(names(&events).first(), Some(&"calling"));
    assert_eq!(names(&events)[names(&events).len() - 2..], ["answered", "ended"], "{events:?}");
    let lasted = events.last().unwrap()["lasted_ms"].as_u64().unwrap();
    assert!((5000..9000).contains(&lasted), "{lasted}");
    bob.wait_closed(SOON);
    bob.assert_heard(FILE_HZ);
    tone::assert_heard("the command", &record, BOB_HZ, Some(FILE_HZ));
    // How it sounded is told, by what the command counts and what the phone reports.
    let sound = &events.last().unwrap()["sound"];
    assert!(sound["mos"].as_f64().unwrap() > 4.0 && sound["loss_percent"].as_f64().unwrap() < 5.0, "{sound}");
}

#[test]
fn who_is_recorded_is_told_so_before() {
    let mesh = Mesh::start(1);
    mesh.user("alice");
    let mut bob = PhoneOptions::new("bob", &mesh.user("bob"), mesh.sip(1), BOB_HZ).start();
    let files = Files::with_tone(3);
    let (announcement, record) = (files.play(), files.record());
    let silence = files.folder.path().join("silence.wav");
    tone::write_samples(&silence, 8000, std::iter::repeat_n(0, 2 * 8000));
    let output = mesh.node(1).command(&[
        "call",
        "bob",
        "--as",
        "alice",
        "--play",
        text(&silence),
        "--hang-up",
        "--record",
        text(&record),
        "--announce",
        text(&announcement),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    bob.wait_closed(SOON);
    bob.assert_heard(FILE_HZ);
    tone::assert_heard("the command", &record, BOB_HZ, None);
    // Of five seconds the three of the announcement are not kept.
    let kept = hound::WavReader::open(&record).unwrap().duration();
    assert!((8000..3 * 8000).contains(&kept), "{kept} samples");
}

#[test]
fn a_call_that_is_not_answered_says_why_by_words_and_exit_code() {
    let mesh = Mesh::start(1);
    mesh.user("alice");
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &mesh.user("bob"));
    let call = |target: &str| mesh.node(1).command(&["call", target, "--as", "alice", "--for", "5s", "--json"]);

    let output = call("bob");
    assert_eq!(output.status.code(), Some(11), "{}", stderr(&output));
    assert!(stderr(&output).contains("no phone there can be reached"), "{}", stderr(&output));
    let output = call("nobody");
    assert_eq!(output.status.code(), Some(12), "{}", stderr(&output));
    let output = call("a b");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let output = mesh.node(1).command(&["call", "bob"]);
    assert!(output.status.code() == Some(1) && stderr(&output).contains("--as"), "{}", stderr(&output));

    bob.register();
    for (status, reason, code) in [(486, "Busy Here", 10), (603, "Decline", 13), (488, "Not Acceptable Here", 14)] {
        let mut child = meshtone(&["--data", text(&mesh.node(1).data()), "call", "bob", "--as", "alice", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let ringing = bob.incoming("INVITE");
        bob.reply(&ringing, status, reason, "");
        bob.incoming("ACK");
        // Where the sound was the reason, the phone is asked once more, with keys.
        if status == 488 {
            let again = bob.incoming("INVITE");
            bob.reply(&again, status, reason, "");
        }
        assert_eq!(child.wait().unwrap().code(), Some(code), "{status}");
    }
}

#[test]
fn ctrl_c_stops_the_ringing_and_hangs_up() {
    let mesh = Mesh::start(1);
    mesh.user("alice");
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &mesh.user("bob"));
    bob.register();
    let start = || {
        meshtone(&["--data", text(&mesh.node(1).data()), "call", "bob", "--as", "alice", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut child = start();
    let ringing = bob.incoming("INVITE");
    bob.reply(&ringing, 180, "Ringing", "");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ringing")));
    signal(child.id(), "INT");
    let cancel = bob.incoming("CANCEL");
    bob.reply(&cancel, 200, "OK", "");
    bob.reply(&ringing, 487, "Request Terminated", "");
    assert_eq!(child.wait().unwrap().code(), Some(130));

    let mut child = start();
    let invite = bob.incoming("INVITE");
    bob.accept(&invite);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("answered")));
    signal(child.id(), "INT");
    let bye = bob.incoming("BYE");
    bob.reply(&bye, 200, "OK", "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let last: Value = serde_json::from_str(&lines.last().unwrap().unwrap()).unwrap();
    assert_eq!((last["event"].as_str(), last["by"].as_str()), (Some("ended"), Some("us")));
}
