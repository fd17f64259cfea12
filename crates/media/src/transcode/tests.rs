//! Tones through every pair of codecs, with losses, disorder and digits, in virtual time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use super::*;

const ALL: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];
const START: Start = Start { ssrc: 77, sequence_number: 65_530, timestamp: u32::MAX - 4000 };
const HZ: f32 = 500.0;

fn speech(codec: Codec) -> Speech {
    let payload_type = match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        Codec::G722 => 9,
        Codec::Opus | Codec::G729 | Codec::G723 | Codec::Gsm => 96,
    };
    Speech { codec, payload_type, events: Some((101, codec.clock_rate())) }
}

/// Two seconds of a tone in packets of this codec.
fn tone(codec: Codec) -> Vec<Vec<u8>> {
    let rate = if matches!(codec, Codec::Pcmu | Codec::Pcma) { 8000 } else { 16_000 };
    let step = std::f32::consts::TAU * HZ / rate as f32;
    let sound: Vec<i16> = (0..rate * 2).map(|n| ((n as f32 * step).sin() * 8000.0) as i16).collect();
    let mut encoder = Encoder::new(codec, rate).unwrap();
    let frames = sound.chunks_exact(rate as usize / 50).enumerate();
    let packets = frames.map(|(number, frame)| {
        let payload = encoder.encode(frame).unwrap();
        let (number, ticks) = (u16::try_from(number).unwrap(), codec.clock_rate() / 50);
        let (payload_type, timestamp) = (speech(codec).payload_type, u32::from(number) * ticks);
        Packet { marker: false, payload_type, sequence_number: number, timestamp, ssrc: 5, payload: &payload }
            .to_bytes()
    });
    packets.collect()
}

/// What is heard of packets, and whether the tone is in it: its share of the power.
fn heard(codec: Codec, packets: &[Vec<u8>]) -> (Vec<i16>, f32) {
    let rate = if matches!(codec, Codec::Pcmu | Codec::Pcma) { 8000 } else { 16_000 };
    let mut decoder = Decoder::new(codec, rate).unwrap();
    let sound: Vec<i16> =
        packets.iter().flat_map(|packet| decoder.decode(Packet::parse(packet).unwrap().payload)).collect();
    let step = std::f32::consts::TAU * HZ / rate as f32;
    let part = |shift: f32| -> f32 {
        sound.iter().enumerate().map(|(n, sample)| f32::from(*sample) * (n as f32 * step + shift).sin()).sum()
    };
    let tone = (part(0.0).powi(2) + part(std::f32::consts::FRAC_PI_2).powi(2)) * 2.0 / sound.len() as f32;
    let power: f32 = sound.iter().map(|sample| f32::from(*sample).powi(2)).sum();
    let share = tone / power.max(1.0);
    (sound, share)
}

fn convert(transcoder: &mut Transcoder, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let now = Instant::now();
    let at = |number: usize| now + Duration::from_millis(20) * u32::try_from(number).unwrap();
    packets.iter().enumerate().flat_map(|(number, packet)| transcoder.convert(at(number), packet)).collect()
}

#[test]
fn a_tone_passes_from_every_codec_to_every_other() {
    for from in ALL {
        for to in ALL.into_iter().filter(|to| *to != from) {
            let mut transcoder = Transcoder::new(speech(from), speech(to), START).unwrap();
            let left = convert(&mut transcoder, &tone(from));
            assert!((97..=100).contains(&left.len()), "{from:?} to {to:?}: {}", left.len());
            let (_, share) = heard(to, &left);
            assert!(share > 0.9, "{from:?} to {to:?}: {share}");
            let packets: Vec<Packet<'_>> = left.iter().map(|packet| Packet::parse(packet).unwrap()).collect();
            for (one, other) in packets.iter().zip(packets.iter().skip(1)) {
                assert_eq!(other.sequence_number, one.sequence_number.wrapping_add(1));
                assert_eq!(other.timestamp, one.timestamp.wrapping_add(to.clock_rate() / 50));
                assert_eq!((other.ssrc, other.payload_type), (77, speech(to).payload_type));
            }
        }
    }
}

