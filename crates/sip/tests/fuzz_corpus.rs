//! Runs the corpora of the fuzz targets through the very checks that the targets run; see `fuzz/README.md`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

#[path = "../../../fuzz/checks/digest_header.rs"]
mod digest_header;
#[path = "../../../fuzz/checks/sip_message.rs"]
mod sip_message;
#[path = "../../../fuzz/checks/sip_stream.rs"]
mod sip_stream;
#[path = "../../../fuzz/checks/sip_uri.rs"]
mod sip_uri;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(std::panic::catch_unwind(|| check(&bytes)).is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 0, "a corpus that is not there proves nothing");
}

/// The torture messages are a corpus too.
fn replay_torture(check: fn(&[u8])) {
    for set in ["rfc4475", "rfc5118"] {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(set);
        for entry in std::fs::read_dir(folder).unwrap() {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }
}

#[test]
fn messages_of_the_corpus_hold() {
    replay("sip_message", sip_message::check);
    // The other stack of the differential target is no dependency of ours, but what it was given is.
    replay("sip_differential", sip_message::check);
    replay_torture(sip_message::check);
}

#[test]
fn streams_of_the_corpus_hold() {
    replay("sip_stream", sip_stream::check);
    replay_torture(|bytes| sip_stream::check(&[b"\x05", bytes].concat()));
}

#[test]
fn uris_of_the_corpus_hold() {
    replay("sip_uri", sip_uri::check);
}

#[test]
fn digest_values_of_the_corpus_hold() {
    replay("digest_header", digest_header::check);
}
