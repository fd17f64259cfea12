//! A name server on loopback: dnsmasq, with the records of one test.

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use crate::command::need;
use crate::ports::PortBlock;

/// A running name server; dropping it ends it.
#[derive(Debug)]
pub struct NameServer {
    child: Child,
    ports: PortBlock,
}

impl NameServer {
    /// Starts a server that knows that the SIP server of `domain` is at `server` (IPv4), over UDP.
    #[track_caller]
    pub fn with_domain(domain: &str, server: SocketAddr) -> NameServer {
        NameServer::serving(domain, &[server], "SIP+D2U", "_sip._udp")
    }

    /// The same with several servers, to be tried in this order.
    #[track_caller]
    pub fn with_servers(domain: &str, servers: &[SocketAddr]) -> NameServer {
        NameServer::serving(domain, servers, "SIP+D2U", "_sip._udp")
    }

    /// The same, over TLS alone.
    #[track_caller]
    pub fn with_tls_domain(domain: &str, server: SocketAddr) -> NameServer {
        NameServer::serving(domain, &[server], "SIPS+D2T", "_sips._tcp")
    }

    /// Starts a server with these TXT records of one name, and these hosts.
    #[track_caller]
    pub fn with_texts(name: &str, texts: &[String], hosts: &[(&str, IpAddr)]) -> NameServer {
        let texts = texts.iter().map(|text| format!("--txt-record={name},{text}"));
        let hosts = hosts.iter().map(|(host, ip)| format!("--host-record={host},{ip}"));
        NameServer::start(texts.chain(hosts).collect())
    }

    /// Starts a server with what `meshtone dns-records --json` printed at several nodes.
    #[track_caller]
    pub fn with_records(printed: &[serde_json::Value]) -> NameServer {
        let records = printed.iter().flat_map(|printed| printed["records"].as_array().cloned().unwrap_or_default());
        let argument = |record: serde_json::Value| {
            let (name, value) =
                (record["name"].as_str().unwrap_or_default(), record["value"].as_str().unwrap_or_default());
            match (record["kind"].as_str(), value.split(' ').collect::<Vec<_>>().as_slice()) {
                (Some("SRV"), [priority, weight, port, host]) => {
                    format!("--srv-host={name},{},{port},{priority},{weight}", host.trim_end_matches('.'))
                }
                (Some("TXT"), _) => format!("--txt-record={name},{}", value.trim_matches('"')),
                (Some("A" | "AAAA"), _) => format!("--host-record={name},{value}"),
                _ => panic!("no record: {record}"),
            }
        };
        NameServer::start(records.map(argument).collect())
    }

    #[track_caller]
    fn serving(domain: &str, servers: &[SocketAddr], service: &str, prefix: &str) -> NameServer {
        let naptr = format!("--naptr-record={domain},10,10,S,{service},,{prefix}.{domain}");
        let services = servers.iter().zip(1..).map(|(server, number)| {
            format!("--srv-host={prefix}.{domain},host{number}.{domain},{},{number}0,10", server.port())
        });
        let hosts = servers
            .iter()
            .zip(1..)
            .map(|(server, number)| format!("--host-record=host{number}.{domain},{}", server.ip()));
        NameServer::start([naptr].into_iter().chain(services).chain(hosts).collect())
    }

    #[track_caller]
    fn start(records: Vec<String>) -> NameServer {
        need("dnsmasq", "dnsmasq-base");
        let ports = PortBlock::reserve();
        let child = Command::new("dnsmasq")
            .env("PATH", crate::command::path_with_servers())
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/"])
            .arg(format!("--port={}", ports.port(0)))
            .args(records)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start dnsmasq");
        NameServer { child, ports }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.ports.address(0)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
