//! Every bound and period of the DHT, with its reason.

use std::time::Duration;

use super::role::RoleChoice;
use super::table::SubnetOf;
use crate::bucket::Rate;

/// Largest message on a link: an answer with a full dictionary and its certificates.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// What one message may carry of records before the rest is left for the next: room for the envelope and node lists.
pub const MAX_BATCH: usize = 48 * 1024;

/// Siblings: closest nodes that each node keeps links with. More than the replicas, so that a node next to the closest one
/// still knows all replicas.
pub const SIBLINGS: usize = 8;

/// Links that an ordinary node opens to nodes that serve: some may be silent or lie, and one has to be left.
pub const CLIENT_LINKS: usize = 4;

/// Signatures that one link may make this node check (threat 29): a check costs some hundred microseconds of a processor, what asks
/// for it costs its sender nothing. At once, what a neighbour hands over when this node joins or somebody dies, for some thousand
/// users: half a second of a small machine's processor. Then a thousand a second, more than a home node announces when all its
/// phones come back. What is beyond it is refused before any signature is looked at, and comes again with the next repair or
/// retry. What is held already is not checked again, and costs nothing.
pub(crate) const CHECKS: Rate = (4096, Duration::from_millis(1));

/// Values that one link may have passed on to others, who count them as this node's: a quarter of [`CHECKS`], so that whoever
/// floods through this node leaves most of it to its own records and to those of others. A node's own records leave over several links.
pub(crate) const FORWARDS: Rate = (1024, Duration::from_millis(4));

/// Most nodes in one list.
pub const MAX_NODES: usize = 8;

/// Most hops of a request; 10,000 nodes with 64 links need four, a broken neighbourhood a few more.
pub const MAX_HOPS: u8 = 20;

/// Next hops that one hop tries before it gives up: three silent neighbours in a row are a partition.
pub const MAX_TRIES: usize = 4;

/// Bounds of the soft timeout of a hop, which is twice the link's round trip.
pub const HOP_TIMEOUT: (Duration, Duration) = (Duration::from_millis(60), Duration::from_millis(400));

/// Bounds of the soft timeout of a whole request, which is three times what requests took lately.
pub const REQUEST_TIMEOUT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(1000));

/// A request is over after this, whatever is still under way: a caller hears something by then.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a hop remembers a request: as long as anyone may wait for its answer, and a little for late duplicates.
pub const RELAY_LIFETIME: Duration = Duration::from_secs(5);

/// Requests of others under way through one node: 4096 of up to 64 KiB would be too much memory only for an attacker who owns
/// every link, and [`MAX_RELAYS_PER_LINK`] stops one who owns a few.
pub const MAX_RELAYS: usize = 4096;

/// Requests under way that came over one link.
pub const MAX_RELAYS_PER_LINK: usize = 1024;

/// Commands of our own under way.
pub const MAX_OPERATIONS: usize = 1024;

/// Candidates one look-up keeps; a liar's list cannot make it longer.
pub const MAX_SHORTLIST: usize = 32;

/// Values one answer to a read is looked at for: a full dictionary.
pub const MAX_VALUES_READ: usize = 64;

/// Nodes remembered without a link to them.
pub const MAX_CONTACTS: usize = 512;

/// Nodes remembered without a link that are said to be in one subnet: no site has more home nodes worth knowing, and a liar's list
/// of made-up ones must not drive out all others.
pub const MAX_CONTACTS_PER_SUBNET: usize = 64;

/// Links that are open, or being opened, to ask their node and for nothing else: four reads of what is nowhere, or of what liars hide,
/// at a time, and 16 MiB. More reads share what there is.
pub const MAX_VISITED: usize = 128;

/// Back-off between dials of one node, and how often before it is forgotten: about an hour in all.
pub const REDIAL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(300));

/// Failed dials after which a node is forgotten.
pub const MAX_DIAL_FAILURES: u32 = 20;

/// Period of dialling a node that was lost, whatever its back-off: the halves of a partition find each other this soon.
pub const PROBE: Duration = Duration::from_secs(15);

