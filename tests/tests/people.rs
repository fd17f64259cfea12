//! People with addresses of their own: they prove a mailbox once, and are called wherever they let a node speak for them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::certificates::{Authority, CertificateFiles, curve_key, rsa_key};
use meshtone_tests::mail::{MAIL_DOMAIN, MailServer, SUBMITTER_PASSWORD, code_in, write_password};
use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::scripted::Sip;
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{MeshNode, PhoneOptions, SOON, ScriptedPhone, eventually};
use serde_json::Value;

/// Two people with mailboxes at the same provider, and the founder's node with two of somebody else's.
struct People {
    mail: MailServer,
    founder: MeshNode,
    hers: MeshNode,
    office: MeshNode,
    alice: String,
}

impl People {
    fn start() -> People {
        let mail = MailServer::start();
        let mut founder = MeshNode::unstarted("founder").with_domain("mesh.test");
        write_password(&founder, SUBMITTER_PASSWORD, 0o600);
        founder.run_configured(&mail.settings());
        let (hers, office) = (member("hers", &founder), member("office", &founder));
        let alice = mailbox("alice");
        People { mail, founder, hers, office, alice }
    }

    /// Enrols a person at a node, as she would: asks for a code, reads her mail, types the code. Returns the password for phones.
    fn enroll(&self, node: &MeshNode, address: &str) -> String {
        let code = self.code(node, address);
        password_in(&node.must(&["enroll", address, "--code", &code, "--json"]))
    }

    /// Asks for a code at a node, and reads it in the mailbox.
    fn code(&self, node: &MeshNode, address: &str) -> String {
        let (user, _) = address.split_once('@').unwrap();
        let before = self.mail.mails(user).len();
        node.must(&["enroll", address]);
        code_in(&self.mail.wait_mail(user, before + 1))
    }

    fn phone_at(&self, node: &MeshNode, password: &str, tone_hz: f64) -> PhoneOptions {
        PhoneOptions::new("alice", password, node.sip(), tone_hz).of_person(&self.alice)
    }

    fn alice_uri(&self) -> String {
        format!("sip:{}", self.alice)
    }
}

fn mailbox(user: &str) -> String {
    format!("{user}@{MAIL_DOMAIN}")
}

/// Somebody else's node, which comes by a ticket.
fn member(name: &str, founder: &MeshNode) -> MeshNode {
    let printed = founder.must(&["invite", "--role", "member", "--json"]);
    let invite: Value = serde_json::from_str(&printed).unwrap();
    let mut node = MeshNode::unstarted(name);
    node.run(&["--join", invite["ticket"].as_str().unwrap()]);
    node
}

fn password_in(printed: &str) -> String {
    let value: Value = serde_json::from_str(printed).unwrap();
    value["password"].as_str().unwrap().to_owned()
}

fn id_of(node: &MeshNode) -> String {
    node.status()["node"].as_str().unwrap().to_owned()
}

/// Refuses the call that rings, and returns its INVITE.
fn busy(phone: &mut ScriptedPhone) -> Sip {
    let ringing = phone.incoming("INVITE");
    phone.reply(&ringing, 486, "Busy Here", "");
    phone.incoming("ACK");
    ringing
}

/// Lets `office` speak for the person whose key is at `hers`, and returns her password there.
fn delegate(hers: &MeshNode, office: &MeshNode, address: &str) -> String {
    let password = office.user_add(address);
    hers.must(&["delegate", address, &id_of(office)]);
    password
}

