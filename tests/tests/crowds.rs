//! More connections than anybody needs (threat 18): whoever holds them keeps to his share, and phones get in.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use meshtone_tests::crowd::{allow_files, connect_from, sources};
use meshtone_tests::scripted::is_alive;
use meshtone_tests::{Mesh, SOON, ScriptedPhone, Transport, eventually};

/// What the crowd opens, from so many sources: each below what one may hold, all of them far above what one listener holds.
const CROWD: usize = 10_000;
const SOURCES: u32 = 100;
/// What a listener holds, and what one source may hold that has said nothing; the node's own constants.
const HELD_BY_LISTENER: usize = 2048;
const SILENT_OF_SOURCE: usize = 128;
/// Files of this process, and what a node may have grown by, in KiB: 2,048 connections of some 40 KiB.
const FILES: u64 = 12_000;
const GROWTH_KIB: u64 = 160 * 1024;

/// A connection that begins to say something and never ends.
fn loris(source: Ipv4Addr, server: SocketAddr) -> TcpStream {
    let mut stream = connect_from(source, server).expect("the system accepts it");
    // The node may have closed it by now.
    let _ = stream.write_all(b"OPTIONS sip:mesh.test SIP/2.0\r\nVia: ");
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Whether the other side has not closed it.
fn is_open(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

fn open(crowd: &mut [TcpStream]) -> usize {
    crowd.iter_mut().filter_map(|stream| is_open(stream).then_some(())).count()
}

#[test]
fn ten_thousand_connections_at_one_listener_shut_no_phone_out_of_any() {
    allow_files(FILES);
    let mesh = Mesh::start(1);
    let password = mesh.user("alice");
    let mut settled = ScriptedPhone::tcp(mesh.sip(1)).of("alice", &password);
    settled.register();
    let before = mesh.node(1).rss_kib();

    for (block, crowded) in [(68, Transport::Tcp), (69, Transport::Ws)] {
        let from = sources(block, SOURCES);
        let mut crowd: Vec<TcpStream> =
            (0..CROWD).map(|number| loris(from[number % from.len()], mesh.at(1, crowded))).collect();
        for transport in Transport::ALL {
            let mut phone = ScriptedPhone::new(transport, mesh.at(1, transport)).of("alice", &password);
            assert_eq!(phone.try_register(600).status(), 200, "{transport:?} beside a crowd at {crowded:?}");
            assert_eq!(phone.try_register(0).status(), 200);
        }
        let held = open(&mut crowd);
        assert!(held <= HELD_BY_LISTENER, "{held} connections are held at {crowded:?}");
        settled.register();
    }
    let after = mesh.node(1).rss_kib();
    assert!(after < before + GROWTH_KIB, "{before} KiB before, {after} KiB after");
    for transport in Transport::ALL {
        assert!(is_alive(transport, mesh.at(1, transport)), "{transport:?}");
    }
}

#[test]
fn one_source_holds_its_share_of_silent_connections_and_no_more() {
    allow_files(FILES);
    let mesh = Mesh::start(1);
    for transport in Transport::ALL.into_iter().filter(|transport| *transport != Transport::Udp) {
        let from = sources(70 + transport as u8, 1)[0];
        let mut crowd: Vec<TcpStream> = (0..4 * SILENT_OF_SOURCE).map(|_| loris(from, mesh.at(1, transport))).collect();
        eventually(SOON, &format!("{transport:?} to be left to {SILENT_OF_SOURCE} connections"), || {
            open(&mut crowd) <= SILENT_OF_SOURCE
        });
        assert!(is_alive(transport, mesh.at(1, transport)), "{transport:?}");
    }
}
