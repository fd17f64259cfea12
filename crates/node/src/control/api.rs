//! The JSON of administration. Fields are added, never renamed: scripts read them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::account::Account;
use crate::transport::tls::showing::{Described, Origin};

/// How a node stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The node's id.
    pub node: String,
    /// The overlay's id.
    pub overlay: String,
    /// The domain served.
    pub domain: String,
    /// The program's version.
    pub version: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Links to other nodes.
    pub links: Vec<Link>,
    /// Contacts registered at this node.
    pub registrations: Vec<Registration>,
    /// Calls that pass through this node.
    pub calls: Vec<Call>,
    /// The last calls whose sound ran through this node, and that are over, oldest first.
    #[serde(default)]
    pub finished_calls: Vec<FinishedCall>,
    /// Media that goes over the links to other nodes.
    #[serde(default)]
    pub media_between: MediaBetween,
    /// How much media runs through this node, and may.
    #[serde(default)]
    pub media: MediaUse,
    /// Accounts at providers.
    #[serde(default)]
    pub trunks: Vec<TrunkStatus>,
    /// The servers behind, where this node is the first stage of a farm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub second_stage: Vec<ServerStatus>,
    /// The STUN and TURN server, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnStatus>,
    /// Overlay records held for others and for us, by kind.
    pub records: BTreeMap<String, usize>,
    /// The account table.
    pub accounts: AccountsStatus,
    /// What another node may be given as `--peer` to find this one, one for each address.
    #[serde(default)]
    pub peer: Vec<String>,
    /// Where phones find this node, by UDP and TCP.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub sip: Vec<SocketAddr>,
    /// The same by TLS.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub sips: Vec<SocketAddr>,
    /// What part this node takes in the overlay.
    pub role: Role,
    /// The relay that this node runs for others, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<OwnRelay>,
    /// The relays of others through which this node is reached, the nearest first.
    #[serde(default)]
    pub relays: Vec<RelayUsed>,
    /// The network that this machine is in, as far as that was found out.
    #[serde(default)]
    pub network: NetworkStatus,
    /// Ordinary nodes that use the overlay through this one.
    #[serde(default)]
    pub nodes_served: usize,
    /// Nodes in the routing table.
    pub overlay_nodes_known: usize,
    /// By how many milliseconds the machine's clock is behind those of most neighbours in the overlay; negative when it is ahead.
    #[serde(default)]
    pub clock_behind_ms: i64,
    /// The search for other nodes; only while there is no link at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// Writers of the overlay that were caught signing two different records of one moment, since the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contradictions: Vec<Contradiction>,
    /// The overlay's authority; only at the node that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<AuthorityStatus>,
    /// Whether the overlay's authority has revoked this node: no other node speaks to it.
    #[serde(default)]
    pub revoked: bool,
    /// People met here who got another key in the last month.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_changes: Vec<KeyChange>,
    /// The last second of this node's certificates, in unix seconds; it renews them by itself before.
    #[serde(default)]
    pub certified_until: u64,
    /// Why it could not, where less than a month is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_failing: Option<String>,
    /// Who vouches for the node's page, and how a browser comes to believe it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
    /// The certificate that is asked for by ACME, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<AcmeStatus>,
}

/// How asking for a certificate stands (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcmeStatus {
    /// The server that is asked.
    pub directory: String,
    /// The names of the certificate.
    pub names: Vec<String>,
    /// `ready`, `asking` or `failing`.
    pub state: String,
    /// The last second of the certificate that there is, in unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified_until: Option<u64>,
    /// For how many seconds it has been failing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_for_s: Option<u64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The certificate of the overlay's authority, and what the node's page shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trust {
    /// The authority's name in its certificate.
    pub name: String,
    /// The overlay's id.
    pub overlay: String,
    /// The fingerprint of the authority's certificate: SHA-256, as browsers show it.
    pub sha256: String,
    /// The first second of its validity, in unix seconds.
    pub starts: u64,
    /// The last one.
    pub expires: u64,
    /// Where the page has it as a file (PEM).
    pub file: String,
    /// What the page shows over TLS; missing where it is served without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<PageCertificate>,
}

