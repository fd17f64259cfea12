//! What makes a certificate or a request be refused, through the public API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use meshtone_identity::authority::NODE_LIFETIME;
use meshtone_identity::{
    Authority, AuthorityCertificate, EnrolRequest, Error, HomeCertificate, LinkKey, NodeCertificate, NodeId, Rights,
    Signer, SigningKey,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType,
};

const NOW: u64 = 1_800_000_000;
const LINK: LinkKey = LinkKey::from_bytes([7; 32]);
const SALT: [u8; 16] = [3; 16];

fn authority() -> Authority {
    Authority::create(NOW).unwrap().0
}

fn node(authority: &Authority) -> NodeCertificate {
    let key = SigningKey::generate().unwrap();
    let request = EnrolRequest::parse(&EnrolRequest::encode(&key, LINK).unwrap()).unwrap();
    authority.issue_node(&request, Rights::Full, SALT, NOW, NODE_LIFETIME).unwrap()
}

/// An authority whose every word can be chosen: what a forger, or a careless authority, might write.
struct Scribe {
    key: KeyPair,
    params: CertificateParams,
    certificate: AuthorityCertificate,
}

impl Scribe {
    fn new() -> Self {
        let params = Self::authority_params();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = AuthorityCertificate::parse(params.self_signed(&key).unwrap().der()).unwrap();
        Self { key, params, certificate }
    }

    fn authority_params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Meshtone authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }

    /// A node certificate as it should be, but for what `change` does to it.
    fn node(&self, change: impl FnOnce(&mut CertificateParams)) -> Result<NodeCertificate, Error> {
        self.write(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), change)
    }

    fn write(&self, subject: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Result<NodeCertificate, Error> {
        let mut params = CertificateParams::default();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names =
            vec![uri(&format!("meshtone-link:{LINK}")), uri(&format!("meshtone-salt:{}", "03".repeat(16)))];
        change(&mut params);
        let issuer = Issuer::from_params(&self.params, &self.key);
        let der = params.signed_by(subject, &issuer).unwrap();
        NodeCertificate::verify(der.der(), &self.certificate, NOW)
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn is_malformed<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Malformed { .. }))
}

fn is_not_permitted<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::NotPermitted { .. }))
}

#[test]
fn what_a_node_may_do_stands_in_its_certificate_and_stays_when_that_is_renewed() {
    let authority = authority();
    let key = SigningKey::generate().unwrap();
    let request = EnrolRequest::parse(&EnrolRequest::encode(&key, LINK).unwrap()).unwrap();
    for (rights, may_serve, may_speak) in
        [(Rights::Full, true, true), (Rights::StoreOnly, true, false), (Rights::UseOnly, false, true)]
    {
        let issued = authority.issue_node(&request, rights, SALT, NOW, NODE_LIFETIME).unwrap();
        let read = NodeCertificate::verify(issued.der(), authority.certificate(), NOW).unwrap();
        assert_eq!((read.rights(), rights.may_serve(), rights.may_speak()), (rights, may_serve, may_speak));
        let renewed = authority.renew_node(&read, read.rights(), NOW + 1, NODE_LIFETIME).unwrap();
        assert_eq!((renewed.rights(), renewed.node_id()), (rights, read.node_id()));
    }
}

#[test]
fn rights_that_nobody_knows_or_that_are_said_twice_are_refused() {
    let scribe = Scribe::new();
    let with = |more: &[&str]| scribe.node(|params| params.subject_alt_names.extend(more.iter().map(|text| uri(text))));
    assert_eq!(with(&["meshtone-may:use"]).unwrap().rights(), Rights::UseOnly);
    for more in [&["meshtone-may:all"][..], &["meshtone-may:"], &["meshtone-may:use", "meshtone-may:store"]] {
        assert!(is_malformed(&with(more)), "{more:?}");
    }
}

#[test]
fn a_node_enrols_and_its_certificates_verify() {
    let authority = authority();
    let key = SigningKey::generate().unwrap();
    let request = EnrolRequest::parse(&EnrolRequest::encode(&key, LINK).unwrap()).unwrap();
    let issued = authority.issue_node(&request, Rights::Full, SALT, NOW, NODE_LIFETIME).unwrap();

    let node = NodeCertificate::verify(issued.der(), authority.certificate(), NOW + 86_400).unwrap();
    assert_eq!(node.public_key(), key.public_key());
    assert_eq!(node.link_key(), LINK);
    assert_eq!(node.node_id(), NodeId::derive(key.public_key(), &SALT));
    assert_eq!(node.not_after(), NOW + NODE_LIFETIME.as_secs());

    let home = authority.issue_home(&node, "Example.ORG", NOW, NODE_LIFETIME).unwrap();
    let home = HomeCertificate::verify(home.der(), authority.certificate(), NOW).unwrap();
    assert_eq!((home.domain(), home.node_id()), ("example.org", node.node_id()));
    home.check_holder(&node).unwrap();
}

