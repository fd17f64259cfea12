//! The codecs that are converted, behind one face.

use opus_pure::{Application, OpusDecoder, OpusEncoder};

use super::conceal::Shape;
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
    /// What came last, from which losses are concealed.
    shape: Shape,
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
        Some(Decoder { inner, shape: Shape::new(rate) })
    }

    pub(super) fn decode(&mut self, payload: &[u8]) -> Vec<i16> {
        let sound: Vec<i16> = match &mut self.inner {
            Inner::Ulaw => payload.iter().map(|code| g711::from_ulaw(*code)).collect(),
            Inner::Alaw => payload.iter().map(|code| g711::from_alaw(*code)).collect(),
            Inner::G722(decoder) => decoder.decode(payload),
            Inner::Opus(..) if payload.is_empty() => Vec::new(),
            Inner::Opus(decoder, most) => opus(decoder, payload, *most),
        };
        self.shape.hear(sound)
    }

    /// Recovers so many samples that were lost from the packet behind them, where that brings them again.
    pub(super) fn recover(&mut self, next: &[u8], samples: usize) -> Option<Vec<i16>> {
        let Inner::Opus(decoder, most) = &mut self.inner else { return None };
        // Whole frames of 2.5 ms alone can be had.
        let step = (*most / MAX_OPUS_MS * 5 / 2).max(1);
        let samples = (samples / step * step).min(*most);
        let mut sound = vec![0; samples];
        if !has_redundancy(next) || samples == 0 {
            return None;
        }
        let count = decoder.decode_fec_s16(next, samples, &mut sound).ok().filter(|count| *count > 0)?;
        sound.truncate(count);
        Some(self.shape.hear(sound))
    }

    /// Makes so many samples or a few more that go on where the last ones end, and after which the next ones fit.
    pub(super) fn stretch(&self, least: usize) -> Vec<i16> {
        self.shape.stretch(least)
    }

    /// Leaves up to so many samples out of what was decoded.
    pub(super) fn shorten(&self, sound: &[i16], most: usize) -> Vec<i16> {
        self.shape.shorten(sound, most)
    }

    /// Makes up so many samples that were lost: what was said last goes on, ever more quietly. Opus would know how as well, but what it makes of
    /// anything else than a voice does not fit what follows.
    pub(super) fn conceal(&mut self, samples: usize) -> Vec<i16> {
        self.shape.conceal(samples)
    }
}

/// Whether a packet of Opus brings what stood in the one before it again: the flag stands behind those of activity at the beginning of its first
/// frame (RFC 6716 §4.2.3, §4.2.4). Packets of many frames, which phones do not send, are not looked at.
fn has_redundancy(packet: &[u8]) -> bool {
    let [toc, first, ..] = packet else { return false };
    // Configurations of the table of RFC 6716 §3.1: SILK alone has frames of 10 to 60 ms, in hybrids they are of 20 ms at most, CELT has no such flag.
    let frames = match (toc >> 3, toc & 3) {
        (config @ 0..=11, 0 | 1) => match config & 3 {
            0 | 1 => 1,
            frames => frames,
        },
        (12..=15, 0 | 1) => 1,
        (_, _) => return false,
    };
    first >> (7 - frames) & 1 == 1
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
                encoder.use_inband_fec = true;
                Encoder::Opus(Box::new(encoder))
            }
            Codec::G729 | Codec::G723 | Codec::Gsm => return None,
        })
    }

    /// Expects such a share of what it codes to be lost: Opus sends some of it twice then.
    pub(super) fn expect_loss(&mut self, percent: i32) {
        if let Encoder::Opus(encoder) = self {
            encoder.packet_loss_perc = percent.clamp(0, 100);
        }
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
