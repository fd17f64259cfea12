//! An address proved from another node: real links, a real mail server, and mailboxes that the test reads.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use ciborium::Value;
use meshtone_identity::{Authority, NodeId, SigningKey, UserRequest};
use meshtone_node::authority::{AskError, Asked, Client, MailSettings, Password, Policy, Refusal, Security, Settings};
use meshtone_overlay::Overlay;
use meshtone_overlay::record::{Kind, SipRegistration};
use meshtone_overlay::{IncomingStream, Protocol};
use meshtone_tests::mail::{MAIL_DOMAIN, MailServer, SUBMITTER, SUBMITTER_PASSWORD, code_in};
use support::{DOMAIN, Founder, Guest, PATIENCE, now_s};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};

const ALICE: &str = "alice@mail.test";
const BOB: &str = "bob@mail.test";

/// Asks the founder's authority over the guest's links.
fn client(guest: &Guest) -> Client {
    Client::new(guest.overlay.clone(), DOMAIN, guest.membership.authority_certificate.clone(), None)
}

/// Mails leave by this server, over STARTTLS with a password.
fn by(server: &MailServer) -> Settings {
    let mail = MailSettings {
        host: "localhost".to_owned(),
        port: server.port(),
        security: Security::StartTls,
        account: Some((SUBMITTER.to_owned(), Password(SUBMITTER_PASSWORD.to_owned()))),
        from: format!("Meshtone <meshtone@{MAIL_DOMAIN}>"),
        authorities: Some(std::fs::read(server.authority()).unwrap()),
    };
    Settings { policy: Policy::Invite, mail: Some(mail), ..Settings::default() }
}

