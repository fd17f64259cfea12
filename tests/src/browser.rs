//! Chromium, driven by a script in `tests/web` or `tests/page`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::command::need;
use crate::lan::Host;
use crate::namespace::within;
use crate::{Mesh, Transport};

/// How far from a tone what a browser measures of it may be, in Hz.
const TOLERANCE_HZ: f64 = 20.0;

/// What is quieter than this, in decibels, is no sound.
const SILENCE_DB: f64 = -60.0;

/// A task of `browser.mjs`: a browser is the phone of a user at a node, with a tone for a microphone, and makes these calls; a `null` among
/// them is one that it waits for.
pub fn phone_task(mesh: &Mesh, node: usize, (user, password): (&str, &str), tone: &Path, calls: &Value) -> Value {
    let server = format!("ws://{}/sip", mesh.at(node, Transport::Ws));
    let phone =
        json!({ "library": "jssip", "user": user, "password": password, "domain": "mesh.test", "server": server });
    json!({ "phone": phone, "tone": tone, "calls": calls })
}

/// The same with a camera: what it films moves.
pub fn video_task(
    mesh: &Mesh,
    node: usize,
    user: (&str, &str),
    tone: &Path,
    calls: &Value,
    bundle: Option<&str>,
) -> Value {
    let mut task = phone_task(mesh, node, user, tone, calls);
    task["phone"]["video"] = true.into();
    task["phone"]["bundle"] = bundle.into();
    task
}

/// Fails the test unless a browser has seen the other end in its first call: pictures that are decoded, are not black, and move.
#[track_caller]
pub fn assert_seen(result: &Value) {
    let seen = &result["seen"][0];
    let decoded = seen["counted"]["inbound"]["framesDecoded"].as_u64();
    assert!(decoded.is_some_and(|frames| frames >= 20), "{seen:#}");
    let pictures = seen["pictures"].as_array().expect("what was seen");
    let bright = pictures.iter().filter(|picture| picture[1].as_u64().is_some_and(|brightest| brightest > 64)).count();
    let moved = pictures.iter().zip(pictures.iter().skip(1)).filter(|(one, other)| one[0] != other[0]).count();
    assert!(bright >= 10 && moved >= 10, "{bright} bright, {moved} moved: {seen:#}");
}

/// Fails the test unless most of what a browser heard in each of its calls was this tone.
#[track_caller]
pub fn assert_heard(result: &Value, calls: usize, hz: f64) {
    for call in 0..calls {
        assert!(is_heard(&result["heard"][call], hz), "call {call}: {result:#}");
    }
}

/// Whether most of what was heard in a call, as pairs of a frequency and how loud it was, is this tone.
fn is_heard(sounds: &Value, hz: f64) -> bool {
    let loud = sounds.as_array().expect("what was heard").iter();
    let loud = loud.filter(|sound| sound[1].as_f64().is_some_and(|level| level > SILENCE_DB));
    let loud: Vec<f64> = loud.map(|sound| sound[0].as_f64().expect("a frequency")).collect();
    let fitting = loud.iter().filter(|heard| (**heard - hz).abs() < TOLERANCE_HZ).count();
    fitting >= 4 && fitting * 10 >= loud.len() * 7
}

/// Runs a script of `tests/web` with this task; what it prints last is one line of JSON.
#[track_caller]
pub fn browse(script: &str, task: &Value) -> Value {
    browse_along(script, task, |_| {})
}

/// The same, and hands over each line as it is printed, so that others can do their part meanwhile.
#[track_caller]
pub fn browse_along(script: &str, task: &Value, on_line: impl FnMut(&str)) -> Value {
    run_script(Command::new("node"), "web", "build/page.js", script, task, on_line)
}

/// The same as [`browse`], on a host.
#[track_caller]
pub fn browse_on(host: &Host, script: &str, task: &Value) -> Value {
    run_script(within(&host.namespace(), "node"), "web", "build/page.js", script, task, |_| {})
}

/// Runs a script of `tests/page`: people at the pages of nodes. Fails the test with what the script says went wrong.
#[track_caller]
pub fn at_the_page(script: &str, task: &Value, on_line: impl FnMut(&str)) -> Value {
    let result =
        run_script(Command::new("node"), "page", "node_modules/playwright-core/package.json", script, task, on_line);
    let error = &result["error"];
    assert!(error.is_null(), "{script}: {}", error.as_str().unwrap_or_default());
    result
}

#[track_caller]
fn run_script(
    mut node: Command,
    folder: &str,
    built: &str,
    script: &str,
    task: &Value,
    mut on_line: impl FnMut(&str),
) -> Value {
    need("node", "nodejs");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    assert!(folder.join(built).exists(), "{} is not built: run `make test-web test-page`", folder.display());
    let mut browser = node
        .current_dir(&folder)
        .args([script, &task.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start node");
    let mut last = String::new();
    for line in BufReader::new(browser.stdout.take().expect("its output")).lines() {
        last = line.expect("UTF-8");
        on_line(&last);
    }
    browser.wait().expect("an end");
    serde_json::from_str(&last).unwrap_or_else(|error| panic!("no result from the browser ({error}): {last}"))
}
