//! Callers from another SIP domain, which signs who they are (RFC 8224): a web server with its certificate, and requests written by hand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meshtone_identity::passport::{Attestation, Claims, Kind, Party};
use meshtone_identity::{ForeignAuthority, SigningKey};
use meshtone_node::Node;
use meshtone_node::policy::{Inbound, Outside};
use meshtone_tests::ScriptedPhone;
use meshtone_tests::name_server::NameServer;
use meshtone_tests::scripted::{SDP, Sent};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use support::{PATIENCE, config, now_s};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

const ALICE: &str = "sip:alice@other.test";
const BOB: &str = "sip:bob@mesh.test";
const HOST: &str = "www.other.test";
/// A certificate that cannot be had keeps a phone from ringing for three seconds at most.
const RINGS_WITHIN: Duration = Duration::from_secs(8);

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for a host or domain, and its key.
fn certified(issuer: &Issuer, name: &str) -> (rcgen::Certificate, KeyPair) {
    let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
    (params.signed_by(&key, issuer).unwrap(), key)
}

/// Serves files of this text over TLS, whatever is asked for but `/none`.
async fn web_server(issuer: &Issuer, pem: String) -> SocketAddr {
    let (certificate, key) = certified(issuer, HOST);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut asked = vec![0; 4096];
            let count = stream.read(&mut asked).await.unwrap_or_default();
            let is_there = !String::from_utf8_lossy(&asked[..count]).starts_with("GET /none");
            let (status, body) = if is_there { ("200 OK", pem.as_str()) } else { ("404 Not Found", "") };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

/// Waits until the name server answers anything: what could not be found is remembered for a minute.
async fn wait_answers(names: &NameServer) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // One question: www.other.test, A, IN (RFC 1035 §4.1).
    let question = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x05other\x04test\x00\x00\x01\x00\x01";
    timeout(PATIENCE, async {
        loop {
            let _ = socket.send_to(question, names.address()).await;
            let mut answer = [0; 512];
            if let Ok(Ok(_)) = timeout(Duration::from_millis(100), socket.recv_from(&mut answer)).await {
                return;
            }
        }
    })
    .await
    .expect("the name server answers");
}

/// What the other domain signs with, and where its certificate is.
struct Other {
    key: SigningKey,
    web: SocketAddr,
}

impl Other {
    fn place(&self) -> String {
        format!("https://{HOST}:{}/certificate.pem", self.web.port())
    }

    /// The Identity field that says so of a call to Bob.
    fn signs(&self, kind: Kind, orig: &str, iat: u64, place: &str) -> String {
        let (orig, dest) = (Party::Uri(orig.to_owned()), vec![Party::Uri(BOB.to_owned())]);
        let claims = Claims { kind, orig, dest, iat, media_keys: Vec::new() };
        let ppt = claims.kind.ppt().map(|ppt| format!(";ppt={ppt}")).unwrap_or_default();
        format!("{};info=<{place}>;alg=ES256{ppt}", claims.sign(place, &self.key).unwrap())
    }
}

/// A node that lets anybody in, and believes whom `listed` certifies of callers from other.test.
async fn node(folder: &Path, web_authority: PathBuf, listed: &Issuer, names: &NameServer) -> Node {
    let link = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = config(folder, link, Default::default());
    config.tls_authorities = Some(web_authority);
    config.dangerous_open_registration = true;
    config.outside = Outside {
        dns: vec![names.address()],
        inbound: Inbound::Any,
        allow_private_destinations: true,
        callers: vec![ForeignAuthority::new(vec![listed.der().to_vec()], &["other.test".to_owned()]).unwrap()],
        ..Outside::default()
    };
    Node::start(config).await.unwrap()
}

/// A stranger calls with this field.
fn invite(stranger: &mut ScriptedPhone, to: &str, identity: Option<&str>) -> Sent {
    let invite = stranger.request("INVITE", to).with_from(&format!("<{ALICE}>")).with_body("application/sdp", SDP);
    let invite = match identity {
        Some(identity) => invite.with("Identity", identity),
        None => invite,
    };
    stranger.send(&invite)
}

