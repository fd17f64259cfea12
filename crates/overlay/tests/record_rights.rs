//! Who may write what, with real keys: every way to overstep is refused by name.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{
    Authority, Delegations, EnrolRequest, HomeCertificate, LinkKey, NodeCertificate, Revocation, Rights, Signature,
    Signer, SigningKey,
};
use meshtone_overlay::record::value::Record;
use meshtone_overlay::record::{
    CertificateValidator, CertifiedWriter, Delegated, Kind, Member, NodeAddress, RecordError, ResourceId, Revoked,
    Role, SipRegistration, Validator, writer,
};

const NOW_S: u64 = 1_800_000_000;
const NOW_MS: u64 = NOW_S * 1000;
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

struct Node {
    certificate: NodeCertificate,
    homes: Vec<HomeCertificate>,
    writer: CertifiedWriter,
}

fn node(authority: &Authority, number: u8, domains: &[&str]) -> Node {
    let key = Arc::new(SigningKey::generate().unwrap());
    let link_key = LinkKey::from_bytes([number; 32]);
    let certificate = authority.certify_node(key.public_key(), link_key, [number; 16], NOW_S, YEAR).unwrap();
    let homes = domains.iter().map(|domain| authority.issue_home(&certificate, domain, NOW_S, YEAR).unwrap());
    let homes: Vec<_> = homes.collect();
    let writer = CertifiedWriter::new(key, certificate.clone(), homes.clone(), Delegated::default());
    Node { certificate, homes, writer }
}

fn overlay() -> (Authority, CertificateValidator) {
    let (authority, _) = Authority::create(NOW_S).unwrap();
    let validator = CertificateValidator::new(authority.certificate().clone());
    (authority, validator)
}

fn judge(validator: &CertificateValidator, record: &Record) -> Result<(), RecordError> {
    judge_at(validator, record, NOW_MS)
}

fn judge_at(validator: &CertificateValidator, record: &Record, now_ms: u64) -> Result<(), RecordError> {
    let resource = ResourceId::of_name(&record.value.name);
    validator.validate(now_ms, resource, &record.value, &record.certificates)
}

fn registration() -> Bytes {
    SipRegistration { contacts: 1, max_q: 500, updated_ms: NOW_MS }.encode()
}

fn registered(node: &Node, name: &str) -> Record {
    writer::write(&node.writer, Kind::SipRegistration, name, Some(registration()), HOUR, NOW_MS).unwrap()
}

#[test]
fn a_home_node_speaks_for_its_domain() {
    let (authority, validator) = overlay();
    let home = node(&authority, 1, &["example.org"]);
    let record = registered(&home, "alice@example.org");
    judge(&validator, &record).unwrap();
    // Once more, from the cache.
    judge(&validator, &record).unwrap();
    let removal = writer::write(&home.writer, Kind::SipRegistration, "alice@example.org", None, HOUR, NOW_MS).unwrap();
    judge(&validator, &removal).unwrap();
}

#[test]
fn a_node_that_only_stores_writes_where_it_is_and_nothing_else() {
    let (authority, validator) = overlay();
    let key = Arc::new(SigningKey::generate().unwrap());
    let request = EnrolRequest::encode(&*key, LinkKey::from_bytes([1; 32])).unwrap();
    let request = EnrolRequest::parse(&request).unwrap();
    let certificate = authority.issue_node(&request, Rights::StoreOnly, [1; 16], NOW_S, YEAR).unwrap();
    // Whoever gave it such a certificate made a mistake, and it does not count.
    let homes = vec![authority.issue_home(&certificate, "example.org", NOW_S, YEAR).unwrap()];
    let writer = CertifiedWriter::new(key, certificate.clone(), homes.clone(), Delegated::default());
    let store = Node { certificate, homes, writer };
    let refused = Err(RecordError::NotEntitled("it may write nothing but its own address"));
    assert_eq!(judge(&validator, &registered(&store, "alice@example.org")), refused);
    let home = Bytes::copy_from_slice(store.homes[0].der());
    let said = writer::write(&store.writer, Kind::Certificate, "example.org", Some(home), HOUR, NOW_MS).unwrap();
    assert_eq!(judge(&validator, &said), refused);
    let address = NodeAddress {
        link_key: store.certificate.link_key(),
        addresses: Vec::new(),
        relay: None,
        role: Role::Member,
        version: "0".to_owned(),
    };
    let id = store.certificate.node_id().to_string();
    let own = writer::write(&store.writer, Kind::NodeAddress, &id, Some(address.encode()), HOUR, NOW_MS).unwrap();
    assert_eq!(judge(&validator, &own), Ok(()));
}

