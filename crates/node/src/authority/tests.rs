//! The authority with real keys and a real store; mails are read from the outbox.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};

use meshtone_identity::{Es256, Signer, SigningKey, UserCertificate};
use tempfile::TempDir;

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
