//! Tests of the parser, the views, the editor and the builder. The torture messages of the RFCs are in `tests/torture.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;

use super::*;

const HEAD: &str = "INVITE sip:bob@example.net SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport, SIP/2.0/TCP b.example.org;branch=z9hG4bK2\r\n\
    v: SIP/2.0/UDP 192.0.2.3;branch=z9hG4bK3\r\n\
    Max-Forwards: 70\r\n\
    f: \"Alice, A.\" <sip:alice@example.org>;tag=a1\r\n\
    To: Bob <sip:bob@example.net>\r\n\
    Call-ID: abc@192.0.2.1\r\n\
    CSeq: 1 INVITE\r\n\
    X-Foo : v\r\n\
    Contact: <sip:alice@192.0.2.1>\r\n";

fn parse(text: &str) -> Result<Message, ParseError> {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn invite() -> Message {
    parse(&format!("{HEAD}Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody")).unwrap()
}

fn text(message: &Message) -> &str {
    std::str::from_utf8(message.bytes()).unwrap()
}

/// What is built is indexed without being parsed; both must agree.
fn assert_indexed(message: &Message) {
    let again = Message::parse(message.bytes().clone()).unwrap();
    assert_eq!(again.bytes(), message.bytes());
    assert!(again.all_fields().eq(message.all_fields()));
    assert_eq!(again.slots, message.slots);
    assert_eq!((again.start_line, again.body), (message.start_line, message.body));
}

#[test]
fn the_parts_of_a_request_are_found() {
    let message = invite();
    assert!(message.is_request());
    assert_eq!((message.method(), message.method_name()), (Method::Invite, "INVITE"));
    assert_eq!(message.request_uri(), "sip:bob@example.net");
    assert_eq!((message.status(), message.reason()), (0, ""));
    assert_eq!(message.values(Header::Via).count(), 3);
    assert_eq!(message.fields(Header::Via).count(), 2);
    assert_eq!(message.top_via().unwrap().rport(), Some(None));
    assert_eq!(message.from().unwrap().display, Some("Alice, A."));
    assert_eq!(message.header_named("x-foo"), Some("v"));
    assert_eq!(message.header_named("VIA"), message.header_named("v"));
    assert_eq!(message.body(), b"body");
    assert_eq!(message.validate(), Ok(()));
}

#[test]
fn a_response_takes_its_method_from_cseq() {
    let message = parse("SIP/2.0 180 Ringing\r\nCSeq: 7 INVITE\r\n\r\n").unwrap();
    assert_eq!((message.status(), message.reason(), message.method()), (180, "Ringing", Method::Invite));
    assert!(!message.is_request());
    assert_eq!(parse("SIP/2.0 200\r\nCSeq: 7 INVITE\r\n\r\n").unwrap().reason(), "");
}

#[test]
fn line_breaks_before_the_start_line_are_skipped() {
    let message = parse(&format!("\r\n\r\n{HEAD}\r\n")).unwrap();
    assert!(text(&message).starts_with("INVITE"));
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for (field, error) in [
        ("Content-Length: 4\r\nl: 0\r\n", ParseError::ContentLengthConflict),
        ("Content-Length: 4\r\nContent-Length : 5\r\n", ParseError::ContentLengthConflict),
        ("Content-Length: 4, 4\r\n", ParseError::ContentLength),
        ("Content-Length: +4\r\n", ParseError::ContentLength),
        ("Content-Length: 4\r\n 0\r\n", ParseError::ContentLength),
        ("Content-Length: 0x4\r\n", ParseError::ContentLength),
        ("Content-Length:\r\n", ParseError::ContentLength),
        ("Content-Length: 99999999999999999999\r\n", ParseError::ContentLength),
        ("X: a\nContent-Length: 4\r\n", ParseError::BareLineBreak),
        ("X: a\rContent-Length: 4\r\n", ParseError::BareLineBreak),
        ("X: a\0b\r\n", ParseError::Nul),
        ("X: \"a\\\0b\0\"\r\n", ParseError::Nul),
        ("no colon\r\n", ParseError::FieldLine),
        (": no name\r\n", ParseError::FieldLine),
        ("two words: v\r\n", ParseError::FieldLine),
        ("X\r\n : v\r\n", ParseError::FieldLine),
    ] {
        assert_eq!(parse(&format!("{HEAD}{field}\r\nbody")).err(), Some(error), "{field:?}");
    }
}

#[test]
fn the_same_length_said_twice_is_one_length() {
    let message = parse(&format!("{HEAD}Content-Length: 4\r\nl: 04\r\n\r\nbody and more")).unwrap();
    assert_eq!(message.body(), b"body");
}

#[test]
fn a_folded_value_is_one_value() {
    let message = parse(&format!("{HEAD}Subject: one\r\n\ttwo\r\n  three \r\nl: 0\r\n\r\n")).unwrap();
    assert_eq!(message.header(Header::Subject), Some("one\r\n\ttwo\r\n  three"));
    assert_eq!(message.header(Header::ContentLength), Some("0"));
}

#[test]
fn a_head_that_is_not_text_is_refused_but_a_body_may_be_anything() {
    let head = [HEAD.as_bytes(), b"Subject: \xff\r\n\r\n"].concat();
    assert_eq!(Message::parse(head.into()).err(), Some(ParseError::NotUtf8));
    let body = [HEAD.as_bytes(), b"\r\n\xff\0\r\n"].concat();
    assert_eq!(Message::parse(body.into()).unwrap().body(), b"\xff\0\r\n");
}

#[test]
fn a_partial_reading_leaves_malformed_lines_out() {
    let bad = format!("{HEAD}Subject: a\r\nno colon\r\nX: a\nVia: evil\r\nY: \0\r\nServer: s");
    let partial = Message::parse_lenient(bad.into()).unwrap();
    assert_eq!(partial.header(Header::Subject), Some("a"));
    assert_eq!(partial.header_named("X"), None);
    assert_eq!(partial.header_named("Y"), None);
    assert_eq!(partial.header(Header::Server), Some("s"));
    let edited = partial.edit().remove(Header::Via).finish();
    assert!(text(&edited).contains("\r\nSubject: a\r\nServer: s\r\n"), "{}", text(&edited));
    let answer = Builder::response(&partial, 400, "").to_tag("x").finish();
    assert_indexed(&answer);
    assert_eq!(answer.fields(Header::Via).count(), 2);
}

#[test]
fn more_fields_than_the_bound_are_refused() {
    let fields = "X: y\r\n".repeat(MAX_FIELDS - 9);
    assert!(parse(&format!("{HEAD}{fields}\r\n")).is_ok());
    assert_eq!(parse(&format!("{HEAD}X: y\r\n{fields}\r\n")).err(), Some(ParseError::TooManyFields));
}

#[test]
fn a_message_beyond_the_bound_is_refused() {
    let long = format!("{HEAD}X: {}\r\n\r\n", "y".repeat(MAX_MESSAGE_LEN));
    assert_eq!(parse(&long).err(), Some(ParseError::MessageTooLarge));
    assert_eq!(ParseError::MessageTooLarge.status(), 513);
}

#[test]
fn numbers_out_of_range_are_refused() {
    let with = |field: &str, value: &str| {
        let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{field}: {value}\r\n\r\n");
        parse(&text).unwrap()
    };
    assert_eq!(with("CSeq", "4294967295 OPTIONS").cseq().unwrap().number, u32::MAX);
    for bad in ["4294967296 OPTIONS", "-1 OPTIONS", "1", "1 ", "OPTIONS", "1 OPT IONS", "1.0 OPTIONS"] {
        assert!(with("CSeq", bad).cseq().is_err(), "{bad}");
    }
    assert_eq!(with("Max-Forwards", "255").max_forwards(), Ok(Some(255)));
    assert!(with("Max-Forwards", "256").max_forwards().is_err());
    assert_eq!(with("Expires", "4294967295").expires(), Ok(Some(u32::MAX)));
    assert!(with("Expires", "").expires().is_err());
}

#[test]
fn commas_in_quotes_and_brackets_separate_nothing() {
    let split = |text| split_values(text).collect::<Vec<_>>();
    assert_eq!(
        split(r#"<sip:a,b@c>, "x, \" <y" <sip:d@e>;p=",",f"#),
        ["<sip:a,b@c>", r#""x, \" <y" <sip:d@e>;p=",""#, "f"]
    );
    assert_eq!(split(" , a ,, b,"), ["a", "b"]);
    assert_eq!(split(r#""open, b"#), [r#""open, b"#]);
}

#[test]
fn addresses_are_read_in_both_forms() {
    let read = |text| NameAddr::parse(text).unwrap();
    let address = read(r#""A \"B\"" <sip:a@b;lr?x=y>;tag=1;q="z""#);
    assert_eq!((address.display, address.uri, address.tag()), (Some(r#"A \"B\""#), "sip:a@b;lr?x=y", Some("1")));
    assert_eq!(address.param("Q"), Some(Some("\"z\"")));
    let address = read("sip:a@b;tag=1");
    assert_eq!((address.display, address.uri, address.tag()), (None, "sip:a@b", Some("1")));
    assert_eq!(read("Grüße von Ä. <sip:a@b>").display, Some("Grüße von Ä."));
    assert!(read("*").is_wildcard());
    for bad in [
        "",
        "<",
        "<>",
        "<sip:a@b",
        "\"a <sip:a@b>",
        "\"a\" sip:a@b",
        "<sip:a@b>x",
        "<sip:a@b>;",
        "<sip:a@b>;;tag=1",
        "<sip:a@b>;=1",
        "<sip:a@b>;tag=",
        "a, b <sip:a@b>",
        "sip:a@b?x=y",
        "<sip:a @b>",
        "<sip:a@b>;p=\"open",
    ] {
        assert!(NameAddr::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn uris_are_taken_apart() {
    let uri = Uri::parse("sips:a;x:pw@[2001:db8::1]:5061;transport=tcp;lr?subject=hi").unwrap();
    assert_eq!((uri.user, uri.password, uri.host, uri.port), (Some("a;x"), Some("pw"), "[2001:db8::1]", Some(5061)));
    assert_eq!((uri.param("TRANSPORT"), uri.param("lr"), uri.param("x")), (Some(Some("tcp")), Some(None), None));
    assert_eq!((uri.headers, uri.is_sips()), ("subject=hi", true));
    assert_eq!(Uri::parse("tel:+1-555;phone-context=x").unwrap().opaque, "+1-555;phone-context=x");
    for bad in [
        "",
        "sip",
        "sip:",
        ":a",
        "1sip:a",
        "sip:@b",
        "sip:a@",
        "sip:a@b:",
        "sip:a@b:x",
        "sip:a@b:65536",
        "sip:a@b:+80",
        "sip:a@b@c",
        "sip:a@[::1",
        "sip:a@[x]",
        "sip:a@::1",
        "sip:a b@c",
        "sip:a%4@b",
        "sip:a%zz@b",
        "sip:a@b/c",
        "sip:.",
        "sip:a@b..c",
        "sip:a@.b",
        "<sip:a@b>",
    ] {
        assert!(Uri::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_address_of_record_has_one_spelling() {
    let address = |text| Uri::parse(text).unwrap().address_of_record();
    for same in ["sip:alice@Example.ORG", "sips:%61lice:pw@example.org.", "sip:al%69ce@example.org:5080;x=y?a=b"] {
        assert_eq!(address(same), "alice@example.org");
    }
    assert_eq!(address("sip:a%2fb%40c%00@h"), "a/b%40c%00@h");
    assert_eq!(address("sip:Alice@h"), "Alice@h");
    assert_eq!(address("sip:EXAMPLE.org"), "example.org");
}

#[test]
fn uris_compare_as_the_rfc_shows() {
    // The examples of RFC 3261 §19.1.4.
    let same = |a, b| {
        let (a, b) = (Uri::parse(a).unwrap(), Uri::parse(b).unwrap());
        assert_eq!(a.equivalent(&b), b.equivalent(&a));
        a.equivalent(&b)
    };
    assert!(same("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"));
    assert!(same("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"));
    assert!(same("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"));
    assert!(same(
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com"
    ));
    assert!(same(
        "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:alice@atlanta.com?priority=urgent&subject=project%20x"
    ));
    assert!(!same("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"));
    assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"));
    assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"));
    assert!(!same("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"));
    assert!(!same("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"));
    assert!(!same("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"));
    assert!(!same("sip:a@b", "sips:a@b"));
}

#[test]
fn edits_apply_one_after_the_other() {
    let message = invite();
    let edited = message
        .edit()
        .request_uri("sip:bob@192.0.2.9")
        .prepend(Header::Via, "SIP/2.0/TCP p;branch=z9hG4bK0")
        .prepend(Header::RecordRoute, "<sip:p;lr>")
        .prepend(Header::RecordRoute, "<sip:q;lr>")
        .set(Header::MaxForwards, "69")
        .remove(Header::Contact)
        .append(Header::Via, "SIP/2.0/UDP last")
        .finish();
    assert_indexed(&edited);
    assert_eq!(
        text(&edited),
        "INVITE sip:bob@192.0.2.9 SIP/2.0\r\n\
        Record-Route: <sip:q;lr>\r\n\
        Record-Route: <sip:p;lr>\r\n\
        Via: SIP/2.0/TCP p;branch=z9hG4bK0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport, SIP/2.0/TCP b.example.org;branch=z9hG4bK2\r\n\
        v: SIP/2.0/UDP 192.0.2.3;branch=z9hG4bK3\r\n\
        Via: SIP/2.0/UDP last\r\n\
        Max-Forwards: 69\r\n\
        f: \"Alice, A.\" <sip:alice@example.org>;tag=a1\r\n\
        To: Bob <sip:bob@example.net>\r\n\
        Call-ID: abc@192.0.2.1\r\n\
        CSeq: 1 INVITE\r\n\
        X-Foo : v\r\n\
        Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"
    );
}

#[test]
fn values_are_popped_and_replaced_one_by_one() {
    let message = invite();
    let mut editor = message.edit();
    editor.pop_value(Header::Via);
    assert_eq!(editor.finish().top_via().unwrap().branch(), Some("z9hG4bK2"));
    editor.replace_first_value(Header::Via, "SIP/2.0/UDP x;branch=z9hG4bKx");
    assert_eq!(editor.finish().values(Header::Via).count(), 2);
    editor.pop_value(Header::Via).pop_value(Header::Via);
    assert!(editor.finish().top_via().is_err());
    editor.pop_value(Header::Via);
    assert_indexed(&editor.finish());

    let mut editor = message.edit();
    editor.replace_first_value(Header::Via, "SIP/2.0/UDP x;branch=z9hG4bKx");
    let vias: Vec<_> = editor.finish().values(Header::Via).map(str::to_owned).collect();
    assert_eq!(
        vias,
        [
            "SIP/2.0/UDP x;branch=z9hG4bKx",
            "SIP/2.0/TCP b.example.org;branch=z9hG4bK2",
            "SIP/2.0/UDP 192.0.2.3;branch=z9hG4bK3"
        ]
    );
}

#[test]
fn folds_and_white_space_around_an_edit_stay_as_they_came() {
    let (before, after) = (
        "Via: SIP/2.0/UDP h;branch=z9hG4bK1 \t\r\nSubject : one\r\n two  \r\nX: 1\r\n",
        "X: 2  \r\nX:\r\nExpires: 1\r\n",
    );
    let message = parse(&format!("OPTIONS sip:a@b SIP/2.0\r\n{before}Max-Forwards: 70\r\n{after}\r\nbody")).unwrap();
    let edited = message.edit().set(Header::MaxForwards, "69").finish();
    assert_indexed(&edited);
    let expected =
        format!("OPTIONS sip:a@b SIP/2.0\r\n{before}Max-Forwards: 69\r\n{after}Content-Length: 4\r\n\r\nbody");
    assert_eq!(text(&edited), expected);
}

#[test]
fn a_new_body_brings_its_type_and_length() {
    let edited = invite().edit().body("application/sdp", b"v=0\r\n").finish();
    assert_indexed(&edited);
    assert_eq!(edited.body(), b"v=0\r\n");
    assert_eq!(
        (edited.header(Header::ContentType), edited.header(Header::ContentLength)),
        (Some("application/sdp"), Some("5"))
    );
    let emptied = edited.edit().body("", b"").finish();
    assert_eq!((emptied.header(Header::ContentType), emptied.header(Header::ContentLength)), (None, Some("0")));
}

#[test]
fn a_length_is_added_where_it_is_missing_and_never_made_up() {
    let message = parse(&format!("{HEAD}\r\nbody")).unwrap();
    let edited = message.edit().set(Header::ContentLength, "999").finish();
    assert_eq!(edited.header(Header::ContentLength), Some("4"));
    assert_indexed(&edited);
}

#[test]
fn nothing_handed_in_begins_a_new_line() {
    let evil = "x\r\nRoute: <sip:evil>\r\n\r\n\0";
    let edited = invite()
        .edit()
        .request_uri(evil)
        .set(Header::Subject, evil)
        .prepend(Header::Via, evil)
        .append_named("X-Evil", evil)
        .append_named("X\r\nRoute", "<sip:evil>")
        .finish();
    assert!(edited.header(Header::Route).is_none());
    let built = Builder::request("OPTIONS", "sip:a@b")
        .header(Header::Subject, evil)
        .header_named("X-Evil", evil)
        .header_named("X\r\nRoute", "<sip:evil>")
        .header_named("Content-Length", "99")
        .finish();
    assert_indexed(&built);
    assert!(built.header(Header::Route).is_none());
    let answer = Builder::response(&invite(), 404, evil).to_tag(evil).header(Header::Server, evil).finish();
    assert_indexed(&answer);
    assert!(answer.header(Header::Route).is_none());
}

#[test]
fn a_response_repeats_what_the_rfc_says() {
    let request = invite();
    let response = Builder::response(&request, 180, "").to_tag("t1").header(Header::Contact, "<sip:b@c>").finish();
    assert_indexed(&response);
    assert_eq!(
        text(&response),
        "SIP/2.0 180 Ringing\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport, SIP/2.0/TCP b.example.org;branch=z9hG4bK2\r\n\
        v: SIP/2.0/UDP 192.0.2.3;branch=z9hG4bK3\r\n\
        f: \"Alice, A.\" <sip:alice@example.org>;tag=a1\r\n\
        To: Bob <sip:bob@example.net>;tag=t1\r\n\
        Call-ID: abc@192.0.2.1\r\n\
        CSeq: 1 INVITE\r\n\
        Contact: <sip:b@c>\r\n\
        Content-Length: 0\r\n\r\n"
    );
    assert_eq!(response.validate(), Ok(()));
}

#[test]
fn a_tag_is_added_only_where_there_is_none() {
    let request = invite().edit().set(Header::To, "<sip:bob@example.net>;tag=old").finish();
    let response = Builder::response(&request, 200, "OK").to_tag("new").finish();
    assert_eq!(response.to().unwrap().tag(), Some("old"));
    let trying = Builder::response(&invite(), 100, "").to_tag("new").finish();
    assert_eq!(trying.to().unwrap().tag(), None);
}

#[test]
fn a_response_without_its_first_via_is_what_the_editor_makes_of_it() {
    let starts = ["SIP/2.0 200 OK", "SIP/2.0 200", "sip/2.0 200 OK", "SIP/2.0 486 Busy \u{e4}"];
    let vias = [
        "Via: SIP/2.0/UDP a",
        "v:SIP/2.0/UDP a ",
        "Via: SIP/2.0/UDP a, SIP/2.0/UDP b",
        "Via: ,SIP/2.0/UDP a",
        "Via: SIP/2.0/UDP\r\n a",
    ];
    let rests = [
        "Via: SIP/2.0/UDP z\r\nl: 2\r\n",
        "Content-Length: 2\r\nVIA : SIP/2.0/UDP z\r\n",
        "Via: SIP/2.0/UDP z\r\n",
        "l: 2\r\n",
    ];
    let mut cut = 0;
    for number in 0..starts.len() * vias.len() * rests.len() * 4 {
        let (variant, number) = (number % 4, number / 4);
        let (start, number) = (starts[number % starts.len()], number / starts.len());
        let (via, rest) = (vias[number % vias.len()], rests[number / vias.len()]);
        let before = if variant < 2 { "" } else { "Call-ID: c\r\n" };
        let body = if variant % 2 == 0 { b"ab" } else { b"\xff\xfe" };
        let head = format!(
            "{start}\r\n{before}{via}\r\nFrom: <sip:a@b>;tag=1\r\n{rest}To: <sip:c@d>\r\nCSeq: 7 INVITE\r\n\r\n"
        );
        let response = Message::parse([head.as_bytes(), body].concat().into()).unwrap();
        let _ = response.read_essentials();
        let without = response.without_first_value(Header::Via);
        assert_indexed(&without);
        let edited = response.edit().pop_value(Header::Via).finish();
        assert_eq!(without.bytes(), edited.bytes(), "{head}");
        assert_eq!((without.from(), without.to(), without.cseq()), (edited.from(), edited.to(), edited.cseq()));
        assert_eq!((without.status(), without.body()), (edited.status(), edited.body()));
        cut += usize::from(response.without_first_line(Header::Via).is_some());
    }
    assert!(cut > 20, "{cut} were cut");
}

#[test]
fn a_first_value_or_a_tag_is_put_in_and_nothing_else_moves() {
    let noted = invite().with_first_value(Header::Via, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;received=192.0.2.9");
    assert_indexed(&noted);
    let vias: Vec<&str> = noted.values(Header::Via).collect();
    assert_eq!(vias.first().copied(), Some("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;received=192.0.2.9"));
    assert!(vias.iter().skip(1).copied().eq(invite().values(Header::Via).skip(1)));
    assert!(noted.all_fields().skip(1).eq(invite().all_fields().skip(1)));
    assert_eq!(noted.body(), b"body");

    let tagged = noted.with_to_tag("t1");
    assert_indexed(&tagged);
    assert_eq!(text(&tagged), text(&noted).replace("<sip:bob@example.net>\r\n", "<sip:bob@example.net>;tag=t1\r\n"));
    assert_eq!(tagged.to().unwrap().tag(), Some("t1"));
}

#[test]
fn a_first_value_is_found_behind_empty_ones_and_over_folds_and_stays_one_line() {
    let folded = parse(
        "OPTIONS sip:a@b SIP/2.0\r\nCall-ID: c\r\nv: , ,\r\n SIP/2.0/UDP a;branch=1\r\n ;x , SIP/2.0/UDP b\r\nCSeq: 1 OPTIONS\r\n\r\n",
    );
    let noted = folded.unwrap().with_first_value(Header::Via, "SIP/2.0/UDP c\r\nEvil: 1");
    assert_indexed(&noted);
    assert_eq!(noted.header(Header::Via), Some(", ,\r\n SIP/2.0/UDP cEvil: 1 , SIP/2.0/UDP b"));
    assert_eq!(noted.cseq().unwrap().number, 1);
    let without = parse("OPTIONS sip:a@b SIP/2.0\r\nCall-ID: c\r\n\r\n").unwrap();
    assert_eq!(without.with_first_value(Header::Via, "SIP/2.0/UDP c").bytes(), without.bytes());
    assert_eq!(without.with_to_tag("t").bytes(), without.bytes());
}

#[test]
fn more_fields_than_fit_inline_change_nothing() {
    let mut editor_source = invite();
    for index in 0..80 {
        editor_source = editor_source.edit().append_named("X-Many", &index.to_string()).finish();
    }
    assert_indexed(&editor_source);
    assert_eq!(editor_source.all_fields().filter(|(name, _)| *name == "X-Many").count(), 80);
    let removed = editor_source.edit().remove_named("x-many").finish();
    assert_eq!(removed.bytes(), invite().bytes());
}

#[test]
fn a_number_or_a_service_may_be_called_and_other_schemes_are_told_so() {
    let with = |uri: &str| {
        let text = String::from_utf8(invite().bytes().to_vec()).unwrap();
        let (start, rest) = text.split_once("\r\n").unwrap();
        assert!(start.starts_with("INVITE "));
        Message::parse(format!("INVITE {uri} SIP/2.0\r\n{rest}").into()).unwrap().validate()
    };
    for uri in ["tel:+15551234", "urn:service:sos", "URN:service:sos.police"] {
        assert_eq!(with(uri), Ok(()), "{uri}");
    }
    assert_eq!(with("soap.beep://192.0.2.103:3002"), Err(ParseError::Scheme));
}

#[test]
fn debug_output_tells_no_address() {
    assert_eq!(format!("{:?}", invite()), "Message(INVITE <uri>)");
}

#[test]
fn a_body_that_is_no_text_changes_nothing_in_how_a_message_is_read_and_edited() {
    let body = [0xff, 0xfe, 0, b'\r', b'\n', 0xc3];
    let mixed = invite().edit().body("application/octet-stream", &body).finish();
    let text = invite().edit().body("application/octet-stream", b"123456").finish();
    let again = Message::parse(mixed.bytes().clone()).unwrap();
    assert_indexed(&mixed);
    for mixed in [mixed, again] {
        assert_eq!(mixed.body(), body);
        assert!(mixed.all_fields().eq(text.all_fields()));
        let edit = |message: &Message| {
            let noted = message.with_first_value(Header::Via, "SIP/2.0/UDP h").with_to_tag("t");
            noted.edit().set(Header::Subject, "\u{e4}\r\n").pop_value(Header::Via).finish()
        };
        let (edited, expected) = (edit(&mixed), edit(&text));
        assert_indexed(&edited);
        assert_eq!(edited.body(), body);
        assert!(edited.all_fields().eq(expected.all_fields()));
        assert_eq!(edited.bytes().len(), expected.bytes().len());
    }
    let head = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nSubject: ".as_bytes();
    let no_text = [head, &[0xff], b"\r\n\r\n"].concat();
    assert_eq!(Message::parse(Bytes::from(no_text)).unwrap_err(), ParseError::NotUtf8);
}

#[test]
fn what_is_known_of_a_message_is_what_would_be_read_of_it() {
    let bodies = [
        ("sip:a@b", "<sip:c@d>"),
        ("\"A, \\\"B\\\"\" <sip:a@b;x=y>;p=\"q;r\"", "sip:c@d"),
        ("A <sip:a@b> ; p ", "<sip:c@d>;x=y"),
    ];
    for ((from, to), to_tag) in bodies.into_iter().flat_map(|body| [(body, ""), (body, ";tag=t1")]) {
        let text = format!(
            "INVITE sip:c@d SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bKx\r\nf: {from};tag=f1\r\nt: {to}{to_tag}\r\n\
             i: c\r\nm: {to};q=0.5\r\nCSeq:  7\tINVITE\r\nMax-Forwards: 70\r\n\r\n"
        );
        let request = Message::parse(text.into()).unwrap();
        request.read_essentials().unwrap();
        let flow = |message: &Message| message.with_first_value(Header::From, "<sip:new@b>;tag=other");
        let edited = |edit: &mut dyn FnMut(&mut Editor<'_>)| {
            let mut editor = request.edit();
            edit(&mut editor);
            editor.finish()
        };
        let response = |tag: Option<&str>| {
            let builder = Builder::response(&request, 200, "");
            tag.into_iter().fold(builder, Builder::to_tag).header(Header::Server, "s").finish()
        };
        let messages = [
            request.clone(),
            request.with_insertion(Header::Via, 3, "x"),
            flow(&request),
            request.with_to_tag("t2"),
            edited(&mut |editor| {
                editor.set(Header::MaxForwards, "69").prepend(Header::RecordRoute, "<sip:p>");
            }),
            edited(&mut |editor| {
                editor
                    .set(Header::From, "<sip:new@b>")
                    .set(Header::To, "X <sip:new@d>;tag=n")
                    .set(Header::CSeq, "8 INVITE");
            }),
            response(None),
            response(Some(" t3 ")),
        ];
        for message in messages {
            let again = Message::parse(message.bytes().clone()).unwrap();
            assert_eq!(message.from(), again.from(), "{from}");
            assert_eq!(message.to(), again.to(), "{to}{to_tag}");
            assert_eq!(message.cseq(), again.cseq());
            assert!(message.contacts().eq(again.contacts()), "{to}");
            assert_eq!((message.from_tag(), message.to_tag()), (again.from_tag(), again.to_tag()));
        }
    }
}

#[test]
fn contacts_are_the_same_before_and_after_a_message_was_checked() {
    for contacts in [
        "m: <sip:a@b>\r\n",
        "m: \r\nm: <sip:a@b>\r\n",
        "m: , sip:a@b ,\r\n",
        "m: <sip:a@b>, <sip:c@d>\r\n",
        "m: *\r\n",
        "",
    ] {
        let text = format!(
            "REGISTER sip:b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: c\r\n\
             CSeq: 1 REGISTER\r\n{contacts}\r\n"
        );
        let request = Message::parse(text.into()).unwrap();
        let before: Vec<_> = request.contacts().collect();
        request.read_essentials().unwrap();
        assert_eq!(request.contacts().collect::<Vec<_>>(), before, "{contacts}");
    }
}
