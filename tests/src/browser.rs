//! Chromium, driven by a script in `tests/web`.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::command::need;

/// Runs a script of `tests/web` with this task; what it prints last is one line of JSON.
#[track_caller]
pub fn browse(script: &str, task: &Value) -> Value {
    browse_along(script, task, |_| {})
}

/// The same, and hands over each line as it is printed, so that others can do their part meanwhile.
#[track_caller]
pub fn browse_along(script: &str, task: &Value, mut on_line: impl FnMut(&str)) -> Value {
    need("node", "nodejs");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("web");
    assert!(folder.join("build/page.js").exists(), "the page is not built: run `make test-web`");
    let mut browser = Command::new("node")
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
