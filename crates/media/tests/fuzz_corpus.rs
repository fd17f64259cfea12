//! Runs the corpora of the fuzz targets through the very checks that the targets run; see `fuzz/README.md`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

#[path = "../../../fuzz/checks/sdp.rs"]
mod sdp;

#[test]
fn descriptions_of_the_corpus_hold() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/sdp");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(std::panic::catch_unwind(|| sdp::check(&bytes)).is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 0, "a corpus that is not there proves nothing");
}
