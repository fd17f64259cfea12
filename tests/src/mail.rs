//! A mail server: Exim, which takes submissions (RFC 6409) over STARTTLS with a password, and puts mails into a folder for each user.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::certificates::{Authority, CertificateFiles};
use crate::command::{need, path_with_servers, signal};
use crate::ports::PortBlock;
use crate::wait::{eventually, eventually_some};
use crate::{MeshNode, SOON};

/// The domain whose mailboxes it has.
pub const MAIL_DOMAIN: &str = "mail.test";
/// The users with a mailbox.
pub const MAILBOXES: [&str; 3] = ["alice", "bob", "carol"];
/// Who may submit mails, and by which password.
pub const SUBMITTER: &str = "meshtone";
/// The password of [`SUBMITTER`].
pub const SUBMITTER_PASSWORD: &str = "mailsecret";

/// The account that Debian's package makes for it: it does not deliver as root.
const ACCOUNT: &str = "Debian-exim";

const CONFIGURATION: &str = r#"primary_hostname = MAIL_DOMAIN
RUN_AS
spool_directory = FOLDER/spool
log_file_path = FOLDER/%slog
pid_file_path = FOLDER/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = PORT : WRAPPED
tls_on_connect_ports = WRAPPED
domainlist local_domains = MAIL_DOMAIN
acl_smtp_mail = mail
acl_smtp_rcpt = recipient
tls_advertise_hosts = *
tls_certificate = FOLDER/chain.pem
tls_privatekey = FOLDER/key.pem
auth_advertise_hosts = ${if eq{$tls_in_cipher}{}{}{*}}
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
add_environment =

begin acl
mail:
  deny !encrypted = *
       message = TLS is required
  accept authenticated = *
  deny message = authentication is required
recipient:
  accept domains = +local_domains
         verify = recipient
  deny message = no such mailbox here

begin routers
mailbox:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;FOLDER/users
  transport = maildir

begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = FOLDER/mail/$local_part_data
  create_directory
TRANSPORT_USER

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{SUBMITTER}}{eq{$auth3}{PASSWORD}}}{yes}{no}}
  server_set_id = $auth2
"#;

/// A mail server; dropping it ends it.
#[derive(Debug)]
pub struct MailServer {
    child: Option<Child>,
    folder: Option<TempDir>,
    authority: Authority,
    ports: PortBlock,
}

impl MailServer {
    /// Starts one whose certificate says `localhost`.
    #[track_caller]
    pub fn start() -> MailServer {
        let mut server = MailServer::unstarted();
        server.run();
        server
    }

    /// One that is not up yet.
    #[track_caller]
    pub fn unstarted() -> MailServer {
        need("exim4", "exim4-daemon-light");
        let folder = tempfile::Builder::new().prefix("exim-").tempdir().expect("a folder");
        let (ports, authority) = (PortBlock::reserve(), Authority::new());
        let certificate = authority.issue(&["localhost"], 2100);
        write_files(folder.path(), &ports, &certificate);
        MailServer { child: None, folder: Some(folder), authority, ports }
    }

