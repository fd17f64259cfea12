//! Too much at once. Whoever has a call to make gets through, memory stays bounded, and afterwards all is as before.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meshtone_tests::crowd::{allow_files, sources};
use meshtone_tests::scripted::{Request, SDP, is_alive};
use meshtone_tests::{Mesh, SOON, ScriptedPhone, Transport, eventually};

/// What a flood brings a second, and how long it may last at most.
const PER_SECOND: usize = 2000;
const LONGEST: Duration = Duration::from_secs(8);
/// A call set up beside it. At once is well below a second; the rest is for a busy machine and an unoptimised build.
const AT_ONCE: Duration = Duration::from_secs(3);
/// What a node may have grown by, in KiB: the tables of its limits, and the system's own buffers.
const GROWTH_KIB: u64 = 96 * 1024;

/// Requests without end, from several addresses of this machine that nobody else has; dropping it ends them.
struct Flood {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn start(server: SocketAddr, sources: &[Ipv4Addr]) -> Flood {
        let over = Arc::new(AtomicBool::new(false));
        let sent_so_far = Arc::new(AtomicUsize::new(0));
        let (is_over, counter) = (over.clone(), sent_so_far.clone());
        let sockets: Vec<UdpSocket> =
            sources.iter().map(|source| UdpSocket::bind((*source, 0)).expect("a socket")).collect();
        let thread = std::thread::spawn(move || {
            let begin = Instant::now();
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) && begin.elapsed() < LONGEST {
                // As many as should have been sent by now, so that a pause of ours thins nothing out.
                let due = begin.elapsed().as_millis() as usize * PER_SECOND / 1000;
                while sent < due {
                    let socket = &sockets[sent % sockets.len()];
                    let method = ["REGISTER", "OPTIONS", "INVITE"][sent % 3];
                    let uri = if method == "OPTIONS" { "sip:mesh.test" } else { "sip:bob@mesh.test" };
                    let mut request = Request::new(method, uri, "sip:alice@mesh.test", uri);
                    if method == "INVITE" {
                        request = request.with_body("application/sdp", SDP);
                    }
                    let via = format!("SIP/2.0/UDP {};branch=z9hG4bKflood{sent};rport", socket.local_addr().unwrap());
                    let _ = socket.send_to(&request.to_bytes(&via), server);
                    sent += 1;
                }
                counter.store(sent, Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        Flood { over, sent: sent_so_far, thread: Some(thread) }
    }

    fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn end(mut self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_caller_gets_through_a_flood_at_once_and_the_node_recovers() {
    get_through(&sources(66, 8));
}

#[test]
fn a_caller_gets_through_a_flood_from_a_thousand_made_up_addresses() {
    allow_files(4096);
    get_through(&sources(67, 1000));
}

/// Makes calls while these sources flood the node.
#[track_caller]
fn get_through(sources: &[Ipv4Addr]) {
    let mesh = Mesh::start(1);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &bob);
    bob.register();
    let before = mesh.node(1).rss_kib();

    let flood = Flood::start(mesh.sip(1), sources);
    // From the beginning until well beyond the first burst.
    let mut calls = 0;
    while flood.sent.load(Ordering::Relaxed) < 4 * PER_SECOND && !flood.is_over() {
        let begin = Instant::now();
        let sent = alice.invite("sip:bob@mesh.test");
        let invite = bob.incoming("INVITE");
        bob.accept_later(&invite);
        let dialog = alice.established(&sent);
        let took = begin.elapsed();
        assert!(took < AT_ONCE, "call {calls} was set up after {took:?}");
        calls += 1;
        let bye = alice.send(&dialog.request("BYE"));
        let received = bob.incoming("BYE");
        bob.reply(&received, 200, "OK", "");
        assert_eq!(alice.final_answer(&bye).status(), 200);
    }
    let sent = flood.end();
    assert!(sent >= 2 * PER_SECOND && calls >= 2, "{calls} calls beside {sent} requests");

    assert!(is_alive(Transport::Udp, mesh.sip(1)) && is_alive(Transport::Tcp, mesh.sip(1)));
    eventually(SOON, "no call to be left", || mesh.node(1).status()["calls"].as_array().is_some_and(Vec::is_empty));
    let after = mesh.node(1).rss_kib();
    assert!(after < before + GROWTH_KIB, "{before} KiB before, {after} KiB after");
}

fn corpus() -> Vec<Vec<u8>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = [
        "crates/sip/tests/corpus/rfc4475",
        "crates/sip/tests/corpus/rfc5118",
        "fuzz/corpus/sip_message",
        "fuzz/corpus/sip_stream",
        "fuzz/corpus/sip_differential",
        "fuzz/corpus/sip_body",
    ];
    let files = |folder: &str| std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = folders.into_iter().flat_map(files).collect();
    paths.sort();
    assert!(paths.len() > 80, "the corpora are there");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn every_corpus_on_every_transport_leaves_the_node_alive_and_its_memory_flat() {
    let mut mesh = Mesh::start(1);
    let corpus = corpus();
    let transports = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
    let round = |mesh: &Mesh| {
        for transport in transports {
            let server = mesh.at(1, transport);
            let mut phone = ScriptedPhone::new(transport, server);
            for message in &corpus {
                // A stream whose framing is lost is closed.
                if phone.try_send_bytes(message).is_err() || phone.is_closed() {
                    phone = ScriptedPhone::new(transport, server);
                }
            }
            assert!(is_alive(transport, server), "no answer over {transport:?}");
        }
        mesh.node(1).rss_kib()
    };
    // The first rounds fill the allocator's pools.
    let before = (0..2).map(|_| round(&mesh)).max().unwrap();
    let after = (0..4).fold(0, |_, _| round(&mesh));
    assert!(after < before + 24 * 1024, "{before} KiB after two rounds, {after} KiB after six");
    assert!(mesh.node_mut(1).is_running());
    let log = std::fs::read_to_string(mesh.node(1).log()).unwrap();
    assert!(!log.contains("panicked"), "a panic is in the log");
}

#[test]
fn what_strangers_send_reaches_log_and_status_without_control_characters() {
    let mesh = Mesh::start(1);
    let alice = mesh.user("alice");
    let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}";
    let mut stranger = ScriptedPhone::udp(mesh.sip(1));
    for (uri, from) in [
        (format!("sip:{evil}@mesh.test"), format!("\"{evil}\" <sip:a@b.example>;tag=1")),
        ("sip:mesh.test".to_owned(), format!("{evil} <sip:a{evil}@b.example>;tag=1")),
        ("sip:bob@mesh.test".to_owned(), "\"x\r\n y\" <sip:%1b%5b2J@b.example>;tag=1".to_owned()),
    ] {
        let mut request = Request::new("INVITE", &uri, "sip:a@b.example", "sip:mesh.test").with("User-Agent", evil);
        request.from = from;
        stranger.send(&request);
    }
    let mut alice = ScriptedPhone::tcp(mesh.sip(1)).of("alice", &alice);
    let contact = format!("<sip:%1b%5b2J@{};x=%0d%0aevil>", alice.local());
    let request = Request::new("REGISTER", "sip:mesh.test", "sip:alice@mesh.test", "sip:alice@mesh.test");
    assert_eq!(alice.ask(request.with("Contact", &contact).with("User-Agent", evil)).status(), 200);
    // A call that rings nowhere is shown in `status` while it lasts, with whatever the caller named himself and the call.
    let mut call = alice.request("INVITE", "sip:alice@mesh.test").with_body("application/sdp", SDP);
    call.from = format!("\"{evil}\" <sip:alice@mesh.test>;tag={}", 1);
    call.call_id = format!("{evil}@x");
    let answer = alice.ask_once(&call);
    if answer.status() == 407 {
        let second = alice.authorize(&call, &answer);
        alice.send(&second);
    }
    assert!(is_alive(Transport::Udp, mesh.sip(1)));

    let is_harmless = |text: &str| text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control());
    let text = mesh.node(1).must(&["status"]);
    assert!(is_harmless(&text), "{text:?}");
    let log = std::fs::read_to_string(mesh.node(1).log()).unwrap();
    assert!(is_harmless(&log), "{:?}", log.lines().find(|line| !is_harmless(line)));
}
