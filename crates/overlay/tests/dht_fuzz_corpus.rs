//! Runs the corpus of the fuzz target `overlay_message` through the very check that it runs; see `fuzz/README.md`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

#[path = "../../../fuzz/checks/overlay_message.rs"]
mod overlay_message;

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/overlay_message");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "a corpus that is not there proves nothing");
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn messages_of_the_corpus_hold() {
    for (path, bytes) in corpus() {
        assert!(std::panic::catch_unwind(|| overlay_message::check(&bytes)).is_ok(), "{}", path.display());
    }
}

#[test]
fn messages_with_a_bit_turned_or_the_end_torn_off_hold() {
    for (_, bytes) in corpus() {
        let step = bytes.len() / 64 + 1;
        for index in (0..bytes.len()).step_by(step) {
            overlay_message::check(&bytes[..index]);
            let mut turned = bytes.clone();
            turned[index] ^= 1 << (index % 8);
            overlay_message::check(&turned);
        }
    }
}
