//! Nodes under test: `meshtone run` as a user would start it.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{binary, isolate, isolated, signal, stderr, stdout};
use crate::lan::Host;
use crate::namespace::within;
use crate::nat::{self, Site};
use crate::phone::Transport;
use crate::ports::PortBlock;
use crate::wait::{eventually, eventually_some};
use crate::{DOMAIN, SOON};

/// A first start makes keys and certificates, in an unoptimised build and beside other tests.
const START_DEADLINE: Duration = Duration::from_secs(60);
const LOG_LINES_SHOWN: usize = 40;

/// One node: a process, its ports and its data folder.
///
/// Dropping it kills the process. If the test has failed, the data folder stays, and the end of the log is printed.
#[derive(Debug)]
pub struct MeshNode {
    name: String,
    folder: Option<TempDir>,
    ports: PortBlock,
    host: IpAddr,
    /// The network namespace it runs in, where it listens on all addresses.
    namespace: Option<PathBuf>,
    /// Nobody else is where it is.
    has_usual_ports: bool,
    child: Option<Child>,
    start: u32,
    domain: Option<String>,
    environment: Vec<(String, String)>,
    program: PathBuf,
}

impl MeshNode {
    /// Starts the first node of a new overlay, serving [`DOMAIN`].
    #[track_caller]
    pub fn first(name: &str) -> MeshNode {
        let mut node = MeshNode::unstarted(name);
        node.domain = Some(DOMAIN.to_owned());
        node.run(&[]);
        node
    }

    /// Starts a node that joins with a ticket.
    #[track_caller]
    pub fn joining(name: &str, ticket: &str) -> MeshNode {
        let mut node = MeshNode::unstarted(name);
        node.run(&["--join", ticket]);
        node
    }

    /// A node that has its folder and ports, but does not run yet.
    pub fn unstarted(name: &str) -> MeshNode {
        let folder = tempfile::Builder::new().prefix(&format!("meshtone-{name}-")).tempdir().expect("a data folder");
        MeshNode {
            name: name.to_owned(),
            folder: Some(folder),
            ports: PortBlock::reserve(),
            host: Ipv4Addr::LOCALHOST.into(),
            namespace: None,
            has_usual_ports: false,
            child: None,
            start: 0,
            domain: None,
            environment: Vec::new(),
            program: binary(),
        }
    }

    /// Runs another `meshtone` binary from the next start on, such as one of another release.
    pub fn set_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Listens at this address of the machine from the next start on, on the same ports.
    pub fn move_to(&mut self, host: impl Into<IpAddr>) {
        self.host = host.into();
    }

    /// Runs on this host from the next start on, and listens on all its addresses.
    pub fn live_on(&mut self, host: &Host, address: impl Into<IpAddr>) {
        self.namespace = Some(host.namespace());
        self.move_to(address);
        host.move_to(self.host);
    }

    /// Runs on this machine behind a router from the next start on, and listens on all its addresses, at the usual ports for links and
    /// pages. Phones reach it over their wire.
    pub fn live_behind(&mut self, site: &Site) {
        self.namespace = Some(site.namespace());
        self.host = site.for_phones().into();
        self.has_usual_ports = true;
    }

    /// Serves another domain than [`DOMAIN`] from the next start on.
    pub fn with_domain(mut self, domain: &str) -> MeshNode {
        self.domain = Some(domain.to_owned());
        self
    }

    /// Starts the process on its ports and data folder and waits until it says `ready`.
    #[track_caller]
    pub fn run(&mut self, extra: &[&str]) {
        self.launch(extra);
        self.wait_ready();
    }

    /// Starts the process with these settings in a configuration file.
    #[track_caller]
    pub fn run_configured(&mut self, settings: &str) {
        let path = self.file("config.toml");
        std::fs::write(&path, settings).expect("the configuration file");
        self.run(&["--config", path.to_str().expect("UTF-8")]);
    }

