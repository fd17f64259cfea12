//! Flows, paths and GRUUs of an address-of-record (RFC 5626, 3327, 5627).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::Bytes;
use meshtone_sip::message::{Header, Message, Uri};
use meshtone_sip::registrar::gruu::{Gruu, GruuKey};
use meshtone_sip::registrar::{Binding, Grants, Limits, Rejection, ok, register};
use meshtone_sip::transport::{Destination, Flow, Transport};

const NOW: u64 = 1_700_000_000_000;
const ADDRESS: &str = "bob@example.org";
const INSTANCE: &str = "\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"";
const OTHER: &str = "\"<urn:uuid:00000000-0000-1000-8000-000000000001>\"";

fn flow(port: u16) -> Flow {
    Flow::Udp { listener: 0, remote: ([192, 0, 2, 7], port).into() }
}

fn request(call_id: &str, cseq: u32, vias: usize, lines: &[&str]) -> Message {
    let mut text = "REGISTER sip:example.org SIP/2.0\r\n".to_owned();
    for via in 0..vias {
        text += &format!("Via: SIP/2.0/UDP 192.0.2.{via};branch=z9hG4bK{cseq}\r\n");
    }
    text += &format!(
        "From: <sip:{ADDRESS}>;tag=1\r\nTo: <sip:{ADDRESS}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n"
    );
    for line in lines {
        text += &format!("{line}\r\n");
    }
    Message::parse(Bytes::from(text + "\r\n")).unwrap()
}

fn take(bindings: &mut Vec<Binding>, request: &Message, flow: &Flow) -> Result<bool, Rejection> {
    let before = bindings.clone();
    let result = register(NOW, &Limits::default(), bindings, request, flow);
    assert!(result.is_ok() || *bindings == before, "a request that fails changes nothing");
    result
}

fn contact(host: &str, instance: &str, reg_id: u32) -> String {
    format!("Contact: <sip:bob@{host};ob>;+sip.instance={instance};reg-id={reg_id}")
}

#[test]
fn a_flow_is_replaced_by_its_instance_and_number_whatever_its_contact_is() {
    let mut bindings = Vec::new();
    for (cseq, (host, reg_id, port)) in
        [("192.0.2.7", 1, 1), ("192.0.2.7", 2, 2), ("192.0.2.8", 1, 3)].iter().enumerate()
    {
        let cseq = u32::try_from(cseq).unwrap() + 1;
        let request = request("a", cseq, 1, &["Supported: outbound", &contact(host, INSTANCE, *reg_id)]);
        assert_eq!(take(&mut bindings, &request, &flow(*port)), Ok(true));
    }
    let kept: Vec<_> = bindings.iter().map(|binding| (binding.reg_id, binding.flow.clone())).collect();
    assert_eq!(kept, [(Some(1), flow(3)), (Some(2), flow(2))]);
    let ended = format!("{};expires=0", contact("192.0.2.99", &INSTANCE.to_ascii_lowercase(), 2));
    take(&mut bindings, &request("a", 9, 1, &[&ended]), &flow(1)).unwrap();
    assert_eq!(bindings.len(), 1, "an instance is compared without regard to case");
}

#[test]
fn the_answer_to_a_flow_requires_outbound_and_tells_the_flow_timer() {
    let line = contact("192.0.2.7", INSTANCE, 1);
    let asked = request("a", 1, 1, &["Supported: path, outbound", &line]);
    let mut bindings = Vec::new();
    take(&mut bindings, &asked, &flow(1)).unwrap();
    let answer = ok(NOW, &bindings, &asked, Grants::default());
    assert_eq!((answer.header(Header::Require), answer.header_named("Flow-Timer")), (Some("outbound"), Some("120")));
    assert!(answer.header(Header::Contact).unwrap().contains(";reg-id=1"), "{:?}", answer.header(Header::Contact));

    let plain = request("b", 1, 1, &["Contact: <sip:bob@192.0.2.9>"]);
    let answer = ok(NOW, &bindings, &plain, Grants::default());
    assert_eq!((answer.header(Header::Require), answer.header_named("Flow-Timer")), (None, None));
}

