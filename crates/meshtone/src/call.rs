//! `meshtone call`: a phone for the command line, at the running node.

use std::path::Path;
use std::time::Duration;

use hyper::Method;
use meshtone_node::control::{UserList, UserLogin};
use meshtone_node::ogg;
use meshtone_node::resample::Resampler;
use meshtone_node::softphone::{self, Ending, Login, Order, Progress};
use meshtone_node::sound::{self, Player};
use meshtone_node::wav::Wav;
use meshtone_node::{Algorithm, Ha1};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::administer::{NOTHING, lasting, running};
use crate::client::{Client, segment};
use crate::command::CallOptions;
use crate::failure::Failure;
use crate::output::{self, printable};

/// The largest file that is played: three hours in the quality of a CD.
const MAX_FILE_LEN: u64 = 2 << 30;

/// Exit codes, beside 0 for a call that stood, 1 for one that could not be tried and 2 for a wrong command line.
const BUSY: u8 = 10;
const NO_ANSWER: u8 = 11;
const NOBODY: u8 = 12;
const DECLINED: u8 = 13;
const REFUSED: u8 = 14;
const GIVEN_UP: u8 = 130;

pub(crate) fn call(data: &Path, options: CallOptions) -> Result<(), Failure> {
    let player = match &options.play {
        Some(file) => Player::new(read(file)?),
        None => Player::prompt(),
    };
    let announcement = match (&options.record, &options.announce) {
        (None, _) => None,
        (Some(_), Some(file)) => Some(Player::new(read(file)?)),
        (Some(_), None) => Some(Player::beep()),
    };
    let login = login(data, options.user.as_deref())?;
    let target = options.address.clone();
    let hangs_up = options.play.is_some() && options.hang_up;
    let order = Order { target, login, player, announcement, hangs_up, longest: options.longest };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the runtime cannot be started: {error}"), ""))?;
    let (stopping, stop) = watch::channel(false);
    let ending = runtime.block_on(async {
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stopping.send_replace(true);
            }
            // The receiver must not see it closed.
            std::future::pending::<()>().await;
        });
        softphone::call(order, stop, |progress| tell(&progress, options.json)).await
    });
    let ending = ending.map_err(|error| Failure::new(error.to_string(), "an address is such as bob@example.net"))?;
    finish(ending, &options)
}

/// As whom to call: the user that is named, or the only one.
fn login(data: &Path, user: Option<&str>) -> Result<Login, Failure> {
    let user = match user {
        Some(user) => user.to_owned(),
        None => {
            let list: UserList = node(data)?.ask(Method::GET, "/users", NOTHING)?;
            match list.users.as_slice() {
                [only] => only.user.clone(),
                [] => return Err(Failure::new("there is no user to call as", "add one with `meshtone user add NAME`")),
                [..] => return Err(Failure::new("there are several users", "name the one who calls with --as NAME")),
            }
        }
    };
    let path = format!("/users/{}/login", segment(&user));
    let UserLogin { user, domain, server, ha1 } = node(data)?.ask(Method::GET, &path, NOTHING)?;
    let known = |(name, hex): &(String, String)| Some((Algorithm::from_token(name)?, Ha1::from_hex(hex)?));
    Ok(Login { user, domain, server, ha1: ha1.iter().filter_map(known).collect() })
}

fn node(data: &Path) -> Result<Client, Failure> {
    running(data, "the call goes through a running node")
}

/// Reads a file in samples of telephony.
fn read(file: &Path) -> Result<Vec<i16>, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(
            format!("{} cannot be played: {error}", file.display()),
            "a WAV file is played, of PCM or G.711, or an Ogg file with Opus",
        )
    };
    let len = std::fs::metadata(file).map_err(|error| failed(&error))?.len();
    if len > MAX_FILE_LEN {
        return Err(failed(&"it is too large"));
    }
    let bytes = std::fs::read(file).map_err(|error| failed(&error))?;
    if ogg::is_ogg(&bytes) {
        return ogg::read(&bytes).map_err(|error| failed(&error));
    }
    let wav = Wav::parse(&bytes).map_err(|error| failed(&error))?;
    let rate = format!("{} samples a second are too odd", wav.rate);
    let mut resampler = Resampler::new(wav.rate, sound::RATE).ok_or_else(|| failed(&rate))?;
    let mut samples = resampler.convert(&wav.samples);
    samples.extend(resampler.finish());
    Ok(samples)
}

fn tell(progress: &Progress, is_json: bool) {
    match progress {
        Progress::Calling(target) if is_json => event(json!({ "event": "calling", "to": target })),
        Progress::Ringing if is_json => event(json!({ "event": "ringing" })),
        Progress::Answered if is_json => event(json!({ "event": "answered" })),
        Progress::Calling(target) => eprintln!("calling {}; Ctrl-C hangs up", printable(target)),
        Progress::Ringing => eprintln!("it rings"),
        Progress::Answered => eprintln!("answered"),
    }
}

