//! What holds for the body of any PUBLISH that is taken for a report of how a call sounded.

use meshtone_media::vq;

/// Reads it: whatever is believed can be shown.
pub(crate) fn check(data: &[u8]) {
    let Some(report) = vq::parse(data) else { return };
    assert!(!report.call_id.is_empty() && report.call_id.len() <= 256);
    assert!((0.0..=100.0).contains(&report.loss_percent) && (0.0..=60_000.0).contains(&report.jitter_ms));
    assert!(report.round_trip_ms.is_none_or(|time| (0.0..=60_000.0).contains(&time)));
    assert!(report.mean_opinion.is_none_or(|score| (1.0..=5.0).contains(&score)));
}
