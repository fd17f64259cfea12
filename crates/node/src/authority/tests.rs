//! The authority with real keys and a real store; mails are read from the outbox.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};

use meshtone_identity::{Es256, ForeignProof, OverlayId, Signer, SigningKey, UserCertificate};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd};
use tempfile::TempDir;

use super::holder::Holder;
use super::*;
use crate::account::system_random;

const ALICE: &str = "alice@example.net";
const START: u64 = 1_800_000_000;
const NODE: NodeId = NodeId::from_bytes([1; 32]);

struct Office {
    service: Service,
    authority: Arc<Authority>,
    store: Store,
    _folder: TempDir,
}

fn settings(policy: Policy) -> Settings {
    let mail = MailSettings {
        host: "127.0.0.1".to_owned(),
        port: 9,
        security: Security::None,
        account: None,
        from: "meshtone@mesh.example".to_owned(),
        authorities: None,
    };
    Settings { policy, mail: Some(mail), ..Settings::default() }
}

fn office(settings: &Settings) -> Office {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let authority = Arc::new(Authority::create(START).unwrap().0);
    let service = open(&store, &authority, settings, || START);
    Office { service, authority, store, _folder: folder }
}

fn open(store: &Store, authority: &Arc<Authority>, settings: &Settings, now: fn() -> u64) -> Service {
    Service::open(store.clone(), authority.clone(), "mesh.example", settings, None, now, system_random()).unwrap()
}

impl Office {
    fn ask(&self, key: &dyn Signer, address: &str) -> Answer {
        let certification = UserRequest::encode(key, address).unwrap();
        self.service.answer(NODE, &Request::Ask { certification })
    }

    /// The code of the next mail, and whom it goes to.
    fn mail(&self) -> Option<(String, String)> {
        let letter = self.service.mailer.as_ref().unwrap().take()?;
        Some((letter.address, letter.code.to_string()))
    }

    fn prove(&self, key: &dyn Signer, address: &str, code: &str) -> Answer {
        let certification = UserRequest::encode(key, address).unwrap();
        self.service.answer(NODE, &Request::Prove { certification, code: code.to_owned() })
    }

    fn enrol(&self, key: &dyn Signer, address: &str) -> Vec<u8> {
        assert_eq!(self.ask(key, address), Answer::Mailed { is_closed: false });
        let (_, code) = self.mail().unwrap();
        der(self.prove(key, address, &code))
    }
}

fn der(answer: Answer) -> Vec<u8> {
    match answer {
        Answer::Certificate(der) => der,
        Answer::Mailed { .. } | Answer::Renewed { .. } | Answer::Refused(_) => panic!("{answer:?}"),
    }
}

const WRONG: Answer = Answer::Refused(Refusal::WrongCode);

#[test]
fn whoever_reads_the_mailbox_gets_a_certificate_for_his_key() {
    let office = office(&settings(Policy::Invite));
    let key = SigningKey::generate().unwrap();
    assert_eq!(office.ask(&key, "Alice@Example.NET"), Answer::Mailed { is_closed: false });
    let (address, code) = office.mail().unwrap();
    assert_eq!(address, ALICE);
    let der = der(office.prove(&key, ALICE, &code.to_lowercase()));
    let certificate = UserCertificate::verify(&Es256, &der, office.authority.certificate(), START).unwrap();
    assert_eq!((certificate.address(), certificate.public_key()), (ALICE, key.public_key()));
    // The answer was lost; she asks again.
    assert_eq!(office.prove(&key, ALICE, &code), Answer::Certificate(der));
    assert_eq!(office.service.issued().len(), 1);
}

#[test]
fn a_code_is_worth_nothing_to_others() {
    let office = office(&settings(Policy::Invite));
    let (alice, mallory) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    office.ask(&alice, ALICE);
    let (_, code) = office.mail().unwrap();
    assert_eq!(office.prove(&mallory, ALICE, &code), WRONG, "another key");
    assert_eq!(office.prove(&alice, "bob@example.net", &code), WRONG, "another mailbox");
    assert_eq!(office.prove(&alice, ALICE, "AAAA-AAAA"), WRONG);
    assert_eq!(office.prove(&alice, ALICE, "no code at all"), WRONG);
    der(office.prove(&alice, ALICE, &code));
    assert_eq!(office.prove(&mallory, ALICE, &code), WRONG, "after it was used, too");
    assert_eq!(office.service.issued().len(), 1);
}

