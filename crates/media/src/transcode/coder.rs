//! The codecs that are converted, behind one face.

use opus_pure::{Application, OpusDecoder, OpusEncoder};

use crate::codec::Codec;
use crate::{g711, g722};

/// The longest packet of Opus, 120 ms (RFC 6716 §2.1.4).
const MAX_OPUS_MS: usize = 120;

/// Bits a second: speech in full quality at these rates.
const OPUS_BIT_RATE: i32 = 24_000;

/// Of ten: what a telephone's band gains from more is not heard, and costs.
const OPUS_COMPLEXITY: i32 = 4;

/// The largest packet that is made.
const MAX_PACKET_LEN: usize = 400;

impl Codec {
    /// Tells whether it can be converted into another one.
    pub fn is_converted(self) -> bool {
        matches!(self, Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::Opus)
    }

    /// The rate of its timestamps; that of G.722 is 8000 by an old mistake (RFC 3551 §4.5.2).
    pub(super) fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::G729 | Codec::G723 | Codec::Gsm => 8000,
        }
    }

    /// The samples a second that it is coded at, towards another codec: Opus takes those of the other one.
    pub(super) fn sample_rate(self, other: Codec) -> Option<u32> {
        match (self, other) {
            (Codec::Pcmu | Codec::Pcma, _) | (Codec::Opus, Codec::Pcmu | Codec::Pcma) => Some(8000),
            (Codec::G722, _) | (Codec::Opus, Codec::G722 | Codec::Opus) => Some(16_000),
            (Codec::G729 | Codec::G723 | Codec::Gsm, _) | (Codec::Opus, Codec::G729 | Codec::G723 | Codec::Gsm) => None,
        }
    }
}

pub(super) struct Decoder {
    inner: Inner,
    /// What came last, from which a loss is concealed.
    last: Vec<i16>,
}

enum Inner {
    Ulaw,
    Alaw,
    G722(Box<g722::Decoder>),
    Opus(Box<OpusDecoder>, usize),
}

impl Decoder {
    pub(super) fn new(codec: Codec, rate: u32) -> Option<Decoder> {
        let inner = match codec {
            Codec::Pcmu => Inner::Ulaw,
            Codec::Pcma => Inner::Alaw,
            Codec::G722 => Inner::G722(Box::default()),
            Codec::Opus => {
                let decoder = OpusDecoder::new(i32::try_from(rate).ok()?, 1).ok()?;
                Inner::Opus(Box::new(decoder), usize::try_from(rate / 1000).ok()? * MAX_OPUS_MS)
            }
            Codec::G729 | Codec::G723 | Codec::Gsm => return None,
        };
        Some(Decoder { inner, last: Vec::new() })
    }

    pub(super) fn decode(&mut self, payload: &[u8]) -> Vec<i16> {
        let sound: Vec<i16> = match &mut self.inner {
            Inner::Ulaw => payload.iter().map(|code| g711::from_ulaw(*code)).collect(),
            Inner::Alaw => payload.iter().map(|code| g711::from_alaw(*code)).collect(),
            Inner::G722(decoder) => decoder.decode(payload),
            Inner::Opus(..) if payload.is_empty() => Vec::new(),
            Inner::Opus(decoder, most) => opus(decoder, payload, *most),
        };
        self.last.clone_from(&sound);
        sound
    }

    /// Makes up so many samples that were lost: Opus knows how; of the others the last packet is heard again, ever more quietly.
    pub(super) fn conceal(&mut self, samples: usize) -> Vec<i16> {
        match &mut self.inner {
            Inner::Opus(decoder, most) => {
                // Whole frames of 2.5 ms alone can be made up.
                let step = (*most / MAX_OPUS_MS * 5 / 2).max(1);
                let mut sound = opus(decoder, &[], (samples / step * step).min(*most));
                sound.resize(samples.min(*most), 0);
                sound
            }
            Inner::Ulaw | Inner::Alaw | Inner::G722(_) => {
                let mut sound = Vec::with_capacity(samples);
                while sound.len() < samples && !self.last.is_empty() {
                    self.last.iter_mut().for_each(|sample| *sample = *sample / 4 * 3);
                    sound.extend_from_slice(&self.last);
                }
                sound.resize(samples, 0);
                sound
            }
        }
    }
}

fn opus(decoder: &mut OpusDecoder, payload: &[u8], samples: usize) -> Vec<i16> {
    let mut sound = vec![0; samples];
    // What is no Opus is silence.
    let count = decoder.decode_s16(payload, samples, &mut sound).unwrap_or(0);
    sound.truncate(count);
    sound
}

pub(super) enum Encoder {
    Ulaw,
    Alaw,
    G722(Box<g722::Encoder>),
    Opus(Box<OpusEncoder>),
}

impl Encoder {
    pub(super) fn new(codec: Codec, rate: u32) -> Option<Encoder> {
        Some(match codec {
            Codec::Pcmu => Encoder::Ulaw,
            Codec::Pcma => Encoder::Alaw,
            Codec::G722 => Encoder::G722(Box::default()),
            Codec::Opus => {
                let mut encoder = OpusEncoder::new(i32::try_from(rate).ok()?, 1, Application::Voip).ok()?;
                (encoder.bitrate_bps, encoder.complexity) = (OPUS_BIT_RATE, OPUS_COMPLEXITY);
                Encoder::Opus(Box::new(encoder))
            }
            Codec::G729 | Codec::G723 | Codec::Gsm => return None,
        })
    }

    /// Codes a frame; `None` where that fails, which leaves a gap.
    pub(super) fn encode(&mut self, frame: &[i16]) -> Option<Vec<u8>> {
        Some(match self {
            Encoder::Ulaw => frame.iter().map(|sample| g711::to_ulaw(*sample)).collect(),
            Encoder::Alaw => frame.iter().map(|sample| g711::to_alaw(*sample)).collect(),
            Encoder::G722(encoder) => encoder.encode(frame),
            Encoder::Opus(encoder) => {
                let mut packet = vec![0; MAX_PACKET_LEN];
                let len = encoder.encode_s16(frame, frame.len(), &mut packet).ok()?;
                packet.truncate(len);
                packet
            }
        })
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Encoder").finish_non_exhaustive()
    }
}
