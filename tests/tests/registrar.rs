//! Registrations beyond one contact of one phone: flows, paths, GRUUs, stronger digests, and who is told of them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::scripted::digest::Credentials;
use meshtone_tests::scripted::{Request, SDP, Sip};
use meshtone_tests::{DOMAIN, Mesh, MeshNode, ScriptedPhone};

const BOB: &str = "sip:bob@mesh.test";

fn instance(number: u32) -> String {
    format!("\"<urn:uuid:00000000-0000-1000-8000-{number:012}>\"")
}

/// A REGISTER of this phone with these parameters of its contact.
fn register(phone: &ScriptedPhone, params: &str) -> Request {
    Request::new("REGISTER", &format!("sip:{DOMAIN}"), &phone.address(), &phone.address())
        .with("Supported", "path, outbound, gruu")
        .with("Contact", &format!("<{}>{params}", phone.contact()))
        .with("Expires", "600")
}

/// The quoted parameter of the contact with this URI in the answer to a REGISTER.
fn given(answer: &Sip, contact: &str, name: &str) -> Option<String> {
    let value = answer.fields("Contact").find(|value| value.contains(contact))?;
    let rest = value.split_once(&format!(";{name}=\""))?.1;
    Some(rest.split('"').next()?.to_owned())
}

/// Lets `callee` take the call that `caller` makes to `uri`, and hang up.
#[track_caller]
fn call(caller: &mut ScriptedPhone, callee: &mut ScriptedPhone, uri: &str) -> Sip {
    let invite = caller.invite(uri);
    let ringing = callee.incoming("INVITE");
    callee.reply(&ringing, 200, "OK", SDP);
    let mut dialog = caller.established(&invite);
    callee.incoming("ACK");
    caller.hang_up(&mut dialog, callee);
    ringing
}

#[test]
fn a_phone_with_two_connections_is_called_over_one_and_still_when_that_is_gone() {
    let mesh = Mesh::start(1);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut first = ScriptedPhone::tcp(mesh.sip(1)).of("bob", &bob);
    let mut second = ScriptedPhone::tcp(mesh.sip(1)).of("bob", &bob);
    for (phone, number) in [(&mut first, 1), (&mut second, 2)] {
        let request = register(phone, &format!(";+sip.instance={};reg-id={number}", instance(1)));
        let answer = phone.ask(request);
        assert_eq!(answer.status(), 200, "{answer}");
        assert_eq!(answer.header("Require"), Some("outbound"), "{answer}");
        assert!(answer.header("Flow-Timer").is_some(), "{answer}");
    }
    let registered = || mesh.node(1).status()["registrations"].as_array().map_or(0, Vec::len);
    assert_eq!(registered(), 2);

    call(&mut alice, &mut second, BOB);
    // One flow of a phone at a time.
    first.assert_left_alone();
    drop(second);
    call(&mut alice, &mut first, BOB);
}

#[test]
fn a_phone_that_answers_430_or_408_over_one_connection_is_called_over_the_other() {
    let mesh = Mesh::start(1);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut flows = [1, 2].map(|number| {
        let mut flow = ScriptedPhone::tcp(mesh.sip(1)).of("bob", &bob);
        let request = register(&flow, &format!(";+sip.instance={};reg-id={number}", instance(1)));
        assert_eq!(flow.ask(request).status(), 200);
        flow
    });
    for (status, reason) in [(430, "Flow Failed"), (408, "Request Timeout")] {
        let [first, second] = &mut flows;
        let sent = alice.invite(BOB);
        let ringing = second.incoming("INVITE");
        second.reply(&ringing, status, reason, "");
        let ringing = first.incoming("INVITE");
        first.reply(&ringing, 200, "OK", SDP);
        let mut dialog = alice.established(&sent);
        first.incoming("ACK");
        alice.hang_up(&mut dialog, first);
    }
    // Refused by the person, not by the connection: nobody is asked twice.
    let [first, second] = &mut flows;
    let sent = alice.invite(BOB);
    let ringing = second.incoming("INVITE");
    second.reply(&ringing, 603, "Decline", "");
    assert_eq!(alice.final_answer(&sent).status(), 603);
    first.assert_left_alone();
}

