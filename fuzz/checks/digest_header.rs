//! Digest credentials and challenges: nothing guessed is accepted, and our answers follow the grammar.

use meshtone_sip::digest::{
    Algorithm, Answer, Authenticator, Challenge, DigestConfig, DigestParams, Verdict, answer, ha1,
};

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let Ok(value) = std::str::from_utf8(data) else { return };
    let authenticator = Authenticator::new([7; 32], DigestConfig::default());
    let lookup = |user: &str, algorithm| Some(ha1(algorithm, user, "example.org", "secret"));
    let values = value.split('\n');
    let verdict = authenticator.verify(0, values, "example.org", "INVITE", b"", lookup, &Algorithm::ALL);
    assert!(!matches!(verdict, Verdict::Accepted { .. }), "{value:?}");

    let Some(challenge) = Challenge::parse(value) else { return };
    let ha1 = ha1(challenge.algorithm, "al\"i\\ce", &challenge.realm, "p");
    let (method_name, uri, cnonce) = ("INVITE", "sip:a@b", "c");
    let with = Answer { user: "al\"i\\ce", ha1: &ha1, method_name, uri, body: b"", cnonce, count: 1 };
    let ours = answer(&challenge, &with);
    let params = DigestParams::parse(&ours).expect("our answer follows the grammar").expect("the scheme is Digest");
    assert_eq!(params.text("username").as_deref(), Some(with.user));
    assert_eq!(params.raw("nonce"), Some(challenge.nonce));
    assert_eq!(params.raw("opaque"), challenge.opaque);
    assert_eq!(params.raw("nc").is_some(), challenge.qop.is_some());
}
