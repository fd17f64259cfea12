//! A name server on loopback: dnsmasq, with the records of one test.

use std::net::SocketAddr;
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
        need("dnsmasq", "dnsmasq-base");
        let ports = PortBlock::reserve();
        let child = Command::new("dnsmasq")
            .env("PATH", crate::command::path_with_servers())
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/"])
            .arg(format!("--port={}", ports.port(0)))
            .arg(format!("--naptr-record={domain},10,10,S,SIP+D2U,,_sip._udp.{domain}"))
            .arg(format!("--srv-host=_sip._udp.{domain},host.{domain},{},10,10", server.port()))
            .arg(format!("--host-record=host.{domain},{}", server.ip()))
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