/// The certificate of a node's page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PageCertificate {
    /// Who vouches for it.
    pub from: Origin,
    /// What that means for whoever opens the page, in a sentence.
    pub explanation: String,
    /// What it says of itself.
    #[serde(flatten)]
    pub certificate: Described,
}

/// How the overlay's authority stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorityStatus {
    /// Whom it certifies: `invite`, `open` or `closed`.
    pub policy: String,
    /// Certificates of people that have not run out.
    pub certificates: usize,
    /// The way its mails take; without it nobody can prove an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailStatus>,
}

/// How the way to the mail server stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MailStatus {
    /// The mail server, `host:port`.
    pub server: String,
    /// `ready`, `starting` or `failing`.
    pub state: String,
    /// Mails that wait to be sent.
    pub waiting: usize,
    /// For how many seconds it has been failing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_for_s: Option<u64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What the server said of the last mail that it refused for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// How many seconds ago that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_ago_s: Option<u64>,
}

/// Somebody who has proved a mailbox anew, and has another key since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyChange {
    /// The address.
    pub address: String,
    /// When that was seen here, in unix seconds.
    pub changed: u64,
}

/// The nodes that the authority has certified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// Those whose certificates have not run out, by id.
    pub nodes: Vec<NodeRow>,
}

/// A node's certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeRow {
    /// The node's id.
    pub node: String,
    /// The domain that it serves.
    pub domain: String,
    /// When they were issued, in unix seconds.
    pub issued: u64,
    /// Their last second, in unix seconds.
    pub expires: u64,
    /// When they were revoked, in unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// Why, in the words of who did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// Whose it is, where its ticket said so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub person: String,
    /// What it may do where it may not do all: `store`, and serve no phones; `use` what others store and forward.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub may: String,
}

/// That a node shall be one no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewRevocation {
    /// Why; kept for the list, and told to nobody else.
    #[serde(default)]
    pub because: String,
}

/// What to back up.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct NewBackup {
    /// Whether the overlay's authority alone.
    #[serde(default)]
    pub authority: bool,
    /// What it is encrypted with.
    pub passphrase: String,
}

/// What the authority has certified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateList {
    /// The certificates of people that have not run out, by address.
    pub certificates: Vec<CertificateRow>,
}

/// A person's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateRow {
    /// The address it is for.
    pub address: String,
    /// SHA-256 of the certificate, in hexadecimal.
    pub certificate: String,
    /// SHA-256 of the key it is for, in hexadecimal.
    pub key: String,
    /// When it was issued, in unix seconds.
    pub issued: u64,
    /// Its last second, in unix seconds.
    pub expires: u64,
}

/// What part a node takes in the overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Role {
    /// Whether it stores and forwards for others.
    pub serves: bool,
    /// Why it does or does not, in words.
    pub why: String,
    /// About how many other nodes do, as far as that was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<u64>,
    /// The last test of whether others reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Reached>,
}

/// A test of whether others reach a node: some that have no link to it dialled it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reached {
    /// How many dialled.
    pub dialled: usize,
    /// How many got through.
    pub reached: usize,
    /// Where, as they see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<SocketAddr>,
    /// How long ago.
    pub ago_s: u64,
}

/// What proves that a node signed two different records of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Contradiction {
    /// The node whose key signed both.
    pub writer: String,
    /// The kind of the records.
    pub kind: String,
    /// The name they are stored under.
    pub name: String,
    /// When the writer says that it wrote both, in unix milliseconds.
    pub stored_ms: u64,
    /// When this node found out, in unix milliseconds.
    pub found_ms: u64,
    /// Both records with their certificates, encoded as on the wire, in hexadecimal: anybody can check their signatures.
    pub records: [String; 2],
}

/// A search for other nodes of the overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Search {
    /// For how many seconds there has been no link.
    pub since_s: u64,
    /// How often a peer was dialled in vain since then.
    pub attempts: u32,
    /// Why, as far as it is known.
    pub reason: String,
    /// In which ways other nodes are looked for, and what came of each.
    #[serde(default)]
    pub tried: String,
}

