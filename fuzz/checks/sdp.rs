//! A session description: what is answered can be read, has a stream for each one offered, and only one of them open.

use std::net::{IpAddr, Ipv4Addr};

use meshtone_media::sdp::{Local, Session, accept, answer};

const LOCAL: Local =
    Local { address: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), port: 16_400, session_id: 1, version: 1 };

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let Ok(offer) = Session::parse(data) else { return };
    let _ = accept(&offer, &LOCAL);
    let Ok((text, agreement)) = answer(&offer, &LOCAL) else { return };
    let ours = Session::parse(text.as_bytes()).expect("our answer is a description");
    assert_eq!(ours.media.len(), offer.media.len());
    assert_eq!(ours.timing, offer.timing);
    let open: Vec<_> = ours.media.iter().filter(|media| media.port != 0).collect();
    let [stream] = open.as_slice() else { panic!("one open stream: {text}") };
    assert_eq!((stream.port, stream.kind, stream.protocol), (LOCAL.port, "audio", "RTP/AVP"));
    assert_eq!(stream.formats.first().and_then(|format| format.parse().ok()), Some(agreement.payload_type));
    assert_eq!(ours.direction_of(stream), agreement.direction);
    assert!(agreement.remote_port != 0 && agreement.clock_rate != 0);
}