    /// Waits until a launched process says `ready`.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let (name, log) = (self.name.clone(), self.log());
        let out = self.file("out");
        let child = self.child.as_mut().expect("just launched");
        eventually(START_DEADLINE, &format!("node {name} to say `ready`"), || {
            if std::fs::read_to_string(&out).is_ok_and(|text| text.lines().last() == Some("ready")) {
                return true;
            }
            if let Some(status) = child.try_wait().expect("look after the node") {
                panic!("node {name} ended at its start ({status}):\n{}", tail(&log));
            }
            false
        });
    }

    /// Starts the process and does not wait.
    pub fn launch(&mut self, extra: &[&str]) {
        assert!(self.child.is_none(), "node {} runs already", self.name);
        self.start += 1;
        let [sip, link, tls, ws, wss] = [self.sip(), self.link(), self.tls(), self.ws(), self.wss()]
            .map(|address| self.listening(address).to_string());
        let rtp = format!("{}-{}", self.rtp().start(), self.rtp().end());
        let data = self.data();
        let data = data.to_str().expect("UTF-8");
        let mut arguments = vec!["run", "--data", data, "--sip", &sip, "--link", &link, "--rtp-ports", &rtp];
        arguments.extend(["--tls", &tls, "--ws", &ws, "--wss", &wss]);
        if let Some(domain) = &self.domain {
            arguments.extend(["--domain", domain]);
        }
        arguments.extend(extra);
        let log = File::options().create(true).append(true).open(self.log()).expect("the log file");
        let out = File::create(self.file("out")).expect("the output file");
        let filter = std::env::var("NODE_LOG").unwrap_or_else(|_| "info,meshtone=debug".to_owned());
        let mut command = match &self.namespace {
            None => isolated(&self.program, &arguments),
            Some(namespace) => {
                let mut command = within(namespace, &self.program);
                command.args(&arguments);
                isolate(&mut command);
                command
            }
        };
        let child = command
            .env("MESHTONE_LOG", filter)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(out)
            .stderr(log)
            .spawn()
            .expect("start meshtone");
        self.child = Some(child);
    }

    /// The test's name for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where phones reach it over `transport`.
    pub fn at(&self, transport: Transport) -> SocketAddr {
        match transport {
            Transport::Udp | Transport::Tcp => self.sip(),
            Transport::Tls => self.tls(),
            Transport::Ws => self.ws(),
            Transport::Wss => self.wss(),
        }
    }

    /// Where phones reach it over TLS.
    pub fn tls(&self) -> SocketAddr {
        self.address(2)
    }

    /// Where browsers reach it.
    pub fn ws(&self) -> SocketAddr {
        self.address(3)
    }

    /// Where browsers reach it over TLS.
    pub fn wss(&self) -> SocketAddr {
        self.address(4)
    }

    /// Where phones reach it, over UDP and TCP.
    pub fn sip(&self) -> SocketAddr {
        self.address(0)
    }

    /// Where other nodes reach it.
    pub fn link(&self) -> SocketAddr {
        self.address(1)
    }

    /// The ports on which its calls' media comes.
    pub fn rtp(&self) -> RangeInclusive<u16> {
        self.ports.port(6)..=self.ports.port(19)
    }

    /// Where it listens to be reached at this address.
    fn listening(&self, address: SocketAddr) -> SocketAddr {
        match (&self.namespace, address) {
            (None, address) => address,
            (Some(_), SocketAddr::V4(_)) => (Ipv4Addr::UNSPECIFIED, address.port()).into(),
            (Some(_), SocketAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, address.port()).into(),
        }
    }

    fn address(&self, offset: u16) -> SocketAddr {
        let port = match offset {
            1 if self.has_usual_ports => nat::LINK,
            4 if self.has_usual_ports => nat::PAGES,
            _ => self.ports.port(offset),
        };
        SocketAddr::new(self.host, port)
    }

    /// What another node is given as `--peer` to find this one.
    #[track_caller]
    pub fn peer(&self) -> String {
        self.status()["peer"][0].as_str().expect("a peer line").to_owned()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.file("data")
    }

    /// What it has logged over all its starts.
    pub fn log(&self) -> PathBuf {
        self.file("log")
    }

    /// What it has printed since its last start.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.file("out")).unwrap_or_default()
    }

    /// Where its configuration may be put.
    pub fn settings(&self) -> PathBuf {
        self.file("config.toml")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.as_ref().expect("a folder until dropped").path().join(name)
    }

    /// Runs an administrative command against its data folder.
    pub fn command(&self, arguments: &[&str]) -> Output {
        isolated(&self.program, arguments).env("MESHTONE_DATA", self.data()).output().expect("run meshtone")
    }

    /// Runs an administrative command that must succeed, and returns what it prints.
    #[track_caller]
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert!(
            output.status.success(),
            "`meshtone {}` at {} failed ({}): {}",
            arguments.join(" "),
            self.name,
            output.status,
            stderr(&output)
        );
        stdout(&output)
    }

    /// Runs an administrative command that reads this from standard input.
    pub fn command_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = isolated(&self.program, arguments);
        command.env("MESHTONE_DATA", self.data()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("run meshtone");
        child.stdin.take().expect("its standard input").write_all(input.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    }

    /// The same for one that must succeed; returns what it prints.
    #[track_caller]
    pub fn must_with_input(&self, arguments: &[&str], input: &str) -> String {
        let output = self.command_with_input(arguments, input);
        assert!(output.status.success(), "`meshtone {}` failed: {}", arguments.join(" "), stderr(&output));
        stdout(&output)
    }

    /// Adds a user and returns the generated password.
    #[track_caller]
    pub fn user_add(&self, user: &str) -> String {
        password_in(&self.must(&["user", "add", user, "--json"]))
    }

    /// Gives a user a new password and returns it.
    #[track_caller]
    pub fn user_passwd(&self, user: &str) -> String {
        password_in(&self.must(&["user", "passwd", user, "--json"]))
    }

    /// Makes a single-use ticket for a further home node.
    #[track_caller]
    pub fn invite(&self) -> String {
        let printed = self.must(&["invite", "--role", "home"]);
        ticket_in(&printed)
    }

    /// `status --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        let printed = self.must(&["status", "--json"]);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("status --json: {error}: {printed}"))
    }

    /// What `meshtone trace` says of an address or a call.
    #[track_caller]
    pub fn trace(&self, target: &str) -> Value {
        let printed = self.must(&["trace", target, "--json"]);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("trace --json: {error}: {printed}"))
    }

    /// How many links to other nodes it has.
    #[track_caller]
    pub fn links(&self) -> usize {
        self.status()["links"].as_array().map_or(0, Vec::len)
    }

    /// How many records of a kind (`sip-registration`) it holds.
    #[track_caller]
    pub fn records(&self, kind: &str) -> u64 {
        self.status()["records"][kind].as_u64().unwrap_or(0)
    }

    /// Waits until it holds so many records of a kind.
    #[track_caller]
    pub fn wait_records(&self, kind: &str, count: u64) {
        eventually(SOON, &format!("{} to hold {count} of {kind}", self.name), || self.records(kind) == count);
    }

    /// The contacts bound here for an address such as `bob@mesh.test`.
    #[track_caller]
    pub fn contacts(&self, address: &str) -> Vec<String> {
        let status = self.status();
        let all = status["registrations"].as_array().cloned().unwrap_or_default();
        let of_address = all.iter().filter(|entry| entry["address"] == address);
        of_address.filter_map(|entry| entry["contact"].as_str().map(str::to_owned)).collect()
    }

    /// Ends it the hard way (SIGKILL).
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill the node");
            child.wait().expect("the end of the node");
        }
    }

    /// Asks it to end (SIGTERM), waits for the end and returns the exit code.
    #[track_caller]
    pub fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("a running node");
        signal(child.id(), "TERM");
        let waited = eventually_some(SOON, "the node to end after SIGTERM", || child.try_wait().expect("its state"));
        waited.code()
    }

    /// Starts it again on the same ports and data, and waits until it is ready.
    #[track_caller]
    pub fn restart(&mut self) {
        self.run(&[]);
    }

    /// Cuts it off: the process stands still and answers nobody (SIGSTOP).
    pub fn freeze(&self) {
        signal(self.pid(), "STOP");
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        signal(self.pid(), "CONT");
    }

    /// The memory it holds (VmRSS), in KiB.
    #[track_caller]
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running node");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// The CPU time that it has used, in ticks of the kernel's clock (proc_pid_stat(5), utime and stime).
    #[track_caller]
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a running node");
        // The name, in brackets, may hold anything.
        let (_, rest) = stat.rsplit_once(") ").expect("a name in brackets");
        let fields: Vec<&str> = rest.split(' ').collect();
        [11, 12].iter().map(|field| fields[*field].parse::<u64>().expect("a number")).sum()
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running node").id()
    }

    /// Whether it was started, and not ended by the test.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    }
}

