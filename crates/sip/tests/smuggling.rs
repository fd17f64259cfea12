//! Header smuggling (threat 8): what a filter here sees and what somebody reads in the forwarded bytes is the same, or the message is
//! refused. The other reader is a few lines of this file, with the habits of common stacks; it shares nothing with the parser.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use meshtone_sip::message::{Header, Message};
use meshtone_sip::stream::{StreamDecoder, StreamItem};

const LINES: &str = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\nFrom: <sip:a@example.org>;tag=1\r\n\
                     To: <sip:b@example.org>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n";

fn message(more: &[u8]) -> Vec<u8> {
    [b"MESSAGE sip:b@example.org SIP/2.0\r\n", LINES.as_bytes(), more, b"\r\n"].concat()
}

fn accepted(bytes: &[u8]) -> Option<Message> {
    Message::parse(Bytes::copy_from_slice(bytes)).ok().filter(|message| message.validate().is_ok())
}

/// What the node does to a message from a phone: its identity and credentials are taken out, the node's own put in.
fn forwarded(message: &Message) -> Message {
    let mut editor = message.edit();
    editor.prepend(Header::Via, "SIP/2.0/TCP node.example.org;branch=z9hG4bK2");
    for own in [Header::PAssertedIdentity, Header::PPreferredIdentity, Header::ProxyAuthorization] {
        editor.remove(own);
    }
    editor.append(Header::PAssertedIdentity, "<sip:a@example.org>").finish()
}

/// Names (long ones, lower case) and unfolded values, as a reader finds them who ends lines at CR, LF or both, strings at NUL
/// (but for one in a quoted pair, which RFC 4475 §3.1.1.2 wants taken), the head at the first line that is blank, and who trims
/// a name before he looks at it.
fn careless_reading(bytes: &[u8]) -> Vec<(String, String)> {
    let is_end = |pair: &[u8]| pair[1] == 0 && pair[0] != b'\\';
    let end = bytes.windows(2).position(is_end).map_or(bytes.len(), |before| before + 1);
    let text = String::from_utf8_lossy(&bytes[..end]).replace("\r\n", "\n").replace('\r', "\n");
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.split('\n').skip(1) {
        if line.trim().is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) {
            let (_, value) = fields.last_mut().expect("a field to fold onto");
            *value = format!("{value} {}", line.trim()).trim().to_owned();
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let name = match name.trim().to_ascii_lowercase().as_str() {
            "v" => "via".to_owned(),
            "f" => "from".to_owned(),
            "t" => "to".to_owned(),
            "i" => "call-id".to_owned(),
            "m" => "contact".to_owned(),
            "l" => "content-length".to_owned(),
            "c" => "content-type".to_owned(),
            "r" => "refer-to".to_owned(),
            name => name.to_owned(),
        };
        fields.push((name, value.trim().to_owned()));
    }
    fields
}

/// The same of what the parser found.
fn our_reading(message: &Message) -> Vec<(String, String)> {
    let long = |name: &str| {
        let known = Header::from_name(name).as_str();
        if known.is_empty() { name.to_ascii_lowercase() } else { known.to_ascii_lowercase() }
    };
    let unfolded = |value: &str| value.split("\r\n").map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned();
    message.all_fields().map(|(name, value)| (long(name), unfolded(value))).collect()
}

/// Refused, or read in one way before and after forwarding, with no identity but the node's.
fn assert_one_reading(more: &[u8]) {
    let bytes = message(more);
    let shown = String::from_utf8_lossy(more).into_owned();
    let Some(message) = accepted(&bytes) else { return };
    assert_eq!(our_reading(&message), careless_reading(&bytes), "{shown:?}");
    let forwarded = forwarded(&message);
    let again = accepted(forwarded.bytes()).unwrap_or_else(|| panic!("{shown:?}: the next node refuses it"));
    let fields = careless_reading(forwarded.bytes());
    assert_eq!(our_reading(&again), fields, "{shown:?}");
    let identities: Vec<_> = fields.iter().filter(|(name, _)| name == "p-asserted-identity").collect();
    assert_eq!(identities, [&("p-asserted-identity".to_owned(), "<sip:a@example.org>".to_owned())], "{shown:?}");
    assert!(!fields.iter().any(|(name, _)| name == "proxy-authorization"), "{shown:?}");
}

