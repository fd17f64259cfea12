//! What lets others in at a [`Site`](crate::nat::Site)'s router when the machine behind it asks: Debian's miniupnpd, as it runs in many a
//! router at home.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::SOON;
use crate::command::{need, path_with_servers};
use crate::nat::Site;
use crate::wait::eventually;

/// What it is asked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// PCP and NAT-PMP (RFC 6887, RFC 6886).
    Pcp,
    /// UPnP.
    Upnp,
}

/// Where it writes what it lets in; its rules are in front of those of the box.
const TABLE: &str = "table inet ports {
  chain miniupnpd {
  }
  chain to {
  }
  chain from {
  }
  chain forward {
    type filter hook forward priority -10; policy accept;
    jump miniupnpd
  }
  chain pre {
    type nat hook prerouting priority -110; policy accept;
    jump to
  }
  chain post {
    type nat hook postrouting priority 90; policy accept;
    jump from
  }
}
";

/// It runs until it is dropped.
#[derive(Debug)]
pub struct Miniupnpd {
    namespace: PathBuf,
    folder: TempDir,
    child: Child,
}

impl Miniupnpd {
    /// Lets others in at the router of this site.
    #[track_caller]
    pub fn start(site: &Site, asked: Asked) -> Miniupnpd {
        need("miniupnpd", "miniupnpd-nftables");
        let folder = tempfile::tempdir().expect("a folder");
        let says = |is: bool| if is { "yes" } else { "no" };
        let settings = format!(
            "ext_ifname=wan\nlistening_ip=lan\nenable_natpmp={}\nenable_upnp={}\nsecure_mode=yes\n\
             uuid=00000000-0000-0000-0000-000000000001\nupnp_table_name=ports\nupnp_nat_table_name=ports\n\
             upnp_forward_chain=miniupnpd\nupnp_nat_chain=to\nupnp_nat_postrouting_chain=from\n\
             allow 1-65535 192.168.1.0/24 1-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
            says(asked == Asked::Pcp),
            says(asked == Asked::Upnp),
        );
        std::fs::write(folder.path().join("conf"), settings).expect("its settings");
        let namespace = site.router().expect("a router");
        let child = spawn(&namespace, folder.path());
        let router = Miniupnpd { namespace, folder, child };
        router.wait_ready();
        router
    }

    /// Ends it, and has it forget everything, as a router does that loses its power; then it is there again.
    #[track_caller]
    pub fn restart(&mut self) {
        self.end();
        self.child = spawn(&self.namespace, self.folder.path());
        self.wait_ready();
    }

    /// Whom it lets in, in the words of nftables.
    #[track_caller]
    pub fn lets_in(&self) -> String {
        let output = inside(&self.namespace, &["nft", "list", "chain", "inet", "ports", "to"]).output().expect("nft");
        let rules = String::from_utf8_lossy(&output.stdout).into_owned();
        rules.lines().filter(|line| line.contains("dnat")).collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    fn wait_ready(&self) {
        eventually(SOON, "miniupnpd to listen", || {
            std::fs::read_to_string(self.folder.path().join("pid")).is_ok_and(|pid| !pid.is_empty())
        });
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.folder.path().join("pid"));
    }
}

impl Drop for Miniupnpd {
    fn drop(&mut self) {
        self.end();
    }
}

#[track_caller]
fn spawn(namespace: &Path, folder: &Path) -> Child {
    let mut rules = inside(namespace, &["nft", "-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
    let anew = format!("table inet ports\ndelete table inet ports\n{TABLE}");
    rules.stdin.take().expect("its input").write_all(anew.as_bytes()).expect("it reads");
    assert!(rules.wait().expect("its end").success(), "{anew}");
    let (conf, pid) = (folder.join("conf"), folder.join("pid"));
    let log = std::fs::File::create(folder.join("log")).expect("its log");
    let arguments = ["miniupnpd", "-d", "-f", conf.to_str().expect("UTF-8"), "-P", pid.to_str().expect("UTF-8")];
    let streams = (log.try_clone().expect("its log"), log);
    inside(namespace, &arguments).stdout(streams.0).stderr(streams.1).spawn().expect("miniupnpd")
}

fn inside(namespace: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display())).args(arguments).env("PATH", path_with_servers());
    command
}