#[test]
fn a_person_who_proved_her_mailbox_is_called_at_two_nodes_and_calls_also_while_the_authority_is_off() {
    let mut people = People::start();
    let (uri, carol) = (people.alice_uri(), mailbox("carol"));
    let password = people.enroll(&people.hers, &people.alice);
    let at_office = delegate(&people.hers, &people.office, &people.alice);
    let carols = people.enroll(&people.office, &carol);
    let bobs = people.founder.user_add("bob");

    // Both of her phones ring; the one that answers has the call, with sound both ways.
    let mut desk = ScriptedPhone::udp(people.office.sip()).of_person(&people.alice, &at_office);
    eventually(SOON, "the office to let her phone register", || desk.try_register(600).status() == 200);
    let mut alice = people.phone_at(&people.hers, &password, ALICE_HZ).start();
    let mut bob = PhoneOptions::new("bob", &bobs, people.founder.sip(), BOB_HZ).start();
    // Where the authority is, hers at two nodes, and Bob's.
    people.founder.wait_records("sip-registration", 4);
    bob.dial(&uri);
    let ringing = desk.incoming("INVITE");
    assert_eq!(ringing.header("P-Asserted-Identity"), Some("<sip:bob@mesh.test>"));
    desk.reply(&ringing, 180, "Ringing", "");
    bob.wait_established();
    let cancel = desk.incoming("CANCEL");
    desk.reply(&cancel, 200, "OK", "");
    desk.reply(&ringing, 487, "Request Terminated", "");
    desk.incoming("ACK");
    alice.wait_established();
    bob.wait_recorded();
    alice.wait_recorded();
    bob.hang_up();
    alice.wait_closed(SOON);
    bob.assert_heard(ALICE_HZ);
    alice.assert_heard(BOB_HZ);

    // Whom she calls is shown her address, verified.
    let daves = people.founder.user_add("dave");
    let mut dave = ScriptedPhone::udp(people.founder.sip()).of("dave", &daves);
    dave.register();
    people.founder.wait_records("sip-registration", 5);
    let invite = desk.invite("sip:dave@mesh.test");
    let incoming = busy(&mut dave);
    let asserted = format!("<{uri}>");
    assert_eq!(incoming.header("P-Asserted-Identity"), Some(asserted.as_str()));
    assert_eq!(desk.final_answer(&invite).status(), 486);

    // The authority is needed once: without it everything but new names works.
    people.founder.kill9();
    let mut carol = PhoneOptions::new("carol", &carols, people.office.sip(), BOB_HZ).of_person(&carol).start();
    desk.try_register(0);
    talk(&mut carol, &mut alice, &uri, HangsUp::Caller);
}

#[test]
fn a_key_that_is_brought_to_another_node_works_there_and_one_that_was_lost_works_nowhere() {
    let people = People::start();
    let password = people.enroll(&people.hers, &people.alice);
    let mut lost = ScriptedPhone::udp(people.hers.sip()).of_person(&people.alice, &password);
    lost.register();

    // By an encrypted file to another machine, where she is called from then on.
    let card = people.hers.data().join("alice.card");
    let card = card.to_str().unwrap();
    people.hers.must_with_input(&["key", "export", &people.alice, card], "correct horse battery\n");
    let wrong = people.office.command_with_input(&["key", "import", card], "correct horse butter\n");
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("passphrase"));
    let imported = people.office.must_with_input(&["key", "import", card, "--json"], "correct horse battery\n");
    let mut desk = ScriptedPhone::udp(people.office.sip()).of_person(&people.alice, &password_in(&imported));
    desk.register();
    let bobs = people.founder.user_add("bob");
    let mut bob = ScriptedPhone::udp(people.founder.sip()).of("bob", &bobs);
    people.founder.wait_records("sip-registration", 3);
    let invite = bob.invite(&people.alice_uri());
    for phone in [&mut lost, &mut desk] {
        busy(phone);
    }
    assert_eq!(bob.final_answer(&invite).status(), 486);

    // The first machine is stolen: she proves her mailbox again, on a third, and the thief's phone neither calls nor is called.
    let third = member("third", &people.founder);
    let again = people.enroll(&third, &people.alice);
    let mut alice = ScriptedPhone::udp(third.sip()).of_person(&people.alice, &again);
    alice.register();
    // Any change of accounts makes a node look at once what it would see within half a minute.
    for thief in [&people.hers, &people.office] {
        thief.must(&["user", "set", &people.alice, "--number", "99"]);
    }
    for phone in [&mut lost, &mut desk] {
        eventually(SOON, "the thief's node to hear of it", || phone.try_register(600).status() == 403);
        let refused = phone.invite("sip:bob@mesh.test");
        assert_eq!(phone.final_answer(&refused).status(), 403);
    }
    let keys: Value = serde_json::from_str(&people.hers.must(&["key", "list", "--json"])).unwrap();
    assert_eq!(keys["keys"][0]["superseded"], true);
    let reused = people.hers.command(&["delegate", &people.alice, &id_of(&people.hers)]);
    assert!(String::from_utf8_lossy(&reused.stderr).contains("proved the mailbox"), "the lost key lets nobody speak");

    let carol = mailbox("carol");
    let carols = people.enroll(&third, &carol);
    let mut carol = ScriptedPhone::udp(third.sip()).of_person(&carol, &carols);
    let invite = carol.invite(&people.alice_uri());
    busy(&mut alice);
    assert_eq!(carol.final_answer(&invite).status(), 486);
    for phone in [&mut lost, &mut desk] {
        phone.assert_left_alone();
    }
}

