//! A datagram, read by another stack too (`sipx-sip`): what both take, both read alike, and what we forward of it too.
//!
//! Whether a message is taken is not compared. They differ there, knowingly: we skip line breaks before the start line, take
//! sixteen folds and more, headers in UTF-8 only, a status line without its last space; it takes a NUL, control characters and
//! blank folds, which we refuse, and checks the grammar of URIs and of some values while it reads the head.

use bytes::Bytes;
use meshtone_sip::message::{Header, Message};
use sipx_sip::message::Message as Other;
use sipx_sip::parser::{Limits, parse_datagram};

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let datagram = Bytes::copy_from_slice(data);
    let Ok(message) = Message::parse(datagram.clone()) else { return };
    compare(&message, datagram);
    if message.validate().is_ok() {
        let forwarded = message.edit().prepend(Header::Via, "SIP/2.0/UDP x;branch=z9hG4bKf").set(Header::MaxForwards, "9").finish();
        compare(&forwarded, forwarded.bytes().clone());
    }
}

fn compare(ours: &Message, datagram: Bytes) {
    // Limits of its own would only make it refuse more.
    let limits = Limits { max_folding_lines: 8192, ..Limits::datagram() };
    let Ok(theirs) = parse_datagram(datagram, &limits) else { return };
    match &theirs {
        Other::Request(request) => {
            assert!(ours.is_request());
            assert_eq!(ours.method_name().as_bytes(), request.method.as_bytes());
            assert_eq!(ours.request_uri().as_bytes(), &request.uri.to_bytes()[..]);
        }
        Other::Response(response) => {
            assert_eq!((ours.status(), ours.reason().as_bytes()), (response.status.code(), &response.reason[..]));
        }
    }
    let mut fields = theirs.headers().iter();
    for (name, value) in ours.all_fields() {
        let theirs = fields.next().expect("as many fields");
        assert_eq!(long(name.as_bytes()), long(theirs.name().canonical()));
        assert_eq!(unfolded(value.as_bytes()), unfolded(theirs.raw_value()));
    }
    assert!(fields.next().is_none(), "no field that we do not see");
    assert_eq!(ours.body(), &theirs.body()[..]);
}

/// A name as it is compared: long and in lower case.
fn long(name: &[u8]) -> String {
    // Identity-Info has no meaning any more (RFC 8224 §4), so only they know its short name.
    let name = if name.eq_ignore_ascii_case(b"n") { "identity-info".into() } else { String::from_utf8_lossy(name) };
    let known = Header::from_name(&name).as_str();
    if known.is_empty() { name.to_ascii_lowercase() } else { known.to_ascii_lowercase() }
}

/// A value without the white space around it and around its folds.
fn unfolded(value: &[u8]) -> Vec<u8> {
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect::<Vec<_>>();
    lines.join(&b' ').trim_ascii().to_vec()
}
