//! The text by which a new machine joins an overlay: whom to dial, what to believe there, and a secret to show.
//!
//! `mt1-` and lower-case base32 without padding of: length (2 bytes), overlay, inviter's link key, token, expiry (8 bytes,
//! unix seconds), role, domain (length byte and text), addresses (count byte; each 4 or 6, the IP address, the port),
//! the port of the inviter's relay (only where it is none of the usual ones, so that programs of before read all other tickets), and
//! the first 4 bytes of SHA-256 of all that. Numbers are big-endian.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use data_encoding::{DecodeKind, Encoding, Specification};

use crate::id::sha256;
use crate::{LinkKey, OverlayId, domain};

/// The version that this program writes and the only one it reads.
pub const TICKET_VERSION: u8 = 1;

/// More addresses than any machine needs to name; keeps a ticket short enough to be typed.
pub const MAX_ADDRESSES: usize = 8;

/// TCP ports at which a relay is looked for unless a ticket names another one: that of a node's pages, and that of the web, which is let
/// out of networks that let out nothing else.
pub const RELAY_PORTS: [u16; 2] = [8443, 443];

/// No ticket is longer than this; what is longer is not looked at.
const MAX_TEXT: usize = 1024;

const CHECKSUM: usize = 4;

/// What a machine that joins with the ticket will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A home node: it serves the same domain and holds the account table.
    Home,
    /// A node of somebody else's: it serves a domain of its own that nobody else has ([`domain::of_member`]), and whoever enrols
    /// there by mail.
    Member,
    /// A node that stores and forwards for the overlay, and serves nobody's phones.
    StoreOnly,
    /// Whatever node likes to, for as long as the overlay is open to everybody. Nothing in such a ticket is secret.
    Open,
}

impl Role {
    const ALL: [Role; 4] = [Role::Home, Role::Member, Role::StoreOnly, Role::Open];

    /// The number in a ticket, which is never given to another role.
    const fn number(self) -> u8 {
        match self {
            Role::Home => 1,
            Role::Member => 2,
            Role::StoreOnly => 3,
            Role::Open => 4,
        }
    }

    /// Its name, as people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Home => "home",
            Role::Member => "member",
            Role::StoreOnly => "store-only",
            Role::Open => "open",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// What everybody shows who comes by a ticket of role [`Role::Open`].
pub const OPEN_TOKEN: [u8; 16] = [0; 16];

/// An invitation. Its text is a secret until it is used or expired.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Version of the form.
    pub version: u8,
    /// The overlay's name, by which the authority certificate shown there is judged.
    pub overlay: OverlayId,
    /// Whom to dial.
    pub inviter: LinkKey,
    /// Where to dial, at most [`MAX_ADDRESSES`].
    pub addresses: Vec<SocketAddr>,
    /// The TCP port of the inviter's relay, where it runs one: the way in for machines whose network lets no UDP out. Not told of those
    /// at one of [`RELAY_PORTS`].
    pub relay: Option<u16>,
    /// The secret that is shown; the inviter accepts it once.
    pub token: [u8; 16],
    /// When the inviter stops accepting it, in unix seconds.
    pub expires: u64,
    /// What the new machine will be.
    pub role: Role,
    /// The inviter's domain, which a home node will serve.
    pub domain: String,
}

/// Why a text is no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not begin like one.
    #[error("a ticket begins with `mt1-`")]
    NotATicket,
    /// The end is missing.
    #[error("the ticket is cut short")]
    CutShort,
    /// Some letter is wrong.
    #[error("the ticket is mistyped")]
    Mistyped,
    /// A later program wrote it.
    #[error("the ticket is of version {0}, this program reads version {TICKET_VERSION}")]
    NewerVersion(u32),
    /// It arrived whole, but says what cannot be.
    #[error("the ticket is invalid: {0}")]
    Invalid(&'static str),
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mt{}-{}", self.version, base32().encode(&self.to_bytes()))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("version", &self.version)
            .field("overlay", &self.overlay)
            .field("inviter", &self.inviter)
            .field("addresses", &self.addresses)
            .field("relay", &self.relay)
            .field("token", &"[redacted]")
            .field("expires", &self.expires)
            .field("role", &self.role)
            .field("domain", &self.domain)
            .finish()
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim().to_ascii_lowercase();
        if text.len() > MAX_TEXT {
            return Err(TicketError::NotATicket);
        }
        let (version, body) =
            text.strip_prefix("mt").and_then(|rest| rest.split_once('-')).ok_or(TicketError::NotATicket)?;
        match version.parse::<u32>().map_err(|_| TicketError::NotATicket)? {
            1 => {}
            0 => return Err(TicketError::NotATicket),
            newer => return Err(TicketError::NewerVersion(newer)),
        }
        let bytes = base32().decode(body.as_bytes()).map_err(|error| match error.kind {
            DecodeKind::Length | DecodeKind::Trailing => TicketError::CutShort,
            DecodeKind::Symbol | DecodeKind::Padding => TicketError::Mistyped,
        })?;
        Self::from_bytes(&bytes)
    }
}

