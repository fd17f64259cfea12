//! The torture messages of RFC 4475 and RFC 5118, each with what this engine must make of it.
//!
//! `corpus/*/EXPECTED.tsv` condenses the RFCs; where they allow several outcomes, the table here says which is ours.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use meshtone_sip::message::{Header, Message, Method, NameAddr, ParseError, Uri};
use meshtone_sip::stream::{StreamDecoder, StreamItem};

use Outcome::{Acted, Refused, Unread};

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    /// It is read and may be acted upon.
    Acted,
    /// It is read, and `validate` refuses it.
    Refused(ParseError),
    /// `parse` refuses it.
    Unread(ParseError),
}

const RFC4475: &[(&str, Outcome)] = &[
    ("wsinv", Acted),
    ("intmeth", Acted),
    ("esc01", Acted),
    ("escnull", Acted),
    ("esc02", Acted),
    ("lwsdisp", Acted),
    ("longreq", Acted),
    ("dblreq", Acted),
    ("semiuri", Acted),
    ("transports", Acted),
    ("mpart01", Acted),
    ("unreason", Acted),
    ("noreason", Acted),
    ("badinv01", Refused(ParseError::Malformed(Header::Via))),
    ("clerr", Unread(ParseError::BodyTruncated)),
    ("ncl", Unread(ParseError::ContentLength)),
    ("scalar02", Refused(ParseError::Malformed(Header::CSeq))),
    ("scalarlg", Refused(ParseError::Malformed(Header::CSeq))),
    ("quotbal", Refused(ParseError::Malformed(Header::To))),
    ("ltgtruri", Refused(ParseError::Uri)),
    ("lwsruri", Unread(ParseError::StartLine)),
    ("lwsstart", Unread(ParseError::StartLine)),
    ("trws", Unread(ParseError::StartLine)),
    ("escruri", Refused(ParseError::Uri)),
    // A Date nobody acts upon is no reason to refuse a call.
    ("baddate", Acted),
    ("regbadct", Refused(ParseError::Malformed(Header::Contact))),
    ("badaspec", Refused(ParseError::Malformed(Header::To))),
    // The archive's file lacks the empty line; see `an_unquoted_display_name_with_a_comma_is_refused`.
    ("baddn", Unread(ParseError::Unfinished)),
    ("badvers", Unread(ParseError::Version)),
    ("mismatch01", Refused(ParseError::CSeqMethod)),
    ("mismatch02", Refused(ParseError::CSeqMethod)),
    ("bigcode", Unread(ParseError::StatusCode)),
    ("badbranch", Refused(ParseError::Malformed(Header::Via))),
    ("insuf", Refused(ParseError::Missing(Header::From))),
    ("unkscm", Refused(ParseError::Scheme)),
    ("novelsc", Refused(ParseError::Scheme)),
    ("unksm2", Acted),
    // What a server supports, accepts or knows is for those who act upon a message.
    ("bext01", Acted),
    ("invut", Acted),
    ("regaut01", Acted),
    ("sdp01", Acted),
    ("bcast", Acted),
    ("zeromf", Acted),
    ("multi01", Refused(ParseError::Repeated(Header::From))),
    ("mcl01", Unread(ParseError::ContentLengthConflict)),
    ("cparam01", Acted),
    ("cparam02", Acted),
    ("regescrt", Acted),
    ("inv2543", Acted),
    ("test", Unread(ParseError::StartLine)),
];

const RFC5118: &[(&str, Outcome)] = &[
    ("ipv6-good", Acted),
    ("ipv6-bad", Refused(ParseError::Uri)),
    ("port-ambiguous", Acted),
    ("port-unambiguous", Acted),
    ("via-received-param-with-delim", Acted),
    ("via-received-param-no-delim", Acted),
    ("ipv6-in-sdp", Acted),
    ("mult-ip-in-header", Acted),
    ("mult-ip-in-sdp", Acted),
    ("ipv4-mapped-ipv6", Acted),
    // RFC 5118 §4.10 lets an implementation accept the three colons; an address that is none is not one here.
    ("ipv6-bug-abnf-3-colons", Refused(ParseError::Malformed(Header::To))),
    ("ipv6-correct-abnf-2-colons", Acted),
];

