//! Runs the corpora of the fuzz targets through the very checks that the targets run; see `fuzz/README.md`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::path::PathBuf;

#[path = "../../../fuzz/checks/anchoring.rs"]
mod anchoring;
#[path = "../../../fuzz/checks/digit.rs"]
mod digit;
#[path = "../../../fuzz/checks/media_flow.rs"]
mod media_flow;
#[path = "../../../fuzz/checks/media_packet.rs"]
mod media_packet;
#[path = "../../../fuzz/checks/ogg_opus.rs"]
mod ogg_opus;
#[path = "../../../fuzz/checks/quality_report.rs"]
mod quality_report;
#[path = "../../../fuzz/checks/sdp.rs"]
mod sdp;
#[path = "../../../fuzz/checks/transcode.rs"]
mod transcode;
#[path = "../../../fuzz/checks/turn.rs"]
mod turn;
#[path = "../../../fuzz/checks/wav.rs"]
mod wav;

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

#[test]
fn descriptions_of_the_corpus_hold() {
    replay("sdp", sdp::check);
}

#[test]
fn calls_that_are_carried_in_the_corpus_hold() {
    replay("anchoring", anchoring::check);
}

#[test]
fn datagrams_of_the_corpus_hold() {
    replay("media_packet", media_packet::check);
}

#[test]
fn files_of_the_corpus_hold() {
    replay("wav", wav::check);
}

#[test]
fn opus_files_of_the_corpus_hold() {
    replay("ogg_opus", ogg_opus::check);
}

#[test]
fn digits_of_the_corpus_hold() {
    replay("digit", digit::check);
}

#[test]
fn reports_of_quality_in_the_corpus_hold() {
    replay("quality_report", quality_report::check);
}

#[test]
fn converted_streams_of_the_corpus_hold() {
    replay("transcode", transcode::check);
}

#[test]
fn messages_to_the_turn_server_in_the_corpus_hold() {
    replay("turn", turn::check);
}

#[test]
fn datagrams_between_nodes_in_the_corpus_hold() {
    replay("media_flow", media_flow::check);
}
