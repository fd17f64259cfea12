//! Ogg files with Opus in them (RFC 7845), as players and recorders of today have them: read into samples of telephony, and written from
//! them. The container and the codec are the library's; here is what a telephone wants of them. Pure.

use opus_pure::{Application, OggOpusReader, OggOpusWriter, OpusDecoder, OpusEncoder, OpusHead, OpusTags, Trim};
use thiserror::Error;

use crate::sound::{FRAME, MAX_RECORDED, RATE};

/// What such a file begins with.
const MAGIC: &[u8] = b"OggS";

/// The longest packet of Opus in samples of telephony: 120 ms (RFC 6716 §2.1.4).
const MAX_PACKET: usize = FRAME * 6;

/// Bits a second: speech of telephony in full quality.
const BIT_RATE: i32 = 24_000;

/// The largest packet that is made of 20 ms.
const MAX_PACKET_LEN: usize = 400;

/// Ticks of the container's clock for a sample of telephony.
const TICKS: u32 = 6;

/// Names the one stream of a file that we write; it need only differ from others in the same file (RFC 3533 §4).
const SERIAL: u32 = 1;

/// Why a file is not read or written.
#[derive(Debug, Error)]
pub enum OggError {
    /// It is none of these files, or damaged, or has more channels than two.
    #[error("it is no Ogg file with Opus that can be read: {0}")]
    Malformed(#[source] opus_pure::Error),
    /// It lasts longer than is kept.
    #[error("it lasts longer than two hours")]
    TooLong,
    /// The coder failed.
    #[error("it cannot be coded: {0}")]
    Coder(#[source] opus_pure::Error),
}

/// Tells whether a file says that it is one of these.
pub fn is_ogg(file: &[u8]) -> bool {
    file.starts_with(MAGIC)
}

/// Reads a file in samples of telephony; of two channels the middle.
///
/// # Errors
///
/// [`OggError`].
pub fn read(file: &[u8]) -> Result<Vec<i16>, OggError> {
    let mut reader = OggOpusReader::new(file).map_err(OggError::Malformed)?;
    let rate = i32::try_from(RATE).unwrap_or(i32::MAX);
    let head = reader.head().clone();
    let mut decoder: OpusDecoder = head.decoder(rate).map_err(OggError::Malformed)?;
    let channels = usize::from(head.channel_count).max(1);
    let mut trim = Trim::new(&head, rate, channels).map_err(OggError::Malformed)?;
    let (mut samples, mut decoded) = (Vec::new(), vec![0; MAX_PACKET * channels]);
    while let Some(packet) = reader.read_packet().map_err(OggError::Malformed)? {
        // A packet that is broken is a gap; the file goes on.
        let count = decoder.decode_s16(&packet.data, MAX_PACKET, &mut decoded).unwrap_or(0);
        let sound = trim.keep(&packet, decoded.get(..count * channels).unwrap_or_default());
        samples.extend(sound.chunks_exact(channels).map(middle));
        if samples.len() > MAX_RECORDED {
            return Err(OggError::TooLong);
        }
    }
    Ok(samples)
}

/// Writes a file of samples of telephony.
///
/// # Errors
///
/// [`OggError::Coder`].
pub fn write(samples: &[i16]) -> Result<Vec<u8>, OggError> {
    let rate = i32::try_from(RATE).unwrap_or(i32::MAX);
    let mut encoder = OpusEncoder::new(rate, 1, Application::Voip).map_err(OggError::Coder)?;
    encoder.bitrate_bps = BIT_RATE;
    let head = OpusHead::for_encoder(&encoder, RATE);
    let delay = usize::from(head.pre_skip).div_ceil(6);
    let mut writer = OggOpusWriter::with_serial(Vec::new(), head, OpusTags::new(), SERIAL).map_err(OggError::Coder)?;
    let mut left = samples.len() + delay;
    for frame in 0..left.div_ceil(FRAME) {
        let at = |place: usize| samples.get(frame * FRAME + place).copied().unwrap_or_default();
        let sound: Vec<i16> = (0..FRAME).map(at).collect();
        let mut packet = vec![0; MAX_PACKET_LEN];
        let len = encoder.encode_s16(&sound, FRAME, &mut packet).map_err(OggError::Coder)?;
        // The last one says how much of it is meant (RFC 7845 §4.4).
        let ticks = u32::try_from(left.min(FRAME)).unwrap_or_default() * TICKS;
        let packet = packet.get(..len).unwrap_or_default();
        writer.write_packet_with_duration(packet, ticks).map_err(OggError::Coder)?;
        left = left.saturating_sub(FRAME);
    }
    writer.finish().map_err(OggError::Coder)
}

/// One sample of those of all channels.
fn middle(channels: &[i16]) -> i16 {
    let sum: i32 = channels.iter().copied().map(i32::from).sum();
    let count = i32::try_from(channels.len()).unwrap_or(1).max(1);
    i16::try_from(sum / count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn tone(samples: u32) -> Vec<i16> {
        let step = std::f32::consts::TAU * 500.0 / 8000.0;
        (0..samples).map(|n| ((n as f32 * step).sin() * 8000.0) as i16).collect()
    }

    #[test]
    fn what_is_written_is_read_again_in_its_length_and_its_place() {
        for samples in [0, 1, 159, 160, 8000, 8077] {
            let file = write(&tone(samples)).unwrap();
            assert!(is_ogg(&file));
            assert_eq!(read(&file).unwrap().len(), samples as usize);
        }
        let (sent, back) = (tone(16_000), read(&write(&tone(16_000)).unwrap()).unwrap());
        let product = |one: &[i16], other: &[i16]| -> f64 {
            one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum()
        };
        let likeness = product(&sent, &back) / (product(&sent, &sent) * product(&back, &back)).sqrt();
        assert!(likeness > 0.95, "the same waves at the same time: {likeness}");
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        for file in [&b""[..], b"OggS", b"RIFF....WAVE", &[0x4f; 400]] {
            assert!(matches!(read(file), Err(OggError::Malformed(_))));
        }
        let mut damaged = write(&tone(8000)).unwrap();
        let half = damaged.len() / 2;
        damaged.truncate(half);
        // As far as it goes, or not at all, but without harm.
        assert!(read(&damaged).is_ok_and(|samples| samples.len() <= 8000) || read(&damaged).is_err());
    }
}
