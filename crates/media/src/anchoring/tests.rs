//! What each end is told of the other.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use super::*;
use crate::relay::{Fingerprint, Format, Protection};
use crate::sdes::Crypto;
use crate::srtp::Suite;

const KEY: &str = "1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR";

fn description(host: &str, lines: &str) -> String {
    let family = if host.contains(':') { "IP6" } else { "IP4" };
    format!("v=0\r\no=phone 1 1 IN {family} {host}\r\ns=call\r\nc=IN {family} {host}\r\nt=0 0\r\n{lines}")
}

fn plain(host: &str, lines: &str) -> String {
    description(host, &format!("m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n{lines}"))
}

type Fill = Box<dyn FnMut(&mut [u8])>;

/// Keys that differ each time.
fn fill() -> impl FnMut(&mut [u8]) {
    let mut next = 0_u8;
    move |bytes| {
        next += 1;
        bytes.fill(next);
    }
}

struct Call {
    anchoring: Anchoring,
    fill: Fill,
}

impl Call {
    fn new(profile: Profile) -> Call {
        Call::between("198.51.100.1", "198.51.100.2", profile)
    }

    fn between(near: &str, far: &str, profile: Profile) -> Call {
        let mut anchoring = Anchoring::new(near.parse().unwrap(), far.parse().unwrap(), [11, 22], profile);
        anchoring.use_ports(End::Near, vec![16_000, 16_002]);
        anchoring.use_ports(End::Far, vec![17_000, 17_002]);
        Call { anchoring, fill: Box::new(fill()) }
    }

    fn offer(&mut self, from: End, text: &str) -> String {
        String::from_utf8(self.anchoring.offer(from, text.as_bytes(), &mut self.fill).unwrap()).unwrap()
    }

    fn answer(&mut self, from: End, text: &str) -> (String, Agreed) {
        let (written, agreed) = self.anchoring.answer(from, text.as_bytes(), &mut self.fill).unwrap();
        (String::from_utf8(written).unwrap(), agreed)
    }
}

/// Without what is offered to phones that can more: keys and checks.
fn without_wishes(text: &str) -> String {
    let is_wish = |line: &&str| ["a=crypto", "a=ice-", "a=candidate"].iter().any(|name| line.starts_with(name));
    text.split_inclusive("\r\n").filter(|line| !is_wish(line)).collect()
}

fn cryptos(text: &str) -> Vec<Crypto> {
    let session = Session::parse(text.as_bytes()).unwrap();
    session.media[0].values("crypto").filter_map(Crypto::parse).collect()
}

fn protection(terms: &[Option<Terms>]) -> Option<Protection> {
    terms[0].as_ref().unwrap().protection.clone()
}

