//! The bindings of one address-of-record (RFC 3261 §10.3).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use meshtone_sip::message::{Header, Message};
use meshtone_sip::registrar::{Binding, Grants, Limits, Rejection, ok, register};
use meshtone_sip::transport::{Destination, Flow, Transport};

const NOW: u64 = 1_700_000_000_000;

fn flow() -> Flow {
    Flow::Udp { listener: 0, remote: "192.0.2.7:5060".parse().unwrap() }
}

fn request(call_id: &str, cseq: u32, lines: &[&str]) -> Message {
    let mut text = format!(
        "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK{cseq}\r\nMax-Forwards: 70\r\n\
         From: <sip:bob@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n"
    );
    for line in lines {
        text += line;
        text += "\r\n";
    }
    Message::parse(Bytes::from(text + "\r\n")).unwrap()
}

struct Address {
    bindings: Vec<Binding>,
    now: u64,
}

impl Address {
    fn new() -> Address {
        Address { bindings: Vec::new(), now: NOW }
    }

    fn register(&mut self, call_id: &str, cseq: u32, lines: &[&str]) -> Result<bool, Rejection> {
        let before = self.bindings.clone();
        let request = request(call_id, cseq, lines);
        let result = register(self.now, &Limits::default(), &mut self.bindings, &request, &flow());
        if result.is_err() {
            assert_eq!(self.bindings, before, "a request that fails changes nothing");
        }
        result
    }

    /// What the 200 to a query says.
    fn listed(&self) -> Vec<String> {
        let answer = ok(self.now, &self.bindings, &request("query", 1, &[]), Grants::default());
        answer.values(Header::Contact).map(str::to_owned).collect()
    }
}

fn status(result: Result<bool, Rejection>) -> u16 {
    result.expect_err("a refusal").status
}

#[test]
fn every_contact_is_listed_with_the_time_it_has_left() {
    let mut bob = Address::new();
    let contacts = "Contact: <sip:bob@192.0.2.7>;expires=120;q=0.5, \"Desk\" <sip:bob@192.0.2.8;transport=tcp>";
    assert_eq!(bob.register("a", 1, &[contacts, "Expires: 600"]), Ok(true));
    bob.now += 20_500;
    assert_eq!(
        bob.listed(),
        ["<sip:bob@192.0.2.7>;expires=100;q=0.500", "<sip:bob@192.0.2.8;transport=tcp>;expires=580"]
    );
    bob.now += 100_000;
    assert_eq!(bob.listed(), ["<sip:bob@192.0.2.8;transport=tcp>;expires=480"], "one has run out");
}

#[test]
fn without_any_expiry_the_default_holds_and_too_long_ones_are_cut() {
    let mut bob = Address::new();
    bob.register("a", 1, &["Contact: <sip:bob@192.0.2.7>"]).unwrap();
    assert_eq!(bob.listed(), ["<sip:bob@192.0.2.7>;expires=3600"]);
    bob.register("a", 2, &["Contact: <sip:bob@192.0.2.7>", "Expires: 4294967295"]).unwrap();
    assert_eq!(bob.listed(), ["<sip:bob@192.0.2.7>;expires=7200"]);
    bob.register("a", 3, &["Contact: <sip:bob@192.0.2.7>;expires=99999999999999"]).unwrap();
    assert_eq!(bob.listed(), ["<sip:bob@192.0.2.7>;expires=7200"]);
    bob.register("a", 4, &["Contact: <sip:bob@192.0.2.7>;expires=soon"]).unwrap();
    assert_eq!(bob.listed(), ["<sip:bob@192.0.2.7>;expires=3600"], "a malformed one counts as an hour");
}

#[test]
fn a_too_brief_interval_is_refused_with_the_least_one() {
    let mut bob = Address::new();
    let refusal = bob.register("a", 1, &["Contact: <sip:bob@192.0.2.7>;expires=59"]).unwrap_err();
    assert_eq!((refusal.status, refusal.extra), (423, vec![(Header::MinExpires, "60".into())]));
    assert_eq!(bob.register("a", 2, &["Contact: <sip:bob@192.0.2.7>;expires=60"]), Ok(true));
    assert_eq!(bob.register("a", 3, &["Contact: <sip:bob@192.0.2.7>;expires=0"]), Ok(true), "0 is not brief");
}

