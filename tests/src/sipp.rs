//! Running SIPp scenarios from `tests/sipp/`.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::DOMAIN;
use crate::command::need;
use crate::phone::Transport;
use crate::ports::PortBlock;
use crate::tone;
use crate::wait::eventually_some;

/// A scenario gives up by itself before the test does.
const SCENARIO_TIMEOUT_S: u32 = 40;
const DEADLINE: Duration = Duration::from_secs(60);
const TONE_SECONDS: u32 = 20;

/// One run of a scenario; dropping it kills it.
#[derive(Debug)]
pub struct Sipp {
    name: String,
    child: Child,
    folder: Option<TempDir>,
}

/// How to run a scenario.
#[derive(Debug)]
pub struct SippOptions {
    /// File name without `.xml`.
    pub scenario: &'static str,
    /// The node.
    pub server: SocketAddr,
    /// How it talks to the node.
    pub transport: Transport,
    /// Who it is, and the password for digest.
    pub user: String,
    /// The password.
    pub password: String,
    /// The domain all users belong to.
    pub domain: &'static str,
    /// Whom it calls: `[field2]` in the scenario.
    pub target: String,
    /// The tone that `@TONE@` plays.
    pub tone_hz: f64,
}

impl SippOptions {
    /// `scenario` run by `user` at the node on `server`, over UDP.
    pub fn new(scenario: &'static str, server: SocketAddr, user: &str, password: &str) -> SippOptions {
        SippOptions {
            scenario,
            server,
            transport: Transport::Udp,
            user: user.to_owned(),
            password: password.to_owned(),
            domain: DOMAIN,
            target: String::new(),
            tone_hz: tone::CAROL_HZ,
        }
    }

    /// Uses another transport.
    pub fn over(mut self, transport: Transport) -> SippOptions {
        self.transport = transport;
        self
    }

    /// Calls or writes to this user of the same domain.
    pub fn to(mut self, target: &str) -> SippOptions {
        self.target = target.to_owned();
        self
    }

    /// Starts one call of the scenario from the ports in `ports`.
    #[track_caller]
    pub fn start(&self, ports: &PortBlock) -> Sipp {
        Sipp::start(self, ports)
    }
}

impl Sipp {
    /// Starts one call of the scenario from the ports in `ports`.
    #[track_caller]
    pub fn start(options: &SippOptions, ports: &PortBlock) -> Sipp {
        need("sipp", "sip-tester");
        let folder = tempfile::Builder::new().prefix("sipp-").tempdir().expect("a folder");
        let domain = options.domain;
        let tone_file = folder.path().join("tone.ulaw");
        tone::write_mulaw(&tone_file, options.tone_hz, TONE_SECONDS);
        let source =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sipp").join(options.scenario).with_extension("xml");
        let text = std::fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        // SIPp takes the path of a sound file only literally, so the scenario is a template.
        let text = text.replace("@TONE@", &tone_file.to_string_lossy()).replace("@DOMAIN@", domain);
        let scenario = folder.path().join("scenario.xml");
        std::fs::write(&scenario, text).expect("the scenario");
        let users = folder.path().join("users.csv");
        let (user, password, target) = (&options.user, &options.password, &options.target);
        let row = format!("SEQUENTIAL\n{user};[authentication username={user} password={password}];{target}\n");
        std::fs::write(&users, row).expect("the user file");
        let stderr = File::create(folder.path().join("stderr")).expect("SIPp's error output");
        let child = Command::new("sipp")
            .arg(options.server.to_string())
            .args(["-i", "127.0.0.1", "-p", &ports.port(0).to_string()])
            .args(["-mp", &ports.port(4).to_string()])
            .args(["-t", if options.transport == Transport::Udp { "u1" } else { "t1" }])
            .args(["-m", "1", "-nostdin", "-timeout", &SCENARIO_TIMEOUT_S.to_string(), "-timeout_error"])
            .arg("-sf")
            .arg(&scenario)
            .arg("-inf")
            .arg(&users)
            .arg("-trace_err")
            .arg("-error_file")
            .arg(folder.path().join("errors"))
            .arg("-trace_msg")
            .arg("-message_file")
            .arg(folder.path().join("messages"))
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("start sipp");
        Sipp { name: options.scenario.to_owned(), child, folder: Some(folder) }
    }

    /// Waits until the scenario has ended, and fails the test with SIPp's own explanation unless it succeeded.
    #[track_caller]
    pub fn wait_success(&mut self) {
        let what = format!("SIPp scenario {} to end", self.name);
        let child = &mut self.child;
        let status = eventually_some(DEADLINE, &what, || child.try_wait().expect("SIPp's state"));
        assert!(
            status.success(),
            "SIPp scenario {} failed ({status}):\n{}{}",
            self.name,
            self.file("errors"),
            self.file("stderr")
        );
    }

    fn file(&self, name: &str) -> String {
        let path = self.folder.as_ref().expect("a folder until dropped").path().join(name);
        std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let messages = self.file("messages");
            let kept = self.folder.take().map(TempDir::keep).unwrap_or_default();
            eprintln!("── SIPp {} (kept in {}), its messages:\n{messages}", self.name, kept.display());
        }
    }
}