#[test]
fn the_salt_moves_a_node_to_another_place() {
    let key = SigningKey::generate().unwrap();
    assert_ne!(NodeId::derive(key.public_key(), &[0; 16]), NodeId::derive(key.public_key(), &[1; 16]));
}

#[test]
fn an_authority_is_taken_up_again_from_what_was_kept() {
    let (authority, pkcs8) = Authority::create(NOW).unwrap();
    let again = Authority::from_parts(authority.certificate().der(), &pkcs8).unwrap();
    let node = node(&again);
    NodeCertificate::verify(node.der(), authority.certificate(), NOW).unwrap();
    let (_, other) = Authority::create(NOW).unwrap();
    assert!(matches!(Authority::from_parts(authority.certificate().der(), &other), Err(Error::PrivateKey(_))));
}

#[test]
fn an_authority_certificate_is_believed_by_its_fingerprint_alone() {
    let (ours, theirs) = (authority(), authority());
    let overlay = ours.certificate().overlay();
    AuthorityCertificate::verify(ours.certificate().der(), &overlay, NOW).unwrap();
    let refused = AuthorityCertificate::verify(theirs.certificate().der(), &overlay, NOW).unwrap_err();
    assert_eq!(refused, Error::OtherOverlay { expected: overlay, found: theirs.certificate().overlay() });
    let late = NOW + 11 * 365 * 86_400;
    assert!(matches!(
        AuthorityCertificate::verify(ours.certificate().der(), &overlay, late),
        Err(Error::Expired { .. })
    ));
}

#[test]
fn a_certificate_of_another_overlay_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let refused = NodeCertificate::verify(node(&theirs).der(), ours.certificate(), NOW);
    assert!(matches!(refused, Err(Error::Issuer { .. })));
}

#[test]
fn a_node_cannot_issue_certificates() {
    // A node's key signs what looks like the authority's work.
    let forger = Scribe::new();
    let authority = Scribe::new();
    let forged = Issuer::from_params(&authority.params, &forger.key);
    let mut params = CertificateParams::default();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names =
        vec![uri(&format!("meshtone-link:{LINK}")), uri(&format!("meshtone-salt:{}", "03".repeat(16)))];
    let der = params.signed_by(&forger.key, &forged).unwrap();
    let refused = NodeCertificate::verify(der.der(), &authority.certificate, NOW);
    assert!(matches!(refused, Err(Error::Issuer { .. })));
    // And issuing in its own name fails on the name.
    let mut named = forger.params.clone();
    named.distinguished_name.push(DnType::OrganizationName, "node");
    let der = params.signed_by(&forger.key, &Issuer::from_params(&named, &forger.key)).unwrap();
    let refused = NodeCertificate::verify(der.der(), &forger.certificate, NOW);
    assert!(matches!(refused, Err(Error::Issuer { .. })));
}

#[test]
fn certificates_are_valid_in_their_time_only() {
    let authority = authority();
    let node = node(&authority);
    let at = |now| NodeCertificate::verify(node.der(), authority.certificate(), now);
    assert!(matches!(at(NOW - 86_400), Err(Error::NotYetValid { .. })));
    at(NOW - 1800).unwrap();
    at(node.not_after()).unwrap();
    assert!(matches!(at(node.not_after() + 1), Err(Error::Expired { .. })));
    assert!(matches!(node.check_time(node.not_after() + 1), Err(Error::Expired { .. })));
}

#[test]
fn no_certificate_outlives_its_authority() {
    let authority = authority();
    let key = SigningKey::generate().unwrap();
    let node = authority.certify_node(key.public_key(), LINK, SALT, NOW, NODE_LIFETIME * 50).unwrap();
    assert_eq!(node.not_after(), authority.certificate().not_after());
}

#[test]
fn every_altered_byte_of_a_certificate_is_noticed() {
    let authority = authority();
    let node = node(&authority);
    for index in 0..node.der().len() {
        let mut altered = node.der().to_vec();
        altered[index] ^= 1;
        assert!(NodeCertificate::verify(&altered, authority.certificate(), NOW).is_err(), "byte {index}");
    }
}