/// A link to another node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// The other node's id.
    pub node: String,
    /// `direct <address>`; `introduced <address>`, as direct as that, where the one side could not dial the other; or `relayed`.
    pub path: String,
    /// The node whose relay is in between, where there is one and it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// Round trip, in milliseconds.
    pub rtt_ms: f64,
    /// The domains that the other node may speak for.
    pub domains: Vec<String>,
}

/// The relay that a node runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OwnRelay {
    /// Nodes connected to it.
    pub clients: usize,
    /// Bytes passed on since the start.
    pub carried: u64,
}

/// A relay through which a node is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RelayUsed {
    /// The node that runs it.
    pub node: String,
    /// It is the nearest, which most use.
    pub is_home: bool,
    /// There is a connection.
    pub is_connected: bool,
    /// Round trip as measured last, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
}

/// What `meshtone trace` says: the steps of a call to an address, and what comes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// What was asked for.
    pub target: String,
    /// The address that it means, where it means one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether a call gets as far as a node with a phone of that address.
    pub works: bool,
    /// What comes of a call, in a sentence.
    pub verdict: String,
    /// On whose side the reason is, where it does not get there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<String>,
    /// What somebody could do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The steps, in order.
    pub steps: Vec<TraceStep>,
    /// What is known of the call, where a Call-ID was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<TracedCall>,
}

/// A call that this node sees, or saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TracedCall {
    /// The Call-ID, as the caller's side has it.
    pub call_id: String,
    /// The caller's address.
    pub from: String,
    /// The address called.
    pub to: String,
    /// `ringing`, `established` or `over`.
    pub state: String,
    /// The last status of its INVITE, once it is over: 200 where it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The messages that this node saw, in order, without credentials and media keys.
    pub messages: Vec<LadderMessage>,
    /// Messages that were too many to be kept.
    pub left_out: usize,
    /// What was said of media, in order; what was passed on as it is stands here once.
    pub descriptions: Vec<TracedDescription>,
    /// The caller's end of the sound and the callee's, where it runs through this node.
    pub ends: Vec<TracedEnd>,
    /// Whether the sound is converted, since the ends have no codec in common.
    pub is_converted: bool,
}

/// A message that this node saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LadderMessage {
    /// In unix milliseconds.
    pub at_ms: u64,
    /// `node`, or the address or id of another.
    pub from: String,
    /// The same of whom it goes to.
    pub to: String,
    /// What it went over.
    pub transport: String,
    /// Its first line.
    pub first_line: String,
    /// All of it, without credentials and media keys.
    pub text: String,
}

/// What somebody said of media (RFC 8866).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TracedDescription {
    /// Who: `node`, or the address or id of another.
    pub by: String,
    /// In which message: a method, or a status.
    pub within: String,
    /// The streams.
    pub streams: Vec<TracedStream>,
}

/// A stream of a description.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TracedStream {
    /// `audio`, `video` …
    pub kind: String,
    /// The profile, such as `RTP/SAVP`.
    pub protocol: String,
    /// Where it is received; `None` where it is refused or no address is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The codecs, preferred ones first.
    pub codecs: Vec<String>,
    /// The candidates of ICE (RFC 8839): type and address.
    pub candidates: Vec<String>,
}

/// One end of a call whose sound runs through this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TracedEnd {
    /// `caller` or `callee`.
    pub end: String,
    /// How the way there was found: `unknown`; `described` (it said where it is, and nothing has come); `heard` (its packets come from
    /// there); `unchecked` (it does ICE, and no check has come); `checked`, `nominated` (the candidate pair of ICE, the first that works,
    /// or the one that it chose); `link` (another node).
    pub way: String,
    /// This node's address on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<SocketAddr>,
    /// The other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<SocketAddr>,
    /// The codec of what comes from this end; `None` as long as nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// How the sound is protected: `none`, `sdes`, `dtls` or `link`.
    pub protection: String,
    /// Whether anything came from it.
    pub is_heard: bool,
}

/// A step of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceStep {
    /// `call`, `media`, `sound`, `answer`, `address`, `here`, `phone`, `look-up`, `record`, `node` or `link`.
    pub what: String,
    /// Whether it went as it should.
    pub ok: bool,
    /// What came of it, in a sentence.
    pub says: String,
    /// On whose side that is.
    pub side: String,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

