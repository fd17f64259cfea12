//! Which contacts a caller wants (RFC 3841), and what subscribers are told of them (RFC 3680).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::Bytes;
use meshtone_sip::message::Message;
use meshtone_sip::registrar::preference::choose;
use meshtone_sip::registrar::reg_info::{Removal, document, is_news};
use meshtone_sip::registrar::{Binding, Limits, register};
use meshtone_sip::transport::Flow;

const NOW: u64 = 1_700_000_000_000;

fn message(method: &str, lines: &[String]) -> Message {
    let mut text = format!(
        "{method} sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:bob@example.org>\r\nCall-ID: c{}\r\nCSeq: 1 {method}\r\n",
        lines.concat().len()
    );
    for line in lines {
        text += &format!("{line}\r\n");
    }
    Message::parse(Bytes::from(text + "\r\n")).unwrap()
}

/// Each contact's parameters; they are named a, b, c …
fn bindings(contacts: &[&str]) -> Vec<Binding> {
    let flow = Flow::Udp { listener: 0, remote: "192.0.2.7:5060".parse().unwrap() };
    let mut bindings = Vec::new();
    for (params, name) in contacts.iter().zip('a'..) {
        let asked = message("REGISTER", &[format!("Contact: <sip:{name}@h>{params}")]);
        register(NOW + bindings.len() as u64, &Limits::default(), &mut bindings, &asked, &flow).unwrap();
    }
    bindings
}

/// The names of the contacts chosen: `>` parts groups of falling preference, `/` the flows of one phone.
fn chosen(contacts: &[&str], method: &str, lines: &[&str]) -> String {
    let bindings = bindings(contacts);
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let mut text = String::new();
    let mut last = None;
    for choice in choose(&bindings, &message(method, &lines)) {
        if let Some(last) = last {
            assert!(last >= choice.q);
            text.push(if last == choice.q { ' ' } else { '>' });
        }
        last = Some(choice.q);
        let names: Vec<&str> = choice.flows.iter().map(|flow| &flow.contact[4..5]).collect();
        text += &names.join("/");
    }
    text
}

#[test]
fn without_preferences_the_callees_order_holds() {
    assert_eq!(chosen(&["", ";q=0.5", ""], "INVITE", &[]), "a c>b");
}

#[test]
fn flows_of_one_instance_are_one_choice_and_the_youngest_comes_first() {
    let one = ";+sip.instance=\"<urn:uuid:1>\";reg-id=1";
    let two = ";+sip.instance=\"<urn:uuid:1>\";reg-id=2";
    assert_eq!(chosen(&[one, "", two], "INVITE", &[]), "c/a b");
}

#[test]
fn what_is_rejected_is_left_out_only_where_the_phone_says_that_it_is_so() {
    let contacts = [";automata", ";audio", "", ";automata=\"FALSE\""];
    assert_eq!(chosen(&contacts, "INVITE", &["Reject-Contact: *;automata"]), "b c d");
    assert_eq!(chosen(&contacts, "INVITE", &["j: *;automata;audio"]), "a b c d", "nobody says both");
}

#[test]
fn what_is_required_drops_those_that_say_otherwise_and_explicit_those_that_say_nothing() {
    let contacts = [";audio;video", ";audio;video=\"FALSE\"", ";audio", ""];
    assert_eq!(chosen(&contacts, "INVITE", &["Accept-Contact: *;video;require"]), "a d>c");
    assert_eq!(chosen(&contacts, "INVITE", &["Accept-Contact: *;video;require;explicit"]), "a d");
    assert_eq!(chosen(&contacts, "INVITE", &["a: *;video"]), "a d>b c");
}

#[test]
fn a_better_match_goes_before_a_worse_one_of_the_same_q_but_not_before_a_higher_q() {
    let contacts = [";audio;q=0.5", ";audio;video;q=0.5", ";text;q=0.9"];
    assert_eq!(chosen(&contacts, "INVITE", &["Accept-Contact: *;audio;video"]), "c>b>a");
}