#[test]
fn a_swapped_link_key_breaks_the_signature() {
    let authority = authority();
    let node = node(&authority);
    let (old, new) = (LINK.to_string(), LinkKey::from_bytes([8; 32]).to_string());
    let at = node.der().windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
    let mut swapped = node.der().to_vec();
    swapped[at..at + old.len()].copy_from_slice(new.as_bytes());
    let refused = NodeCertificate::verify(&swapped, authority.certificate(), NOW);
    assert!(matches!(refused, Err(Error::Issuer { .. })));
}

#[test]
fn the_home_certificate_of_one_node_is_no_good_for_another() {
    let authority = authority();
    let (a, b) = (node(&authority), node(&authority));
    let home = authority.issue_home(&a, "example.org", NOW, NODE_LIFETIME).unwrap();
    assert!(is_not_permitted(&home.check_holder(&b)));
}

#[test]
fn a_certificate_of_one_kind_does_not_pass_for_another() {
    let authority = authority();
    let node = node(&authority);
    let home = authority.issue_home(&node, "example.org", NOW, NODE_LIFETIME).unwrap();
    assert!(is_malformed(&NodeCertificate::verify(home.der(), authority.certificate(), NOW)));
    assert!(is_malformed(&HomeCertificate::verify(node.der(), authority.certificate(), NOW)));
    let own = authority.certificate();
    assert!(is_not_permitted(&NodeCertificate::verify(own.der(), own, NOW)));
    assert!(AuthorityCertificate::parse(node.der()).is_err());
}

#[test]
fn the_names_have_to_be_exactly_the_expected_ones() {
    let scribe = Scribe::new();
    scribe.node(|_| {}).unwrap();
    let salt = format!("meshtone-salt:{}", "03".repeat(16));
    let changes: [(&str, Vec<SanType>); 6] = [
        ("none", vec![]),
        ("no salt", vec![uri(&format!("meshtone-link:{LINK}"))]),
        ("two salts", vec![uri(&format!("meshtone-link:{LINK}")), uri(&salt), uri(&salt)]),
        ("one too many", vec![uri(&format!("meshtone-link:{LINK}")), uri(&salt), uri("sip:example.org")]),
        ("a host name", vec![uri(&format!("meshtone-link:{LINK}")), SanType::DnsName("a.example".try_into().unwrap())]),
        ("a short salt", vec![uri(&format!("meshtone-link:{LINK}")), uri("meshtone-salt:0303")]),
    ];
    for (name, names) in changes {
        assert!(is_malformed(&scribe.node(|params| params.subject_alt_names = names)), "{name}");
    }
}

#[test]
fn an_end_entity_may_sign_and_nothing_more() {
    let scribe = Scribe::new();
    let ca = scribe.node(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(is_not_permitted(&ca));
    let certifier = scribe.node(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign));
    assert!(is_not_permitted(&certifier));
    let mute = scribe.node(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    assert!(is_not_permitted(&mute));
    assert!(is_not_permitted(&scribe.node(|params| params.key_usages.clear())));
}

#[test]
fn an_authority_has_to_be_one_and_of_one_step() {
    let refuse = |change: fn(&mut CertificateParams)| {
        let mut params = Scribe::authority_params();
        change(&mut params);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        AuthorityCertificate::parse(params.self_signed(&key).unwrap().der()).unwrap_err()
    };
    let not_permitted = |error: Error| matches!(error, Error::NotPermitted { .. });
    assert!(not_permitted(refuse(|params| params.is_ca = IsCa::NoCa)));
    assert!(not_permitted(refuse(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))));
    assert!(not_permitted(refuse(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature])));
}

#[test]
fn an_unknown_critical_extension_is_refused_and_an_uncritical_one_is_not() {
    let scribe = Scribe::new();
    let extended = |critical| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        extension.set_criticality(critical);
        scribe.node(|params| params.custom_extensions = vec![extension])
    };
    assert!(is_malformed(&extended(true)));
    extended(false).unwrap();
}

#[test]
fn an_extension_twice_is_refused() {
    let scribe = Scribe::new();
    let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    let twice = scribe.node(|params| params.custom_extensions = vec![extension.clone(), extension]);
    assert!(is_malformed(&twice));
}

#[test]
fn keys_of_other_algorithms_are_refused() {
    let scribe = Scribe::new();
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    assert!(is_malformed(&scribe.write(&ed25519, |_| {})));
}

