//! A real phone: baresip, with its own tone for a microphone and a recorder for a loudspeaker.
//!
//! It is remote-controlled through its `ctrl_tcp` module (JSON in netstrings). What the tests rely on was learnt from
//! version 1.0: it wants `net_interface` as an address, takes the port above its SIP port for TLS, needs a WAV file of
//! 48 kHz, may take half a minute to obey `quit`, and finishes a recording only when the call has ended.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::need;
use crate::ports::PortBlock;
use crate::tone;
use crate::wait::{eventually, eventually_some};
use crate::{DOMAIN, SOON};

/// baresip loads its modules for seconds on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// A call between two phones that answer by themselves.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Sound is judged over this much of a recording, less what was silent at its start.
const RECORDED_SECONDS: u64 = 3;
const TONE_SECONDS: u32 = 40;

/// How a phone talks to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// SIP over UDP.
    Udp,
    /// SIP over TCP.
    Tcp,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
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

/// How to set a phone up.
#[derive(Debug, Clone)]
pub struct PhoneOptions {
    user: String,
    domain: String,
    password: String,
    server: SocketAddr,
    transport: Transport,
    answer: Answer,
    tone_hz: f64,
    registers: bool,
}

impl PhoneOptions {
    /// A phone of `user` at the node that listens on `server`: UDP, answering by itself, registered.
    pub fn new(user: &str, password: &str, server: SocketAddr, tone_hz: f64) -> PhoneOptions {
        PhoneOptions {
            user: user.to_owned(),
            domain: DOMAIN.to_owned(),
            password: password.to_owned(),
            server,
            transport: Transport::Udp,
            answer: Answer::Auto,
            tone_hz,
            registers: true,
        }
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
        let child = Command::new("baresip")
            .arg("-f")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the phone's log"))
            .stderr(log)
            .spawn()
            .expect("start baresip");
        let control = Control::new(ports.address(2));
        let mut phone = Phone { options: self, child, control, folder: Some(folder), _ports: ports };
        phone.control.connect();
        phone
    }

    fn write_configuration(&self, folder: &Path, ports: &PortBlock) {
        let recordings = folder.join("recordings");
        std::fs::create_dir(&recordings).expect("a folder for recordings");
        tone::write_wav(&folder.join("tone.wav"), self.tone_hz, TONE_SECONDS);
        let (here, recordings) = (folder.display(), recordings.display());
        let (sip, control) = (ports.address(0), ports.address(2));
        let (first_rtp, last_rtp) = (ports.port(4), ports.port(19));
        let configuration = format!(
            "poll_method epoll\nsip_listen {sip}\nsip_trans_def {transport}\ncall_local_timeout 60\ncall_max_calls 4\n\
             audio_path /usr/share/baresip\naudio_player aufile,{here}/player.wav\naudio_source aufile,{here}/tone.wav\n\
             audio_alert aufile,{here}/tone.wav\nausrc_format s16\nauplay_format s16\nauenc_format s16\naudec_format s16\n\
             ausrc_srate 48000\nauplay_srate 48000\nausrc_channels 1\nauplay_channels 1\naudio_buffer 20-160\n\
             rtp_ports {first_rtp}-{last_rtp}\nrtcp_mux no\njitter_buffer_type fixed\njitter_buffer_delay 2-10\nrtp_timeout 60\n\
             net_interface 127.0.0.1\nmodule_path /usr/lib/baresip/modules\nmodule g711.so\nmodule aufile.so\n\
             module sndfile.so\nsnd_path {recordings}\nmodule_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n\
             ctrl_tcp_listen {control}\n",
            transport = self.transport.name(),
        );
        let account = format!(
            "<sip:{user}@{domain}>;auth_user={user};auth_pass={password};outbound=\"sip:{server};transport={transport}\";\
             regint={interval};audio_codecs=PCMU/8000/1,PCMA/8000/1;answermode={answer}\n",
            user = self.user,
            domain = self.domain,
            password = self.password,
            server = self.server,
            transport = self.transport.name(),
            interval = if self.registers { 600 } else { 0 },
            answer = match self.answer {
                Answer::Auto => "auto",
                Answer::ByHand => "manual",
            },
        );
        std::fs::write(folder.join("config"), configuration).expect("the phone's configuration");
        std::fs::write(folder.join("accounts"), account).expect("the phone's account");
        std::fs::write(folder.join("contacts"), "").expect("the phone's contacts");
    }
}

/// A running phone; dropping it pulls its plug.
#[derive(Debug)]
pub struct Phone {
    options: PhoneOptions,
    child: Child,
    control: Control,
    folder: Option<TempDir>,
    _ports: PortBlock,
}

