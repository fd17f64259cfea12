//! Network namespaces, and programs that run within one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::SOON;
use crate::command::path_with_servers;
use crate::wait::eventually;

/// A network namespace that lasts as long as this, and longer while something runs there.
#[derive(Debug)]
pub struct Namespace(Child);

impl Namespace {
    /// One in which there is nothing but loopback.
    #[track_caller]
    pub fn new() -> Namespace {
        // It waits for its input to end, and keeps the namespace until then.
        let holder = Command::new("unshare").args(["--net", "cat"]).stdin(Stdio::piped()).spawn().expect("unshare");
        let namespace = Namespace(holder);
        let own = std::fs::read_link("/proc/self/ns/net").expect("our own namespace");
        eventually(SOON, "the namespace", || std::fs::read_link(namespace.path()).is_ok_and(|of| of != own));
        namespace.run(&["ip", "link", "set", "lo", "up"]);
        namespace
    }

    /// Names it, for [`within`].
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.0.id()))
    }

    /// Names it, for `ip`.
    pub fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// Runs a command there that must succeed.
    #[track_caller]
    pub fn run(&self, command: &[&str]) {
        let (program, arguments) = command.split_first().expect("a program");
        run(within(&self.path(), program).args(arguments));
    }
}

impl Default for Namespace {
    fn default() -> Namespace {
        Namespace::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that runs a program, servers' among them, in a network namespace.
pub fn within(namespace: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.env("PATH", path_with_servers()).arg(format!("--net={}", namespace.display())).arg(program);
    command
}

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn run(command: &mut Command) {
    let status = command.env("PATH", path_with_servers()).status().expect("it starts");
    assert!(status.success(), "{command:?} failed: {status}");
}