#[test]
fn a_revoked_node_speaks_for_nobody_but_what_others_signed_within_stays_good() {
    let (authority, validator) = overlay();
    let home = node(&authority, 1, &["example.org"]);
    let record = registered(&home, "alice@example.org");
    judge(&validator, &record).unwrap();
    let revoked = Revoked::default();
    let validator = validator.without(revoked.clone());
    let id = home.certificate.node_id();
    revoked.insert(Revocation::sign(&authority, id, NOW_S, NOW_S + 1000).unwrap());
    assert_eq!(judge(&validator, &record), Err(RecordError::Revoked));
    judge(&validator, &registered(&node(&authority, 2, &["example.org"]), "alice@example.org")).unwrap();
    let key = SigningKey::generate().unwrap();
    let user = authority.issue_user("alice@example.net", key.public_key(), NOW_S, YEAR).unwrap();
    let list = Delegations::sign(&key, &user, &[id], NOW_MS, NOW_S + 3600).unwrap();
    let said = Member { certificate: Bytes::copy_from_slice(user.der()), delegations: list.into() }.encode();
    let handed_on = writer::write(&home.writer, Kind::Member, "alice@example.net", Some(said), HOUR, NOW_MS).unwrap();
    judge(&validator, &handed_on).unwrap();
}

#[test]
fn nobody_else_speaks_for_an_address() {
    let (authority, validator) = overlay();
    let home = node(&authority, 1, &["example.org"]);
    let mallory = node(&authority, 2, &["evil.example"]);
    let write =
        writer::write(&mallory.writer, Kind::SipRegistration, "alice@example.org", Some(registration()), HOUR, NOW_MS);
    assert!(matches!(write, Err(RecordError::Signing(_))), "its own writer refuses already");

    let honest = registered(&home, "alice@example.org");
    let mut foreign_domain = registered(&mallory, "alice@evil.example");
    foreign_domain.value.name = "alice@example.org".to_owned();
    foreign_domain.value.signature = sign(&mallory, &foreign_domain);
    assert!(matches!(judge(&validator, &foreign_domain), Err(RecordError::NotEntitled(_))));

    let mut borrowed_home = foreign_domain.clone();
    borrowed_home.certificates[1] = Bytes::copy_from_slice(home.homes[0].der());
    assert!(matches!(judge(&validator, &borrowed_home), Err(RecordError::Certificate(_))));

    let mut borrowed_both = foreign_domain.clone();
    borrowed_both.certificates = honest.certificates.clone();
    assert!(matches!(judge(&validator, &borrowed_both), Err(RecordError::NotEntitled(_))));

    let mut in_its_name = honest.clone();
    in_its_name.value.signature = sign(&mallory, &honest);
    assert_eq!(judge(&validator, &in_its_name), Err(RecordError::Signature));
}

#[test]
fn every_part_of_a_value_is_under_the_signature() {
    let (authority, validator) = overlay();
    let home = node(&authority, 1, &["example.org"]);
    let honest = registered(&home, "alice@example.org");
    let changes: [fn(&mut Record); 6] = [
        |record| record.value.name = "bob@example.org".to_owned(),
        |record| record.value.storage_ms += 1,
        |record| record.value.lifetime_s += 1,
        |record| record.value.content = SipRegistration { contacts: 2, max_q: 0, updated_ms: 0 }.encode(),
        |record| {
            record.value.exists = false;
            record.value.content = Bytes::new();
        },
        |record| record.value.signature = Signature::from_bytes([0; 64]),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut changed = honest.clone();
        change(&mut changed);
        assert_eq!(judge(&validator, &changed), Err(RecordError::Signature), "change {number}");
    }
}