impl Ticket {
    fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(self.overlay.as_bytes());
        body.extend(self.inviter.as_bytes());
        body.extend(self.token);
        body.extend(self.expires.to_be_bytes());
        body.push(self.role.number());
        // A domain has at most 253 bytes (see `domain`), and no more addresses than these are written.
        body.push(u8::try_from(self.domain.len()).unwrap_or(u8::MAX));
        body.extend(self.domain.bytes().take(usize::from(u8::MAX)));
        body.push(self.addresses.len().min(MAX_ADDRESSES) as u8);
        for address in self.addresses.iter().take(MAX_ADDRESSES) {
            match address.ip() {
                IpAddr::V4(ip) => {
                    body.push(4);
                    body.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    body.push(6);
                    body.extend(ip.octets());
                }
            }
            body.extend(address.port().to_be_bytes());
        }
        body.extend(self.named_relay().into_iter().flat_map(u16::to_be_bytes));
        let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.append(&mut body);
        let checksum = sha256(&bytes);
        bytes.extend(checksum.iter().take(CHECKSUM));
        bytes
    }

    fn named_relay(&self) -> Option<u16> {
        self.relay.filter(|port| *port != 0 && !RELAY_PORTS.contains(port))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, TicketError> {
        let (length, _) = bytes.split_first_chunk::<2>().ok_or(TicketError::CutShort)?;
        let end = 2 + usize::from(u16::from_be_bytes(*length));
        let whole = end + CHECKSUM;
        if bytes.len() < whole {
            // A wrong letter in the length looks the same; a cut is by far the likelier.
            return Err(TicketError::CutShort);
        }
        let (content, checksum) = bytes.split_at_checked(end).ok_or(TicketError::CutShort)?;
        if sha256(content).get(..CHECKSUM) != Some(checksum) {
            return Err(TicketError::Mistyped);
        }
        let mut reader = Reader(content.get(2..).unwrap_or_default());
        let ticket = Self {
            version: TICKET_VERSION,
            overlay: OverlayId::from_bytes(reader.array()?),
            inviter: LinkKey::from_bytes(reader.array()?),
            token: reader.array()?,
            expires: u64::from_be_bytes(reader.array()?),
            role: reader.role()?,
            domain: reader.domain()?,
            addresses: reader.addresses()?,
            relay: reader.relay()?,
        };
        if !reader.0.is_empty() {
            return Err(TicketError::Invalid("more than a ticket holds"));
        }
        Ok(ticket)
    }
}

/// Takes the fields off the front of the bytes. The checksum was right, so what is missing was never there.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], TicketError> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(TicketError::Invalid("a field is missing"))?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8, TicketError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn role(&mut self) -> Result<Role, TicketError> {
        let number = self.byte()?;
        Role::ALL.into_iter().find(|role| role.number() == number).ok_or(TicketError::Invalid("unknown role"))
    }

    fn domain(&mut self) -> Result<String, TicketError> {
        let length = usize::from(self.byte()?);
        let (text, rest) = self.0.split_at_checked(length).ok_or(TicketError::Invalid("a field is missing"))?;
        self.0 = rest;
        let text = std::str::from_utf8(text).map_err(|_| TicketError::Invalid("its domain is none"))?;
        domain::normalise(text).map_err(|_| TicketError::Invalid("its domain is none"))
    }

    fn addresses(&mut self) -> Result<Vec<SocketAddr>, TicketError> {
        let count = usize::from(self.byte()?);
        if count > MAX_ADDRESSES {
            return Err(TicketError::Invalid("too many addresses"));
        }
        (0..count)
            .map(|_| {
                let ip = match self.byte()? {
                    4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
                    6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
                    _ => return Err(TicketError::Invalid("unknown kind of address")),
                };
                Ok(SocketAddr::new(ip, u16::from_be_bytes(self.array()?)))
            })
            .collect()
    }
}

