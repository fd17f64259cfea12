//! Media on sockets: pairs of ports, and the tasks that run an echo or carry a call. The only part of this crate that knows of clocks and tokio.

#![allow(clippy::disallowed_methods, reason = "the room that the pure ones leave sockets, clocks and tasks to")]

mod anchored;
mod arrivals;
mod between;
mod ports;
mod session;
mod shares;
mod talk;

#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::sdp::SdpError;

pub use anchored::{AnchoredCall, Conversions, Facing, Monitor, Place};
pub use between::{Between, Link, NeighbourId};
pub use ports::{PortPair, PortRange};
pub use session::EchoSession;
pub use shares::{Most, Share, Shares};
pub use talk::TalkSession;

/// Why no session could be started or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The peer's description cannot be answered.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// As many sessions run as are allowed.
    #[error("all media sessions allowed here are in use")]
    TooManySessions,
    /// As many calls are converted as are allowed.
    #[error("as many calls are converted between codecs here as are allowed")]
    TooManyConverted,
    /// The party that a call is charged to uses as many ports as it may.
    #[error("as many calls of one caller run through this node as are allowed")]
    StreamsOfOne,
    /// The same for conversions.
    #[error("as many calls of one caller are converted between codecs here as are allowed")]
    ConversionsOfOne,
    /// No pair of ports of the range could be bound.
    #[error("no free pair of RTP ports")]
    NoPort(#[source] Option<std::io::Error>),
    /// The link to the other node has as many flows as it may.
    #[error("the link to the other node carries as many streams as are allowed")]
    TooManyFlows,
    /// The range holds no even port with its successor.
    #[error("the range of RTP ports holds no pair")]
    EmptyRange,
}

impl MediaError {
    /// Returns the SIP status that fits.
    pub const fn status(&self) -> u16 {
        match self {
            MediaError::Sdp(error) => error.status(),
            MediaError::TooManySessions
            | MediaError::TooManyConverted
            | MediaError::TooManyFlows
            | MediaError::NoPort(_) => 503,
            MediaError::StreamsOfOne | MediaError::ConversionsOfOne => 403,
            MediaError::EmptyRange => 500,
        }
    }

    /// Tells whether something here is used up: what was described is no reason.
    pub const fn is_limit(&self) -> bool {
        match self {
            MediaError::TooManySessions
            | MediaError::TooManyConverted
            | MediaError::TooManyFlows
            | MediaError::StreamsOfOne
            | MediaError::ConversionsOfOne
            | MediaError::NoPort(_) => true,
            MediaError::Sdp(_) | MediaError::EmptyRange => false,
        }
    }
}
