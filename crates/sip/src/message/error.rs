//! Why a message is refused, and the status that says so.

use thiserror::Error;

use super::Header;

/// What the peer did wrong in a message. Each has the status that answers it, where it was a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The head does not end: no empty line.
    #[error("the head does not end with an empty line")]
    Unfinished,
    /// The head is larger than [`MAX_HEAD_LEN`](super::MAX_HEAD_LEN).
    #[error("the head is too large")]
    HeadTooLarge,
    /// The message is larger than [`MAX_MESSAGE_LEN`](super::MAX_MESSAGE_LEN).
    #[error("the message is too large")]
    MessageTooLarge,
    /// There are more than [`MAX_FIELDS`](super::MAX_FIELDS) header fields.
    #[error("there are too many header fields")]
    TooManyFields,
    /// A line, with what is folded to it, is longer than [`MAX_LINE_LEN`](super::MAX_LINE_LEN).
    #[error("a header field is too long")]
    LineTooLong,
    /// There are more than [`MAX_VIAS`](super::MAX_VIAS) Via values.
    #[error("there are too many Via values")]
    TooManyVias,
    /// The head is not UTF-8 (RFC 3261 §7).
    #[error("the head is not UTF-8")]
    NotUtf8,
    /// A CR without LF, or an LF without CR, in the head: two readers could see different lines.
    #[error("a bare CR or LF in the head")]
    BareLineBreak,
    /// A NUL in the head outside a quoted pair (RFC 3261 §25.1).
    #[error("a NUL in the head")]
    Nul,
    /// Neither a request line nor a status line (RFC 3261 §7.1, §7.2).
    #[error("the start line is malformed")]
    StartLine,
    /// Another version than SIP/2.0.
    #[error("the version is not SIP/2.0")]
    Version,
    /// The status code is not between 100 and 699.
    #[error("the status code is out of range")]
    StatusCode,
    /// A line of the head is no header field.
    #[error("a header field is malformed")]
    FieldLine,
    /// The Content-Length is no number, or a huge one.
    #[error("the Content-Length is malformed")]
    ContentLength,
    /// Two Content-Length fields differ, so two readers could see different messages.
    #[error("Content-Length fields differ")]
    ContentLengthConflict,
    /// A message on a stream says no Content-Length (RFC 3261 §18.3).
    #[error("Content-Length is missing on a stream")]
    ContentLengthMissing,
    /// The datagram ends before its Content-Length.
    #[error("the body is shorter than Content-Length")]
    BodyTruncated,
    /// A mandatory field is missing (RFC 3261 §8.1.1).
    #[error("{} is missing", .0.as_str())]
    Missing(Header),
    /// A field that may appear once appears again (RFC 3261 §7.3.1).
    #[error("{} is repeated", .0.as_str())]
    Repeated(Header),
    /// A field's value does not follow its grammar, or a number in it is out of range.
    #[error("{} is malformed", .0.as_str())]
    Malformed(Header),
    /// The CSeq's method is not the request's (RFC 3261 §8.1.1.5).
    #[error("the method of CSeq differs from the request's")]
    CSeqMethod,
    /// The Request-URI, or another URI that was parsed, is malformed or longer than [`MAX_URI_LEN`](super::MAX_URI_LEN).
    #[error("a URI is malformed")]
    Uri,
    /// The Request-URI's scheme is not one that is served (RFC 3261 §8.2.2.1).
    #[error("the scheme of the Request-URI is not supported")]
    Scheme,
}

impl ParseError {
    /// Returns the status that answers a request with this fault.
    pub const fn status(&self) -> u16 {
        match self {
            ParseError::HeadTooLarge
            | ParseError::MessageTooLarge
            | ParseError::TooManyFields
            | ParseError::LineTooLong => 513,
            ParseError::Version => 505,
            ParseError::Scheme => 416,
            ParseError::Unfinished
            | ParseError::TooManyVias
            | ParseError::NotUtf8
            | ParseError::BareLineBreak
            | ParseError::Nul
            | ParseError::StartLine
            | ParseError::StatusCode
            | ParseError::FieldLine
            | ParseError::ContentLength
            | ParseError::ContentLengthConflict
            | ParseError::ContentLengthMissing
            | ParseError::BodyTruncated
            | ParseError::Missing(_)
            | ParseError::Repeated(_)
            | ParseError::Malformed(_)
            | ParseError::CSeqMethod
            | ParseError::Uri => 400,
        }
    }

    /// Returns a short reason phrase for that status, saying what to look at.
    pub const fn reason(&self) -> &'static str {
        match self {
            ParseError::Unfinished => "Unfinished Head",
            ParseError::HeadTooLarge => "Head Too Large",
            ParseError::MessageTooLarge => "Message Too Large",
            ParseError::TooManyFields => "Too Many Header Fields",
            ParseError::LineTooLong => "Header Field Too Long",
            ParseError::TooManyVias => "Too Many Vias",
            ParseError::NotUtf8 => "Head Is Not UTF-8",
            ParseError::BareLineBreak => "Bare CR Or LF",
            ParseError::Nul => "NUL In Head",
            ParseError::StartLine => "Malformed Start Line",
            ParseError::Version => "Version Not Supported",
            ParseError::StatusCode => "Bad Status Code",
            ParseError::FieldLine => "Malformed Header Field",
            ParseError::ContentLength => "Bad Content-Length",
            ParseError::ContentLengthConflict => "Conflicting Content-Length",
            ParseError::ContentLengthMissing => "Missing Content-Length",
            ParseError::BodyTruncated => "Body Shorter Than Content-Length",
            ParseError::Missing(_) => "Missing Header Field",
            ParseError::Repeated(_) => "Repeated Header Field",
            ParseError::Malformed(_) => "Malformed Header Field Value",
            ParseError::CSeqMethod => "CSeq Method Mismatch",
            ParseError::Uri => "Malformed URI",
            ParseError::Scheme => "Unsupported URI Scheme",
        }
    }
}