impl Reader<'_> {
    /// A port that is not written is not read either, so that a ticket has one text.
    fn relay(&mut self) -> Result<Option<u16>, TicketError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let port = u16::from_be_bytes(self.array()?);
        if port == 0 || RELAY_PORTS.contains(&port) {
            return Err(TicketError::Invalid("a relay's port that is not written"));
        }
        Ok(Some(port))
    }
}

/// RFC 4648 §6 in lower case and without padding.
fn base32() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.encoding().unwrap_or(data_encoding::BASE32_NOPAD)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            version: TICKET_VERSION,
            overlay: OverlayId::from_bytes([1; 32]),
            inviter: LinkKey::from_bytes([2; 32]),
            addresses: vec!["192.0.2.7:6084".parse().unwrap(), "[2001:db8::7]:6084".parse().unwrap()],
            relay: None,
            token: [0xA5; 16],
            expires: 1_800_000_000,
            role: Role::Home,
            domain: "example.org".to_owned(),
        }
    }

    #[test]
    fn a_ticket_reads_back_whatever_the_case_and_the_blanks_around_it() {
        let text = ticket().to_string();
        assert!(text.starts_with("mt1-"));
        assert_eq!(text.parse::<Ticket>().unwrap(), ticket());
        assert_eq!(format!(" {}\n", text.to_ascii_uppercase()).parse::<Ticket>().unwrap(), ticket());
        for role in Role::ALL {
            let other = Ticket { role, ..ticket() };
            assert_eq!(other.to_string().parse::<Ticket>().unwrap(), other);
            assert_eq!(Role::named(role.name()), Some(role));
        }
    }

    #[test]
    fn a_relay_is_named_where_nobody_would_look_for_it_and_costs_a_ticket_nothing_otherwise() {
        let read = |relay| Ticket { relay, ..ticket() }.to_string().parse::<Ticket>().unwrap();
        assert_eq!(read(Some(9443)).relay, Some(9443));
        for usual in RELAY_PORTS {
            assert_eq!(read(Some(usual)), ticket(), "as programs of before read it");
        }
    }

    #[test]
    fn a_ticket_cut_anywhere_is_called_cut_short() {
        let text = ticket().to_string();
        for end in 4..text.len() {
            assert_eq!(text[..end].parse::<Ticket>(), Err(TicketError::CutShort), "cut at {end}");
        }
    }

    #[test]
    fn every_single_wrong_letter_is_noticed() {
        let text = ticket().to_string();
        for position in 4..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[position] = if wrong[position] == b'a' { b'b' } else { b'a' };
            let result = String::from_utf8(wrong).unwrap().parse::<Ticket>();
            assert!(matches!(result, Err(TicketError::Mistyped | TicketError::CutShort)), "{position}: {result:?}");
        }
        assert_eq!(format!("{text}1").parse::<Ticket>(), Err(TicketError::Mistyped));
    }

    #[test]
    fn a_later_version_is_named() {
        assert_eq!("mt2-abc".parse::<Ticket>(), Err(TicketError::NewerVersion(2)));
    }

    #[test]
    fn other_texts_are_no_tickets() {
        for text in ["", "mt", "mt1", "hello-world", "mt-abc", "mt0-abc", "mtx-abc", &"a".repeat(5000)] {
            assert_eq!(text.parse::<Ticket>(), Err(TicketError::NotATicket), "{text}");
        }
    }

    #[test]
    fn what_is_printed_for_debugging_hides_the_token() {
        let shown = format!("{:?}", ticket());
        assert!(shown.contains("[redacted]") && !shown.contains("165"));
    }
}