#[test]
fn values_are_compared_by_their_kind() {
    let number = [";+x.level=\"#5\"", ";+x.level=\"#=5\"", ";+x.level=\"#1:3\""];
    assert_eq!(chosen(&number, "INVITE", &["Accept-Contact: *;+x.level=\"#>=4\";require"]), "b");
    let text = [";+x.name=\"<Bob>\"", ";+x.name=\"<bob>\""];
    assert_eq!(chosen(&text, "INVITE", &["Accept-Contact: *;+x.name=\"<bob>\";require"]), "b");
    let token = [";class=\"PERSONAL\"", ";class=\"business\"", ";class=\"!personal\""];
    assert_eq!(chosen(&token, "INVITE", &["Accept-Contact: *;class=\"personal\";require"]), "a");
    assert_eq!(chosen(&token, "INVITE", &["Accept-Contact: *;class=\"!personal\";require"]), "b c");
}

#[test]
fn a_phone_that_does_not_know_the_method_is_passed_over_unless_none_does() {
    let contacts = [";methods=\"INVITE,BYE\"", ";methods=\"MESSAGE,OPTIONS\"", ""];
    assert_eq!(chosen(&contacts, "MESSAGE", &[]), "b c");
    assert_eq!(chosen(&contacts[..1], "MESSAGE", &[]), "a", "it will say so itself");
    assert_eq!(
        chosen(&[";events=\"dialog\"", ";events=\"message-summary,reg\""], "SUBSCRIBE", &["Event: reg;id=1"]),
        "b"
    );
}

#[test]
fn a_caller_may_want_one_contact_or_one_after_the_other() {
    assert_eq!(chosen(&["", "", ";q=0.2"], "INVITE", &["Request-Disposition: no-fork"]), "a");
    assert_eq!(chosen(&["", "", ";q=0.2"], "INVITE", &["Request-Disposition: proxy, sequential"]), "a>b>c");
}

#[test]
fn a_flood_of_preferences_costs_little() {
    let many = format!("Accept-Contact: {}", vec!["*;audio"; 800].join(","));
    let wide = format!("Accept-Contact: *{}", ";x=\"a\"".repeat(1000));
    assert_eq!(chosen(&[";audio", ""], "INVITE", &[&many, &wide]), "a b");
    assert_eq!(chosen(&[";audio", ""], "INVITE", &[&wide, &many]), "b>a");
}

#[test]
fn a_document_tells_every_contact_and_escapes_what_phones_wrote() {
    let kept = bindings(&[";q=0.5", ";+sip.instance=\"<urn:uuid:1>\""]);
    let text = document(NOW, 0, "bob&co@example.org", &[], &kept, Removal::Usual);
    assert!(text.contains("version=\"0\" state=\"full\""), "{text}");
    assert!(text.contains("aor=\"sip:bob&amp;co@example.org\"") && text.contains("state=\"active\""), "{text}");
    assert!(text.contains("<uri>sip:a@h</uri>") && text.contains("q=\"0.500\""), "{text}");
    assert!(text.contains("&quot;&lt;urn:uuid:1&gt;&quot;"), "{text}");
    assert_eq!(text.matches("<contact ").count(), 2);
    let none = document(NOW, 1, "bob@example.org", &[], &[], Removal::Usual);
    assert!(none.contains("state=\"init\"") && !none.contains("<contact"), "{none}");
}

#[test]
fn a_document_tells_what_became_of_contacts_that_are_gone() {
    let kept = bindings(&["", ""]);
    let told = |after: &[Binding], now, removal| document(now, 3, "bob@example.org", &kept, after, removal);
    let text = told(&kept[..1], NOW, Removal::Usual);
    assert!(text.contains("version=\"3\"") && text.contains("state=\"active\" event=\"registered\""), "{text}");
    assert!(text.contains("state=\"terminated\" event=\"unregistered\""), "{text}");
    let text = told(&[], kept[1].expires_ms, Removal::Usual);
    assert!(text.contains("event=\"expired\"") && text.contains("id=\"") && !text.contains("\"active\""), "{text}");
    assert!(told(&[], NOW, Removal::Rejected).contains("event=\"rejected\""));
}

#[test]
fn a_refresh_is_no_news_to_subscribers() {
    let kept = bindings(&["", ""]);
    let mut later = kept.clone();
    later[0].expires_ms += 1000;
    assert!(!is_news(&kept, &later));
    later[0].expires_ms = NOW + 1000;
    assert!(is_news(&kept, &later));
    assert!(document(NOW, 1, "a@b", &kept, &later, Removal::Usual).contains("event=\"shortened\" expires=\"1\""));
    assert!(is_news(&kept, &kept[..1]) && is_news(&kept[..1], &kept) && !is_news(&kept, &kept));
}
