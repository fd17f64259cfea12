//! Tests of digest: published vectors, and the attacks of the design's threats 3 to 6.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

const REALM: &str = "example.org";
const NOW: u64 = 1_700_000_000_000;
const LIFE_MS: u64 = 300_000;
const PASSWORDS: [(&str, &str); 2] = [("alice", "wonderland"), ("bob", "builder")];

fn authenticator() -> Authenticator {
    Authenticator::new([7; 32], DigestConfig::default())
}

fn lookup(user: &str, algorithm: Algorithm) -> Option<Ha1> {
    let (user, password) = PASSWORDS.iter().find(|(known, _)| *known == user)?;
    Some(ha1(algorithm, user, REALM, password))
}

/// Answers the challenge of this algorithm as a phone does.
fn reply(challenges: &[String], algorithm: Algorithm, user: &str, password: &str, count: u32) -> String {
    let challenge =
        challenges.iter().filter_map(|value| Challenge::parse(value)).find(|one| one.algorithm == algorithm).unwrap();
    let ha1 = ha1(algorithm, user, &challenge.realm, password);
    let (method_name, uri) = ("REGISTER", "sip:example.org");
    let with = Answer { user, ha1: &ha1, method_name, uri, body: b"", cnonce: "c0ffee", count };
    answer(&challenge, &with)
}

fn judge(authenticator: &Authenticator, now_ms: u64, value: &str) -> Verdict {
    authenticator.verify(now_ms, [value].into_iter(), REALM, "REGISTER", b"", lookup, &Algorithm::ALL)
}

fn accepted(user: &str) -> Verdict {
    Verdict::Accepted { username: user.to_owned() }
}

/// A string member of a flat JSON object, escapes resolved; `None` when it is null or missing.
fn member(object: &str, name: &str) -> Option<String> {
    let (_, rest) = object.split_once(&format!("\"{name}\": "))?;
    let inner = rest.strip_prefix('"')?;
    let (value, _) = inner.split_once('"')?;
    Some(value.replace("\\r", "\r").replace("\\n", "\n"))
}

#[test]
fn the_vectors_of_the_rfcs_are_met() {
    // The file's source is told in tests/corpus/README.md.
    let vectors = include_str!("../../tests/corpus/digest/digest.json");
    let mut count = 0;
    for object in vectors.split('{').skip(1) {
        let get = |name| member(object, name).unwrap_or_default();
        let algorithm = Algorithm::from_token(&get("algorithm")).unwrap();
        let (nonce, nc, cnonce, body) = (get("n"), get("nc"), get("cn"), get("body"));
        let mut secret = ha1(algorithm, &get("u"), &get("r"), &get("p"));
        if object.contains("\"sess\": true") {
            secret = session_ha1(algorithm, &secret, &nonce, &cnonce);
        }
        let protection = match member(object, "qop").as_deref() {
            None => Protection::Legacy,
            Some("auth") => Protection::Auth { nc: &nc, cnonce: &cnonce },
            Some("auth-int") => Protection::AuthInt { nc: &nc, cnonce: &cnonce, body: body.as_bytes() },
            Some(other) => panic!("unknown qop {other}"),
        };
        let computed = response(algorithm, &secret, &nonce, protection, &get("m"), &get("uri"));
        assert_eq!(computed.to_string(), get("response"), "{object}");
        count += 1;
    }
    assert_eq!(count, 18);
}

#[test]
fn a_right_answer_is_accepted_by_every_algorithm() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &Algorithm::ALL, false);
    assert_eq!(challenges.len(), 3);
    for (count, algorithm) in (1..).zip(Algorithm::ALL) {
        let value = reply(&challenges, algorithm, "alice", "wonderland", count);
        assert_eq!(judge(&authenticator, NOW + 1, &value), accepted("alice"), "{value}");
    }
}