#[test]
fn a_domain_in_another_form_than_the_written_one_is_refused() {
    let scribe = Scribe::new();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    for (domain, good) in [
        ("example.org", true),
        ("EXAMPLE.org", false),
        ("example.org;lr", false),
        ("", false),
        ("a@example.org", false),
    ] {
        let mut params = CertificateParams::default();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let node = NodeId::from_bytes([1; 32]);
        params.subject_alt_names = vec![uri(&format!("sip:{domain}")), uri(&format!("meshtone-node:{node}"))];
        let der = params.signed_by(&key, &Issuer::from_params(&scribe.params, &scribe.key)).unwrap();
        assert_eq!(HomeCertificate::verify(der.der(), &scribe.certificate, NOW).is_ok(), good, "{domain}");
    }
}

#[test]
fn a_certificate_cut_anywhere_or_with_something_after_it_is_refused() {
    let authority = authority();
    let node = node(&authority);
    for end in 0..node.der().len() {
        assert!(
            is_malformed(&NodeCertificate::verify(&node.der()[..end], authority.certificate(), NOW)),
            "cut at {end}"
        );
    }
    let longer = [node.der(), &[0]].concat();
    assert!(is_malformed(&NodeCertificate::verify(&longer, authority.certificate(), NOW)));
    assert!(is_malformed(&NodeCertificate::verify(&[0x30; 100_000], authority.certificate(), NOW)));
}

#[test]
fn a_request_proves_its_key() {
    let key = SigningKey::generate().unwrap();
    let request = EnrolRequest::encode(&key, LINK).unwrap();
    let parsed = EnrolRequest::parse(&request).unwrap();
    assert_eq!((parsed.public_key(), parsed.link_key()), (key.public_key(), LINK));
    for index in 0..request.len() {
        let mut altered = request.clone();
        altered[index] ^= 1;
        assert!(EnrolRequest::parse(&altered).is_err(), "byte {index}");
        assert!(EnrolRequest::parse(&request[..index]).is_err(), "cut at {index}");
    }
}

#[test]
fn a_request_for_another_key_than_the_signers_is_refused() {
    let (alice, mallory) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let mut request = EnrolRequest::encode(&mallory, LINK).unwrap();
    let at = request.windows(65).position(|window| window == mallory.public_key().as_bytes()).unwrap();
    request[at..at + 65].copy_from_slice(alice.public_key().as_bytes());
    assert_eq!(EnrolRequest::parse(&request), Err(Error::Signature));
}

#[test]
fn a_simulated_overlay_comes_out_the_same_every_time() {
    use meshtone_identity::dangerous_deterministic::{DangerousSigner, DangerousVerifier};
    use std::sync::Arc;

    let found = || {
        let authority =
            Authority::create_with(Arc::new(DangerousSigner::new(0)), Arc::new(DangerousVerifier), NOW).unwrap();
        let key = DangerousSigner::new(1);
        let node = authority.certify_node(key.public_key(), LINK, SALT, NOW, Duration::from_secs(60)).unwrap();
        (authority.certificate().clone(), node)
    };
    let ((authority, node), again) = (found(), found());
    assert_eq!((&authority, &node), (&again.0, &again.1));
    NodeCertificate::verify_with(&DangerousVerifier, node.der(), &authority, NOW).unwrap();
    // What anybody can forge is worth nothing to a real node.
    assert!(AuthorityCertificate::parse(authority.der()).is_err());
    assert!(NodeCertificate::verify(node.der(), &authority, NOW).is_err());
}

/// Replays what fuzzing found worth keeping, and a few thousand mutations of good certificates: nothing may panic, and
/// nothing that verified under our authority may be anything but what our authority signed.
#[test]
fn strange_certificates_are_refused_in_order() {
    let authority = authority();
    let own = authority.certificate();
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/certificate");
    let mut seeds: Vec<Vec<u8>> = vec![node(&authority).der().to_vec(), own.der().to_vec()];
    let mut kept = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    kept.sort();
    assert!(!kept.is_empty());
    seeds.extend(kept.iter().map(|path| std::fs::read(path).unwrap()));
    let mut state = 1_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % 65_536).unwrap()
    };
    for seed in &seeds {
        for round in 0..300 {
            let mut bytes = seed.clone();
            for _ in 0..round % 4 {
                let at = random() % bytes.len().max(1);
                match (bytes.get_mut(at), random() % 3) {
                    (Some(byte), 0) => *byte = u8::try_from(random() % 256).unwrap(),
                    (Some(_), 1) => bytes.insert(at, 0xff),
                    (Some(_), _) => drop(bytes.remove(at)),
                    (None, _) => {}
                }
            }
            let verified = NodeCertificate::verify(&bytes, own, NOW);
            assert!(verified.is_err() || seeds.contains(&bytes));
            let _ = HomeCertificate::verify(&bytes, own, NOW);
            let _ = AuthorityCertificate::parse(&bytes);
            let _ = EnrolRequest::parse(&bytes);
        }
    }
}