fn folder(set: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(set)
}

fn bytes_of(set: &str, name: &str) -> Bytes {
    std::fs::read(folder(set).join(format!("{name}.dat"))).unwrap().into()
}

fn rfc4475(name: &str) -> Message {
    Message::parse(bytes_of("rfc4475", name)).unwrap()
}

fn all() -> impl Iterator<Item = (&'static str, Bytes, Outcome)> {
    let rfc4475 = RFC4475.iter().map(|(name, outcome)| (*name, bytes_of("rfc4475", name), *outcome));
    let rfc5118 = RFC5118.iter().map(|(name, outcome)| (*name, bytes_of("rfc5118", name), *outcome));
    rfc4475.chain(rfc5118)
}

/// The messages that can be read, whether or not they may be acted upon.
fn readable() -> impl Iterator<Item = (&'static str, Bytes, Message)> {
    all().filter_map(|(name, bytes, _)| {
        let message = Message::parse(bytes.clone()).ok()?;
        Some((name, bytes, message))
    })
}

#[test]
fn every_file_of_the_corpus_has_its_row() {
    for (set, table) in [("rfc4475", RFC4475), ("rfc5118", RFC5118)] {
        let files: BTreeSet<String> = std::fs::read_dir(folder(set))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "dat"))
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        let rows: BTreeSet<String> = table.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(files, rows, "{set}");
    }
}

#[test]
fn every_message_gets_its_verdict() {
    for (name, bytes, expected) in all() {
        let outcome = match Message::parse(bytes) {
            Err(error) => Unread(error),
            Ok(message) => message.validate().map_or_else(Refused, |()| Acted),
        };
        assert_eq!(outcome, expected, "{name}");
    }
}

#[test]
fn the_classes_of_the_rfc_hold() {
    let table = std::fs::read_to_string(folder("rfc4475").join("EXPECTED.tsv")).unwrap();
    for line in table.lines().skip(1) {
        let mut columns = line.split('\t');
        let (name, class) = (columns.next().unwrap(), columns.nth(1).unwrap());
        let outcome = RFC4475.iter().find(|(known, _)| *known == name).unwrap().1;
        match class {
            "valid" | "compat" => assert_eq!(outcome, Acted, "{name}"),
            // The RFC lets an element ignore a Date it cannot read.
            "invalid" if name != "baddate" => assert_ne!(outcome, Acted, "{name}"),
            _ => {}
        }
    }
}

#[test]
fn faults_map_to_the_statuses_of_the_rfc() {
    let status = |name: &str| match RFC4475.iter().find(|(known, _)| *known == name).unwrap().1 {
        Unread(error) | Refused(error) => error.status(),
        Acted => 0,
    };
    assert_eq!(status("badvers"), 505);
    assert_eq!(status("unkscm"), 416);
    assert_eq!(status("novelsc"), 416);
    for name in
        ["badinv01", "clerr", "ncl", "scalar02", "quotbal", "escruri", "insuf", "multi01", "mcl01", "mismatch02"]
    {
        assert_eq!(status(name), 400, "{name}");
    }
}

#[test]
fn a_request_that_cannot_be_read_can_still_be_answered() {
    for (name, bytes, outcome) in all() {
        if !matches!(outcome, Unread(_)) || bytes.starts_with(b"SIP/2.0") || name == "test" {
            continue;
        }
        let partial = Message::parse_lenient(bytes).expect(name);
        assert!(partial.top_via().is_ok(), "{name}");
        for header in [Header::From, Header::To, Header::CallId, Header::CSeq] {
            assert!(partial.header(header).is_some(), "{name} {header:?}");
        }
    }
}

#[test]
fn a_bad_response_yields_nothing_to_answer() {
    assert!(Message::parse_lenient(bytes_of("rfc4475", "bigcode")).is_none());
}

#[test]
fn what_is_read_is_the_bytes_that_came() {
    for (name, bytes, message) in readable() {
        assert!(bytes.starts_with(message.bytes()), "{name}");
        let discarded = bytes.len() - message.bytes().len();
        assert_eq!(
            discarded > 0,
            matches!(name, "dblreq" | "ipv6-in-sdp" | "mult-ip-in-sdp" | "ipv4-mapped-ipv6"),
            "{name}"
        );
    }
}