#[test]
fn a_challenge_has_the_form_of_the_rfc() {
    let [challenge] = authenticator().challenge(NOW, "a \"b\"\r\n", &[Algorithm::Sha256], true).try_into().unwrap();
    assert!(challenge.starts_with(r#"Digest realm="a \"b\"", nonce=""#), "{challenge}");
    assert!(challenge.ends_with(r#"", algorithm=SHA-256, qop="auth", stale=true"#), "{challenge}");
    let read = Challenge::parse(&challenge).unwrap();
    assert_eq!((read.realm.as_ref(), read.stale, read.qop), ("a \"b\"", true, Some(Qop::Auth)));
}

#[test]
fn challenges_of_one_moment_differ() {
    let authenticator = authenticator();
    let challenge = || authenticator.challenge(NOW, REALM, &[Algorithm::Md5], false);
    assert_ne!(challenge(), challenge());
}

/// Threat 1.
#[test]
fn wrong_password_and_unknown_user_are_refused_alike() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &Algorithm::ALL, false);
    for algorithm in Algorithm::ALL {
        for (user, password) in
            [("alice", "guess"), ("nobody", "guess"), ("Alice", "wonderland"), ("alice\0", "wonderland"), ("", "")]
        {
            let value = reply(&challenges, algorithm, user, password, 1);
            assert_eq!(judge(&authenticator, NOW, &value), Verdict::Refused, "{user}");
        }
    }
}

/// Threat 1: unknown users are checked like known ones.
#[test]
fn a_user_without_an_entry_cannot_be_forged_by_leaving_something_empty() {
    let authenticator = authenticator();
    let nonce = authenticator.challenge(NOW, REALM, &[Algorithm::Md5], false);
    let nonce = Challenge::parse(&nonce[0]).unwrap().nonce.to_owned();
    let value = format!(
        "Digest username=\"nobody\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"sip:a\", response=\"\", qop=auth, nc=00000001, cnonce=\"c\""
    );
    assert_eq!(judge(&authenticator, NOW, &value), Verdict::Refused);
}

/// Threat 3.
#[test]
fn a_replay_is_stale_whatever_comes_between() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &[Algorithm::Sha256], false);
    let first = reply(&challenges, Algorithm::Sha256, "alice", "wonderland", 1);
    assert_eq!(judge(&authenticator, NOW, &first), accepted("alice"));
    assert_eq!(judge(&authenticator, NOW, &first), Verdict::Stale);
    assert_eq!(judge(&authenticator, NOW + 1000, &first), Verdict::Stale);
    let third = reply(&challenges, Algorithm::Sha256, "alice", "wonderland", 3);
    assert_eq!(judge(&authenticator, NOW + 1001, &third), accepted("alice"));
    let second = reply(&challenges, Algorithm::Sha256, "alice", "wonderland", 2);
    assert_eq!(judge(&authenticator, NOW + 1002, &second), Verdict::Stale);
    assert_eq!(judge(&authenticator, NOW + LIFE_MS + 1, &first), Verdict::Stale);
}

/// Threat 3.
#[test]
fn an_answer_does_not_fit_another_method() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &[Algorithm::Md5], false);
    let value = reply(&challenges, Algorithm::Md5, "alice", "wonderland", 1);
    let verdict =
        authenticator.verify(NOW, [value.as_str()].into_iter(), REALM, "INVITE", b"", lookup, &Algorithm::ALL);
    assert_eq!(verdict, Verdict::Refused);
}

/// Threat 3.
#[test]
fn a_nonce_lives_as_long_as_it_may_and_no_longer() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &[Algorithm::Md5], false);
    let value = |count| reply(&challenges, Algorithm::Md5, "alice", "wonderland", count);
    assert_eq!(judge(&authenticator, NOW - 1, &value(1)), Verdict::Stale);
    assert_eq!(judge(&authenticator, NOW + LIFE_MS, &value(1)), accepted("alice"));
    assert_eq!(judge(&authenticator, NOW + LIFE_MS + 1, &value(2)), Verdict::Stale);
}

/// Threat 4.
#[test]
fn a_nonce_that_is_not_ours_is_stale_for_who_knows_the_password_and_no_news_for_others() {
    let ours = authenticator();
    let theirs = Authenticator::new([8; 32], DigestConfig::default());
    let real = theirs.challenge(NOW, REALM, &[Algorithm::Md5], false);
    let [real] = real.as_slice() else { panic!("one challenge") };
    let nonce = Challenge::parse(real).unwrap().nonce.to_owned();
    let elsewhere = ours.challenge(NOW, "other.example", &[Algorithm::Md5], false);
    let elsewhere = Challenge::parse(&elsewhere[0]).unwrap().nonce.to_owned();
    let mut forged: Vec<String> = ["", "x", "AAAA", "=", "\u{e9}"].map(str::to_owned).into();
    forged.extend([nonce.clone(), nonce[1..].to_owned(), format!("{nonce}A"), "A".repeat(65_000), elsewhere]);
    for bad in forged {
        let challenge = [real.replace(&nonce, &bad)];
        let right = reply(&challenge, Algorithm::Md5, "alice", "wonderland", 1);
        assert_eq!(judge(&ours, NOW, &right), Verdict::Stale, "{:.40}", bad);
        let wrong = reply(&challenge, Algorithm::Md5, "alice", "guess", 1);
        assert_eq!(judge(&ours, NOW, &wrong), Verdict::Refused, "{:.40}", bad);
    }
}

