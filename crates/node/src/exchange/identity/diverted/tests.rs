#![allow(clippy::unwrap_used)]

use meshtone_identity::{Authority, Revocation};

use super::super::tests::{INVITE, NOW, Node, altered, authority, message, node_of_domain};
use super::super::{REPLAYED, UNSUPPORTED, asserted_address};
use super::*;

const ALICE: &str = "alice@mesh.test";
const BOB: &str = "bob@b.test";
const CAROL: &str = "sip:carol@c.test";
const DORA: &str = "sip:dora@d.test";

/// Alice's node, Bob's, Carol's and Dora's, each of a domain of its own.
struct Four {
    authority: Authority,
    a: Node,
    b: Node,
    c: Node,
    d: Node,
}

impl Four {
    fn new() -> Four {
        let authority = authority();
        let [a, b, c, d] = ["mesh.test", "b.test", "c.test", "d.test"].map(|domain| node_of_domain(&authority, domain));
        Four { authority, a, b, c, d }
    }

    /// Alice calls Bob.
    fn call(&self) -> Message {
        self.a.signs(&INVITE.replace("INVITE sip:bob@mesh.test", &format!("INVITE sip:{BOB}")))
    }

    /// What Bob's node makes of it for Carol's.
    fn diverted(&self, now_s: u64) -> Message {
        self.b.diverts(&self.a, &self.call(), BOB, CAROL, now_s)
    }
}

impl Node {
    /// Sends a request that came from `from` on to another user.
    fn diverts(&self, from: &Node, request: &Message, callee: &str, to: &str, now_s: u64) -> Message {
        let caller = asserted_address(request).unwrap();
        let origin = (&from.host, &from.proven);
        let words = self.identities.diverted(request, (&caller, callee, to), origin, now_s).unwrap();
        let mut edit = request.edit();
        edit.request_uri(to).remove(Header::Identity);
        for word in &words {
            edit.append(Header::Identity, word);
        }
        edit.finish()
    }
}

fn speaker(node: &Node, address: &str) -> Speaker {
    Speaker { node: node.id(), address: address.to_owned(), is_certified: true }
}

/// The request with only these of its Identity fields, in this order.
fn with(request: &Message, order: &[usize]) -> Message {
    let fields: Vec<String> = request.fields(Header::Identity).map(str::to_owned).collect();
    let mut edit = request.edit();
    edit.remove(Header::Identity);
    for index in order {
        edit.append(Header::Identity, &fields[*index]);
    }
    edit.finish()
}

#[test]
fn a_third_node_believes_who_calls_and_who_diverted() {
    let four = Four::new();
    let request = four.diverted(NOW);
    assert!(four.b.identities.signed(&request, None, NOW).is_none(), "it leaves as it is");
    let both = vec![speaker(&four.a, ALICE), speaker(&four.b, BOB)];
    assert_eq!(four.b.verdict_of(&four.c, &request, NOW), Ok(both.clone()));
    // Fields stand in no order.
    assert_eq!(four.b.verdict_of(&four.c, &with(&request, &[1, 0]), NOW), Ok(both));
}

#[test]
fn a_request_may_be_diverted_again_and_each_who_did_is_named() {
    let four = Four::new();
    let request = four.c.diverts(&four.b, &four.diverted(NOW), "carol@c.test", DORA, NOW);
    assert_eq!(request.fields(Header::Identity).count(), 3);
    let all = vec![speaker(&four.a, ALICE), speaker(&four.b, BOB), speaker(&four.c, "carol@c.test")];
    assert_eq!(four.c.verdict_of(&four.d, &with(&request, &[2, 0, 1]), NOW), Ok(all));
    for gap in [&[0, 2][..], &[1, 2], &[0, 1], &[2, 2, 0], &[0, 1, 1, 2]] {
        assert!(four.c.verdict_of(&four.d, &with(&request, gap), NOW).is_err(), "{gap:?}");
    }
}

#[test]
fn a_chain_that_does_not_say_what_the_request_says_is_refused() {
    let four = Four::new();
    let request = four.diverted(NOW);
    for (from, to) in [
        ("P-Asserted-Identity: <sip:alice@", "P-Asserted-Identity: <sip:mallory@"),
        ("INVITE sip:carol@c.test", "INVITE sip:dora@d.test"),
        ("To: <sip:201@", "To: <sip:202@"),
        ("4A:AD:B9:B1", "4A:AD:B9:B2"),
    ] {
        assert_eq!(four.b.verdict_of(&four.c, &altered(&request, from, to), NOW), Err(INVALID), "{to}");
    }
    // It was not for whom Bob's node says, nor is the caller who it says.
    let other = four.b.diverts(&four.a, &four.call(), "mallory@b.test", CAROL, NOW);
    assert_eq!(four.b.verdict_of(&four.c, &other, NOW), Err(INVALID));
    let words = four.b.identities.diverted(
        &four.call(),
        ("mallory@mesh.test", BOB, CAROL),
        (&four.a.host, &four.a.proven),
        NOW,
    );
    let call = four.call();
    let mut edit = call.edit();
    edit.request_uri(CAROL).remove(Header::Identity);
    for word in words.unwrap() {
        edit.append(Header::Identity, &word);
    }
    assert_eq!(four.b.verdict_of(&four.c, &edit.finish(), NOW), Err(INVALID));
}