/// Nodes remembered that do not understand a put. When there are more they are all asked once more: each costs a request.
pub const MAX_PLAIN: usize = 256;

/// Offers and hand-overs of our own under way; the rest waits its turn. Each is at most a message, so 2 MiB in all.
pub const MAX_HAND_OVERS: usize = 32;

/// A dial without an answer counts as failed after this.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// What may differ between overlays, nodes and tests.
#[derive(Debug, Clone)]
pub struct Config {
    /// Nodes that hold each record, 2 to 8.
    pub replicas: usize,
    /// Acknowledgements that make a write succeed; all there are when fewer exist.
    pub write_acknowledgements: usize,
    /// Replicas that a full read asks.
    pub read_replicas: usize,
    /// Whether this node stores and forwards for others (RFC 6940 §3.2.1: a peer), or decides that by itself. One that does not, an
    /// ordinary node, uses the overlay through those that do.
    pub role: RoleChoice,
    /// Most ordinary nodes that use the overlay through this one; more are sent elsewhere.
    pub max_clients: usize,
    /// First hops that are tried before "not found" is believed.
    pub paths: usize,
    /// Most long-lived links; a quarter more may be there while they are young.
    pub max_links: usize,
    /// Links wished for in each bucket outside the neighbourhood.
    pub bucket_links: usize,
    /// Links to nodes of one subnet beyond which the youngest of them are closed, once this node has as many links in all as it
    /// opens by itself.
    pub max_links_per_subnet: usize,
    /// Links to nodes of one subnet that count as filling a bucket; what is missing is looked for elsewhere.
    pub max_bucket_links_per_subnet: usize,
    /// Reads the subnet out of a node's address; where it finds none, the two bounds above do not hold.
    pub subnet_of: SubnetOf,
    /// Period of looking for closer and further nodes; jittered by a quarter, and up to eight times as long where nothing changes.
    pub refresh: Duration,
    /// Period of comparing what is held with those who should hold it too; jittered and stretched in the same way.
    pub repair: Duration,
    /// How long changes of the neighbourhood are gathered before records are handed over.
    pub hand_over_delay: Duration,
    /// Most values held. Where there are as many, the owner that has most makes room for those that have less.
    pub max_values: usize,
    /// Most memory that values take, in bytes and about; when it is full, the same holds.
    pub max_bytes: usize,
    /// Most values held of one writer.
    pub max_values_per_writer: usize,
    /// Most values this node itself keeps published.
    pub max_published: usize,
    /// Whether there is a store to be told what is held; then [`Dht::poll_persist`](super::Dht::poll_persist) has to be drained.
    pub persist: bool,
}

impl Config {
    /// Returns how many links this node opens by itself: a quarter is left for those who want one with it.
    pub(super) fn own_links(&self) -> usize {
        self.max_links - self.max_links / 4
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            replicas: 5,
            write_acknowledgements: 3,
            read_replicas: 3,
            // Who decides by itself has to be told what others can tell it alone: whether they can dial it.
            role: RoleChoice::Super,
            // As many as nodes that serve: neither kind keeps the other out, and a link costs as much either way.
            max_clients: 64,
            // With 20 % liars one path finds half of what there is, eight find 99 %.
            paths: 8,
            max_links: 64,
            bucket_links: 4,
            // A quarter of all links, so that whoever has one network is always the minority.
            max_links_per_subnet: 16,
            max_bucket_links_per_subnet: 2,
            subnet_of: |_| None,
            refresh: Duration::from_secs(60),
            repair: Duration::from_secs(60),
            hand_over_delay: Duration::from_millis(300),
            max_values: 100_000,
            // What a small machine can spare, and 100,000 registrations of names of usual length need.
            max_bytes: 96 * 1024 * 1024,
            // An operator's home node writes for all its users; in an overlay of five nodes each holds them all.
            max_values_per_writer: 50_000,
            max_published: 100_000,
            persist: false,
        }
    }
}
