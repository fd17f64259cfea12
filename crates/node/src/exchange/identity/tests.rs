#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{Authority, LinkKey, SigningKey};

use super::*;
use crate::transport::host_of;

pub(super) const NOW: u64 = 1_800_000_000;

pub(super) const INVITE: &str = "INVITE sip:bob@mesh.test SIP/2.0\r\n\
    Via: SIP/2.0/PEER a.peer.alt;branch=z9hG4bK1\r\n\
    From: \"Alice\" <sip:alice@mesh.test>;tag=1\r\n\
    To: <sip:201@127.0.0.1:5062>\r\n\
    Call-ID: c1\r\n\
    CSeq: 1 INVITE\r\n\
    Max-Forwards: 70\r\n\
    Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    P-Asserted-Identity: <sip:alice@mesh.test>\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 64\r\n\
    \r\n\
    v=0\r\na=fingerprint:sha-256 4A:AD:B9:B1\r\nm=audio 9 UDP/TLS 0\r\ns=xxx\r\n";

/// A node of the overlay of one authority, and what it has proved over a link.
pub(super) struct Node {
    pub(super) identities: Identities,
    pub(super) host: PeerHost,
    pub(super) proven: Proven,
    pub(super) revoked: Revoked,
}

pub(super) fn authority() -> Authority {
    Authority::create(NOW - 1000).unwrap().0
}

/// A node that is a home of this domain.
pub(super) fn node_of_domain(authority: &Authority, domain: &str) -> Node {
    let key = SigningKey::generate().unwrap();
    let lifetime = Duration::from_secs(1_000_000);
    let certificate =
        authority.certify_node(key.public_key(), LinkKey::from_bytes([1; 32]), [1; 16], NOW - 500, lifetime).unwrap();
    let home = authority.issue_home(&certificate, domain, NOW - 500, lifetime).unwrap();
    let (host, revoked) = (host_of(certificate.node_id()).unwrap(), Revoked::default());
    let identities = Identities::new(Arc::new(key), &host, authority.certificate().clone(), revoked.clone());
    Node { identities, host, proven: Proven { certificate, homes: vec![home], version: 5 }, revoked }
}

fn node() -> Node {
    node_of_domain(&authority(), "mesh.test")
}

pub(super) fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

impl Node {
    pub(super) fn signs(&self, text: &str) -> Message {
        self.identities.signed(&message(text), None, NOW).unwrap()
    }

    fn verdict(&self, request: &Message, now_s: u64) -> Result<(), Refusal> {
        verify(request, &asserted_address(request).unwrap(), &self.host, &self.proven, now_s).map(drop)
    }

    /// What `other` makes of a request of this node.
    pub(super) fn verdict_of(&self, other: &Node, request: &Message, now_s: u64) -> Result<Vec<Speaker>, Refusal> {
        let caller = asserted_address(request).unwrap();
        other.identities.verify(request, &caller, &self.host, &self.proven, now_s)
    }

    pub(super) fn id(&self) -> NodeId {
        self.proven.certificate.node_id()
    }
}

/// The signed request with a part of it replaced.
pub(super) fn altered(signed: &Message, from: &str, to: &str) -> Message {
    let text = std::str::from_utf8(signed.bytes()).unwrap();
    assert!(text.contains(from), "{text}");
    message(&text.replace(from, to))
}

#[test]
fn what_a_node_signs_its_neighbour_believes_and_the_phones_date_is_replaced() {
    let a = node();
    let signed = a.signs(INVITE);
    assert_eq!(signed.header(Header::Date), Some("Fri, 15 Jan 2027 08:00:00 GMT"));
    assert_eq!(a.verdict(&signed, NOW), Ok(()));
    assert_eq!(a.verdict(&signed, NOW + FRESH_S), Ok(()));
    assert_eq!(a.verdict(&signed, NOW - FRESH_S), Ok(()));
}

#[test]
fn a_statement_of_long_ago_or_of_the_future_is_stale() {
    let a = node();
    let signed = a.signs(INVITE);
    for now_s in [NOW + FRESH_S + 1, NOW - FRESH_S - 1, NOW + 86_400] {
        assert_eq!(a.verdict(&signed, now_s), Err(STALE));
    }
}

#[test]
fn a_copied_statement_is_good_for_no_other_caller_callee_media_or_node() {
    let (a, m) = (node(), node());
    let signed = a.signs(INVITE);
    for (from, to) in [
        ("P-Asserted-Identity: <sip:alice@", "P-Asserted-Identity: <sip:carol@"),
        ("INVITE sip:bob@mesh.test", "INVITE sip:carol@mesh.test"),
        ("To: <sip:201@", "To: <sip:202@"),
        ("4A:AD:B9:B1", "4A:AD:B9:B2"),
    ] {
        assert_eq!(a.verdict(&altered(&signed, from, to), NOW), Err(INVALID), "{to}");
    }
    // Another node passes it on, as it is and as its own.
    assert_eq!(m.verdict(&signed, NOW), Err(BAD_INFO));
    let (own, other) = (info_of(&a.host), info_of(&m.host));
    assert_eq!(m.verdict(&altered(&signed, &own, &other), NOW), Err(BAD_INFO));
}

