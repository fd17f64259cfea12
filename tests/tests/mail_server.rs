//! What whoever runs the authority sees of the way to the mail server: Exim, over STARTTLS with a password.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use meshtone_tests::command::stderr;
use meshtone_tests::mail::{MAIL_DOMAIN, MailServer, SUBMITTER_PASSWORD, code_in, write_password};
use meshtone_tests::{DOMAIN, MeshNode, SOON, eventually};
use serde_json::Value;

fn node_with(settings: &str, password: &str) -> MeshNode {
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    write_password(&node, password, 0o600);
    node.run_configured(settings);
    node
}

fn mail_of(node: &MeshNode) -> Value {
    node.status()["authority"]["mail"].clone()
}

/// Waits until the way to the mail server is in this state, and returns what the status says in words.
#[track_caller]
fn wait_state(node: &MeshNode, state: &str) -> String {
    eventually(SOON * 2, &format!("mails to be {state}"), || mail_of(node)["state"] == state);
    node.must(&["status"])
}

#[test]
fn the_status_says_whether_mails_leave_and_if_not_whose_side_it_is_on() {
    let mut server = MailServer::unstarted();
    let mut node = node_with(&server.settings(), SUBMITTER_PASSWORD);
    let down = wait_state(&node, "failing");
    assert!(down.contains("authority here, policy invite; 0 certificates of people"), "{down}");
    assert!(down.contains("does not take mails now") && down.contains("hint: check `server`"), "{down}");
    // By itself, once it is up.
    server.run();
    let ready = wait_state(&node, "ready");
    assert!(ready.contains(&format!("mail      leaves by localhost:{}", server.port())), "{ready}");
    assert!(node.must(&["authority", "list"]).contains("nobody has been certified yet"));
    assert_eq!(node.must(&["authority", "list", "--json"]).trim(), "{\"certificates\":[]}");

    node.terminate();
    let wrapped = server.settings().replace(&server.port().to_string(), &server.tls_port().to_string());
    node.run_configured(&wrapped.replace("user =", "tls = \"tls\"\nuser ="));
    let ready = wait_state(&node, "ready");
    assert!(ready.contains(&format!("mail      leaves by localhost:{}", server.tls_port())), "{ready}");

    node.terminate();
    node.run_configured(&server.settings().replace("user =", "tls = \"tls\"\nuser ="));
    let deaf = wait_state(&node, "failing");
    assert!(deaf.contains("does not speak as it should") && deaf.contains("hint: check `tls`"), "{deaf}");

    node.terminate();
    write_password(&node, "not the password", 0o600);
    node.run_configured(&server.settings());
    let refused = wait_state(&node, "failing");
    assert!(refused.contains("refuses our user name and password") && refused.contains("535"), "{refused}");
    assert!(refused.contains("hint: check `user` and `password_file`"), "{refused}");

    // Whoever answers in the server's place does not get the password.
    node.terminate();
    let unknown: String = server
        .settings()
        .lines()
        .filter(|line| !line.starts_with("ca_file"))
        .fold(String::new(), |text, line| text + line + "\n");
    node.run_configured(&unknown);
    let unproven = wait_state(&node, "failing");
    assert!(unproven.contains("does not prove who it is") && unproven.contains("`ca_file`"), "{unproven}");
}

#[test]
fn the_authority_certifies_people_at_its_own_node_and_lists_them() {
    let server = MailServer::start();
    let node = node_with(&server.settings(), SUBMITTER_PASSWORD);
    let alice = format!("alice@{MAIL_DOMAIN}");
    let said = node.must(&["enroll", &alice]);
    // The same of a mailbox that is not there.
    let nobody = format!("nobody@{MAIL_DOMAIN}");
    assert_eq!(node.must(&["enroll", &nobody]), said.replace(&alice, &nobody));
    let code = code_in(&server.wait_mail("alice", 1));

    let prove = |address: &str, code: &str| {
        let output = node.command(&["enroll", address, "--code", code]);
        (output.status.success(), stderr(&output))
    };
    let (is_done, wrong) = prove(&alice, "AAAA-AAAA");
    assert!(!is_done && wrong.contains("this is not the code") && wrong.contains("\nhint: "), "{wrong}");
    let (is_done, other) = prove(&nobody, &code);
    assert!(!is_done && other.contains("this is not the code"), "a mailbox that nobody read: {other}");
    assert!(node.must(&["authority", "list"]).contains("nobody has been certified yet"));

    let (is_done, refused) = prove(&alice, &code.to_lowercase());
    assert!(is_done, "{refused}");
    let list: Value = serde_json::from_str(&node.must(&["authority", "list", "--json"])).unwrap();
    let certificates = list["certificates"].as_array().unwrap();
    assert!(certificates.len() == 1 && certificates[0]["address"] == alice.as_str(), "{list}");
    assert!(node.must(&["authority", "list"]).contains(&alice));
    // The server's word on the mailbox that is not there is for whoever runs the authority alone.
    eventually(SOON, "the mail to nobody to be refused", || mail_of(&node)["refused"].is_string());
    let status = node.must(&["status"]);
    assert!(status.contains("1 person's certificate") && status.contains("a mail was refused"), "{status}");
    assert!(!std::fs::read_to_string(node.log()).unwrap().contains(&code), "no log has a code");
}

#[test]
fn settings_that_would_not_work_or_show_secrets_stop_the_start() {
    let server = MailServer::unstarted();
    let node = MeshNode::unstarted("n1");
    let path = node.data().parent().unwrap().join("config.toml");
    let started = |settings: &str| {
        std::fs::write(&path, settings).unwrap();
        let output =
            node.command(&["run", "--config", path_text(&path), "--sip", "127.0.0.1:0", "--link", "127.0.0.1:0"]);
        assert!(!output.status.success());
        stderr(&output)
    };
    write_password(&node, SUBMITTER_PASSWORD, 0o644);
    let readable = started(&server.settings());
    assert!(
        readable.contains("`password_file`") && readable.contains("can be read by others (mode 644)"),
        "{readable}"
    );
    write_password(&node, SUBMITTER_PASSWORD, 0o600);
    let bare = started(
        &server.settings().replace("localhost", "mail.example.org").replace("user =", "tls = \"none\"\nuser ="),
    );
    assert!(bare.contains("`tls = \"none\"` would show codes and the password"), "{bare}");
    assert!(bare.contains("config.toml: [authority]: ") && bare.contains("\nhint: "), "{bare}");
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}