impl Drop for MeshNode {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = tail(&self.log());
            let kept = self.folder.take().map(TempDir::keep).unwrap_or_default();
            eprintln!("── node {} (kept in {}), the end of its log:\n{log}", self.name, kept.display());
        }
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

#[track_caller]
fn password_in(printed: &str) -> String {
    let value: Value = serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    value["password"].as_str().unwrap_or_else(|| panic!("no password in {printed}")).to_owned()
}

/// The ticket in what `invite` prints.
#[track_caller]
pub fn ticket_in(printed: &str) -> String {
    let ticket = printed.split_whitespace().find(|word| word.starts_with("mt1-"));
    ticket.unwrap_or_else(|| panic!("no ticket in {printed}")).to_owned()
}

/// Several home nodes of [`DOMAIN`], joined by ticket and linked with each other.
#[derive(Debug)]
pub struct Mesh {
    /// The nodes; the first one made the overlay.
    pub nodes: Vec<MeshNode>,
}

impl Mesh {
    /// Starts `size` nodes and waits until each is linked with all the others.
    #[track_caller]
    pub fn start(size: usize) -> Mesh {
        let mut nodes = vec![MeshNode::first("n1")];
        for number in 2..=size {
            let ticket = nodes[0].invite();
            nodes.push(MeshNode::joining(&format!("n{number}"), &ticket));
        }
        let mesh = Mesh { nodes };
        mesh.wait_linked();
        mesh
    }

