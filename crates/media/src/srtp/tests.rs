//! Whole packets, sealed and opened.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::rtp::Packet;

const SSRC: u32 = 0xcafe_babe;

fn master(suite: Suite, seed: u8) -> MasterKey {
    MasterKey::random(suite, &mut |bytes| bytes.fill(seed))
}

fn packet(sequence_number: u16) -> Vec<u8> {
    Packet { marker: false, payload_type: 0, sequence_number, timestamp: 160, ssrc: SSRC, payload: b"some sound" }
        .to_bytes()
}

/// A sender report of nothing.
fn report() -> Vec<u8> {
    [[0x80, 200, 0, 6].as_slice(), &SSRC.to_be_bytes(), &[7; 20]].concat()
}

#[test]
fn what_is_sealed_is_opened_and_hides_what_it_says() {
    for suite in Suite::ALL {
        let (mut sealer, mut opener) = (Sealer::new(&master(suite, 1)), Opener::new(&master(suite, 1)));
        for number in [65_534, 65_535, 0, 1] {
            let sealed = sealer.seal_rtp(&packet(number)).unwrap();
            assert!(sealed.len() <= packet(number).len() + MAX_OVERHEAD);
            assert!(!sealed.windows(5).any(|window| window == b"sound"), "{}", suite.name());
            assert_eq!(opener.open_rtp(&sealed).unwrap(), packet(number), "{}", suite.name());
            assert_eq!(opener.open_rtp(&sealed), Err(SrtpError::Replayed));
        }
        for _ in 0..2 {
            let sealed = sealer.seal_rtcp(&report()).unwrap();
            assert_eq!(opener.open_rtcp(&sealed).unwrap(), report(), "{}", suite.name());
            assert_eq!(opener.open_rtcp(&sealed), Err(SrtpError::Replayed));
        }
    }
}

#[test]
fn header_extensions_stay_readable_and_are_protected() {
    for suite in Suite::ALL {
        let mut plain = packet(9);
        plain[0] |= 0x10;
        plain.splice(12..12, [0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
        let sealed = Sealer::new(&master(suite, 1)).seal_rtp(&plain).unwrap();
        assert_eq!(sealed[..20], plain[..20]);
        let mut opener = Opener::new(&master(suite, 1));
        let mut changed = sealed.clone();
        changed[17] ^= 1;
        assert_eq!(opener.open_rtp(&changed), Err(SrtpError::Tag));
        assert_eq!(opener.open_rtp(&sealed).unwrap(), plain);
    }
}

#[test]
fn what_is_not_authentic_is_refused_and_changes_nothing() {
    for suite in Suite::ALL {
        let (mut sealer, mut opener) = (Sealer::new(&master(suite, 1)), Opener::new(&master(suite, 1)));
        let mut stranger = Sealer::new(&master(suite, 2));
        assert!(opener.open_rtp(&sealer.seal_rtp(&packet(1)).unwrap()).is_ok());
        for number in 2..2000 {
            assert_eq!(opener.open_rtp(&stranger.seal_rtp(&packet(number)).unwrap()), Err(SrtpError::Tag));
            assert_eq!(opener.open_rtcp(&stranger.seal_rtcp(&report()).unwrap()), Err(SrtpError::Tag));
        }
        assert!(opener.open_rtp(&sealer.seal_rtp(&packet(2)).unwrap()).is_ok());
        assert!(opener.open_rtcp(&sealer.seal_rtcp(&report()).unwrap()).is_ok());
    }
}

#[test]
fn the_same_number_is_never_sealed_twice() {
    let mut sealer = Sealer::new(&master(Suite::AesCm80, 1));
    assert!(sealer.seal_rtp(&packet(5)).is_ok());
    assert_eq!(sealer.seal_rtp(&packet(5)), Err(SrtpError::Replayed));
}

#[test]
fn cut_packets_are_refused_at_every_length() {
    for suite in Suite::ALL {
        let mut sealer = Sealer::new(&master(suite, 1));
        let (rtp, rtcp) = (sealer.seal_rtp(&packet(1)).unwrap(), sealer.seal_rtcp(&report()).unwrap());
        let mut opener = Opener::new(&master(suite, 1));
        for len in 0..rtp.len() {
            assert!(opener.open_rtp(&rtp[..len]).is_err());
        }
        for len in 0..rtcp.len() {
            assert!(opener.open_rtcp(&rtcp[..len]).is_err());
        }
    }
}

#[test]
fn keys_have_their_length_and_print_nothing() {
    for suite in Suite::ALL {
        let key = master(suite, 9);
        assert_eq!(MasterKey::new(suite, &key.to_bytes()), Some(key.clone()));
        assert_eq!(MasterKey::new(suite, &[0; 29]), None);
        assert!(!format!("{key:?}").contains('9'), "{key:?}");
    }
}
