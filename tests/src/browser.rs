//! Chromium, driven by a script in `tests/web`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::command::need;

/// Runs a script of `tests/web` with this task; what it prints last is one line of JSON.
#[track_caller]
pub fn browse(script: &str, task: &Value) -> Value {
    need("node", "nodejs");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("web");
    assert!(folder.join("build/page.js").exists(), "the page is not built: run `make test-web`");
    let output = Command::new("node")
        .current_dir(&folder)
        .args([script, &task.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("start node");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = out.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("no result from the browser ({error}):\n{out}\n{err}"))
}
