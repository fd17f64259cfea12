//! A node to look for, as a person writes it down and the DNS says it. Pure.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use meshtone_identity::{LinkKey, domain};

/// What a TXT record of `_meshtone.DOMAIN` begins with that names a node; other records there are none of ours.
const RECORD: &str = "peer=";

/// A node to look for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// `KEY@ADDRESS:PORT`, as `status` shows it: the link key that the node has to prove, and where it is.
    At(LinkKey, SocketAddr),
    /// `KEY@HOST:PORT`: the same, with a host name.
    Host(LinkKey, String, u16),
    /// A domain whose TXT records at `_meshtone.DOMAIN` say `peer=` and one of the above, each.
    Domain(String),
}

/// Why a text names no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// What stands before the `@`.
    #[error(
        "what stands before the `@` is no link key: 64 hexadecimal digits, as `meshtone status` shows them at that node"
    )]
    Key,
    /// What stands behind it.
    #[error("behind the `@` there must be an address or a host name, a colon and a port, such as 192.0.2.7:6084")]
    Place,
    /// There is no `@`, and it is no domain either.
    #[error("a peer is KEY@ADDRESS:PORT, as `meshtone status` shows it at that node, or a domain")]
    Neither,
}

impl Peer {
    /// Reads a TXT record; `None` when it is not about a node, or leads on to yet another name.
    pub(super) fn of_record(text: &str) -> Option<Peer> {
        match text.strip_prefix(RECORD)?.trim().parse() {
            Ok(Peer::Domain(_)) | Err(_) => None,
            Ok(peer) => Some(peer),
        }
    }
}

impl FromStr for Peer {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Peer, PeerError> {
        let Some((key, place)) = text.split_once('@') else {
            return domain::normalise(text).map(Peer::Domain).map_err(|_| PeerError::Neither);
        };
        let key = key.to_ascii_lowercase().parse().map_err(|_| PeerError::Key)?;
        if let Ok(address) = place.parse::<SocketAddr>() {
            return if address.port() == 0 { Err(PeerError::Place) } else { Ok(Peer::At(key, address)) };
        }
        let (host, port) = place.rsplit_once(':').ok_or(PeerError::Place)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(PeerError::Place)?;
        Ok(Peer::Host(key, domain::normalise(host).map_err(|_| PeerError::Place)?, port))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::At(key, address) => write!(f, "{key}@{address}"),
            Peer::Host(key, host, port) => write!(f, "{key}@{host}:{port}"),
            Peer::Domain(domain) => f.write_str(domain),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn what_status_shows_reads_back() {
        for place in ["192.0.2.7:6084", "[2001:db8::7]:6084", "node.example.org:6084"] {
            let text = format!("{KEY}@{place}");
            assert_eq!(text.parse::<Peer>().unwrap().to_string(), text);
        }
        assert_eq!("Example.ORG".parse(), Ok(Peer::Domain("example.org".to_owned())));
        assert!(matches!(format!("{}@192.0.2.7:1", KEY.to_uppercase()).parse(), Ok(Peer::At(..))));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for place in ["", "192.0.2.7", "192.0.2.7:0", "192.0.2.7:x", "host_name:1", "host:0", ":6084"] {
            assert_eq!(format!("{KEY}@{place}").parse::<Peer>(), Err(PeerError::Place), "{place}");
        }
        assert_eq!("abc@192.0.2.7:6084".parse::<Peer>(), Err(PeerError::Key));
        for text in ["", "192.0.2.7:6084", "a b", KEY] {
            assert_eq!(text.parse::<Peer>(), Err(PeerError::Neither), "{text}");
        }
    }

    #[test]
    fn a_record_names_one_node_and_leads_no_further() {
        let record = format!("peer={KEY}@node.example.org:6084");
        assert!(matches!(Peer::of_record(&record), Some(Peer::Host(..))));
        for other in ["peer=example.net", "v=spf1 -all", "peer=", ""] {
            assert_eq!(Peer::of_record(other), None, "{other}");
        }
    }
}
