//! Whom our own agent tells a password, and how often it is asked (RFC 3261 §22, RFC 7616; threat 15).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent_support;

use agent_support::*;
use meshtone_sip::agent::{AgentEvent, Body, Credentials, OutgoingCall, OutgoingRequest, Secret};
use meshtone_sip::digest::{Algorithm, Authenticator, DigestConfig, Verdict, ha1};
use meshtone_sip::message::{Header, Message};
use meshtone_sip::transport::Destination;

fn account() -> Credentials {
    Credentials {
        realm: Some("example.net".into()),
        host: "example.net".into(),
        username: "service".into(),
        secret: Secret::Password("secret".into()),
    }
}

/// A call to bob on this account.
fn ordered(bob: &Phone, account: Credentials) -> OutgoingCall {
    let mut order = order(bob);
    order.credentials = Some(account);
    order
}

fn challenge(realm: &str, nonce: &str, stale: bool) -> String {
    format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", qop=\"auth\", algorithm=SHA-256, stale={stale}")
}

#[test]
fn a_challenge_of_the_own_realm_is_answered_once_and_stale_again() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let order = ordered(&bob, account());
    act(&mut net, |server, now| server.place_call(now, order));
    let first = net.one(&bob);
    let ask = challenge("example.net", "one", false);
    net.answer(&bob, &first, 407, "x", &[(Header::ProxyAuthenticate, &ask)]);
    let both = net.received(&bob);
    assert_eq!(names(&both), "ACK INVITE");
    let second = &both[1];
    assert_eq!((second.cseq().unwrap().number, second.call_id()), (2, first.call_id()));
    assert_eq!(second.from().unwrap().tag(), first.from().unwrap().tag());
    assert!(second.header(Header::ProxyAuthorization).unwrap().contains("nonce=\"one\""));
    let ask = challenge("example.net", "two", true);
    net.answer(&bob, second, 407, "x", &[(Header::ProxyAuthenticate, &ask)]);
    let third = net.received(&bob).pop().unwrap();
    assert!(third.header(Header::ProxyAuthorization).unwrap().contains("nonce=\"two\""));
    assert_eq!(third.fields(Header::ProxyAuthorization).count(), 1);
    let ask = challenge("example.net", "three", false);
    net.answer(&bob, &third, 407, "x", &[(Header::ProxyAuthenticate, &ask)]);
    assert_eq!(net.heard(&bob), "ACK", "a wrong password is not tried again");
    assert!(matches!(told(&mut net), AgentEvent::Failed { status: 407, .. }));
}

/// Threat 15.
#[test]
fn a_foreign_realm_or_host_gets_no_credentials() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    for (realm, host) in [("evil.example", "example.net"), ("example.net", "other.example")] {
        let order = ordered(&bob, Credentials { host: host.into(), ..account() });
        act(&mut net, |server, now| server.place_call(now, order));
        let invite = net.one(&bob);
        let ask = challenge(realm, "n", false);
        net.answer(&bob, &invite, 401, "x", &[(Header::WwwAuthenticate, &ask)]);
        assert_eq!(net.heard(&bob), "ACK", "{realm} {host}");
        assert!(matches!(told(&mut net), AgentEvent::Failed { status: 401, .. }));
    }
}

/// Threat 15.
#[test]
fn a_callee_that_challenges_bye_out_of_the_blue_gets_no_credentials() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let order = ordered(&bob, account());
    let (call, _) = talking(&mut net, &bob, order, &[]);
    act(&mut net, |server, now| server.hang_up(now, call));
    let bye = net.one(&bob);
    let ask = challenge("example.net", "n", false);
    net.answer(&bob, &bye, 407, "", &[(Header::ProxyAuthenticate, &ask)]);
    assert_eq!(net.heard(&bob), "");
}

