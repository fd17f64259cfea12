//! Every bound and period of links, with its reason.

use std::time::Duration;

/// Long-lived links that the DHT wishes for at most (its `max_links`), as many of ordinary nodes (its `max_clients`), and some that
/// are on their way in or out.
pub(crate) const MAX_LINKS: usize = 64 + 64 + 16;

/// Inbound connections that have not proved who they are yet. Each costs a key exchange; ours are done within some
/// milliseconds, so a queue of this length is an attack.
pub(crate) const MAX_HANDSHAKES: usize = 32;

/// From this many inbound handshakes on, callers have to prove their address first (RFC 9000 §8.1.2).
pub(crate) const VALIDATE_FROM: usize = 8;

/// Dials under way at the same time.
pub(crate) const MAX_DIALS: usize = 32;

/// How long QUIC may take to reach the peer; four initial packets go out in this time.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The same through a relay, to which there may be no connection yet.
pub(crate) const RELAYED_DIAL_TIMEOUT: Duration = Duration::from_secs(8);

/// How long hellos may take once connected.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection of the peer waits for our own dial to the same peer, when that one is to be kept: most of a
/// round trip round the world. The peer may be unreachable for us and we for it not, so it may not wait for ever.
pub(crate) const TIE_BREAK_WAIT: Duration = Duration::from_millis(400);

/// How long a dial that the peer closed as a duplicate waits for the peer's own to arrive.
pub(crate) const DUPLICATE_WAIT: Duration = Duration::from_secs(2);

/// A node certificate and home certificates of [`MAX_HOMES`] domains.
pub(crate) const MAX_HELLO: usize = 24 * 1024;

/// Domains that one node serves.
pub(crate) const MAX_HOMES: usize = 16;

/// Addresses of one peer: a few interfaces of both families and what a NAT shows of them.
pub(crate) const MAX_ADDRESSES: usize = 16;

/// Addresses of one host that are dialled for a neighbour: the port that its packets come from, and one that it listens at.
pub(crate) const MAX_DIAL_BACK_ADDRESSES: usize = 2;

/// Period of our own liveness check. iroh takes 10 to 30 s to notice some deaths, and a caller is waiting.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(2);

/// Nothing heard for three pings: dead.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(6);

/// Largest message on the link's own stream.
pub(crate) const MAX_FRAME: usize = 64 * 1024;

/// Messages that wait for a slow link; more are dropped, as on any network.
pub(crate) const MAX_QUEUED: usize = 512;

/// Bytes that wait for a slow link: two seconds at 4 Mbit/s.
pub(crate) const MAX_QUEUED_BYTES: usize = 1024 * 1024;

/// Messages from all links that wait for the DHT; then links wait, and QUIC slows the peers.
pub(crate) const MAX_INPUTS: usize = 1024;

/// Streams that a peer may have open on one link: one for each call between two large nodes, and some.
pub(crate) const MAX_STREAMS: u32 = 4096;

/// Streams of one link whose first byte has not come yet.
pub(crate) const MAX_UNTAGGED: usize = 64;

/// How long a stream's first byte may take.
pub(crate) const TAG_TIMEOUT: Duration = Duration::from_secs(5);

/// New streams of one protocol that wait for their user.
pub(crate) const MAX_ARRIVALS: usize = 1024;

/// How long opening a stream may wait for the peer to allow one more.
pub(crate) const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// What a peer may send on one stream before its user reads: a SIP message and a half (128 KiB).
pub(crate) const STREAM_WINDOW: u32 = 192 * 1024;

/// What a peer may send on all streams of a link before their users read.
pub(crate) const LINK_WINDOW: u32 = 4 * 1024 * 1024;

/// Datagrams of a link that wait to be sent, or to be read, in bytes: half a second of sound of 60 calls, each way. What is older makes
/// room, since it would be late.
pub(crate) const DATAGRAM_BUFFER: usize = 256 * 1024;

/// Largest request or reply of an enrolment.
pub(crate) const MAX_ENROLMENT: usize = 64 * 1024;

/// How long an enrolment may take, from dialling to the reply.
pub(crate) const ENROLMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Enrolments at the same time: each signs two certificates and writes to the disk.
pub(crate) const MAX_ENROLMENTS: usize = 4;

/// Enrolments in a row, and the time after which one more is allowed: nobody guesses a token at this pace, and it is four
/// times what one source may, so that one cannot keep the others out.
pub(crate) const ENROLMENT_RATE: (u32, Duration) = (40, Duration::from_secs(1));

/// The same from one source: machines of one office that are set up together share an address.
pub(crate) const SOURCE_ENROLMENT_RATE: (u32, Duration) = (10, Duration::from_secs(4));

/// Sources of enrolments that are kept apart, some 20 KiB.
pub(crate) const MAX_ENROLMENT_SOURCES: usize = 256;

/// How long shutting down waits for peers to hear our goodbye: a round trip round the world. Dials that have not reached
/// anybody would hold it up for seconds.
pub(crate) const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// Peers that we dial since somebody has introduced us: more than may be dialled at once. Of more it is forgotten how they came.
pub(crate) const MAX_INTRODUCED: usize = 256;
