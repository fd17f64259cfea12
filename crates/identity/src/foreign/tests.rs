#![allow(clippy::unwrap_used)]

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyPair, KeyUsagePurpose, NameConstraints, PKCS_RSA_SHA256, RsaKeySize, SanType, SigningKey as _, date_time_ymd,
};

use super::*;
use crate::SigningKey;

/// In March 2027.
const NOW: u64 = 1_804_000_000;
const ALICE: &str = "alice@company.example";
const OVERLAY: OverlayId = OverlayId::from_bytes([7; 32]);

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// What is wrong, if anything, with what Alice shows.
#[derive(Default)]
struct Wish {
    name: Option<SanType>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    key_usages: Vec<KeyUsagePurpose>,
    is_ca: bool,
    until: Option<i32>,
}

fn params(name: &str, is_ca: IsCa) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2036, 1, 1);
    params.is_ca = is_ca;
    params
}

fn root(name: &str) -> Issuer {
    let params = params(name, IsCa::Ca(BasicConstraints::Unconstrained));
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn mailbox(address: &str) -> SanType {
    SanType::Rfc822Name(Ia5String::try_from(address).unwrap())
}

fn uri(uri: &str) -> SanType {
    SanType::URI(Ia5String::try_from(uri).unwrap())
}

/// A certificate of this issuer for Alice's mailbox, or as she wishes.
fn certified(issuer: &Issuer, key: &KeyPair, wish: Wish) -> Vec<u8> {
    let is_ca = if wish.is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    let mut params = params("Alice", is_ca);
    params.subject_alt_names = vec![wish.name.unwrap_or_else(|| mailbox(ALICE))];
    params.extended_key_usages = wish.usages;
    params.key_usages = wish.key_usages;
    if let Some(year) = wish.until {
        params.not_after = date_time_ymd(year, 1, 1);
    }
    params.signed_by(key, issuer).unwrap().der().to_vec()
}

fn listed(roots: &[&Issuer]) -> Vec<ForeignAuthority> {
    let ders = roots.iter().map(|root| root.der().to_vec()).collect();
    vec![ForeignAuthority::new(ders, &["Company.example".to_owned()]).unwrap()]
}

/// What Alice sends.
struct Sent {
    request: UserRequest,
    certification: Vec<u8>,
    proof: ForeignProof,
}

fn sends(address: &str, chain: Vec<Vec<u8>>, key: &KeyPair) -> Sent {
    let certification = UserRequest::encode(&SigningKey::generate().unwrap(), address).unwrap();
    let request = UserRequest::parse(&certification).unwrap();
    let signature = key.sign(&ForeignProof::input(&OVERLAY, &certification, NOW)).unwrap();
    Sent { request, certification, proof: ForeignProof { chain, made: NOW, signature } }
}

impl Sent {
    fn judged_by(&self, listed: &[ForeignAuthority]) -> Result<u64, ForeignError> {
        verify(listed, &OVERLAY, (&self.request, &self.certification), &self.proof, NOW)
    }
}

/// The verdict on a certificate of the company's root that is as wished.
fn verdict(wish: Wish) -> Result<u64, ForeignError> {
    let (company, key) = (root("Company"), KeyPair::generate().unwrap());
    sends(ALICE, vec![certified(&company, &key, wish)], &key).judged_by(&listed(&[&company]))
}

fn end_of(year: i32) -> u64 {
    u64::try_from(date_time_ymd(year, 1, 1).unix_timestamp()).unwrap()
}

#[test]
fn the_holder_of_a_companys_certificate_has_the_address_that_it_names_for_as_long_as_it_lasts() {
    assert_eq!(verdict(Wish::default()), Ok(end_of(2036)));
    let until = Wish { until: Some(2028), usages: vec![ExtendedKeyUsagePurpose::EmailProtection], ..Wish::default() };
    assert_eq!(verdict(until), Ok(end_of(2028)));
    for name in [mailbox("alice@COMPANY.example"), uri("sip:alice@company.example")] {
        assert!(verdict(Wish { name: Some(name), ..Wish::default() }).is_ok());
    }
}

#[test]
fn keys_of_rsa_are_as_good_as_those_on_curves() {
    let rsa = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let params = params("Company", IsCa::Ca(BasicConstraints::Unconstrained));
    let company = CertifiedIssuer::self_signed(params, rsa()).unwrap();
    let key = rsa();
    let sent = sends(ALICE, vec![certified(&company, &key, Wish::default())], &key);
    assert_eq!(sent.judged_by(&listed(&[&company])), Ok(end_of(2036)));
}

#[test]
fn an_authority_between_has_to_be_one_and_to_be_shown() {
    let (company, key) = (root("Company"), KeyPair::generate().unwrap());
    let between = |is_ca: IsCa, usages: Vec<KeyUsagePurpose>| {
        let mut params = params("Department", is_ca);
        params.key_usages = usages;
        CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &company).unwrap()
    };
    let judged = |department: &Issuer, with_it: bool| {
        let mut chain = vec![certified(department, &key, Wish::default())];
        chain.extend(with_it.then(|| department.der().to_vec()));
        sends(ALICE, chain, &key).judged_by(&listed(&[&company]))
    };
    let authority = IsCa::Ca(BasicConstraints::Constrained(0));
    let department = between(authority, vec![KeyUsagePurpose::KeyCertSign]);
    assert_eq!(judged(&department, true), Ok(end_of(2036)));
    assert_eq!(judged(&department, false), Err(ForeignError::Issuer("company.example".to_owned())));
    for person in [between(IsCa::ExplicitNoCa, vec![]), between(authority, vec![KeyUsagePurpose::DigitalSignature])] {
        assert!(matches!(judged(&person, true), Err(ForeignError::Role(_))), "{:?}", judged(&person, true));
    }
}

