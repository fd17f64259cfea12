//! Certificates that every browser believes, obtained by ACME from a server that looks whether the name leads to the node.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use meshtone_tests::http::Site;
use meshtone_tests::name_server::NameServer;
use meshtone_tests::page::{Page, json, send};
use meshtone_tests::pebble::Pebble;
use meshtone_tests::wire::Wire;
use meshtone_tests::{DOMAIN, MeshNode, SOON, eventually, eventually_some};
use serde_json::Value;

fn names() -> NameServer {
    NameServer::with_texts("unused.test", &[], &[(DOMAIN, [127, 0, 0, 1].into())])
}

fn settings(pebble: &Pebble, more: &str) -> String {
    let (directory, authority) = (pebble.directory(), pebble.authority());
    format!(
        "[acme]\ndirectory = \"{directory}\"\nagree_to_terms = true\ncontact = \"admin@{DOMAIN}\"\ndomain = \"{DOMAIN}\"\n\
         authorities = \"{}\"\n{more}",
        authority.display()
    )
}

fn shown(node: &MeshNode) -> Value {
    json(&send(Site { server: node.ws(), tls: false }, "GET", "/authority", None, &[]))["page"].clone()
}

#[track_caller]
fn obtained(node: &MeshNode) -> Value {
    eventually_some(SOON * 2, "a certificate by ACME", || Some(shown(node)).filter(|page| page["from"] == "acme"))
}

/// The program would refuse a folder of secrets that others may read; so would people.
fn is_private(node: &MeshNode, file: &str) -> bool {
    let file = node.data().join("keys").join(file);
    std::fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o777 == 0o600)
}

#[test]
fn a_certificate_is_obtained_shown_by_all_listeners_kept_and_renewed_without_a_restart() {
    let names = names();
    let mut node = MeshNode::unstarted("alpn").with_domain(DOMAIN);
    let pebble = Pebble::start(names.address(), nowhere(), node.wss(), 15);
    node.run_configured(&settings(&pebble, ""));
    let first = obtained(&node);
    assert_eq!(first["names"], serde_json::json!([DOMAIN]));
    let root = pebble.root();
    for listener in [node.wss(), node.tls()] {
        Wire::open_believing(listener, &root, DOMAIN).unwrap_or_else(|error| panic!("{listener}: {error}"));
    }
    assert!(is_private(&node, "acme.pem") && is_private(&node, "acme-account.json"));
    // Nobody is let in by the way of the challenge, and phones that name no protocol come in as ever.
    assert_eq!(Site { server: node.wss(), tls: true }.get("/health").text(), "ok\n");
    assert_eq!(node.status()["acme"]["state"], "ready");
    let renewed = eventually_some(SOON * 2, "the certificate to be renewed", || {
        Some(shown(&node)).filter(|page| page["from"] == "acme" && page["sha256"] != first["sha256"])
    });
    assert!(renewed["expires"].as_u64() > first["expires"].as_u64());
    Wire::open_believing(node.wss(), &root, DOMAIN).unwrap();
    assert!(node.must(&["status"]).contains(&format!("acme      {DOMAIN} from")));
}

#[test]
fn where_port_443_leads_elsewhere_a_text_at_port_80_proves_the_name_and_a_failure_is_told_in_words() {
    let names = names();
    let mut node = MeshNode::unstarted("http").with_domain(DOMAIN);
    let pebble = Pebble::start(names.address(), node.ws(), nowhere(), 90 * 86_400);
    node.run_configured(&settings(&pebble, "challenge = \"tls-alpn-01\"\n"));
    let failing = eventually_some(SOON * 2, "the failure to be told", || {
        Some(node.status()["acme"].clone()).filter(|acme| acme["state"] == "failing")
    });
    let reason = failing["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("the server did not find this node at {DOMAIN}")), "{reason}");
    let health = Page::administer(&node).get("/admin/status")["health"].clone();
    assert!(health.as_array().unwrap().iter().any(|one| one["code"] == "acme"), "{health}");
    assert_ne!(shown(&node)["from"], "acme", "until then there is another one");

    node.terminate();
    node.run_configured(&settings(&pebble, "challenge = \"http-01\"\n"));
    let first = obtained(&node);
    let root = pebble.root();
    Wire::open_believing(node.wss(), &root, DOMAIN).unwrap();
    assert_eq!(Site { server: node.ws(), tls: false }.get("/.well-known/acme-challenge/x").status, 404);
    // It is kept: the server is not needed for a start, and not asked.
    let (config, before) = (settings(&pebble, ""), pebble.log().len());
    node.terminate();
    node.run_configured(&config);
    assert_eq!(shown(&node)["sha256"], first["sha256"]);
    assert_eq!(pebble.log().len(), before);
    drop(pebble);
    Wire::open_believing(node.wss(), &root, DOMAIN).unwrap();
}

/// Where nobody listens.
fn nowhere() -> SocketAddr {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    address
}

#[test]
fn a_server_that_is_not_reached_is_told_and_the_node_works() {
    let mut node = MeshNode::unstarted("alone").with_domain(DOMAIN);
    let settings = format!(
        "[acme]\ndirectory = \"https://localhost:{}/dir\"\nagree_to_terms = true\ndomain = \"{DOMAIN}\"\n",
        nowhere().port()
    );
    node.run_configured(&settings);
    eventually(SOON, "the failure to be told", || {
        let acme = node.status()["acme"].clone();
        acme["state"] == "failing" && acme["reason"].as_str().is_some_and(|reason| reason.contains("not reached"))
    });
    let (alice, started) = (node.user_add("alice"), std::time::Instant::now());
    Page::log_in(&node, "alice", &alice);
    assert!(started.elapsed() < Duration::from_secs(10));
}
