//! Running the `meshtone` binary and other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The `meshtone` binary that belongs to this test run: the one in the target directory beside the test itself.
///
/// `MESHTONE_BIN` names another one, such as a release build.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MESHTONE_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("the path of the running test");
    let profile = test.ancestors().nth(2).expect("a test lies in <target>/<profile>/deps");
    let path = profile.join("meshtone");
    assert!(
        path.is_file(),
        "{} is missing\nhint: `make test` builds it; by hand: `cargo build --workspace`",
        path.display()
    );
    path
}

/// A `meshtone` command that sees none of the caller's own settings.
pub fn meshtone(arguments: &[&str]) -> Command {
    isolated(&binary(), arguments)
}

/// A command of this `meshtone` binary that sees none of the caller's own settings.
pub fn isolated(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    isolate(&mut command);
    command
}

/// Hides the caller's own settings, and the caller's input, from a command of a `meshtone` binary.
pub fn isolate(command: &mut Command) {
    command.stdin(std::process::Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MESHTONE_") {
            command.env_remove(name);
        }
    }
}

/// Sends `signal` (`TERM`, `KILL`, `STOP`, `CONT`) to a process that this test started.
pub fn signal(pid: u32, signal: &str) {
    // The shell's own `kill`: signals need neither an unsafe block nor another crate here.
    let status = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().expect("sh");
    assert!(status.success(), "kill -{signal} {pid} failed");
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether a program can be run at all, with what to do if it cannot.
#[track_caller]
pub fn need(program: &str, package: &str) {
    let found = std::env::split_paths(&path_with_servers()).any(|folder| folder.join(program).is_file());
    assert!(found, "{program} is not installed\nhint: `make test-tools`, or `apt-get install {package}`");
}

/// The search path, and where Debian puts servers, which is not in everybody's.
pub fn path_with_servers() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin");
    path
}