#[test]
fn a_flow_over_a_proxy_that_keeps_none_is_refused_with_439() {
    let line = contact("192.0.2.7", INSTANCE, 1);
    let outbound = "Supported: path, outbound";
    for (path, accepted) in [
        (vec![], false),
        (vec!["Path: <sip:edge.example.org;lr>"], false),
        (vec!["Path: <sip:edge.example.org;lr;ob>"], true),
    ] {
        let mut lines = vec![outbound, line.as_str()];
        lines.extend(path);
        let mut bindings = Vec::new();
        let result = take(&mut bindings, &request("a", 1, 2, &lines), &flow(1));
        assert_eq!(result.err().map(|refusal| refusal.status), (!accepted).then_some(439), "{lines:?}");
        assert_eq!(bindings.len(), usize::from(accepted));
    }
    // A phone that does not ask for it is registered as ever.
    let mut bindings = Vec::new();
    take(&mut bindings, &request("a", 1, 2, &[&line]), &flow(1)).unwrap();
    assert_eq!(bindings[0].reg_id, None);
}

#[test]
fn what_is_wrong_about_a_flow_is_refused() {
    let two = format!("{}, <sip:bob@192.0.2.9>", contact("192.0.2.7", INSTANCE, 1));
    for line in
        [two, contact("192.0.2.7", INSTANCE, 0), format!("Contact: <sip:bob@h>;+sip.instance={INSTANCE};reg-id=x")]
    {
        assert_eq!(take(&mut Vec::new(), &request("a", 1, 1, &[&line]), &flow(1)).unwrap_err().status, 400, "{line}");
    }
    let mut bindings = Vec::new();
    take(&mut bindings, &request("a", 1, 1, &["Contact: <sip:bob@h>;reg-id=1"]), &flow(1)).unwrap();
    assert_eq!(bindings[0].reg_id, None, "without an instance the number means nothing");
}

#[test]
fn an_extension_that_is_required_and_unknown_is_refused() {
    let asked = request("a", 1, 1, &["Require: path, teleport, gruu"]);
    let refusal = take(&mut Vec::new(), &asked, &flow(1)).unwrap_err();
    assert_eq!((refusal.status, refusal.extra), (420, vec![(Header::Unsupported, "teleport".to_owned())]));
}

#[test]
fn a_path_is_kept_answered_and_followed_and_a_strange_one_refused() {
    let path = "Path: <sip:p2.example.org;lr>, <sip:edge@p1.example.org;lr;ob>";
    let asked = request("a", 1, 3, &["Supported: path", path, "Contact: <sip:bob@10.0.0.1>"]);
    let mut bindings = Vec::new();
    take(&mut bindings, &asked, &flow(1)).unwrap();
    assert_eq!(bindings[0].route().as_deref(), Some("<sip:p2.example.org;lr>, <sip:edge@p1.example.org;lr;ob>"));
    let answer = ok(NOW, &bindings, &asked, Grants { service_route: Some("<sip:here;lr>"), ..Grants::default() });
    assert_eq!(answer.values(Header::Path).count(), 2);
    assert_eq!(answer.header(Header::ServiceRoute), Some("<sip:here;lr>"));
    let long = format!("Path: <sip:{}@h;lr>", "p".repeat(2000));
    let many = format!("Path: {}", ["<sip:h;lr>"; 9].join(","));
    for wrong in ["Path: <sip:strict.example.org>", "Path: <tel:1;lr>", "Path: x y", &long, &many] {
        let asked = request("b", 1, 2, &[wrong, "Contact: <sip:bob@10.0.0.1>"]);
        assert_eq!(take(&mut bindings, &asked, &flow(1)).unwrap_err().status, 400, "{wrong}");
    }
}

#[test]
fn a_lost_flow_of_an_instance_is_not_replaced_by_an_address() {
    let mut bindings = Vec::new();
    let remote = "192.0.2.7:40000".parse().unwrap();
    let stream = Flow::Stream { transport: Transport::Tcp, listener: 0, connection: 3, remote };
    take(&mut bindings, &request("a", 1, 1, &[&contact("192.0.2.7", INSTANCE, 1)]), &stream).unwrap();
    assert_eq!(bindings[0].destination(true), Some(Destination::Flow(stream)));
    assert_eq!(bindings[0].destination(false), None);
}

#[test]
fn a_contact_that_leads_back_is_refused() {
    for contact in ["<sip:bob@example.org>", "<sip:bob@example.org;gr=urn:uuid:x>", "<sip:tgruu.a.b@EXAMPLE.org;gr>"] {
        let asked = request("a", 1, 1, &[&format!("Contact: {contact}")]);
        assert_eq!(take(&mut Vec::new(), &asked, &flow(1)).unwrap_err().status, 403, "{contact}");
    }
}

fn key() -> GruuKey {
    GruuKey::new(&[7; 32], "n0de").unwrap()
}

