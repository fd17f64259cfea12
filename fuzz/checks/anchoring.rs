//! What holds for any two descriptions, an offer and behind a zero byte its answer.

use std::net::{IpAddr, Ipv4Addr};

use meshtone_media::anchoring::{Anchoring, Profile};
use meshtone_media::relay::{End, MAX_STREAMS};
use meshtone_media::sdp::{MAX_SDP_LEN, Session};

const OUR_PORT: u16 = 16_384;

/// Carries the media of a call with these descriptions.
pub(crate) fn check(data: &[u8]) {
    let (offer, answer) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, data),
    };
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for (profile, converts) in [(Profile::Optional, false), (Profile::Sdes, false), (Profile::Optional, true)] {
        let mut anchoring = Anchoring::new(host, host, [1, 2], profile);
        for end in End::ALL {
            anchoring.use_ports(end, vec![OUR_PORT; MAX_STREAMS]);
        }
        let mut fill = |bytes: &mut [u8]| bytes.fill(7);
        let Ok(mut offered) = anchoring.offer(End::Near, offer, &mut fill) else { continue };
        if converts && anchoring.convert() {
            offered = anchoring.offer(End::Near, offer, &mut fill).expect("it was taken before");
        }
        same_streams(offer, &offered);
        let Ok((answered, agreed)) = anchoring.answer(End::Far, answer, &mut fill) else { continue };
        same_streams(offer, &answered);
        for (converted, near) in agreed.converted.iter().zip(&agreed.near) {
            assert!(converted.is_none() || (converts && near.is_some()));
        }
        for (near, far) in agreed.near.iter().zip(&agreed.far) {
            assert_eq!(near.is_some(), far.is_some(), "a stream has both ends or none");
        }
    }
}

/// What is written can be read, has the other side's streams in their places, and leads to us alone.
fn same_streams(given: &[u8], written: &[u8]) {
    if written.len() > MAX_SDP_LEN {
        return;
    }
    let (given, written) = (Session::parse(given).expect("it was taken"), Session::parse(written).expect("ours"));
    assert_eq!(given.media.len(), written.media.len());
    for (given, written) in given.media.iter().zip(&written.media) {
        assert_eq!(given.kind, written.kind);
        assert!(written.port == 0 || (written.port == OUR_PORT && given.port != 0));
        assert!(
            written.values("candidate").all(|candidate| candidate.contains(" 127.0.0.1 1638"))
                && written.connection.is_none()
        );
    }
}
