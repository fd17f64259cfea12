//! What a person meets: commands, errors with hints, files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::{Duration, Instant};

use meshtone_tests::command::{meshtone, stderr, stdout};
use meshtone_tests::node::ticket_in;
use meshtone_tests::ports::PortBlock;
use meshtone_tests::{Mesh, MeshNode, SOON, ScriptedPhone, eventually};
use serde_json::Value;

/// Fails unless the command failed with an `error:` that contains `what`, and a `hint:`.
#[track_caller]
fn assert_refused(output: &Output, what: &str) {
    let text = stderr(output);
    assert!(!output.status.success(), "it should have failed; it printed {}", stdout(output));
    assert!(output.status.code().is_some(), "it should end by itself, not by a signal");
    let error = text.lines().find(|line| line.starts_with("error:")).unwrap_or_else(|| panic!("no `error:` in {text}"));
    assert!(error.contains(what), "{what:?} is not in {error:?}");
    assert!(text.lines().any(|line| line.starts_with("hint:")), "no `hint:` in {text}");
}

/// `meshtone run` with a folder and ports of its own, which is expected to end soon.
fn run_briefly(arguments: &[&str], data: &std::path::Path) -> Output {
    let ports = PortBlock::reserve();
    let (sip, link) = (ports.address(0).to_string(), ports.address(1).to_string());
    let mut all = vec!["run", "--sip", &sip, "--link", &link, "--data", data.to_str().unwrap()];
    all.extend(arguments);
    let mut child =
        meshtone(&all).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("`meshtone run {}` went on; it printed {:?}", arguments.join(" "), child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn help_names_the_commands_and_a_wrong_one_is_a_usage_error() {
    let help = meshtone(&["--help"]).output().unwrap();
    assert!(help.status.success());
    for command in ["run", "user", "invite", "status"] {
        assert!(stdout(&help).contains(command), "{command} is missing in {}", stdout(&help));
    }
    for wrong in [&["frobnicate"][..], &["run", "--frob"], &["user", "frob"]] {
        let output = meshtone(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("error:"));
    }
    assert!(stdout(&meshtone(&["version"]).output().unwrap()).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_unknown_key_in_the_configuration_is_an_error_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("meshtone.toml");
    std::fs::write(&file, "domian = \"mesh.test\"\n").unwrap();
    let output = run_briefly(&["--config", file.to_str().unwrap()], &folder.path().join("data"));
    assert_refused(&output, "domian");
    assert!(stderr(&output).contains("domain"), "the hint should name the key that was meant: {}", stderr(&output));
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("meshtone.toml");
    let (in_file, in_environment, in_flag) = (PortBlock::reserve(), PortBlock::reserve(), PortBlock::reserve());
    let text =
        format!("domain = \"from-file.test\"\nsip = [\"{}\"]\nlink = \"{}\"\n", in_file.address(0), in_file.address(1));
    std::fs::write(&file, text).unwrap();
    let printed = folder.path().join("out");
    let mut child =
        meshtone(&["run", "--json", "--config", file.to_str().unwrap(), "--link", &in_flag.address(1).to_string()])
            .env("MESHTONE_DATA", folder.path().join("data"))
            .env("MESHTONE_SIP", in_environment.address(0).to_string())
            .env("MESHTONE_LINK", in_environment.address(1).to_string())
            .stdout(std::fs::File::create(&printed).unwrap())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
    let value: Value =
        meshtone_tests::eventually_some(Duration::from_secs(60), "`run --json` to print its object", || {
            serde_json::from_str(&std::fs::read_to_string(&printed).unwrap()).ok()
        });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(value["domain"], "from-file.test");
    assert!(value["sip"].to_string().contains(&in_environment.address(0).to_string()), "{value}");
    assert!(value["link"].to_string().contains(&in_flag.address(1).to_string()), "{value}");
}

#[test]
fn the_first_run_says_who_it_is_and_what_to_try() {
    let mut node = MeshNode::first("first");
    let printed = node.printed();
    let status = node.status();
    for word in [status["node"].as_str().unwrap(), "mesh.test", "echo", "meshtone user add", &node.sip().to_string()] {
        assert!(printed.contains(word), "{word:?} is missing in:\n{printed}");
    }
    assert_eq!(std::fs::read_to_string(node.data().join("version")).unwrap().trim(), "1");
    let mode = |path: &str| std::fs::metadata(node.data().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("control.sock") & 0o077, 0, "only the owner administers");
    for key in std::fs::read_dir(node.data().join("keys")).unwrap() {
        let key = key.unwrap();
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", key.path().display());
    }
    assert_eq!(node.terminate(), Some(0));
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let node = MeshNode::first("first");
    let output = run_briefly(&[], &node.data());
    assert_refused(&output, node.data().to_str().unwrap());
    assert_eq!(node.links(), 0, "the first one goes on");
}

#[test]
fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ports = PortBlock::reserve();
    let data = folder.path().join("data");
    let arguments =
        ["run", "--sip", &address, "--link", &ports.address(1).to_string(), "--data", data.to_str().unwrap()];
    let output = meshtone(&arguments).output().unwrap();
    assert_refused(&output, &address);
}

#[test]
fn data_of_a_newer_program_are_left_alone() {
    let mut node = MeshNode::first("newer");
    assert_eq!(node.terminate(), Some(0));
    std::fs::write(node.data().join("version"), "2\n").unwrap();
    assert_refused(&run_briefly(&[], &node.data()), "version");
    assert_eq!(std::fs::read_to_string(node.data().join("version")).unwrap(), "2\n");
}

#[test]
fn a_ticket_is_good_for_one_node() {
    let mut mesh = Mesh::start(1);
    let ticket = mesh.node(1).invite();
    mesh.nodes.push(MeshNode::joining("n2", &ticket));
    let folder = tempfile::tempdir().unwrap();
    assert_refused(&run_briefly(&["--join", &ticket], &folder.path().join("data")), "ticket");
    mesh.wait_linked();

    assert_refused(&mesh.node(2).command(&["invite", "--role", "home"]), "authority");

    // A node that has joined already may be started with its ticket again, as a service file would do.
    mesh.node_mut(2).kill9();
    mesh.node_mut(2).run(&["--join", &ticket]);
    mesh.wait_linked();
}

#[test]
fn an_expired_or_mistyped_ticket_is_refused_with_the_reason() {
    let node = MeshNode::first("n1");
    let folder = tempfile::tempdir().unwrap();
    let ticket = ticket_in(&node.must(&["invite", "--role", "home", "--valid", "1s"]));
    let made = Instant::now();
    eventually(SOON, "the ticket to expire", || made.elapsed() > Duration::from_millis(2_100));
    assert_refused(&run_briefly(&["--join", &ticket], &folder.path().join("a")), "expired");

    let good = node.invite();
    let middle = good.len() / 2;
    let other = if good.as_bytes()[middle] == b'a' { "b" } else { "a" };
    let mut mistyped = good.clone();
    mistyped.replace_range(middle..=middle, other);
    assert_refused(&run_briefly(&["--join", &mistyped], &folder.path().join("b")), "mistyped");
    assert_refused(&run_briefly(&["--join", "hello"], &folder.path().join("c")), "ticket");
}

#[test]
fn users_are_added_listed_and_removed_with_the_node_running_or_not() {
    let mut node = MeshNode::first("users");
    for running in [true, false] {
        if !running {
            assert_eq!(node.terminate(), Some(0));
        }
        let human = node.must(&["user", "add", "alice", "--number", "201"]);
        let words = ["password:", "mesh.test", "alice"];
        assert!(words.iter().all(|word| human.contains(word)), "what to type into a phone: {human}");
        assert!(node.must(&["user", "list"]).contains("alice"));
        assert_refused(&node.command(&["user", "add", "alice"]), "alice");
        assert_refused(&node.command(&["user", "add", "bob", "--number", "201"]), "201");
        assert_refused(&node.command(&["user", "add", "not a name"]), "not a name");
        assert_refused(&node.command(&["user", "passwd", "nobody"]), "nobody");
        assert_refused(&node.command(&["user", "remove", "nobody"]), "nobody");
        node.must(&["user", "remove", "alice"]);
        assert!(!node.must(&["user", "list"]).contains("alice"));
    }
}

#[test]
fn a_user_added_while_the_node_was_down_may_register_when_it_is_up() {
    let mut node = MeshNode::first("down");
    assert_eq!(node.terminate(), Some(0));
    let password = node.user_add("alice");
    node.restart();
    ScriptedPhone::udp(node.sip()).of("alice", &password).register();
    let files = std::fs::read_dir(node.data()).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|path| path.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(password.len()).any(|window| window == password.as_bytes());
        assert!(!found, "the password itself is in {}", file.display());
    }
}

#[test]
fn status_tells_a_program_everything_it_tells_a_person() {
    let mesh = Mesh::start(2);
    let bob = mesh.user("bob");
    let mut phone = ScriptedPhone::tcp(mesh.sip(2)).of("bob", &bob);
    phone.register();
    let status = mesh.node(2).status();
    for key in ["node", "overlay", "domain", "version"] {
        assert!(status[key].is_string(), "{key} in {status}");
    }
    assert_eq!(status["domain"], "mesh.test");
    assert_eq!(status["overlay"], mesh.node(1).status()["overlay"]);
    assert!(status["uptime_s"].is_u64(), "{status}");
    assert_eq!(status["accounts"]["users"], 1);
    let link = &status["links"][0];
    assert_eq!(link["node"], mesh.node(1).status()["node"]);
    assert!(link["rtt_ms"].is_number() && link["path"].is_string(), "{link}");
    assert_eq!(link["domains"][0], "mesh.test");
    let registration = &status["registrations"][0];
    assert_eq!(registration["address"], "bob@mesh.test");
    assert_eq!(registration["transport"].as_str().map(str::to_lowercase).as_deref(), Some("tcp"));
    assert!(registration["expires_s"].as_u64().is_some_and(|left| (1..=600).contains(&left)), "{registration}");
    for kind in ["sip-registration", "node-address", "certificate"] {
        eventually(SOON, &format!("a {kind} record"), || mesh.node(2).records(kind) > 0);
    }
    let person = mesh.node(2).must(&["status"]);
    assert!(person.contains("bob@mesh.test"), "{person}");
}

#[test]
fn status_shows_a_call_while_it_lasts() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::udp(mesh.sip(2)).of("bob", &bob);
    bob.register();
    let invite = alice.invite("sip:bob@mesh.test");
    let ringing = bob.incoming("INVITE");
    bob.reply(&ringing, 200, "OK", meshtone_tests::scripted::SDP);
    let mut dialog = alice.established(&invite);
    bob.incoming("ACK");
    for number in [1, 2] {
        let call = &mesh.node(number).status()["calls"][0];
        assert!(call["from"].as_str().is_some_and(|from| from.contains("alice@mesh.test")), "{call}");
        assert!(call["to"].as_str().is_some_and(|to| to.contains("bob@mesh.test")), "{call}");
    }
    alice.hang_up(&mut dialog, &mut bob);
    for number in [1, 2] {
        eventually(SOON, "the call to be over", || {
            mesh.node(number).status()["calls"].as_array().is_some_and(Vec::is_empty)
        });
    }
}

#[test]
fn status_of_a_node_that_does_not_run_says_so() {
    let mut node = MeshNode::first("stopped");
    assert_eq!(node.terminate(), Some(0));
    assert_refused(&node.command(&["status"]), "run");
}

#[test]
fn without_a_data_flag_the_node_keeps_to_the_xdg_folder() {
    let folder = tempfile::tempdir().unwrap();
    let output = meshtone(&["user", "add", "alice", "--json"])
        .env("XDG_DATA_HOME", folder.path())
        .env("HOME", folder.path().join("home"))
        .output()
        .unwrap();
    // Nothing was run there yet: refused, and the path that was looked at is named.
    assert_refused(&output, folder.path().join("meshtone").to_str().unwrap());
}
