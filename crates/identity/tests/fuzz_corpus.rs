//! Runs the corpora of the fuzz targets `backup`, `certificate`, `foreign`, `member`, `passport` and `ticket` through the very checks that
//! they run; see `fuzz/README.md`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

#[path = "../../../fuzz/checks/backup.rs"]
mod backup;
#[path = "../../../fuzz/checks/certificate.rs"]
mod certificate;
#[path = "../../../fuzz/checks/foreign.rs"]
mod foreign;
#[path = "../../../fuzz/checks/member.rs"]
mod member;
#[path = "../../../fuzz/checks/passport.rs"]
mod passport;
#[path = "../../../fuzz/checks/ticket.rs"]
mod ticket;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "a corpus that is not there proves nothing");
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Runs a check on every file, cut anywhere and with any single bit turned.
fn replay(target: &str, check: fn(&[u8])) {
    for (path, bytes) in corpus(target) {
        assert!(std::panic::catch_unwind(|| check(&bytes)).is_ok(), "{}", path.display());
        for index in 0..bytes.len() {
            check(&bytes[..index]);
            let mut turned = bytes.clone();
            turned[index] ^= 1 << (index % 8);
            check(&turned);
        }
    }
}

#[test]
fn backups_of_the_corpus_hold() {
    replay("backup", backup::check);
}

#[test]
fn certificates_of_the_corpus_hold() {
    replay("certificate", certificate::check);
}

#[test]
fn chains_of_other_authorities_in_the_corpus_hold() {
    replay("foreign", foreign::check);
    for (name, is_good) in
        [("chain", true), ("direct", true), ("authority", false), ("rsa", false), ("unordered", false)]
    {
        let (_, bytes) = corpus("foreign").into_iter().find(|(path, _)| path.ends_with(name)).unwrap();
        assert_eq!(foreign::is_good(&bytes), is_good, "{name}");
    }
}

#[test]
fn what_members_send_in_the_corpus_holds() {
    replay("member", member::check);
}

#[test]
fn passports_of_the_corpus_hold() {
    replay("passport", passport::check);
}

#[test]
fn tickets_of_the_corpus_hold() {
    replay("ticket", ticket::check);
}

#[test]
fn the_corpus_holds_certificates_that_verify() {
    let corpus = corpus("certificate");
    for (name, der) in certificate::good() {
        assert!(corpus.iter().any(|(_, bytes)| *bytes == der), "{name} is missing");
    }
}