    /// Waits until every running node is linked with all other running ones.
    #[track_caller]
    pub fn wait_linked(&self) {
        let running: Vec<&MeshNode> = self.nodes.iter().filter(|node| node.is_started()).collect();
        for node in &running {
            let what = format!("node {} to be linked with the {} others", node.name, running.len() - 1);
            eventually(START_DEADLINE, &what, || node.links() + 1 >= running.len());
        }
    }

    /// Adds a user at the first node, waits until every node knows of it, and returns the password.
    #[track_caller]
    pub fn user(&self, user: &str) -> String {
        let password = self.nodes[0].user_add(user);
        let known = |node: &MeshNode| node.must(&["user", "list"]).split_whitespace().any(|word| names(word, user));
        for node in self.nodes.iter().filter(|node| node.is_started()) {
            eventually(SOON, &format!("user {user} to be known at {}", node.name), || known(node));
        }
        password
    }
}

impl Mesh {
    /// Waits until every running node holds what the overlay knows of so many registered users. Up to five nodes hold all of it.
    #[track_caller]
    pub fn wait_announced(&self, users: u64) {
        for node in self.nodes.iter().filter(|node| node.is_started()) {
            let what = format!("node {} to hold the records of {users} users", node.name);
            eventually(SOON, &what, || node.records("sip-registration") >= users);
        }
    }

    /// The node with this number, counted from 1 as in `n1`.
    pub fn node(&self, number: usize) -> &MeshNode {
        &self.nodes[number - 1]
    }

    /// The same, to be killed or restarted.
    pub fn node_mut(&mut self, number: usize) -> &mut MeshNode {
        &mut self.nodes[number - 1]
    }

    /// Where phones reach node `number`, counted from 1, over `transport`.
    pub fn at(&self, number: usize, transport: Transport) -> SocketAddr {
        self.node(number).at(transport)
    }

    /// Where phones reach the node with this number.
    pub fn sip(&self, number: usize) -> SocketAddr {
        self.node(number).sip()
    }
}

fn names(word: &str, user: &str) -> bool {
    word == user || word == format!("{user}@{DOMAIN}")
}
