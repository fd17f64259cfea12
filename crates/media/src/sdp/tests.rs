//! Tests of parser and answerer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

const LOCAL: Local =
    Local { address: IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)), port: 16_400, session_id: 42, version: 1 };

const OFFER: &str = "v=0\r\no=alice 1 1 IN IP4 192.0.2.1\r\ns=call\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 40000 RTP/AVP 96 0 8 101 102\r\n\
    a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
    a=rtpmap:102 telephone-event/48000\r\na=fmtp:102 0-16\r\na=ptime:20\r\na=sendrecv\r\n\
    m=video 40002 RTP/AVP 97 98\r\na=rtpmap:97 VP8/90000\r\n";

fn answer_to(offer: &str) -> Result<(String, Agreement), SdpError> {
    answer(&Session::parse(offer.as_bytes())?, &LOCAL)
}

fn audio(lines: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 {lines}")
}

#[test]
fn the_first_codec_and_its_events_are_taken_and_other_streams_refused() {
    let (text, agreement) = answer_to(OFFER).unwrap();
    assert_eq!(
        text,
        "v=0\r\no=- 42 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
        m=audio 16400 RTP/AVP 96 102\r\n\
        a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n\
        a=rtpmap:102 telephone-event/48000\r\na=fmtp:102 0-16\r\na=sendrecv\r\n\
        m=video 0 RTP/AVP 97 98\r\n"
    );
    assert_eq!(agreement.remote_address, Some("192.0.2.1".parse().unwrap()));
    assert_eq!((agreement.remote_port, agreement.payload_type, agreement.clock_rate), (40_000, 96, 48_000));
    assert_eq!((agreement.event_payload_type, agreement.direction), (Some(102), Direction::SendRecv));
}

#[test]
fn static_payload_types_need_no_rtpmap_and_dynamic_ones_do() {
    let (text, agreement) = answer_to(&audio("RTP/AVP 100 13 9 0\r\n")).unwrap();
    assert!(text.contains("m=audio 16400 RTP/AVP 9\r\n"), "{text}");
    assert_eq!((agreement.payload_type, agreement.clock_rate, agreement.event_payload_type), (9, 8000, None));
}

#[test]
fn a_hold_is_answered_by_listening() {
    for (offered, answered) in
        [("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive"), ("sendrecv", "sendrecv")]
    {
        let (text, agreement) = answer_to(&audio(&format!("RTP/AVP 0\r\na={offered}\r\n"))).unwrap();
        assert!(text.ends_with(&format!("a={answered}\r\n")), "{text}");
        assert_eq!(agreement.direction.as_str(), answered);
    }
    let (_, agreement) = answer_to(&audio("RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n")).unwrap();
    assert_eq!((agreement.direction, agreement.remote_address), (Direction::RecvOnly, None));
}

#[test]
fn a_direction_of_the_session_holds_where_the_stream_says_none() {
    let offer = audio("RTP/AVP 0\r\n").replace("t=0 0", "t=0 0\r\na=sendonly");
    assert_eq!(answer_to(&offer).unwrap().1.direction, Direction::RecvOnly);
}

#[test]
fn what_cannot_be_answered_maps_to_488() {
    for lines in [
        "RTP/SAVP 0\r\n",
        "UDP/TLS/RTP/SAVPF 0\r\n",
        "RTP/AVPF 0\r\n",
        "RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n",
        "RTP/AVP 13\r\n",
        "RTP/AVP 128\r\n",
        "RTP/AVP +0\r\n",
        "RTP/AVP 0\r\nc=IN IP6 2001:db8::1\r\n",
        "RTP/AVP 0\r\nc=IN IP4 224.2.1.1/127\r\n",
    ] {
        assert_eq!(answer_to(&audio(lines)).unwrap_err().status(), 488, "{lines}");
    }
    assert_eq!(answer_to(&audio("RTP/AVP 0\r\n").replace("4000", "0")).unwrap_err(), SdpError::NoAudio);
    assert_eq!(answer_to("v=0\r\ns=-\r\n").unwrap_err(), SdpError::NoAudio);
}

#[test]
fn a_plain_stream_beside_a_secure_one_is_taken() {
    let offer = audio("RTP/SAVP 0\r\nm=audio 5000 RTP/AVP 8\r\n");
    let (text, agreement) = answer_to(&offer).unwrap();
    assert!(text.contains("m=audio 0 RTP/SAVP 0\r\nm=audio 16400 RTP/AVP 8\r\n"), "{text}");
    assert_eq!(agreement.remote_port, 5000);
}

