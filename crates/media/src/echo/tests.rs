//! Tests of the echo, in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use super::*;
use crate::sdp::Direction;

const START: Start = Start { ssrc: 0x1234_5678, sequence_number: 65_534, timestamp: u32::MAX - 100 };
const MS: Duration = Duration::from_millis(1);

fn agreement() -> Agreement {
    Agreement {
        remote_address: Some("10.0.0.5".parse().unwrap()),
        remote_port: 4000,
        payload_type: 0,
        clock_rate: 8000,
        event_payload_type: Some(101),
        direction: Direction::SendRecv,
    }
}

/// A call whose description names 10.0.0.5:4000 and whose signalling came from 192.0.2.9.
fn call() -> (Instant, Echo) {
    call_with(agreement())
}

fn call_with(agreement: Agreement) -> (Instant, Echo) {
    let now = Instant::now();
    (now, Echo::new(now, agreement, "192.0.2.9".parse().unwrap(), START))
}

fn packet(sequence_number: u16, ssrc: u32) -> Vec<u8> {
    let timestamp = u32::from(sequence_number) * 160;
    Packet { marker: sequence_number == 1, payload_type: 0, sequence_number, timestamp, ssrc, payload: b"tone" }
        .to_bytes()
}

fn source(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Hands a packet in and returns where it went, with sequence number and timestamp.
fn echoed(echo: &mut Echo, now: Instant, from: &str, datagram: &[u8]) -> Option<(SocketAddr, u16, u32)> {
    echo.handle_input(now, source(from), datagram);
    let transmit = echo.poll_transmit()?;
    assert!(echo.poll_transmit().is_none());
    let packet = Packet::parse(&transmit.packet).unwrap();
    assert_eq!(packet.ssrc, START.ssrc);
    Some((transmit.destination, packet.sequence_number, packet.timestamp))
}

#[test]
fn audio_goes_back_under_our_own_numbers() {
    let (now, mut echo) = call();
    echo.handle_input(now, source("10.0.0.5:4000"), &packet(1, 7));
    let transmit = echo.poll_transmit().unwrap();
    let back = Packet::parse(&transmit.packet).unwrap();
    assert_eq!(transmit.destination, source("10.0.0.5:4000"));
    assert_eq!((back.payload, back.payload_type, back.marker), (b"tone".as_slice(), 0, true));
    assert_eq!((back.sequence_number, back.timestamp), (START.sequence_number, START.timestamp));
    let next = echoed(&mut echo, now + 20 * MS, "10.0.0.5:4000", &packet(2, 7)).unwrap();
    assert_eq!((next.1, next.2), (65_535, START.timestamp.wrapping_add(160)));
}

#[test]
fn losses_and_order_stay_visible() {
    let (now, mut echo) = call();
    let numbers: Vec<u16> = [10, 12, 11, 15]
        .into_iter()
        .map(|number| echoed(&mut echo, now, "10.0.0.5:4000", &packet(number, 7)).unwrap().1)
        .collect();
    assert_eq!(numbers, [65_534, 0, 65_535, 3]);
}

#[test]
fn nothing_is_sent_before_somebody_spoke() {
    let (now, mut echo) = call();
    echo.handle_timeout(now + Duration::from_secs(30));
    assert_eq!(echo.poll_transmit(), None);
}

#[test]
fn audio_behind_nat_is_learned_from_the_signalling_source() {
    let (now, mut echo) = call();
    let back = echoed(&mut echo, now, "192.0.2.9:61000", &packet(1, 7)).unwrap();
    assert_eq!(back.0, source("192.0.2.9:61000"));
}

#[test]
fn strangers_are_never_heard() {
    let (now, mut echo) = call();
    assert_eq!(echoed(&mut echo, now, "203.0.113.66:4000", &packet(1, 7)), None);
    assert!(echoed(&mut echo, now, "10.0.0.5:4000", &packet(1, 7)).is_some());
    // Neither after the caller was learned, though from an address that could have been his, nor with his own SSRC.
    for stranger in ["203.0.113.66:4000", "10.0.0.5:4002", "192.0.2.9:4000"] {
        assert_eq!(echoed(&mut echo, now + 2000 * MS, stranger, &packet(2, 7)), None, "{stranger}");
    }
    assert!(echoed(&mut echo, now + 2000 * MS, "10.0.0.5:4000", &packet(2, 7)).is_some());
}

#[test]
fn another_source_is_taken_only_after_silence() {
    let (now, mut echo) = call();
    assert!(echoed(&mut echo, now, "10.0.0.5:4000", &packet(1, 7)).is_some());
    assert_eq!(echoed(&mut echo, now + 20 * MS, "10.0.0.5:4000", &packet(900, 8)), None);
    let first = echoed(&mut echo, now + 40 * MS, "10.0.0.5:4000", &packet(2, 7)).unwrap();
    let changed = echoed(&mut echo, now + 1040 * MS, "10.0.0.5:4000", &packet(900, 8)).unwrap();
    assert_eq!(changed.1, first.1.wrapping_add(1));
    assert_eq!(changed.2, first.2.wrapping_add(8000));
    assert_eq!(echoed(&mut echo, now + 1060 * MS, "10.0.0.5:4000", &packet(3, 7)), None);
}

#[test]
fn what_was_not_agreed_upon_is_dropped() {
    let (now, mut echo) = call();
    let event = Packet { payload_type: 101, ..Packet::parse(&packet(1, 7)).unwrap() }.to_bytes();
    assert_eq!(echoed(&mut echo, now, "10.0.0.5:4000", b"not rtp at all"), None);
    let other = Packet { payload_type: 8, ..Packet::parse(&packet(1, 7)).unwrap() }.to_bytes();
    assert_eq!(echoed(&mut echo, now, "10.0.0.5:4000", &other), None);
    let long = Packet { payload: &[0; MAX_PACKET_LEN], ..Packet::parse(&packet(1, 7)).unwrap() }.to_bytes();
    assert_eq!(echoed(&mut echo, now, "10.0.0.5:4000", &long), None);
    assert!(echoed(&mut echo, now, "10.0.0.5:4000", &event).is_some());
}

#[test]
fn a_flood_is_sent_back_no_faster_than_the_bound() {
    let (now, mut echo) = call();
    let mut sent = 0;
    for number in 0..1000 {
        sent += u32::from(echoed(&mut echo, now, "10.0.0.5:4000", &packet(number, 7)).is_some());
    }
    assert_eq!(sent, MAX_PACKETS_PER_SECOND);
    assert!(echoed(&mut echo, now + 1000 * MS, "10.0.0.5:4000", &packet(1000, 7)).is_some());
}

#[test]
fn a_caller_on_hold_hears_nothing_and_may_be_silent() {
    let (now, mut echo) = call_with(Agreement { direction: Direction::RecvOnly, ..agreement() });
    assert_eq!(echoed(&mut echo, now, "10.0.0.5:4000", &packet(1, 7)), None);
    echo.handle_timeout(now + IDLE_LIMIT);
    assert_eq!(echo.poll_event(), None);
    assert_eq!(echo.poll_timeout(), Some((now + HOLD_LIMIT, TimerReason::Idle)));
}

#[test]
fn silence_ends_the_call_once() {
    let (now, mut echo) = call();
    assert!(echoed(&mut echo, now + 1000 * MS, "10.0.0.5:4000", &packet(1, 7)).is_some());
    echo.handle_timeout(now + IDLE_LIMIT);
    assert_eq!(echo.poll_event(), None);
    let (end, _) = echo.poll_timeout().unwrap();
    assert_eq!(end, now + 1000 * MS + IDLE_LIMIT);
    echo.handle_timeout(end);
    echo.handle_timeout(end);
    assert_eq!((echo.poll_event(), echo.poll_event(), echo.poll_timeout()), (Some(Event::Idle), None, None));
    assert_eq!(echoed(&mut echo, end, "10.0.0.5:4000", &packet(2, 7)), None);
}

#[test]
fn strangers_do_not_keep_a_call_alive() {
    let (now, mut echo) = call();
    echo.handle_input(now + 30_000 * MS, source("203.0.113.66:4000"), &packet(1, 7));
    assert_eq!(echo.poll_timeout(), Some((now + IDLE_LIMIT, TimerReason::Idle)));
}

#[test]
fn a_new_agreement_lets_the_caller_move() {
    let (now, mut echo) = call();
    let before = echoed(&mut echo, now, "10.0.0.5:4000", &packet(1, 7)).unwrap();
    let moved = Agreement { remote_address: Some("10.0.0.6".parse().unwrap()), ..agreement() };
    echo.handle_agreement(now, moved, "192.0.2.9".parse().unwrap());
    assert_eq!(echoed(&mut echo, now, "10.0.0.5:4000", &packet(2, 7)), None);
    let after = echoed(&mut echo, now, "10.0.0.6:5000", &packet(700, 9)).unwrap();
    assert_eq!((after.0, after.1), (source("10.0.0.6:5000"), before.1.wrapping_add(1)));
}

#[test]
fn an_address_in_its_ipv6_form_is_the_same_address() {
    let (now, mut echo) = call();
    assert!(echoed(&mut echo, now, "[::ffff:10.0.0.5]:4000", &packet(1, 7)).is_some());
}

#[test]
fn who_reports_is_told_how_he_arrives_and_strangers_are_not() {
    let (now, mut echo) = call();
    let report = [0x80, 201, 0, 1, 0, 0, 0, 7];
    echo.handle_report(now, source("10.0.0.5:4001"), &report);
    assert_eq!(echo.poll_report(), None, "nobody has spoken yet");
    for number in (0..100_u16).filter(|number| number % 4 != 1) {
        echo.handle_input(now + 20 * MS * u32::from(number), source("10.0.0.5:4000"), &packet(number, 7));
    }
    let now = now + 2000 * MS;
    for (from, datagram) in [("192.0.2.9:4001", &report[..]), ("10.0.0.5:4001", &[]), ("10.0.0.5:4001", b"nonsense")] {
        echo.handle_report(now, source(from), datagram);
        assert_eq!(echo.poll_report(), None, "{from}");
    }
    echo.handle_report(now, source("10.0.0.5:4001"), &report);
    assert_eq!(echo.poll_report(), None, "it says nothing of anybody");
    let sending = [&[0x80, 200, 0, 6, 0, 0, 0, 7][..], &[0; 20]].concat();
    for _ in 0..10 {
        echo.handle_report(now, source("10.0.0.5:4001"), &sending);
    }
    let reply = echo.poll_report().unwrap();
    assert_eq!((reply.destination, echo.poll_report()), (source("10.0.0.5:4001"), None), "once");
    let said = rtcp::reports(&reply.packet).unwrap();
    assert!(
        said.iter().any(|report| matches!(report, Report::Receiver(block) if (60..=68).contains(&block.fraction_lost))),
        "{said:?}"
    );
    assert!(said.iter().any(|report| matches!(report, Report::Voip(metrics) if metrics.mean_opinion.is_some())));
}