/// What `meshtone netcheck` says: what kind of network this machine is in, and what that means for calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Netcheck {
    /// `unknown`; `public`; `unproved` (an address of its own, but whether strangers reach it is not known); `open` (behind a router
    /// that lets strangers in), `cone` (that lets in who was spoken to), `symmetric` (that shows another address to everybody), `hidden`
    /// (of a kind that a single relay cannot tell); `udp-blocked`.
    pub class: String,
    /// Where packets of the links come from, as others see them.
    pub seen_as: Vec<SocketAddr>,
    /// Where the links listen, as this machine knows it.
    pub listening: Vec<SocketAddr>,
    /// Links over UDP.
    pub direct_links: usize,
    /// Links through relays.
    pub relayed_links: usize,
    /// Relays through which others reach this node.
    pub relays: usize,
    /// It is a relay itself.
    pub is_relay: bool,
    /// What the router before this machine lets in for it.
    #[serde(default)]
    pub port_mapping: PortMappingStatus,
    /// What the network is, what it means for calls, and who else is there to reach this node by.
    pub says: Vec<String>,
    /// What somebody could do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The network that a machine is in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct NetworkStatus {
    /// In a word, as in [`Netcheck::class`].
    pub class: String,
    /// Where packets of the links come from, as relays and other nodes see them.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub seen_as: Vec<SocketAddr>,
    /// What the router before this machine lets in for it.
    #[serde(default)]
    pub port_mapping: PortMappingStatus,
}

/// What the router before a machine lets in for it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct PortMappingStatus {
    /// Whether the router is asked at all.
    pub is_allowed: bool,
    /// The router that is asked; none where this machine is not behind one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub router: Option<IpAddr>,
    /// `PCP`, `NAT-PMP` or `UPnP`, while something is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// What is open.
    #[serde(default)]
    pub ports: Vec<OpenPort>,
    /// Another box stands beyond the router, and what this one lets in does not get so far.
    #[serde(default)]
    pub is_behind_another: bool,
    /// Why nothing is open, or not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A port that a router lets others in to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OpenPort {
    /// `UDP` or `TCP`.
    pub transport: String,
    /// This machine's port.
    pub port: u16,
    /// What others reach it by.
    #[schema(value_type = String)]
    pub outside: SocketAddr,
}

/// A registered contact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Registration {
    /// The address-of-record.
    pub address: String,
    /// The contact's URI.
    pub contact: String,
    /// `udp`, `tcp` …
    pub transport: String,
    /// Seconds until it expires.
    pub expires_s: u64,
    /// Its preference, 0 to 1.
    pub q: f64,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Call {
    /// The Call-ID.
    pub call_id: String,
    /// The caller's address.
    pub from: String,
    /// The address called.
    pub to: String,
    /// `ringing`, `established` …
    pub state: String,
    /// Seconds since it began.
    pub since_s: u64,
    /// How it sounds, where its sound runs through this node; else it goes from phone to phone, and nobody here knows.
    #[serde(default)]
    pub sound: Option<Sound>,
}

/// A call whose sound ran through this node, and that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FinishedCall {
    /// The Call-ID.
    pub call_id: String,
    /// The caller's address.
    pub from: String,
    /// The address called.
    pub to: String,
    /// For how many seconds it stood.
    pub lasted_s: u64,
    /// How many seconds ago it ended.
    pub ended_s: u64,
    /// How it sounded.
    pub sound: Sound,
}

/// How a call sounds that runs through this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sound {
    /// What the caller hears; `None` before the callee was heard.
    pub heard_by_caller: Option<Heard>,
    /// What the callee hears.
    pub heard_by_callee: Option<Heard>,
    /// How the sound is protected between here and the caller: `none`, `sdes`, `dtls`, or `link` where that is another node.
    pub protection_of_caller: String,
    /// The same of the callee.
    pub protection_of_callee: String,
}

