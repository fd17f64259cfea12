//! A real phone: baresip, with its own tone for a microphone and a recorder for a loudspeaker.
//!
//! It is remote-controlled through its `ctrl_tcp` module (JSON in netstrings). What the tests rely on was learnt from
//! version 1.0: it wants `net_interface` as an address, takes the port above its SIP port for TLS, needs a WAV file of
//! 48 kHz, may take half a minute to obey `quit`, and finishes a recording only when the call has ended.

mod control;
mod options;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use tempfile::TempDir;

pub use options::{Answer, PhoneOptions, Protection, Transport};

use crate::SOON;
use crate::ports::PortBlock;
use crate::tone;
use crate::wait::{eventually, eventually_some};
use control::Control;

/// A call between two phones that answer by themselves.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Sound is judged over this much of a recording, less what was silent at its start.
const RECORDED_SECONDS: u64 = 3;

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
        self.control.forget_events();
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

    /// The parameter of the next event of this type, if one has come.
    pub fn next_parameter(&mut self, kind: &str) -> Option<String> {
        let event = self.control.next_event(|event| event["type"] == kind)?;
        Some(event["param"].as_str().unwrap_or_default().to_owned())
    }

    /// Whether an event of this type waits to be looked at.
    pub fn has_event(&mut self, kind: &str) -> bool {
        self.control.has_event(kind)
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

    /// Bits a second of sound that it sends and receives, as it says every few seconds itself.
    pub fn bit_rates(&self) -> (u32, u32) {
        let text = self.log_text();
        let last = text.rsplit("audio=").find_map(|rest| {
            let (sent, received) = rest.split_once(" (bit/s)")?.0.split_once('/')?;
            Some((sent.parse().ok()?, received.parse().ok()?))
        });
        last.unwrap_or_default()
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

    /// What it heard in the last call, once that has been written.
    pub fn last_heard(&self, wanted_hz: f64) -> Option<tone::Heard> {
        let path = self.recordings().pop().filter(|path| is_finished(path))?;
        Some(tone::listen(&path, wanted_hz, Some(self.options.tone_hz)))
    }

    /// Fails the test if what it heard in the last call has this tone in it.
    #[track_caller]
    pub fn assert_not_heard(&self, wanted_hz: f64, strange_hz: f64) {
        self.judge(wanted_hz, Some(strange_hz));
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

/// Holds a call from either side, and resumes it: neither hears the other meanwhile, and both do then. Phones record nothing after a hold,
/// but they count what they send and hear.
#[track_caller]
pub fn hold_and_resume(one: &mut Phone, other: &mut Phone) {
    for first_holds in [true, false] {
        let (holder, held) = if first_holds { (&mut *one, &mut *other) } else { (&mut *other, &mut *one) };
        holder.command("hold", "");
        eventually(SOON, "silence", || [&*holder, &*held].iter().all(|phone| phone.bit_rates().1 < 20_000));
        holder.command("resume", "");
        eventually(SOON, "sound again", || [&*holder, &*held].iter().all(|phone| phone.bit_rates().1 > 50_000));
    }
}

/// Who ends a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangsUp {
    /// The one who dialled.
    Caller,
    /// The one who was called.
    Callee,
}