impl Phone {
    /// The user's name.
    pub fn user(&self) -> &str {
        &self.options.user
    }

    /// The frequency it speaks with.
    pub fn tone_hz(&self) -> f64 {
        self.options.tone_hz
    }

    /// Waits until the node has accepted its registration.
    #[track_caller]
    pub fn wait_registered(&mut self) {
        // The first answer may come before the remote control is connected, so the log is the witness.
        let what = format!("{}'s phone to be registered", self.options.user);
        eventually(SOON, &what, || self.log_text().contains("200 OK"));
    }

    /// What the phone has printed so far.
    pub fn log_text(&self) -> String {
        std::fs::read(self.file("log")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.as_ref().expect("a folder until dropped").path().join(name)
    }

    /// Dials a SIP URI, or whatever a person would type.
    #[track_caller]
    pub fn dial(&mut self, target: &str) {
        // What an earlier call left behind must not be taken for news of this one.
        self.control.receive();
        self.control.events.clear();
        self.command("dial", target);
    }

    /// Takes the call that rings.
    #[track_caller]
    pub fn answer(&mut self) {
        self.command("accept", "");
    }

    /// Ends the call, or stops ringing the other side.
    #[track_caller]
    pub fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    /// Sends a command of baresip's own.
    #[track_caller]
    pub fn command(&mut self, command: &str, parameters: &str) {
        self.control.send(command, parameters);
    }

    /// Waits until a call comes in.
    #[track_caller]
    pub fn wait_incoming(&mut self) {
        self.wait_event("CALL_INCOMING", CALL_DEADLINE);
    }

    /// Waits until the other side rings.
    #[track_caller]
    pub fn wait_ringing(&mut self) {
        self.wait_event("CALL_RINGING", CALL_DEADLINE);
    }

    /// Waits until a call is up.
    #[track_caller]
    pub fn wait_established(&mut self) {
        self.wait_event("CALL_ESTABLISHED", CALL_DEADLINE);
    }

    /// Waits until the call has ended and returns the reason the phone gives, such as `480 Temporarily Unavailable`.
    #[track_caller]
    pub fn wait_closed(&mut self, deadline: Duration) -> String {
        self.wait_event("CALL_CLOSED", deadline)
    }

    /// Waits for an event and returns its parameter. Events before it are dropped.
    #[track_caller]
    pub fn wait_event(&mut self, kind: &str, deadline: Duration) -> String {
        let what = format!("{kind} at {}'s phone", self.options.user);
        let control = &mut self.control;
        let event = eventually_some(deadline, &what, || control.next_event(|event| event["type"] == kind));
        event["param"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether an event of this type waits to be looked at.
    pub fn has_event(&mut self, kind: &str) -> bool {
        self.control.receive();
        self.control.events.iter().any(|event| event["type"] == kind)
    }

    /// The recordings of what it heard, oldest first.
    pub fn recordings(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.file("recordings")).expect("the recordings");
        let paths = folder.filter_map(Result::ok).map(|entry| entry.path());
        let mut heard: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().ends_with("-dec.wav")).collect();
        heard.sort();
        heard
    }

    /// Waits until the running call has been recorded for some seconds.
    #[track_caller]
    pub fn wait_recorded(&self) {
        let what = format!("{RECORDED_SECONDS} s of sound at {}'s phone", self.options.user);
        let enough = RECORDED_SECONDS * 2 * 8_000;
        let long_enough = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|data| data.len() > enough);
        eventually(SOON, &what, || self.recordings().last().is_some_and(long_enough));
    }

    /// Fails the test unless the last call, which must have ended, brought the wanted tone and not the phone's own.
    #[track_caller]
    pub fn assert_heard(&self, wanted_hz: f64) {
        self.judge(wanted_hz, Some(self.options.tone_hz));
    }

    /// The same for a call that brings the phone's own tone back.
    #[track_caller]
    pub fn assert_heard_itself(&self) {
        self.judge(self.options.tone_hz, None);
    }

    #[track_caller]
    fn judge(&self, wanted_hz: f64, own_hz: Option<f64>) {
        let what = format!("a finished recording at {}'s phone", self.options.user);
        let path = eventually_some(SOON, &what, || self.recordings().pop().filter(|path| is_finished(path)));
        tone::assert_heard(&format!("{}'s phone", self.options.user), &path, wanted_hz, own_hz);
    }

