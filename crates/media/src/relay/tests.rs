//! Calls carried, in virtual time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use super::*;
use crate::rtp::Packet;
use crate::srtp::{MasterKey, Opener, Sealer, Suite};

const ALICE: &str = "192.0.2.5:4000";
const BOB: &str = "192.0.2.6:5000";
const MALLORY: &str = "203.0.113.66:4000";
const MS: Duration = Duration::from_millis(1);

const NEAR: Port = Port { end: End::Near, stream: 0, is_rtcp: false };
const FAR: Port = Port { end: End::Far, stream: 0, is_rtcp: false };

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn terms(address: &str, protection: Option<Protection>) -> Terms {
    let remote = at(address);
    let remote_rtcp = SocketAddr::new(remote.ip(), remote.port() + 1);
    Terms {
        remote: Some(remote),
        remote_rtcp: Some(remote_rtcp),
        sends: true,
        formats: vec![Format::new(0, 8000)],
        protection,
        dtls: None,
        ice: None,
        flow: None,
        events: None,
        wishes: Wishes::default(),
        carrier: None,
    }
}

fn keys(seed: u8) -> Protection {
    let key = |seed: u8| MasterKey::random(Suite::AesCm80, &mut |bytes| bytes.fill(seed));
    Protection { ours: key(seed), theirs: key(seed + 1) }
}

struct Call {
    relay: Relay,
    now: Instant,
}

impl Call {
    fn new(near: Terms, far: Terms) -> Call {
        let now = Instant::now();
        let mut call = Call { relay: Relay::new(now), now };
        call.agree(End::Near, near);
        call.agree(End::Far, far);
        call
    }

    fn plain() -> Call {
        Call::new(terms(ALICE, None), terms(BOB, None))
    }

    fn agree(&mut self, end: End, terms: Terms) {
        let signalling = terms.remote.map(|remote| remote.ip());
        self.relay.handle_terms(self.now, end, vec![Some(terms)], signalling);
    }

    /// Hands a datagram in; returns what leaves.
    fn pass(&mut self, port: Port, from: &str, datagram: &[u8]) -> Option<(Port, String, Vec<u8>)> {
        self.relay.handle_input(self.now, port, at(from), datagram);
        let out = self.relay.poll_transmit()?;
        assert_eq!(self.relay.poll_transmit(), None);
        Some((out.port, out.destination.to_string(), out.datagram))
    }
}

fn packet(sequence_number: u16, ssrc: u32) -> Vec<u8> {
    let timestamp = u32::from(sequence_number) * 160;
    Packet { marker: false, payload_type: 0, sequence_number, timestamp, ssrc, payload: b"tone" }.to_bytes()
}

fn report(ssrc: u32) -> Vec<u8> {
    [[0x80, 201, 0, 1].as_slice(), &ssrc.to_be_bytes()].concat()
}

#[test]
fn what_one_end_sends_reaches_the_other_as_it_is() {
    let mut call = Call::plain();
    assert_eq!(call.pass(NEAR, ALICE, &packet(1, 7)), Some((FAR, BOB.to_owned(), packet(1, 7))));
    assert_eq!(call.pass(FAR, BOB, &packet(900, 8)), Some((NEAR, ALICE.to_owned(), packet(900, 8))));
    let rtcp = Port { is_rtcp: true, ..NEAR };
    let passed = call.pass(rtcp, "192.0.2.5:4001", &report(7));
    assert_eq!(passed, Some((Port { is_rtcp: true, ..FAR }, "192.0.2.6:5001".to_owned(), report(7))));
}

#[test]
fn strangers_are_neither_heard_nor_spoken_to_before_and_after_the_ends_are() {
    let mut call = Call::plain();
    for _ in 0..2 {
        for number in 0..500 {
            for (port, stranger) in
                [(NEAR, MALLORY), (FAR, MALLORY), (NEAR, "192.0.2.5:4002"), (NEAR, BOB), (FAR, ALICE)]
            {
                assert_eq!(call.pass(port, stranger, &packet(number, 66)), None, "{stranger}");
            }
        }
        assert!(call.pass(NEAR, ALICE, &packet(1, 7)).is_some());
        assert_eq!(call.pass(NEAR, ALICE, &packet(2, 66)), None, "a forged address does not know the source");
        assert_eq!(call.pass(FAR, BOB, &packet(1, 8)).map(|out| out.1), Some(ALICE.to_owned()));
    }
}

