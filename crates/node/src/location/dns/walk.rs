//! From a URI to the ordered list of its servers, asking names on the way (RFC 3263 §4.1, §4.2).

use std::net::{IpAddr, SocketAddr};

use meshtone_sip::transport::Transport;

use super::order::{MAX_RECORDS, Naptr, Srv, order_srv, services, srv_name};
use super::wanted::{Host, Wanted};
use super::{LocateError, Server};

/// Servers tried for one request, at most: a caller does not wait for more.
pub(crate) const MAX_SERVERS: usize = 8;

/// The three questions that names are asked. "There is no such record" is an empty answer, not an error.
pub(crate) trait Records: Sync {
    /// NAPTR records of a domain.
    fn naptr(&self, name: &str) -> impl Future<Output = Result<Vec<Naptr>, LocateError>> + Send;
    /// SRV records of a service.
    fn srv(&self, name: &str) -> impl Future<Output = Result<Vec<Srv>, LocateError>> + Send;
    /// Addresses of a host, of both families.
    fn addresses(&self, name: &str) -> impl Future<Output = Result<Vec<IpAddr>, LocateError>> + Send;
}

/// Finds the servers that `wanted` leads to over transports that are `spoken` here, best first.
///
/// `chance(n)` gives a number from 0 to n, for choosing by weight.
pub(crate) async fn servers(
    records: &impl Records,
    wanted: &Wanted,
    spoken: &[Transport],
    chance: impl FnMut(u32) -> u32 + Send,
) -> Result<Vec<Server>, LocateError> {
    if wanted.transport.is_some_and(|transport| !spoken.contains(&transport)) {
        return Err(LocateError::NoTransport);
    }
    let mut servers = match &wanted.host {
        Host::Address(address) => vec![wanted.numeric(*address)],
        Host::Name(name) => Walk { records, chance }.of_name(wanted, name, spoken).await?,
    };
    servers.retain(|server| spoken.contains(&server.transport));
    let mut seen = Vec::new();
    servers.retain(|server| {
        let is_new = !seen.contains(server);
        seen.push(*server);
        is_new
    });
    servers.truncate(MAX_SERVERS);
    if servers.is_empty() { Err(LocateError::NoServer) } else { Ok(servers) }
}

struct Walk<'a, R, C> {
    records: &'a R,
    chance: C,
}

