//! Runs the corpus of the fuzz target that needs two crates through the very check that the target runs; see `fuzz/README.md`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

#[path = "../../../fuzz/checks/sip_body.rs"]
mod sip_body;

#[test]
fn bodies_of_the_corpus_hold() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/sip_body");
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty(), "a corpus that is not there proves nothing");
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        assert!(std::panic::catch_unwind(|| sip_body::check(&bytes)).is_ok(), "{}", path.display());
    }
}
