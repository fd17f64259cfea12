//! Enrolment: how a machine that holds a ticket, but no certificate yet, asks a node for one.

use super::PeerAddress;

/// Why an enrolment came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// Our side: no socket.
    #[error("cannot open a socket: {0}")]
    Local(String),
    /// The network, or the inviter is not running.
    #[error("the inviting node does not answer: {0}")]
    Unreachable(String),
    /// The inviter hung up on us.
    #[error("the inviting node broke off: {0}")]
    BrokenOff(String),
    /// Too large a request or reply.
    #[error("larger than {0} bytes")]
    TooLarge(usize),
}

/// Asks the inviter: one request, one reply, both opaque here and at most 64 KiB. Takes 10 s at most.
///
/// `link_secret` is the secret of the link key that the new node will have, so the inviter knows who asks.
///
/// # Errors
/// See [`EnrolError`].
pub async fn ask(link_secret: [u8; 32], inviter: PeerAddress, request: &[u8]) -> Result<Vec<u8>, EnrolError> {
    let _ = (link_secret, inviter, request);
    Err(EnrolError::Unreachable("not built yet".to_owned()))
}