#[test]
fn each_end_is_told_our_addresses_and_the_others_codecs() {
    let mut call = Call::new(Profile::Optional);
    let offer = plain("192.0.2.5", "a=ptime:20\r\na=candidate:1 1 UDP 1 192.0.2.5 4000 typ host\r\na=rtcp:4009\r\n");
    let offered = call.offer(End::Near, &offer);
    assert!(!offered.contains("192.0.2.5"), "its candidates are its own: {offered}");
    assert_eq!(
        without_wishes(&offered),
        "v=0\r\no=- 22 1 IN IP4 198.51.100.2\r\ns=-\r\nc=IN IP4 198.51.100.2\r\nt=0 0\r\n\
         m=audio 17000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    );
    let (answered, agreed) = call.answer(End::Far, &description("192.0.2.6", "m=audio 5000 RTP/AVP 0\r\n"));
    assert_eq!(
        answered,
        "v=0\r\no=- 11 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
         m=audio 16000 RTP/AVP 0\r\na=sendrecv\r\n"
    );
    let near = agreed.near[0].clone().unwrap();
    assert_eq!(near.remote, Some("192.0.2.5:4000".parse().unwrap()));
    assert_eq!(near.remote_rtcp, Some("192.0.2.5:4009".parse().unwrap()));
    assert_eq!(
        (near.sends, near.protection, near.formats),
        (true, None, [0, 101].map(|format| Format::new(format, 8000)).to_vec())
    );
    let far = agreed.far[0].clone().unwrap();
    assert_eq!(far.remote_rtcp, Some("192.0.2.6:5001".parse().unwrap()));
}

#[test]
fn keys_are_each_ends_own() {
    let mut call = Call::new(Profile::Sdes);
    let secure = plain("192.0.2.5", &format!("a=crypto:{}\r\n", KEY.replacen('1', "7", 1))).replace("AVP", "SAVP");
    let offered = call.offer(End::Near, &secure);
    assert!(offered.contains("m=audio 17000 RTP/SAVP 0 101\r\n") && !offered.contains("PS1uQCVeeCF"), "{offered}");
    let ours = cryptos(&offered);
    assert_eq!(ours.len(), Suite::ALL.len());
    let second = format!("a=crypto:{}\r\n", KEY.replacen('1', "2", 1));
    let (answered, agreed) = call.answer(End::Far, &plain("192.0.2.6", &second).replace("AVP", "SAVP"));
    let far = protection(&agreed.far).unwrap();
    assert_eq!((far.ours, far.theirs), (ours[1].key.clone(), Crypto::parse(KEY).unwrap().key));
    let near = protection(&agreed.near).unwrap();
    let answer = cryptos(&answered);
    assert_eq!((answer[0].tag, &answer[0].key), (7, &near.ours));
    assert_ne!(near.ours, ours[1].key);
}

#[test]
fn a_secure_end_and_a_plain_one_meet_in_both_directions() {
    let secure = plain("192.0.2.5", &format!("a=crypto:{KEY}\r\n")).replace("AVP", "SAVP");
    let mut call = Call::new(Profile::Optional);
    assert!(call.offer(End::Near, &secure).contains("RTP/AVP"));
    let (answered, agreed) = call.answer(End::Far, &plain("192.0.2.6", ""));
    assert!(answered.contains("m=audio 16000 RTP/SAVP 0 101\r\n") && cryptos(&answered).len() == 1, "{answered}");
    assert!(protection(&agreed.near).is_some() && protection(&agreed.far).is_none());

    let mut call = Call::new(Profile::Sdes);
    assert!(call.offer(End::Near, &plain("192.0.2.6", "")).contains("RTP/SAVP"));
    let line = format!("a=crypto:{}\r\n", KEY.replacen('1', "2", 1));
    let (answered, agreed) = call.answer(End::Far, &plain("192.0.2.5", &line).replace("AVP", "SAVP"));
    assert!(answered.contains("RTP/AVP") && cryptos(&answered).is_empty(), "{answered}");
    assert!(protection(&agreed.near).is_none() && protection(&agreed.far).is_some());
}

#[test]
fn keys_beside_a_plain_profile_are_taken_where_both_know_them() {
    let mut call = Call::new(Profile::Optional);
    let offered = call.offer(End::Near, &plain("192.0.2.5", &format!("a=crypto:{KEY}\r\n")));
    assert_eq!(cryptos(&offered).len(), Suite::ALL.len());
    let line = format!("a=crypto:{}\r\n", KEY.replacen('1', "2", 1));
    let (answered, agreed) = call.answer(End::Far, &plain("192.0.2.6", &line));
    assert_eq!(cryptos(&answered).len(), 1);
    assert!(protection(&agreed.near).is_some() && protection(&agreed.far).is_some());
}

#[test]
fn an_answer_without_the_keys_we_insisted_on_is_refused() {
    for lines in ["", "a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR\r\n"] {
        let mut call = Call::new(Profile::Sdes);
        call.offer(End::Near, &plain("192.0.2.5", ""));
        let answer = plain("192.0.2.6", lines).replace("AVP", "SAVP");
        assert_eq!(call.anchoring.answer(End::Far, answer.as_bytes(), &mut call.fill), Err(SdpError::NoAudio));
    }
}

#[test]
fn a_hold_passes_and_the_held_side_is_not_heard() {
    for (lines, host) in [("a=sendonly\r\n", "192.0.2.5"), ("", "0.0.0.0")] {
        let mut call = Call::new(Profile::Optional);
        call.offer(End::Near, &plain("192.0.2.5", ""));
        call.answer(End::Far, &plain("192.0.2.6", ""));
        let held = call.offer(End::Near, &plain(host, lines));
        assert!(held.contains("a=sendonly\r\n") && held.contains("c=IN IP4 198.51.100.2"), "{held}");
        assert!(held.contains("o=- 22 2 IN"), "a new version: {held}");
        let (answered, agreed) = call.answer(End::Far, &plain("192.0.2.6", "a=recvonly\r\n"));
        assert!(answered.contains("a=recvonly"), "{answered}");
        assert!(agreed.near[0].as_ref().unwrap().sends && !agreed.far[0].as_ref().unwrap().sends);
    }
}

#[test]
fn an_end_is_offered_what_it_spoke_before_with_the_keys_it_knows() {
    let mut call = Call::new(Profile::Optional);
    let secure = plain("192.0.2.5", &format!("a=crypto:{KEY}\r\n")).replace("AVP", "SAVP");
    call.offer(End::Near, &secure);
    let (answered, _) = call.answer(End::Far, &plain("192.0.2.6", ""));
    let again = call.offer(End::Far, &plain("192.0.2.6", ""));
    assert!(again.contains("m=audio 16000 RTP/SAVP"), "{again}");
    assert!(cryptos(&again).iter().any(|line| line.key == cryptos(&answered)[0].key));
}

#[test]
fn the_same_again_is_no_new_version() {
    let mut call = Call::new(Profile::Optional);
    let first = call.offer(End::Near, &plain("192.0.2.5", ""));
    call.answer(End::Far, &plain("192.0.2.6", ""));
    let again = call.offer(End::Near, &plain("192.0.2.5", ""));
    // What the far end speaks is known by now: no keys beside it, and no checks.
    assert_eq!(again, without_wishes(&first).replace("o=- 22 1", "o=- 22 2"));
    call.answer(End::Far, &plain("192.0.2.6", ""));
    assert_eq!(call.offer(End::Near, &plain("192.0.2.5", "")), again);
}

#[test]
fn several_streams_keep_their_places_and_what_is_no_rtp_is_refused() {
    let lines =
        "m=image 6000 udptl t38\r\nm=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 97\r\nm=audio 4002 RTP/AVP 8\r\n";
    let offer = description("192.0.2.5", lines);
    assert_eq!(Anchoring::streams(offer.as_bytes()), Ok(4));
    let mut call = Call::new(Profile::Optional);
    call.anchoring.use_ports(End::Near, vec![1, 3, 5, 7]);
    call.anchoring.use_ports(End::Far, vec![2, 4, 6, 8]);
    let offered = call.offer(End::Near, &offer);
    let places: Vec<&str> = offered.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(places, ["m=image 0 udptl t38", "m=audio 4 RTP/AVP 0", "m=video 0 RTP/AVP 97", "m=audio 8 RTP/AVP 8"]);
    let lines = "m=image 0 udptl t38\r\nm=audio 5000 RTP/AVP 0\r\nm=video 0 RTP/AVP 97\r\nm=audio 0 RTP/AVP 8\r\n";
    let (answered, agreed) = call.answer(End::Far, &description("192.0.2.6", lines));
    assert_eq!(answered.lines().filter(|line| line.starts_with("m=audio")).count(), 2);
    assert!(answered.contains("m=audio 3 RTP/AVP 0\r\n") && answered.contains("m=audio 0 RTP/AVP 8\r\n"), "{answered}");
    let carried: Vec<bool> = agreed.near.iter().map(Option::is_some).collect();
    assert_eq!(carried, [false, true, false, false]);
}

#[test]
fn one_end_may_speak_ipv4_and_the_other_ipv6() {
    let mut call = Call::between("198.51.100.1", "2001:db8::1", Profile::Optional);
    let offered = call.offer(End::Near, &plain("192.0.2.5", ""));
    assert!(offered.contains("c=IN IP6 2001:db8::1\r\n"), "{offered}");
    let (answered, agreed) = call.answer(End::Far, &plain("2001:db8::6", ""));
    assert!(answered.contains("c=IN IP4 198.51.100.1\r\n"), "{answered}");
    assert_eq!(agreed.far[0].as_ref().unwrap().remote, Some("[2001:db8::6]:4000".parse().unwrap()));
    let wrong = plain("192.0.2.6", "");
    assert_eq!(call.anchoring.answer(End::Far, wrong.as_bytes(), &mut call.fill), Err(SdpError::Address));
}

#[test]
fn an_offer_with_nothing_that_can_be_carried_is_refused() {
    for lines in [
        "m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n",
        "m=audio 4000 RTP/SAVP 0\r\n",
        "m=application 4000 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    ] {
        let mut call = Call::new(Profile::Optional);
        let offer = description("192.0.2.5", lines);
        assert_eq!(call.anchoring.offer(End::Near, offer.as_bytes(), &mut call.fill), Err(SdpError::NoAudio));
    }
    let mut call = Call::new(Profile::Optional);
    assert_eq!(
        call.anchoring.answer(End::Far, plain("192.0.2.6", "").as_bytes(), &mut call.fill),
        Err(SdpError::NoAudio)
    );
}

/// What a browser offers, shortened.
fn browser(setup: &str) -> String {
    let fingerprint = format!("sha-256 {}", ["AB"; 32].join(":"));
    description(
        "0.0.0.0",
        &format!(
            "a=group:BUNDLE 0\r\na=fingerprint:{fingerprint}\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 0 126\r\na=mid:0\r\n\
             a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=rtpmap:126 telephone-event/8000\r\n\
             a=ice-ufrag:theirs\r\na=ice-pwd:0123456789012345678901\r\na=setup:{setup}\r\na=rtcp-mux\r\na=sendrecv\r\n"
        ),
    )
}

fn with_fingerprint(profile: Profile) -> Call {
    let mut call = Call::new(profile);
    call.anchoring.identify(Fingerprint::parse(&format!("sha-256 {}", ["CD"; 32].join(":"))).unwrap());
    call
}

#[test]
fn a_browser_calls_a_phone_that_knows_nothing_of_browsers() {
    let mut call = with_fingerprint(Profile::Optional);
    let offered = call.offer(End::Near, &browser("actpass"));
    assert!(offered.contains("m=audio 17000 RTP/AVP 111 0 126\r\n") && offered.contains("a=sendrecv"), "{offered}");
    for theirs in ["theirs", "AB:AB", "rtcp-fb", "rtcp-mux", "mid", "BUNDLE", "0.0.0.0"] {
        assert!(!offered.contains(theirs), "{theirs}: {offered}");
    }
    let (answered, agreed) = call.answer(End::Far, &plain("192.0.2.6", ""));
    assert!(answered.contains("a=ice-lite\r\nm=audio 16000 UDP/TLS/RTP/SAVPF 0 101\r\n"), "{answered}");
    for ours in
        ["a=setup:passive", "a=mid:0", "a=rtcp-mux", "198.51.100.1 16000 typ host", "a=fingerprint:sha-256 CD:CD"]
    {
        assert!(answered.contains(ours), "{ours}: {answered}");
    }
    let Terms { dtls, ice, .. } = agreed.near[0].clone().unwrap();
    let (dtls, ice) = (dtls.unwrap(), ice.unwrap());
    assert!(ice.username.ends_with(":theirs") && !dtls.is_active && agreed.near[0].as_ref().unwrap().sends);
    assert!(answered.contains(&format!("a=ice-ufrag:{}\r\n", ice.username.trim_end_matches(":theirs"))));
    assert!(answered.contains(&format!("a=ice-pwd:{}\r\n", ice.password)));
    assert!(agreed.far[0].as_ref().unwrap().dtls.is_none());
}

#[test]
fn a_phone_calls_a_browser() {
    let mut call = with_fingerprint(Profile::WebRtc);
    let offered = call.offer(End::Near, &plain("192.0.2.5", ""));
    assert!(
        offered.contains("m=audio 17000 UDP/TLS/RTP/SAVPF 0 101\r\n") && offered.contains("a=setup:actpass"),
        "{offered}"
    );
    let (answered, agreed) = call.answer(End::Far, &browser("active"));
    assert!(answered.contains("m=audio 16000 RTP/AVP 111 0 126\r\n") && !answered.contains("ice"), "{answered}");
    assert!(!agreed.far[0].as_ref().unwrap().dtls.as_ref().unwrap().is_active);
    let mut call = with_fingerprint(Profile::WebRtc);
    call.offer(End::Near, &plain("192.0.2.5", ""));
    let refused = call.anchoring.answer(End::Far, plain("192.0.2.6", "").as_bytes(), &mut call.fill);
    assert_eq!(refused, Err(SdpError::NoAudio), "it left out how it proves itself");
}

/// What a desk phone that does checks adds to what it describes.
const CHECKS: &str = "a=ice-ufrag:phon\r\na=ice-pwd:0123456789012345678901\r\na=candidate:1 1 UDP 2130706431 192.0.2.6 4000 typ host\r\n";

#[test]
fn a_phone_that_does_checks_is_offered_them_and_its_reports_have_a_way_of_their_own() {
    for (profile, protocol) in
        [(Profile::Optional, "RTP/AVP"), (Profile::Sdes, "RTP/SAVP"), (Profile::Dtls, "UDP/TLS/RTP/SAVP")]
    {
        let mut call = with_fingerprint(profile);
        let offered = call.offer(End::Near, &plain("192.0.2.5", ""));
        for ours in [
            "a=ice-lite",
            "a=ice-ufrag:",
            "1 1 UDP 2130706431 198.51.100.2 17000",
            "1 2 UDP 2130706430 198.51.100.2 17001",
        ] {
            assert!(offered.contains(ours), "{ours}: {offered}");
        }
        let (answered, agreed) = call.answer(End::Far, &certified("192.0.2.6", protocol, "active", CHECKS));
        assert!(!answered.contains("ice") && !answered.contains("candidate"), "{answered}");
        let far = agreed.far[0].clone().unwrap();
        let username = far.ice.as_ref().unwrap().username.clone();
        assert!(username.ends_with(":phon") && far.dtls.is_some_and(|dtls| !dtls.is_muxed), "{protocol}");
        assert_eq!(far.remote, None, "checks find out where it is");
        // It is offered the same again, without new checks.
        let again = call.offer(End::Near, &plain("192.0.2.5", "a=sendonly\r\n"));
        assert!(again.contains(&format!("a=ice-ufrag:{}\r\n", username.trim_end_matches(":phon"))), "{again}");
    }
}

#[test]
fn who_offers_checks_is_answered_whatever_protects_its_sound() {
    let secure = format!("{CHECKS}a=crypto:{KEY}\r\n");
    for offer in [
        plain("192.0.2.5", CHECKS),
        plain("192.0.2.5", &secure).replace("RTP/AVP", "RTP/SAVP"),
        certified("192.0.2.5", "UDP/TLS/RTP/SAVPF", "actpass", CHECKS),
    ] {
        let mut call = with_fingerprint(Profile::Optional);
        call.offer(End::Near, &offer);
        let (answered, agreed) = call.answer(End::Far, &plain("192.0.2.6", ""));
        assert!(
            answered.contains("a=ice-lite") && answered.contains("UDP 2130706430 198.51.100.1 16001"),
            "{answered}"
        );
        assert!(!answered.contains("rtcp-mux"), "it has not offered that: {answered}");
        assert!(agreed.near[0].as_ref().unwrap().ice.is_some());
        // One that only answers checks, too, is where it says.
        let mut call = with_fingerprint(Profile::Optional);
        call.offer(End::Near, &offer.replacen("m=audio", "a=ice-lite\r\nm=audio", 1));
        let (answered, agreed) = call.answer(End::Far, &plain("192.0.2.6", ""));
        assert!(!answered.contains("ice"), "{answered}");
        let near = agreed.near[0].clone().unwrap();
        assert_eq!((near.ice, near.remote), (None, Some("192.0.2.5:4000".parse().unwrap())));
    }
}

/// What a desk phone with a certificate describes.
fn certified(host: &str, protocol: &str, setup: &str, lines: &str) -> String {
    let fingerprint = format!("a=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n", ["AB"; 32].join(":"));
    plain(host, &format!("{fingerprint}{lines}")).replace("RTP/AVP", protocol)
}

#[test]
fn a_phone_with_a_certificate_is_answered_with_ours_and_others_know_nothing_of_it() {
    for (setup, ours, is_active) in
        [("actpass", "passive", false), ("active", "passive", false), ("passive", "active", true)]
    {
        let mut call = with_fingerprint(Profile::Optional);
        let offered = call.offer(End::Near, &certified("192.0.2.5", "UDP/TLS/RTP/SAVP", setup, "a=rtcp-mux\r\n"));
        assert!(offered.contains("m=audio 17000 RTP/AVP 0 101\r\n") && !offered.contains("AB:AB"), "{offered}");
        let (answered, agreed) = call.answer(End::Far, &plain("192.0.2.6", ""));
        assert!(answered.contains("m=audio 16000 UDP/TLS/RTP/SAVP 0 101\r\n"), "{answered}");
        assert!(answered.contains(&format!("a=setup:{ours}\r\n")) && answered.contains("CD:CD"), "{answered}");
        assert!(answered.contains("a=rtcp-mux") && !answered.contains("ice"), "{answered}");
        let near = agreed.near[0].clone().unwrap();
        let dtls = near.dtls.unwrap();
        assert_eq!((dtls.is_active, dtls.is_muxed, near.ice), (is_active, true, None));
        assert_eq!(near.remote, Some("192.0.2.5:4000".parse().unwrap()));
        assert_eq!(agreed.far[0].as_ref().unwrap().dtls, None);
    }
}

#[test]
fn a_phone_with_a_certificate_chooses_a_handshake_among_what_it_is_offered() {
    for (profile, protocol) in
        [(Profile::Optional, "RTP/AVP"), (Profile::Sdes, "RTP/SAVP"), (Profile::Dtls, "UDP/TLS/RTP/SAVP")]
    {
        let mut call = with_fingerprint(profile);
        let offered = call.offer(End::Near, &plain("192.0.2.5", ""));
        assert!(
            offered.contains(&format!("m=audio 17000 {protocol} 0")) && offered.contains("setup:actpass"),
            "{offered}"
        );
        let (answered, agreed) = call.answer(End::Far, &certified("192.0.2.6", protocol, "active", ""));
        assert!(answered.contains("RTP/AVP") && !answered.contains("fingerprint"), "{answered}");
        let far = agreed.far[0].clone().unwrap();
        assert_eq!(far.protection, None);
        assert!(far.dtls.is_some_and(|dtls| !dtls.is_active && !dtls.is_muxed), "{protocol}");
        // Who began the handshake stays who began it, whoever offers the next time.
        let again = call.offer(End::Far, &certified("192.0.2.6", protocol, "actpass", ""));
        assert!(!again.contains("fingerprint"), "{again}");
        let (answered, agreed) = call.answer(End::Near, &plain("192.0.2.5", ""));
        assert!(answered.contains("a=setup:passive"), "{answered}");
        assert!(agreed.far[0].as_ref().unwrap().dtls.is_some());
    }
    let mut call = with_fingerprint(Profile::Dtls);
    call.offer(End::Near, &plain("192.0.2.5", ""));
    let refused = call.anchoring.answer(End::Far, plain("192.0.2.6", "").as_bytes(), &mut call.fill);
    assert_eq!(refused, Err(SdpError::NoAudio), "it left out how it proves itself");
}

#[test]
fn where_no_codec_is_common_others_are_offered_and_each_end_reads_its_own_in_the_answer() {
    use crate::codec::Codec;

    let mut calling =
        Anchoring::new("192.0.2.1".parse().unwrap(), "192.0.2.1".parse().unwrap(), [1, 2], Profile::Optional);
    for end in End::ALL {
        calling.use_ports(end, vec![if end == End::Near { 6000 } else { 7000 }]);
    }
    let mut fill = |bytes: &mut [u8]| bytes.fill(7);
    assert!(!calling.convert(), "there is no offer yet");
    let offer = plain("192.0.2.5", "a=ptime:30\r\n");
    let without = String::from_utf8(calling.offer(End::Near, offer.as_bytes(), &mut fill).unwrap()).unwrap();
    assert!(!without.contains("opus"), "{without}");
    assert!(calling.convert());
    let with = String::from_utf8(calling.offer(End::Near, offer.as_bytes(), &mut fill).unwrap()).unwrap();
    assert!(with.contains(" RTP/AVP 0 101 96 9 8\r\n") && with.contains("a=rtpmap:96 opus/48000/2\r\n"), "{with}");

    let answer = description(
        "192.0.2.6",
        "m=audio 5000 RTP/AVP 96 101\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:101 telephone-event/8000\r\n",
    );
    let (told, agreed) = calling.answer(End::Far, answer.as_bytes(), &mut fill).unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(
        told.contains("m=audio 6000 RTP/AVP 0 101\r\n") && !told.contains("opus") && !told.contains("fmtp:96"),
        "{told}"
    );
    let [near, far] = agreed.converted[0].unwrap();
    assert_eq!((near.codec, near.payload_type, near.events), (Codec::Pcmu, 0, Some((101, 8000))));
    assert_eq!((far.codec, far.payload_type, far.events), (Codec::Opus, 96, Some((101, 8000))));
    let codec = |terms: &Option<Terms>, number| {
        terms
            .as_ref()
            .unwrap()
            .formats
            .iter()
            .find(|format| format.payload_type == number)
            .and_then(|format| format.codec)
    };
    assert_eq!((codec(&agreed.near[0], 0), codec(&agreed.far[0], 96)), (Some(Codec::Pcmu), Some(Codec::Opus)));

    // Who does speak the same is left alone, and is not told of what only we had offered.
    calling.offer(End::Near, offer.as_bytes(), &mut fill).unwrap();
    let answer = plain("192.0.2.6", "").replace("AVP 0 101", "AVP 0 8 101");
    let (told, agreed) = calling.answer(End::Far, answer.as_bytes(), &mut fill).unwrap();
    assert!(agreed.converted[0].is_none());
    assert!(String::from_utf8(told).unwrap().contains("m=audio 6000 RTP/AVP 0 101\r\n"));
}

#[test]
fn only_another_node_is_understood_by_its_flow() {
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut fill = |bytes: &mut [u8]| bytes.fill(7);
    let by_flow = b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 9 QUIC/RTP/AVPF 0\r\na=roq-flow-id:44\r\n";
    let plain = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let call = |flows: bool| {
        let mut anchoring = Anchoring::new(host, host, [1, 2], Profile::Optional);
        for end in End::ALL {
            anchoring.use_ports(end, vec![16_384]);
        }
        if flows {
            anchoring.use_flows(End::Near, vec![400]);
        }
        anchoring
    };
    assert!(call(false).offer(End::Near, by_flow, &mut fill).is_err(), "a phone that names a flow");
    assert!(call(true).offer(End::Near, plain, &mut fill).is_err(), "a node that names a place");
    let mut anchoring = call(true);
    let offered = String::from_utf8(anchoring.offer(End::Near, by_flow, &mut fill).unwrap()).unwrap();
    assert!(offered.contains("m=audio 16384 RTP/AVP 0") && !offered.contains("roq"), "{offered}");
    assert!(anchoring.answer(End::Far, by_flow, &mut fill).is_err(), "a phone that names a flow in its answer");
    let (answered, agreed) = anchoring.answer(End::Far, plain, &mut fill).unwrap();
    let answered = String::from_utf8(answered).unwrap();
    assert!(
        answered.contains("m=audio 9 QUIC/RTP/AVPF 0\r\n") && answered.contains("a=roq-flow-id:400\r\n"),
        "{answered}"
    );
    let near = agreed.near[0].as_ref().unwrap();
    assert_eq!((near.flow, near.remote, near.sends), (Some(44), None, true), "the zero address is no hold there");
    assert_eq!(agreed.far[0].as_ref().unwrap().flow, None);
}

/// A browser with a camera: sound and pictures over one transport.
fn filming(setup: &str, video: &str) -> String {
    let sound = browser(setup).replace("a=group:BUNDLE 0\r\n", "a=group:BUNDLE 0 eye\r\n");
    format!(
        "{sound}m=video {video} UDP/TLS/RTP/SAVPF 96 97\r\na=mid:eye\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n\
         a=fmtp:97 apt=96\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 ccm fir\r\na=ssrc-group:FID 70 71\r\na=ssrc:70 cname:x\r\n\
         a=ice-ufrag:theirs\r\na=ice-pwd:0123456789012345678901\r\na=setup:{setup}\r\na=rtcp-mux\r\na=sendrecv\r\n"
    )
}

#[test]
fn sound_and_pictures_of_a_browser_go_over_one_transport_each_way_round() {
    for video in ["9", "0"] {
        let mut call = with_fingerprint(Profile::WebRtc);
        // With no port of its own (RFC 8843 §6) it is there all the same.
        let only = if video == "0" { "a=bundle-only\r\n" } else { "" };
        let offered = call.offer(End::Near, &(filming("actpass", video) + only));
        assert!(offered.contains("a=group:BUNDLE 0 1\r\n") && offered.contains("a=mid:1\r\n"), "{offered}");
        assert!(offered.contains("m=audio 17000 ") && offered.contains("m=video 17002 "), "{offered}");
        for passed in ["a=rtcp-fb:96 nack pli", "a=rtcp-fb:96 ccm fir", "a=ssrc-group:FID 70 71", "a=fmtp:97 apt=96"] {
            assert!(offered.contains(passed), "{passed}: {offered}");
        }
        // The other one calls its streams as it was told.
        let answer = filming("active", "9").replace("BUNDLE 0 eye", "BUNDLE 0 1").replace("mid:eye", "mid:1");
        let (answered, agreed) = call.answer(End::Far, &answer);
        assert!(answered.contains("a=group:BUNDLE 0 eye\r\n") && answered.contains("a=mid:eye\r\n"), "{answered}");
        assert!(answered.contains("m=audio 16000 ") && answered.contains("m=video 16000 "), "{answered}");
        for terms in [&agreed.near, &agreed.far] {
            let [Some(sound), Some(pictures)] = &terms[..] else { panic!("{terms:?}") };
            assert!(sound.carrier.is_none() && sound.dtls.is_some());
            assert!(pictures.carrier == Some(0) && pictures.dtls.is_none() && pictures.sends);
        }
        // From then on it has one address (RFC 8843 §7.2).
        let again = call.offer(End::Near, &filming("actpass", "9"));
        assert!(again.contains("m=audio 17000 ") && again.contains("m=video 17000 "), "{again}");
    }
}

#[test]
fn ends_that_ask_for_key_frames_in_different_ways_are_each_told_of_their_own() {
    let (by_loss, by_command) = ("a=rtcp-fb:96 nack pli\r\n", "a=rtcp-fb:96 ccm fir\r\n");
    for (near, far) in [(by_loss, by_command), (by_command, by_loss)] {
        let mut call = with_fingerprint(Profile::WebRtc);
        let offered = call.offer(End::Near, &filming("actpass", "9").replace(far, ""));
        assert!(offered.contains(by_loss) && offered.contains(by_command), "{offered}");
        let (answered, agreed) = call.answer(End::Far, &filming("active", "9").replace(near, ""));
        assert!(answered.contains(near) && !answered.contains(far), "{answered}");
        let wishes = |terms: &[Option<Terms>]| terms[1].as_ref().unwrap().wishes;
        for (terms, own) in [(&agreed.near, near), (&agreed.far, far)] {
            let known = wishes(terms);
            assert_eq!((known.picture_loss, known.full_intra), (own == by_loss, own == by_command));
        }
    }
}

#[test]
fn a_browser_that_wants_a_transport_for_each_stream_and_phones_get_one_for_each() {
    let mut call = with_fingerprint(Profile::WebRtc);
    call.offer(End::Near, &filming("actpass", "9").replace("a=group:BUNDLE 0 eye\r\n", ""));
    let answer = filming("active", "9").replace("a=group:BUNDLE 0 eye\r\n", "");
    let (answered, agreed) = call.answer(End::Far, &answer);
    assert!(!answered.contains("BUNDLE") && answered.contains("m=video 16002 "), "{answered}");
    assert!(
        agreed.near.iter().chain(&agreed.far).flatten().all(|terms| terms.carrier.is_none() && terms.dtls.is_some())
    );

    // Two streams that number their codecs alike cannot be told apart.
    let mut call = with_fingerprint(Profile::WebRtc);
    let phone = plain("192.0.2.5", "m=video 4002 RTP/AVP 101\r\na=rtpmap:101 VP8/90000\r\n");
    let offered = call.offer(End::Near, &phone);
    assert!(!offered.contains("BUNDLE") && offered.contains("m=video 17002 "), "{offered}");
}

#[test]
fn where_one_stream_of_two_is_refused_the_other_has_its_own_transport() {
    let mut call = with_fingerprint(Profile::Optional);
    call.offer(End::Near, &filming("actpass", "9"));
    let (answered, agreed) = call.answer(End::Far, &plain("192.0.2.6", "m=video 0 RTP/AVP 96\r\n"));
    assert!(!answered.contains("BUNDLE") && answered.contains("m=video 0 "), "{answered}");
    assert!(agreed.near[0].as_ref().unwrap().dtls.is_some() && agreed.near[1].is_none());
}
