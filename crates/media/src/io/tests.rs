//! Tests of ports and sessions, on loopback sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, Ipv4Addr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::*;
use crate::anchoring::Profile;
use crate::relay::End;
use crate::rtp::Packet;
use crate::sdp::{SdpError, Session};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Loopback answers at once; this only bounds a failing test.
const PATIENCE: Duration = Duration::from_secs(10);

/// Finds ports that are free now; each test has a range of its own, so that they can run side by side.
fn range(first: u16, pairs: u16, sessions: usize) -> PortRange {
    PortRange::new(first..=first + pairs * 2 - 1, sessions).unwrap()
}

fn offer(port: u16, lines: &str) -> Vec<u8> {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n{lines}"
    )
    .into_bytes()
}

fn port_of(description: &[u8]) -> u16 {
    Session::parse(description).unwrap().media[0].port
}

async fn echo_of(phone: &UdpSocket, port: u16, sequence_number: u16) -> Vec<u8> {
    let packet = Packet { marker: false, payload_type: 0, sequence_number, timestamp: 0, ssrc: 9, payload: b"tone" };
    phone.send_to(&packet.to_bytes(), (LOOPBACK, port)).await.unwrap();
    let mut buffer = [0; 1500];
    let (len, _) = timeout(PATIENCE, phone.recv_from(&mut buffer)).await.expect("an echo").unwrap();
    Packet::parse(&buffer[..len]).unwrap().payload.to_vec()
}

#[test]
fn a_range_gives_even_ports_in_turn_and_takes_them_back() {
    let ports = range(42_000, 4, 4);
    let first = ports.bind(LOOPBACK).unwrap();
    let second = ports.bind(LOOPBACK).unwrap();
    assert_eq!(first.port % 2, 0);
    assert_ne!(first.port, second.port);
    assert_eq!(first.rtcp.local_addr().unwrap().port(), first.port + 1);
    drop(first);
    let third = ports.bind(LOOPBACK).unwrap();
    assert_ne!(third.port, second.port);
}

#[test]
fn no_more_sessions_run_than_allowed() {
    let ports = range(42_020, 8, 1);
    let held = ports.bind(LOOPBACK).unwrap();
    let refused = ports.bind(LOOPBACK).unwrap_err();
    assert!(matches!(refused, MediaError::TooManySessions));
    assert_eq!(refused.status(), 503);
    drop(held);
    assert!(ports.bind(LOOPBACK).is_ok());
}

#[test]
fn a_port_that_somebody_else_has_is_passed_over() {
    let ports = range(42_040, 2, 2);
    let taken = StdUdpSocket::bind((LOOPBACK, 42_041)).unwrap();
    assert_eq!(ports.bind(LOOPBACK).unwrap().port, 42_042);
    let other = StdUdpSocket::bind((LOOPBACK, 42_042)).unwrap();
    assert!(matches!(ports.bind(LOOPBACK), Err(MediaError::NoPort(Some(_)))));
    drop((taken, other));
    assert!(ports.bind(LOOPBACK).is_ok());
}

#[test]
fn a_range_without_a_pair_is_refused() {
    for empty in [5..=5, 5..=6, 65_535..=65_535, 0..=1] {
        assert!(matches!(PortRange::new(empty, 1), Err(MediaError::EmptyRange)));
    }
    assert!(PortRange::new(65_534..=65_535, 1).is_ok());
}

#[tokio::test]
async fn a_phone_hears_itself() {
    let phone = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let ports = range(42_060, 4, 4);
    let offer = offer(phone.local_addr().unwrap().port(), "");
    let session = EchoSession::start(&ports, LOOPBACK, LOOPBACK, Some(&offer), LOOPBACK).unwrap();
    let port = port_of(&session.answer);
    assert_eq!(echo_of(&phone, port, 1).await, b"tone");
    assert!(!session.has_ended());
}

#[tokio::test]
async fn a_late_offer_is_made_and_its_answer_taken() {
    let phone = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let ports = range(42_080, 4, 4);
    let mut session = EchoSession::start(&ports, LOOPBACK, LOOPBACK, None, LOOPBACK).unwrap();
    let port = port_of(&session.answer);
    session.accept_answer(&offer(phone.local_addr().unwrap().port(), "")).unwrap();
    assert_eq!(echo_of(&phone, port, 1).await, b"tone");
}