/// Threat 4.
#[test]
fn every_changed_letter_of_a_nonce_is_noticed() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &[Algorithm::Md5], false);
    let nonce = Challenge::parse(&challenges[0]).unwrap().nonce.to_owned();
    for at in 0..nonce.len() {
        let letter = if &nonce[at..=at] == "A" { "B" } else { "A" };
        let changed = format!("{}{letter}{}", &nonce[..at], &nonce[at + 1..]);
        let challenge = [challenges[0].replace(&nonce, &changed)];
        let value = reply(&challenge, Algorithm::Md5, "alice", "wonderland", 1);
        assert_eq!(judge(&authenticator, NOW, &value), Verdict::Stale, "{at}");
    }
}

/// Threat 5.
#[test]
fn an_algorithm_that_is_not_allowed_is_refused() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &Algorithm::ALL, false);
    let weak = reply(&challenges, Algorithm::Md5, "alice", "wonderland", 1);
    let with = |allowed: &[Algorithm], lookup: fn(&str, Algorithm) -> Option<Ha1>| {
        authenticator.verify(NOW, [weak.as_str()].into_iter(), REALM, "REGISTER", b"", lookup, allowed)
    };
    assert_eq!(with(&[Algorithm::Sha256], lookup), Verdict::Refused);
    // A user who has no HA1 for MD5, where others do.
    let strong_only = |user: &str, algorithm| (algorithm != Algorithm::Md5).then(|| lookup(user, algorithm))?;
    assert_eq!(with(&Algorithm::ALL, strong_only), Verdict::Refused);
    let session = weak.replace("algorithm=MD5", "algorithm=MD5-sess");
    assert_eq!(judge(&authenticator, NOW, &session), Verdict::Refused);
}

#[test]
fn an_answer_without_a_nonce_count_is_refused() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &[Algorithm::Md5], false);
    let legacy = [challenges[0].replace(", qop=\"auth\"", "")];
    let value = reply(&legacy, Algorithm::Md5, "alice", "wonderland", 1);
    assert_eq!(judge(&authenticator, NOW, &value), Verdict::Refused);
}

/// Threat 3: nor another body, where that is covered.
#[test]
fn the_body_is_covered_where_the_phone_says_so() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &[Algorithm::Sha256], false);
    let nonce = Challenge::parse(&challenges[0]).unwrap().nonce;
    let secret = lookup("alice", Algorithm::Sha256).unwrap();
    let protection = Protection::AuthInt { nc: "00000001", cnonce: "c", body: b"v=0" };
    let response = response(Algorithm::Sha256, &secret, nonce, protection, "INVITE", "sip:bob@example.org");
    let value = format!(
        "Digest username=\"alice\",realm=\"{REALM}\",nonce=\"{nonce}\",uri=\"sip:bob@example.org\",\
        response=\"{response}\",algorithm=SHA-256,qop=auth-int,nc=00000001,cnonce=\"c\""
    );
    let judge =
        |body| authenticator.verify(NOW, [value.as_str()].into_iter(), REALM, "INVITE", body, lookup, &Algorithm::ALL);
    assert_eq!(judge(b"v=1"), Verdict::Refused);
    assert_eq!(judge(b"v=0"), accepted("alice"));
}

#[test]
fn credentials_of_other_schemes_and_realms_count_for_nothing() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &[Algorithm::Md5], false);
    let value = reply(&challenges, Algorithm::Md5, "alice", "wonderland", 1);
    let foreign = value.replace(REALM, "elsewhere.example");
    assert_eq!(judge(&authenticator, NOW, "NoOneKnowsThisScheme opaque-data=here"), Verdict::Missing);
    assert_eq!(judge(&authenticator, NOW, &foreign), Verdict::Missing);
    let all = |values: &[&str]| {
        authenticator.verify(NOW, values.iter().copied(), REALM, "REGISTER", b"", lookup, &Algorithm::ALL)
    };
    assert_eq!(all(&[]), Verdict::Missing);
    assert_eq!(all(&["Basic YTpi", &foreign, &value]), accepted("alice"));
}

#[test]
fn malformed_credentials_are_refused() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &[Algorithm::Md5], false);
    let value = reply(&challenges, Algorithm::Md5, "alice", "wonderland", 1);
    for (from, to) in [
        ("nc=00000001", "nc=1"),
        ("nc=00000001", "nc=+0000001"),
        ("nc=00000001", "nc=000000001"),
        ("cnonce=\"c0ffee\"", "cnonce=\"\""),
        ("qop=auth", "qop=none"),
        ("qop=auth", "qop=auth, qop=auth"),
        ("username=\"alice\"", "username=\"alice"),
        ("username=\"alice\"", "username"),
        ("username=\"alice\", ", ""),
        ("username=\"alice\"", "username=\"alice\", Username=\"bob\""),
        ("uri=\"sip:example.org\", ", ""),
    ] {
        assert!(value.contains(from), "{value}");
        assert_eq!(judge(&authenticator, NOW, &value.replace(from, to)), Verdict::Refused, "{to}");
    }
    let many = format!("Digest {}", (0..=MAX_PARAMS).map(|index| format!("p{index}=x,")).collect::<String>());
    assert_eq!(judge(&authenticator, NOW, &many), Verdict::Refused);
    assert_eq!(judge(&authenticator, NOW, &value), accepted("alice"));
}