#[test]
fn the_asker_hears_the_same_whatever_becomes_of_it() {
    let office = office(&settings(Policy::Invite));
    let key = SigningKey::generate().unwrap();
    office.enrol(&key, ALICE);
    let mut mails = 0;
    for _ in 0..10 {
        for address in [ALICE, "nobody@example.net"] {
            assert_eq!(office.ask(&key, address), Answer::Mailed { is_closed: false });
            mails += usize::from(office.mail().is_some());
        }
    }
    assert_eq!(mails, 2 + 3, "no more than three an hour to an address");
}

#[test]
fn a_closed_authority_mails_to_those_alone_who_are_enrolled_and_says_the_same_to_all() {
    let open_office = office(&settings(Policy::Open));
    let key = SigningKey::generate().unwrap();
    open_office.enrol(&key, ALICE);
    let service = open(&open_office.store, &open_office.authority, &settings(Policy::Closed), || START);
    let office = Office { service, ..open_office };
    for (address, is_mailed) in [(ALICE, true), ("eve@example.net", false)] {
        assert_eq!(office.ask(&key, address), Answer::Mailed { is_closed: true });
        assert_eq!(office.mail().is_some(), is_mailed, "{address}");
    }
}

#[test]
fn what_was_issued_is_listed_over_restarts_until_it_runs_out() {
    static LATER: AtomicU64 = AtomicU64::new(START);
    let office = office(&settings(Policy::Invite));
    let key = SigningKey::generate().unwrap();
    let der = office.enrol(&key, ALICE);
    let listed = office.service.issued();
    assert_eq!((listed[0].address.as_str(), listed[0].issued), (ALICE, START));
    assert_eq!(listed[0].certificate, HEXLOWER.encode(&sha256(&der)));
    assert_eq!(listed[0].key, HEXLOWER.encode(&sha256(key.public_key().as_bytes())));
    let again = open(&office.store, &office.authority, &settings(Policy::Invite), || LATER.load(Ordering::Relaxed));
    assert_eq!(again.issued(), listed);
    LATER.store(listed[0].expires + 1, Ordering::Relaxed);
    assert!(again.issued().is_empty());
    assert_eq!(again.standing().certificates, 0);
}

#[test]
fn without_a_mail_server_and_with_a_request_that_nobody_signed_the_answer_is_no() {
    let key = SigningKey::generate().unwrap();
    let mute = office(&Settings::default());
    assert_eq!(mute.ask(&key, ALICE), Answer::Refused(Refusal::NoMail));
    assert_eq!(mute.prove(&key, ALICE, "ABCD-EFGH"), Answer::Refused(Refusal::NoMail));
    let office = office(&settings(Policy::Invite));
    let mut forged = UserRequest::encode(&key, ALICE).unwrap();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for certification in [forged, Vec::new()] {
        let ask = Request::Ask { certification: certification.clone() };
        assert_eq!(office.service.answer(NODE, &ask), Answer::Refused(Refusal::Malformed));
        let prove = Request::Prove { certification, code: "ABCD-EFGH".to_owned() };
        assert_eq!(office.service.answer(NODE, &prove), Answer::Refused(Refusal::Malformed));
    }
    assert!(office.mail().is_none());
}

#[test]
fn an_address_of_the_served_domain_is_not_proved_by_mail() {
    let office = office(&settings(Policy::Open));
    let key = SigningKey::generate().unwrap();
    assert_eq!(office.ask(&key, "alice@Mesh.example"), Answer::Refused(Refusal::HomeDomain));
    assert!(office.mail().is_none());
    assert_eq!(office.ask(&key, "alice@sub.mesh.example"), Answer::Mailed { is_closed: false });
}

/// A company that certifies its people, and one of them with what she shows.
struct Company {
    listed: ForeignAuthority,
    alice: Holder,
}

const EMPLOYEE: &str = "alice@company.example";

fn company(until: i32) -> Company {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Company");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
    params.subject_alt_names = vec![SanType::Rfc822Name(EMPLOYEE.try_into().unwrap())];
    params.not_after = date_time_ymd(until, 1, 1);
    let certificate = params.signed_by(&key, &root).unwrap();
    let listed = holder::listed(root.pem().as_bytes(), &["company.example".to_owned()]).unwrap();
    Company { listed, alice: Holder::read(&certificate.pem(), &key.serialize_pem()).unwrap() }
}

impl Office {
    fn show(&self, key: &dyn Signer, address: &str, holder: &Holder, made: u64) -> Answer {
        let certification = UserRequest::encode(key, address).unwrap();
        let proof = holder.prove(&self.authority.certificate().overlay(), &certification, made).unwrap();
        self.service.answer(NODE, &Request::Show { certification, proof })
    }
}