#[test]
fn a_query_changes_nothing() {
    let mut bob = Address::new();
    bob.register("a", 1, &["Contact: <sip:bob@192.0.2.7>"]).unwrap();
    assert_eq!(bob.register("b", 1, &[]), Ok(false));
    assert_eq!(bob.bindings.len(), 1);
}

#[test]
fn expires_0_removes_one_contact_and_a_star_all() {
    let mut bob = Address::new();
    bob.register("a", 1, &["Contact: <sip:bob@192.0.2.7>, <sip:bob@192.0.2.8>, <sip:bob@192.0.2.9>"]).unwrap();
    bob.register("a", 2, &["Contact: <sip:bob@192.0.2.8>;expires=0"]).unwrap();
    assert_eq!(bob.bindings.len(), 2);
    assert_eq!(bob.register("a", 3, &["Contact: *", "Expires: 0"]), Ok(true));
    assert_eq!(bob.listed().len(), 0);
}

#[test]
fn a_star_is_refused_in_any_other_company() {
    let mut bob = Address::new();
    bob.register("a", 1, &["Contact: <sip:bob@192.0.2.7>"]).unwrap();
    assert_eq!(status(bob.register("a", 2, &["Contact: *"])), 400);
    assert_eq!(status(bob.register("a", 2, &["Contact: *", "Expires: 60"])), 400);
    assert_eq!(status(bob.register("a", 2, &["Contact: *, <sip:bob@192.0.2.7>", "Expires: 0"])), 400);
    assert_eq!(status(bob.register("a", 2, &["Contact: *", "Contact: <sip:bob@192.0.2.7>", "Expires: 0"])), 400);
}

#[test]
fn an_older_request_of_the_same_phone_changes_nothing() {
    let mut bob = Address::new();
    bob.register("a", 5, &["Contact: <sip:bob@192.0.2.7>;expires=600"]).unwrap();
    assert_eq!(status(bob.register("a", 4, &["Contact: <sip:bob@192.0.2.7>;expires=0"])), 500);
    assert_eq!(status(bob.register("a", 5, &["Contact: <sip:bob@192.0.2.7>;expires=900"])), 500);
    assert_eq!(status(bob.register("a", 4, &["Contact: *", "Expires: 0"])), 500);
    // The new contact of the same request is not taken either.
    let both = "Contact: <sip:bob@192.0.2.99>, <sip:bob@192.0.2.7>";
    assert_eq!(status(bob.register("a", 4, &[both])), 500);
    // Another Call-ID begins anew.
    assert_eq!(bob.register("b", 1, &["Contact: <sip:bob@192.0.2.7>;expires=0"]), Ok(true));
    assert!(bob.bindings.is_empty());
}

#[test]
fn equivalent_uris_are_one_contact() {
    let mut bob = Address::new();
    bob.register("a", 1, &["Contact: <sip:b%6fb@Phone.Example.ORG;lr>"]).unwrap();
    bob.register("a", 2, &["Contact: <SIP:bob@phone.example.org>"]).unwrap();
    assert_eq!(bob.bindings.len(), 1);
    bob.register("a", 3, &["Contact: <sip:Bob@phone.example.org>"]).unwrap();
    bob.register("a", 4, &["Contact: <sip:bob@phone.example.org;transport=tcp>"]).unwrap();
    bob.register("a", 5, &["Contact: <sip:bob@phone.example.org:5060>"]).unwrap();
    assert_eq!(bob.bindings.len(), 4, "user in another case, transport and port tell contacts apart");
    assert_eq!(bob.register("a", 6, &["Contact: <sip:carol@x>, <sip:carol@x>"]), Ok(true), "the same twice is one");
    assert_eq!(bob.bindings.len(), 5);
}

#[test]
fn too_many_contacts_are_refused_as_a_whole() {
    let mut bob = Address::new();
    for number in 0..10 {
        let contact = format!("Contact: <sip:bob@192.0.2.{number}>");
        bob.register("a", number + 1, &[&contact]).unwrap();
    }
    assert_eq!(status(bob.register("a", 11, &["Contact: <sip:bob@192.0.2.10>"])), 403);
    assert_eq!(bob.register("a", 12, &["Contact: <sip:bob@192.0.2.9>"]), Ok(true), "a refresh is not one more");
    bob.now += 4_000_000;
    assert_eq!(bob.register("a", 13, &["Contact: <sip:bob@192.0.2.10>"]), Ok(true), "those that ran out do not count");
    assert_eq!(bob.bindings.len(), 1);
}

