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
    tone_of(codec, 2, 0)
}

/// So many seconds of it, coded as for a network that loses so much.
fn tone_of(codec: Codec, seconds: u32, loss_percent: u64) -> Vec<Vec<u8>> {
    let rate = if matches!(codec, Codec::Pcmu | Codec::Pcma) { 8000 } else { 16_000 };
    let step = std::f32::consts::TAU * HZ / rate as f32;
    let sound: Vec<i16> = (0..rate * seconds).map(|n| ((n as f32 * step).sin() * 8000.0) as i16).collect();
    let mut encoder = Encoder::new(codec, rate).unwrap();
    encoder.expect_loss(i32::try_from(loss_percent).unwrap());
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
    let share = share(codec, &sound);
    (sound, share)
}

/// The share of the tone in the power of a sound.
fn share(codec: Codec, sound: &[i16]) -> f32 {
    let rate = if matches!(codec, Codec::Pcmu | Codec::Pcma) { 8000 } else { 16_000 };
    let step = std::f32::consts::TAU * HZ / rate as f32;
    let part = |shift: f32| -> f32 {
        sound.iter().enumerate().map(|(n, sample)| f32::from(*sample) * (n as f32 * step + shift).sin()).sum()
    };
    let tone = (part(0.0).powi(2) + part(std::f32::consts::FRAC_PI_2).powi(2)) * 2.0 / sound.len() as f32;
    let power: f32 = sound.iter().map(|sample| f32::from(*sample).powi(2)).sum();
    tone / power.max(1.0)
}

/// Has packets arrive so many ms after the beginning; returns what leaves, and when.
fn convert_at(transcoder: &mut Transcoder, arrivals: &[(u64, &Vec<u8>)]) -> Vec<(u64, Vec<u8>)> {
    let start = Instant::now();
    let mut arrivals: Vec<_> = arrivals.to_vec();
    arrivals.sort_by_key(|(at, _)| *at);
    let mut left = Vec::new();
    let end = arrivals.last().map_or(0, |(at, _)| *at) + 200;
    let mut arrivals = arrivals.into_iter().peekable();
    for ms in 0..end {
        let now = start + Duration::from_millis(ms);
        while let Some((_, packet)) = arrivals.next_if(|(at, _)| *at <= ms) {
            left.extend(transcoder.handle_input(now, packet).map(|packet| (ms, packet)));
        }
        if transcoder.poll_timeout().is_some_and(|due| due <= now) {
            left.extend(transcoder.handle_timeout(now).into_iter().map(|packet| (ms, packet)));
        }
    }
    left
}

/// The same for packets that come every 20 ms, without what was made up behind their end.
fn convert(transcoder: &mut Transcoder, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let arrivals: Vec<(u64, &Vec<u8>)> = (0..).step_by(20).zip(packets).collect();
    let left = convert_at(transcoder, &arrivals).into_iter().map(|(_, packet)| packet);
    left.take(packets.len()).collect()
}

/// Marsaglia's xorshift: the same network in every run.
fn chance(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
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
        let packets = tone(from);
        // Every twentieth is lost, two of seven change places.
        let arrivals: Vec<(u64, &Vec<u8>)> = (0..)
            .zip(&packets)
            .filter(|(n, _)| n % 20 != 11)
            .map(|(n, packet)| (n * 20 + [0, 0, 25, 0, 0, 0, 0][usize::try_from(n % 7).unwrap()], packet))
            .collect();
        let mut transcoder = Transcoder::new(speech(from), speech(to), START).unwrap();
        let left: Vec<Vec<u8>> = convert_at(&mut transcoder, &arrivals).into_iter().map(|(_, packet)| packet).collect();
        assert!((96..=110).contains(&left.len()), "{from:?} to {to:?}: {}", left.len());
        let (_, share) = heard(to, &left[..left.len().min(97)]);
        assert!(share > 0.6, "{from:?} to {to:?}: {share}");
    }
}

