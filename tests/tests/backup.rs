//! A machine burns down, and its node comes back from a file.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use meshtone_tests::command::stderr;
use meshtone_tests::mail::{MAIL_DOMAIN, MailServer, SUBMITTER_PASSWORD, code_in, write_password};
use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{MeshNode, PhoneOptions, SOON, eventually};
use serde_json::Value;

const PASSPHRASE: &str = "correct horse battery\n";

fn id_of(node: &MeshNode) -> String {
    node.status()["node"].as_str().unwrap().to_owned()
}

/// Backs a node up into a file beside `keeper`'s data, with the passphrase from a file.
fn back_up(node: &MeshNode, keeper: &Path, more: &[&str]) -> (PathBuf, Value) {
    let (file, passphrase) = (keeper.join("backup"), keeper.join("passphrase"));
    std::fs::write(&passphrase, PASSPHRASE).unwrap();
    std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut arguments =
        vec!["backup", file.to_str().unwrap(), "--passphrase-file", passphrase.to_str().unwrap(), "--json"];
    arguments.extend(more);
    let said = serde_json::from_str(&node.must(&arguments)).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    (file, said)
}

/// A node of somebody else's, which comes by a ticket.
fn member(name: &str, founder: &MeshNode) -> MeshNode {
    let invite: Value = serde_json::from_str(&founder.must(&["invite", "--role", "member", "--json"])).unwrap();
    let mut node = MeshNode::unstarted(name);
    node.run(&["--join", invite["ticket"].as_str().unwrap()]);
    node
}

/// Enrols somebody at a node, and returns her password for phones.
fn enroll(node: &MeshNode, mail: &MailServer, user: &str) -> String {
    let (address, before) = (format!("{user}@{MAIL_DOMAIN}"), mail.mails(user).len());
    node.must(&["enroll", &address]);
    let code = code_in(&mail.wait_mail(user, before + 1));
    let said: Value = serde_json::from_str(&node.must(&["enroll", &address, "--code", &code, "--json"])).unwrap();
    said["password"].as_str().unwrap().to_owned()
}

#[test]
fn a_node_restored_on_another_machine_serves_its_phones_and_goes_on_enrolling() {
    let mail = MailServer::start();
    let mut founder = MeshNode::unstarted("founder").with_domain("mesh.test");
    write_password(&founder, SUBMITTER_PASSWORD, 0o600);
    founder.run_configured(&mail.settings());
    let hers = member("hers", &founder);
    let bobs = founder.user_add("bob");
    let alices = enroll(&hers, &mail, "alice");
    let safe = tempfile::tempdir().unwrap();
    let (file, said) = back_up(&founder, safe.path(), &[]);
    assert_eq!((&said["accounts"], &said["certificates"]), (&1.into(), &1.into()));
    assert_eq!((said["node"].as_str().unwrap(), &said["authority"]), (id_of(&founder).as_str(), &true.into()));

    // The machine is gone, and with it everything but that file.
    let was = id_of(&founder);
    founder.kill9();
    let mut restored = MeshNode::unstarted("restored").with_domain("mesh.test");
    let restore = ["restore", file.to_str().unwrap()];
    let wrong = restored.command_with_input(&restore, "correct horse butter\n");
    assert!(!wrong.status.success() && stderr(&wrong).contains("passphrase is wrong"), "{}", stderr(&wrong));
    assert!(stderr(&wrong).contains("hint: ") && !restored.data().exists());
    let told = restored.must_with_input(&restore, PASSPHRASE);
    assert!(told.contains("1 account") && told.contains("Never run it while the old one"), "{told}");
    let again = restored.command_with_input(&restore, PASSPHRASE);
    assert!(!again.status.success() && stderr(&again).contains("already"), "{}", stderr(&again));
    write_password(&restored, SUBMITTER_PASSWORD, 0o600);
    restored.run_configured(&mail.settings());
    assert_eq!(id_of(&restored), was);

    // Old passwords are good, calls have sound both ways, and new people enrol.
    eventually(SOON, "the nodes to find each other again", || hers.links() > 0 && restored.links() > 0);
    let mut bob = PhoneOptions::new("bob", &bobs, restored.sip(), BOB_HZ).start();
    let address = format!("alice@{MAIL_DOMAIN}");
    let mut alice = PhoneOptions::new("alice", &alices, hers.sip(), ALICE_HZ).of_person(&address).start();
    restored.wait_records("sip-registration", 3);
    talk(&mut bob, &mut alice, &format!("sip:{address}"), HangsUp::Caller);
    enroll(&hers, &mail, "carol");
    let listed = restored.must(&["authority", "list"]);
    assert!(listed.contains("alice@mail.test") && listed.contains("carol@mail.test"), "{listed}");
}

#[test]
fn an_authority_restored_alone_admits_nodes_to_its_overlay() {
    let mut founder = MeshNode::first("founder");
    let mut hers = member("hers", &founder);
    let overlay = founder.status()["overlay"].clone();
    let safe = tempfile::tempdir().unwrap();
    let refused = hers.command(&["backup", safe.path().join("no").to_str().unwrap(), "--authority"]);
    assert!(!refused.status.success() && !safe.path().join("no").exists());
    // A node that does not run is backed up, too.
    founder.terminate();
    let (file, said) = back_up(&founder, safe.path(), &["--authority"]);
    assert_eq!((&said["scope"], &said["accounts"]), (&"authority".into(), &0.into()));

    let mut restored = MeshNode::unstarted("restored");
    restored.must_with_input(&["restore", file.to_str().unwrap()], PASSPHRASE);
    restored.run(&[]);
    let status = restored.status();
    assert_eq!((&status["overlay"], status["domain"].as_str()), (&overlay, Some(meshtone_tests::DOMAIN)));
    hers.terminate();
    hers.run(&["--peer", &restored.peer()]);
    let office = member("office", &restored);
    eventually(SOON, "all nodes to find each other", || {
        [&hers, &office, &restored].iter().all(|node| node.links() == 2)
    });
}