#[test]
fn certificates_of_another_overlay_or_out_of_date_are_refused() {
    let (authority, validator) = overlay();
    let (foreign, _) = overlay();
    let stranger = node(&foreign, 1, &["example.org"]);
    assert!(matches!(judge(&validator, &registered(&stranger, "alice@example.org")), Err(RecordError::Certificate(_))));

    let home = node(&authority, 1, &["example.org"]);
    let record = registered(&home, "alice@example.org");
    judge(&validator, &record).unwrap();
    let later_s = NOW_S + YEAR.as_secs() + 1;
    let storage_ms = later_s * 1000;
    let late =
        writer::write(&home.writer, Kind::SipRegistration, "alice@example.org", Some(registration()), HOUR, storage_ms)
            .unwrap();
    assert!(
        matches!(judge_at(&validator, &late, storage_ms), Err(RecordError::Certificate(_))),
        "not even from the cache"
    );

    let mut bare = record.clone();
    bare.certificates.truncate(1);
    assert!(matches!(judge(&validator, &bare), Err(RecordError::MissingCertificate(_))));
    bare.certificates.clear();
    assert!(matches!(judge(&validator, &bare), Err(RecordError::MissingCertificate(_))));
    let mut stuffed = record;
    stuffed.certificates.push(Bytes::from_static(&[0; 4096]));
    assert!(judge(&validator, &stuffed).is_err());
}

#[test]
fn a_node_writes_its_own_address_with_its_own_link_key() {
    let (authority, validator) = overlay();
    let (one, two) = (node(&authority, 1, &[]), node(&authority, 2, &[]));
    let address = |link_key| {
        let address =
            NodeAddress { link_key, addresses: Vec::new(), relay: None, role: Role::Member, version: "1".to_owned() };
        Some(address.encode())
    };
    let name = one.certificate.node_id().to_string();
    let lifetime = Duration::from_secs(600);
    let write = |node: &Node, link_key| {
        writer::write(&node.writer, Kind::NodeAddress, &name, address(link_key), lifetime, NOW_MS).unwrap()
    };
    judge(&validator, &write(&one, one.certificate.link_key())).unwrap();
    let foreign_key = write(&one, two.certificate.link_key());
    assert!(matches!(judge(&validator, &foreign_key), Err(RecordError::Content(_))));
    let foreign_node = write(&two, two.certificate.link_key());
    assert!(matches!(judge(&validator, &foreign_node), Err(RecordError::NotEntitled(_))));
}

#[test]
fn a_home_certificate_is_published_by_its_holder_under_its_domain() {
    let (authority, validator) = overlay();
    let home = node(&authority, 1, &["example.org", "example.net"]);
    let other = node(&authority, 2, &["example.org"]);
    let write = |node: &Node, name: &str, home: &HomeCertificate| {
        let content = Some(Bytes::copy_from_slice(home.der()));
        writer::write(&node.writer, Kind::Certificate, name, content, HOUR, NOW_MS).unwrap()
    };
    judge(&validator, &write(&home, "example.org", &home.homes[0])).unwrap();
    let other_domain = write(&home, "example.org", &home.homes[1]);
    assert!(matches!(judge(&validator, &other_domain), Err(RecordError::NotEntitled(_))));
    let other_holder = write(&home, "example.org", &other.homes[0]);
    assert!(matches!(judge(&validator, &other_holder), Err(RecordError::Certificate(_))));
}

#[test]
fn times_sizes_and_lifetimes_have_bounds() {
    let (authority, validator) = overlay();
    let home = node(&authority, 1, &["example.org"]);
    let at = |storage_ms| {
        writer::write(&home.writer, Kind::SipRegistration, "alice@example.org", Some(registration()), HOUR, storage_ms)
            .unwrap()
    };
    judge(&validator, &at(NOW_MS + 300_000)).unwrap();
    assert!(matches!(judge(&validator, &at(NOW_MS + 300_001)), Err(RecordError::FromTheFuture { ahead_ms: 300_001 })));
    judge(&validator, &at(NOW_MS - 3_599_999)).unwrap();
    assert_eq!(judge(&validator, &at(NOW_MS - 3_600_000)), Err(RecordError::Expired));

    let write = |content, lifetime| {
        writer::write(&home.writer, Kind::SipRegistration, "alice@example.org", Some(content), lifetime, NOW_MS)
    };
    assert!(matches!(write(registration(), Duration::ZERO), Err(RecordError::Lifetime { .. })));
    assert!(matches!(write(registration(), HOUR * 3), Err(RecordError::Lifetime { .. })));
    assert!(matches!(write(Bytes::from_static(&[0; 257]), HOUR), Err(RecordError::TooLarge { size: 257, max: 256 })));
    let nonsense = write(Bytes::from_static(b"nonsense"), HOUR).unwrap();
    assert!(matches!(judge(&validator, &nonsense), Err(RecordError::Malformed(_))));
}

fn sign(node: &Node, record: &Record) -> Signature {
    use meshtone_overlay::record::Writer;
    node.writer.sign(&record.value.signing_input()).unwrap()
}