#[test]
fn one_end_speaks_srtp_and_the_other_does_not() {
    let alices = keys(1);
    let mut call = Call::new(terms(ALICE, Some(alices.clone())), terms(BOB, None));
    let (mut sealer, mut opener) = (Sealer::new(&alices.theirs), Opener::new(&alices.ours));
    let sealed = sealer.seal_rtp(&packet(1, 7)).unwrap();
    assert_eq!(call.pass(NEAR, ALICE, &sealed).map(|out| out.2), Some(packet(1, 7)));
    let (_, _, sealed) = call.pass(FAR, BOB, &packet(5, 8)).unwrap();
    assert_eq!(opener.open_rtp(&sealed).unwrap(), packet(5, 8));
    let rtcp = Port { is_rtcp: true, ..NEAR };
    let sealed = sealer.seal_rtcp(&report(7)).unwrap();
    assert_eq!(call.pass(rtcp, "192.0.2.5:4001", &sealed).map(|out| out.2), Some(report(7)));
    assert_eq!(call.pass(NEAR, ALICE, &packet(2, 7)), None, "what is not protected is not taken");
}

#[test]
fn a_thousand_forged_packets_do_not_stop_a_protected_call() {
    let alices = keys(1);
    let mut call = Call::new(terms(ALICE, Some(alices.clone())), terms(BOB, None));
    let mut sealer = Sealer::new(&alices.theirs);
    let mut forger = Sealer::new(&keys(9).theirs);
    for number in 0..1000 {
        assert!(call.pass(NEAR, ALICE, &sealer.seal_rtp(&packet(number, 7)).unwrap()).is_some());
        let forged = forger.seal_rtp(&packet(number + 1, 7)).unwrap();
        assert_eq!(call.pass(NEAR, ALICE, &forged), None);
        assert_eq!(call.pass(NEAR, MALLORY, &forged), None);
        call.now += 20 * MS;
    }
    assert_eq!(call.relay.quality(End::Near).forged, 2000);
    assert_eq!(call.pass(FAR, BOB, &packet(1, 8)).map(|out| out.1), Some(ALICE.to_owned()), "nobody moved her");
}

#[test]
fn a_proven_packet_moves_an_end_and_a_repeated_one_does_not() {
    let alices = keys(1);
    let mut call = Call::new(terms(ALICE, Some(alices.clone())), terms(BOB, None));
    let mut sealer = Sealer::new(&alices.theirs);
    let first = sealer.seal_rtp(&packet(1, 7)).unwrap();
    assert!(call.pass(NEAR, ALICE, &first).is_some());
    assert_eq!(call.pass(NEAR, MALLORY, &first), None);
    assert_eq!(call.pass(FAR, BOB, &packet(1, 8)).map(|out| out.1), Some(ALICE.to_owned()));
    let moved = "198.51.100.7:9000";
    assert!(call.pass(NEAR, moved, &sealer.seal_rtp(&packet(2, 7)).unwrap()).is_some());
    assert_eq!(call.pass(FAR, BOB, &packet(2, 8)).map(|out| out.1), Some(moved.to_owned()));
}

#[test]
fn keys_that_stay_go_on_and_new_ones_begin_anew() {
    let alices = keys(1);
    let mut call = Call::new(terms(ALICE, Some(alices.clone())), terms(BOB, None));
    let mut opener = Opener::new(&alices.ours);
    let first = call.pass(FAR, BOB, &packet(5, 8)).unwrap().2;
    call.agree(End::Near, Terms { sends: false, ..terms(ALICE, Some(alices.clone())) });
    assert_eq!(call.pass(FAR, BOB, &packet(5, 8)), None, "the same key stream must not be used twice");
    assert!(opener.open_rtp(&first).is_ok());
    assert!(opener.open_rtp(&call.pass(FAR, BOB, &packet(6, 8)).unwrap().2).is_ok());
    let others = keys(5);
    call.agree(End::Near, terms(ALICE, Some(others.clone())));
    let sealed = call.pass(FAR, BOB, &packet(7, 8)).unwrap().2;
    assert!(Opener::new(&others.ours).open_rtp(&sealed).is_ok());
}