    /// Starts it, for the first time or after [`MailServer::stop`].
    #[track_caller]
    pub fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder().join("out")).expect("its output");
        let child = Command::new("exim4")
            .env("PATH", path_with_servers())
            .arg("-C")
            .arg(self.folder().join("exim.conf"))
            .args(["-bdf", "-q1h"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start exim4");
        self.child = Some(child);
        eventually(SOON, "Exim to listen", || TcpStream::connect(self.address()).is_ok());
    }

    /// Ends it; mails stay.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "TERM");
            let _ = child.wait();
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.ports.address(0)
    }

    /// Its port, at `localhost`.
    pub fn port(&self) -> u16 {
        self.ports.port(0)
    }

    /// Its port at which TLS comes first (RFC 8314).
    pub fn tls_port(&self) -> u16 {
        self.ports.port(1)
    }

    /// Who vouches for it, PEM.
    pub fn authority(&self) -> PathBuf {
        self.authority.certificate()
    }

    /// The mails that a user has, in the order of their arrival.
    pub fn mails(&self, user: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder().join("mail").join(user).join("new"));
        let mut files: Vec<PathBuf> =
            entries.into_iter().flatten().map(|entry| entry.expect("a mail").path()).collect();
        // Their names begin with the time.
        files.sort();
        files.iter().map(|path| fs::read_to_string(path).expect("a mail is text")).collect()
    }

    /// Waits until a user has so many mails, and returns the last.
    #[track_caller]
    pub fn wait_mail(&self, user: &str, count: usize) -> String {
        eventually_some(SOON * 2, &format!("{count} mails for {user}"), || {
            let mut mails = self.mails(user);
            if mails.len() >= count { mails.pop() } else { None }
        })
    }

    /// The part of a node's configuration by which its authority mails by this server, as a person writes it; the password stands
    /// in a file beside, see [`write_password`].
    pub fn settings(&self) -> String {
        let (port, authority) = (self.port(), self.authority());
        format!(
            "[authority]\npolicy = \"invite\"\n[authority.mail]\nserver = \"localhost:{port}\"\nuser = \"{SUBMITTER}\"\n\
             password_file = \"password\"\nfrom = \"Meshtone <meshtone@{MAIL_DOMAIN}>\"\nca_file = \"{}\"\n",
            authority.display()
        )
    }

    fn folder(&self) -> &Path {
        self.folder.as_ref().expect("a folder until dropped").path()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = |name: &str| fs::read_to_string(self.folder().join(name)).unwrap_or_default();
            let logs = [log("mainlog"), log("paniclog"), log("out")].concat();
            let kept = self.folder.take().map(TempDir::keep).unwrap_or_default();
            eprintln!("── Exim (kept in {}), its log:\n{logs}", kept.display());
        }
    }
}

/// Puts the password for the mail server where a node's configuration names it.
pub fn write_password(node: &MeshNode, password: &str, mode: u32) {
    let path = node.data().parent().expect("a folder").join("password");
    fs::write(&path, password).expect("the password");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
}

/// The code that a mail tells, and the command to type.
#[track_caller]
pub fn code_in(mail: &str) -> String {
    let command = mail.lines().find(|line| line.trim_start().starts_with("meshtone enroll "));
    let code = command.and_then(|command| command.trim().split(" --code ").nth(1));
    code.unwrap_or_else(|| panic!("no code in {mail}")).to_owned()
}

fn write_files(folder: &Path, ports: &PortBlock, certificate: &CertificateFiles) {
    let is_root = rustix::process::getuid().is_root();
    let (run_as, transport_user) = if is_root {
        (format!("exim_user = {ACCOUNT}\nexim_group = {ACCOUNT}"), format!("  user = {ACCOUNT}"))
    } else {
        let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        (format!("exim_user = {user}\nexim_group = {group}\ndeliver_drop_privilege = true"), String::new())
    };
    let configuration = CONFIGURATION
        .replace("RUN_AS", &run_as)
        .replace("TRANSPORT_USER", &transport_user)
        .replace("FOLDER", folder.to_str().expect("UTF-8"))
        .replace("PORT", &ports.port(0).to_string())
        .replace("WRAPPED", &ports.port(1).to_string())
        .replace("MAIL_DOMAIN", MAIL_DOMAIN)
        .replace("SUBMITTER", SUBMITTER)
        .replace("PASSWORD", SUBMITTER_PASSWORD);
    for name in ["spool", "mail"] {
        fs::create_dir(folder.join(name)).expect("a folder");
    }
    fs::copy(&certificate.chain, folder.join("chain.pem")).expect("the chain");
    fs::copy(&certificate.key, folder.join("key.pem")).expect("the key");
    fs::write(folder.join("users"), MAILBOXES.map(|user| format!("{user}: {user}\n")).concat()).expect("the users");
    if is_root {
        let owner = format!("{ACCOUNT}:{ACCOUNT}");
        let status = Command::new("chown").arg("-R").arg(owner).arg(folder).status().expect("chown");
        assert!(status.success(), "chown to {ACCOUNT} failed");
    }
    // Written afterwards: it has to be root's own, or it is not believed.
    fs::write(folder.join("exim.conf"), configuration).expect("the configuration");
}
