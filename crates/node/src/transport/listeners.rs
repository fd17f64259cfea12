//! The addresses that phones and other domains find this node at: bound at the start, asked for ever after.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use meshtone_sip::transport::Transport;
use tokio::net::TcpListener;

use super::udp;

/// Where a node listens for SIP.
#[derive(Debug, Clone, Default)]
pub(crate) struct Addresses {
    /// UDP and TCP.
    pub(crate) sip: Vec<SocketAddr>,
    /// TLS.
    pub(crate) tls: Vec<SocketAddr>,
    /// WebSocket.
    pub(crate) ws: Vec<SocketAddr>,
    /// WebSocket over TLS.
    pub(crate) wss: Vec<SocketAddr>,
}

impl Addresses {
    /// All of them.
    pub(crate) fn all(&self) -> Vec<SocketAddr> {
        [&self.sip, &self.tls, &self.ws, &self.wss].into_iter().flatten().copied().collect()
    }
}

/// One address. A UDP socket stands for TCP at the same address too.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) udp: Option<Arc<UdpSocket>>,
    /// What connections to it speak.
    pub(super) stream: Transport,
}

/// All of them; a flow names its listener by the index here.
pub(super) struct Listeners(Vec<Listener>);

impl Listeners {
    /// Binds every address, and returns the sockets that accept connections in the order of the listeners.
    ///
    /// # Errors
    /// The address that could not be bound, with the system's reason.
    pub(super) fn bind(addresses: &Addresses) -> Result<(Listeners, Vec<TcpListener>), (SocketAddr, io::Error)> {
        let mut listeners = Vec::new();
        let mut accepting = Vec::new();
        for &wanted in &addresses.sip {
            let socket = udp::bind(wanted).map_err(|error| (wanted, error))?;
            let address = socket.local_addr().map_err(|error| (wanted, error))?;
            accepting.push(bind_tcp(address).map_err(|error| (address, error))?);
            listeners.push(Listener { address, udp: Some(Arc::new(socket)), stream: Transport::Tcp });
        }
        let streams =
            [(Transport::Tls, &addresses.tls), (Transport::Ws, &addresses.ws), (Transport::Wss, &addresses.wss)];
        for (stream, wanted) in streams.into_iter().flat_map(|(stream, all)| all.iter().map(move |one| (stream, *one)))
        {
            let socket = bind_tcp(wanted).map_err(|error| (wanted, error))?;
            let address = socket.local_addr().map_err(|error| (wanted, error))?;
            accepting.push(socket);
            listeners.push(Listener { address, udp: None, stream });
        }
        Ok((Listeners(listeners), accepting))
    }

    /// The address of a listener.
    pub(super) fn address(&self, listener: u16) -> Option<SocketAddr> {
        self.0.get(usize::from(listener)).map(|listener| listener.address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, &Listener)> {
        self.0.iter().enumerate().map(|(index, listener)| (u16::try_from(index).unwrap_or(u16::MAX), listener))
    }

    /// The UDP socket of a listener; where that one has none, the first of the family that `remote` belongs to.
    pub(super) fn udp(&self, listener: u16, remote: SocketAddr) -> Option<&Arc<UdpSocket>> {
        let fits = |listener: &&Listener| listener.address.is_ipv4() == remote.is_ipv4();
        let named = self.0.get(usize::from(listener)).filter(fits);
        let named = named.filter(|named| named.udp.is_some());
        named.or_else(|| self.0.iter().filter(fits).find(|other| other.udp.is_some()))?.udp.as_ref()
    }

    /// The addresses with this transport, with the ports really bound.
    pub(super) fn addresses(&self, stream: Transport) -> Vec<SocketAddr> {
        self.0.iter().filter(|listener| listener.stream == stream).map(|listener| listener.address).collect()
    }

    /// Where the other side of a hop can open a connection back to: the listener named if it speaks that transport,
    /// else one that does, else whichever there is (the answer comes back on the connection then).
    pub(super) fn facing(&self, listener: u16, transport: Transport, remote: IpAddr) -> SocketAddr {
        let stream = if transport == Transport::Udp { Transport::Tcp } else { transport };
        let speaks = |listener: &&Listener| listener.stream == stream;
        let fits = |listener: &&Listener| listener.address.is_ipv4() == remote.is_ipv4();
        let named = self.0.get(usize::from(listener));
        let found = named
            .filter(speaks)
            .or_else(|| self.0.iter().filter(speaks).find(fits))
            .or_else(|| self.0.iter().find(fits))
            .or(named)
            .or_else(|| self.0.first());
        found.map_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5060)), |listener| listener.address)
    }

    /// Whether a listener has this address; `port` is `None` where a URI gave none, which means that of its transport.
    pub(super) fn is_own(&self, ip: IpAddr, port: Option<u16>, is_of_this_machine: impl Fn(IpAddr) -> bool) -> bool {
        self.0.iter().any(|listener| {
            let address = listener.address;
            let named = port.unwrap_or(listener.stream.default_port());
            address.port() == named
                && (address.ip() == ip
                    || address.ip().is_unspecified()
                        && address.is_ipv4() == ip.is_ipv4()
                        && (ip.is_loopback() || is_of_this_machine(ip)))
        })
    }
}

/// Listens for connections, also where some of an earlier run linger.
pub(crate) fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A node that restarts must get its port back while old connections are in TIME-WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn listeners() -> Listeners {
        let of = |address: &str, stream| Listener { address: address.parse().unwrap(), udp: None, stream };
        Listeners(vec![
            of("192.0.2.1:5060", Transport::Tcp),
            of("[2001:db8::1]:5070", Transport::Tcp),
            of("0.0.0.0:5061", Transport::Tls),
            of("192.0.2.1:8080", Transport::Ws),
        ])
    }

    #[test]
    fn a_hop_names_the_listener_of_its_transport() {
        let (all, remote) = (listeners(), "192.0.2.9".parse().unwrap());
        assert_eq!(all.facing(0, Transport::Udp, remote).port(), 5060);
        assert_eq!(all.facing(0, Transport::Tls, remote).port(), 5061);
        assert_eq!(all.facing(3, Transport::Ws, remote).port(), 8080);
        assert_eq!(all.facing(0, Transport::Wss, remote).port(), 5060, "there is no listener for WSS");
        assert_eq!(all.facing(9, Transport::Tcp, "2001:db8::9".parse().unwrap()).port(), 5070);
    }

    #[test]
    fn every_address_handed_out_is_known_again() {
        let all = listeners();
        let ours = |host: &str, port| all.is_own(host.parse().unwrap(), port, |ip| ip == IpAddr::from([192, 0, 2, 1]));
        for (host, port) in [("192.0.2.1", 5060), ("2001:db8::1", 5070), ("192.0.2.1", 5061), ("192.0.2.1", 8080)] {
            assert!(ours(host, Some(port)), "{host}:{port}");
        }
        assert!(ours("192.0.2.1", None) && ours("127.0.0.1", Some(5061)));
        for (host, port) in [("192.0.2.1", 5070), ("192.0.2.7", 5060), ("2001:db8::1", 5061), ("::1", 5061)] {
            assert!(!ours(host, Some(port)), "{host}:{port}");
        }
        assert!(!ours("2001:db8::1", None), "5060 is another's there");
    }
}
