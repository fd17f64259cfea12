//! Session descriptions (RFC 8866): a bounded parser for what answering needs, and the answerer (RFC 3264).
//!
//! Unknown lines are skipped, unknown attributes kept as they are. Not here: what they mean for transport and keys
//! ([`crate::anchoring`], [`crate::sdes`]), and codecs' own parameters.

mod answer;
mod parse;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use thiserror::Error;

pub use answer::{Agreement, Local, accept, answer, offer};
pub(crate) use answer::{clock_rate, head, named_codec};
pub(crate) use parse::payload_type_of;

/// The largest description that is read. Browsers' offers with candidates have about 8 KiB.
pub const MAX_SDP_LEN: usize = 32 * 1024;

/// Media lines in a description, at most. A conference of a few cameras and screens stays below it.
pub const MAX_MEDIA: usize = 32;

/// Formats in a media line, and attributes kept for them, at most; there are 128 payload types.
pub const MAX_FORMATS: usize = 128;

/// Other attributes that are kept, at most: a browser's offer of sound, camera and screen has 500.
pub const MAX_ATTRIBUTES: usize = 2048;

/// Why a description is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SdpError {
    /// It is larger than [`MAX_SDP_LEN`].
    #[error("the peer's session description is too large")]
    TooLarge,
    /// It has more than [`MAX_MEDIA`] media lines, [`MAX_FORMATS`] formats or [`MAX_ATTRIBUTES`] attributes.
    #[error("the peer's session description has too many parts")]
    TooMany,
    /// A line does not follow RFC 8866.
    #[error("the peer's session description is malformed: {0}")]
    Malformed(&'static str),
    /// There is no audio over RTP/AVP in it that can be answered.
    #[error("the peer offers no audio that is supported here")]
    NoAudio,
    /// Its media address is of another family than ours, or one nobody may send to.
    #[error("the peer's media address cannot be reached from here")]
    Address,
}

impl SdpError {
    /// Returns the SIP status that answers such an offer.
    pub const fn status(&self) -> u16 {
        match self {
            SdpError::TooLarge => 413,
            SdpError::Malformed(_) => 400,
            SdpError::TooMany | SdpError::NoAudio | SdpError::Address => 488,
        }
    }
}

/// Who sends in a stream, as the describing side sees it (RFC 8866 §6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both send; also where nothing is said.
    #[default]
    SendRecv,
    /// Only the describing side sends: a hold.
    SendOnly,
    /// Only the describing side receives.
    RecvOnly,
    /// Nobody sends.
    Inactive,
}

impl Direction {
    /// Returns the attribute's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// Returns the same stream as the other side sees it.
    pub const fn reversed(self) -> Direction {
        match self {
            Direction::SendRecv => Direction::SendRecv,
            Direction::SendOnly => Direction::RecvOnly,
            Direction::RecvOnly => Direction::SendOnly,
            Direction::Inactive => Direction::Inactive,
        }
    }

    /// Tells whether the describing side receives.
    pub const fn receives(self) -> bool {
        self.reversed().sends()
    }

    /// Tells whether the describing side sends.
    pub const fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    fn from_name(name: &str) -> Option<Direction> {
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
            .into_iter()
            .find(|direction| direction.as_str() == name)
    }
}

/// A `c=` line's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// An address; a suffix for multicast is dropped.
    Address(IpAddr),
    /// A name, or another kind of network: nothing that can be sent to without asking somebody.
    Other,
}

/// A description, as far as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session<'a> {
    /// The value of the first `t=` line, which an answer repeats (RFC 3264 §6); `0 0` without one.
    pub timing: &'a str,
    /// The session's `c=`.
    pub connection: Option<Connection>,
    /// The session's direction, for media that say none.
    pub direction: Option<Direction>,
    /// The session's other attributes, as they are written.
    pub attributes: Vec<&'a str>,
    /// The media lines, in order.
    pub media: Vec<Media<'a>>,
}

/// Returns the values of all `a=fingerprint` lines, of the session and of its media (RFC 8122 §5), as they are written.
pub fn fingerprints(description: &[u8]) -> impl Iterator<Item = &str> {
    let lines = description.split(|byte| *byte == b'\n');
    lines.filter_map(|line| std::str::from_utf8(line.strip_prefix(b"a=fingerprint:")?).ok().map(str::trim))
}

impl<'a> Session<'a> {
    /// Reads a description. Line breaks may be CRLF or LF (RFC 8866 §9).
    ///
    /// # Errors
    ///
    /// [`SdpError::TooLarge`], [`SdpError::TooMany`] or [`SdpError::Malformed`].
    pub fn parse(text: &'a [u8]) -> Result<Session<'a>, SdpError> {
        parse::session(text)
    }

    /// Returns where a stream's sender wants to receive it, if that is an address.
    pub fn connection_of(&self, media: &Media<'_>) -> Option<Connection> {
        media.connection.or(self.connection)
    }

    /// Returns a stream's direction.
    pub fn direction_of(&self, media: &Media<'_>) -> Direction {
        media.direction.or(self.direction).unwrap_or_default()
    }
}

/// A media line with its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media<'a> {
    /// `audio`, `video` …
    pub kind: &'a str,
    /// The port; 0 where the stream is refused or ended.
    pub port: u16,
    /// The profile, such as `RTP/AVP`.
    pub protocol: &'a str,
    /// The formats; for RTP profiles payload types.
    pub formats: Vec<&'a str>,
    /// Its own `c=`.
    pub connection: Option<Connection>,
    /// Its own direction.
    pub direction: Option<Direction>,
    /// Its `a=rtpmap` lines.
    pub rtpmaps: Vec<RtpMap<'a>>,
    /// Its `a=fmtp` lines: payload type and parameters.
    pub fmtps: Vec<(u8, &'a str)>,
    /// The port of `a=rtcp` (RFC 3605).
    pub rtcp: Option<u16>,
    /// Its other attributes, as they are written.
    pub attributes: Vec<&'a str>,
}

impl<'a> Media<'a> {
    /// Returns the values of its attributes of this name, among those that are nothing else of this type.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.attributes.iter().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(':'))
    }
}

/// An `a=rtpmap` line (RFC 8866 §6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpMap<'a> {
    /// The payload type, below 128.
    pub payload_type: u8,
    /// `encoding/clock[/channels]` as it is written.
    pub description: &'a str,
    /// The encoding's name.
    pub encoding: &'a str,
    /// The clock rate in Hz.
    pub clock_rate: u32,
}