/// How much of what is heard of a tone of ten seconds is that tone, in frames of 100 ms, and what left when.
fn through(seed: u64, (from, to): (Codec, Codec), loss_percent: u64, jitter_ms: u64) -> (f32, Vec<(u64, Vec<u8>)>) {
    let packets = tone_of(from, 10, loss_percent);
    let mut below = chance(seed);
    let arrivals: Vec<(u64, &Vec<u8>)> = (0..)
        .zip(&packets)
        .filter_map(|(number, packet)| {
            let late = below(jitter_ms + 1);
            (below(100) >= loss_percent).then_some((number * 20 + late, packet))
        })
        .collect();
    let mut transcoder = Transcoder::new(speech(from), speech(to), START).unwrap();
    let left = convert_at(&mut transcoder, &arrivals);
    let packets: Vec<Vec<u8>> = left.iter().map(|(_, packet)| packet.clone()).collect();
    let (sound, _) = heard(to, &packets);
    let frame = if matches!(to, Codec::Pcmu | Codec::Pcma) { 800 } else { 1600 };
    let frames: Vec<f32> = sound.chunks_exact(frame).take(98).map(|frame| share(to, frame)).collect();
    let fitting = frames.iter().filter(|share| **share > 0.7).count();
    (fitting as f32 / frames.len() as f32, left)
}

#[test]
fn a_tone_outlives_losses_and_jitter_in_every_conversion_and_what_leaves_is_even() {
    let mut found = Vec::new();
    for pair in [
        (Codec::Pcmu, Codec::Pcma),
        (Codec::Pcmu, Codec::Opus),
        (Codec::G722, Codec::Opus),
        (Codec::G722, Codec::Pcma),
        (Codec::Opus, Codec::Pcmu),
        (Codec::Opus, Codec::G722),
    ] {
        for seed in [20_261_201, 7, 99, 1000, 424_242] {
            let (quiet, _) = through(seed, pair, 0, 0);
            assert!(quiet > 0.99, "{pair:?}: {quiet}");
            let (share, left) = through(seed, pair, 5, 40);
            found.push((pair, seed, share));
            // Not twice as many as were spoken, nor gaps: a packet each 20 ms once it has begun, but for one that is left out or put in.
            let even = left.iter().zip(left.iter().skip(1)).filter(|((one, _), (other, _))| other - one == 20).count();
            assert!(even + 10 >= left.len() - 1, "{pair:?}, {seed}: {even} of {}", left.len());
            assert!((490..=515).contains(&left.len()), "{pair:?}: {}", left.len());
        }
    }
    assert!(found.iter().all(|(_, _, share)| *share >= 0.95), "{found:?}");
}

#[test]
fn what_opus_sends_twice_is_found_and_nothing_else_is() {
    // A buzz with harmonics, in bursts as in speech, so that the encoder takes it for a voice and repeats it.
    let sound: Vec<i16> =
        (0..16_000_i32 * 3).map(|n| ((n % 133 - 66) * 120 * i32::from(n / 4000 % 2 == 0)) as i16).collect();
    let packets = |loss: i32| -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(Codec::Opus, 16_000).unwrap();
        encoder.expect_loss(loss);
        sound.chunks_exact(320).map(|frame| encoder.encode(frame).unwrap()).collect()
    };
    let mut decoder = Decoder::new(Codec::Opus, 16_000).unwrap();
    let recovered = |decoder: &mut Decoder, packets: &[Vec<u8>]| {
        packets.iter().filter(|packet| decoder.recover(packet, 320).is_some_and(|sound| sound.len() == 320)).count()
    };
    assert!(recovered(&mut decoder, &packets(20)) > 10);
    assert_eq!(recovered(&mut decoder, &packets(0)), 0);
    for packet in [&[][..], &[0x48], &[0xff; 3], &[0x4b, 0xff, 0xff]] {
        assert_eq!(decoder.recover(packet, 320), None);
    }
    assert_eq!(Decoder::new(Codec::Pcmu, 8000).unwrap().recover(&[0xff; 160], 160), None);
}