#[test]
fn who_is_not_listed_for_the_domain_is_not_believed_about_it() {
    let (company, other, key) = (root("Company"), root("Company"), KeyPair::generate().unwrap());
    let sent = sends(ALICE, vec![certified(&other, &key, Wish::default())], &key);
    assert_eq!(sent.judged_by(&listed(&[&company])), Err(ForeignError::Issuer("company.example".to_owned())));
    let elsewhere = "alice@sub.company.example";
    let wish = Wish { name: Some(mailbox(elsewhere)), ..Wish::default() };
    let sent = sends(elsewhere, vec![certified(&company, &key, wish)], &key);
    let refused = Err(ForeignError::Unlisted("sub.company.example".to_owned()));
    assert_eq!(sent.judged_by(&listed(&[&company])), refused);
    assert_eq!(sent.judged_by(&[]), refused);
}

#[test]
fn a_certificate_of_another_address_domain_or_kind_proves_nothing() {
    let not_named = Err(ForeignError::Name(ALICE.to_owned()));
    let names = ["bob@company.example", "alice@company.example.test", "alice"].map(mailbox);
    for name in names.into_iter().chain([uri("sip:bob@company.example"), uri("https://company.example")]) {
        assert_eq!(verdict(Wish { name: Some(name.clone()), ..Wish::default() }), not_named, "{name:?}");
    }
    let server = Wish { usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..Wish::default() };
    assert!(matches!(verdict(server), Err(ForeignError::Usage(_))));
    let encrypts = Wish { key_usages: vec![KeyUsagePurpose::KeyEncipherment], ..Wish::default() };
    assert!(matches!(verdict(encrypts), Err(ForeignError::Usage(_))));
    assert!(matches!(verdict(Wish { is_ca: true, ..Wish::default() }), Err(ForeignError::Role(_))));
}

#[test]
fn whoever_has_the_certificate_of_a_sip_domain_speaks_for_its_addresses() {
    let domain = |usages| verdict(Wish { name: Some(uri("sip:company.example")), usages, ..Wish::default() });
    let sip_domain = ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 20]);
    assert_eq!(domain(vec![sip_domain]), Ok(end_of(2036)));
    assert!(matches!(domain(vec![ExtendedKeyUsagePurpose::ServerAuth]), Err(ForeignError::Usage(_))));
    assert!(matches!(domain(vec![]), Err(ForeignError::Usage(_))), "a web server's may look so");
}

#[test]
fn time_and_constraints_are_kept() {
    assert_eq!(verdict(Wish { until: Some(2027), ..Wish::default() }), Err(ForeignError::Expired));
    let key = KeyPair::generate().unwrap();
    let constrained = |subtree: GeneralSubtree| {
        let mut params = params("Company", IsCa::Ca(BasicConstraints::Unconstrained));
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: vec![subtree], excluded_subtrees: Vec::new() });
        let department = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let sent = sends(ALICE, vec![certified(&department, &key, Wish::default())], &key);
        sent.judged_by(&listed(&[&department]))
    };
    assert_eq!(constrained(GeneralSubtree::Rfc822Name("other.example".to_owned())), Err(ForeignError::Constraint));
    assert!(constrained(GeneralSubtree::DnsName("company.example".to_owned())).is_ok(), "it names no host");
}

