//! The byte streams that a link carries. The first byte of each names the protocol that it speaks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use iroh::endpoint::VarInt;
use meshtone_identity::{HomeCertificate, NodeCertificate, NodeId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::code;

/// What a stream on a link is for. The numbers go over the wire and are never given to another protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// The link's own: hello, liveness, messages of the DHT. One stream, opened by the dialling side.
    Overlay = 1,
    /// SIP messages, one stream for each Call-ID.
    Sip = 2,
    /// Replication of the account table among home nodes.
    Accounts = 3,
    /// Requests to the overlay's authority: certificates for people.
    Authority = 4,
    /// Which nodes the authority has revoked, told from neighbour to neighbour.
    Revocations = 5,
    /// What users of another node need to log in at this node's TURN server.
    Turn = 6,
    /// What belongs to people, among the home nodes of their domain.
    Belongings = 7,
}

impl Protocol {
    /// The protocols that users of the overlay open streams for.
    pub(crate) const FOR_USERS: [Self; 6] =
        [Self::Sip, Self::Accounts, Self::Authority, Self::Revocations, Self::Turn, Self::Belongings];

    /// Returns the first byte of a stream of this protocol.
    pub const fn number(self) -> u8 {
        match self {
            Self::Overlay => 1,
            Self::Sip => 2,
            Self::Accounts => 3,
            Self::Authority => 4,
            Self::Revocations => 5,
            Self::Turn => 6,
            Self::Belongings => 7,
        }
    }

    /// Returns the protocol whose streams begin with this byte.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Overlay),
            2 => Some(Self::Sip),
            3 => Some(Self::Accounts),
            4 => Some(Self::Authority),
            5 => Some(Self::Revocations),
            6 => Some(Self::Turn),
            7 => Some(Self::Belongings),
            _ => None,
        }
    }
}

/// The sending half of a stream. Shutting it down ends it in order; dropping it ends it, too, once all is delivered.
#[derive(Debug)]
pub struct SendStream(iroh::endpoint::SendStream);

/// The receiving half of a stream. Dropping it tells the other side to stop sending.
#[derive(Debug)]
pub struct RecvStream(iroh::endpoint::RecvStream);

/// What a linked node has proved.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// Its node certificate.
    pub certificate: NodeCertificate,
    /// Its home certificates.
    pub homes: Vec<HomeCertificate>,
    /// The newest version of the link protocol that both sides speak.
    pub version: u16,
}

/// A stream that another node opened.
#[derive(Debug)]
pub struct IncomingStream {
    /// The node at the other end, as its certificate names it.
    pub from: NodeId,
    /// The domains that node may speak for, as its home certificates say.
    pub domains: Vec<String>,
    /// What it has proved; those domains follow from that.
    pub neighbour: Neighbour,
    /// What we say.
    pub send: SendStream,
    /// What it says.
    pub recv: RecvStream,
}

impl SendStream {
    pub(super) fn new(stream: iroh::endpoint::SendStream) -> Self {
        Self(stream)
    }

    /// Breaks the stream off: what was not delivered yet may be lost, and the other side reads an error.
    pub fn abort(mut self) {
        // An error only says that the stream has ended already.
        let _ = self.0.reset(VarInt::from_u32(code::ABORTED));
    }
}

impl RecvStream {
    pub(super) fn new(stream: iroh::endpoint::RecvStream) -> Self {
        Self(stream)
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.0), context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.0), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.0), context)
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.0), context, buffer)
    }
}
