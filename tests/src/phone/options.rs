//! Setting a phone up: an account, a tone, a configuration for baresip.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::Phone;
use super::control::Control;
use crate::DOMAIN;
use crate::command::need;
use crate::lan::Host;
use crate::namespace::within;
use crate::ports::PortBlock;
use crate::tone;

const TONE_SECONDS: u32 = 40;

/// How a phone talks to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// SIP over UDP.
    Udp,
    /// SIP over TCP.
    Tcp,
    /// SIP over TLS.
    Tls,
    /// SIP over WebSocket; not baresip.
    Ws,
    /// SIP over WebSocket and TLS; not baresip.
    Wss,
}

impl Transport {
    /// Every one of them.
    pub const ALL: [Transport; 5] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

    /// As a URI parameter says it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }
}

/// Who takes an incoming call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The phone, at once.
    Auto,
    /// The test, by [`Phone::answer`].
    ByHand,
}

/// How a phone protects its sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Not at all; it refuses what is protected.
    None,
    /// By keys in the description (RFC 4568); it refuses what is not.
    Sdes,
    /// By such keys where the other side knows them.
    Optional,
    /// By a handshake between the phones (RFC 5763), without ICE.
    Dtls,
}

/// How to set a phone up.
#[derive(Debug, Clone)]
pub struct PhoneOptions {
    pub(super) user: String,
    pub(super) domain: String,
    pub(super) login: Option<String>,
    pub(super) password: String,
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
    pub(super) answer: Answer,
    pub(super) tone_hz: f64,
    pub(super) registers: bool,
    /// Where it is, elsewhere than on loopback.
    pub(super) host: Option<IpAddr>,
    /// The network namespace it runs in, elsewhere than in the test's own.
    pub(super) namespace: Option<PathBuf>,
    /// The TURN server that its sound may go through.
    pub(super) relay: Option<SocketAddr>,
    /// Whether it uses ICE without one.
    pub(super) checks: bool,
    pub(super) protection: Protection,
    /// The name server by which it finds its node; without one it knows the node's address.
    pub(super) name_server: Option<SocketAddr>,
    /// As baresip writes them.
    pub(super) codecs: &'static str,
}

impl PhoneOptions {
    /// A phone of `user` at the node that listens on `server`: UDP, answering by itself, registered.
    pub fn new(user: &str, password: &str, server: SocketAddr, tone_hz: f64) -> PhoneOptions {
        PhoneOptions {
            user: user.to_owned(),
            domain: DOMAIN.to_owned(),
            login: None,
            password: password.to_owned(),
            server,
            transport: Transport::Udp,
            answer: Answer::Auto,
            tone_hz,
            registers: true,
            host: None,
            namespace: None,
            relay: None,
            checks: false,
            protection: Protection::None,
            name_server: None,
            codecs: "PCMU/8000/1,PCMA/8000/1",
        }
    }

    /// Speaks these codecs alone, such as `opus/48000/2`.
    pub fn speaking(mut self, codecs: &'static str) -> PhoneOptions {
        self.codecs = codecs;
        self
    }

    /// Protects its sound.
    pub fn protected(mut self, protection: Protection) -> PhoneOptions {
        self.protection = protection;
        self
    }

    /// Is at this address of the machine, and not on loopback.
    pub fn living_at(mut self, host: impl Into<IpAddr>) -> PhoneOptions {
        self.host = Some(host.into());
        self
    }

    /// Runs on a host, at this address of it.
    pub fn living_on(self, host: &Host, address: impl Into<IpAddr>) -> PhoneOptions {
        PhoneOptions { namespace: Some(host.namespace()), ..self.living_at(address) }
    }

    /// Uses ICE, and a TURN server where nothing else leads to the other side; its password is that of the account.
    pub fn relayed_by(mut self, server: SocketAddr) -> PhoneOptions {
        self.relay = Some(server);
        self
    }

    /// Uses ICE, by the addresses of its host alone.
    pub fn checking(mut self) -> PhoneOptions {
        self.checks = true;
        self
    }

    /// Knows no more of its node than the domain, and finds it by this name server.
    pub fn asking(mut self, name_server: SocketAddr) -> PhoneOptions {
        self.name_server = Some(name_server);
        self
    }

    /// Uses another transport.
    pub fn over(mut self, transport: Transport) -> PhoneOptions {
        self.transport = transport;
        self
    }

    /// Lets the test take the calls.
    pub fn answered_by_hand(mut self) -> PhoneOptions {
        self.answer = Answer::ByHand;
        self
    }

    /// Only makes calls: never registers.
    pub fn unregistered(mut self) -> PhoneOptions {
        self.registers = false;
        self
    }

    /// Belongs to another domain.
    pub fn in_domain(mut self, domain: &str) -> PhoneOptions {
        self.domain = domain.to_owned();
        self
    }

    /// Belongs to a person with an address of her own, which is her login as well.
    pub fn of_person(mut self, address: &str) -> PhoneOptions {
        let (user, domain) = address.split_once('@').expect("an address");
        (self.user, self.domain) = (user.to_owned(), domain.to_owned());
        self.login = Some(address.to_owned());
        self
    }

    /// Starts the phone and waits until it is registered (or, if it never registers, until it takes commands).
    #[track_caller]
    pub fn start(self) -> Phone {
        let mut phone = self.start_anyway();
        if phone.options.registers {
            phone.wait_registered();
        }
        phone
    }

