//! Against a real name server on loopback: what the DNS says is what is found.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Stdio};

use super::*;

const ZONE: &str = "\
$ORIGIN example.test.
$TTL 60
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
@ IN NAPTR 10 10 \"S\" \"SIP+D2T\" \"\" _sip._tcp.example.test.
@ IN NAPTR 20 10 \"S\" \"SIP+D2U\" \"\" _sip._udp.example.test.
_sip._tcp IN SRV 20 0 5072 two.example.test.
_sip._tcp IN SRV 10 0 5070 one.example.test.
_sip._udp IN SRV 10 0 5070 one.example.test.
_sip._udp.plain IN SRV 0 5 5080 one.example.test.
one IN A 192.0.2.1
one IN AAAA 2001:db8::1
two IN A 192.0.2.2
alias IN CNAME two.example.test.
";

/// NSD, the authoritative server of NLnet Labs, ended with the test.
struct NameServer {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl NameServer {
    fn start() -> NameServer {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display().to_string();
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let config = format!(
            "server:\n  ip-address: 127.0.0.1\n  port: {port}\n  username: \"\"\n  zonesdir: \"{here}\"\n\
             \x20 database: \"\"\n  pidfile: \"\"\n  zonelistfile: \"{here}/zones\"\n  xfrdfile: \"\"\n  xfrdir: \"{here}\"\n\
             \x20 server-count: 1\n  cookie-secret-file: \"\"\nremote-control:\n  control-enable: no\n\
             zone:\n  name: example.test\n  zonefile: zone\n"
        );
        std::fs::write(folder.path().join("nsd.conf"), config).unwrap();
        std::fs::write(folder.path().join("zone"), ZONE).unwrap();
        let program = if std::path::Path::new("/usr/sbin/nsd").exists() { "/usr/sbin/nsd" } else { "nsd" };
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program)
            .args(["-d", "-c"])
            .arg(folder.path().join("nsd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nsd is installed by `make test-tools`");
        NameServer { child, address: (Ipv4Addr::LOCALHOST, port).into(), _folder: folder }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // NSD's parent ends its children when told to; SIGKILL would leave them behind.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
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
    // The server may still be loading its zone: it refuses until then.
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