#[test]
fn a_gruu_reaches_just_that_phone_also_from_another_node() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(2)).of("alice", &alice);
    let mut desk = ScriptedPhone::udp(mesh.sip(1)).of("bob", &bob);
    let mut sofa = ScriptedPhone::udp(mesh.sip(1)).of("bob", &bob);
    let mut uris = Vec::new();
    for (phone, number) in [(&mut desk, 1), (&mut sofa, 2)] {
        let request = register(phone, &format!(";+sip.instance={}", instance(number)));
        let answer = phone.ask(request);
        assert_eq!(answer.status(), 200, "{answer}");
        let own = phone.contact();
        let gruu = |name| given(&answer, &own, name).unwrap_or_else(|| panic!("no {name} in:\n{answer}"));
        uris.push((gruu("pub-gruu"), gruu("temp-gruu")));
    }
    let (public, temporary) = &uris[1];
    assert!(!temporary.contains("bob"), "{temporary}");
    mesh.wait_announced(1);
    for uri in [public, temporary] {
        let ringing = call(&mut alice, &mut sofa, uri);
        assert_eq!(ringing.request_uri(), sofa.contact(), "the phone is asked by its own contact");
    }
    desk.assert_left_alone();

    let nobody = public.replace("000002", "000003");
    let invite = alice.invite(&nobody);
    assert_eq!(alice.final_answer(&invite).status(), 480);
    let invite = alice.invite(&temporary.replacen("tgruu.", "tgruu.x", 1));
    assert_eq!(alice.final_answer(&invite).status(), 404);
}

#[test]
fn a_path_is_followed_towards_the_phone() {
    let mesh = Mesh::start(1);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    // The test plays the proxy too: what comes to it shows the Route.
    let mut edge = ScriptedPhone::udp(mesh.sip(1)).of("bob", &bob);
    let path = format!("<sip:token@{};lr>", edge.local());
    let request = Request::new("REGISTER", &format!("sip:{DOMAIN}"), BOB, BOB)
        .with("Supported", "path")
        .with("Path", &path)
        .with("Contact", "<sip:bob@10.255.255.1:5099>")
        .with("Expires", "600");
    let answer = edge.ask(request);
    assert_eq!(answer.status(), 200, "{answer}");
    assert_eq!(answer.header("Path"), Some(path.as_str()));
    let service_route = answer.header("Service-Route").unwrap_or_else(|| panic!("no Service-Route in:\n{answer}"));
    assert!(service_route.contains(&mesh.sip(1).to_string()) && service_route.contains(";lr"), "{service_route}");

    let invite = alice.invite(BOB);
    let ringing = edge.incoming("INVITE");
    assert_eq!(ringing.header("Route"), Some(path.as_str()), "{ringing}");
    assert_eq!(ringing.request_uri(), "sip:bob@10.255.255.1:5099");
    edge.reply(&ringing, 486, "Busy Here", "");
    edge.incoming("ACK");
    assert_eq!(alice.final_answer(&invite).status(), 486);
}

/// The challenge with this algorithm.
fn challenge(answer: &Sip, algorithm: &str) -> String {
    let wanted = format!("algorithm={algorithm},");
    let found = answer.fields("WWW-Authenticate").find(|challenge| challenge.contains(&wanted));
    found.unwrap_or_else(|| panic!("no {algorithm} in:\n{answer}")).to_owned()
}