#[test]
fn what_is_lost_is_concealed_and_what_is_out_of_order_is_not_lost() {
    for (from, to) in [(Codec::Pcmu, Codec::Opus), (Codec::Opus, Codec::Pcma), (Codec::G722, Codec::Pcmu)] {
        let mut packets = tone(from);
        for pair in packets.chunks_exact_mut(7) {
            pair.swap(2, 3);
        }
        // Every twentieth is lost.
        let packets: Vec<Vec<u8>> =
            packets.into_iter().enumerate().filter(|(n, _)| n % 20 != 11).map(|(_, packet)| packet).collect();
        let mut transcoder = Transcoder::new(speech(from), speech(to), START).unwrap();
        let left = convert(&mut transcoder, &packets);
        assert!((96..=100).contains(&left.len()), "{from:?} to {to:?}: {}", left.len());
        let (_, share) = heard(to, &left);
        assert!(share > 0.75, "{from:?} to {to:?}: {share}");
    }
}

#[test]
fn digits_pass_with_the_receivers_clock() {
    let mut transcoder = Transcoder::new(speech(Codec::Pcmu), speech(Codec::Opus), START).unwrap();
    let mut packets = tone(Codec::Pcmu);
    packets.truncate(10);
    let digit = |number: u16, end: u8, duration: u16| {
        let [high, low] = duration.to_be_bytes();
        let payload = [5, end << 7 | 10, high, low];
        Packet {
            marker: number == 10,
            payload_type: 101,
            sequence_number: number,
            timestamp: 1600,
            ssrc: 5,
            payload: &payload,
        }
        .to_bytes()
    };
    packets.extend([digit(10, 0, 160), digit(11, 0, 320), digit(12, 1, 480), digit(13, 1, 60_000)]);
    let left = convert(&mut transcoder, &packets);
    let digits: Vec<Packet<'_>> =
        left.iter().map(|packet| Packet::parse(packet).unwrap()).filter(|packet| packet.payload_type == 101).collect();
    assert_eq!(digits.len(), 4);
    assert!(digits.iter().all(|packet| packet.timestamp == digits[0].timestamp && packet.payload[0] == 5));
    let durations: Vec<u16> =
        digits.iter().map(|packet| u16::from_be_bytes([packet.payload[2], packet.payload[3]])).collect();
    assert_eq!(durations, [960, 1920, 2880, u16::MAX], "six times as many ticks, as far as there is room");
    assert_eq!(digits.iter().map(|packet| packet.payload[1] >> 7).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert_eq!(digits.iter().map(|packet| packet.marker).collect::<Vec<_>>(), [true, false, false, false]);
}

#[test]
fn a_pause_of_the_senders_is_one_here_and_a_flood_is_not_converted() {
    let mut transcoder = Transcoder::new(speech(Codec::Pcmu), speech(Codec::Opus), START).unwrap();
    let packets = tone(Codec::Pcmu);
    let now = Instant::now();
    let first = transcoder.convert(now, &packets[0]).pop().unwrap();
    let later = Packet { timestamp: 80_000, sequence_number: 1, ..Packet::parse(&packets[1]).unwrap() }.to_bytes();
    let second = transcoder.convert(now, &later).pop().unwrap();
    let passed = Packet::parse(&second).unwrap().timestamp.wrapping_sub(Packet::parse(&first).unwrap().timestamp);
    assert_eq!((passed, Packet::parse(&second).unwrap().marker), (480_000, true));

    let flood = (2..3000).flat_map(|number| {
        let packet = Packet::parse(&packets[0]).unwrap();
        let (sequence_number, timestamp) = (number, 80_000 + u32::from(number) * 160);
        transcoder.convert(now, &Packet { sequence_number, timestamp, ..packet }.to_bytes())
    });
    assert!(flood.count() <= 75, "a second and a half of sound in a second");
}