#[test]
fn the_proof_is_of_the_certified_key_for_this_request_overlay_and_time() {
    let (company, key) = (root("Company"), KeyPair::generate().unwrap());
    let chain = vec![certified(&company, &key, Wish::default())];
    let listed = listed(&[&company]);
    let thief = sends(ALICE, chain.clone(), &KeyPair::generate().unwrap());
    assert_eq!(thief.judged_by(&listed), Err(ForeignError::Possession), "a certificate is no secret");
    let honest = sends(ALICE, chain.clone(), &key);
    let copied = Sent { proof: honest.proof.clone(), ..sends(ALICE, chain, &key) };
    assert_eq!(copied.judged_by(&listed), Err(ForeignError::Possession), "for another key of the overlay");
    let elsewhere =
        verify(&listed, &OverlayId::from_bytes([8; 32]), (&honest.request, &honest.certification), &honest.proof, NOW);
    assert_eq!(elsewhere, Err(ForeignError::Possession));
    for now in [NOW - FRESH_S - 1, NOW + FRESH_S + 1] {
        let late = verify(&listed, &OVERLAY, (&honest.request, &honest.certification), &honest.proof, now);
        assert_eq!(late, Err(ForeignError::Stale(FRESH_S + 1)));
    }
    let redated = ForeignProof { made: NOW + 1, ..honest.proof.clone() };
    let redated = Sent { proof: redated, ..honest };
    assert_eq!(redated.judged_by(&listed), Err(ForeignError::Possession));
}

#[test]
fn what_is_no_chain_is_refused_whole_or_cut() {
    let (company, key) = (root("Company"), KeyPair::generate().unwrap());
    let der = certified(&company, &key, Wish::default());
    let listed = listed(&[&company]);
    for end in 0..der.len() {
        assert!(sends(ALICE, vec![der[..end].to_vec()], &key).judged_by(&listed).is_err(), "cut at {end}");
    }
    let longer = [der.clone(), vec![0]].concat();
    for chain in [vec![], vec![der.clone(); MAX_CHAIN + 1], vec![vec![0; MAX_CHAIN_LEN + 1]], vec![longer]] {
        assert!(matches!(sends(ALICE, chain, &key).judged_by(&listed), Err(ForeignError::Malformed(_))));
    }
    assert!(ForeignAuthority::new(vec![vec![1, 2, 3]], &["a.example".to_owned()]).is_err());
    assert!(ForeignAuthority::new(vec![], &["a.example".to_owned()]).is_err());
    assert!(ForeignAuthority::new(vec![der], &[]).is_err());
}

#[test]
fn a_domains_key_is_in_a_certificate_that_names_it_and_comes_from_whom_is_listed_for_it() {
    let (company, key) = (root("Company"), KeyPair::generate().unwrap());
    let judged = |name: SanType, usages: Vec<ExtendedKeyUsagePurpose>| {
        let der = certified(&company, &key, Wish { name: Some(name), usages, ..Wish::default() });
        domain_key(&listed(&[&company]), "company.example", &[der], NOW)
    };
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let sip_domain = ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 20]);
    let found = judged(uri("sip:company.example"), vec![]).unwrap();
    assert_eq!(found.as_bytes().as_slice(), key.public_key_raw());
    for usages in [vec![sip_domain], vec![ExtendedKeyUsagePurpose::ServerAuth], vec![]] {
        assert_eq!(judged(dns("Company.example"), usages), Ok(found));
    }
    let for_mail = judged(dns("company.example"), vec![ExtendedKeyUsagePurpose::EmailProtection]);
    assert!(matches!(for_mail, Err(ForeignError::Usage(_))));
    let others = ["*.company.example", "example", "sub.company.example"].map(dns);
    for name in others.into_iter().chain([uri("sip:alice@company.example"), mailbox(ALICE)]) {
        assert_eq!(judged(name, vec![]), Err(ForeignError::Name("company.example".to_owned())));
    }
    let der = certified(&company, &key, Wish { name: Some(dns("company.example")), ..Wish::default() });
    let chain = [der];
    let unlisted = domain_key(&listed(&[&company]), "other.example", &chain, NOW);
    assert_eq!(unlisted, Err(ForeignError::Unlisted("other.example".to_owned())));
    let strangers = domain_key(&listed(&[&root("Company")]), "company.example", &chain, NOW);
    assert_eq!(strangers, Err(ForeignError::Issuer("company.example".to_owned())));
    assert_eq!(domain_key(&listed(&[&company]), "company.example", &chain, end_of(2037)), Err(ForeignError::Expired));
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let der = certified(&company, &rsa, Wish { name: Some(dns("company.example")), ..Wish::default() });
    let judged = domain_key(&listed(&[&company]), "company.example", &[der], NOW);
    assert!(matches!(judged, Err(ForeignError::Usage(_))), "ES256 is what is signed with");
}
