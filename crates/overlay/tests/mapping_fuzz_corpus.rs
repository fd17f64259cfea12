//! Runs the corpus of the fuzz target `port_mapping` through the very check that it runs; see `fuzz/README.md`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

#[path = "../../../fuzz/checks/port_mapping.rs"]
mod port_mapping;

#[test]
fn answers_of_routers_of_the_corpus_hold() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/port_mapping");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "a corpus that is not there proves nothing");
    for path in paths {
        let bytes = std::fs::read(&path).unwrap();
        assert!(std::panic::catch_unwind(|| port_mapping::check(&bytes)).is_ok(), "{}", path.display());
        for index in 0..bytes.len() {
            port_mapping::check(&bytes[..index]);
            let mut turned = bytes.clone();
            turned[index] ^= 1 << (index % 8);
            port_mapping::check(&turned);
        }
    }
}
