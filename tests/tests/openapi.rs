//! The interface answers as its description says: Schemathesis asks a node for all of it, in ways that are described and in others.
//!
//! `make test` installs it below `target`; `make openapi` lets it go on for longer, with values by chance.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use meshtone_tests::MeshNode;
use meshtone_tests::command::stdout;
use meshtone_tests::page::Page;
use serde_json::{Value, json};

/// What answers are judged by. That all that is said to be allowed is taken is left out: most names are of nobody.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      response_headers_conformance,unsupported_method,allow_header_conformance";

#[test]
fn the_interface_answers_as_its_description_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/schemathesis/bin");
    let program = folder.join("schemathesis");
    assert!(program.exists(), "Schemathesis is not installed\nhint: run `make test-openapi`");
    let node = MeshNode::first("n1");
    let alice = node.user_add("alice");
    let owner = Page::administer(&node);
    let made = owner.ask("POST", "/admin/tokens", Some(&json!({ "name": "schemathesis", "scopes": ["admin"] })));
    let made: Value = serde_json::from_slice(&made.body).expect("JSON");
    let token = format!("Authorization: Bearer {}", made["token"].as_str().expect("a token"));
    let person = Page::log_in(&node, "alice", &alice);
    let (cookie, csrf) = (format!("Cookie: {}", person.cookie), format!("X-Meshtone-Csrf: {}", person.csrf()));
    let site = format!("http://{}", node.ws());
    let seconds = std::env::var("OPENAPI_SECONDS").ok();
    // Who runs the node by a token, and a person by her session.
    for (paths, fields) in [("^/api/v1/admin/", vec![token]), ("^/api/v1/(?!admin/)", vec![cookie, csrf])] {
        let mut command = Command::new(&program);
        // It keeps there what it has found.
        command.current_dir(&folder);
        command.arg("run").arg(format!("{site}/api/v1/openapi.json")).args(["--url", &site, "--checks", CHECKS]);
        command.args(["--no-color", "--continue-on-failure", "--warnings", "off", "--include-path-regex", paths]);
        // These would take away by what is asked.
        command.args(["--exclude-path", "/api/v1/admin/tokens/{id}", "--exclude-path", "/api/v1/session"]);
        match &seconds {
            None => command.args(["--phases", "coverage", "--seed", "1"]),
            Some(seconds) => command.args(["--phases", "coverage,fuzzing", "--max-time", seconds]),
        };
        for field in [format!("Origin: {site}")].iter().chain(&fields) {
            command.args(["--header", field]);
        }
        let output = command.output().expect("run Schemathesis");
        assert!(output.status.success(), "{paths}:\n{}", stdout(&output));
    }
}
