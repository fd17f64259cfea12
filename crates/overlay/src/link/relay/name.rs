//! The host names of relays. A relay is called after the link key of its node, so that its certificate can be checked against the name;
//! `.alt` is no part of the DNS (RFC 9476). Pure.

use data_encoding::{BASE32_NOPAD, Encoding};
use iroh::RelayUrl;
use meshtone_identity::LinkKey;

const ZONE: &str = ".relay.alt";

/// Base 32 (RFC 4648 §6): 52 characters of a label's 63.
const ENCODING: Encoding = BASE32_NOPAD;

/// Returns the host name of a relay.
pub fn host_of(key: LinkKey) -> String {
    format!("{}{ZONE}", ENCODING.encode(key.as_bytes()).to_ascii_lowercase())
}

/// Returns the key in the host name of a relay; none where it is no such name.
pub fn key_of(host: &str) -> Option<LinkKey> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let label = host.strip_suffix(ZONE)?.to_ascii_uppercase();
    let bytes = ENCODING.decode(label.as_bytes()).ok()?;
    Some(LinkKey::from_bytes(bytes.try_into().ok()?))
}

/// Whether a TLS client that names this host wants the relay here.
pub fn is_relay(host: &str) -> bool {
    key_of(host).is_some()
}

/// Returns what iroh calls a relay at this port.
pub(crate) fn url_of(key: LinkKey, port: u16) -> Option<RelayUrl> {
    // The final dot keeps resolvers from adding a search domain; iroh adds it where it is missing.
    format!("https://{}.:{port}/", host_of(key)).parse().ok()
}

/// Returns the key of a relay by what iroh calls it.
pub(crate) fn key_of_url(url: &RelayUrl) -> Option<LinkKey> {
    key_of(url.host_str()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_and_urls_lead_back_to_the_key() {
        for byte in [0, 7, 255] {
            let key = LinkKey::from_bytes([byte; 32]);
            assert_eq!(key_of(&host_of(key)), Some(key));
            assert_eq!(key_of(&format!("{}.", host_of(key).to_ascii_uppercase())), Some(key));
            let url = url_of(key, 8443).unwrap();
            assert_eq!((key_of_url(&url), url.port()), (Some(key), Some(8443)));
        }
    }

    #[test]
    fn other_names_are_no_relays() {
        let long = format!("{}a{ZONE}", ENCODING.encode(&[1; 32]).to_ascii_lowercase());
        for host in ["", "relay.alt", ".relay.alt", "example.org", "aaaa.relay.alt", "é.relay.alt", long.as_str()] {
            assert_eq!(key_of(host), None, "{host}");
        }
    }
}