#[test]
fn a_request_within_a_challenged_call_is_authenticated_too() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let order = ordered(&bob, account());
    let call = act(&mut net, |server, now| server.place_call(now, order));
    let first = net.one(&bob);
    let ask = challenge("example.net", "one", false);
    net.answer(&bob, &first, 401, "x", &[(Header::WwwAuthenticate, &ask)]);
    let second = net.received(&bob).pop().unwrap();
    answer_with(&mut net, &bob, &second, 200, "bob-tag", &[], ANSWER);
    let ack = net.one(&bob);
    assert_eq!(ack.header(Header::Authorization), second.header(Header::Authorization), "the ACK repeats them");
    act(&mut net, |server, now| server.hang_up(now, call));
    let bye = net.one(&bob);
    let credentials = bye.header(Header::Authorization).unwrap();
    assert!(credentials.contains("nonce=\"one\"") && credentials.contains("nc=00000002"), "{credentials}");
    let ask = challenge("example.net", "two", false);
    net.answer(&bob, &bye, 401, "", &[(Header::WwwAuthenticate, &ask)]);
    let bye = net.one(&bob);
    assert!(bye.header(Header::Authorization).unwrap().contains("uri=\"sip:bob@10.0.2.2:5060\""));
}

#[test]
fn a_registration_passes_a_real_authenticator_with_password_or_hash() {
    let secrets = [
        Secret::Password("secret".into()),
        Secret::Ha1(vec![(Algorithm::Sha256, ha1(Algorithm::Sha256, "service", "asterisk", "secret"))]),
    ];
    for secret in secrets {
        let mut net = Net::new(1);
        let bob = net.udp(0, BOB);
        let authenticator = Authenticator::new([7; 32], DigestConfig::default());
        let destination = Destination::Flow(bob.flow.clone());
        let account = "<sip:service@example.net>";
        let mut request = OutgoingRequest::new("REGISTER", "sip:example.net", destination, account, account);
        request.headers = vec![(Header::Contact, format!("<{CONTACT}>")), (Header::Expires, "3600".into())];
        request.credentials = Some(Credentials { realm: None, secret, ..self::account() });
        let id = act(&mut net, |server, now| server.send_request(now, request));
        let first = net.one(&bob);
        let asks = authenticator.challenge(0, "asterisk", &[Algorithm::Sha256], false);
        net.answer(&bob, &first, 401, "x", &[(Header::WwwAuthenticate, &asks[0])]);
        let second = net.one(&bob);
        let verdict = authenticator.verify(
            0,
            second.fields(Header::Authorization),
            "asterisk",
            "REGISTER",
            second.body(),
            |_, algorithm| Some(ha1(algorithm, "service", "asterisk", "secret")),
            &[Algorithm::Sha256],
        );
        assert!(matches!(verdict, Verdict::Accepted { .. }));
        net.answer(&bob, &second, 200, "x", &[]);
        let AgentEvent::Response { id: of, status, realm, .. } = told(&mut net) else { panic!("no response") };
        assert_eq!((of, status, realm.as_deref()), (id, 200, Some("asterisk")));
        assert_eq!(net.nodes[0].server.agent_load(), 0);
    }
}

/// A request of the account's own, outside of dialogs.
fn request(bob: &Phone, method: &str, uri: &str, body: &[u8]) -> OutgoingRequest {
    let destination = Destination::Flow(bob.flow.clone());
    let address = "<sip:service@example.net>";
    let mut request = OutgoingRequest::new(method, uri, destination, address, address);
    request.credentials = Some(account());
    request.body = (!body.is_empty()).then(|| Body::new("text/plain", body));
    request
}

fn send(net: &mut Net, bob: &Phone, request: OutgoingRequest) -> Message {
    act(net, |server, now| server.send_request(now, request));
    net.one(bob)
}

/// What a real server thinks of the credentials of a request.
fn verdict(authenticator: &Authenticator, request: &Message) -> Verdict {
    authenticator.verify(
        0,
        request.fields(Header::Authorization),
        "example.net",
        request.method_name(),
        request.body(),
        |_, algorithm| Some(ha1(algorithm, "service", "example.net", "secret")),
        &[Algorithm::Sha256],
    )
}