#[test]
fn who_is_on_hold_is_not_heard_and_what_was_not_agreed_is_not_carried() {
    let mut call = Call::plain();
    call.agree(End::Far, Terms { sends: false, ..terms(BOB, None) });
    assert_eq!(call.pass(FAR, BOB, &packet(1, 8)), None);
    assert!(call.pass(NEAR, ALICE, &packet(1, 7)).is_some());
    let other = Packet { payload_type: 8, ..Packet::parse(&packet(2, 7)).unwrap() }.to_bytes();
    assert_eq!(call.pass(NEAR, ALICE, &other), None);
    assert_eq!(call.pass(NEAR, ALICE, b"not rtp at all"), None);
    assert_eq!(call.pass(Port { stream: 1, ..NEAR }, ALICE, &packet(2, 7)), None);
    call.relay.handle_terms(call.now, End::Near, vec![None], None);
    assert_eq!(call.pass(NEAR, ALICE, &packet(2, 7)), None);
}

#[test]
fn a_flood_of_an_end_is_carried_no_faster_than_the_bound_and_a_strangers_takes_nothing_from_it() {
    let mut call = Call::plain();
    for number in 0..5000 {
        assert_eq!(call.pass(NEAR, MALLORY, &packet(number, 66)), None);
    }
    let carried = (0..5000).filter(|number| call.pass(NEAR, ALICE, &packet(*number, 7)).is_some()).count();
    assert_eq!(carried, usize::try_from(MAX_PACKETS_PER_SECOND).unwrap());
    call.now += 1000 * MS;
    assert!(call.pass(NEAR, ALICE, &packet(6000, 7)).is_some());
}

#[test]
fn silence_of_both_ends_is_told_once_and_later_on_hold() {
    let mut call = Call::plain();
    call.relay.handle_timeout(call.now + IDLE_LIMIT - MS);
    assert_eq!(call.relay.poll_event(), None);
    call.relay.handle_timeout(call.now + IDLE_LIMIT);
    assert_eq!(call.relay.poll_event(), Some(Event::Idle));
    assert_eq!(call.relay.poll_timeout(), None);
    let mut call = Call::plain();
    for (end, address) in [(End::Near, ALICE), (End::Far, BOB)] {
        call.agree(end, Terms { sends: false, ..terms(address, None) });
    }
    assert_eq!(call.relay.poll_timeout(), Some((call.now + HOLD_LIMIT, TimerReason::Idle)));
}

#[test]
fn quality_is_counted_for_each_end() {
    let mut call = Call::plain();
    for number in [1, 2, 4] {
        call.pass(NEAR, ALICE, &packet(number, 7));
        call.now += 20 * MS;
    }
    let (near, far) = (call.relay.quality(End::Near), call.relay.quality(End::Far));
    assert_eq!((near.received, near.lost, far.received), (3, 1, 0));
}

fn identity() -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    Identity::new(certificate.der().to_vec(), key.serialize_der())
}

const USER: &str = "ours:theirs";
const PASSWORD: &str = "0123456789012345678901";
const BROWSER: &str = "192.0.2.9:50000";

/// Terms of a handshake with whoever has this certificate.
fn handshake(certificate: &Identity, is_active: bool) -> DtlsTerms {
    DtlsTerms { fingerprint: certificate.fingerprint(), is_active, is_muxed: false }
}

/// A call between a browser, whose certificate is this one, and bob's phone.
fn with_browser(certificate: &Identity, own: Identity) -> Call {
    let now = Instant::now();
    let mut call = Call { relay: Relay::identified(now, Some(Arc::new(own))), now };
    let ice = IceTerms { username: USER.to_owned(), password: PASSWORD.to_owned() };
    let dtls = DtlsTerms { is_muxed: true, ..handshake(certificate, false) };
    call.agree(
        End::Near,
        Terms { remote: None, remote_rtcp: None, dtls: Some(dtls), ice: Some(ice), ..terms(ALICE, None) },
    );
    call.agree(End::Far, terms(BOB, None));
    call
}

/// Hands a datagram of the browser's in; returns what it gets for it.
fn browse(call: &mut Call, from: &str, datagram: &[u8]) -> Vec<Vec<u8>> {
    call.relay.handle_input(call.now, NEAR, at(from), datagram);
    let mut back = Vec::new();
    while let Some(transmit) = call.relay.poll_transmit() {
        assert_eq!((transmit.port, transmit.destination), (NEAR, at(from)));
        back.push(transmit.datagram);
    }
    back
}

