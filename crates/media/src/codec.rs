//! Codecs that are known by name (RFC 3551, RFC 7587): what they are called, and what is known of how they take losses.

/// A codec for speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711, µ-law.
    Pcmu,
    /// G.711, A-law.
    Pcma,
    /// G.722, of twice the bandwidth of a telephone.
    G722,
    /// Opus (RFC 6716).
    Opus,
    /// G.729.
    G729,
    /// G.723.1.
    G723,
    /// GSM, full rate.
    Gsm,
}

/// The names that descriptions have for them, and their static payload types (RFC 3551 table 4).
const NAMES: &[(Codec, &str, Option<u8>)] = &[
    (Codec::Pcmu, "PCMU", Some(0)),
    (Codec::Pcma, "PCMA", Some(8)),
    (Codec::G722, "G722", Some(9)),
    (Codec::Opus, "opus", None),
    (Codec::G729, "G729", Some(18)),
    (Codec::G723, "G723", Some(4)),
    (Codec::Gsm, "GSM", Some(3)),
];

impl Codec {
    /// Returns the codec of this name, in whatever case (RFC 8866 §6.6).
    pub fn named(encoding: &str) -> Option<Codec> {
        NAMES.iter().find(|(_, name, _)| encoding.eq_ignore_ascii_case(name)).map(|(codec, _, _)| *codec)
    }

    /// Returns the codec of a static payload type.
    pub fn of_static(payload_type: u8) -> Option<Codec> {
        NAMES.iter().find(|(_, _, known)| *known == Some(payload_type)).map(|(codec, _, _)| *codec)
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(codec, _, _)| *codec == self).map_or("", |(_, name, _)| name)
    }
}