fn event(value: Value) {
    output::print(&value.to_string());
}

fn finish(ending: Ending, options: &CallOptions) -> Result<(), Failure> {
    match ending {
        Ending::Ended { lasted, by_them, reason, heard_for, heard, recorded } => {
            let seconds = heard_for.as_secs();
            let written = options.record.as_ref().map(|file| write(file, recorded));
            if options.json {
                let by = if by_them { "them" } else { "us" };
                let lasted_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
                let sound = heard.map(|heard| {
                    json!({
                        "loss_percent": rounded(heard.loss * 100.0),
                        "jitter_ms": rounded(heard.jitter_ms),
                        "round_trip_ms": heard.round_trip.map(|time| rounded(time.as_secs_f64() * 1000.0)),
                        "mos": rounded(heard.mean_opinion),
                    })
                });
                event(json!({
                    "event": "ended", "by": by, "lasted_ms": lasted_ms, "reason": reason, "heard_s": seconds, "sound": sound,
                }));
            } else {
                let who = if by_them { "the other side hung up" } else { "hung up" };
                let why = reason.map(|reason| format!(": {}", printable(&reason))).unwrap_or_default();
                eprintln!("{who} after {}{why}", lasting(lasted.as_secs()));
                if let Some(heard) = heard {
                    let (mos, loss, jitter) = (heard.mean_opinion, heard.loss * 100.0, heard.jitter_ms);
                    eprintln!("heard with MOS {mos:.1}, {loss:.1} % lost, jitter {jitter:.0} ms");
                }
                if options.record.is_some() && seconds == 0 {
                    output::warn(
                        "nothing was heard",
                        "is the other side's microphone on? `meshtone status` says how calls sound",
                    );
                }
            }
            written.transpose()?;
            Ok(())
        }
        Ending::Unanswered { status, reason } => {
            let (text, hint, code) = unanswered(status, &reason);
            if options.json {
                event(json!({ "event": "failed", "status": status, "reason": reason, "text": text }));
            }
            Err(Failure::new(text, hint).with_code(code))
        }
    }
}

/// With one decimal, as people read it.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Writes what was heard in the kind of file that the name says: Opus in Ogg, or else WAV.
fn write(file: &Path, samples: Vec<i16>) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("{} cannot be written: {error}", file.display()), "name another file")
    };
    let extension = file.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let bytes = match extension.as_deref() {
        Some("opus" | "ogg") => ogg::write(&samples).map_err(|error| failed(&error))?,
        Some(_) | None => Wav { rate: sound::RATE, samples }.to_bytes(),
    };
    std::fs::write(file, bytes).map_err(|error| failed(&error))
}

/// What a refusal means, whose side it is on, and the exit code.
fn unanswered(status: u16, reason: &str) -> (String, &'static str, u8) {
    let said = if reason.is_empty() { String::new() } else { format!(": {}", printable(reason)) };
    match status {
        0 => ("given up before anybody answered".to_owned(), "", GIVEN_UP),
        486 | 600 => ("the one called is busy".to_owned(), "", BUSY),
        408 => ("nobody answered".to_owned(), "", NO_ANSWER),
        480 => (
            format!("no phone there can be reached{said}"),
            "is a phone registered? `meshtone status` lists them",
            NO_ANSWER,
        ),
        404 | 410 | 484 | 604 => (format!("there is nobody of that address{said}"), "is it spelled right?", NOBODY),
        603 => ("the call was declined".to_owned(), "", DECLINED),
        415 | 488 | 606 => {
            (format!("the phone called takes no sound that can be sent{said}"), "this command speaks G.711", REFUSED)
        }
        401 | 407 => (
            "the node does not take this user's password".to_owned(),
            "was it changed just now? else `meshtone user list` says which digest algorithms the user may use",
            REFUSED,
        ),
        403 => (format!("the node does not permit it{said}"), "its policy decides who may call whom", REFUSED),
        503 => (format!("the node, or one on the way, does not take calls now{said}"), "try again later", REFUSED),
        _ => (format!("the call was refused with {status}{said}"), "", REFUSED),
    }
}

/// The longest a call may be asked to last: a day.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_and_has_a_code_of_its_own() {
        let codes = [0, 486, 408, 480, 404, 603, 488, 500].map(|status| unanswered(status, "").2);
        assert_eq!(codes, [GIVEN_UP, BUSY, NO_ANSWER, NO_ANSWER, NOBODY, DECLINED, REFUSED, REFUSED]);
        assert_eq!(unanswered(599, "a\u{1b}b").0, "the call was refused with 599: a\u{fffd}b");
    }
}
