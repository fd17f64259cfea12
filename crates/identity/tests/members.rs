//! What makes a member's certificate, request or list of delegations be refused, through the public API.
#![allow(clippy::unwrap_used)]

use meshtone_identity::authority::USER_LIFETIME;
use meshtone_identity::member::{MAX_DELEGATIONS, MAX_NODES};
use meshtone_identity::{Authority, Delegations, Error, Es256, NodeId, SigningKey, UserCertificate, UserRequest};

const NOW: u64 = 1_800_000_000;
const NOW_MS: u64 = NOW * 1000;

struct Person {
    key: SigningKey,
    certificate: UserCertificate,
}

fn person(authority: &Authority, address: &str, now: u64) -> Person {
    let key = SigningKey::generate().unwrap();
    let request = UserRequest::parse(&UserRequest::encode(&key, address).unwrap()).unwrap();
    let certificate = authority.issue_user(request.address(), request.public_key(), now, USER_LIFETIME).unwrap();
    Person { key, certificate }
}

fn authority() -> Authority {
    Authority::create(NOW).unwrap().0
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn list(person: &Person, nodes: &[NodeId]) -> Vec<u8> {
    Delegations::sign(&person.key, &person.certificate, nodes, NOW_MS, NOW + 1000).unwrap()
}

#[test]
fn a_user_certificate_says_whose_the_key_is() {
    let authority = authority();
    let alice = person(&authority, "Alice@Example.net", NOW);
    let read = UserCertificate::verify(&Es256, alice.certificate.der(), authority.certificate(), NOW).unwrap();
    assert_eq!(read, alice.certificate);
    assert_eq!(read.address(), "alice@example.net");
}

#[test]
fn a_user_certificate_of_another_authority_or_out_of_time_is_refused() {
    let (authority, other) = (authority(), authority());
    let alice = person(&authority, "alice@example.net", NOW);
    let verify = |authority: &Authority, now| {
        UserCertificate::verify(&Es256, alice.certificate.der(), authority.certificate(), now)
    };
    assert!(matches!(verify(&other, NOW), Err(Error::Issuer { .. })));
    assert!(matches!(verify(&authority, NOW + USER_LIFETIME.as_secs() + 1), Err(Error::Expired { .. })));
    assert!(alice.certificate.check_time(NOW + USER_LIFETIME.as_secs() + 1).is_err());
}

#[test]
fn a_nodes_certificate_is_no_users_and_a_users_no_nodes() {
    let authority = authority();
    let alice = person(&authority, "alice@example.net", NOW);
    let node = authority
        .certify_node(
            alice.certificate.public_key(),
            meshtone_identity::LinkKey::from_bytes([1; 32]),
            [2; 16],
            NOW,
            USER_LIFETIME,
        )
        .unwrap();
    let home = authority.issue_home(&node, "example.net", NOW, USER_LIFETIME).unwrap();
    for der in [node.der(), home.der()] {
        assert!(UserCertificate::verify(&Es256, der, authority.certificate(), NOW).is_err());
    }
    let der = alice.certificate.der();
    assert!(meshtone_identity::HomeCertificate::verify(der, authority.certificate(), NOW).is_err());
    assert!(meshtone_identity::NodeCertificate::verify(der, authority.certificate(), NOW).is_err());
}

#[test]
fn a_request_with_a_broken_proof_or_another_form_of_the_address_is_refused() {
    let key = SigningKey::generate().unwrap();
    let mut request = UserRequest::encode(&key, "alice@example.net").unwrap();
    assert_eq!(UserRequest::parse(&request).unwrap().address(), "alice@example.net");
    *request.last_mut().unwrap() ^= 1;
    assert!(UserRequest::parse(&request).is_err());
    assert!(UserRequest::encode(&key, "alice@example.net\r\nBcc: all@example.net").is_err());
    let of_node =
        meshtone_identity::EnrolRequest::encode(&key, meshtone_identity::LinkKey::from_bytes([1; 32])).unwrap();
    assert!(UserRequest::parse(&of_node).is_err());
}

#[test]
fn a_list_of_delegations_reads_back() {
    let alice = person(&authority(), "alice@example.net", NOW);
    for count in [0, 1, MAX_NODES] {
        let nodes: Vec<NodeId> = (0..count).map(|number| node(u8::try_from(number).unwrap())).collect();
        let bytes = list(&alice, &nodes);
        assert!(bytes.len() <= MAX_DELEGATIONS);
        let read = Delegations::verify(&Es256, &bytes, &alice.certificate).unwrap();
        assert_eq!((read.nodes(), read.issued_ms(), read.expires()), (nodes.as_slice(), NOW_MS, NOW + 1000));
        assert_eq!(Delegations::peek(&bytes).unwrap(), read);
    }
    let many = vec![node(1); MAX_NODES + 1];
    let error = Delegations::sign(&alice.key, &alice.certificate, &many, NOW_MS, NOW).unwrap_err();
    assert!(matches!(error, Error::NotPermitted { .. }));
}

#[test]
fn a_list_holds_under_the_certificate_it_was_signed_for_only() {
    let authority = authority();
    let (alice, bob) = (person(&authority, "alice@example.net", NOW), person(&authority, "bob@example.net", NOW));
    let bytes = list(&alice, &[node(1)]);
    assert_eq!(Delegations::verify(&Es256, &bytes, &bob.certificate), Err(Error::Signature));
    // The same key certified anew, or for another address, is another certificate.
    for (address, now) in [("alice@example.net", NOW + 1), ("eve@example.net", NOW)] {
        let other = authority.issue_user(address, alice.certificate.public_key(), now, USER_LIFETIME).unwrap();
        assert_eq!(Delegations::verify(&Es256, &bytes, &other), Err(Error::Signature));
    }
}

#[test]
fn a_list_that_was_changed_or_cut_anywhere_is_refused() {
    let alice = person(&authority(), "alice@example.net", NOW);
    let bytes = list(&alice, &[node(1), node(2)]);
    for index in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[index] ^= 1;
        assert!(Delegations::verify(&Es256, &changed, &alice.certificate).is_err(), "byte {index}");
        assert!(Delegations::peek(&bytes[..index]).is_err(), "cut at {index}");
    }
    assert!(Delegations::peek(&[bytes, vec![0]].concat()).is_err());
}
