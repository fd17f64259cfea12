//! Who may speak for a person that proved an address of her own, with real keys: every way to overstep is refused by name.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{
    Authority, Delegations, HomeCertificate, LinkKey, NodeCertificate, NodeId, SigningKey, UserCertificate,
};
use meshtone_overlay::record::value::Record;
use meshtone_overlay::record::{
    CertificateValidator, CertifiedWriter, Delegated, Kind, Member, RecordError, ResourceId, SipRegistration,
    Validator, Writer, writer,
};

const NOW_S: u64 = 1_800_000_000;
const NOW_MS: u64 = NOW_S * 1000;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
const ALICE: &str = "alice@example.net";

/// What a liar does to a record.
type Change = fn(&mut Record);

struct Node {
    certificate: NodeCertificate,
    key: Arc<SigningKey>,
    delegated: Delegated,
    writer: CertifiedWriter,
}

impl Node {
    fn id(&self) -> NodeId {
        self.certificate.node_id()
    }
}

struct Person {
    key: SigningKey,
    certificate: UserCertificate,
}

fn node(authority: &Authority, number: u8) -> Node {
    let key = Arc::new(SigningKey::generate().unwrap());
    let link_key = LinkKey::from_bytes([number; 32]);
    let certificate = authority
        .certify_node(meshtone_identity::Signer::public_key(&*key), link_key, [number; 16], NOW_S, YEAR)
        .unwrap();
    let delegated = Delegated::default();
    let homes: Vec<HomeCertificate> = vec![authority.issue_home(&certificate, "example.org", NOW_S, YEAR).unwrap()];
    let writer = CertifiedWriter::new(key.clone(), certificate.clone(), homes, delegated.clone());
    Node { certificate, key, delegated, writer }
}

fn person(authority: &Authority, address: &str) -> Person {
    let key = SigningKey::generate().unwrap();
    let certificate = authority.issue_user(address, meshtone_identity::Signer::public_key(&key), NOW_S, YEAR).unwrap();
    Person { key, certificate }
}

impl Person {
    fn says(&self, nodes: &[NodeId], issued_ms: u64, expires: u64) -> Member {
        let list = Delegations::sign(&self.key, &self.certificate, nodes, issued_ms, expires).unwrap();
        Member { certificate: Bytes::copy_from_slice(self.certificate.der()), delegations: list.into() }
    }
}

fn overlay() -> (Authority, CertificateValidator) {
    let (authority, _) = Authority::create(NOW_S).unwrap();
    let validator = CertificateValidator::new(authority.certificate().clone());
    (authority, validator)
}

fn judge(validator: &CertificateValidator, record: &Record, now_ms: u64) -> Result<(), RecordError> {
    validator.validate(now_ms, ResourceId::of_name(&record.value.name), &record.value, &record.certificates)
}

fn registered(node: &Node) -> Result<Record, RecordError> {
    let content = SipRegistration { contacts: 1, max_q: 500, updated_ms: NOW_MS }.encode();
    writer::write(&node.writer, Kind::SipRegistration, ALICE, Some(content), HOUR, NOW_MS)
}

/// The person's list as this node hands it on, with a lifetime of a day.
fn handed_on(node: &Node, name: &str, member: &Member) -> Record {
    writer::write(&node.writer, Kind::Member, name, Some(member.encode()), DAY, NOW_MS + 5000).unwrap()
}

fn resigned(node: &Node, mut record: Record, change: impl FnOnce(&mut Record)) -> Record {
    change(&mut record);
    record.value.signature = node.writer.sign(&record.value.signing_input()).unwrap();
    record
}

#[test]
fn a_node_that_a_person_names_speaks_for_her() {
    let (authority, validator) = overlay();
    let (desk, alice) = (node(&authority, 1), person(&authority, ALICE));
    assert!(matches!(registered(&desk), Err(RecordError::Signing(_))), "not before she says so");
    desk.delegated.set(ALICE, alice.says(&[desk.id()], NOW_MS, NOW_S + 86_400));
    let record = registered(&desk).unwrap();
    judge(&validator, &record, NOW_MS).unwrap();
    // Once more, from the cache.
    judge(&validator, &record, NOW_MS).unwrap();
    desk.delegated.remove(ALICE);
    assert!(registered(&desk).is_err());
}