/// Whom Bob's phone is shown as verified.
fn shown(stranger: &mut ScriptedPhone, bob: &mut ScriptedPhone, identity: Option<&str>) -> Option<String> {
    let sent = invite(stranger, BOB, identity);
    let ringing = bob.incoming_within("INVITE", RINGS_WITHIN).expect("his phone rings");
    bob.reply(&ringing, 486, "Busy Here", "");
    bob.incoming("ACK");
    assert_eq!(stranger.final_answer(&sent).status(), 486);
    ringing.header("P-Asserted-Identity").map(str::to_owned)
}

/// What the stranger hears at once: a phone that rang would leave him without an answer.
fn refused(stranger: &mut ScriptedPhone, to: &str, identity: &str) -> u16 {
    let sent = invite(stranger, to, Some(identity));
    stranger.final_answer(&sent).status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_from_another_domain_is_shown_as_verified_where_that_domain_signs_it() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = TempDir::new().unwrap();
    let (web, listed, unlisted) = (authority("web"), authority("callers"), authority("nobody's"));
    let (certificate, key) = certified(&listed, "other.test");
    let address = web_server(&web, certificate.pem()).await;
    let strangers_place = web_server(&web, certified(&unlisted, "other.test").0.pem()).await;
    let other = Other { key: SigningKey::from_pkcs8(&key.serialize_der()).unwrap(), web: address };
    let web_authority = folder.path().join("web.pem");
    std::fs::write(&web_authority, web.pem()).unwrap();
    let hosts = [(HOST, address.ip()), ("victim.test", address.ip())];
    let names = NameServer::with_texts("none.test", &[], &hosts);
    wait_answers(&names).await;
    let data = TempDir::new().unwrap();
    let node = node(data.path(), web_authority, &listed, &names).await;
    let sip = node.summary().sip[0];
    tokio::task::spawn_blocking(move || {
        let mut bob = ScriptedPhone::udp(sip).of("bob", "");
        bob.register();
        let mut stranger = ScriptedPhone::udp(sip).of("alice", "").at_domain("other.test");
        let place = other.place();
        let asserted = Some(format!("<{ALICE}>"));
        let origin = |attestation| Kind::Shaken { attestation, origin: "00000000-0000-4000-8000-000000000000".into() };

        let good = other.signs(Kind::Plain, ALICE, now_s(), &place);
        assert_eq!(shown(&mut stranger, &mut bob, Some(&good)), asserted);
        let shaken = other.signs(origin(Attestation::A), ALICE, now_s(), &place);
        assert_eq!(shown(&mut stranger, &mut bob, Some(&shaken)), asserted);
        // Nothing is signed, or nothing that says who calls, or nothing that can be verified: a stranger's phone rings as ever.
        assert_eq!(shown(&mut stranger, &mut bob, None), None);
        let unknown = other.signs(origin(Attestation::C), ALICE, now_s(), &place);
        assert_eq!(shown(&mut stranger, &mut bob, Some(&unknown)), None);
        for place in [
            format!("https://{HOST}:{}/none", other.web.port()),
            format!("https://{HOST}:{}/certificate.pem", strangers_place.port()),
            format!("https://victim.test:{}/certificate.pem", other.web.port()),
            format!("http://{HOST}:{}/certificate.pem", other.web.port()),
            format!("https://{HOST}:9/certificate.pem"),
        ] {
            let unverified = other.signs(Kind::Plain, ALICE, now_s(), &place);
            assert_eq!(shown(&mut stranger, &mut bob, Some(&unverified)), None, "{place}");
        }
        // What is wrong is refused: copied, forged, old, of another caller.
        assert_eq!(refused(&mut stranger, BOB, &good), 403);
        let forger = Other { key: SigningKey::generate().unwrap(), web: other.web };
        let forged = forger.signs(Kind::Plain, ALICE, now_s(), &place);
        assert_eq!(refused(&mut stranger, BOB, &forged), 438);
        let stale = other.signs(Kind::Plain, ALICE, now_s() - 300, &place);
        assert_eq!(refused(&mut stranger, BOB, &stale), 403);
        let elsewhere = other.signs(Kind::Plain, ALICE, now_s(), &place);
        assert_eq!(refused(&mut stranger, "sip:dora@mesh.test", &elsewhere), 438);
        let others = other.signs(Kind::Plain, "sip:carol@other.test", now_s(), &place);
        assert_eq!(refused(&mut stranger, BOB, &others), 438);
    })
    .await
    .unwrap();
    node.shutdown().await;
}
