//! An ACME server: Pebble, which Let's Encrypt makes for tests. It looks for challenges at the ports that it is told, and issues certificates of an
//! authority that it makes at each start.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::SOON;
use crate::certificates::Authority;
use crate::command::need;
use crate::http::Site;
use crate::ports::PortBlock;
use crate::wait::eventually;

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Pebble {
    child: Child,
    ports: PortBlock,
    authority: Authority,
    folder: TempDir,
}

impl Pebble {
    /// Starts a server that finds names by this name server, looks for HTTP-01 and TLS-ALPN-01 at these ports, and issues for so many seconds.
    #[track_caller]
    pub fn start(names: SocketAddr, http: SocketAddr, tls: SocketAddr, valid_s: u32) -> Pebble {
        need("pebble", "pebble");
        let (ports, folder, authority) =
            (PortBlock::reserve(), tempfile::tempdir().expect("a folder"), Authority::new());
        let files = authority.issue(&["localhost"], 2100);
        let settings = json!({ "pebble": {
            "listenAddress": ports.address(0).to_string(), "managementListenAddress": ports.address(1).to_string(),
            "certificate": files.chain, "privateKey": files.key, "httpPort": http.port(), "tlsPort": tls.port(),
            "ocspResponderURL": "", "externalAccountBindingRequired": false, "certificateValidityPeriod": valid_s,
        } });
        let config = folder.path().join("pebble.json");
        std::fs::write(&config, settings.to_string()).expect("the configuration");
        let log = File::create(folder.path().join("log")).expect("the log");
        let child = Command::new("pebble")
            .arg("-config")
            .arg(&config)
            .args(["-dnsserver", &names.to_string()])
            // It would wait some seconds before it looks for a challenge, as busy servers do.
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("start pebble");
        let pebble = Pebble { child, ports, authority, folder };
        eventually(SOON, "pebble to answer", || std::net::TcpStream::connect(pebble.ports.address(1)).is_ok());
        eventually(SOON, "pebble to answer", || std::net::TcpStream::connect(pebble.ports.address(0)).is_ok());
        pebble
    }

    /// The address of its directory.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.ports.port(0))
    }

    /// By what the server itself is believed, PEM.
    pub fn authority(&self) -> PathBuf {
        self.authority.certificate()
    }

    /// By what the certificates are believed that it issues, PEM.
    #[track_caller]
    pub fn root(&self) -> String {
        let answer = Site { server: self.ports.address(1), tls: true }.get("/roots/0");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("── pebble:\n{}", self.log());
        }
    }
}
