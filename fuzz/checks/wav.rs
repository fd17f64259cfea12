//! What holds for any file that is taken for a WAV file.

use meshtone_media::resample::Resampler;
use meshtone_media::wav::Wav;

/// Reads it, writes it and reads it again, and brings a piece of it to the rate of telephony.
pub(crate) fn check(data: &[u8]) {
    let Ok(wav) = Wav::parse(data) else { return };
    assert!(wav.samples.len() <= data.len());
    assert_eq!(Wav::parse(&wav.to_bytes()), Ok(wav.clone()));
    if let Some(mut resampler) = Resampler::new(wav.rate, 8000) {
        let piece = wav.samples.get(..wav.samples.len().min(4096)).unwrap_or_default();
        let most = piece.len() * 8000 / usize::try_from(wav.rate).unwrap_or(1) + 2;
        assert!(resampler.convert(piece).len() <= most);
    }
}
