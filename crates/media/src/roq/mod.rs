//! RTP over QUIC datagrams, between two nodes (draft-ietf-avtcore-rtp-over-quic §5.2): before each packet a flow id, by which its
//! receiver knows the stream. A flow carries the RTP and the RTCP of one stream, told apart as RFC 5761 says. Pure.
//!
//! `framing` writes and reads datagrams; `flows` is the receiver's table: whose a flow is, and how much a neighbour may send.
//! Nothing here encrypts: the link does.
//!
//! One thing is added to the draft, which would open a stream for a packet that no datagram takes: such a packet is cut in two. A
//! receiver's flow ids are multiples of four; the next two carry the halves, each behind a number that both have.

mod flows;
mod framing;

#[cfg(test)]
mod tests;

pub use flows::{DATAGRAMS_PER_FLOW, Dropped, Flows, MAX_FLOWS_PER_LINK, Refused};
pub use framing::{FRAMING_LEN, Framed, Joiner, Piece, pieces};

/// Flow ids of one stream: the packets, their first halves, their second halves, and one to spare.
pub const FLOW_STEP: u64 = 4;

/// The largest flow id there is: a QUIC integer has 62 bits (RFC 9000 §16).
pub const MAX_FLOW: u64 = (1 << 62) - 1;

/// Reads a flow id as a description has it: a decimal number that a stream may have.
pub fn parse_flow(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let flow: u64 = text.parse().ok().filter(|_| is_number)?;
    (flow.is_multiple_of(FLOW_STEP) && flow < MAX_FLOW).then_some(flow)
}