#[test]
fn a_name_instead_of_an_address_leaves_the_address_open() {
    let (_, agreement) = answer_to(&audio("RTP/AVP 0\r\nc=IN IP4 phone.example.org\r\n")).unwrap();
    assert_eq!(agreement.remote_address, None);
}

#[test]
fn the_timing_of_the_offer_is_repeated() {
    let offer = audio("RTP/AVP 0\r\n").replace("t=0 0", "t=3034423619 3042462419");
    assert!(answer_to(&offer).unwrap().0.contains("\r\nt=3034423619 3042462419\r\n"));
}

#[test]
fn what_is_not_a_description_is_refused() {
    for bad in [
        "",
        "v=1\r\n",
        "o=- 1 1 IN IP4 192.0.2.1\r\n",
        "v=0\r\nno equals sign\r\n",
        "v=0\r\nmm=x\r\n",
        "v=0\r\nm=audio\r\n",
        "v=0\r\nm=audio 65536 RTP/AVP 0\r\n",
        "v=0\r\nm=audio -1 RTP/AVP 0\r\n",
        "v=0\r\nm=audio 1 RTP/AVP\r\n",
        "v=0\r\nc=IN\r\n",
        "v=0\r\nt=now\r\n",
        "v=0\r\nt=0 0\rm=audio\r\n",
        "v=0\r\nm=audio 1 RTP/AVP 0\r\na=rtpmap:0 PCMU\r\n",
        "v=0\r\nm=audio 1 RTP/AVP 0\r\na=rtpmap:0 PCMU/0\r\n",
        "v=0\r\nm=audio 1 RTP/AVP 0\r\na=rtcp:x\r\n",
    ] {
        assert_eq!(Session::parse(bad.as_bytes()).unwrap_err().status(), 400, "{bad:?}");
    }
    assert!(Session::parse(b"v=0\r\ns=\xff\r\n").is_err());
}

#[test]
fn bombs_are_refused_by_their_size() {
    let media = "m=audio 1 RTP/AVP 0\r\n";
    let many = |count: usize| format!("v=0\r\n{}", media.repeat(count));
    assert!(Session::parse(many(MAX_MEDIA).as_bytes()).is_ok());
    assert_eq!(Session::parse(many(MAX_MEDIA + 1).as_bytes()), Err(SdpError::TooMany));
    let formats = format!("v=0\r\nm=audio 1 RTP/AVP{}\r\n", " 0".repeat(MAX_FORMATS + 1));
    assert_eq!(Session::parse(formats.as_bytes()), Err(SdpError::TooMany));
    let maps = format!("v=0\r\n{media}{}", "a=rtpmap:0 PCMU/8000\r\n".repeat(MAX_FORMATS + 1));
    assert_eq!(Session::parse(maps.as_bytes()), Err(SdpError::TooMany));
    let long = format!("v=0\r\ns={}\r\n", "x".repeat(MAX_SDP_LEN));
    assert_eq!(Session::parse(long.as_bytes()).unwrap_err().status(), 413);
}

#[test]
fn plain_line_feeds_and_unknown_lines_are_read() {
    let offer = format!(
        "v=0\ne=a@b\nk=x\n{}b=AS:64\nz=0 0\n",
        "m=audio 1 RTP/AVP 0\nc=IN IP4 192.0.2.9/127\na=rtcp:5\na=candidate:x\n"
    );
    let session = Session::parse(offer.as_bytes()).unwrap();
    let media = &session.media[0];
    assert_eq!((media.rtcp, session.timing), (Some(5), "0 0"));
    assert_eq!(session.connection_of(media), Some(Connection::Address("192.0.2.9".parse().unwrap())));
}

#[test]
fn our_offer_can_be_answered_and_the_answer_accepted() {
    let ours = offer(&LOCAL);
    let (theirs, _) = answer(&Session::parse(ours.as_bytes()).unwrap(), &Local { port: 20_000, ..LOCAL }).unwrap();
    let agreement = accept(&Session::parse(theirs.as_bytes()).unwrap(), &LOCAL).unwrap();
    assert_eq!((agreement.payload_type, agreement.event_payload_type, agreement.remote_port), (0, Some(101), 20_000));
    let refused = ours.replace("m=audio 16400", "m=audio 0");
    assert_eq!(accept(&Session::parse(refused.as_bytes()).unwrap(), &LOCAL), Err(SdpError::NoAudio));
}
