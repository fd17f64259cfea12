//! What a URI says of the server to reach, before any name is asked about (RFC 3263 §4).

use std::net::{IpAddr, SocketAddr};

use meshtone_sip::message::Uri;
use meshtone_sip::transport::Transport;

use super::{LocateError, Server};

/// The server that a URI leads to, as far as the URI says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    /// Its name or address.
    pub(crate) host: Host,
    /// Its port, if the URI names one.
    pub(crate) port: Option<u16>,
    /// The transport, if the URI names one.
    pub(crate) transport: Option<Transport>,
    /// `sips`: nothing but TLS will do (RFC 3261 §26.2.2).
    pub(crate) is_secure: bool,
}

/// The host part of a URI.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// A numeric address: no name is asked about.
    Address(IpAddr),
    /// A name in lower case, without a final dot.
    Name(String),
}

impl Wanted {
    /// Reads a `sip:` or `sips:` URI. `maddr` counts as the host (RFC 3263 §4).
    pub(crate) fn read(uri: &str) -> Result<Wanted, LocateError> {
        let uri = Uri::parse(uri).map_err(|_| LocateError::BadUri)?;
        let is_secure = uri.is_sips();
        if !uri.is_sip() && !is_secure {
            return Err(LocateError::BadUri);
        }
        let named = match uri.param("transport").flatten() {
            Some(text) => Some(text.parse::<Transport>().map_err(|_| LocateError::NoTransport)?),
            None => None,
        };
        let transport = match (named, is_secure) {
            // `transport=tcp` in a sips URI means TLS over TCP (RFC 3261 §26.2.2); datagrams cannot be protected here.
            (Some(Transport::Tcp | Transport::Tls), true) => Some(Transport::Tls),
            (Some(Transport::Udp | Transport::Ws | Transport::Wss | Transport::Peer), true)
            | (Some(Transport::Ws | Transport::Wss | Transport::Peer), false) => return Err(LocateError::NoTransport),
            (named, _) => named,
        };
        let host = uri.param("maddr").flatten().unwrap_or(uri.host);
        Ok(Wanted { host: Host::read(host).ok_or(LocateError::BadUri)?, port: uri.port, transport, is_secure })
    }

    /// The domain of a plain SIP URI: no port, no transport.
    pub(crate) fn domain(name: &str) -> Option<Wanted> {
        Some(Wanted { host: Host::read(name)?, port: None, transport: None, is_secure: false })
    }

    /// The one server of a numeric address (RFC 3263 §4.1, §4.2).
    pub(super) fn numeric(&self, address: IpAddr) -> Server {
        let transport = self.transport_or_default();
        Server { transport, address: SocketAddr::new(address, self.port.unwrap_or(transport.default_port())) }
    }

    /// The transport where neither the URI nor the DNS says one.
    pub(super) fn transport_or_default(&self) -> Transport {
        self.transport.unwrap_or(if self.is_secure { Transport::Tls } else { Transport::Udp })
    }
}

impl Host {
    /// Reads the host of a URI: an IPv4 address, an IPv6 reference in brackets, or a name.
    pub(crate) fn read(host: &str) -> Option<Host> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Some(Host::Address(address));
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        (!name.is_empty()).then_some(Host::Name(name))
    }

    /// As the configuration names hosts.
    pub(crate) fn text(&self) -> String {
        match self {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_uri_says_host_port_and_transport() {
        let wanted = Wanted::read("sip:bob@Example.NET:5080;transport=TCP").unwrap();
        assert_eq!(wanted.host, Host::Name("example.net".to_owned()));
        assert_eq!((wanted.port, wanted.transport, wanted.is_secure), (Some(5080), Some(Transport::Tcp), false));
        assert_eq!(Wanted::read("sip:b@[2001:db8::1]").unwrap().host, Host::Address("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn maddr_is_where_the_request_goes() {
        let wanted = Wanted::read("sip:bob@example.net;maddr=192.0.2.7").unwrap();
        assert_eq!(wanted.host, Host::Address("192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn sips_is_tls_or_nothing() {
        assert_eq!(Wanted::read("sips:b@example.net").unwrap().transport_or_default(), Transport::Tls);
        assert_eq!(Wanted::read("sips:b@example.net;transport=tcp").unwrap().transport, Some(Transport::Tls));
        assert_eq!(Wanted::read("sips:b@example.net;transport=udp"), Err(LocateError::NoTransport));
    }

    #[test]
    fn a_numeric_host_needs_no_names_and_its_port_is_that_of_the_transport() {
        let udp = Wanted::read("sip:b@192.0.2.1").unwrap();
        assert_eq!(udp.numeric("192.0.2.1".parse().unwrap()).address.port(), 5060);
        let tls = Wanted::read("sips:b@192.0.2.1").unwrap().numeric("192.0.2.1".parse().unwrap());
        assert_eq!((tls.transport, tls.address.port()), (Transport::Tls, 5061));
    }

    #[test]
    fn a_transport_that_leads_nowhere_is_refused() {
        for uri in ["sip:b@example.net;transport=sctp", "sip:b@example.net;transport=ws"] {
            assert_eq!(Wanted::read(uri), Err(LocateError::NoTransport), "{uri}");
        }
        assert_eq!(Wanted::read("tel:+123"), Err(LocateError::BadUri));
    }
}
