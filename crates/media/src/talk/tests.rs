//! What is said and heard, in virtual time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use super::*;
use crate::sdp::Direction;

const MS: Duration = Duration::from_millis(1);
const BOB: &str = "192.0.2.6:5000";

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn agreement(payload_type: u8) -> Agreement {
    Agreement {
        remote_address: Some(at(BOB).ip()),
        remote_port: at(BOB).port(),
        payload_type,
        clock_rate: 8000,
        event_payload_type: None,
        direction: Direction::SendRecv,
    }
}

fn talk(now: Instant, payload_type: u8, samples: Vec<i16>) -> Talk {
    let numbers = Start { ssrc: 7, sequence_number: 65_535, timestamp: u32::MAX };
    Talk::new(now, agreement(payload_type), Player::new(samples), numbers).unwrap()
}

fn packet(sequence_number: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let timestamp = u32::from(sequence_number) * 160;
    Packet { marker: false, payload_type: 8, sequence_number, timestamp, ssrc, payload }.to_bytes()
}

#[test]
fn a_packet_is_sent_each_20_ms_and_what_was_slept_through_is_left_out() {
    let now = Instant::now();
    let mut talk = talk(now, 0, vec![1000; 320]);
    let mut sent = Vec::new();
    for step in 0..5 {
        talk.handle_timeout(now + step * 20 * MS);
        sent.extend(std::iter::from_fn(|| talk.poll_transmit()));
    }
    assert_eq!(sent.len(), 5);
    let packets: Vec<Packet<'_>> = sent.iter().map(|sent| Packet::parse(&sent.packet).unwrap()).collect();
    assert!(sent.iter().all(|sent| sent.destination == at(BOB)));
    assert_eq!(packets.iter().map(|packet| packet.sequence_number).collect::<Vec<_>>(), [65_535, 0, 1, 2, 3]);
    assert_eq!(packets[1].timestamp, 159);
    assert_eq!(packets.iter().map(|packet| packet.marker).collect::<Vec<_>>(), [true, false, false, false, false]);
    assert!((g711::from_ulaw(packets[1].payload[159]) - 1000).abs() < 30 && packets[2].payload[0] == 0xff);
    assert!(talk.is_played());
    talk.handle_timeout(now + 10_000 * MS);
    assert_eq!(std::iter::from_fn(|| talk.poll_transmit()).count(), 1);
}

#[test]
fn the_other_side_is_heard_and_strangers_are_not() {
    let now = Instant::now();
    let mut talk = talk(now, 8, Vec::new());
    talk.record(Player::new(Vec::new()));
    let tone = [g711::to_alaw(5000); 160];
    talk.handle_input(now, at("203.0.113.66:5000"), &packet(1, 66, &[0; 160]));
    talk.handle_input(now, at("192.0.2.6:5002"), &packet(1, 8, &tone));
    talk.handle_input(now, at(BOB), &packet(2, 66, &[0; 160]));
    talk.handle_input(now, at("192.0.2.6:5002"), &packet(2, 66, &[0; 160]));
    talk.handle_input(now, at("192.0.2.6:5002"), &packet(3, 8, &tone));
    let heard = talk.recorded();
    assert_eq!(heard.len(), 480);
    assert!((heard[0] - 5000).abs() < 150 && heard[200] == 0 && heard[0] == heard[479]);
    talk.handle_timeout(now);
    assert_eq!(talk.poll_transmit().unwrap().destination, at("192.0.2.6:5002"), "it is spoken to where it speaks from");
}

#[test]
fn who_is_on_hold_is_not_spoken_to_and_what_cannot_be_spoken_is_refused() {
    let now = Instant::now();
    let mut talk = talk(now, 0, vec![1; 160]);
    talk.handle_agreement(Agreement { direction: Direction::RecvOnly, ..agreement(0) }).unwrap();
    talk.handle_timeout(now);
    assert_eq!(talk.poll_transmit(), None);
    assert!(!talk.is_played(), "nothing of it is lost");
    assert_eq!(talk.handle_agreement(agreement(18)), Err(SdpError::NoAudio));
}

#[test]
fn nothing_is_recorded_before_that_was_said_and_who_is_recorded_is_reminded() {
    let now = Instant::now();
    let mut talk = talk(now, 8, vec![77; 8000 * 60]);
    let hear = |talk: &mut Talk, number: u16| {
        talk.handle_input(now + u32::from(number) * 20 * MS, at(BOB), &packet(number, 8, &[g711::to_alaw(5000); 160]));
    };
    hear(&mut talk, 0);
    assert_eq!((talk.recorded().len(), talk.heard_for()), (0, 20 * MS));
    talk.record(Player::new(vec![3000; 320]));
    let mut said = Vec::new();
    for number in 1..=1000_u16 {
        hear(&mut talk, number);
        talk.handle_timeout(now + u32::from(number) * 20 * MS);
        while let Some(sent) = talk.poll_transmit() {
            said.push(g711::from_alaw(Packet::parse(&sent.packet).unwrap().payload[1]));
        }
    }
    let recorded = talk.recorded().len();
    assert!((997 * 160..=999 * 160).contains(&recorded), "{recorded}");
    assert!(said[..2].iter().all(|sample| (sample - 3000).abs() < 100), "{said:?}");
    let others = said.iter().skip(2).filter(|sample| (**sample - 77).abs() > 20).count();
    assert_eq!(others, 10, "a beep of a fifth of a second in 20 s");
}

#[test]
fn each_side_is_told_how_it_arrives_and_the_round_trip_is_known() {
    let now = Instant::now();
    let mut talk = talk(now, 8, vec![0; 8000]);
    for number in (0..300_u16).filter(|number| number % 10 != 3) {
        talk.handle_input(now + u32::from(number) * 20 * MS, at(BOB), &packet(number, 8, &[0; 160]));
    }
    let later = now + 5000 * MS;
    talk.handle_timeout(later);
    let report = talk.poll_report().unwrap();
    assert_eq!(report.destination, at("192.0.2.6:5001"));
    let said = rtcp::reports(&report.packet).unwrap();
    let block = said.iter().find_map(|report| match report {
        Report::Receiver(block) => Some(*block),
        Report::Sender { .. } | Report::Voip(_) => None,
    });
    assert!((23..=28).contains(&block.unwrap().fraction_lost), "{said:?}");
    let Report::Sender { sent } = said[0] else { panic!("{said:?}") };
    // Its answer, held for a second and 60 ms under way; and a stranger's.
    let reply = |ssrc: u32, fraction: u8| {
        let fields = [ssrc, u32::from(fraction) << 24, 0, 0, sent, 65_536].map(u32::to_be_bytes).concat();
        [&[0x81, 201, 0, 7, 0, 0, 0, 8][..], &fields].concat()
    };
    talk.handle_report(later + 900 * MS, at("203.0.113.66:5001"), &reply(7, 255));
    assert_eq!(talk.hears().unwrap().round_trip, None);
    talk.handle_report(later + 1060 * MS, at("192.0.2.6:5001"), &reply(7, 255));
    let heard = talk.hears().unwrap();
    assert_eq!(heard.round_trip, Some(60 * MS));
    assert!((heard.loss - 0.1).abs() < 0.01, "what it hears is not what we hear: {heard:?}");
}
