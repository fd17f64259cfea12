//! The bounds of a message: what is within passes and what is beyond gets 513 or 400, from a datagram and from a stream alike.
//! That nothing within them costs more than linear time is counted in `src/effort.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use meshtone_sip::message::{Header, MAX_FIELDS, MAX_LINE_LEN, MAX_MESSAGE_LEN, MAX_URI_LEN, MAX_VIAS, Message};
use meshtone_sip::stream::{StreamDecoder, StreamItem};

/// Fields of [`options`] with no further ones.
const FIELDS: usize = 7;

fn options(uri: &str, more: &str, body: &str) -> String {
    format!(
        "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
         From: <sip:a@example.org>;tag=1\r\nTo: <sip:b@example.org>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n{more}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn of_length(len: usize, more: &str) -> String {
    let spare = len - options("sip:b@example.org", more, "").len();
    // The digits of the length take room too.
    let body = "b".repeat(spare - (spare.to_string().len() - 1));
    options("sip:b@example.org", more, &body)
}

fn verdict(message: &Message) -> u16 {
    message.validate().map_or_else(|error| error.status(), |()| 200)
}

/// The status that answers it as a datagram, and as a stream: 200 stands for none needed.
fn statuses(text: &str) -> (u16, u16) {
    let datagram = match Message::parse(Bytes::copy_from_slice(text.as_bytes())) {
        Ok(message) => verdict(&message),
        Err(error) => error.status(),
    };
    let mut decoder = StreamDecoder::default();
    decoder.push(text.as_bytes());
    let stream = match decoder.next() {
        Ok(Some(StreamItem::Message(message))) => verdict(&message),
        Ok(Some(StreamItem::Bad(error, _))) => error.status(),
        Ok(other) => panic!("{other:?}"),
        Err(lost) => lost.error.status(),
    };
    (datagram, stream)
}

/// Threats 17 and 18: every size has its bound.
#[test]
fn what_is_at_a_bound_passes_and_what_is_beyond_is_refused_on_every_transport() {
    let plain = |more: &str| options("sip:b@example.org", more, "");
    let line = |len: usize| format!("Z: {}\r\n", "y".repeat(len - 3));
    let folded = |len: usize| format!("Z: y{}\r\n", "\r\n y".repeat((len - 4) / 4));
    let uri = |len: usize| format!("sip:{}@example.org", "u".repeat(len - 16));
    let vias = |count: usize| "v: SIP/2.0/UDP h;branch=z9hG4bK2\r\n".repeat(count - 1);
    let joined = |count: usize| format!("v: SIP/2.0/UDP h{}\r\n", ", SIP/2.0/UDP h".repeat(count - 2));
    let cases = [
        ("message", of_length(MAX_MESSAGE_LEN, ""), of_length(MAX_MESSAGE_LEN + 1, ""), 513),
        ("fields", plain(&"Z: y\r\n".repeat(MAX_FIELDS - FIELDS)), plain(&"Z: y\r\n".repeat(MAX_FIELDS)), 513),
        ("line", plain(&line(MAX_LINE_LEN)), plain(&line(MAX_LINE_LEN + 1)), 513),
        ("folded line", plain(&folded(MAX_LINE_LEN)), plain(&folded(MAX_LINE_LEN + 4)), 513),
        ("Request-URI", options(&uri(MAX_URI_LEN), "", ""), options(&uri(MAX_URI_LEN + 1), "", ""), 400),
        (
            "Contact",
            plain(&format!("m: <{}>\r\n", uri(MAX_URI_LEN))),
            plain(&format!("m: <{}>\r\n", uri(MAX_URI_LEN + 1))),
            400,
        ),
        ("Vias", plain(&vias(MAX_VIAS)), plain(&vias(MAX_VIAS + 1)), 400),
        ("joined Vias", plain(&joined(MAX_VIAS)), plain(&joined(MAX_VIAS + 1)), 400),
    ];
    for (what, within, beyond, status) in cases {
        assert_eq!(statuses(&within), (200, 200), "{what}");
        assert_eq!(statuses(&beyond), (status, status), "{what}");
    }
}

#[test]
fn what_is_too_long_can_still_be_answered() {
    let long = options("sip:b@example.org", &format!("Subject: {}\r\n", "y".repeat(MAX_LINE_LEN)), "");
    let partial = Message::parse_lenient(Bytes::from(long)).unwrap();
    assert_eq!((partial.call_id(), partial.header(Header::Subject)), ("c", None));
    assert_eq!(partial.top_via().unwrap().host, "192.0.2.1");
}

/// Threat 18: slow loris.
#[test]
fn a_stream_holds_no_more_than_a_message_for_whoever_never_ends_one() {
    for endless in ["OPTIONS sip:a@b SIP/2.0\r\nZ: ", "OPTIONS ", "\"", "OPTIONS sip:a@b SIP/2.0\r\nZ: y\r\n "] {
        let mut decoder = StreamDecoder::default();
        decoder.push(endless.as_bytes());
        let mut pushed = 0;
        while matches!(decoder.next(), Ok(None)) {
            decoder.push(&[b'"'; 1024]);
            pushed += 1024;
            assert!(pushed <= 2 * MAX_MESSAGE_LEN, "{endless}");
        }
        assert_eq!(decoder.pending(), 0);
    }
}