#[test]
fn a_browser_proves_itself_and_talks_to_a_phone_over_one_port() {
    let (own, certificate) = (identity(), identity());
    let mut browser = dtls::Dtls::new(Instant::now(), &certificate, &handshake(&own, true), false);
    let mut call = with_browser(&certificate, own);
    let mut hello = browser.take_outgoing();
    assert!(!hello.is_empty());
    assert_eq!(browse(&mut call, BROWSER, &hello[0]), Vec::<Vec<u8>>::new(), "nobody was checked yet");
    assert_eq!(browse(&mut call, MALLORY, &check::request(USER, "guessed", true)), Vec::<Vec<u8>>::new());
    assert_eq!(browse(&mut call, BROWSER, &check::request(USER, PASSWORD, true)).len(), 1);
    for _ in 0..100 {
        assert_eq!(browse(&mut call, MALLORY, &hello[0]), Vec::<Vec<u8>>::new(), "another place was checked");
    }
    for _ in 0..10 {
        let mut back = Vec::new();
        for datagram in hello.drain(..) {
            back.extend(browse(&mut call, BROWSER, &datagram));
        }
        for datagram in back {
            browser.handle_input(call.now, &datagram);
        }
        hello = browser.take_outgoing();
    }
    let keys = browser.keys().unwrap();
    let (mut sealer, mut opener) = (Sealer::new(&keys.ours), Opener::new(&keys.theirs));
    let sealed = sealer.seal_rtp(&packet(1, 7)).unwrap();
    assert_eq!(call.pass(NEAR, BROWSER, &sealed), Some((FAR, BOB.to_owned(), packet(1, 7))));
    let sealed = sealer.seal_rtcp(&report(7)).unwrap();
    let rtcp = Port { is_rtcp: true, ..FAR };
    assert_eq!(call.pass(NEAR, BROWSER, &sealed), Some((rtcp, "192.0.2.6:5001".to_owned(), report(7))));
    let (port, to, sealed) = call.pass(FAR, BOB, &packet(3, 8)).unwrap();
    assert_eq!((port, to.as_str(), opener.open_rtp(&sealed).unwrap()), (NEAR, BROWSER, packet(3, 8)));
    let (port, _, sealed) = call.pass(rtcp, "192.0.2.6:5001", &report(8)).unwrap();
    assert_eq!((port, opener.open_rtcp(&sealed).unwrap()), (NEAR, report(8)), "RTCP goes to the same port");
    call.now += Duration::from_secs(31);
    assert_eq!(call.pass(FAR, BOB, &packet(4, 8)), None, "it does not say any more that it wants this");
    assert_eq!(browse(&mut call, BROWSER, &check::request(USER, PASSWORD, false)).len(), 1);
    assert!(call.pass(FAR, BOB, &packet(5, 8)).is_some());
}

#[test]
fn a_desk_phone_that_does_checks_is_where_they_come_from_for_sound_and_for_reports() {
    let ice = IceTerms { username: USER.to_owned(), password: PASSWORD.to_owned() };
    let near = Terms { remote: None, remote_rtcp: None, ice: Some(ice), ..terms(ALICE, None) };
    let mut call = Call::new(near, terms(BOB, None));
    let rtcp = Port { is_rtcp: true, ..NEAR };
    let (sound, reports) = ("198.51.100.5:6000", "198.51.100.5:6003");
    assert_eq!(call.pass(NEAR, sound, &packet(1, 7)), None, "no check came from there");
    assert_eq!(call.pass(FAR, BOB, &packet(1, 8)), None, "nobody is there");
    assert_eq!(call.pass(NEAR, MALLORY, &check::request(USER, "guessed", true)), None);
    let answered = call.pass(NEAR, sound, &check::request(USER, PASSWORD, true)).unwrap();
    assert_eq!((answered.0, answered.1.as_str()), (NEAR, sound));
    assert!(call.pass(rtcp, reports, &check::request(USER, PASSWORD, true)).is_some());
    assert_eq!(call.pass(NEAR, sound, &packet(1, 7)), Some((FAR, BOB.to_owned(), packet(1, 7))));
    assert_eq!(call.pass(FAR, BOB, &packet(1, 8)), Some((NEAR, sound.to_owned(), packet(1, 8))));
    let back = call.pass(Port { is_rtcp: true, ..FAR }, "192.0.2.6:5001", &report(8));
    assert_eq!(back, Some((rtcp, reports.to_owned(), report(8))));
    // Neither a stranger is heard nor another port of its host, however long it is silent, nor another source at its place.
    call.now += Duration::from_secs(3);
    for number in 0..20 {
        for stranger in [MALLORY, "198.51.100.5:6001", ALICE] {
            assert_eq!(call.pass(NEAR, stranger, &packet(number, 7)), None, "{stranger}");
        }
    }
    assert!(call.pass(NEAR, sound, &packet(2, 7)).is_some());
    assert_eq!(call.pass(NEAR, sound, &packet(3, 66)), None);
    // As long as it speaks, or says that it is there, it is spoken to.
    for second in 0..60 {
        call.now += Duration::from_secs(1);
        assert!(call.pass(NEAR, sound, &packet(10 + second, 7)).is_some());
        assert!(call.pass(FAR, BOB, &packet(10 + second, 8)).is_some());
    }
    for second in 0..6 {
        call.now += Duration::from_secs(15);
        assert_eq!(call.pass(NEAR, sound, &check::sign_of_life()), None);
        assert_eq!(call.pass(NEAR, MALLORY, &check::sign_of_life()), None);
        assert!(call.pass(FAR, BOB, &packet(100 + second, 8)).is_some());
    }
    call.now += Duration::from_secs(31);
    assert_eq!(call.pass(NEAR, MALLORY, &check::sign_of_life()), None);
    assert_eq!(call.pass(FAR, BOB, &packet(200, 8)), None, "it has gone");
    // What it chooses later counts from then on.
    let moved = "203.0.113.5:7000";
    assert!(call.pass(NEAR, moved, &check::request(USER, PASSWORD, true)).is_some());
    assert!(call.pass(NEAR, moved, &packet(300, 7)).is_some());
    assert_eq!(call.pass(NEAR, sound, &packet(301, 7)), None);
    assert_eq!(call.pass(FAR, BOB, &packet(300, 8)).map(|out| out.1), Some(moved.to_owned()));
}

