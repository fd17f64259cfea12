//! What a node serves to browsers beside SIP over WebSocket, and what it does not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use data_encoding::{BASE64, HEXLOWER};
use meshtone_tests::http::{Answer, Site};
use meshtone_tests::scripted::is_alive;
use meshtone_tests::web_socket::WebSocket;
use meshtone_tests::wire::Wire;
use meshtone_tests::{MeshNode, SOON, Transport, eventually};

fn sites(node: &MeshNode) -> [Site; 2] {
    [Site { server: node.ws(), tls: false }, Site { server: node.wss(), tls: true }]
}

/// What every answer says, so that no page can be misused.
#[track_caller]
fn assert_strict(answer: &Answer) {
    let policy = answer.field("content-security-policy").unwrap_or_default();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{part} in {answer:?}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.field(name), Some(value), "{answer:?}");
    }
    assert!(!answer.text().contains("://"), "nothing is asked of other hosts: {}", answer.text());
    assert!(!answer.text().contains("<script>") && !answer.text().contains("style="), "nothing inline");
}

#[test]
fn whoever_watches_over_a_node_and_whoever_looks_at_it_is_answered_without_secrets() {
    let node = MeshNode::first("node");
    let id = node.status()["node"].as_str().unwrap().to_owned();
    for site in sites(&node) {
        for (path, status, says) in [
            ("/health", 200, "ok\n"),
            ("/ready", 200, "ready\n"),
            ("/version", 200, concat!("meshtone ", env!("CARGO_PKG_VERSION"), "\n")),
            ("/", 200, "<title>"),
            ("/api/v1/page", 200, "\"domain\":\"mesh.test\""),
            ("/api/v1/session", 401, "\"code\":\"no_session\""),
            ("/api/other", 404, "\"code\":\"not_found\""),
            ("/other", 404, "no such page"),
            ("/../etc/passwd", 404, "no such page"),
            ("/certificates/x.pem", 404, "no such certificate"),
        ] {
            let answer = site.get(path);
            assert_eq!(answer.status, status, "{path}: {answer:?}");
            assert!(answer.text().contains(says), "{path}: {}", answer.text());
            assert!(!answer.text().contains(&id), "{path} says which node this is");
            assert_strict(&answer);
        }
        assert_eq!(site.get("/style.css").field("content-type"), Some("text/css; charset=utf-8"));
        assert_eq!(site.ask("POST", "/health", &[], "x").status, 405);
        assert_eq!(site.ask("HEAD", "/health", &[], "").body, b"");
        // SIP is where it was; over a connection that has served a page, it is asked for again.
        assert_eq!(site.get("/sip").status, 426);
        let both = "GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /sip HTTP/1.1\r\nHost: a\r\n\r\n";
        assert!(site.send(both.as_bytes()).text().contains("HTTP/1.1 426 "));
        drop(WebSocket::open(site.server, site.tls));
    }
}

#[test]
fn a_node_that_has_lost_all_others_lives_and_is_not_ready() {
    let first = MeshNode::first("first");
    let second = MeshNode::joining("second", &first.invite());
    let site = sites(&second)[0];
    eventually(SOON, "a link", || site.get("/ready").status == 200);
    first.freeze();
    eventually(SOON * 2, "the node to miss the other", || site.get("/ready").status == 503);
    assert_eq!(site.get("/health").status, 200);
    first.thaw();
    eventually(SOON * 2, "the link to come back", || site.get("/ready").status == 200);
}

#[test]
fn what_a_stranger_sends_is_bounded_in_size_and_time() {
    let node = MeshNode::first("node");
    for site in sites(&node) {
        let long = "y".repeat(9_000);
        assert_eq!(site.get_with("/health", &[("X", &long)]).status, 431);
        assert_eq!(site.get(&format!("/{long}")).status, 431);
        let many: Vec<(&str, &str)> = vec![("X", "y"); 100];
        assert!((400..500).contains(&site.get_with("/health", &many).status));
        for junk in ["GET /health HTTP/1.1\r\nno field\r\n\r\n", "\r\n\r\n\r\n\r\n", "GET /health\r\n\r\n"] {
            let answer = site.send(junk.as_bytes());
            assert!(answer.status == 400 || answer.status == 0, "{junk:?}: {answer:?}");
        }
        // Two lengths, or a length beside chunks: nobody shall read another request out of it than we do.
        let smuggled = "GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc";
        assert_eq!(site.send(smuggled.as_bytes()).status, 400);
        let transport = if site.tls { Transport::Wss } else { Transport::Ws };
        assert!(is_alive(transport, site.server));
    }
    // Whoever has begun, or asks for nothing more, is not waited for.
    let server = node.ws();
    let mut idle = Wire::open(server, false).unwrap();
    idle.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut slow = Wire::open(server, false).unwrap();
    slow.send(b"GET /health HT").unwrap();
    for wire in [&mut idle, &mut slow] {
        let mut received = Vec::new();
        eventually(SOON * 3, "the node to close", || !wire.receive(&mut received, SOON));
    }
}

#[test]
fn the_certificate_of_what_a_node_signs_is_found_by_its_hash() {
    let mut node = MeshNode::unstarted("node").with_domain("mesh.test");
    node.run(&["--public-url", "https://mesh.test/node/"]);
    assert!(node.printed().contains("https://mesh.test/node"), "{}", node.printed());
    let read = |name: &str| std::fs::read(node.data().join("keys").join(name)).unwrap();
    let (home, authority) = (read("home.der"), read("authority.der"));
    let name = HEXLOWER.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &home).as_ref());
    for site in sites(&node) {
        let pem = site.get(&format!("/certificates/{name}.pem"));
        assert_eq!((pem.status, pem.field("content-type")), (200, Some("application/pem-certificate-chain")));
        let lines: String = pem.text().lines().map(|line| if line.starts_with('-') { " " } else { line }).collect();
        let chain: Vec<Vec<u8>> =
            lines.split_whitespace().map(|part| BASE64.decode(part.as_bytes()).unwrap()).collect();
        assert_eq!(chain, [home.clone(), authority.clone()]);
        let der = site.get(&format!("/certificates/{name}.cer"));
        assert_eq!((der.field("content-type"), &der.body), (Some("application/pkix-cert"), &home));
    }
}