#[test]
fn whoever_diverts_for_an_address_of_another_domain_is_not_certified_for_it() {
    let four = Four::new();
    // Carol's node took the call to Bob.
    let request = four.c.diverts(&four.a, &four.call(), BOB, DORA, NOW);
    let speakers = four.c.verdict_of(&four.d, &request, NOW).unwrap();
    assert_eq!(speakers[1], Speaker { is_certified: false, ..speaker(&four.c, BOB) });
    // And a node that makes up the first statement is certified for no caller of another domain.
    let made_up = four.b.signs(&INVITE.replace("INVITE sip:bob@mesh.test", &format!("INVITE sip:{BOB}")));
    let request = four.b.diverts(&four.b, &made_up, BOB, CAROL, NOW);
    let speakers = four.b.verdict_of(&four.c, &request, NOW).unwrap();
    assert_eq!(speakers[0], Speaker { is_certified: false, ..speaker(&four.b, ALICE) });
}

#[test]
fn a_chain_is_believed_from_its_last_signer_alone_and_for_one_call() {
    let four = Four::new();
    let request = four.diverted(NOW);
    // Another node copied it.
    let copied = four.d.verdict_of(&four.c, &request, NOW);
    assert_eq!(copied, Err(BAD_INFO), "its link does not prove the last signer, whose certificate is not there");
    assert!(four.b.verdict_of(&four.c, &request, NOW).is_ok());
    let again = altered(&request, "Call-ID: c1", "Call-ID: c2");
    assert_eq!(four.b.verdict_of(&four.c, &again, NOW), Err(REPLAYED));
    let next = altered(&four.call(), "Call-ID: c1", "Call-ID: c2");
    let next = four.b.diverts(&four.a, &next, BOB, CAROL, NOW);
    assert!(four.b.verdict_of(&four.c, &next, NOW).is_ok(), "the next call has statements of its own");
}

#[test]
fn the_last_word_is_fresh_and_the_first_no_older_than_a_phone_rings() {
    let four = Four::new();
    for (diverted_s, judged_s, verdict) in [
        (0, super::super::FRESH_S, Ok(())),
        (0, super::super::FRESH_S + 1, Err(STALE)),
        (FRESH_S - 10, FRESH_S, Ok(())),
        (FRESH_S, FRESH_S + 1, Err(STALE)),
    ] {
        let request = four.diverted(NOW + diverted_s);
        let judged = four.b.verdict_of(&four.c, &request, NOW + judged_s).map(drop);
        assert_eq!(judged, verdict, "{diverted_s} s, {judged_s} s");
    }
    assert_eq!(four.b.verdict_of(&four.c, &four.diverted(NOW + 100), NOW), Err(STALE), "of the future");
}

#[test]
fn the_first_signer_has_to_show_a_certificate_of_the_overlay_that_is_not_revoked() {
    let four = Four::new();
    let request = four.diverted(NOW);
    let first: String = request.fields(Header::Identity).next().unwrap().to_owned();
    let (bare, certificate) = first.split_once(";cert=").unwrap();
    let stranger = node_of_domain(&authority(), "mesh.test");
    let strangers = BASE64URL_NOPAD.encode(stranger.proven.homes[0].der());
    let others = BASE64URL_NOPAD.encode(four.d.proven.homes[0].der());
    for wrong in [String::new(), strangers, others, "A".repeat(6000), format!("{certificate}A")] {
        let field = if wrong.is_empty() { bare.to_owned() } else { format!("{bare};cert={wrong}") };
        let forged = altered(&request, &first, &field);
        assert_eq!(four.b.verdict_of(&four.c, &forged, NOW), Err(BAD_INFO), "{wrong}");
    }
    // The same key with another certificate: it may speak for nobody then.
    let bare_node = BASE64URL_NOPAD.encode(four.a.proven.certificate.der());
    let honest = altered(&request, &first, &format!("{bare};cert={bare_node}"));
    let speakers = four.b.verdict_of(&four.c, &honest, NOW).unwrap();
    assert!(!speakers[0].is_certified);
    four.c.revoked.insert(Revocation::sign(&four.authority, four.a.id(), NOW, NOW + 1000).unwrap());
    assert_eq!(four.b.verdict_of(&four.c, &request, NOW), Err(BAD_INFO));
}

#[test]
fn more_diversions_than_a_request_may_have_are_neither_made_nor_believed() {
    let four = Four::new();
    let mut request = four.call();
    let mut hops = vec![&four.a];
    for turn in 0..MAX_DIVERSIONS {
        let (node, callee, to) =
            if turn % 2 == 0 { (&four.b, BOB, CAROL) } else { (&four.c, "carol@c.test", "sip:bob@b.test") };
        let from = *hops.last().unwrap();
        request = node.diverts(from, &request, callee, to, NOW);
        hops.push(node);
    }
    let last = *hops.last().unwrap();
    let caller = (ALICE, "carol@c.test", DORA);
    assert!(four.c.identities.diverted(&request, caller, (&last.host, &last.proven), NOW).is_none());
    let first = request.fields(Header::Identity).next().unwrap().to_owned();
    let mut edit = request.edit();
    edit.append(Header::Identity, &first);
    assert_eq!(last.verdict_of(&four.d, &edit.finish(), NOW), Err(INVALID));
}

#[test]
fn of_what_nothing_was_stated_no_diversion_is() {
    let four = Four::new();
    let unsigned = message(INVITE);
    let origin = (&four.a.host, &four.a.proven);
    assert!(four.b.identities.diverted(&unsigned, (ALICE, BOB, CAROL), origin, NOW).is_none());
    let request = altered(&four.diverted(NOW), "ppt=div", "ppt=shaken");
    assert_eq!(four.b.verdict_of(&four.c, &request, NOW), Err(UNSUPPORTED));
}
