//! Has the program built anew when the page was: a release carries its files, and a build without them would go on without.

#![allow(clippy::print_stdout, reason = "by that a build script speaks")]

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A build for debugging reads the page from disk.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let page = Path::new("../../web/dist");
        if page.join("index.html").exists() {
            println!("cargo::rerun-if-changed={}", page.display());
        } else {
            println!("cargo::rerun-if-changed=../../web");
            println!(
                "cargo::warning=the page is not there, so nodes will say how to build it: `make web`, then build again"
            );
        }
    }
}
