#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use meshtone_identity::SigningKey;

use super::*;

const NOW: u64 = 1_800_000_000;

const INVITE: &str = "INVITE sip:bob@mesh.test SIP/2.0\r\n\
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

struct Node {
    identities: Identities,
    host: PeerHost,
    proven: Proven,
}

fn node(name: &str) -> Node {
    let host = PeerHost::parse(&format!("{name}.peer.alt")).unwrap();
    let key = SigningKey::generate().unwrap();
    let proven = Proven { domains: vec!["mesh.test".to_owned()], key: *key.public_key(), signs: true };
    Node { identities: Identities::new(Arc::new(key), &host), host, proven }
}

fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

impl Node {
    fn signs(&self, text: &str) -> Message {
        self.identities.signed(&message(text), NOW).unwrap()
    }

    fn verdict(&self, request: &Message, now_s: u64) -> Result<(), Refusal> {
        verify(request, asserted_address(request).as_deref(), &self.host, &self.proven, now_s).map(drop)
    }

    /// What `other` makes of a request of this node.
    fn verdict_of(&self, other: &Node, request: &Message, now_s: u64) -> Result<(), Refusal> {
        other.identities.verify(request, asserted_address(request).as_deref(), &self.host, &self.proven, now_s)
    }
}

/// The signed request with a part of it replaced.
fn altered(signed: &Message, from: &str, to: &str) -> Message {
    let text = std::str::from_utf8(signed.bytes()).unwrap();
    assert!(text.contains(from), "{text}");
    message(&text.replace(from, to))
}

#[test]
fn what_a_node_signs_its_neighbour_believes_and_the_phones_date_is_replaced() {
    let a = node("a");
    let signed = a.signs(INVITE);
    assert_eq!(signed.header(Header::Date), Some("Fri, 15 Jan 2027 08:00:00 GMT"));
    assert_eq!(a.verdict(&signed, NOW), Ok(()));
    assert_eq!(a.verdict(&signed, NOW + FRESH_S), Ok(()));
    assert_eq!(a.verdict(&signed, NOW - FRESH_S), Ok(()));
}

#[test]
fn a_statement_of_long_ago_or_of_the_future_is_stale() {
    let a = node("a");
    let signed = a.signs(INVITE);
    for now_s in [NOW + FRESH_S + 1, NOW - FRESH_S - 1, NOW + 86_400] {
        assert_eq!(a.verdict(&signed, now_s), Err(STALE));
    }
}

#[test]
fn a_copied_statement_is_good_for_no_other_caller_callee_media_or_node() {
    let (a, m) = (node("a"), node("m"));
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
    assert_eq!(m.verdict(&altered(&signed, "info=<sip:a.", "info=<sip:m."), NOW), Err(BAD_INFO));
}

#[test]
fn a_statement_is_good_for_one_call_and_the_same_words_are_signed_anew_for_the_next() {
    let (a, b) = (node("a"), node("b"));
    let signed = a.signs(INVITE);
    assert_eq!(a.verdict_of(&b, &signed, NOW), Ok(()));
    assert_eq!(a.verdict_of(&b, &signed, NOW), Ok(()), "the same request by another way");
    let copied = altered(&signed, "Call-ID: c1", "Call-ID: c2");
    assert_eq!(a.verdict_of(&b, &copied, NOW), Err(REPLAYED));
    assert_eq!(a.verdict_of(&b, &a.signs(&INVITE.replace("Call-ID: c1", "Call-ID: c2")), NOW), Ok(()));
}

#[test]
fn a_signature_of_another_key_is_none() {
    let (a, b) = (node("a"), node("a"));
    assert_eq!(b.verdict(&a.signs(INVITE), NOW), Err(INVALID));
}

#[test]
fn without_a_statement_nobody_is_believed_but_a_node_whose_program_cannot_sign() {
    let mut a = node("a");
    assert_eq!(a.verdict(&message(INVITE), NOW), Err(MISSING));
    a.proven.signs = false;
    assert_eq!(a.verdict(&message(INVITE), NOW), Ok(()));
}

#[test]
fn of_whom_nothing_is_asserted_nothing_is_stated() {
    let a = node("a");
    let stranger = INVITE.replace("P-Asserted-Identity", "X-Other");
    assert!(a.identities.signed(&message(&stranger), NOW).is_none());
    assert_eq!(a.verdict(&message(&stranger), NOW), Ok(()));
    let ack = INVITE.replace("INVITE", "ACK");
    assert!(a.identities.signed(&message(&ack), NOW).is_none());
}

#[test]
fn what_cannot_be_read_in_one_way_is_refused() {
    let a = node("a");
    let signed = a.signs(INVITE);
    let field = signed.header(Header::Identity).unwrap().to_owned();
    let mut twice = signed.edit();
    twice.append(Header::Identity, &field);
    assert_eq!(a.verdict(&twice.finish(), NOW), Err(INVALID));
    for (from, to, refusal) in [
        (";alg=ES256", ";alg=none", UNSUPPORTED),
        (";alg=ES256", ";ppt=shaken", UNSUPPORTED),
        (";alg=ES256", ";alg=ES256;alg=ES256", INVALID),
        ("Identity: ey", "Identity: xx", INVALID),
    ] {
        assert_eq!(a.verdict(&altered(&signed, from, to), NOW), Err(refusal), "{to}");
    }
}