    /// Starts the phone and waits only until it takes commands.
    #[track_caller]
    pub fn start_anyway(self) -> Phone {
        need("baresip", "baresip-core");
        let folder = tempfile::Builder::new().prefix(&format!("phone-{}-", self.user)).tempdir().expect("a folder");
        let ports = PortBlock::reserve();
        self.write_configuration(folder.path(), &ports);
        let log = File::create(folder.path().join("log")).expect("the phone's log");
        let mut command = match &self.namespace {
            None => Command::new("baresip"),
            Some(namespace) => within(namespace, "baresip"),
        };
        if self.protection == Protection::Dtls {
            command.env("LD_PRELOAD", elliptic()).env("ELLIPTIC_PEM", folder.path().join("media.pem"));
        }
        let child = command
            .arg("-f")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the phone's log"))
            .stderr(log)
            .spawn()
            .expect("start baresip");
        let control = Control::new(self.control(&ports));
        let mut phone = Phone { options: self, child, control, folder: Some(folder), _ports: ports };
        phone.control.connect();
        phone
    }

    /// Where it takes commands: on loopback, unless that is another one than ours.
    fn control(&self, ports: &PortBlock) -> SocketAddr {
        let mut control = ports.address(2);
        if let Some(host) = self.host.filter(|_| self.namespace.is_some()) {
            control.set_ip(host);
        }
        control
    }

    fn write_configuration(&self, folder: &Path, ports: &PortBlock) {
        let recordings = folder.join("recordings");
        std::fs::create_dir(&recordings).expect("a folder for recordings");
        tone::write_wav(&folder.join("tone.wav"), self.tone_hz, TONE_SECONDS);
        let (here, recordings) = (folder.display(), recordings.display());
        let (mut sip, control) = (ports.address(0), self.control(ports));
        let host = self.host.unwrap_or(sip.ip());
        sip.set_ip(host);
        let (first_rtp, last_rtp) = (ports.port(4), ports.port(19));
        let configuration = format!(
            "poll_method epoll\nsip_listen {sip}\nsip_trans_def {transport}\ncall_local_timeout 60\ncall_max_calls 4\n\
             audio_path /usr/share/baresip\naudio_player aufile,{here}/player.wav\naudio_source aufile,{here}/tone.wav\n\
             audio_alert aufile,{here}/tone.wav\nausrc_format s16\nauplay_format s16\nauenc_format s16\naudec_format s16\n\
             ausrc_srate 48000\nauplay_srate 48000\nausrc_channels 1\nauplay_channels 1\naudio_buffer 20-160\n\
             rtp_ports {first_rtp}-{last_rtp}\nrtcp_mux no\njitter_buffer_type fixed\njitter_buffer_delay 2-10\nrtp_timeout 60\n\
             net_interface {host}\nmodule_path /usr/lib/baresip/modules\nmodule g711.so\nmodule g722.so\nmodule opus.so\nmodule srtp.so\nmodule dtls_srtp.so\nmodule aufile.so\n\
             module sndfile.so\nsnd_path {recordings}\nmodule_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n\
             ctrl_tcp_listen {control}\n{dns}{nat}",
            dns = self.name_server.map(|server| format!("dns_server {server}\n")).unwrap_or_default(),
            nat = match (self.relay, self.checks) {
                (Some(_), _) => "module stun.so\nmodule turn.so\nmodule ice.so\nice_turn yes\n",
                (None, true) => "module ice.so\nice_turn no\n",
                (None, false) => "",
            },
            transport = self.transport.name(),
        );
        let account = format!(
            "<sip:{user}@{domain}>;auth_user={login};auth_pass={password}{outbound};\
             regint={interval};audio_codecs={codecs};answermode={answer}{protection}{nat}\n",
            outbound = match self.name_server {
                Some(_) => String::new(),
                None => format!(";outbound=\"sip:{};transport={}\"", self.server, self.transport.name()),
            },
            nat = match self.relay {
                Some(relay) => {
                    let (user, password) = (&self.user, &self.password);
                    format!(";medianat=ice;stunserver=\"turn:{relay}\";stunuser={user};stunpass={password}")
                }
                None if self.checks => ";medianat=ice".to_owned(),
                None => String::new(),
            },
            protection = match self.protection {
                Protection::None => "",
                Protection::Sdes => ";mediaenc=srtp-mand",
                Protection::Optional => ";mediaenc=srtp",
                Protection::Dtls => ";mediaenc=dtls_srtp",
            },
            codecs = self.codecs,
            user = self.user,
            domain = self.domain,
            login = self.login.as_ref().unwrap_or(&self.user),
            password = self.password,
            interval = if self.registers { 600 } else { 0 },
            answer = match self.answer {
                Answer::Auto => "auto",
                Answer::ByHand => "manual",
            },
        );
        std::fs::write(folder.join("config"), configuration).expect("the phone's configuration");
        std::fs::write(folder.join("accounts"), account).expect("the phone's account");
        std::fs::write(folder.join("contacts"), "").expect("the phone's contacts");
        if self.protection == Protection::Dtls {
            let key = KeyPair::generate().expect("a key");
            let certificate = CertificateParams::default().self_signed(&key).expect("a certificate");
            std::fs::write(folder.join("media.pem"), key.serialize_pem() + &certificate.pem()).expect("a certificate");
        }
    }
}

/// What lets a phone make keys by a handshake with a certificate on a curve; see there.
fn elliptic() -> &'static Path {
    static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("elliptic.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/phone/elliptic.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
        assert!(built.is_ok_and(|status| status.success()), "{source} cannot be compiled");
        (folder, library)
    });
    library
}