/// Asks for a code, from when on the overlay knows where the authority is.
async fn ask(client: &Client, key: &SigningKey, address: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        match client.ask_for_code(key, address).await {
            Ok(asked) => return assert_eq!(asked, Asked::Mailed),
            Err(AskError::NoAuthority { .. } | AskError::Overlay { .. }) if Instant::now() < end => {
                sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn mail(server: &MailServer, user: &str, count: usize) -> String {
    block_in_place(|| server.wait_mail(user, count))
}

const WRONG: AskError = AskError::Refused(Refusal::WrongCode);

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_a_mailbox_is_certified_over_the_overlay_and_nobody_else_is() {
    let server = block_in_place(MailServer::start);
    let mut founder = Founder::start(by(&server)).await;
    let guest = founder.guest().await;
    let client = client(&guest);
    let (alice, mallory) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());

    ask(&client, &alice, "Alice@Mail.Test").await;
    let letter = mail(&server, "alice", 1);
    let code = code_in(&letter);
    for part in ["Auto-Submitted: auto-generated", "Subject: Your code for mesh.test", "To: alice@mail.test"] {
        assert!(letter.contains(part), "{part} is missing in {letter}");
    }
    assert!(!letter.contains("https://"), "she asked at another node than the one whose page that would be: {letter}");
    assert!(letter.contains("with esmtpsa"), "it came protected, from who knew the password: {letter}");

    let prove = async |key: &SigningKey, address: &str, code: &str| {
        client.prove(key, address, code, now_s()).await.map(|certificate| certificate.der().to_vec())
    };
    assert_eq!(prove(&alice, ALICE, "AAAA-AAAA").await, Err(WRONG), "a guess");
    assert_eq!(prove(&alice, BOB, &code).await, Err(WRONG), "a mailbox that she did not read");
    assert_eq!(prove(&mallory, ALICE, &code).await, Err(WRONG), "a key that did not ask");
    let certificate = client.prove(&alice, ALICE, &code.to_lowercase(), now_s()).await.unwrap();
    assert_eq!(certificate.address(), ALICE);
    assert_eq!(prove(&alice, ALICE, &code).await, Ok(certificate.der().to_vec()), "the answer may have been lost");
    assert_eq!(prove(&mallory, ALICE, &code).await, Err(WRONG), "a code that was used");

    // A code for Bob, asked for by who does not read his mail, is of use to nobody.
    ask(&client, &mallory, BOB).await;
    mail(&server, "bob", 1);
    assert_eq!(prove(&mallory, BOB, &code).await, Err(WRONG));
    guest.overlay.shutdown().await;
    founder.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_waits_for_its_server_and_for_nobody_whose_mailbox_is_missing() {
    let mut server = block_in_place(MailServer::start);
    let mut founder = Founder::start(by(&server)).await;
    let guest = founder.guest().await;
    let (client, key) = (client(&guest), SigningKey::generate().unwrap());
    // So that the authority is known and its mails leave.
    ask(&client, &key, BOB).await;
    mail(&server, "bob", 1);

    block_in_place(|| server.stop());
    ask(&client, &key, "nobody@mail.test").await;
    ask(&client, &key, ALICE).await;
    block_in_place(|| server.run());
    let code = code_in(&mail(&server, "alice", 1));
    client.prove(&key, ALICE, &code, now_s()).await.unwrap();
    assert_eq!(server.mails("alice").len(), 1, "no mail is sent twice");
    guest.overlay.shutdown().await;
    founder.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_without_mail_says_so_and_reads_what_is_no_request_without_harm() {
    let mut founder = Founder::start(Settings::default()).await;
    let guest = founder.guest().await;
    let key = SigningKey::generate().unwrap();
    let ask = |overlay: Overlay, request: Vec<u8>, to: NodeId| async move {
        let (mut send, mut recv) = overlay.open_stream(to, Protocol::Authority).await.unwrap();
        // What is too long may be refused before all of it was written.
        let _ = send.write_all(&request).await;
        let _ = send.shutdown().await;
        let mut answer = Vec::new();
        timeout(PATIENCE, recv.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer: Value = ciborium::from_reader(answer.as_slice()).unwrap();
        let parts = answer.as_array().unwrap().clone();
        let number = |place: usize| u64::try_from(parts[place].as_integer().unwrap()).unwrap();
        (number(0), number(1), number(2))
    };
    let request = |certification: Vec<u8>| {
        let mut bytes = Vec::new();
        ciborium::into_writer(&(1, 1, Value::Bytes(certification)), &mut bytes).unwrap();
        bytes
    };
    let real = request(UserRequest::encode(&key, ALICE).unwrap());
    assert_eq!(ask(guest.overlay.clone(), real, founder.id()).await, (1, 2, 1), "no mail");
    for garbage in [Vec::new(), vec![0xff; 100], vec![0x9f; 8000], vec![0; 9000]] {
        assert_eq!(ask(guest.overlay.clone(), garbage, founder.id()).await, (1, 2, 5), "unreadable");
    }
    let client = client(&guest);
    assert!(matches!(client.ask_for_code(&key, ALICE).await, Err(AskError::NoAuthority { .. })));
    assert!(matches!(client.ask_for_code(&key, "no address").await, Err(AskError::Request(_))));
    guest.overlay.shutdown().await;
    founder.node.shutdown().await;
}

/// A home node of the founder's domain may say that it has the authority; what it issues is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_somebody_else_is_not_believed() {
    let mut founder = Founder::start(Settings::default()).await;
    let (liar, guest) = (founder.guest().await, founder.guest().await);
    let (forger, _) = Authority::create(now_s()).unwrap();
    let mut streams = liar.overlay.accept_streams(Protocol::Authority);
    let lying = tokio::spawn(async move {
        while let Some(IncomingStream { mut send, mut recv, .. }) = streams.recv().await {
            let mut request = Vec::new();
            recv.read_to_end(&mut request).await.unwrap();
            let request: Value = ciborium::from_reader(request.as_slice()).unwrap();
            let parts = request.as_array().unwrap();
            let request = UserRequest::parse(parts[2].as_bytes().unwrap()).unwrap();
            let lifetime = Duration::from_secs(86_400);
            let certificate = forger.issue_user(ALICE, request.public_key(), now_s(), lifetime).unwrap();
            let answer = (1, 1, Value::Bytes(certificate.der().to_vec()));
            let mut bytes = Vec::new();
            ciborium::into_writer(&answer, &mut bytes).unwrap();
            send.write_all(&bytes).await.unwrap();
            send.shutdown().await.unwrap();
        }
    });
    let says: Bytes = SipRegistration { contacts: 1, max_q: 1000, updated_ms: now_s() * 1000 }.encode();
    let name = format!("authority@{DOMAIN}");
    liar.overlay.publish(Kind::SipRegistration, &name, says, Duration::from_secs(600)).await.unwrap();
    let key = SigningKey::generate().unwrap();
    // Where the liar is has to get around first.
    let end = Instant::now() + PATIENCE;
    let outcome = loop {
        match client(&guest).prove(&key, ALICE, "ABCD-EFGH", now_s()).await {
            Err(AskError::Unreachable { .. }) if Instant::now() < end => {
                sleep(Duration::from_millis(50)).await;
            }
            outcome => break outcome,
        }
    };
    assert!(matches!(outcome, Err(AskError::WrongCertificate { .. })), "{outcome:?}");
    let asked = client(&guest).ask_for_code(&key, ALICE).await;
    assert!(matches!(asked, Err(AskError::Misbehaved { .. })), "{asked:?}");
    lying.abort();
    for guest in [liar, guest] {
        guest.overlay.shutdown().await;
    }
    founder.node.shutdown().await;
}