#[tokio::test]
async fn a_reinvite_holds_and_resumes_the_same_session() {
    let phone = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let phone_port = phone.local_addr().unwrap().port();
    let ports = range(42_100, 4, 4);
    let mut session = EchoSession::start(&ports, LOOPBACK, LOOPBACK, Some(&offer(phone_port, "")), LOOPBACK).unwrap();
    let first = session.answer.clone();
    let port = port_of(&first);
    assert_eq!(session.update(&offer(phone_port, "")).unwrap(), first);
    let held = String::from_utf8(session.update(&offer(phone_port, "a=sendonly\r\n")).unwrap()).unwrap();
    assert!(held.ends_with("a=recvonly\r\n") && held.contains(" 2 IN IP4 "), "{held}");
    assert_eq!(port_of(held.as_bytes()), port);
    session.update(&offer(phone_port, "")).unwrap();
    assert_eq!(echo_of(&phone, port, 1).await, b"tone");
}

#[tokio::test]
async fn an_offer_that_cannot_be_taken_holds_no_port() {
    let ports = range(42_120, 1, 1);
    let secure = String::from_utf8(offer(4000, "")).unwrap().replace("RTP/AVP", "RTP/SAVP");
    let refused = EchoSession::start(&ports, LOOPBACK, LOOPBACK, Some(secure.as_bytes()), LOOPBACK).unwrap_err();
    assert!(matches!(refused, MediaError::Sdp(SdpError::NoAudio)));
    assert_eq!(refused.status(), 488);
    assert!(ports.bind(LOOPBACK).is_ok());
}

