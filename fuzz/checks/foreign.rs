//! Chains of other authorities: whatever stands in them, only what the listed root issued proves anything, by the keys that it certified.

use std::sync::OnceLock;

use meshtone_identity::foreign::{domain_key, verify};
use meshtone_identity::{ForeignAuthority, ForeignError, ForeignProof, OverlayId, PublicKey, SigningKey, UserRequest};

/// The root, and when chains of the corpus are judged.
const ROOT: &[u8] = include_bytes!("foreign_root.der");
const NOW: u64 = 1_900_000_000;
const DOMAIN: &str = "company.example";

struct Known {
    listed: Vec<ForeignAuthority>,
    request: UserRequest,
    certification: Vec<u8>,
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let listed =
            ForeignAuthority::new(vec![ROOT.to_vec()], &[DOMAIN.to_owned()]).expect("the root is a certificate");
        let key = SigningKey::generate().expect("randomness");
        let certification = UserRequest::encode(&key, "alice@company.example").expect("a request");
        let request = UserRequest::parse(&certification).expect("our own request");
        Known { listed: vec![listed], request, certification }
    })
}

/// The certificates of an input: each has its length in two bytes before it.
fn chain(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut chain = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (der, rest) = rest.split_at(length);
        chain.push(der.to_vec());
        data = rest;
    }
    chain
}

pub(crate) fn check(data: &[u8]) {
    let Known { listed, request, certification } = known();
    let chain = chain(data);
    if let Ok(key) = domain_key(listed, DOMAIN, &chain, NOW) {
        let certified = chain.first().is_some_and(|der| holds(der, &key));
        assert!(certified, "a key that is in no certificate");
        assert!(domain_key(listed, "other.example", &chain, NOW).is_err(), "listed for one domain alone");
        assert!(domain_key(&[], DOMAIN, &chain, NOW).is_err(), "believed of nobody");
    }
    // Nobody has signed the request with such a key.
    let proof = ForeignProof { chain, made: NOW, signature: data.get(..72).unwrap_or(data).to_vec() };
    let judged = verify(listed, &OverlayId::from_bytes([1; 32]), (request, certification), &proof, NOW);
    assert!(judged.is_err(), "{judged:?}");
    if let Err(ForeignError::Malformed(why)) = judged {
        assert!(why.len() < 1000, "{why}");
    }
}

fn holds(der: &[u8], key: &PublicKey) -> bool {
    der.windows(key.as_bytes().len()).any(|window| window == key.as_bytes())
}

/// A chain of the corpus that proves what it says.
#[allow(dead_code, reason = "the fuzz target needs the check alone")]
pub(crate) fn is_good(data: &[u8]) -> bool {
    domain_key(&known().listed, DOMAIN, &chain(data), NOW).is_ok()
}
