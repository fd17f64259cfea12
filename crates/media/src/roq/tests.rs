//! Tests of datagrams and flows, in virtual time.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::*;
use crate::relay::MAX_DATAGRAM_LEN;

const LONGEST: usize = 1200;

fn whole(flow: u64, packet: &[u8]) -> Vec<u8> {
    pieces(flow, 0, packet, LONGEST).remove(0)
}

#[test]
fn flow_ids_of_every_length_are_written_as_quic_integers_and_read_back() {
    // RFC 9000 §A.1 has these examples: 0x9d7f3e7d is 494878333, 0x7bbd is 15293.
    for (flow, len) in [(0, 1), (60, 1), (64, 2), (15_292, 2), (16_384, 4), (494_878_332, 4), (1 << 30, 8)] {
        let datagram = whole(flow, b"packet");
        assert_eq!(datagram.len(), len + 6, "{flow}");
        assert_eq!(Framed::parse(&datagram), Some(Framed { flow, piece: Piece::Whole(b"packet") }));
    }
    assert!(pieces(4, 0, b"", LONGEST).is_empty());
    assert_eq!(whole(15_292, b"x"), [0x7b, 0xbc, b'x']);
}

#[test]
fn what_is_no_datagram_of_ours_is_not_read() {
    for datagram in [&b""[..], b"\x04", b"\x40", b"\xc0\0\0\0\0\0\0", b"\x05\x01", b"\x07\x01x", b"\x06"] {
        assert_eq!(Framed::parse(datagram), None, "{datagram:?}");
    }
    for text in ["", "-4", "+4", "3", "4611686018427387904", "99999999999999999999", "4 "] {
        assert_eq!(parse_flow(text), None, "{text}");
    }
    assert_eq!(parse_flow("4611686018427387900"), Some(MAX_FLOW - 3));
}

#[test]
fn a_packet_that_no_datagram_takes_comes_in_two_halves_in_either_order() {
    let packet: Vec<u8> = (0..=255).cycle().take(MAX_DATAGRAM_LEN).collect();
    for reversed in [false, true] {
        let mut halves = pieces(1 << 20, 7, &packet, LONGEST);
        assert_eq!(halves.len(), 2);
        if reversed {
            halves.reverse();
        }
        let mut joiner = Joiner::default();
        let mut joined = halves.iter().map(|half| joiner.take(Framed::parse(half).unwrap().piece, MAX_DATAGRAM_LEN));
        assert_eq!(joined.next(), Some(None));
        assert_eq!(joined.next(), Some(Some(packet.clone())));
    }
    assert!(pieces(0, 0, &packet, 700).is_empty(), "two do not take it");
    assert!(pieces(2, 0, &packet, LONGEST).is_empty(), "no stream has such a flow");
}

#[test]
fn halves_of_different_packets_are_never_joined_and_few_wait() {
    let mut joiner = Joiner::default();
    for number in 0..=255 {
        assert_eq!(joiner.take(Piece::First(number, b"a"), MAX_DATAGRAM_LEN), None);
    }
    assert_eq!(joiner.take(Piece::Second(100, b"b"), MAX_DATAGRAM_LEN), None, "its other half was given up");
    assert_eq!(joiner.take(Piece::Second(255, b"b"), MAX_DATAGRAM_LEN), Some(b"ab".to_vec()));
    let long = vec![0; MAX_DATAGRAM_LEN];
    assert_eq!(joiner.take(Piece::First(1, &long), MAX_DATAGRAM_LEN), None);
    assert_eq!(joiner.take(Piece::Second(1, &long), MAX_DATAGRAM_LEN), None, "together they are too long");
}

#[test]
fn a_flow_is_one_neighbours_and_what_others_send_by_it_is_dropped_and_counted() {
    let now = Instant::now();
    let mut flows = Flows::new(1000);
    let (bobs, mallorys) = (flows.open(now, "bob", 1).unwrap(), flows.open(now, "mallory", 2).unwrap());
    assert_ne!(bobs, mallorys);
    assert_eq!(flows.handle_datagram(now, "bob", &whole(bobs, b"tone")), Some((1, b"tone".to_vec())));
    assert_eq!(flows.handle_datagram(now, "mallory", &whole(bobs, b"noise")), None);
    assert_eq!(flows.handle_datagram(now, "stranger", &whole(bobs, b"noise")), None);
    assert_eq!(flows.handle_datagram(now, "bob", &whole(bobs + 400, b"late")), None);
    assert_eq!(flows.handle_datagram(now, "bob", b"\xc0"), None);
    flows.close(bobs);
    assert_eq!(flows.handle_datagram(now, "bob", &whole(bobs, b"late")), None);
    assert_eq!(flows.dropped(), Dropped { unknown: 3, foreign: 1, excess: 0, malformed: 1 });
    flows.close(bobs);
    assert_eq!(flows.len(), 1);
}

#[test]
fn a_neighbour_that_sends_more_than_its_share_loses_its_own_sound_alone() {
    let mut now = Instant::now();
    let mut flows = Flows::new(0);
    let (bobs, mallorys) = (flows.open(now, "bob", 1).unwrap(), flows.open(now, "mallory", 2).unwrap());
    let taken =
        |flows: &mut Flows<&str, i32>, now, from, flow| flows.handle_datagram(now, from, &whole(flow, b"x")).is_some();
    for _ in 0..DATAGRAMS_PER_FLOW {
        assert!(taken(&mut flows, now, "mallory", mallorys));
    }
    assert!(!taken(&mut flows, now, "mallory", mallorys));
    assert!(taken(&mut flows, now, "bob", bobs));
    now += Duration::from_secs(1);
    assert!(taken(&mut flows, now, "mallory", mallorys), "a second later it has its share again");
    assert_eq!(flows.dropped().excess, 1);
}

#[test]
fn a_link_has_so_many_flows_and_what_is_closed_makes_room() {
    let now = Instant::now();
    let mut flows = Flows::new(u32::MAX);
    let opened: Vec<u64> = (0..MAX_FLOWS_PER_LINK).map(|_| flows.open(now, 1, ()).unwrap()).collect();
    assert_eq!(flows.open(now, 1, ()), Err(Refused));
    assert!(flows.open(now, 2, ()).is_ok());
    flows.close(opened[0]);
    assert_ne!(flows.open(now, 1, ()).unwrap(), opened[0], "ids are used in turn");
}
