//! The tools of those who scan the Internet for telephones (SIPVicious), and what they learn: that a SIP server is there.
//!
//! They come from an address of their own, 127.0.0.66; whoever the accounts belong to comes from 127.0.0.1.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Child, Command, Stdio};

use meshtone_tests::command::need;
use meshtone_tests::scripted::{Sip, is_alive};
use meshtone_tests::{Mesh, SOON, ScriptedPhone, Transport, eventually_some};
use tempfile::{NamedTempFile, TempDir};

/// Where the attacker sits.
const ATTACKER: &str = "127.0.0.66";

/// Makes the tools send from there: they know an option for it and do not heed it.
const SENDER: &str = "import socket\nbind = socket.socket.bind\n\
                      socket.socket.bind = lambda self, to: bind(self, ('127.0.0.66' if not to[0] else to[0], to[1]))\n";

/// A tool that runs, with a home of its own.
struct Tool {
    child: Child,
    _home: TempDir,
}

/// Starts `svmap`, `svwar` or `svcrack`, bounded in time by the tool itself.
fn start(tool: &str, arguments: &[&str]) -> Tool {
    need(tool, "sipvicious");
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("sitecustomize.py"), SENDER).unwrap();
    let child = Command::new(tool)
        .args(["-x", ATTACKER])
        .args(arguments)
        .env("HOME", home.path())
        .env("PYTHONPATH", home.path())
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Tool { child, _home: home }
}

/// All that the tool said, once it has ended.
#[track_caller]
fn said(mut tool: Tool) -> String {
    eventually_some(3 * SOON, "the tool to end", || tool.child.try_wait().unwrap());
    let output = tool.child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// What distinguishes an answer: status, names of its fields in their order, and lengths of all but what repeats the request.
fn shape(answer: &Sip) -> (u16, Vec<(String, usize)>) {
    let repeated = ["Via", "From", "To", "Call-ID", "CSeq"];
    let length = |name: &str, value: &str| if repeated.contains(&name) { 0 } else { value.len() };
    let fields = answer.headers.iter().map(|(name, value)| (name.clone(), length(name, value))).collect();
    (answer.status(), fields)
}

#[test]
fn existing_and_missing_users_are_answered_alike() {
    let mesh = Mesh::start(1);
    mesh.user("alice");
    for method in ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE", "PUBLISH"] {
        for password in [None, Some("wrong")] {
            let ask = |user: &str| {
                let mut phone = ScriptedPhone::udp(mesh.sip(1)).of(user, password.unwrap_or_default());
                let address = format!("sip:{user}@mesh.test");
                let uri = if method == "REGISTER" { "sip:mesh.test" } else { &address };
                let mut request = phone.request(method, uri);
                request.to = format!("<{address}>");
                let answer = phone.ask_once(&request);
                if password.is_none() { answer } else { phone.ask(request) }
            };
            let (existing, missing) = (ask("alice"), ask("zelda"));
            assert!(matches!(existing.status(), 401 | 407), "{method} {password:?}:\n{existing}");
            assert_eq!(shape(&existing), shape(&missing), "{method} {password:?}:\n{existing}\n{missing}");
            let tag = |answer: &Sip| answer.header("To").unwrap().len();
            assert_eq!(tag(&existing), tag(&missing));
        }
    }
}

#[test]
fn enumeration_learns_nothing() {
    let mesh = Mesh::start(1);
    let (_, _) = (mesh.user("alice"), mesh.user("bob"));
    let port = mesh.sip(1).port().to_string();
    let found = said(start("svmap", &["-p", &port, "127.0.0.1"]));
    assert!(found.contains(&port), "the tool works at all: it finds the node\n{found}");

    let names = NamedTempFile::new().unwrap();
    std::fs::write(names.path(), "alice\nzelda\nbob\nyoda\n100\n101\n200\n1000\n").unwrap();
    let names = names.path().to_str().unwrap();
    for method in ["REGISTER", "INVITE", "OPTIONS"] {
        let arguments = ["--force", "-p", &port, "-m", method, "-d", names, "--maximumtime=5", "127.0.0.1"];
        let seen = said(start("svwar", &arguments));
        assert!(seen.contains("found nothing"), "{method}:\n{seen}");
        assert!(!seen.contains("| alice") && !seen.contains("| bob"), "{method}:\n{seen}");
    }
    assert!(is_alive(Transport::Udp, mesh.sip(1)));
}

/// A word list that ends with the right one.
fn list_of(wrong: usize, right: &str) -> NamedTempFile {
    let words: Vec<String> = (0..wrong).map(|number| format!("word{number}")).chain([right.to_owned()]).collect();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), words.join("\n")).unwrap();
    file
}

#[test]
fn cracking_gets_nowhere_even_with_the_right_word_and_its_victim_registers_meanwhile() {
    let mesh = Mesh::start(1);
    let password = mesh.user("alice");
    let weak = mesh.user("bob");
    let port = mesh.sip(1).port().to_string();
    let crack = |user: &str, words: &NamedTempFile| {
        let list = words.path().to_str().unwrap();
        start("svcrack", &["-u", user, "-p", &port, "-d", list, "--domain=mesh.test", "--maximumtime=5", "127.0.0.1"])
    };
    let known = said(crack("bob", &list_of(3, &weak)));
    assert!(known.contains(&weak), "the tool works at all: it may try some words\n{known}");

    let words = list_of(300, &password);
    let mut cracking = crack("alice", &words);
    let mut owner = ScriptedPhone::udp(mesh.sip(1)).of("alice", &password);
    let mut registered = 0;
    while registered < 3 || (cracking.child.try_wait().unwrap().is_none() && registered < 50) {
        owner.register();
        registered += 1;
    }
    let learnt = said(cracking);
    assert!(!learnt.contains(&password), "the password was found\n{learnt}");
    owner.register();
}