#[test]
fn an_edit_leaves_all_else_byte_for_byte() {
    for (name, _, message) in readable() {
        let via = "SIP/2.0/TCP edge.example.org;branch=z9hG4bKtorture";
        let edited = message.edit().prepend(Header::Via, via).finish();
        assert_eq!(edited.top_via().unwrap().branch(), Some("z9hG4bKtorture"), "{name}");

        let text = [b"Via: ", via.as_bytes(), b"\r\n"].concat();
        let at = memchr::memmem::find(edited.bytes(), &text).unwrap();
        let without = [&edited.bytes()[..at], &edited.bytes()[at + text.len()..]].concat();
        if message.header(Header::ContentLength).is_some() {
            assert_eq!(Bytes::from(without), *message.bytes(), "{name}");
        } else {
            let length = format!("Content-Length: {}\r\n", message.body().len());
            let at = memchr::memmem::find(&without, length.as_bytes()).unwrap();
            let without = [&without[..at], &without[at + length.len()..]].concat();
            assert_eq!(Bytes::from(without), *message.bytes(), "{name}");
        }
    }
}

#[test]
fn an_edited_message_is_read_by_others_as_by_us() {
    for (name, _, message) in readable() {
        let edited = message
            .edit()
            .pop_value(Header::Via)
            .set(Header::MaxForwards, "7")
            .append(Header::RecordRoute, "<sip:edge.example.org;lr>")
            .finish();
        let again = Message::parse(edited.bytes().clone()).expect(name);
        assert_eq!(edited.bytes(), again.bytes(), "{name}");
        assert!(edited.all_fields().eq(again.all_fields()), "{name}");
        assert_eq!(edited.body(), again.body(), "{name}");
    }
}

/// What a stream yields, in words.
fn stream_of(pieces: &[&[u8]]) -> Vec<String> {
    let mut decoder = StreamDecoder::default();
    let mut found = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(StreamItem::Message(message))) => found.push(format!("{:?}", message.bytes())),
                Ok(Some(StreamItem::Bad(error, partial))) => found.push(format!("{error:?} {}", partial.is_some())),
                Ok(Some(StreamItem::KeepAlivePing)) => found.push("ping".to_owned()),
                Ok(Some(StreamItem::KeepAlivePong)) => found.push("pong".to_owned()),
                Ok(None) => break,
                Err(lost) => found.push(format!("lost: {:?} {}", lost.error, lost.partial.is_some())),
            }
        }
    }
    found
}

#[test]
fn a_stream_of_single_bytes_yields_the_same_as_one_piece() {
    for (name, bytes, _) in all() {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let sevens: Vec<&[u8]> = bytes.chunks(7).collect();
        let whole = stream_of(&[&bytes]);
        assert_eq!(stream_of(&single), whole, "{name}");
        assert_eq!(stream_of(&sevens), whole, "{name}");
    }
}

#[test]
fn a_stream_yields_what_a_datagram_does_where_the_length_is_said() {
    for (name, bytes, message) in readable() {
        let first = stream_of(&[&bytes]).into_iter().next().unwrap();
        if message.header(Header::ContentLength).is_some() {
            assert_eq!(first, format!("{:?}", message.bytes()), "{name}");
        } else {
            assert_eq!(first, "lost: ContentLengthMissing true", "{name}");
        }
    }
}

#[test]
fn all_framed_messages_in_one_stream_come_out_one_by_one() {
    let messages: Vec<Message> = readable()
        .map(|(_, _, message)| message)
        .filter(|message| message.header(Header::ContentLength).is_some())
        .collect();
    let stream: Vec<u8> = messages.iter().flat_map(|message| message.bytes().to_vec()).collect();
    let expected: Vec<String> = messages.iter().map(|message| format!("{:?}", message.bytes())).collect();
    assert_eq!(stream_of(&[&stream]), expected);
    assert_eq!(stream_of(&stream.chunks(1).collect::<Vec<_>>()), expected);
    assert_eq!(stream_of(&stream.chunks(1460).collect::<Vec<_>>()), expected);
}