fn gruus(bindings: &[Binding], asked: &Message, now: u64) -> Option<(String, String)> {
    let key = key();
    let answer = ok(now, bindings, asked, Grants { gruu: Some((ADDRESS, &key)), ..Grants::default() });
    let contacts: Vec<_> = answer.contacts().map(Result::unwrap).collect();
    let of = |name: &str| Some(contacts.last()?.param(name)??.trim_matches('"').to_owned());
    Some((of("pub-gruu")?, of("temp-gruu")?))
}

fn of_instance(call_id: &str, instance: &str) -> Message {
    let line = format!("Contact: <sip:bob@192.0.2.7>;+sip.instance={instance}");
    request(call_id, 1, 1, &["Supported: gruu", &line])
}

#[test]
fn gruus_are_given_to_phones_that_know_them_and_lead_back_to_the_instance() {
    let asked = of_instance("a", INSTANCE);
    let mut bindings = Vec::new();
    take(&mut bindings, &asked, &flow(1)).unwrap();
    let (public, temporary) = gruus(&bindings, &asked, NOW).unwrap();
    assert_eq!(public, "sip:bob@example.org;gr=urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF");
    assert_eq!(Gruu::of(&Uri::parse(&public).unwrap()), Some(Gruu::Public { instance: INSTANCE.to_owned() }));
    let uri = Uri::parse(&temporary).unwrap();
    assert_eq!(Gruu::of(&uri), Some(Gruu::Temporary { node: "n0de".to_owned() }));
    assert!(!temporary.contains("bob"), "{temporary}");
    let opened = key().open(uri.user.unwrap(), "example.org").unwrap();
    assert_eq!(opened.user, "bob");
    assert!(opened.means(ADDRESS, &bindings[0]));
    assert_ne!(gruus(&bindings, &asked, NOW + 1).unwrap().1, temporary, "every answer has another one");
    let plain = request("a", 2, 1, &[]);
    assert_eq!(gruus(&bindings, &plain, NOW), None);
    assert_eq!(gruus(&[], &asked, NOW), None);
}

#[test]
fn a_temporary_gruu_ends_with_the_registration_that_it_was_given_to() {
    let asked = of_instance("a", INSTANCE);
    let mut bindings = Vec::new();
    take(&mut bindings, &asked, &flow(1)).unwrap();
    let (_, temporary) = gruus(&bindings, &asked, NOW).unwrap();
    let opened = key().open(Uri::parse(&temporary).unwrap().user.unwrap(), "example.org").unwrap();
    take(&mut bindings, &of_instance("b", INSTANCE), &flow(1)).unwrap();
    assert!(!opened.means(ADDRESS, &bindings[0]), "another Call-ID is another registration");
    let mut other = Vec::new();
    take(&mut other, &of_instance("a", OTHER), &flow(1)).unwrap();
    assert!(!opened.means(ADDRESS, &other[0]));
}

#[test]
fn a_forged_temporary_gruu_is_not_opened() {
    let asked = of_instance("a", INSTANCE);
    let mut bindings = Vec::new();
    take(&mut bindings, &asked, &flow(1)).unwrap();
    let (_, temporary) = gruus(&bindings, &asked, NOW).unwrap();
    let user = Uri::parse(&temporary).unwrap().user.unwrap().to_owned();
    assert!(key().open(&user, "example.com").is_none(), "it is good in its own domain only");
    assert!(GruuKey::new(&[8; 32], "n0de").unwrap().open(&user, "example.org").is_none());
    let mut changed = user.clone().into_bytes();
    changed[30] = if changed[30] == b'A' { b'B' } else { b'A' };
    assert!(key().open(&String::from_utf8(changed).unwrap(), "example.org").is_none());
    for rubbish in
        ["", "tgruu", "tgruu.", "tgruu.n0de.", "tgruu.n0de.AAAA", &format!("tgruu.n0de.{}", "A".repeat(5000))]
    {
        assert!(key().open(rubbish, "example.org").is_none(), "{rubbish}");
    }
}

#[test]
fn an_instance_that_does_not_fit_a_uri_is_escaped_and_found_again() {
    let odd = "\"<urn:x:a;b@c%>\"";
    let asked = of_instance("a", odd);
    let mut bindings = Vec::new();
    take(&mut bindings, &asked, &flow(1)).unwrap();
    let (public, _) = gruus(&bindings, &asked, NOW).unwrap();
    assert_eq!(public, "sip:bob@example.org;gr=urn:x:a%3Bb%40c%25");
    assert_eq!(Gruu::of(&Uri::parse(&public).unwrap()), Some(Gruu::Public { instance: odd.to_owned() }));
}