#[test]
fn a_statement_is_good_for_one_call_and_the_same_words_are_signed_anew_for_the_next() {
    let (a, b) = (node(), node());
    let signed = a.signs(INVITE);
    let by_alice = Speaker { node: a.id(), address: "alice@mesh.test".to_owned(), is_certified: true };
    assert_eq!(a.verdict_of(&b, &signed, NOW), Ok(vec![by_alice.clone()]));
    assert_eq!(a.verdict_of(&b, &signed, NOW), Ok(vec![by_alice.clone()]), "the same request by another way");
    let copied = altered(&signed, "Call-ID: c1", "Call-ID: c2");
    assert_eq!(a.verdict_of(&b, &copied, NOW), Err(REPLAYED));
    assert_eq!(a.verdict_of(&b, &a.signs(&INVITE.replace("Call-ID: c1", "Call-ID: c2")), NOW), Ok(vec![by_alice]));
}

#[test]
fn a_signature_of_another_key_is_none() {
    let (a, b) = (node(), node());
    // It is said to be b's.
    let signed = altered(&a.signs(INVITE), &info_of(&a.host), &info_of(&b.host));
    let signed_text = std::str::from_utf8(signed.bytes()).unwrap().to_owned();
    assert!(b.verdict(&message(&signed_text), NOW).is_err());
    let as_b = Identities { info: info_of(&b.host), ..a.identities };
    assert_eq!(b.verdict(&as_b.signed(&message(INVITE), None, NOW).unwrap(), NOW), Err(INVALID));
}

#[test]
fn without_a_statement_nobody_is_believed_but_a_node_whose_program_cannot_sign() {
    let mut a = node();
    assert_eq!(a.verdict(&message(INVITE), NOW), Err(MISSING));
    a.proven.version = 1;
    assert_eq!(a.verdict(&message(INVITE), NOW), Ok(()));
}

#[test]
fn of_whom_nothing_is_asserted_nothing_is_stated() {
    let a = node();
    let stranger = INVITE.replace("P-Asserted-Identity", "X-Other");
    assert!(a.identities.signed(&message(&stranger), None, NOW).is_none());
    let ack = INVITE.replace("INVITE", "ACK");
    assert!(a.identities.signed(&message(&ack), None, NOW).is_none());
}

#[test]
fn what_cannot_be_read_in_one_way_is_refused() {
    let a = node();
    let signed = a.signs(INVITE);
    let field = signed.header(Header::Identity).unwrap().to_owned();
    let mut twice = signed.edit();
    twice.append(Header::Identity, &field);
    assert_eq!(a.verdict_of(&node(), &twice.finish(), NOW), Err(INVALID));
    for (from, to, refusal) in [
        (";alg=ES256", ";alg=none", UNSUPPORTED),
        (";alg=ES256", ";ppt=shaken", UNSUPPORTED),
        (";alg=ES256", ";alg=ES256;alg=ES256", INVALID),
        ("Identity: ey", "Identity: xx", INVALID),
    ] {
        assert_eq!(a.verdict(&altered(&signed, from, to), NOW), Err(refusal), "{to}");
    }
}

/// A request that came in by a trunk or from outside, and of whose caller nothing is asserted.
const STRANGERS: &str = "P-Asserted-Identity: <sip:alice@mesh.test>\r\n";
const MARK: &str = "Attestation-Info: C\r\nOrigination-Id: 00000000-0000-8000-8000-000000000001\r\n";

fn origin(attestation: Attestation) -> Origination {
    Origination { attestation, id: "00000000-0000-8000-8000-000000000001".to_owned() }
}

#[test]
fn how_well_a_caller_is_known_is_signed_and_believed() {
    let (a, b) = (node(), node());
    for attestation in [Attestation::A, Attestation::B] {
        let signed = a.identities.signed(&message(INVITE), Some(origin(attestation)), NOW).unwrap();
        assert!(signed.header(Header::Identity).unwrap().ends_with(";ppt=shaken"));
        assert!(a.verdict_of(&b, &signed, NOW).is_ok());
        assert_eq!(attestation::of(&signed), attestation);
    }
    // Whom a node asserts it knows.
    let unknown = a.identities.signed(&message(INVITE), Some(origin(Attestation::C)), NOW).unwrap();
    assert_eq!(a.verdict_of(&b, &unknown, NOW), Err(INVALID));
    let signed = a.identities.signed(&message(INVITE), Some(origin(Attestation::B)), NOW).unwrap();
    assert_eq!(a.verdict_of(&b, &altered(&signed, ";ppt=shaken", ""), NOW), Err(UNSUPPORTED));
}

#[test]
fn of_a_stranger_it_is_signed_where_he_came_in_and_no_more() {
    let (a, b) = (node(), node());
    let stranger = message(&INVITE.replace(STRANGERS, MARK).replace("alice@mesh.test", "mallory@elsewhere.test"));
    let verdict = |request: &Message| b.identities.verify_unasserted(request, &a.host, &a.proven, NOW);
    let signed = a.identities.signed(&stranger, Some(origin(Attestation::C)), NOW).unwrap();
    assert_eq!((signed.header(Header::AttestationInfo), signed.header(Header::OriginationId)), (None, None));
    assert_eq!(verdict(&signed), Ok(()));
    assert_eq!(verdict(&altered(&signed, "sip:mallory@", "sip:alice@")), Err(INVALID));
    assert_eq!(verdict(&altered(&signed, "Call-ID: c1", "Call-ID: c2")), Err(REPLAYED));
    let known = a.identities.signed(&stranger, Some(origin(Attestation::A)), NOW).unwrap();
    assert_eq!(verdict(&known), Err(INVALID), "who is known is asserted");
    // A node of before is told nothing, and passes nothing on; one that says nothing is believed as ever.
    let unsigned = a.identities.signed(&stranger, None, NOW).unwrap();
    assert_eq!((unsigned.header(Header::Identity), unsigned.header(Header::AttestationInfo)), (None, None));
    assert_eq!(verdict(&unsigned), Ok(()));
}