/// What one end of a call hears of the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Heard {
    /// By which codec, where it is known.
    pub codec: Option<String>,
    /// How much of it is lost, in percent.
    pub loss_percent: f64,
    /// Interarrival jitter in milliseconds (RFC 3550).
    pub jitter_ms: f64,
    /// The time there and back, in milliseconds, as far as the phones' reports tell it.
    pub round_trip_ms: Option<f64>,
    /// The estimated mean opinion score, from 1 (bad) to 4.5 (ITU-T G.107).
    pub mos: f64,
    /// That which the phone itself reports (RFC 3611).
    pub reported_mos: Option<f64>,
}

/// How much of the media of calls runs through this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct MediaUse {
    /// Pairs of ports in use: a call has one for each stream and each end that is not another node.
    pub ports: usize,
    /// How many there may be.
    pub most_ports: usize,
    /// Calls whose sound is converted between codecs.
    pub converted: usize,
    /// How many there may be.
    pub most_converted: usize,
    /// Calls refused since the start because one of these, or what one caller may have of them, was used up.
    pub refused: u64,
}

/// Media that goes over the links to other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct MediaBetween {
    /// Streams that are taken so now.
    pub flows: usize,
    /// Datagrams dropped since the start, since there was no such stream (any more).
    pub unknown: u64,
    /// Those that named a stream of another neighbour's.
    pub foreign: u64,
    /// Those beyond what a link may bring.
    pub excess: u64,
    /// Those that could not be read.
    pub malformed: u64,
}

/// An account at a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrunkStatus {
    /// Its name.
    pub name: String,
    /// The provider's server.
    pub server: String,
    /// `registered`, `registering`, `failing`, or `ready` where nothing is registered.
    pub state: String,
    /// For how many more seconds it is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_for_s: Option<u64>,
    /// For how many seconds it has been failing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_for_s: Option<u64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Calls now.
    pub calls: usize,
    /// Most calls at a time.
    pub max_calls: usize,
}

/// How the STUN and TURN server stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TurnStatus {
    /// `relaying`, or `ended` where nothing is relayed any more.
    pub state: String,
    /// Where it listens.
    pub listeners: Vec<TurnListener>,
    /// Allocations now.
    pub allocations: usize,
    /// Those of clients that came over TCP or TLS.
    pub over_connections: usize,
    /// Connections with peers that stand (RFC 6062).
    #[serde(default)]
    pub peer_connections: usize,
    /// Allocations by user, most first.
    pub users: Vec<TurnUser>,
    /// Bytes relayed since the start, both ways.
    pub relayed_bytes: u64,
    /// Bytes that were dropped since the start, since somebody wanted more than his share.
    pub held_back_bytes: u64,
    /// Requests that were refused since the start: no login, a quota, a peer that is not to be reached.
    pub refused: u64,
}

/// An address at which the TURN server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TurnListener {
    /// `udp`, `tcp` or `tls`.
    pub over: String,
    /// The address.
    #[schema(value_type = String)]
    pub at: SocketAddr,
}

/// A user with allocations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TurnUser {
    /// The name.
    pub user: String,
    /// How many.
    pub allocations: usize,
}

/// A server of a farm's second stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    /// Where it is.
    pub server: String,
    /// Whether it answers; its users go to others while it does not.
    pub answers: bool,
}

/// The account table in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountsStatus {
    /// How many users there are.
    pub users: usize,
    /// Equal on home nodes that hold the same table.
    pub version: String,
}

/// A user to be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The name.
    pub user: String,
    /// The number, if there shall be one.
    #[serde(default)]
    pub number: Option<String>,
    /// The digest algorithms that the user may authenticate by; by all that a listener offers if there are none.
    #[serde(default)]
    pub digest: Vec<String>,
}

/// What a phone of a user's needs that runs on the node's own machine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserLogin {
    /// The name.
    pub user: String,
    /// The domain, which is the digest realm as well.
    pub domain: String,
    /// The node's address for SIP over UDP.
    #[schema(value_type = String)]
    pub server: SocketAddr,
    /// H(user:realm:password) for each digest algorithm that the user may use, by its name. A secret.
    pub ha1: Vec<(String, String)>,
}