#[test]
fn a_field_in_disguise_is_found_or_refused() {
    const EVIL: &str = "P-Asserted-Identity";
    let value = "<sip:boss@example.org>";
    for gap in ["", " ", "\t", " \t ", "\r\n ", "\u{b}", "\u{c}", "\u{a0}", "\0", "\r", "\n"] {
        assert_one_reading(format!("{EVIL}{gap}: {value}\r\n").as_bytes());
        assert_one_reading(format!("{EVIL}:{gap}{value}\r\n").as_bytes());
        assert_one_reading(format!("{gap}{EVIL}: {value}\r\n").as_bytes());
        assert_one_reading(format!("Z: y{gap}{EVIL}: {value}\r\n").as_bytes());
        assert_one_reading(format!("Z: y\r\n{gap}{EVIL}: {value}\r\n").as_bytes());
        assert_one_reading(format!("Z: y\r\n{gap}\r\n{EVIL}: {value}\r\n").as_bytes());
        assert_one_reading(format!("Z: y\r{gap}\n{EVIL}: {value}\r\n").as_bytes());
        assert_one_reading(format!("Z: \"\\{gap}\"\r\n{EVIL}: {value}\r\n").as_bytes());
        assert_one_reading(format!("Proxy-Authorization{gap}: Digest username=\"x\"\r\n").as_bytes());
    }
    for spelling in
        ["p-asserted-identity", "P-ASSERTED-IDENTITY", "P-Asserted-Identity: <sip:c@d>\r\nP-Asserted-Identity"]
    {
        assert_one_reading(format!("{spelling}: {value}\r\n").as_bytes());
    }
}

#[test]
fn what_would_be_read_in_two_ways_is_refused() {
    let refused: [&[u8]; 24] = [
        b"Z: y\nP-Asserted-Identity: z\r\n",
        b"Z: y\rP-Asserted-Identity: z\r\n",
        b"Z: y\r\n \r\nP-Asserted-Identity: z\r\n",
        b"Z: y\r\n\t \r\n\tz\r\n",
        b"Z: y\0\r\n",
        b"Z: \\\0\r\n",
        b"Z: \"\\\\\0\"\r\n",
        b" Z: y\r\n",
        b"Z\xc2\xa0: y\r\n",
        b"Z\x0b: y\r\n",
        b": y\r\n",
        b"Z\r\n",
        b"Z Y: z\r\n",
        b"f: <sip:boss@example.org>;tag=2\r\n",
        b"t: <sip:boss@example.org>\r\n",
        b"i: d\r\n",
        b"CSeq: 2 MESSAGE\r\n",
        b"Max-Forwards: 1\r\n",
        b"Content-Length: 1\r\nl: 0\r\n",
        b"l: 0\r\nContent-Length : 1\r\n",
        b"Content-Length: 0, 1\r\n",
        b"Content-Length: +0\r\n",
        b"Refer-To: <sip:a@b>\r\nr: <sip:c@d>\r\n",
        b"c: text/plain\r\nContent-Type: application/sdp\r\n",
    ];
    for more in refused {
        assert!(accepted(&message(more)).is_none(), "{:?}", String::from_utf8_lossy(more));
    }
}

#[test]
fn what_is_odd_but_clear_passes_unchanged() {
    let fine: [&[u8]; 8] = [
        b"X-Foo : v\r\n",
        b"X-Foo\t:\tv\r\n",
        b"X-Foo: a\r\n b\r\n\tc\r\n",
        b"X-Foo:\r\n v\r\n",
        b"X-Foo:\r\nX-Foo: again\r\n",
        b"Subject: \"a \\\" b\"\r\n",
        b"Content-Length: 0\r\nl: 0\r\n",
        b"Contact: <sip:a@b>\r\nm: <sip:c@d>\r\n",
    ];
    for more in fine {
        assert_one_reading(more);
        let read = accepted(&message(more)).unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(more)));
        assert!(forwarded(&read).bytes().windows(more.len()).any(|window| window == more));
    }
}

#[test]
fn on_a_stream_whoever_hides_a_length_is_cut_off() {
    let hidden: [&[u8]; 9] = [
        b"Content-Length: 5\r\nContent-Length: 0\r\n",
        b"Content-Length: 5\r\n \r\nl: 5\r\n",
        b"Content-Length: 5\r\nContent-Length\x0b: 0\r\n",
        b"Content-Length: 5\r\nl\0: 0\r\n",
        b"Content-Length: 5\r\n Content-Length: 0\r\n",
        b"Content-Length: 5\nContent-Length: 0\r\n",
        b"Content-Length: 5\r\nX: \"\\\\\0\r\nl: 0\r\n",
        b"Content-Length: 5 0\r\n",
        b"Z: y\r\n\t\r\nl: 5\r\n",
    ];
    for more in hidden {
        let mut decoder = StreamDecoder::default();
        decoder.push(&message(more));
        decoder.push(b"abcdeBYE sip:a@b SIP/2.0\r\nl: 0\r\n\r\n");
        let first = decoder.next();
        let shown = String::from_utf8_lossy(more).into_owned();
        assert!(first.as_ref().is_err_and(|lost| lost.error.status() == 400), "{shown:?}: {first:?}");
        assert!(matches!(decoder.next(), Ok(None)), "{shown:?}");
    }
    let mut decoder = StreamDecoder::default();
    decoder.push(&message(b"l: 0\r\nContent-Length: 0\r\n"));
    assert!(matches!(decoder.next(), Ok(Some(StreamItem::Message(_)))), "one length said twice is one");
}
