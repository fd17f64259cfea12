//! People at the page that nodes serve: two browsers call each other and a desk phone, and the dashboard shows what is so.
//!
//! What they do is written in `tests/page`; `make test` builds the page and installs Chromium.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::browser::at_the_page;
use meshtone_tests::{Mesh, Transport};
use serde_json::{Value, json};

/// The page of a node, as who sits at its machine opens it.
fn site(mesh: &Mesh, node: usize) -> String {
    format!("http://localhost:{}/", mesh.at(node, Transport::Ws).port())
}

/// The same over TLS, as everybody else does.
fn protected_site(mesh: &Mesh, node: usize) -> String {
    format!("https://{}/", mesh.at(node, Transport::Wss))
}

fn people(mesh: &Mesh, users: &[&str]) -> Value {
    users
        .iter()
        .map(|user| ((*user).to_owned(), Value::from(mesh.user(user))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn browsers_at_two_nodes_call_hold_show_pictures_and_pass_calls_on() {
    let mesh = Mesh::start(2);
    let task = json!({
        "sites": [site(&mesh, 1), protected_site(&mesh, 2)],
        "people": people(&mesh, &["alice", "bob", "carol"]),
    });
    at_the_page("calls.mjs", &task, |_| {});
}