#[test]
fn a_length_that_lies_loses_the_stream_or_waits() {
    assert_eq!(stream_of(&[&bytes_of("rfc4475", "ncl")]), ["lost: ContentLength true"]);
    assert_eq!(stream_of(&[&bytes_of("rfc4475", "mcl01")]), ["lost: ContentLengthConflict true"]);
    assert_eq!(stream_of(&[&bytes_of("rfc4475", "clerr")]), Vec::<String>::new());
}

#[test]
fn white_space_folding_and_case_do_not_matter() {
    let message = rfc4475("wsinv");
    assert_eq!(message.method(), Method::Invite);
    assert_eq!(message.to().unwrap().tag(), Some("1918181833n"));
    assert_eq!(message.from().unwrap().tag(), Some("98asjd8"));
    assert_eq!(message.from().unwrap().display, Some(r#"J Rosenberg \\\""#));
    assert_eq!(message.max_forwards().unwrap(), Some(68));
    let cseq = message.cseq().unwrap();
    assert_eq!((cseq.number, cseq.method), (9, "INVITE"));
    let vias: Vec<_> = message.values(Header::Via).map(|via| meshtone_sip::message::Via::parse(via).unwrap()).collect();
    let seen: Vec<_> = vias.iter().map(|via| (via.transport, via.host, via.branch())).collect();
    assert_eq!(
        seen,
        [
            ("UDP", "192.0.2.2", Some("390skdjuw")),
            ("TCP", "spindle.example.com", Some("z9hG4bK9ikj8")),
            ("UDP", "192.168.255.111", Some("z9hG4bK30239")),
        ]
    );
    let contact = message.contacts().next().unwrap().unwrap();
    assert_eq!(contact.display, Some(r#"Quoted string \"\""#));
    assert_eq!(contact.param("newparam"), Some(Some("newvalue")));
    assert_eq!(contact.param("secondparam"), Some(None));
    assert_eq!(contact.param("q"), Some(Some("0.33")));
    assert_eq!(message.header_named("unknownheaderwithunusualvalue"), Some(";;,,;;,;"));
    assert_eq!(message.header_named("NewFangledHeader"), Some("newfangled value\r\n continued newfangled value"));
    assert_eq!(message.header(Header::Subject), Some(""));
}

#[test]
fn a_method_of_all_characters_a_token_may_have_is_kept() {
    let message = rfc4475("intmeth");
    assert_eq!(message.method(), Method::Other);
    assert_eq!(message.method_name(), "!interesting-Method0123456789_*+`.%indeed'~");
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!(uri.user, Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"));
    assert_eq!(uri.password, Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
    assert_eq!(uri.host, "example.com");
    assert_eq!(message.to().unwrap().display, Some("BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f"));
}

#[test]
fn escapes_in_a_user_are_resolved_once_and_in_a_method_never() {
    let message = rfc4475("esc01");
    let to = Uri::parse(message.to().unwrap().uri).unwrap();
    assert_eq!(to.address_of_record(), "user@example.com");
    assert!(to.equivalent(&Uri::parse("sip:user@EXAMPLE.com").unwrap()));
    let target = Uri::parse(message.request_uri()).unwrap();
    assert_eq!(target.address_of_record(), "sips%3Auser%40example.com@example.net");
    let contact = Uri::parse(message.contacts().next().unwrap().unwrap().uri).unwrap();
    assert_eq!(contact.param("lr"), Some(None));
    assert_eq!(contact.param("name"), Some(Some("v%61lue%25%34%31")));

    assert_eq!(rfc4475("esc02").method(), Method::Other);
}

#[test]
fn an_escaped_nul_ends_nothing() {
    let message = rfc4475("escnull");
    assert_eq!(Uri::parse(message.to().unwrap().uri).unwrap().address_of_record(), "null-%00-null@example.com");
    let contacts: Vec<Uri<'_>> = message.contacts().map(|contact| Uri::parse(contact.unwrap().uri).unwrap()).collect();
    assert_eq!(contacts.len(), 2);
    assert!(!contacts[0].equivalent(&contacts[1]));
}

#[test]
fn semicolons_in_a_user_are_no_parameters() {
    let message = rfc4475("semiuri");
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!(uri.user, Some("user;par=u%40example.net"));
    assert_eq!(uri.host, "example.com");
    assert_eq!(uri.params.as_str(), "");
}

#[test]
fn unknown_transports_stand_in_vias() {
    let message = rfc4475("transports");
    assert_eq!(message.top_via().unwrap().transport, "UDP");
    assert_eq!(message.values(Header::Via).count(), 5);
}

#[test]
fn a_binary_body_is_kept_byte_for_byte() {
    let bytes = bytes_of("rfc4475", "mpart01");
    let message = rfc4475("mpart01");
    let length: usize = message.header(Header::ContentLength).unwrap().parse().unwrap();
    assert_eq!(message.body(), &bytes[bytes.len() - length..]);
    assert!(std::str::from_utf8(message.body()).is_err());
}

#[test]
fn reason_phrases_may_be_in_any_script_or_missing() {
    assert_eq!(rfc4475("unreason").status(), 200);
    assert!(rfc4475("unreason").reason().starts_with("= 2**3 * 5**2 "));
    assert_eq!((rfc4475("noreason").status(), rfc4475("noreason").reason()), (100, ""));
}

#[test]
fn an_unquoted_display_name_with_a_comma_is_refused() {
    let bytes = [bytes_of("rfc4475", "baddn").as_ref(), b"\r\n"].concat();
    let message = Message::parse(bytes.into()).unwrap();
    assert_eq!(message.validate(), Err(ParseError::Malformed(Header::From)));
}

#[test]
fn each_overlarge_number_is_refused_by_itself() {
    let message = rfc4475("scalar02");
    assert!(message.cseq().is_err());
    assert!(message.max_forwards().is_err());
    assert!(message.expires().is_err());
    let number = message
        .edit()
        .set(Header::CSeq, "1 REGISTER")
        .set(Header::MaxForwards, "70")
        .set(Header::Expires, "60")
        .finish();
    assert_eq!(number.validate(), Err(ParseError::Malformed(Header::Contact)));
}

#[test]
fn an_unknown_contact_parameter_belongs_to_where_it_stands() {
    let outside = rfc4475("cparam01");
    let contact: NameAddr<'_> = outside.contacts().next().unwrap().unwrap();
    assert_eq!((contact.uri, contact.param("unknownparam")), ("sip:+19725552222@gw1.example.net", Some(None)));

    let inside = rfc4475("cparam02");
    let contact = inside.contacts().next().unwrap().unwrap();
    assert_eq!((contact.uri, contact.param("unknownparam")), ("sip:+19725552222@gw1.example.net;unknownparam", None));
    assert_eq!(Uri::parse(contact.uri).unwrap().param("unknownparam"), Some(None));
}

#[test]
fn headers_in_a_contact_stay_part_of_its_uri() {
    let message = rfc4475("regescrt");
    let contact = message.contacts().next().unwrap().unwrap();
    assert_eq!(Uri::parse(contact.uri).unwrap().headers, "Route=%3Csip:sip.example.com%3E");
    assert!(message.header(Header::Route).is_none());
}

#[test]
fn ipv6_addresses_keep_brackets_and_ports_apart() {
    let uri_of = |name: &str| {
        let message = Message::parse(bytes_of("rfc5118", name)).unwrap();
        let uri = Uri::parse(message.request_uri()).unwrap();
        (uri.host.to_owned(), uri.port)
    };
    assert_eq!(uri_of("port-ambiguous"), ("[2001:db8::10:5070]".to_owned(), None));
    assert_eq!(uri_of("port-unambiguous"), ("[2001:db8::10]".to_owned(), Some(5070)));

    let received = |name: &str| {
        let message = Message::parse(bytes_of("rfc5118", name)).unwrap();
        message.top_via().unwrap().received().unwrap().to_owned()
    };
    assert_eq!(received("via-received-param-with-delim"), "[2001:db8::9:255]");
    assert_eq!(received("via-received-param-no-delim"), "2001:db8::9:255");

    let mapped = Message::parse(bytes_of("rfc5118", "ipv4-mapped-ipv6")).unwrap();
    let via = mapped.top_via().unwrap();
    assert_eq!((via.host, via.port), ("[::ffff:192.0.2.10]", Some(19823)));
}