#[test]
fn quotes_folding_and_case_are_read_as_written() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &[Algorithm::Md5], false);
    let value = reply(&challenges, Algorithm::Md5, "alice", "wonderland", 1);
    let odd = value
        .replace("Digest username=\"alice\"", "DIGEST\r\n\tUserName = \"al\\ice\"")
        .replace("algorithm=MD5", "algorithm=\"md5\"")
        .replace("qop=auth", "qop=\"auth\"")
        .replace(", nonce", " ,\r\n nonce");
    assert_eq!(judge(&authenticator, NOW, &odd), accepted("alice"));
}

/// Threat 3: no flood makes room for a replay.
#[test]
fn a_full_table_forgets_the_oldest_nonce_and_never_takes_it_back() {
    const MAX: usize = 2 * counts::PARTS;
    let small = Authenticator::new([7; 32], DigestConfig { max_tracked_nonces: MAX, ..DigestConfig::default() });
    let values: Vec<String> = (0..2 * MAX as u64)
        .map(|at| {
            reply(&small.challenge(NOW + at, REALM, &[Algorithm::Md5], false), Algorithm::Md5, "bob", "builder", 1)
        })
        .collect();
    let later = NOW + 1000;
    for value in &values[1..] {
        assert_eq!(judge(&small, later, value), accepted("bob"));
    }
    for value in &values {
        assert_eq!(judge(&small, later + 1, value), Verdict::Stale);
    }
}

#[test]
fn of_one_answer_that_all_workers_get_at_once_one_is_accepted() {
    let authenticator = authenticator();
    let challenges = authenticator.challenge(NOW, REALM, &[Algorithm::Md5], false);
    for count in 1..50 {
        let value = reply(&challenges, Algorithm::Md5, "alice", "wonderland", count);
        let verdicts: Vec<Verdict> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| judge(&authenticator, NOW, &value))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == accepted("alice")).count(), 1, "{verdicts:?}");
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Stale).count(), 3, "{verdicts:?}");
    }
}

/// Threats 3 and 4.
#[test]
fn a_captured_answer_is_stale_at_another_node_and_after_a_restart() {
    let here = authenticator();
    let challenges = here.challenge(NOW, REALM, &Algorithm::ALL, false);
    let captured = reply(&challenges, Algorithm::Sha256, "alice", "wonderland", 1);
    // Neither knows the secret of the first: not the other home node, not the same node once started anew.
    let elsewhere = Authenticator::new([8; 32], DigestConfig::default());
    assert_eq!(judge(&elsewhere, NOW, &captured), Verdict::Stale);
    assert_eq!(judge(&here, NOW, &captured), accepted("alice"));
    assert_eq!(judge(&elsewhere, NOW + 1, &captured), Verdict::Stale);
}

#[test]
fn secrets_are_not_printed() {
    let secret = ha1(Algorithm::Md5, "alice", REALM, "wonderland");
    assert_eq!(format!("{secret:?}"), "Ha1(<redacted>)");
    assert!(!format!("{:?}", authenticator()).contains("nobody"));
    assert_eq!(Ha1::from_hex(secret.as_str()), Some(secret));
    assert_eq!(Ha1::from_hex("zz"), None);
}

#[test]
fn bodies_are_protected_where_that_is_offered_and_taken() {
    let authenticator = Authenticator::new([7; 32], DigestConfig::default());
    let offered = authenticator.challenge_with_bodies(1_000, "example.org", &[Algorithm::Sha256], false);
    assert!(offered[0].contains("qop=\"auth,auth-int\""), "{offered:?}");
    let nonce = offered[0].split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    let secret = ha1(Algorithm::Sha256, "bob", "example.org", "secret");
    let protection = Protection::AuthInt { nc: "00000001", cnonce: "c", body: b"body" };
    let proof = response(Algorithm::Sha256, &secret, nonce, protection, "MESSAGE", "sip:a@example.org");
    let value = format!(
        "Digest username=\"bob\", realm=\"example.org\", nonce=\"{nonce}\", uri=\"sip:a@example.org\", \
         response=\"{proof}\", algorithm=SHA-256, qop=auth-int, nc=00000001, cnonce=\"c\""
    );
    let judge = |body: &[u8]| {
        let lookup = |_: &str, _| Some(secret.clone());
        let values = std::iter::once(value.as_str());
        authenticator.verify(2_000, values, "example.org", "MESSAGE", body, lookup, &[Algorithm::Sha256])
    };
    assert_eq!(judge(b"another body"), Verdict::Refused);
    assert_eq!(judge(b"body"), Verdict::Accepted { username: "bob".to_owned() });
}