#[tokio::test]
async fn a_dropped_session_frees_its_ports() {
    let ports = range(42_140, 1, 1);
    let session = EchoSession::start(&ports, LOOPBACK, LOOPBACK, Some(&offer(4000, "")), LOOPBACK).unwrap();
    drop(session);
    let freed = async {
        while ports.bind(LOOPBACK).is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, freed).await.expect("the ports are free again");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_hears_nothing_says_that_it_ended() {
    let ports = range(42_160, 1, 1);
    let session = EchoSession::start(&ports, LOOPBACK, LOOPBACK, Some(&offer(4000, "")), LOOPBACK).unwrap();
    let mut ended = session.ended();
    timeout(2 * crate::echo::IDLE_LIMIT, ended.wait_for(|ended| *ended)).await.expect("an end").unwrap();
    assert!(session.has_ended());
}

#[tokio::test]
async fn two_phones_hear_each_other_through_an_anchored_call_and_its_end_frees_the_ports() {
    let (alice, bob) = (UdpSocket::bind((LOOPBACK, 0)).await.unwrap(), UdpSocket::bind((LOOPBACK, 0)).await.unwrap());
    let port = |phone: &UdpSocket| phone.local_addr().unwrap().port();
    let ports = range(42_180, 2, 2);
    let place = Place { local: LOOPBACK, signalling: Some(LOOPBACK) };
    let mut call = AnchoredCall::new(&ports, place, place, Profile::Optional, None);
    let offered = call.offer(End::Near, &offer(port(&alice), "")).unwrap();
    let answered = call.answer(End::Far, &offer(port(&bob), "")).unwrap();
    for (speaker, listener, node) in [(&alice, &bob, port_of(&answered)), (&bob, &alice, port_of(&offered))] {
        let packet =
            Packet { marker: false, payload_type: 0, sequence_number: 1, timestamp: 0, ssrc: 9, payload: b"tone" };
        speaker.send_to(&packet.to_bytes(), (LOOPBACK, node)).await.unwrap();
        let mut buffer = [0; 1500];
        let (len, _) = timeout(PATIENCE, listener.recv_from(&mut buffer)).await.expect("a packet").unwrap();
        assert_eq!(buffer[..len], packet.to_bytes());
    }
    assert_eq!((call.quality(End::Near).received, call.quality(End::Far).received), (1, 1));
    assert!(matches!(ports.bind(LOOPBACK), Err(MediaError::TooManySessions)));
    drop(call);
    let freed = async {
        while ports.bind(LOOPBACK).is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, freed).await.expect("the ports are free again");
}

#[tokio::test(start_paused = true)]
async fn an_anchored_call_of_which_nothing_is_heard_says_that_it_ended() {
    let ports = range(42_200, 2, 2);
    let place = Place { local: LOOPBACK, signalling: None };
    let mut call = AnchoredCall::new(&ports, place, place, Profile::Optional, None);
    call.offer(End::Near, &offer(4000, "")).unwrap();
    call.answer(End::Far, &offer(5000, "")).unwrap();
    let ended = async {
        while !call.has_ended() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(2 * crate::relay::IDLE_LIMIT, ended).await.expect("an end");
}

/// A link that hands what is sent to the other node's table at once, as if it came from this neighbour.
#[derive(Debug)]
struct Wire {
    to: Arc<Between>,
    own: NeighbourId,
    other: NeighbourId,
}

impl Link for Wire {
    fn neighbour(&self) -> NeighbourId {
        self.other
    }

    fn max_datagram_len(&self) -> Option<usize> {
        Some(1000)
    }

    fn send(&self, datagram: Vec<u8>) {
        self.to.handle_datagram(self.own, &datagram);
    }
}

#[tokio::test]
async fn two_phones_hear_each_other_through_two_nodes_by_flows_that_no_other_neighbour_is_heard_by() {
    let (alice, bob) = (UdpSocket::bind((LOOPBACK, 0)).await.unwrap(), UdpSocket::bind((LOOPBACK, 0)).await.unwrap());
    let port = |phone: &UdpSocket| phone.local_addr().unwrap().port();
    // One pair each: for the phone.
    let ranges = [range(42_220, 1, 1), range(42_222, 1, 1)];
    let place = Place { local: LOOPBACK, signalling: Some(LOOPBACK) };
    let nodes = [Between::new(), Between::new()];
    let ids = [[1; 32], [2; 32]];
    let mut calls = ranges.each_ref().map(|range| AnchoredCall::new(range, place, place, Profile::Optional, None));
    let [one, two] = &mut calls;
    let wire = |to: usize| Arc::new(Wire { to: Arc::clone(&nodes[to]), own: ids[1 - to], other: ids[to] });
    one.use_link(End::Far, &nodes[0], wire(1));
    two.use_link(End::Near, &nodes[1], wire(0));
    let between = one.offer(End::Near, &offer(port(&alice), "")).unwrap();
    let text = String::from_utf8(between.clone()).unwrap();
    assert!(text.contains("m=audio 9 QUIC/RTP/AVPF 0\r\n") && text.contains("\r\na=roq-flow-id:"), "{text}");
    let flow = text.rsplit_once("a=roq-flow-id:").and_then(|(_, rest)| rest.split("\r\n").next()).unwrap();
    let flow = crate::roq::parse_flow(flow).unwrap();
    // It has a call of its own with the first node.
    let mut mallorys = AnchoredCall::new(&range(42_224, 1, 1), place, place, Profile::Optional, None);
    mallorys.use_link(End::Far, &nodes[0], Arc::new(Wire { to: Arc::clone(&nodes[1]), own: ids[0], other: [3; 32] }));
    mallorys.offer(End::Near, &offer(4000, "")).unwrap();
    let offered = two.offer(End::Near, &between).unwrap();
    let back = two.answer(End::Far, &offer(port(&bob), "")).unwrap();
    let answered = one.answer(End::Far, &back).unwrap();
    assert_eq!((nodes[0].flows(), nodes[1].flows()), (2, 1));
    for (speaker, listener, node) in [(&alice, &bob, port_of(&answered)), (&bob, &alice, port_of(&offered))] {
        // The larger one is more than a datagram takes.
        for payload in [&[7_u8; 160][..], &[8; 1400]] {
            let packet = Packet { marker: false, payload_type: 0, sequence_number: 1, timestamp: 0, ssrc: 9, payload };
            // Another neighbour names the same flow before the phone is heard, and is not.
            let forged = Packet { payload: b"noise", ssrc: 66, ..packet };
            for datagram in crate::roq::pieces(flow, 0, &forged.to_bytes(), 1000) {
                nodes[0].handle_datagram([3; 32], &datagram);
            }
            speaker.send_to(&packet.to_bytes(), (LOOPBACK, node)).await.unwrap();
            let mut buffer = [0; 1500];
            let (len, _) = timeout(PATIENCE, listener.recv_from(&mut buffer)).await.expect("a packet").unwrap();
            assert_eq!(buffer[..len], packet.to_bytes());
        }
    }
    assert_eq!(nodes[0].dropped().foreign, 4);
    assert_eq!(calls[0].quality(End::Far).received, 2, "what comes over the link is judged like what a phone sends");
    drop((calls, mallorys));
    assert_eq!((nodes[0].flows(), nodes[1].flows()), (0, 0));
}