#[test]
fn an_end_that_knows_commands_alone_is_not_asked_by_losses() {
    let far = Terms { wishes: Wishes { picture_loss: false, full_intra: true }, ..terms(BOB, None) };
    let mut call = Call::new(terms(ALICE, None), far);
    let rtcp = Port { is_rtcp: true, ..NEAR };
    let loss = [&report(7)[..], &[0x81, 206, 0, 2, 0, 0, 0, 7, 0, 0, 0, 8]].concat();
    let (_, _, asked) = call.pass(rtcp, "192.0.2.5:4001", &loss).unwrap();
    assert_eq!((asked.len(), &asked[8..12]), (28, &[0x84, 206, 0, 4][..]));
    let back = call.pass(Port { is_rtcp: true, ..FAR }, "192.0.2.6:5001", &loss).unwrap();
    assert_eq!(back.2, loss, "of the other end nothing is known");
}

/// The browser proves itself; returns what it seals with, and opens with.
fn prove(call: &mut Call, browser: &mut dtls::Dtls) -> (Sealer, Opener) {
    assert_eq!(browse(call, BROWSER, &check::request(USER, PASSWORD, true)).len(), 1);
    for _ in 0..10 {
        for datagram in browser.take_outgoing() {
            for back in browse(call, BROWSER, &datagram) {
                browser.handle_input(call.now, &back);
            }
        }
    }
    let keys = browser.keys().unwrap();
    (Sealer::new(&keys.ours), Opener::new(&keys.theirs))
}

