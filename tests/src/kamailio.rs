//! Somebody else's SIP domain: Kamailio as registrar and proxy, every password being [`PASSWORD`].

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::SOON;
use crate::certificates::CertificateFiles;
use crate::command::{need, path_with_servers, signal};
use crate::ports::PortBlock;
use crate::scripted::is_alive;
use crate::wait::eventually;
use crate::{DOMAIN, Transport};

/// The domain that it serves.
pub const KAMAILIO_DOMAIN: &str = "kam.test";
/// The password of every user there.
pub const PASSWORD: &str = "kamsecret";

/// What every configuration here begins with; `LISTEN` is its address and port.
const BEGINNING: &str = r#"#!KAMAILIO
debug=2
log_stderror=yes
fork=yes
children=1
tcp_children=1
disable_core_dump=yes
auto_aliases=no
listen=udp:LISTEN
listen=tcp:LISTEN
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "auth.so"
modparam("usrloc", "db_mode", 0)
modparam("auth", "nonce_expire", 60)
modparam("auth", "qop", "auth")
"#;

const CONFIGURATION: &str = r#"alias="KAM_DOMAIN"
#TLS
request_route {
  xlog("L_NOTICE", "$rm $ru from $fu to $tu pai=$hdr(P-Asserted-Identity)\n");
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
  force_rport();
  if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
  if (has_totag()) {
    if (loose_route()) { if (!t_relay()) sl_reply_error(); exit; }
    if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
    sl_send_reply("404", "Not here"); exit;
  }
  t_check_trans();
  if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
  if (is_method("REGISTER")) {
    if (!pv_www_authenticate("KAM_DOMAIN", "SECRET", "0")) { www_challenge("KAM_DOMAIN", "1"); exit; }
    if ($au != $tU) { sl_send_reply("403", "Forbidden"); exit; }
    if (!save("location")) sl_reply_error();
    exit;
  }
  if (from_uri==myself) {
    if (!pv_proxy_authenticate("KAM_DOMAIN", "SECRET", "0")) { proxy_challenge("KAM_DOMAIN", "1"); exit; }
    if ($au != $fU) { sl_send_reply("403", "Forbidden"); exit; }
    consume_credentials();
  }
  remove_hf("Route");
  if (is_method("INVITE|SUBSCRIBE")) record_route();
  if (uri==myself) {
    if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
  } else if ($rd == "MESH_DOMAIN") {
    $du = "sip:MESH_NODE";
  } else {
    sl_send_reply("403", "Relaying denied"); exit;
  }
  if (!t_relay()) sl_reply_error();
}
"#;

const TLS_CONFIGURATION: &str = r#"enable_tls=yes
listen=tls:TLS_ADDRESS
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "CHAIN")
modparam("tls", "private_key", "KEY")
"#;

fn launch(folder: &Path) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("the log");
    Command::new("kamailio")
        .env("PATH", path_with_servers())
        .arg("-f")
        .arg(folder.join("kamailio.cfg"))
        .args(["-DD", "-E", "-m", "64", "-M", "8", "-Y"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("start kamailio")
}

/// A running Kamailio; dropping it ends it.
#[derive(Debug)]
pub struct Kamailio {
    child: Child,
    folder: Option<TempDir>,
    listen: SocketAddr,
    ports: PortBlock,
}

impl Kamailio {
    /// Starts it; calls to [`DOMAIN`] go to the node at `node`.
    #[track_caller]
    pub fn start(node: SocketAddr) -> Kamailio {
        Kamailio::with_tls(node, |_| String::new())
    }

    /// The same, which also listens for TLS and shows this certificate.
    #[track_caller]
    pub fn start_with_tls(node: SocketAddr, certificate: &CertificateFiles) -> Kamailio {
        Kamailio::with_tls(node, |ports| {
            TLS_CONFIGURATION
                .replace("TLS_ADDRESS", &ports.address(1).to_string())
                .replace("CHAIN", &certificate.chain.to_string_lossy())
                .replace("KEY", &certificate.key.to_string_lossy())
        })
    }

    #[track_caller]
    fn with_tls(node: SocketAddr, tls: impl FnOnce(&PortBlock) -> String) -> Kamailio {
        Kamailio::configured(Ipv4Addr::LOCALHOST, |ports| {
            CONFIGURATION
                .replace("#TLS\n", &tls(ports))
                .replace("KAM_DOMAIN", KAMAILIO_DOMAIN)
                .replace("SECRET", PASSWORD)
                .replace("MESH_DOMAIN", DOMAIN)
                .replace("MESH_NODE", &node.to_string())
        })
    }

    /// Starts one that does as it is told, after [`BEGINNING`].
    #[track_caller]
    pub(crate) fn configured(address: Ipv4Addr, configuration: impl FnOnce(&PortBlock) -> String) -> Kamailio {
        need("kamailio", "kamailio");
        let folder = tempfile::Builder::new().prefix("kamailio-").tempdir().expect("a folder");
        let ports = PortBlock::reserve();
        let listen = SocketAddr::from((address, ports.port(0)));
        let configuration = format!("{BEGINNING}{}", configuration(&ports)).replace("LISTEN", &listen.to_string());
        std::fs::write(folder.path().join("kamailio.cfg"), configuration).expect("the configuration");
        let child = launch(folder.path());
        let kamailio = Kamailio { child, folder: Some(folder), listen, ports };
        kamailio.wait_alive();
        kamailio
    }

    #[track_caller]
    fn wait_alive(&self) {
        eventually(SOON, "Kamailio to answer", || is_alive(Transport::Tcp, self.listen));
    }

    /// Ends it; whoever was registered is forgotten.
    pub fn stop(&mut self) {
        // Its first process ends the others.
        signal(self.child.id(), "TERM");
        let _ = self.child.wait();
    }

    /// Starts it again after [`Kamailio::stop`].
    #[track_caller]
    pub fn start_again(&mut self) {
        self.child = launch(self.folder.as_ref().expect("a folder until dropped").path());
        self.wait_alive();
    }

    /// Where it listens, over UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Where it listens for TLS.
    pub fn tls_address(&self) -> SocketAddr {
        self.ports.address(1)
    }

    /// What it has logged: a line a request, with its P-Asserted-Identity.
    pub fn log(&self) -> String {
        let path = self.folder.as_ref().expect("a folder until dropped").path().join("log");
        std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|end| end.is_none()) {
            self.stop();
        }
        if std::thread::panicking() {
            let log = self.log();
            let kept = self.folder.take().map(TempDir::keep).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(25)..].join("\n");
            eprintln!("── Kamailio (kept in {}), the end of its log:\n{end}", kept.display());
        }
    }
}