    /// Forgets the recordings so far, so that the next call is judged by its own sound.
    pub fn forget_recordings(&self) {
        for path in self.recordings() {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Signs off properly: ends calls, removes the binding, exits.
    #[track_caller]
    pub fn sign_off(mut self) {
        self.control.send("quit", "");
        // It may hang for half a minute after it has said goodbye.
        eventually(Duration::from_secs(60), "the phone to exit", || {
            self.child.try_wait().is_ok_and(|end| end.is_some())
        });
    }

    /// Pulls the plug: no goodbye.
    pub fn unplug(self) {
        drop(self);
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = self.log_text();
            let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
            let log = lines[lines.len().saturating_sub(15)..].join("\n");
            let kept = self.folder.take().map(TempDir::keep).unwrap_or_default();
            eprintln!("── {}'s phone (kept in {}), the end of its log:\n{log}", self.options.user, kept.display());
        }
    }
}

fn is_finished(path: &Path) -> bool {
    hound::WavReader::open(path).is_ok_and(|reader| reader.duration() > 0)
}

/// One call from `caller` to `callee`, who answers by itself: both must hear the other's tone, and the one named hangs up.
#[track_caller]
pub fn talk(caller: &mut Phone, callee: &mut Phone, target: &str, hangs_up: HangsUp) {
    caller.forget_recordings();
    callee.forget_recordings();
    caller.dial(target);
    callee.wait_established();
    caller.wait_established();
    caller.wait_recorded();
    callee.wait_recorded();
    let other = match hangs_up {
        HangsUp::Caller => {
            caller.hang_up();
            &mut *callee
        }
        HangsUp::Callee => {
            callee.hang_up();
            &mut *caller
        }
    };
    other.wait_closed(SOON);
    caller.assert_heard(callee.tone_hz());
    callee.assert_heard(caller.tone_hz());
}

/// Who ends a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangsUp {
    /// The one who dialled.
    Caller,
    /// The one who was called.
    Callee,
}

/// The connection to baresip's `ctrl_tcp`.
#[derive(Debug)]
struct Control {
    address: SocketAddr,
    stream: Option<TcpStream>,
    received: Vec<u8>,
    events: VecDeque<Value>,
}

impl Control {
    fn new(address: SocketAddr) -> Control {
        Control { address, stream: None, received: Vec::new(), events: VecDeque::new() }
    }

    #[track_caller]
    fn connect(&mut self) {
        let address = self.address;
        let stream = eventually_some(START_DEADLINE, "baresip to take commands", || TcpStream::connect(address).ok());
        stream.set_nonblocking(true).expect("a non-blocking socket");
        self.stream = Some(stream);
    }

    #[track_caller]
    fn send(&mut self, command: &str, parameters: &str) {
        let text = json!({ "command": command, "params": parameters, "token": "test" }).to_string();
        let stream = self.stream.as_mut().expect("a connected control");
        let start = Instant::now();
        let framed = format!("{}:{text},", text.len());
        stream
            .write_all(framed.as_bytes())
            .unwrap_or_else(|error| panic!("baresip is gone after {:?}: {error}", start.elapsed()));
    }

    /// The first event that `wanted` accepts; those before it are dropped.
    fn next_event(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        self.receive();
        let position = self.events.iter().position(wanted)?;
        self.events.drain(..=position).next_back()
    }

    fn receive(&mut self) {
        let Some(stream) = self.stream.as_mut() else {
            return;
        };
        let mut buffer = [0; 4096];
        while let Ok(length) = stream.read(&mut buffer) {
            if length == 0 {
                break;
            }
            self.received.extend_from_slice(&buffer[..length]);
        }
        while let Some(text) = take_netstring(&mut self.received) {
            if let Ok(value) = serde_json::from_slice::<Value>(&text)
                && value["event"] == true
            {
                self.events.push_back(value);
            }
        }
    }
}

/// Takes one `LENGTH:BYTES,` off the front, once it is complete.
fn take_netstring(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let colon = received.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&received[..colon]).ok()?.parse().ok()?;
    let end = colon + 1 + length;
    if received.len() <= end {
        return None;
    }
    let text = received[colon + 1..end].to_vec();
    received.drain(..=end);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::take_netstring;

    #[test]
    fn a_netstring_is_taken_only_when_complete() {
        let mut received = b"3:abc,2:d".to_vec();
        assert_eq!(take_netstring(&mut received), Some(b"abc".to_vec()));
        assert_eq!(take_netstring(&mut received), None);
        received.extend_from_slice(b"e,");
        assert_eq!(take_netstring(&mut received), Some(b"de".to_vec()));
    }
}