#[test]
fn sound_and_pictures_over_one_transport_are_told_apart_both_ways() {
    let (own, certificate) = (identity(), identity());
    let mut browser = dtls::Dtls::new(Instant::now(), &certificate, &handshake(&own, true), false);
    let now = Instant::now();
    let mut call = Call { relay: Relay::identified(now, Some(Arc::new(own))), now };
    let ice = IceTerms { username: USER.to_owned(), password: PASSWORD.to_owned() };
    let dtls = DtlsTerms { is_muxed: true, ..handshake(&certificate, false) };
    let web = || Terms { remote: None, remote_rtcp: None, ..terms(ALICE, None) };
    let video = vec![Format::new(96, 90_000)];
    let near = vec![
        Some(Terms { dtls: Some(dtls), ice: Some(ice), ..web() }),
        Some(Terms { carrier: Some(0), formats: video.clone(), ..web() }),
    ];
    let bobs_video = "192.0.2.6:5010";
    let far = vec![Some(terms(BOB, None)), Some(Terms { formats: video, ..terms(bobs_video, None) })];
    call.relay.handle_terms(now, End::Near, near, None);
    call.relay.handle_terms(now, End::Far, far, None);
    let (mut sealer, mut opener) = prove(&mut call, &mut browser);

    let picture = |number, ssrc| {
        let parsed =
            Packet { marker: false, payload_type: 96, sequence_number: number, timestamp: 9, ssrc, payload: b"frame" };
        parsed.to_bytes()
    };
    let far_video = Port { stream: 1, ..FAR };
    let rtcp_of = |port: Port| Port { is_rtcp: true, ..port };
    let sealed = sealer.seal_rtp(&packet(1, 7)).unwrap();
    assert_eq!(call.pass(NEAR, BROWSER, &sealed), Some((FAR, BOB.to_owned(), packet(1, 7))));
    let sealed = sealer.seal_rtp(&picture(1, 70)).unwrap();
    assert_eq!(call.pass(NEAR, BROWSER, &sealed), Some((far_video, bobs_video.to_owned(), picture(1, 70))));
    // What is not authentic is neither's, and to the port of a stream that is elsewhere nothing comes.
    assert_eq!(call.pass(NEAR, BROWSER, &picture(2, 70)), None);
    let sealed = sealer.seal_rtp(&picture(3, 70)).unwrap();
    assert_eq!(call.pass(Port { stream: 1, ..NEAR }, BROWSER, &sealed), None);
    assert_eq!(call.pass(Port { stream: 1, ..NEAR }, BROWSER, &picture(3, 70)), None);

    // The other way all goes by the one port.
    let (port, to, sealed) = call.pass(FAR, BOB, &packet(3, 8)).unwrap();
    assert_eq!((port, to.as_str(), opener.open_rtp(&sealed).unwrap()), (NEAR, BROWSER, packet(3, 8)));
    let (port, to, sealed) = call.pass(far_video, bobs_video, &picture(5, 80)).unwrap();
    assert_eq!((port, to.as_str(), opener.open_rtp(&sealed).unwrap()), (NEAR, BROWSER, picture(5, 80)));

    // Reports are of the stream of whom they are from; a wish for a picture (RFC 4585 §6.3.1) is about bob's camera.
    let sealed = sealer.seal_rtcp(&report(70)).unwrap();
    assert_eq!(call.pass(NEAR, BROWSER, &sealed).unwrap().0, rtcp_of(far_video));
    let sealed = sealer.seal_rtcp(&report(7)).unwrap();
    assert_eq!(call.pass(NEAR, BROWSER, &sealed).unwrap().0, rtcp_of(FAR));
    let wish = [&[0x81, 206, 0, 2][..], &1_u32.to_be_bytes(), &80_u32.to_be_bytes()].concat();
    let sealed = sealer.seal_rtcp(&wish).unwrap();
    let (port, to, passed) = call.pass(NEAR, BROWSER, &sealed).unwrap();
    assert_eq!((port, to.as_str(), passed), (rtcp_of(far_video), "192.0.2.6:5011", wish));
}

#[test]
fn another_certificate_than_the_description_names_is_not_talked_to() {
    let (own, certificate, other) = (identity(), identity(), identity());
    let mut browser = dtls::Dtls::new(Instant::now(), &other, &handshake(&own, true), false);
    let mut call = with_browser(&certificate, own);
    browse(&mut call, BROWSER, &check::request(USER, PASSWORD, true));
    for _ in 0..10 {
        for datagram in browser.take_outgoing() {
            for back in browse(&mut call, BROWSER, &datagram) {
                browser.handle_input(call.now, &back);
            }
        }
    }
    assert_eq!(call.pass(FAR, BOB, &packet(3, 8)), None);
}

#[test]
fn what_a_handshake_lost_is_sent_again() {
    let (own, certificate) = (identity(), identity());
    let mut browser = dtls::Dtls::new(Instant::now(), &certificate, &handshake(&own, true), false);
    let mut call = with_browser(&certificate, own);
    browse(&mut call, BROWSER, &check::request(USER, PASSWORD, true));
    let hello = browser.take_outgoing();
    assert!(!browse(&mut call, BROWSER, &hello[0]).is_empty());
    let (at, reason) = call.relay.poll_timeout().unwrap();
    assert_eq!(reason, TimerReason::Stream);
    call.relay.handle_timeout(at);
    assert!(call.relay.poll_transmit().is_some());
}

/// A call between alice's phone, which makes keys by a handshake at the place that it describes, and bob's.
fn with_handshakes(certificate: &Identity, own: Identity, is_active: bool, is_muxed: bool) -> Call {
    let now = Instant::now();
    let mut call = Call { relay: Relay::identified(now, Some(Arc::new(own))), now };
    let dtls = DtlsTerms { is_muxed, ..handshake(certificate, is_active) };
    call.agree(End::Near, Terms { dtls: Some(dtls), ..terms(ALICE, None) });
    call.agree(End::Far, terms(BOB, None));
    call
}