fn why(answer: Answer) -> String {
    match answer {
        Answer::Refused(refusal) => refusal.to_string(),
        Answer::Certificate(_) | Answer::Mailed { .. } | Answer::Renewed { .. } => panic!("{answer:?}"),
    }
}

#[test]
fn whoever_holds_a_certificate_of_a_listed_authority_is_certified_without_a_mail_for_as_long_as_that_lasts() {
    // The authority's clock says January 2027.
    let Company { listed, alice } = company(2028);
    let office = office(&Settings { foreign: vec![listed], ..Settings::default() });
    let key = SigningKey::generate().unwrap();
    let der = der(office.show(&key, EMPLOYEE, &alice, START));
    let certificate = UserCertificate::verify(&Es256, &der, office.authority.certificate(), START).unwrap();
    assert_eq!((certificate.address(), certificate.public_key()), (EMPLOYEE, key.public_key()));
    let end = u64::try_from(date_time_ymd(2028, 1, 1).unix_timestamp()).unwrap();
    assert_eq!(certificate.not_after(), end.min(START + USER_LIFETIME.as_secs()));
    assert_eq!(office.service.issued()[0].address, EMPLOYEE);
    // Mails are none of its business.
    assert_eq!(office.ask(&key, ALICE), Answer::Refused(Refusal::NoMail));
}

#[test]
fn a_foreign_certificate_that_proves_nothing_is_refused_with_the_reason() {
    let (ours, theirs) = (company(2028), company(2028));
    let office = office(&Settings { foreign: vec![ours.listed.clone()], ..Settings::default() });
    let key = SigningKey::generate().unwrap();
    for (address, holder, made, reason) in [
        (EMPLOYEE, &theirs.alice, START, "no authority that is listed for company.example has issued it"),
        ("bob@company.example", &ours.alice, START, "does not name bob@company.example"),
        ("alice@other.example", &ours.alice, START, "no other authority is listed for addresses of other.example"),
        (EMPLOYEE, &company(2027).alice, START, "has run out"),
        (EMPLOYEE, &ours.alice, START - 1000, "1000 seconds away"),
    ] {
        let said = why(office.show(&key, address, holder, made));
        assert!(said.contains(reason), "{said}");
    }
    let home = office.show(&key, "alice@mesh.example", &ours.alice, START);
    assert_eq!(home, Answer::Refused(Refusal::HomeDomain), "whatever is listed");
    let (certification, other) = (UserRequest::encode(&key, EMPLOYEE).unwrap(), OverlayId::from_bytes([9; 32]));
    let proof = ours.alice.prove(&other, &certification, START).unwrap();
    let said = why(office.service.answer(NODE, &Request::Show { certification: certification.clone(), proof }));
    assert!(said.contains("not signed by the key"), "{said}");
    let none = ForeignProof { chain: Vec::new(), made: START, signature: Vec::new() };
    let said = why(office.service.answer(NODE, &Request::Show { certification, proof: none }));
    assert!(said.contains("no certificate"), "{said}");
    assert!(office.service.issued().is_empty());
}

#[test]
fn a_closed_authority_takes_no_new_people_of_others_and_nobody_gets_certificates_without_end() {
    let Company { listed, alice } = company(2028);
    let closed = Settings { foreign: vec![listed], policy: Policy::Closed, ..Settings::default() };
    let first = office(&closed);
    let key = SigningKey::generate().unwrap();
    assert_eq!(first.show(&key, EMPLOYEE, &alice, START), Answer::Refused(Refusal::Closed));
    let office = office(&Settings { policy: Policy::Open, ..closed });
    let refused = (0..20).find_map(|_| match office.show(&key, EMPLOYEE, &alice, START) {
        Answer::Refused(refusal) => Some(refusal),
        Answer::Certificate(_) | Answer::Mailed { .. } | Answer::Renewed { .. } => None,
    });
    assert_eq!(refused, Some(Refusal::TooManyCertificates));
}

#[test]
fn what_cannot_be_shown_is_said_on_this_side() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    for (certificate, key) in [("", key.as_str()), ("no PEM", &key), (&"A".repeat(holder::MAX_PEM + 1), &key)] {
        assert!(matches!(Holder::read(certificate, key), Err(AskError::Foreign(_))));
    }
    let pem = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    for key in ["", "no key", &pem] {
        assert!(matches!(Holder::read(&pem, key), Err(AskError::Foreign(_))), "{key}");
    }
    assert!(matches!(Holder::read(&pem.repeat(5), &key), Err(AskError::Foreign(_))));
    let unsupported = Holder::read(&pem, &ed25519).unwrap();
    assert!(unsupported.prove(&OverlayId::from_bytes([1; 32]), &[], START).is_err());
}