/// What to change of a user; what is missing stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChanges {
    /// The number; an empty text takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// The only digest algorithms that the user may authenticate by; an empty list allows all that a listener offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Vec<String>>,
}

/// Something that was done as asked and will not work as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// What will not work and why.
    pub warning: String,
    /// What to do about it.
    pub hint: String,
}

/// What to type into a phone. The password is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserCredentials {
    /// The name.
    pub user: String,
    /// The domain.
    pub domain: String,
    /// The password.
    pub password: String,
    /// The number, if there is one.
    pub number: Option<String>,
    /// The address of the node, `host:port`; `None` while the node does not run.
    pub server: Option<String>,
    /// Why these credentials will not work as the node stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Warning>,
}

impl std::fmt::Debug for UserCredentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("UserCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// All users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserList {
    /// The domain.
    pub domain: String,
    /// The users, by name.
    pub users: Vec<UserRow>,
}

/// A user in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserRow {
    /// The name.
    pub user: String,
    /// The number, if there is one.
    pub number: Option<String>,
    /// When the account was made, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The only digest algorithms that the user's phones may use; all that a listener offers if there are none.
    #[serde(default)]
    pub digest: Vec<String>,
    /// Why the user's phones cannot register as the node stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Warning>,
}

impl UserRow {
    /// What is told of an account.
    pub fn of(account: Account, warning: Option<Warning>) -> UserRow {
        let digest = account.digest().unwrap_or_default();
        let digest = digest.iter().map(|algorithm| algorithm.as_str().to_owned()).collect();
        UserRow { user: account.user, number: account.number, created_ms: account.created_ms, digest, warning }
    }
}

/// A ticket to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInvite {
    /// What the new machine will be: `home`, `member`, `store-only`, or `open` for whoever comes.
    pub role: String,
    /// For how many seconds the ticket is good.
    pub valid_s: u64,
    /// Whose the machine is, where her nodes shall be counted: an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}

/// A ticket. Whoever has it can join once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invite {
    /// Its text.
    pub ticket: String,
    /// What the new machine will be.
    pub role: String,
    /// The domain of this node, which a home node will serve.
    pub domain: String,
    /// The overlay it will join.
    pub overlay: String,
    /// When the ticket ends, in unix seconds.
    pub expires: u64,
}

impl std::fmt::Debug for Invite {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Invite").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Where the page is opened as administrator.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PageKey {
    /// The page's address, with a key that is good once.
    pub url: String,
    /// For how many seconds it is.
    pub valid_s: u64,
    /// Who vouches for the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
}

/// The people whose keys are at this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// The node's id, base 36.
    pub node: String,
    /// By address.
    pub keys: Vec<KeyRow>,
}

/// A person with an address of her own, whose key is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyRow {
    /// Her address.
    pub address: String,
    /// Until when it is certified, in unix seconds.
    pub certified_until: Option<u64>,
    /// The ids of the nodes that may speak for her.
    pub nodes: Vec<String>,
    /// Whether her mailbox was proved anew since, so that this key is of no use any more.
    pub superseded: bool,
}

/// An address to be certified for somebody at this node.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// The address, a mailbox.
    pub address: String,
    /// The code that was mailed there; without it, one is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// In place of a code: a certificate of another authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<ForeignCertificate>,
}

/// A certificate of another authority, and its key: PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForeignCertificate {
    /// The certificate, followed by those between it and its root.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// A code was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mailed {
    /// The address.
    pub address: String,
    /// The authority takes nobody new: there is a mail only if the address is enrolled already.
    pub only_if_enrolled: bool,
}

/// Whether a node may speak for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// The node's id, base 36.
    pub node: String,
    /// Whether it may from now on.
    pub may: bool,
}

/// What a soft-card is encrypted with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Passphrase {
    /// At least ten characters.
    pub passphrase: String,
}

/// A soft-card: a person's key and certificate, encrypted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Card {
    /// Its text.
    pub card: String,
}

/// A soft-card to be taken up.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Its text.
    pub card: String,
    /// What it was encrypted with.
    pub passphrase: String,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// What happened and why.
    pub error: String,
    /// What to do about it.
    pub hint: String,
}