/// Lets a phone and the node shake hands at one port; what the node says first is in `first`.
fn shake(call: &mut Call, port: Port, from: &str, phone: &mut dtls::Dtls, first: Vec<Vec<u8>>) {
    let mut back = first;
    for _ in 0..10 {
        for datagram in back.drain(..) {
            phone.handle_input(call.now, &datagram);
        }
        for datagram in phone.take_outgoing() {
            call.relay.handle_input(call.now, port, at(from), &datagram);
        }
        while let Some(transmit) = call.relay.poll_transmit() {
            assert_eq!((transmit.port, transmit.destination), (port, at(from)));
            back.push(transmit.datagram);
        }
    }
}

#[test]
fn a_phone_proves_itself_where_it_is_described_and_its_reports_have_a_handshake_of_their_own() {
    let (own, certificate) = (identity(), identity());
    let phone = |own: &Identity| dtls::Dtls::new(Instant::now(), &certificate, &handshake(own, true), false);
    let (mut rtp, mut rtcp) = (phone(&own), phone(&own));
    let mut call = with_handshakes(&certificate, own, false, false);
    let near_rtcp = Port { is_rtcp: true, ..NEAR };
    shake(&mut call, NEAR, ALICE, &mut rtp, Vec::new());
    shake(&mut call, near_rtcp, "192.0.2.5:4001", &mut rtcp, Vec::new());
    let (keys, others) = (rtp.keys().unwrap(), rtcp.keys().unwrap());
    let (mut sealer, mut opener) = (Sealer::new(&keys.ours), Opener::new(&keys.theirs));
    let sealed = sealer.seal_rtp(&packet(1, 7)).unwrap();
    assert_eq!(call.pass(NEAR, ALICE, &sealed), Some((FAR, BOB.to_owned(), packet(1, 7))));
    let (port, to, sealed) = call.pass(FAR, BOB, &packet(3, 8)).unwrap();
    assert_eq!((port, to.as_str(), opener.open_rtp(&sealed).unwrap()), (NEAR, ALICE, packet(3, 8)));
    let (mut sealer, mut opener) = (Sealer::new(&others.ours), Opener::new(&others.theirs));
    let far_rtcp = Port { is_rtcp: true, ..FAR };
    let sealed = sealer.seal_rtcp(&report(7)).unwrap();
    assert!(
        call.pass(near_rtcp, "192.0.2.5:4001", &sealed)
            .is_some_and(|(port, _, plain)| (port, plain) == (far_rtcp, report(7)))
    );
    let (port, _, sealed) = call.pass(far_rtcp, "192.0.2.6:5001", &report(8)).unwrap();
    assert_eq!((port, opener.open_rtcp(&sealed).unwrap()), (near_rtcp, report(8)));
    assert_eq!(call.pass(NEAR, ALICE, &packet(9, 7)), None, "nothing without keys");
}

#[test]
fn where_the_phone_waits_the_handshake_is_begun_at_its_described_address() {
    let (own, certificate) = (identity(), identity());
    let mut phone = dtls::Dtls::new(Instant::now(), &certificate, &handshake(&own, false), false);
    let mut call = with_handshakes(&certificate, own, true, true);
    call.relay.handle_timeout(call.now);
    let hello = call.relay.poll_transmit().unwrap();
    assert_eq!((hello.port, hello.destination), (NEAR, at(ALICE)));
    shake(&mut call, NEAR, ALICE, &mut phone, vec![hello.datagram]);
    let keys = phone.keys().unwrap();
    let sealed = Sealer::new(&keys.ours).seal_rtp(&packet(1, 7)).unwrap();
    assert_eq!(call.pass(NEAR, ALICE, &sealed), Some((FAR, BOB.to_owned(), packet(1, 7))));
    let (port, to, _) = call.pass(Port { is_rtcp: true, ..FAR }, "192.0.2.6:5001", &report(8)).unwrap();
    assert_eq!((port, to.as_str()), (NEAR, ALICE), "one port for both");
}