#[test]
fn a_nonce_is_answered_again_with_the_next_count_until_it_is_stale() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let [old, new] = [[7; 32], [8; 32]].map(|secret| Authenticator::new(secret, DigestConfig::default()));
    let first = send(&mut net, &bob, request(&bob, "REGISTER", "sip:example.net", b""));
    assert_eq!(first.header(Header::Authorization), None);
    let asks = old.challenge(0, "example.net", &[Algorithm::Sha256], false);
    net.answer(&bob, &first, 401, "x", &[(Header::WwwAuthenticate, &asks[0])]);
    let second = net.one(&bob);
    assert!(matches!(verdict(&old, &second), Verdict::Accepted { .. }));
    net.answer(&bob, &second, 200, "x", &[]);
    for method in ["REGISTER", "MESSAGE"] {
        let further = send(&mut net, &bob, request(&bob, method, "sip:example.net", b""));
        assert!(matches!(verdict(&old, &further), Verdict::Accepted { .. }), "{method} needs no challenge");
        net.answer(&bob, &further, 200, "x", &[]);
    }
    // The server has restarted.
    let further = send(&mut net, &bob, request(&bob, "REGISTER", "sip:example.net", b""));
    assert_eq!(verdict(&new, &further), Verdict::Stale);
    for stale in [true, false] {
        let further = send(&mut net, &bob, request(&bob, "REGISTER", "sip:example.net", b""));
        let asks = new.challenge(0, "example.net", &[Algorithm::Sha256], stale);
        net.answer(&bob, &further, 401, "x", &[(Header::WwwAuthenticate, &asks[0])]);
        let again = net.one(&bob);
        assert!(matches!(verdict(&new, &again), Verdict::Accepted { .. }), "asked once, whether it says stale or not");
        net.answer(&bob, &again, 200, "x", &[]);
    }
}

#[test]
fn requests_that_cross_never_share_a_count() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let server = Authenticator::new([7; 32], DigestConfig::default());
    let first = send(&mut net, &bob, request(&bob, "MESSAGE", "sip:example.net", b"1"));
    let asks = server.challenge(0, "example.net", &[Algorithm::Sha256], false);
    net.answer(&bob, &first, 401, "x", &[(Header::WwwAuthenticate, &asks[0])]);
    let mut all = vec![net.one(&bob)];
    all.extend((0..3).map(|_| send(&mut net, &bob, request(&bob, "MESSAGE", "sip:example.net", b"2"))));
    for message in all {
        assert!(matches!(verdict(&server, &message), Verdict::Accepted { .. }));
    }
}

#[test]
fn the_nonce_that_a_response_gives_for_the_next_request_is_used_there() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let first = send(&mut net, &bob, request(&bob, "MESSAGE", "sip:example.net", b""));
    let ask = challenge("example.net", "one", false);
    net.answer(&bob, &first, 401, "x", &[(Header::WwwAuthenticate, &ask)]);
    let second = net.one(&bob);
    let info = "nextnonce=\"two\", qop=auth, nc=00000001, cnonce=\"c\", rspauth=\"0\"";
    net.answer(&bob, &second, 200, "x", &[(Header::AuthenticationInfo, info)]);
    let third = send(&mut net, &bob, request(&bob, "MESSAGE", "sip:example.net", b""));
    let credentials = third.header(Header::Authorization).unwrap();
    assert!(credentials.contains("nonce=\"two\"") && credentials.contains("nc=00000001"), "{credentials}");
}

/// Threat 15.
#[test]
fn a_known_nonce_is_answered_to_the_host_of_the_account_only() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let first = send(&mut net, &bob, request(&bob, "MESSAGE", "sip:example.net", b""));
    let ask = challenge("example.net", "one", false);
    net.answer(&bob, &first, 401, "x", &[(Header::WwwAuthenticate, &ask)]);
    let second = net.one(&bob);
    net.answer(&bob, &second, 200, "x", &[]);
    let elsewhere = send(&mut net, &bob, request(&bob, "MESSAGE", "sip:eve@evil.example", b""));
    assert_eq!(elsewhere.header(Header::Authorization), None);
    let mut other = request(&bob, "MESSAGE", "sip:example.net", b"");
    other.credentials = Some(Credentials { username: "other".into(), ..account() });
    assert_eq!(send(&mut net, &bob, other).header(Header::Authorization), None);
}

#[test]
fn a_server_that_wants_the_body_covered_gets_it_covered() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let server = Authenticator::new([7; 32], DigestConfig::default());
    let first = send(&mut net, &bob, request(&bob, "MESSAGE", "sip:example.net", b"pay 1 euro"));
    let asks =
        server.challenge(0, "example.net", &[Algorithm::Sha256], false)[0].replace("qop=\"auth\"", "qop=\"auth-int\"");
    net.answer(&bob, &first, 401, "x", &[(Header::WwwAuthenticate, &asks)]);
    let second = net.one(&bob);
    let changed = second.edit().body("text/plain", b"pay 9 euro").finish();
    assert_eq!(verdict(&server, &changed), Verdict::Refused);
    assert!(matches!(verdict(&server, &second), Verdict::Accepted { .. }));
}
