//! The bounds of a message: what is within passes and what is beyond gets 513 or 400, from a datagram and from a stream alike;
//! and nothing within them costs more than linear time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use meshtone_sip::message::{
    Header, MAX_FIELDS, MAX_LINE_LEN, MAX_MESSAGE_LEN, MAX_URI_LEN, MAX_VIAS, Message, NameAddr, Uri, Via,
};
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

/// The least of some runs, as others use the machine too.
#[allow(clippy::disallowed_methods, reason = "this compares how long two inputs take; the core has no clock")]
fn cost(message: &str, read: &dyn Fn(&str)) -> Duration {
    let run = |_| {
        let start = std::time::Instant::now();
        read(message);
        start.elapsed()
    };
    (0..7).map(run).min().unwrap()
}

fn read_whole(text: &str) {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    if let Some(partial) = Message::parse_lenient(bytes.clone()) {
        black_box(partial.all_fields().count());
    }
    let Ok(message) = Message::parse(bytes) else { return };
    black_box(message.validate().is_ok());
    for header in [Header::Via, Header::Contact, Header::Route] {
        black_box(
            message.values(header).filter(|value| Via::parse(value).is_ok() || NameAddr::parse(value).is_ok()).count(),
        );
    }
    for (_, value) in message.all_fields() {
        black_box((Uri::parse(value).is_ok(), NameAddr::parse(value).is_ok(), Via::parse(value).is_ok()));
    }
    black_box(message.edit().prepend(Header::Via, "SIP/2.0/UDP x").pop_value(Header::Contact).finish());
}

fn read_as_stream(text: &str) {
    let mut decoder = StreamDecoder::default();
    for byte in text.as_bytes() {
        decoder.push(std::slice::from_ref(byte));
        if black_box(decoder.next()).is_err() {
            return;
        }
    }
}

#[test]
fn eight_times_the_input_costs_about_eight_times_the_time() {
    const Y: &str =
        "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy";
    // Lines are of 8,000 bytes, nearly the most that one may have, made of one unit again and again.
    let inputs = [
        ("many lines", "Z: ", "y", format!("{Y}{Y}\r\nZ: ")),
        ("deep folding", "Z: ", "y", "\r\n y".to_owned()),
        ("commas", "Contact: ", "<sip:a@b>", ",<sip:a@b>".to_owned()),
        ("empty values", "Contact: ", "<sip:a@b>", ",".to_owned()),
        ("parameters", "Contact: ", "<sip:a@b>", ";p=q".to_owned()),
        ("open quotes", "Contact: ", "\"", "\\\"".to_owned()),
        ("quotes", "Contact: ", "", "\"".to_owned()),
        ("brackets", "Route: ", "", "<".to_owned()),
        ("escapes", "Route: ", "<sip:", "%41".to_owned()),
        ("spaces", "Z: ", "y", " \t".to_owned()),
        ("bare breaks", "Z: ", "y", "\ny".to_owned()),
        ("no field at all", "x", "", "x x x\r\n".to_owned()),
    ];
    let make = |name: &str, open: &str, unit: &str, len: usize| {
        let line = format!("{name}{open}{}y\r\n", unit.repeat(7900 / unit.len()));
        options("sip:a@b", &line.repeat(len / 8000), "")
    };
    for (what, name, open, unit) in inputs {
        let (short, long) = (make(name, open, &unit, 8_000), make(name, open, &unit, 64_000));
        for (how, read) in [("datagram", &read_whole as &dyn Fn(&str)), ("single bytes", &read_as_stream)] {
            let (one, eight) = (cost(&short, read), cost(&long, read));
            // Linear is 8, quadratic 64; the constant keeps the noise of tiny runs out.
            assert!(eight < one * 30 + Duration::from_millis(2), "{what}, {how}: {one:?} and {eight:?}");
        }
    }
}
