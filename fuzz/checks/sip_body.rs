//! A message with a body: the body reaches the reader of session descriptions as it was sent, whatever it claims to be; what
//! that reader answers travels in a message unchanged.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use meshtone_media::sdp::{Local, Session, answer};
use meshtone_sip::message::{Header, Message};

const LOCAL: Local =
    Local { address: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), port: 16_400, session_id: 1, version: 1 };

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let Ok(message) = Message::parse(Bytes::copy_from_slice(data)) else { return };
    describe(&message, message.body());
    // What is nested in a multipart body (RFC 5621) is found by its boundary; each part must be as harmless as the whole.
    let kind = message.header(Header::ContentType).unwrap_or_default();
    if let Some((_, boundary)) = kind.split_once("boundary=") {
        let boundary = format!("--{}", boundary.trim_matches('"'));
        for part in String::from_utf8_lossy(message.body()).split(&boundary).take(16) {
            describe(&message, part.split_once("\r\n\r\n").map_or(part, |(_, body)| body).as_bytes());
        }
    }
}

fn describe(message: &Message, body: &[u8]) {
    let carried = message.edit().body("application/sdp", body).finish();
    assert_eq!(carried.body(), body);
    let Ok(offer) = Session::parse(body) else { return };
    let Ok((text, _)) = answer(&offer, &LOCAL) else { return };
    let answered = message.edit().body("application/sdp", text.as_bytes()).finish();
    let Ok(again) = Message::parse(answered.bytes().clone()) else { return };
    assert_eq!(again.body(), text.as_bytes());
    assert_eq!(again.header(Header::ContentType), Some("application/sdp"));
    assert!(Session::parse(again.body()).is_ok());
}