#[test]
fn what_is_waited_for_follows_the_network_and_has_a_bound() {
    // As it is when a tick was played, which is one less than what was waited.
    let mut decoder = Decoder::new(Codec::Pcmu, 8000).unwrap();
    let mut delays = Vec::new();
    for jitter_ms in [0, 40, 400] {
        let mut below = chance(5);
        let mut buffer = Jitter::new(8000, 8000);
        let start = Instant::now();
        let mut arrivals: Vec<(u64, u16)> =
            (0..1000_u16).map(|number| (u64::from(number) * 20 + below(jitter_ms + 1), number)).collect();
        arrivals.sort_unstable();
        let mut arrivals = arrivals.into_iter().peekable();
        let (mut seen, mut sum) = (0, 0);
        for tick in 0..1000 {
            let now = start + Duration::from_millis(tick * 20);
            while let Some((at, number)) = arrivals.next_if(|(at, _)| *at <= tick * 20) {
                let at = start + Duration::from_millis(at);
                buffer.take(at, number, u32::from(number) * 160, &[0xff; 160]);
            }
            buffer.play(now, 160, &mut decoder);
            if tick >= 500 {
                (seen, sum) = (seen + 1, sum + buffer.delay_ms(now));
                assert!(buffer.delay_ms(now) <= 250, "{jitter_ms}: {}", buffer.delay_ms(now));
            }
        }
        delays.push(sum / seen);
    }
    assert!((0..=40).contains(&delays[0]), "on a quiet network: {delays:?}");
    assert!((10..=70).contains(&delays[1]), "{delays:?}");
    assert!((50..=160).contains(&delays[2]), "{delays:?}");
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
    let arrivals: Vec<(u64, &Vec<u8>)> = (0..).step_by(20).zip(&packets).collect();
    let left: Vec<Vec<u8>> = convert_at(&mut transcoder, &arrivals).into_iter().map(|(_, packet)| packet).collect();
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
fn a_pause_of_the_senders_is_one_here_and_a_flood_makes_no_more_sound_than_there_is_time() {
    let mut transcoder = Transcoder::new(speech(Codec::Pcmu), speech(Codec::Opus), START).unwrap();
    let packets = tone(Codec::Pcmu);
    let later = Packet { timestamp: 16_000, sequence_number: 2, ..Packet::parse(&packets[2]).unwrap() }.to_bytes();
    let left = convert_at(&mut transcoder, &[(0, &packets[0]), (20, &packets[1]), (2000, &later)]);
    let marked: Vec<(u64, Packet<'_>)> = left
        .iter()
        .map(|(at, packet)| (*at, Packet::parse(packet).unwrap()))
        .filter(|(_, packet)| packet.marker)
        .collect();
    let [(one_at, one), (other_at, other)] = marked[..] else { panic!("{}", marked.len()) };
    let passed = other.timestamp.wrapping_sub(one.timestamp);
    assert_eq!(u64::from(passed), (other_at - one_at) * 48, "its clock goes on with time");
    assert!((1960..2040).contains(&(other_at - one_at)), "{one_at} {other_at}");

    let flood: Vec<Vec<u8>> = (0..3000_u16)
        .map(|number| {
            let packet = Packet::parse(&packets[0]).unwrap();
            let (sequence_number, timestamp) = (number, 80_000 + u32::from(number) * 160);
            Packet { sequence_number, timestamp, ..packet }.to_bytes()
        })
        .collect();
    let arrivals: Vec<(u64, &Vec<u8>)> = flood.iter().map(|packet| (0, packet)).collect();
    let mut transcoder = Transcoder::new(speech(Codec::Pcmu), speech(Codec::Opus), START).unwrap();
    assert!(convert_at(&mut transcoder, &arrivals).len() <= 10, "in a fifth of a second");
}

#[test]
fn a_digit_that_is_said_otherwise_is_sent_as_an_event_between_the_sounds() {
    for is_silent in [false, true] {
        let mut transcoder = Transcoder::new(speech(Codec::Pcmu), speech(Codec::Opus), START).unwrap();
        let start = Instant::now();
        let packets = tone(Codec::Pcmu);
        let mut left = Vec::new();
        for tick in 0..50_u32 {
            let now = start + FRAME * tick;
            if !is_silent {
                transcoder.handle_input(now, &packets[usize::try_from(tick).unwrap()]);
            }
            if tick == 10 {
                for event in [3, 11] {
                    assert!(transcoder.press(now, Digit { event, lasts: FRAME * 5 }));
                }
            }
            left.extend(transcoder.handle_timeout(now));
        }
        let packets: Vec<Packet<'_>> = left.iter().map(|packet| Packet::parse(packet).unwrap()).collect();
        let digits: Vec<&Packet<'_>> = packets.iter().filter(|packet| packet.payload_type == 101).collect();
        let ends = digits.iter().filter(|packet| packet.payload[1] & 0x80 != 0);
        assert_eq!(ends.map(|packet| packet.payload[0]).collect::<Vec<_>>(), [3, 3, 3, 11, 11, 11]);
        assert_eq!(digits.len(), 14);
        assert_eq!(digits[4].payload[2..], 4800_u16.to_be_bytes(), "a tenth of a second");
        for (one, other) in packets.iter().zip(packets.iter().skip(1)) {
            assert_eq!(other.sequence_number, one.sequence_number.wrapping_add(1));
        }
    }
}