#[test]
fn malformed_contacts_are_refused() {
    let mut bob = Address::new();
    for contact in ["<sip:bob@192.0.2.7", "<sip:>", "<sip:bob@ho st>"] {
        assert_eq!(status(bob.register("a", 1, &[&format!("Contact: {contact}")])), 400, "{contact}");
    }
    let long = format!("Contact: <sip:{}@192.0.2.7>", "b".repeat(600));
    assert_eq!(status(bob.register("a", 1, &[&long])), 400);
}

#[test]
fn preference_instance_and_phone_are_kept() {
    let mut bob = Address::new();
    let instance = "\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"";
    let contact = format!("Contact: <sip:bob@192.0.2.7>;q=0.25;+sip.instance={instance};reg-id=1");
    bob.register("a", 1, &[&contact, "User-Agent: baresip v3.0"]).unwrap();
    let binding = &bob.bindings[0];
    assert_eq!((binding.q, binding.instance.as_deref()), (250, Some(instance)));
    assert_eq!((binding.user_agent.as_str(), binding.flow.clone()), ("baresip v3.0", flow()));
    assert!(bob.listed()[0].contains(instance));
    for (text, q) in [("1", 1000), ("1.0", 1000), ("0", 0), ("0.9", 900), ("0.1234", 123), ("x", 1000)] {
        let mut bob = Address::new();
        bob.register("a", 1, &[&format!("Contact: <sip:bob@192.0.2.7>;q={text}")]).unwrap();
        assert_eq!(bob.bindings[0].q, q, "{text}");
    }
}

#[test]
fn the_200_has_a_date() {
    let answer = ok(NOW, &[], &request("a", 1, &[]), Grants::default());
    assert_eq!(answer.header(Header::Date), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
}

#[test]
fn a_contact_is_reached_over_its_flow_and_else_at_the_address_it_registered_from() {
    let mut bob = Address::new();
    bob.register("a", 1, &["Contact: <sip:bob@192.0.2.7:5070;transport=tcp>"]).unwrap();
    let mut binding = bob.bindings.remove(0);
    assert_eq!(binding.destination(true), Some(Destination::Flow(flow())));
    assert!(binding.is_restorable());

    let stream = |transport, remote: &str| Flow::Stream {
        transport,
        listener: 2,
        connection: 9,
        remote: remote.parse().unwrap(),
    };
    binding.flow = stream(Transport::Tcp, "192.0.2.7:41000");
    assert!(!binding.is_restorable());
    assert_eq!(binding.destination(true), Some(Destination::Flow(binding.flow.clone())));
    let addr = "192.0.2.7:5070".parse().unwrap();
    let expected = Destination::Address { transport: Transport::Tcp, addr, listener: 2 };
    assert_eq!(binding.destination(false), Some(expected));

    binding.flow = stream(Transport::Tcp, "198.51.100.1:41000");
    assert_eq!(binding.destination(false), None, "a Contact alone sends us nowhere");
    binding.flow = stream(Transport::Wss, "192.0.2.7:41000");
    assert_eq!(binding.destination(false), None, "nobody can call a browser back");
    binding.flow = stream(Transport::Tcp, "192.0.2.7:41000");
    binding.contact = "sip:bob@localhost".into();
    assert_eq!(binding.destination(false), None, "a name is not looked up");
}

/// RFC 3261 §10.2.1 lets any URI be a contact; a proxy forwards to none but ours.
#[test]
fn a_contact_of_another_scheme_is_told_but_never_called() {
    let mut bob = Address::new();
    bob.register("a", 1, &["Contact: <mailto:bob@example.org>", "Contact: <tel:+123>;expires=60"]).unwrap();
    assert_eq!(bob.listed(), ["<mailto:bob@example.org>;expires=3600", "<tel:+123>;expires=60"]);
    assert!(bob.bindings.iter().all(|binding| binding.destination(true).is_none()));
}
