//! What holds for any file that is taken for Opus in Ogg.

use meshtone_media::ogg;
use meshtone_media::sound::MAX_RECORDED;

/// Reads it: no more comes out than is kept.
pub(crate) fn check(data: &[u8]) {
    if let Ok(samples) = ogg::read(data) {
        assert!(samples.len() <= MAX_RECORDED);
    }
}