#[test]
fn a_user_of_sha_256_registers_with_it_and_never_with_md5() {
    let mut node = MeshNode::unstarted("digest").with_domain(DOMAIN);
    node.run(&["--digest", "md5,sha-256"]);
    let printed = node.must(&["user", "add", "alice", "--digest", "sha-256", "--json"]);
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let password = printed["password"].as_str().unwrap();
    node.must(&["user", "add", "bob"]);
    let mut alice = ScriptedPhone::udp(node.sip()).of("alice", password);

    let request = register(&alice, "");
    let asked = alice.ask_once(&request);
    assert_eq!(asked.status(), 401);
    let order: Vec<&str> = asked.fields("WWW-Authenticate").collect();
    assert!(order.len() == 2 && order[0].contains("SHA-256"), "the strongest comes first: {order:?}");

    let credentials = Credentials { user: "alice".to_owned(), password: password.to_owned() };
    let mut answer_by = |algorithm: &str, cseq: u32| {
        let value =
            credentials.answer(&challenge(&asked, algorithm), "REGISTER", &request.uri, &mut Default::default());
        let mut second = request.clone().with("Authorization", &value);
        second.cseq = cseq;
        alice.ask_once(&second)
    };
    let downgraded = answer_by("MD5", 2);
    assert_eq!(downgraded.status(), 401, "{downgraded}");
    assert!(!downgraded.to_string().contains("stale=true"), "{downgraded}");
    assert_eq!(answer_by("SHA-256", 3).status(), 200);

    // A user of SHA-256, one of any algorithm and one who does not exist: whoever asks cannot tell them apart.
    let mut seen: Vec<(Vec<String>, usize)> = Vec::new();
    for user in ["alice", "bobby", "bobxx"] {
        let user = if user == "bobby" { "bob" } else { user };
        let mut stranger = ScriptedPhone::udp(node.sip()).of(user, "wrong");
        let asked = stranger.ask_once(&register(&stranger, ""));
        assert_eq!(asked.status(), 401);
        let names: Vec<String> = asked.header_names().into_iter().map(str::to_owned).collect();
        // What the request itself brought along is as long as its name, each time it is repeated.
        let size: usize = asked
            .headers
            .iter()
            .filter(|(name, _)| name != "From" && name != "To" && name != "Via")
            .map(|(_, value)| value.len())
            .sum();
        let call_id = asked.header("Call-ID").unwrap().len();
        seen.push((names, size - call_id));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}

/// Takes the next NOTIFY of the registrations and returns its body.
#[track_caller]
fn notified(phone: &mut ScriptedPhone) -> String {
    let notify = phone.incoming("NOTIFY");
    phone.reply(&notify, 200, "OK", "");
    assert_eq!(notify.header("Event"), Some("reg"), "{notify}");
    assert!(notify.header("Subscription-State").is_some_and(|state| state.starts_with("active")), "{notify}");
    assert_eq!(notify.header("Content-Type"), Some("application/reginfo+xml"), "{notify}");
    String::from_utf8(notify.body).unwrap()
}

#[test]
fn a_subscriber_is_told_which_phones_of_his_come_and_go() {
    let mesh = Mesh::start(1);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut watcher = ScriptedPhone::udp(mesh.sip(1)).of("bob", &bob);
    let mut phone = ScriptedPhone::tcp(mesh.sip(1)).of("bob", &bob);
    let subscribe = |phone: &ScriptedPhone| {
        phone.request("SUBSCRIBE", BOB).with("Event", "reg").with("Accept", "application/reginfo+xml")
    };
    let request = subscribe(&watcher);
    let answer = watcher.ask(request.with("Expires", "600"));
    assert_eq!((answer.status(), answer.header("Expires")), (200, Some("600")), "{answer}");
    let first = notified(&mut watcher);
    assert!(first.contains("version=\"0\" state=\"full\"") && first.contains("state=\"init\""), "{first}");

    phone.register();
    let came = notified(&mut watcher);
    assert!(came.contains("version=\"1\"") && came.contains("event=\"registered\""), "{came}");
    assert!(came.contains(&phone.contact()), "{came}");
    phone.register();
    assert_eq!(phone.try_register(0).status(), 200);
    let went = notified(&mut watcher);
    assert!(went.contains("version=\"2\""), "a refresh is not told: {went}");
    assert!(went.contains("state=\"terminated\" event=\"unregistered\""), "{went}");

    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let request = subscribe(&alice);
    assert_eq!(alice.ask(request).status(), 403, "another user's phones are nobody's business");
}
