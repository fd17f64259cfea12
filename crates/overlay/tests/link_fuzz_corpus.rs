//! Runs the corpora of the fuzz targets `link_hello` and `relay` through the very checks that they run; see `fuzz/README.md`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

#[path = "../../../fuzz/checks/link_hello.rs"]
mod link_hello;
#[path = "../../../fuzz/checks/relay.rs"]
mod relay;

#[test]
fn hellos_of_the_corpus_hold() {
    replay("link_hello", link_hello::check);
}

#[test]
fn what_is_said_of_relays_in_the_corpus_holds() {
    replay("relay", relay::check);
}

/// Each file, each beginning of it, and each with a bit turned.
fn replay(target: &str, check: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "a corpus that is not there proves nothing");
    for path in paths {
        let bytes = std::fs::read(&path).unwrap();
        assert!(std::panic::catch_unwind(|| check(&bytes)).is_ok(), "{}", path.display());
        for index in 0..bytes.len() {
            check(&bytes[..index]);
            let mut turned = bytes.clone();
            turned[index] ^= 1 << (index % 8);
            check(&turned);
        }
    }
}