#[test]
fn greetings_of_strangers_are_not_answered_and_hinder_nobody() {
    let (own, certificate, other) = (identity(), identity(), identity());
    let mut stranger = dtls::Dtls::new(Instant::now(), &other, &handshake(&own, true), false);
    let mut phone = dtls::Dtls::new(Instant::now(), &certificate, &handshake(&own, true), false);
    let mut call = with_handshakes(&certificate, own, false, true);
    let hello = stranger.take_outgoing();
    for from in [MALLORY, "192.0.2.5:4444", BOB] {
        for _ in 0..100 {
            assert_eq!(call.pass(NEAR, from, &hello[0]), None, "{from}");
        }
    }
    // In the phone's name: it costs a cookie, and the phone is not kept out.
    let (_, to, cookie) = call.pass(NEAR, ALICE, &hello[0]).unwrap();
    assert!(to == ALICE && cookie.len() <= hello[0].len(), "{}", cookie.len());
    shake(&mut call, NEAR, ALICE, &mut phone, Vec::new());
    assert!(phone.keys().is_some());
}

#[test]
fn a_phone_with_another_certificate_than_described_is_neither_heard_nor_spoken_to() {
    let (own, certificate, other) = (identity(), identity(), identity());
    let mut phone = dtls::Dtls::new(Instant::now(), &other, &handshake(&own, true), false);
    let mut call = with_handshakes(&certificate, own, false, true);
    shake(&mut call, NEAR, ALICE, &mut phone, Vec::new());
    assert_eq!(call.pass(FAR, BOB, &packet(3, 8)), None);
    assert_eq!(call.pass(NEAR, ALICE, &packet(3, 7)), None);
}

#[test]
fn where_sound_is_converted_each_end_is_told_how_its_own_arrives() {
    let mut call = Call::plain();
    let speech = |codec, payload_type| Speech { codec, payload_type, events: None };
    let opus = Format { payload_type: 96, clock_rate: 48_000, codec: Some(crate::codec::Codec::Opus) };
    let pcmu = Format { payload_type: 0, clock_rate: 8000, codec: Some(crate::codec::Codec::Pcmu) };
    call.agree(End::Near, Terms { formats: vec![pcmu], ..terms(ALICE, None) });
    call.agree(End::Far, Terms { formats: vec![opus], ..terms(BOB, None) });
    let mut numbers = || Start { ssrc: 500, sequence_number: 1, timestamp: 1 };
    let speeches = [speech(crate::codec::Codec::Pcmu, 0), speech(crate::codec::Codec::Opus, 96)];
    call.relay.handle_conversions(vec![Some(speeches)], &mut numbers);
    // Ten seconds of alice's, of which every tenth packet is lost.
    let begin = call.now;
    let mut reported = Vec::new();
    for number in 0..520_u16 {
        call.now = begin + 20 * MS * u32::from(number);
        let timestamp = u32::from(number) * 160;
        let sound = Packet {
            marker: false,
            payload_type: 0,
            sequence_number: number,
            timestamp,
            ssrc: 7,
            payload: &[0xff; 160],
        };
        if number % 10 != 3 {
            call.relay.handle_input(call.now, NEAR, at(ALICE), &sound.to_bytes());
        }
        while call.relay.poll_timeout().is_some_and(|(at, _)| at <= call.now) {
            call.relay.handle_timeout(call.now);
        }
        while let Some(transmit) = call.relay.poll_transmit() {
            if transmit.port.is_rtcp {
                reported.push((transmit.port.end, transmit.destination, rtcp::reports(&transmit.datagram).unwrap()));
            }
        }
    }
    let to = |end: End| reported.iter().filter(move |(of, _, _)| *of == end);
    assert_eq!((to(End::Near).count(), to(End::Far).count()), (2, 2));
    let (_, place, reports) = to(End::Near).next_back().unwrap();
    assert_eq!(place.to_string(), "192.0.2.5:4001");
    let [rtcp::Report::Receiver(block), rtcp::Report::Voip(metrics)] = reports[..] else { panic!("{reports:?}") };
    assert!((24..=27).contains(&block.fraction_lost) && block.ssrc == 7, "{block:?}");
    assert!((24..=27).contains(&metrics.loss_rate) && metrics.ssrc == 7, "{metrics:?}");
    assert!(metrics.mean_opinion.is_some_and(|score| (20..=38).contains(&score)), "{metrics:?}");
    // Bob has sent nothing: he hears of what he was sent.
    let (_, _, reports) = to(End::Far).next_back().unwrap();
    assert!(matches!(reports[..], [rtcp::Report::Sender { .. }]), "{reports:?}");
}
