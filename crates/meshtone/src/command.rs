//! The command line: the one definition from which parser and help come.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use meshtone_node::bootstrap::Peer;
use meshtone_node::{DigestRule, PublicUrl, RelayChoice, RoleChoice};
use serde::Deserialize;

use crate::call::LONGEST;

/// The version of the link protocol, as its ALPN says it: `meshtone/1`.
const LINK_VERSION: u32 = 1;

/// Telephony without a telephone company: SIP phones call each other through nodes that find each other.
#[derive(Debug, Parser)]
#[command(name = "meshtone", version = env!("CARGO_PKG_VERSION"), long_version = leak_long_version())]
pub(crate) struct Cli {
    /// The data folder [default: $XDG_DATA_HOME/meshtone, or ~/.local/share/meshtone]
    #[arg(long, global = true, env = "MESHTONE_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// The configuration file [default: $XDG_CONFIG_HOME/meshtone/config.toml, if there is one]
    #[arg(long, global = true, env = "MESHTONE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the node; the first time, make its keys, its overlay and its domain
    Run(Box<RunOptions>),
    /// Add, list, change and remove users
    #[command(subcommand)]
    User(UserCommand),
    /// Make a ticket with which another machine joins
    Invite(InviteOptions),
    /// Look after the overlay's authority, at the node that founded the overlay
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// List the nodes that the overlay's authority has certified, and revoke one, at the node that founded the overlay
    #[command(subcommand)]
    Node(NodeCommand),
    /// Prove that an address, your mailbox, is yours, so that it can be called and call; the key stays on this node
    Enroll(EnrollOptions),
    /// Let another node speak for a person with an address of her own, whose key is here
    Delegate(DelegateOptions),
    /// Show, export and import the keys of people with addresses of their own
    #[command(subcommand)]
    Key(KeyCommand),
    /// Write everything that makes this node into one file, encrypted with a passphrase
    Backup(BackupOptions),
    /// Make a node's data folder, named by --data, from what `backup` wrote
    Restore(RestoreOptions),
    /// Call somebody through the running node: play a file, record what is heard
    Call(Box<CallOptions>),
    /// Open the node's page as whoever runs it: prints its address with a key that is good once, for an hour
    Page(PageOptions),
    /// Print a login for the node's TURN server that is good for an hour, as JSON
    TurnCredentials {
        /// The user's name
        user: String,
    },
    /// Tell how many calls need a relay where people's networks are mixed so, and what that costs those who relay
    RelayCalculator(RelayCalculatorOptions),
    /// Show how the running node stands
    Status(StatusOptions),
    /// Say what kind of network this is, and what it means for calls
    Netcheck(StatusOptions),
    /// Print what to write into the zone of the domain, so that phones and nodes find this node by name
    DnsRecords(DnsOptions),
    /// Say why a call failed or would fail: every step of one to this address, and on whose side the reason is
    Trace(TraceOptions),
    /// Show the versions of program, link protocol and data folder
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct DnsOptions {
    /// The node's name within the domain [default: the first letters of its id]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Which node phones try first, by the lowest number
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub(crate) priority: u16,

    /// The addresses by which the node is reached, where it does not know them itself
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub(crate) address: Vec<std::net::IpAddr>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// The domain to serve, fixed once there is a user, a ticket or another node [default: this host's full name, or <hostname>.meshtone.alt]
    #[arg(long, env = "MESHTONE_DOMAIN")]
    pub(crate) domain: Option<String>,

    /// Addresses for SIP, each over UDP and TCP [default: 0.0.0.0:5060]
    #[arg(long, env = "MESHTONE_SIP", value_name = "ADDR", value_delimiter = ',')]
    pub(crate) sip: Vec<SocketAddr>,

    /// Addresses for SIP over TLS [default: 0.0.0.0:5061, or none when --sip is given]
    #[arg(long, env = "MESHTONE_TLS", value_name = "ADDR", value_delimiter = ',')]
    pub(crate) tls: Vec<SocketAddr>,

    /// Addresses for the node's pages, and SIP over WebSocket at /sip [default: 127.0.0.1:8080, or none when --sip is given]
    #[arg(long, env = "MESHTONE_WS", value_name = "ADDR", value_delimiter = ',')]
    pub(crate) ws: Vec<SocketAddr>,

    /// Addresses for the same over TLS [default: 0.0.0.0:8443, or none when --sip is given]
    #[arg(long, env = "MESHTONE_WSS", value_name = "ADDR", value_delimiter = ',')]
    pub(crate) wss: Vec<SocketAddr>,

    /// Addresses for STUN and TURN, each over UDP and TCP: phones and browsers that nothing reaches directly are reached through
    /// this node [default: 0.0.0.0:3478, or none when --sip is given]
    #[arg(long, env = "MESHTONE_TURN", value_name = "ADDR", value_delimiter = ',')]
    pub(crate) turn: Vec<SocketAddr>,

    /// Addresses for TURN over TLS [default: 0.0.0.0:5349, or none when --sip is given]
    #[arg(long, env = "MESHTONE_TURNS", value_name = "ADDR", value_delimiter = ',')]
    pub(crate) turns: Vec<SocketAddr>,

    /// First and last port of relayed addresses [default: 49152-65535]
    #[arg(long, env = "MESHTONE_TURN_PORTS", value_name = "A-B")]
    pub(crate) turn_ports: Option<PortRange>,

    /// Web sites, such as https://example.org, whose pages may connect over WebSocket; this host's own may anyway
    #[arg(long, env = "MESHTONE_WS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub(crate) ws_origin: Vec<String>,

    /// Where the node's pages are found from outside, such as https://mesh.example.org: for links in mails, and for whoever verifies
    /// what this node signs
    #[arg(long, env = "MESHTONE_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<PublicUrl>,

    /// The certificate chain for TLS, PEM [default: one of the node's own making, kept in the data folder]
    #[arg(long, env = "MESHTONE_TLS_CERT", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The key of that certificate, PEM
    #[arg(long, env = "MESHTONE_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Certificate authorities to trust for other domains, beside the usual ones, PEM
    #[arg(long, env = "MESHTONE_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// What phones may authenticate by: md5, sha-256, sha-512-256, and auth-int for bodies too; ADDR=… for one address
    /// alone. Some phones fail on anything but md5 [default: md5]
    #[arg(long, env = "MESHTONE_DIGEST", value_name = "[ADDR=]ALGORITHM", value_delimiter = ',')]
    pub(crate) digest: Vec<DigestRule>,

    /// Addresses for links to other nodes, UDP [default: 0.0.0.0:6084]
    #[arg(long, env = "MESHTONE_LINK", value_name = "ADDR", value_delimiter = ',')]
    pub(crate) link: Vec<SocketAddr>,

    /// Nodes to look for beside those known from before: KEY@ADDRESS:PORT, as `status` shows it there, or a domain whose TXT
    /// records at _meshtone.DOMAIN say peer=KEY@ADDRESS:PORT
    #[arg(long, env = "MESHTONE_PEER", value_name = "PEER", value_delimiter = ',')]
    pub(crate) peer: Vec<Peer>,

    /// Neither look for nodes on the local network nor be found there (multicast DNS)
    #[arg(long, env = "MESHTONE_NO_MDNS", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) no_mdns: bool,

    /// Do not ask the router to let others in (PCP, NAT-PMP, UPnP)
    #[arg(long, env = "MESHTONE_NO_PORT_MAPPING", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) no_port_mapping: bool,

    /// Whether to hold and forward for other nodes of the overlay [default: auto]
    #[arg(long, env = "MESHTONE_ROLE", value_name = "ROLE")]
    pub(crate) role: Option<OverlayRole>,

    /// Whether to pass on the packets of nodes that nobody can dial, at the port of the pages (--wss) [default: auto]
    #[arg(long, env = "MESHTONE_RELAY", value_name = "WHEN")]
    pub(crate) relay: Option<Relay>,

    /// Where nodes learn which address their packets come from, UDP, while this one passes packets on [default: port 7842 at the
    /// addresses of --wss]
    #[arg(long, env = "MESHTONE_RELAY_DISCOVERY", value_name = "ADDR", value_delimiter = ',')]
    pub(crate) relay_discovery: Vec<SocketAddr>,

    /// How much is passed on in all, in Mbit/s; what more is wanted is shared evenly [default: 32]
    #[arg(long, env = "MESHTONE_RELAY_LIMIT", value_name = "MBIT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) relay_limit: Option<u16>,

    /// First and last UDP port for media [default: 16384-32767]
    #[arg(long, env = "MESHTONE_RTP_PORTS", value_name = "A-B")]
    pub(crate) rtp_ports: Option<PortRange>,

    /// Join the overlay and domain of this ticket, on the first run
    #[arg(long, env = "MESHTONE_JOIN", value_name = "TICKET")]
    pub(crate) join: Option<String>,

    /// What to log to standard error, such as `info` or `info,meshtone=debug` [default: info]
    #[arg(long, env = "MESHTONE_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// How many workers share the calls [default: one for each processor]
    #[arg(long, env = "MESHTONE_WORKERS", value_name = "N")]
    pub(crate) workers: Option<std::num::NonZeroUsize>,

    /// Ask nobody for a password: whoever names a user is believed. For measurements and closed networks; refused at addresses
    /// that others can reach
    #[arg(long)]
    pub(crate) dangerous_open_registration: bool,

    /// Sign neither records nor who calls, and believe both of everybody. For measuring what signing costs, among nodes that all do so;
    /// refused at addresses that others can reach
    #[arg(long)]
    pub(crate) dangerous_unsigned: bool,

    /// Print one JSON object, once up, instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user; prints what to type into a phone, the password this once
    Add {
        /// The user's name
        user: String,
        /// A number under which the user can be called too
        #[arg(long)]
        number: Option<String>,
        /// The only digest algorithms that the user's phones may use; a listener must offer them, see `run --digest`
        /// [default: any that is offered]
        #[arg(long, value_enum, value_name = "ALGORITHM", value_delimiter = ',')]
        digest: Vec<DigestAlgorithm>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the users
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a user a new password; the old one is refused from then on
    Passwd {
        /// The user's name
        user: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change a user's number, or by which digest algorithms the user's phones may authenticate; the password stays
    #[command(group = ArgGroup::new("change").required(true).multiple(true))]
    Set {
        /// The user's name
        user: String,
        /// A number under which the user can be called too, instead of the one before
        #[arg(long, group = "change")]
        number: Option<String>,
        /// Take the number away
        #[arg(long, group = "change", conflicts_with = "number")]
        no_number: bool,
        /// The only digest algorithms that the user's phones may use; a listener must offer them, see `run --digest`
        #[arg(long, value_enum, value_name = "ALGORITHM", value_delimiter = ',', group = "change")]
        digest: Vec<DigestAlgorithm>,
        /// Let the user's phones use any digest algorithm that is offered
        #[arg(long, group = "change", conflicts_with = "digest")]
        any_digest: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a user
    Remove {
        /// The user's name
        user: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityCommand {
    /// List the certificates of people that have not run out
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List the nodes whose certificates have not run out
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a node's certificates back, such as a stolen one's: no other node speaks to it any more. This cannot be undone; the
    /// machine may join again by a fresh ticket
    Revoke {
        /// The node's id, as `node list` says it
        node: String,
        /// Why, for the list
        #[arg(long, value_name = "TEXT", default_value = "")]
        because: String,
    },
}

/// A digest algorithm (RFC 8760).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DigestAlgorithm {
    /// What nearly every phone can do
    Md5,
    /// Stronger
    #[value(name = "sha-256")]
    Sha256,
    /// Stronger too
    #[value(name = "sha-512-256")]
    Sha512_256,
}

impl DigestAlgorithm {
    pub(crate) fn algorithm(self) -> meshtone_node::Algorithm {
        match self {
            DigestAlgorithm::Md5 => meshtone_node::Algorithm::Md5,
            DigestAlgorithm::Sha256 => meshtone_node::Algorithm::Sha256,
            DigestAlgorithm::Sha512_256 => meshtone_node::Algorithm::Sha512_256,
        }
    }

    pub(crate) fn token(self) -> &'static str {
        self.algorithm().as_str()
    }
}

#[derive(Debug, Args)]
pub(crate) struct InviteOptions {
    /// What the other machine will be
    #[arg(long, value_enum, default_value_t = Role::Home)]
    pub(crate) role: Role,

    /// Whose the machine is, an address: a person has so many (`nodes_per_person`), and `node list` says which
    #[arg(long = "for", value_name = "ADDRESS")]
    pub(crate) person: Option<String>,

    /// For how long the ticket is good: a number and s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    pub(crate) valid: Duration,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What part the node takes in the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OverlayRole {
    /// Serve while few others do; else once the node has been there for a while and others reach it
    Auto,
    /// Serve, come what may
    Super,
    /// Only use what others serve, of whom there must be some: for a machine that is weak or often off
    Ordinary,
}

impl From<OverlayRole> for RoleChoice {
    fn from(role: OverlayRole) -> RoleChoice {
        match role {
            OverlayRole::Auto => RoleChoice::Auto,
            OverlayRole::Super => RoleChoice::Super,
            OverlayRole::Ordinary => RoleChoice::Ordinary,
        }
    }
}

/// When the node passes packets on for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Relay {
    /// Where it serves and others reach it: by a public address, or as they found
    Auto,
    /// Come what may
    On,
    /// Never
    Off,
}

impl From<Relay> for RelayChoice {
    fn from(relay: Relay) -> RelayChoice {
        match relay {
            Relay::Auto => RelayChoice::Auto,
            Relay::On => RelayChoice::On,
            Relay::Off => RelayChoice::Off,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// A node of the same owner: serves the same users with the same passwords
    Home,
    /// A node of somebody else's, for people with addresses of their own (see `enroll`)
    Member,
    /// A node that stores and forwards for the overlay, and serves nobody's phones
    StoreOnly,
    /// Whoever likes to come, where the authority's policy is `open`: a text that may be published and used again and again
    Open,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Home => "home",
            Role::Member => "member",
            Role::StoreOnly => "store-only",
            Role::Open => "open",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RelayCalculatorOptions {
    /// Percent of nodes with a public address
    #[arg(long, short = 'P', value_name = "PERCENT")]
    pub(crate) public: f64,

    /// Percent behind a NAT that shows all peers the same port (cone)
    #[arg(long, short = 'G', value_name = "PERCENT")]
    pub(crate) cone: f64,

    /// Percent behind a NAT that shows every peer another one (symmetric)
    #[arg(long, short = 'B', value_name = "PERCENT")]
    pub(crate) symmetric: f64,

    /// Percent behind a firewall that lets no UDP through
    #[arg(long, short = 'F', value_name = "PERCENT")]
    pub(crate) blocked: f64,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EnrollOptions {
    /// The address, such as alice@example.net
    pub(crate) address: String,

    /// The code that was mailed there; without it, one is asked for
    #[arg(long)]
    pub(crate) code: Option<String>,

    /// In place of a mail: a PEM file with the certificate that a company or another authority issued for the address, and those
    /// between it and its root
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "code")]
    pub(crate) certificate: Option<PathBuf>,

    /// The PEM file with the key of that certificate, without a passphrase
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DelegateOptions {
    /// The person's address, such as alice@example.net
    pub(crate) address: String,

    /// The other node's id, as `meshtone status` says it there
    pub(crate) node: String,

    /// Take that back
    #[arg(long)]
    pub(crate) revoke: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the people whose keys are here, and which nodes may speak for them
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a person's key and certificate into a file, encrypted with a passphrase that is asked for
    Export {
        /// The person's address
        address: String,
        /// The file to write
        file: PathBuf,
    },
    /// Take up a key that was exported elsewhere; prints what to type into a phone
    Import {
        /// The file to read
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BackupOptions {
    /// The file to write, which must not exist
    pub(crate) file: PathBuf,

    /// Only the overlay's authority, and the list of what it has issued
    #[arg(long)]
    pub(crate) authority: bool,

    /// A file that holds the passphrase, which is asked for else
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreOptions {
    /// The file to read
    pub(crate) file: PathBuf,

    /// A file that holds the passphrase, which is asked for else
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 there was a call; 1 it could not be tried; 10 busy; 11 nobody answers or is reached;\n\
                        12 no such address; 13 declined; 14 refused otherwise; 130 given up before an answer"
)]
pub(crate) struct CallOptions {
    /// Whom to call: an address such as bob@example.net, or a name or number of the node's own domain
    pub(crate) address: String,

    /// The user who calls [default: the only one there is]
    #[arg(long = "as", value_name = "USER")]
    pub(crate) user: Option<String>,

    /// A WAV file, or an Ogg file with Opus, to be played [default: a tone now and then]
    #[arg(long, value_name = "FILE")]
    pub(crate) play: Option<PathBuf>,

    /// Hang up when the file is over
    #[arg(long, requires = "play")]
    pub(crate) hang_up: bool,

    /// The file to write what is heard to: Opus in Ogg if it is named so (.opus, .ogg), else WAV of 8000 samples a second
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// What is said before anything is recorded, a file as for --play [default: a beep]; a beep each 15 seconds reminds of it
    #[arg(long, value_name = "FILE", requires = "record")]
    pub(crate) announce: Option<PathBuf>,

    /// For how long to talk at most: a number and s, m, h or d
    #[arg(long = "for", value_name = "TIME", value_parser = parse_call_duration)]
    pub(crate) longest: Option<Duration>,

    /// Print what happens as JSON objects, one a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PageOptions {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TraceOptions {
    /// The address, such as bob@example.org, or the Call-ID of a call as `status --json` shows it
    #[arg(value_name = "ADDRESS|CALL")]
    pub(crate) target: String,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// First and last port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortRange(pub(crate) u16, pub(crate) u16);

impl std::str::FromStr for PortRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<PortRange, &'static str> {
        let (first, last) = text.split_once('-').ok_or("give the first and the last port, such as 16384-32767")?;
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| "a port is a number from 1 to 65535");
        let (first, last) = (port(first)?, port(last)?);
        if first == 0 || last <= first {
            return Err("the last port must be larger than the first, and the first larger than 0");
        }
        Ok(PortRange(first, last))
    }
}

fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    let wrong = "give a number and s, m, h or d, such as 1h";
    let (number, seconds) = match text.char_indices().last() {
        Some((end, 's')) => (&text[..end], 1),
        Some((end, 'm')) => (&text[..end], 60),
        Some((end, 'h')) => (&text[..end], 3600),
        Some((end, 'd')) => (&text[..end], 86_400),
        Some(_) | None => return Err(wrong),
    };
    let number: u64 = number.parse().map_err(|_| wrong)?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or(wrong)
}

fn parse_call_duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).and_then(|time| (time <= LONGEST).then_some(time).ok_or("a call lasts a day at most"))
}

/// Program, link protocol and data folder: what two machines compare first when something does not fit.
pub(crate) fn long_version() -> String {
    format!(
        "meshtone {}\nlink protocol {LINK_VERSION}\ndata version {}",
        env!("CARGO_PKG_VERSION"),
        meshtone_node::store::DATA_VERSION
    )
}

/// clap wants the text for as long as the program runs; it is asked for once.
fn leak_long_version() -> &'static str {
    let text = long_version();
    let text = text.strip_prefix("meshtone ").unwrap_or(&text).to_owned();
    Box::leak(text.into_boxed_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_may_be_repeated_or_separated_by_commas() {
        let cli = Cli::parse_from(["meshtone", "run", "--sip", "127.0.0.1:1,[::1]:2", "--sip", "127.0.0.1:3"]);
        let Command::Run(options) = cli.command else { panic!("not run") };
        assert_eq!(options.sip.len(), 3);
    }

    #[test]
    fn a_validity_is_a_number_and_a_unit() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2d"), Ok(Duration::from_secs(172_800)));
        for wrong in ["", "h", "1", "1w", "-1h", "1 h", "99999999999999999999d", "18446744073709551615d", "1ö"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_port_range_runs_upwards() {
        assert_eq!("16384-32767".parse(), Ok(PortRange(16_384, 32_767)));
        for wrong in ["", "1", "2-1", "5-5", "0-9", "1-65536", "a-b"] {
            assert!(wrong.parse::<PortRange>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_version_names_the_link_protocol_and_the_data() {
        let text = long_version();
        assert!(text.contains("link protocol 1") && text.contains("data version 1"), "{text}");
    }
}
