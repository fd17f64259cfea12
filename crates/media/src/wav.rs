//! WAV files (RIFF, "Multimedia Programming Interface and Data Specifications 1.0"): what is played, and what was recorded.
//!
//! Read are PCM of 8 and 16 bits and G.711, of any number of channels; written is PCM of 16 bits and one channel.

use thiserror::Error;

use crate::g711;

/// Of a header that says more channels nothing can be believed.
const MAX_CHANNELS: u16 = 32;

/// Why a file is not played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WavError {
    /// It is something else, or cut off.
    #[error("it is no WAV file")]
    NotWav,
    /// It is a WAV file in an encoding that is not read.
    #[error("its encoding is not read: PCM of 8 and 16 bits and G.711 are")]
    Encoding,
}

/// Sound of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wav {
    /// Samples a second.
    pub rate: u32,
    /// The samples.
    pub samples: Vec<i16>,
}

#[derive(Clone, Copy)]
enum Encoding {
    Pcm8,
    Pcm16,
    Alaw,
    Ulaw,
}

impl Wav {
    /// Reads a file; several channels become one, their mean. A file that ends early is read as far as it goes.
    ///
    /// # Errors
    ///
    /// [`WavError`].
    pub fn parse(bytes: &[u8]) -> Result<Wav, WavError> {
        let rest = bytes.strip_prefix(b"RIFF").and_then(|rest| rest.get(4..)).ok_or(WavError::NotWav)?;
        let mut rest = rest.strip_prefix(b"WAVE").ok_or(WavError::NotWav)?;
        let mut format = None;
        loop {
            let ([name @ .., l0, l1, l2, l3], behind) = rest.split_first_chunk::<8>().ok_or(WavError::NotWav)?;
            let len = usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, *l3])).unwrap_or(usize::MAX);
            let chunk = behind.get(..len.min(behind.len())).unwrap_or_default();
            match name {
                b"fmt " => format = Some(read_format(chunk)?),
                b"data" => {
                    let (encoding, channels, rate) = format.ok_or(WavError::NotWav)?;
                    return Ok(Wav { rate, samples: mixed(&samples(encoding, chunk), channels) });
                }
                _ => {}
            }
            // Chunks of odd length are padded.
            rest = behind.get(len.saturating_add(len & 1)..).ok_or(WavError::NotWav)?;
        }
    }

    /// Writes the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let len = u32::try_from(self.samples.len().saturating_mul(2)).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(44 + self.samples.len() * 2);
        bytes.extend_from_slice(b"RIFF");
        bytes.extend_from_slice(&len.saturating_add(36).to_le_bytes());
        bytes.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        bytes.extend_from_slice(&self.rate.to_le_bytes());
        bytes.extend_from_slice(&self.rate.saturating_mul(2).to_le_bytes());
        bytes.extend_from_slice(b"\x02\0\x10\0data");
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend(self.samples.iter().flat_map(|sample| sample.to_le_bytes()));
        bytes
    }
}

fn read_format(chunk: &[u8]) -> Result<(Encoding, u16, u32), WavError> {
    let (words, _) = chunk.as_chunks::<2>();
    let word = |at: usize| words.get(at).map(|word| u16::from_le_bytes(*word)).ok_or(WavError::NotWav);
    // 0xfffe says that the encoding stands further behind.
    let tag = match word(0)? {
        0xfffe => word(12)?,
        tag => tag,
    };
    let (channels, bits) = (word(1)?, word(7)?);
    let rate = u32::from(word(2)?) | u32::from(word(3)?) << 16;
    let encoding = match (tag, bits) {
        (1, 8) => Encoding::Pcm8,
        (1, 16) => Encoding::Pcm16,
        (6, 8) => Encoding::Alaw,
        (7, 8) => Encoding::Ulaw,
        _ => return Err(WavError::Encoding),
    };
    if channels == 0 || channels > MAX_CHANNELS || rate == 0 {
        return Err(WavError::NotWav);
    }
    Ok((encoding, channels, rate))
}

fn samples(encoding: Encoding, data: &[u8]) -> Vec<i16> {
    match encoding {
        Encoding::Pcm8 => data.iter().map(|byte| (i16::from(*byte) - 128) << 8).collect(),
        Encoding::Pcm16 => data.as_chunks::<2>().0.iter().map(|sample| i16::from_le_bytes(*sample)).collect(),
        Encoding::Alaw => data.iter().map(|code| g711::from_alaw(*code)).collect(),
        Encoding::Ulaw => data.iter().map(|code| g711::from_ulaw(*code)).collect(),
    }
}

fn mixed(samples: &[i16], channels: u16) -> Vec<i16> {
    let mean = |group: &[i16]| {
        let sum: i32 = group.iter().map(|sample| i32::from(*sample)).sum();
        i16::try_from(sum / i32::from(channels)).unwrap_or_default()
    };
    samples.chunks_exact(usize::from(channels)).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let wav = Wav { rate: 8000, samples: vec![0, 1, -1, i16::MAX, i16::MIN] };
        assert_eq!(Wav::parse(&wav.to_bytes()), Ok(wav.clone()));
        // A program that was killed has not written the length.
        let mut cut = wav.to_bytes();
        cut[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        cut.truncate(44 + 7);
        assert_eq!(Wav::parse(&cut).map(|wav| wav.samples), Ok(vec![0, 1, -1]));
    }

    #[test]
    fn two_channels_become_one_and_chunks_of_other_kinds_are_passed_over() {
        let mut bytes = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0\x01\0\x02\0".to_vec();
        bytes.extend_from_slice(&48_000_u32.to_le_bytes());
        bytes.extend_from_slice(b"\0\0\0\0\x04\0\x10\0data\x08\0\0\0\x0a\0\x14\0\xf6\xff\xec\xff");
        assert_eq!(Wav::parse(&bytes), Ok(Wav { rate: 48_000, samples: vec![15, -15] }));
    }

    #[test]
    fn what_is_none_or_in_another_encoding_is_refused() {
        let good = Wav { rate: 8000, samples: vec![1; 9] }.to_bytes();
        for len in 0..44 {
            assert_eq!(Wav::parse(&good[..len]), Err(WavError::NotWav), "{len}");
        }
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Wav::parse(&bytes)
        };
        assert_eq!(changed(20, 3), Err(WavError::Encoding), "floating point");
        assert_eq!(changed(34, 24), Err(WavError::Encoding));
        assert_eq!(changed(22, 0), Err(WavError::NotWav), "no channel");
        assert_eq!(changed(0, b'X'), Err(WavError::NotWav));
    }
}
