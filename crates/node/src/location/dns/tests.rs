//! Against a real name server on loopback: what the DNS says is what is found.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Stdio};

use super::*;

const RECORDS: &[&str] = &[
    "--naptr-record=example.test,10,10,S,SIP+D2T,,_sip._tcp.example.test",
    "--naptr-record=example.test,20,10,S,SIP+D2U,,_sip._udp.example.test",
    "--srv-host=_sip._tcp.example.test,two.example.test,5072,20,0",
    "--srv-host=_sip._tcp.example.test,one.example.test,5070,10,0",
    "--srv-host=_sip._udp.example.test,one.example.test,5070,10,0",
    "--srv-host=_sip._udp.plain.example.test,one.example.test,5080,0,5",
    "--host-record=one.example.test,192.0.2.1,2001:db8::1",
    "--host-record=two.example.test,192.0.2.2",
    "--cname=alias.example.test,two.example.test",
];

/// dnsmasq, ended with the test.
struct NameServer {
    child: Child,
    address: SocketAddr,
}

impl NameServer {
    fn start() -> NameServer {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let program = ["/usr/sbin/dnsmasq", "dnsmasq"];
        let program = program.into_iter().find(|program| std::path::Path::new(program).exists()).unwrap_or("dnsmasq");
        let child = Command::new(program)
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/"])
            .arg(format!("--port={port}"))
            .args(RECORDS)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq is installed by `make test-tools`");
        NameServer { child, address: (Ipv4Addr::LOCALHOST, port).into() }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn find(dns: &Dns, uri: &str) -> Result<Vec<String>, LocateError> {
    let text = |server: &Server| format!("{} {}", server.transport, server.address);
    Ok(dns.locate(&Wanted::read(uri)?).await?.iter().map(text).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_name_server_is_followed_from_naptr_to_address() {
    let server = NameServer::start();
    let dns = Dns::new(&[server.address]);
    // Nobody listens until it has started.
    let deadline = Instant::now() + Duration::from_secs(20);
    while find(&dns, "sip:bob@two.example.test:1").await.is_err() {
        assert!(Instant::now() < deadline, "the name server does not answer");
        tokio::task::yield_now().await;
    }

    let all = ["tcp 192.0.2.1:5070", "tcp [2001:db8::1]:5070", "tcp 192.0.2.2:5072", "udp 192.0.2.1:5070"];
    let found = find(&dns, "sip:bob@example.test").await.unwrap();
    assert_eq!(found.get(..4).unwrap(), all);
    assert_eq!(found.len(), 5);
    assert_eq!(find(&dns, "sip:bob@plain.example.test").await.unwrap().first().unwrap(), "udp 192.0.2.1:5080");
    assert_eq!(find(&dns, "sip:bob@alias.example.test").await.unwrap(), ["udp 192.0.2.2:5060"]);
    assert_eq!(find(&dns, "sip:bob@none.example.test").await, Err(LocateError::NoServer));

    // A server that failed is left out at once, and comes back when it has answered.
    let first = Server { transport: Transport::Tcp, address: "192.0.2.1:5070".parse().unwrap() };
    dns.failed(first);
    assert!(!find(&dns, "sip:bob@example.test").await.unwrap().contains(&all[0].to_owned()));
    dns.answered(first);
    assert_eq!(find(&dns, "sip:bob@example.test").await.unwrap().first().unwrap(), all[0]);
}

#[tokio::test]
async fn numeric_addresses_need_no_name_server() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dns = Dns::new(&[silent.local_addr().unwrap()]);
    assert_eq!(find(&dns, "sip:bob@192.0.2.1;transport=tcp").await.unwrap(), ["tcp 192.0.2.1:5060"]);
}