#[test]
fn nobody_else_speaks_for_her() {
    let (authority, validator) = overlay();
    let (desk, mallory) = (node(&authority, 1), node(&authority, 2));
    let (alice, eve) = (person(&authority, ALICE), person(&authority, "eve@example.net"));
    let now = |record: &Record| judge(&validator, record, NOW_MS);
    // Her list names another node.
    mallory.delegated.set(ALICE, alice.says(&[desk.id()], NOW_MS, NOW_S + 86_400));
    assert!(matches!(now(&registered(&mallory).unwrap()), Err(RecordError::NotEntitled(_))));
    // Somebody else's certificate, with his own list.
    mallory.delegated.set(ALICE, eve.says(&[mallory.id()], NOW_MS, NOW_S + 86_400));
    assert!(matches!(now(&registered(&mallory).unwrap()), Err(RecordError::NotEntitled(_))));
    // Her certificate, with a list that somebody else signed.
    let forged = Member {
        certificate: Bytes::copy_from_slice(alice.certificate.der()),
        ..eve.says(&[mallory.id()], NOW_MS, NOW_S + 86_400)
    };
    mallory.delegated.set(ALICE, forged);
    assert!(matches!(now(&registered(&mallory).unwrap()), Err(RecordError::Certificate(_))));
    // The domain of her mailbox is nobody's: a home certificate for another one is of no use.
    let home = authority.issue_home(&mallory.certificate, "example.org", NOW_S, YEAR).unwrap();
    let record = resigned(&mallory, registered(&mallory).unwrap(), |record| {
        record.certificates.truncate(1);
        record.certificates.push(Bytes::copy_from_slice(home.der()));
    });
    assert!(matches!(now(&record), Err(RecordError::NotEntitled(_))));
    // A certificate of another authority.
    let stranger = person(&Authority::create(NOW_S).unwrap().0, ALICE);
    mallory.delegated.set(ALICE, stranger.says(&[mallory.id()], NOW_MS, NOW_S + 86_400));
    assert!(matches!(now(&registered(&mallory).unwrap()), Err(RecordError::Certificate(_))));
    assert!(meshtone_identity::Signer::public_key(&*mallory.key) != meshtone_identity::Signer::public_key(&*desk.key));
}

#[test]
fn a_list_ends_when_it_says() {
    let (authority, validator) = overlay();
    let (desk, alice) = (node(&authority, 1), person(&authority, ALICE));
    desk.delegated.set(ALICE, alice.says(&[desk.id()], NOW_MS, NOW_S + 60));
    let record = registered(&desk).unwrap();
    judge(&validator, &record, NOW_MS + 60_000).unwrap();
    assert!(matches!(judge(&validator, &record, NOW_MS + 61_000), Err(RecordError::NotEntitled(_))));
}

#[test]
fn what_she_says_is_handed_on_by_anybody_with_its_own_date() {
    let (authority, validator) = overlay();
    let (desk, other) = (node(&authority, 1), node(&authority, 2));
    let alice = person(&authority, ALICE);
    let member = alice.says(&[desk.id()], NOW_MS - 1000, NOW_S + 100_000);
    for node in [&desk, &other] {
        let record = handed_on(node, ALICE, &member);
        assert_eq!(record.value.storage_ms, NOW_MS - 1000, "not when it was handed on");
        judge(&validator, &record, NOW_MS).unwrap();
    }
    let later = alice.says(&[], NOW_MS, NOW_S + 100_000);
    let (later, earlier) = (handed_on(&other, ALICE, &later), handed_on(&desk, ALICE, &member));
    assert!(later.value.supersedes(&earlier.value) && !earlier.value.supersedes(&later.value));
    assert_eq!(later.value.key, earlier.value.key, "the later list takes the place of the earlier");
    let renewed = person(&authority, ALICE).says(&[], NOW_MS, NOW_S + 100_000);
    assert_ne!(handed_on(&desk, ALICE, &renewed).value.key, later.value.key, "another certificate has its own place");
}

#[test]
fn an_old_list_cannot_be_brought_back_prolonged_or_ended_by_others() {
    let (authority, validator) = overlay();
    let (desk, alice) = (node(&authority, 1), person(&authority, ALICE));
    let member = alice.says(&[desk.id()], NOW_MS, NOW_S + 86_400);
    let record = handed_on(&desk, ALICE, &member);
    let changes: [(&str, Change); 5] = [
        ("dated anew", |record| record.value.storage_ms += 1000),
        ("kept for longer", |record| record.value.lifetime_s += 1),
        ("under another key", |record| record.value.key = vec![7; 32]),
        ("under the writer's key", |record| record.value.key = record.value.signer.as_bytes().to_vec()),
        ("removed", |record| {
            record.value.exists = false;
            record.value.content = Bytes::new();
        }),
    ];
    judge(&validator, &record, NOW_MS).unwrap();
    for (how, change) in changes {
        let changed = resigned(&desk, record.clone(), change);
        assert!(matches!(judge(&validator, &changed, NOW_MS), Err(RecordError::NotEntitled(_))), "{how}");
    }
    // Nor does anybody's certificate stand under somebody else's name.
    let elsewhere = handed_on(&desk, "bob@example.net", &member);
    assert!(matches!(judge(&validator, &elsewhere, NOW_MS), Err(RecordError::NotEntitled(_))));
}