impl<R: Records, C: FnMut(u32) -> u32 + Send> Walk<'_, R, C> {
    async fn of_name(&mut self, wanted: &Wanted, name: &str, spoken: &[Transport]) -> Result<Vec<Server>, LocateError> {
        // A port says that the name is a host's (RFC 3263 §4.2).
        if let Some(port) = wanted.port {
            return self.of_host(wanted.transport_or_default(), name, port).await;
        }
        let mut servers = match wanted.transport {
            Some(transport) => self.of_service(transport, srv_name(transport, name)).await?,
            None => self.discover(wanted.is_secure, name, spoken).await?,
        };
        if servers.is_empty() {
            let transport = wanted.transport_or_default();
            servers = self.of_host(transport, name, transport.default_port()).await?;
        }
        Ok(servers)
    }

    /// NAPTR says which transports the domain likes; without it, each that we speak is asked for (RFC 3263 §4.1).
    async fn discover(
        &mut self,
        is_secure: bool,
        name: &str,
        spoken: &[Transport],
    ) -> Result<Vec<Server>, LocateError> {
        let mut servers = Vec::new();
        for (transport, service) in services(self.records.naptr(name).await?, is_secure, spoken) {
            servers.extend(self.of_service(transport, Some(service)).await?);
        }
        if !servers.is_empty() {
            return Ok(servers);
        }
        for transport in spoken.iter().copied().filter(|transport| !is_secure || *transport == Transport::Tls) {
            servers.extend(self.of_service(transport, srv_name(transport, name)).await?);
        }
        Ok(servers)
    }

    async fn of_service(&mut self, transport: Transport, service: Option<String>) -> Result<Vec<Server>, LocateError> {
        let Some(service) = service else { return Ok(Vec::new()) };
        let ordered = order_srv(self.records.srv(&service).await?, &mut self.chance);
        let mut servers = Vec::new();
        for record in ordered.into_iter().take(MAX_SERVERS) {
            // A target without addresses does not spoil the others.
            servers.extend(self.of_host(transport, &record.target, record.port).await.unwrap_or_default());
        }
        Ok(servers)
    }

    async fn of_host(&self, transport: Transport, host: &str, port: u16) -> Result<Vec<Server>, LocateError> {
        let addresses = self.records.addresses(host).await?;
        let server = |address| Server { transport, address: SocketAddr::new(address, port) };
        Ok(addresses.into_iter().take(MAX_RECORDS).map(server).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use super::*;

    const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    #[derive(Default)]
    struct Zone {
        naptr: HashMap<&'static str, Vec<(u16, &'static str, &'static str)>>,
        srv: HashMap<&'static str, Vec<(u16, u16, &'static str)>>,
        hosts: HashMap<&'static str, Vec<&'static str>>,
    }

    impl Records for Zone {
        async fn naptr(&self, name: &str) -> Result<Vec<Naptr>, LocateError> {
            let of = |(order, services, replacement): &(u16, &str, &str)| Naptr {
                order: *order,
                preference: 0,
                flags: "s".to_owned(),
                services: (*services).to_owned(),
                has_regexp: false,
                replacement: (*replacement).to_owned(),
            };
            Ok(self.naptr.get(name).into_iter().flatten().map(of).collect())
        }

        async fn srv(&self, name: &str) -> Result<Vec<Srv>, LocateError> {
            let of = |(priority, port, target): &(u16, u16, &str)| Srv {
                priority: *priority,
                weight: 0,
                port: *port,
                target: (*target).to_owned(),
            };
            Ok(self.srv.get(name).into_iter().flatten().map(of).collect())
        }

        async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, LocateError> {
            if name == "silent.example" {
                return Err(LocateError::NameServer);
            }
            Ok(self.hosts.get(name).into_iter().flatten().map(|address| address.parse().unwrap()).collect())
        }
    }

    /// RFC 3263 §4.1's own example, with addresses.
    fn zone() -> Zone {
        Zone {
            naptr: HashMap::from([(
                "example.com",
                vec![
                    (50, "SIPS+D2T", "_sips._tcp.example.com"),
                    (90, "SIP+D2T", "_sip._tcp.example.com"),
                    (100, "SIP+D2U", "_sip._udp.example.com"),
                ],
            )]),
            srv: HashMap::from([
                ("_sip._tcp.example.com", vec![(1, 5060, "server2.example.com"), (0, 5060, "server1.example.com")]),
                ("_sip._udp.example.com", vec![(0, 5070, "server1.example.com")]),
                ("_sip._udp.srvonly.example", vec![(0, 5080, "silent.example"), (1, 5080, "server2.example.com")]),
            ]),
            hosts: HashMap::from([
                ("server1.example.com", vec!["192.0.2.1"]),
                ("server2.example.com", vec!["192.0.2.2", "2001:db8::2"]),
                ("host.example", vec!["192.0.2.9"]),
            ]),
        }
    }

    fn find(uri: &str, spoken: &[Transport]) -> Result<Vec<String>, LocateError> {
        let zone = zone();
        let wanted = Wanted::read(uri).unwrap();
        let search = servers(&zone, &wanted, spoken, |_| 0);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let text = |server: &Server| format!("{} {}", server.transport, server.address);
        runtime.block_on(search).map(|servers| servers.iter().map(text).collect())
    }

    #[test]
    fn naptr_leads_to_srv_leads_to_addresses_in_order() {
        let expected = ["tcp 192.0.2.1:5060", "tcp 192.0.2.2:5060", "tcp [2001:db8::2]:5060", "udp 192.0.2.1:5070"];
        assert_eq!(find("sip:bob@example.com", &ALL).unwrap(), expected);
    }

    #[test]
    fn a_named_transport_asks_for_that_service_only() {
        assert_eq!(find("sip:bob@example.com;transport=udp", &ALL).unwrap(), ["udp 192.0.2.1:5070"]);
    }

    #[test]
    fn without_naptr_each_spoken_transport_is_asked_for_and_a_lame_target_is_passed_over() {
        let expected = ["udp 192.0.2.2:5080", "udp [2001:db8::2]:5080"];
        assert_eq!(find("sip:bob@srvonly.example", &ALL).unwrap(), expected);
    }

    #[test]
    fn without_any_service_the_name_is_a_hosts() {
        assert_eq!(find("sip:bob@host.example", &ALL).unwrap(), ["udp 192.0.2.9:5060"]);
        assert_eq!(find("sips:bob@host.example", &ALL).unwrap(), ["tls 192.0.2.9:5061"]);
        assert_eq!(find("sip:bob@host.example;transport=tcp", &ALL).unwrap(), ["tcp 192.0.2.9:5060"]);
    }

    #[test]
    fn a_port_skips_naptr_and_srv() {
        assert_eq!(find("sip:bob@server1.example.com:5099", &ALL).unwrap(), ["udp 192.0.2.1:5099"]);
    }

    #[test]
    fn sips_never_falls_back_to_an_unprotected_transport() {
        assert_eq!(find("sips:bob@example.com", &ALL), Err(LocateError::NoServer));
        assert_eq!(find("sips:bob@192.0.2.1", &[Transport::Udp, Transport::Tcp]), Err(LocateError::NoServer));
    }

    #[test]
    fn nothing_found_is_told_apart_from_nobody_asked() {
        assert_eq!(find("sip:bob@nowhere.example", &ALL), Err(LocateError::NoServer));
        assert_eq!(find("sip:bob@silent.example:5060", &ALL), Err(LocateError::NameServer));
    }
}
