//! Who may offer a session description when (RFC 3264 §4, RFC 3261 §13.2.1, RFC 3262 §5, RFC 3311 §5). What descriptions
//! say is the node's business.

use crate::message::{Header, Message};

/// Where offer and answer stand in one dialog. `agreed`: whether an earlier exchange was completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Negotiation {
    /// Nobody offers anything.
    Quiet { agreed: bool },
    /// We offered; the answer is awaited.
    OfferSent { agreed: bool },
    /// The other side offered; the node has yet to answer.
    OfferReceived { agreed: bool },
}

impl Negotiation {
    pub(crate) const NEW: Negotiation = Negotiation::Quiet { agreed: false };

    /// Whether either side may offer now.
    pub(crate) fn is_quiet(self) -> bool {
        match self {
            Negotiation::Quiet { .. } => true,
            Negotiation::OfferSent { .. } | Negotiation::OfferReceived { .. } => false,
        }
    }

    /// Takes note of a description that leaves.
    pub(crate) fn sent(&mut self) {
        *self = match *self {
            Negotiation::Quiet { agreed } | Negotiation::OfferSent { agreed } => Negotiation::OfferSent { agreed },
            Negotiation::OfferReceived { .. } => Negotiation::Quiet { agreed: true },
        }
    }

    /// Takes note of a description that arrived.
    pub(crate) fn received(&mut self) {
        *self = match *self {
            Negotiation::Quiet { agreed } | Negotiation::OfferReceived { agreed } => {
                Negotiation::OfferReceived { agreed }
            }
            Negotiation::OfferSent { .. } => Negotiation::Quiet { agreed: true },
        }
    }

    /// The offer under way was refused: all stays as it was (RFC 3261 §14.1).
    pub(crate) fn refused(&mut self) {
        match *self {
            Negotiation::Quiet { .. } => {}
            Negotiation::OfferSent { agreed } | Negotiation::OfferReceived { agreed } => {
                *self = Negotiation::Quiet { agreed };
            }
        }
    }
}

/// Whether the body of a message describes a session.
pub(crate) fn has_description(message: &Message) -> bool {
    !message.body().is_empty() && message.header(Header::ContentType).is_some_and(is_description)
}

/// Whether a body of this type describes a session; several parts are taken to have it among them (RFC 5621).
pub(crate) fn is_description(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/sdp" || kind.starts_with("multipart/")
}