#[test]
fn a_node_that_is_left_out_speaks_for_her_no_more() {
    let people = People::start();
    people.enroll(&people.hers, &people.alice);
    let at_office = delegate(&people.hers, &people.office, &people.alice);
    let mut desk = ScriptedPhone::udp(people.office.sip()).of_person(&people.alice, &at_office);
    eventually(SOON, "the office to let her phone register", || desk.try_register(600).status() == 200);

    people.hers.must(&["delegate", &people.alice, &id_of(&people.office), "--revoke"]);
    people.office.must(&["user", "set", &people.alice, "--number", "99"]);
    eventually(SOON, "the office to hear of it", || desk.try_register(600).status() == 403);
    let bobs = people.founder.user_add("bob");
    let mut bob = ScriptedPhone::udp(people.founder.sip()).of("bob", &bobs);
    let invite = bob.invite(&people.alice_uri());
    assert_eq!(bob.final_answer(&invite).status(), 480);
    desk.assert_left_alone();
}

#[test]
fn a_code_is_good_for_the_key_that_asked_for_it_and_nobody_elses() {
    let people = People::start();
    let code = people.code(&people.hers, &people.alice);
    let fails = |node: &MeshNode, code: &str, why: &str| {
        let output = node.command(&["enroll", &people.alice, "--code", code]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
    };
    fails(&people.office, &code, "no code was asked for");
    people.code(&people.office, &people.alice);
    fails(&people.office, &code, "not the code");
    fails(&people.hers, "AAAA-AAAA", "not the code");
    people.hers.must(&["enroll", &people.alice, "--code", &code]);
    // The office asked, too, and she was mailed a code for it; she knows not to type it anywhere.
    let keys: Value = serde_json::from_str(&people.office.must(&["key", "list", "--json"])).unwrap();
    assert_eq!(keys["keys"], Value::Array(Vec::new()));
}

#[test]
fn whoever_holds_a_certificate_of_her_company_enrols_without_a_mail_and_her_address_is_verified() {
    let (company, stranger) = (Authority::new(), Authority::new());
    let mut founder = MeshNode::unstarted("founder").with_domain("mesh.test");
    let listed = company.certificate();
    founder.run_configured(&format!("[[authority.foreign]]\nca_file = {listed:?}\ndomains = [\"company.test\"]\n"));
    let office = member("office", &founder);
    founder.wait_records("sip-registration", 1);
    let (alice, carol) = ("alice@company.test", "carol@company.test");
    let shows = |address: &str, files: &CertificateFiles| {
        let (certificate, key) = (files.chain.to_str().unwrap(), files.key.to_str().unwrap());
        office.command(&["enroll", address, "--certificate", certificate, "--key", key, "--json"])
    };
    let honest = company.issue_person(alice, 2100, &curve_key());
    let others = company.issue_person("bob@company.test", 2100, &curve_key());
    let mismatched = CertificateFiles { key: others.key.clone(), ..honest.clone() };
    for (address, files, why) in [
        (alice, &stranger.issue_person(alice, 2100, &curve_key()), "no authority that is listed"),
        (alice, &others, "does not name alice@company.test"),
        ("alice@other.test", &company.issue_person("alice@other.test", 2100, &curve_key()), "no other authority"),
        (alice, &company.issue_person(alice, 2022, &curve_key()), "run out"),
        (alice, &company.issue(&["company.test"], 2100), "does not name"),
        (alice, &mismatched, "not signed by the key"),
    ] {
        let refused = shows(address, files);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(why) && said.contains("hint: "), "{why}: {said}");
    }
    let enrolled = |address: &str, files: &CertificateFiles| {
        let output = shows(address, files);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        password_in(&String::from_utf8_lossy(&output.stdout))
    };
    let alices = enrolled(alice, &honest);
    let carols = enrolled(carol, &company.issue_person(carol, 2100, &rsa_key()));

    let bobs = founder.user_add("bob");
    let mut bob = ScriptedPhone::udp(founder.sip()).of("bob", &bobs);
    let mut alice = ScriptedPhone::udp(office.sip()).of_person(alice, &alices);
    let mut carol = ScriptedPhone::udp(office.sip()).of_person(carol, &carols);
    for phone in [&mut alice, &mut carol, &mut bob] {
        phone.register();
    }
    founder.wait_records("sip-registration", 4);
    for caller in [&mut alice, &mut carol] {
        let asserted = format!("<{}>", caller.address());
        let invite = caller.invite("sip:bob@mesh.test");
        assert_eq!(busy(&mut bob).header("P-Asserted-Identity"), Some(asserted.as_str()));
        assert_eq!(caller.final_answer(&invite).status(), 486);
    }
    let invite = bob.invite(&alice.address());
    busy(&mut alice);
    assert_eq!(bob.final_answer(&invite).status(), 486);
}
